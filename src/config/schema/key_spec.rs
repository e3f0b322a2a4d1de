//! One key of the configuration.

use super::value::{ConfigValue, quoted};
use super::value_kind::ValueKind;
use crate::config::settings::Config;

/// One key of the configuration.
pub struct KeySpec {
    /// Its path; `*` stands for a name the user chooses.
    pub key: &'static str,
    /// What values it may have.
    pub kind: ValueKind,
    /// Its default as a user types it; none for keys that are unset by default.
    pub default: Option<&'static str>,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Whether it has an effect in this version.
    pub active: bool,
    /// Assigns a value, given the name for `*`; false if the kinds do not match.
    pub(in crate::config) set: fn(&mut Config, &str, &ConfigValue) -> bool,
}

impl KeySpec {
    /// The name that stands for `*` in a key.
    pub(in crate::config) fn name_in<'p>(&self, path: &[&'p str]) -> &'p str {
        self.key.split('.').zip(path).find(|(part, _)| *part == "*").map_or("", |(_, name)| name)
    }

    /// The TOML literal of a value as a user types it.
    pub(in crate::config) fn literal(&self, plain: &str) -> String {
        if self.kind.is_text() { quoted(plain) } else { plain.trim().to_owned() }
    }
}

impl std::fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySpec").field("key", &self.key).field("kind", &self.kind).finish_non_exhaustive()
    }
}
