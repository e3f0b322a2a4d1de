//! What is known of an account's quota windows. An unknown window is not an empty one.

use crate::limits::{self, Scope};
use crate::pool::limit::{Limit, model_key};
use crate::pool::model::{Now, Quota, Wall, glob};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MOST_WINDOWS: usize = 64;
/// A smaller change of utilization is not reported.
const NOTICED: f64 = 0.001;
/// Two times this close are the same reset: upstreams state them with jitter.
const SLACK: Duration = Duration::from_secs(60);

/// Fraction of a window's length. Before so much has passed, its pace says nothing.
const LEAST_PASSED: f64 = 0.02;

/// One window of a quota.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The provider's name for it, such as `5h` or `7d`.
    pub name: String,
    /// The used fraction, from 0 to 1.
    pub utilization: f64,
    /// When it resets.
    pub resets_at: Option<Wall>,
    /// When this was read.
    pub as_of: Wall,
    /// The quota key it belongs to, optionally followed by a colon and a pattern of models; empty for the whole account.
    pub key: String,
}

/// Everything known about an account's windows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Usage {
    /// One entry for each window and key.
    pub windows: Vec<Window>,
    /// The same for rate windows of a minute or less: shown to people, ignored by selection.
    pub rates: Vec<Window>,
}

impl From<Vec<Window>> for Usage {
    fn from(windows: Vec<Window>) -> Self {
        Self { windows, rates: Vec::new() }
    }
}

impl Window {
    /// A window from an upstream's answer to a request of `quota`, if the answer states how much is used.
    #[must_use]
    pub fn read(window: &limits::Window, quota: Quota<'_>, now: Wall) -> Option<Self> {
        let spent = window.spent.then_some(1.0);
        let key = match (window.scope, quota.limited_as()) {
            (Scope::Model, Some(model)) => model_key(quota.key, model),
            (Scope::Model | Scope::Pool, _) => quota.key.to_owned(),
            (Scope::Account | Scope::Request | Scope::Service, _) => String::new(),
        };
        Some(Self {
            name: window.name.clone(),
            utilization: window.utilization.or(spent)?,
            resets_at: window.resets_at.map(Wall),
            as_of: now,
            key,
        })
    }

    /// Keeps the known reset time if the new one differs only by jitter.
    fn keep_reset_of(&mut self, known: &Self) {
        if let (Some(known), Some(stated)) = (known.resets_at, self.resets_at)
            && known.since(stated).max(stated.since(known)) < SLACK
        {
            self.resets_at = Some(known);
        }
    }

    /// How fast a window of this length is used, as of its reading: 1 uses it up exactly at its reset, 2 in half the time.
    /// `None` when its reset is not known, or it has only just begun.
    pub fn pace(&self, length: Duration) -> Option<f64> {
        let left = self.resets_at?.since(self.as_of).as_secs_f64();
        let passed = 1.0 - left / length.as_secs_f64();
        (LEAST_PASSED..=1.0).contains(&passed).then(|| self.utilization / passed)
    }

    /// Whether `newer` differs enough to be reported.
    fn is_news(&self, newer: &Self) -> bool {
        let moved = |a: Wall, b: Wall| a.since(b).max(b.since(a)) > SLACK;
        let reset = match (self.resets_at, newer.resets_at) {
            (Some(known), Some(newer)) => moved(known, newer),
            (known, newer) => known != newer,
        };
        reset || (self.utilization - newer.utilization).abs() >= NOTICED
    }
}

impl Usage {
    /// The windows in an upstream's answer to a request of `quota`.
    #[must_use]
    pub fn read(windows: &[limits::Window], quota: Quota<'_>, now: Wall) -> Self {
        let mut usage = Self::default();
        for window in windows {
            let kept = if window.is_rate() { &mut usage.rates } else { &mut usage.windows };
            kept.extend(Window::read(window, quota, now));
        }
        usage
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.rates.is_empty()
    }

    /// What is saved: a rate window ends before the next run begins.
    #[must_use]
    pub fn kept(&self) -> Self {
        self.windows.clone().into()
    }

    /// Windows that apply to `quota` and have not reset since they were read.
    pub fn live(&self, quota: Quota<'_>, now: Wall) -> impl Iterator<Item = &Window> {
        self.windows
            .iter()
            .filter(move |window| quota.is_under(&window.key) && window.resets_at.is_none_or(|reset| reset > now))
    }

    /// The window of this name that applies to `quota`; of two, the fuller one.
    pub fn window(&self, name: &str, quota: Quota<'_>, now: Wall) -> Option<&Window> {
        let named = self.live(quota, now).filter(|window| window.name == name);
        named.max_by(|a, b| a.utilization.total_cmp(&b.utilization))
    }

    /// The highest utilization of all windows that apply to `quota`.
    pub fn highest(&self, quota: Quota<'_>, now: Wall) -> Option<f64> {
        self.live(quota, now).map(|window| window.utilization).max_by(f64::total_cmp)
    }

    /// Merges a reading; windows that it does not name stay. Returns whether anything notable has changed.
    pub(crate) fn learn(&mut self, read: Self) -> bool {
        let windows = learn(&mut self.windows, read.windows);
        learn(&mut self.rates, read.rates) || windows
    }

    /// Whether it disproves a limit: it is newer, and has room in every window that applies. For a model's limit these are
    /// the model's own windows, else the quota's or the account's. One of them must last as long as the limit.
    pub(crate) fn disproves(&self, limit: &Limit, now: Now) -> bool {
        let until = limit.until.wall(now);
        let concerns = |window: &&Window| match limit.scope {
            Scope::Model => covers(&window.key, &limit.key),
            Scope::Pool => window.key.is_empty() || window.key == limit.key,
            Scope::Account => window.key.is_empty(),
            Scope::Request | Scope::Service => false,
        };
        let (mut any, mut long_enough) = (false, false);
        for window in self.windows.iter().filter(concerns) {
            if window.as_of <= limit.since || window.utilization >= 1.0 {
                return false;
            }
            any = true;
            long_enough |= window.resets_at.is_none_or(|at| at.after(SLACK) >= until);
        }
        any && long_enough
    }
}

fn learn(known: &mut Vec<Window>, read: Vec<Window>) -> bool {
    let mut news = false;
    for mut window in read {
        let same = |old: &Window| old.name == window.name && old.key == window.key;
        match known.iter().position(same) {
            Some(at) if known[at].as_of <= window.as_of => {
                news |= known[at].is_news(&window);
                window.keep_reset_of(&known[at]);
                known[at] = window;
            }
            None if known.len() < MOST_WINDOWS => {
                known.push(window);
                news = true;
            }
            Some(_) | None => {}
        }
    }
    news
}

/// Whether windows with this key apply to the model's limit with the key `limit`.
fn covers(key: &str, limit: &str) -> bool {
    let (Some((quota, pattern)), Some((of, model))) = (key.split_once(':'), limit.split_once(':')) else {
        return false;
    };
    quota == of && glob::matches(pattern, model)
}
