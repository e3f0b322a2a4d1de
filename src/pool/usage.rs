//! What is known of an account's quota windows; unknown is not zero.

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
    /// The quota key it belongs to; empty for the whole account.
    pub key: String,
}

/// All that is known of an account's windows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Usage {
    /// One entry for each window and key.
    pub windows: Vec<Window>,
}

impl Usage {
    /// Windows that count for `key` and have not been reset since they were read.
    pub fn live(&self, key: &str, now: Wall) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(move |window| {
            (window.key.is_empty() || window.key == key) && window.resets_at.is_none_or(|reset| reset > now)
        })
    }

    /// The window of this name, if it counts for `key`.
    #[must_use]
    pub fn window(&self, name: &str, key: &str, now: Wall) -> Option<&Window> {
        self.live(key, now).find(|window| window.name == name)
    }

    /// The highest utilisation of any live window of `key`.
    #[must_use]
    pub fn highest(&self, key: &str, now: Wall) -> Option<f64> {
        self.live(key, now).map(|window| window.utilization).max_by(f64::total_cmp)
    }
}
