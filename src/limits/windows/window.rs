//! A window of an account's quota.

use super::super::reason::Scope;
use super::super::time::{StatedDelay, WaitSource, When};

/// A window of a quota.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// Its name: `5h`, `7d`, `7d_oi`, `requests`, `tokens`…
    pub name: String,
    /// The used share, from 0 to 1; more when overdrawn. `None` when only the reset is known.
    pub utilization: Option<f64>,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
    /// What it applies to: the whole account, one quota or one model.
    pub scope: Scope,
    /// Whether the upstream refuses because of it.
    pub spent: bool,
    /// Which family of headers it comes from.
    pub(in crate::limits) kind: WindowFamily,
    /// The header that states the reset.
    pub(in crate::limits) reset_header: String,
}

/// A family of headers, the most specific first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::limits) enum WindowFamily {
    /// A subscription's windows.
    Unified,
    /// A ChatGPT plan's windows.
    Codex,
    /// Requests and tokens in a short time.
    Rate,
}

impl Window {
    /// Whether it is a short-term rate of requests or tokens, not a plan's quota.
    #[must_use]
    pub fn is_rate(&self) -> bool {
        self.kind == WindowFamily::Rate
    }

    /// The wait until it resets.
    pub(in crate::limits) fn stated(&self, now: u64) -> Option<StatedDelay> {
        let stated = When::At(self.resets_at?).stated(now, WaitSource::header(&self.reset_header))?;
        // the other headers mostly state durations
        let is_time_of_day = self.kind == WindowFamily::Unified || self.reset_header.ends_with("-reset-at");
        Some(StatedDelay { at: stated.at.filter(|_| is_time_of_day), ..stated })
    }
}

/// The window that blocks longest: of the account, unless only models are refused.
pub(in crate::limits) fn blocking(windows: &[Window]) -> Option<&Window> {
    let kind = windows.iter().filter(|window| window.spent).map(|window| window.kind).min()?;
    let spent = || windows.iter().filter(|window| window.spent && window.kind == kind);
    let scope = spent().map(|window| window.scope).max()?;
    spent().filter(|window| window.scope == scope).max_by_key(|window| window.resets_at)
}
