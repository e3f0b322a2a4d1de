//! One key's effective value and its source.

use std::{fmt, ops::Range, path::PathBuf};

use super::origins::{Origin, SetValue};
use super::schema::keys::{KEYS, KeySpec};
use super::schema::lookup::{self, PathMatch, format_key};
use super::{file::problem::ConfigProblem, schema::value::ConfigValue, settings::Config};

/// One key with its effective value.
#[derive(Clone, PartialEq, Debug)]
pub struct Setting {
    /// The key's path, as TOML writes it.
    pub key: String,
    /// Its value; none if it is unset.
    pub value: Option<ConfigValue>,
    /// Where the value came from.
    pub source: SettingSource,
    /// The TOML literal as it was written: `"60s"` stays `"60s"`.
    pub(super) written: Option<String>,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingSource {
    /// It is not set.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u32,
    },
    /// An environment variable.
    Environment(&'static str),
}

impl Config {
    /// One key's effective value; names with dots or `@` are quoted, as in `accounts."a@b.c".use`.
    pub fn get(&self, key: &str) -> Result<Setting, String> {
        let (path, row) = lookup::find_key(key)?;
        let default = row.default.and_then(|text| Some((row.kind.read_plain(text).ok()?, row.literal(text))));
        Ok(self.setting(format_key(&path), default))
    }

    /// Every key with its effective value; in named sections only keys that are set.
    pub fn show(&self) -> Vec<Setting> {
        let fixed = KEYS.iter().filter(|row| !row.key.contains('*')).filter_map(|row| self.get(row.key).ok());
        let named = self.origins.set.keys().filter(|key| !KEYS.iter().any(|row| row.key == key.as_str()));
        fixed.chain(named.map(|key| self.setting(key.clone(), None))).collect()
    }

    /// Warnings: settings that are valid, but may not have the expected effect.
    pub fn check(&self) -> &[ConfigProblem] {
        &self.origins.warnings
    }

    /// Overrides the file's value with that of an environment variable; an empty one counts as unset.
    pub fn set_from_environment(&mut self, key: &str, variable: &'static str, text: &str) -> Result<(), String> {
        let path: Vec<&str> = key.split('.').collect();
        let PathMatch::Key(row) = lookup::find(&path) else { return Err(lookup::unknown(&path, false)) };
        if text.is_empty() {
            return Ok(());
        }
        let value = row.kind.read_plain(text).map_err(|why| format!("{variable} {why}"))?;
        (row.set)(self, &row.names_in(&path), &value);
        let entry = SetValue { value, origin: Origin::Environment(variable), written: Some(row.literal(text)) };
        self.origins.set.insert(format_key(&path), entry);
        Ok(())
    }

    /// Where a key is set, short enough for a message: `config.toml:12`.
    pub fn location_of(&self, path: &[&str]) -> Option<String> {
        let key = format_key(path);
        let line = match self.origins.set.get(&key).map(|entry| &entry.origin) {
            Some(Origin::File { line, .. }) => *line,
            Some(Origin::Environment(name)) => return Some((*name).to_owned()),
            None => self.origins.sections.get(&key)?.1,
        };
        let file = self.origins.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Some(format!("{file}:{line}"))
    }

    /// The range in the file where a key is set.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        match self.origins.set.get(key)?.origin {
            Origin::File { ref span, .. } => Some(span.clone()),
            Origin::Environment(_) => None,
        }
    }

    fn setting(&self, key: String, default: Option<(ConfigValue, String)>) -> Setting {
        let Some(entry) = self.origins.set.get(&key) else {
            let (value, written) = default.unzip();
            return Setting { key, value, source: SettingSource::Default, written };
        };
        let source = match &entry.origin {
            Origin::File { line, .. } => SettingSource::File { path: self.origins.path.clone(), line: *line },
            Origin::Environment(name) => SettingSource::Environment(name),
        };
        Setting { key, value: Some(entry.value.clone()), source, written: entry.written.clone() }
    }
}

impl Setting {
    /// Its row in the table of keys.
    #[must_use]
    pub fn row(&self) -> Option<&'static KeySpec> {
        lookup::find_key(&self.key).ok().map(|(_, row)| row)
    }

    /// The value as a TOML literal, as it was written.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        Some(self.written.clone().unwrap_or_else(|| value.to_string()))
    }

    /// The value as `config get` prints it, as it was written: texts without quotes.
    #[must_use]
    pub fn plain(&self) -> Option<String> {
        let literal = self.literal()?;
        let text = literal.parse().ok().and_then(|value: toml_edit::Value| value.as_str().map(str::to_owned));
        Some(text.unwrap_or(literal))
    }

    /// The value as JSON, as it was written; null if it is unset.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let said = self.literal().and_then(|literal| literal.parse::<toml_edit::Value>().ok());
        let texts = said.as_ref().and_then(|said| match said {
            toml_edit::Value::String(text) => Some(text.value().as_str().into()),
            // Only lists of texts keep their spelling.
            toml_edit::Value::Array(list) => {
                list.iter().map(toml_edit::Value::as_str).collect::<Option<Vec<_>>>().map(Into::into)
            }
            _ => None,
        });
        texts.or_else(|| self.value.as_ref().map(ConfigValue::json)).unwrap_or_default()
    }

    /// Its section and its name there, as TOML writes them: `accounts."a@b.c"` and `use`.
    #[must_use]
    pub fn section_and_name(&self) -> (String, String) {
        let path = lookup::parse_key(&self.key).unwrap_or_default();
        let (section, name) = path.split_at(path.len().saturating_sub(1));
        (format_key(section), format_key(name))
    }
}

impl fmt::Display for Setting {
    /// A line of TOML; an unset key is a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.literal() {
            Some(literal) => write!(f, "{} = {literal}", self.key),
            None => write!(f, "# {} is unset", self.key),
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}
