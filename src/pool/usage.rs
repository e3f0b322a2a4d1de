//! What is known of an account's quota windows; unknown is not zero.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{self, Scope};

use super::glob;
use super::limit::{Limit, model_key};
use super::target::Quota;
use super::time::{Now, Wall};

/// Most windows of one account.
const MOST_WINDOWS: usize = 64;
/// A smaller share of a window is not worth a word.
const NOTICED: f64 = 0.001;
/// Two times of one reset are this close: upstreams state them with jitter.
const SLACK: Duration = Duration::from_secs(60);

/// Of a window's length; before so much has passed, how fast it is used says nothing.
const LEAST_PASSED: f64 = 0.02;

/// One window of a quota.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The provider's name of it, such as `5h` or `7d`.
    pub name: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it starts anew.
    pub resets_at: Option<Wall>,
    /// When this was learnt.
    pub as_of: Wall,
    /// The quota key it belongs to, or that and a pattern of models behind a colon; empty for the whole account.
    pub key: String,
}

/// All that is known of an account's windows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Usage {
    /// One entry for each window and key.
    pub windows: Vec<Window>,
    /// The same for rates, which are full and empty within a minute: to be shown, and of no weight in choosing.
    pub rates: Vec<Window>,
}

impl From<Vec<Window>> for Usage {
    fn from(windows: Vec<Window>) -> Self {
        Self { windows, rates: Vec::new() }
    }
}

impl Window {
    /// A window an upstream's answer to a request of `quota` told of, where it says how much is used.
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
}

impl Window {
    /// A reset that is stated a little differently each time is the same one, and stays where it was.
    fn keep_reset_of(&mut self, known: &Self) {
        if let (Some(known), Some(stated)) = (known.resets_at, self.resets_at)
            && known.since(stated).max(stated.since(known)) < SLACK
        {
            self.resets_at = Some(known);
        }
    }

    /// How fast it is used, when it is so long: 1 lasts exactly until it starts anew, 2 half as long. As of when it was
    /// learnt; `None` when its end is not known, or it has only just begun.
    #[must_use]
    pub fn pace(&self, length: Duration) -> Option<f64> {
        let left = self.resets_at?.since(self.as_of).as_secs_f64();
        let passed = 1.0 - left / length.as_secs_f64();
        (LEAST_PASSED..=1.0).contains(&passed).then(|| self.utilization / passed)
    }

    /// Whether somebody who knows this one should be told of `newer`.
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
    /// What an upstream's answer to a request of `quota` told.
    #[must_use]
    pub fn read(windows: &[limits::Window], quota: Quota<'_>, now: Wall) -> Self {
        let mut usage = Self::default();
        for window in windows {
            let kept = if window.is_rate() { &mut usage.rates } else { &mut usage.windows };
            kept.extend(Window::read(window, quota, now));
        }
        usage
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.rates.is_empty()
    }

    /// What outlives the daemon: a rate is over before the next one runs.
    #[must_use]
    pub fn kept(&self) -> Self {
        self.windows.clone().into()
    }

    /// Windows that count for `quota` and have not been reset since they were read.
    pub fn live(&self, quota: Quota<'_>, now: Wall) -> impl Iterator<Item = &Window> {
        self.windows
            .iter()
            .filter(move |window| quota.is_under(&window.key) && window.resets_at.is_none_or(|reset| reset > now))
    }

    /// The window of this name, if it counts for `quota`; of two, the fuller one.
    #[must_use]
    pub fn window(&self, name: &str, quota: Quota<'_>, now: Wall) -> Option<&Window> {
        let named = self.live(quota, now).filter(|window| window.name == name);
        named.max_by(|a, b| a.utilization.total_cmp(&b.utilization))
    }

    /// The highest utilisation of any live window of `quota`.
    #[must_use]
    pub fn highest(&self, quota: Quota<'_>, now: Wall) -> Option<f64> {
        self.live(quota, now).map(|window| window.utilization).max_by(f64::total_cmp)
    }

    /// Takes in what an answer told; what it does not name stays as it was. Answers whether there is anything new in it.
    pub(super) fn learn(&mut self, read: Self) -> bool {
        let windows = learn(&mut self.windows, read.windows);
        learn(&mut self.rates, read.rates) || windows
    }

    /// Whether it is newer than the limit and shows room in all that counts for it: for a model's limit the model's own
    /// windows, else the quota's or the account's; one of them must be as long as what is left of the limit.
    pub(super) fn speaks_against(&self, limit: &Limit, now: Now) -> bool {
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

/// Whether windows under `key` are those of the model's limit filed under `limit`.
fn covers(key: &str, limit: &str) -> bool {
    let (Some((quota, pattern)), Some((of, model))) = (key.split_once(':'), limit.split_once(':')) else {
        return false;
    };
    quota == of && glob::matches(pattern, model)
}
