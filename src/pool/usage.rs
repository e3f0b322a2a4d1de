//! What is known of an account's quota windows; unknown is not zero.

use super::target::Quota;
use super::time::Wall;

/// One window of a quota.
#[derive(Clone, PartialEq, Debug)]
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
}

impl Usage {
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
}
