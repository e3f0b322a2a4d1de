//! Why notices cannot be sent, for `status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why the last notice could not be sent, by the key of the configuration.
#[derive(Debug, Default)]
pub(crate) struct NoticeTroubles(Mutex<BTreeMap<&'static str, String>>);

impl NoticeTroubles {
    /// As warnings of `status`.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.entries().iter().map(|(key, why)| format!("{key} fails: {why}")).collect()
    }

    pub(super) fn set(&self, key: &'static str, why: Option<String>) {
        let mut troubles = self.entries();
        match why {
            Some(why) => drop(troubles.insert(key, why)),
            None => drop(troubles.remove(key)),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // an entry is written or not: there is no state in between
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
