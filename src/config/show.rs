//! Effective values and where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::keys::KEYS;
use super::problem::ConfigProblem;
use super::schema::{self, KeySpec, PathMatch, format_key};
use super::settings::{
    Config, DaemonSection, GatewaySection, LimitsSection, NotifySection, QuotaSection, RefreshSection, SecretsSection,
};
use super::value::ConfigValue;
use crate::pool;

/// One key with its effective value.
#[derive(Clone, PartialEq, Debug)]
pub struct Setting {
    /// The key's path, as TOML writes it.
    pub key: String,
    /// Its value; none where unset means something of its own.
    pub value: Option<ConfigValue>,
    /// Where the value came from.
    pub source: SettingSource,
    /// The words it was said in, as a TOML literal: `"60s"` stays that.
    pub(super) written: Option<String>,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingSource {
    /// Nobody said otherwise.
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

/// Where every value came from, and what is to be said about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    pub(super) path: PathBuf,
    pub(super) set: BTreeMap<String, SetValue>,
    pub(super) sections: BTreeMap<String, (Range<usize>, u32)>,
    pub(super) warnings: Vec<ConfigProblem>,
}

/// A value that somebody set.
#[derive(Clone, Debug)]
pub(super) struct SetValue {
    pub(super) value: ConfigValue,
    pub(super) origin: Origin,
    /// Its literal, if that is one line.
    pub(super) written: Option<String>,
}

/// Who set a value.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File { line: u32, span: Range<usize> },
    Environment(&'static str),
}

/// Equal configurations say the same, wherever it stands.
impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Default for Config {
    /// The documented defaults, from the table of keys.
    fn default() -> Self {
        let mut config = Self {
            daemon: DaemonSection::default(),
            pool: pool::PoolSettings::default(),
            limits: LimitsSection::default(),
            quota: QuotaSection::default(),
            refresh: RefreshSection::default(),
            gateway: GatewaySection::default(),
            notify: NotifySection::default(),
            secrets: SecretsSection::default(),
            providers: BTreeMap::new(),
            origins: Origins::default(),
        };
        for key in KEYS {
            if let Some(Ok(value)) = key.default.map(|text| key.kind.read_plain(text)) {
                (key.set)(&mut config, "", &value);
            }
        }
        config
    }
}

impl Config {
    /// One key's effective value; names with dots or `@` are quoted, as in `accounts."a@b.c".use`.
    pub fn get(&self, key: &str) -> Result<Setting, String> {
        let path = schema::parse_key(key)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match schema::find(&path) {
            PathMatch::Key(row) => {
                let default = row.default.and_then(|text| Some((row.kind.read_plain(text).ok()?, row.literal(text))));
                Ok(self.setting(format_key(&path), default))
            }
            PathMatch::Section => Err(schema::is_section(&path)),
            PathMatch::Nothing => Err(schema::unknown(&path, false)),
        }
    }

    /// Every key with its effective value; of named sections those that are set.
    pub fn show(&self) -> Vec<Setting> {
        let fixed = KEYS.iter().filter(|row| !row.key.contains('*')).filter_map(|row| self.get(row.key).ok());
        let named = self.origins.set.keys().filter(|key| !KEYS.iter().any(|row| row.key == key.as_str()));
        fixed.chain(named.map(|key| self.setting(key.clone(), None))).collect()
    }

    /// Warnings: what is accepted, but will not do what one may expect.
    pub fn check(&self) -> &[ConfigProblem] {
        &self.origins.warnings
    }

    /// Puts an environment variable's word before the file's; empty counts as unset.
    pub fn set_from_environment(&mut self, key: &str, variable: &'static str, text: &str) -> Result<(), String> {
        let path: Vec<&str> = key.split('.').collect();
        let PathMatch::Key(row) = schema::find(&path) else { return Err(schema::unknown(&path, false)) };
        if text.is_empty() {
            return Ok(());
        }
        let value = row.kind.read_plain(text).map_err(|why| format!("{variable} {why}"))?;
        (row.set)(self, schema::name_in(row, &path), &value);
        let entry = SetValue { value, origin: Origin::Environment(variable), written: Some(row.literal(text)) };
        self.origins.set.insert(format_key(&path), entry);
        Ok(())
    }

    /// Where a key is set, short enough to name in a refusal: `config.toml:12`.
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

    /// Where the file sets a key, for messages.
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
    /// Its row of the table of keys.
    #[must_use]
    pub fn row(&self) -> Option<&'static KeySpec> {
        let path = schema::parse_key(&self.key).ok()?;
        match schema::find(&path.iter().map(String::as_str).collect::<Vec<_>>()) {
            PathMatch::Key(row) => Some(row),
            _ => None,
        }
    }

    /// The value as TOML says it, in the words of whoever said it.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        Some(self.written.clone().unwrap_or_else(|| value.to_string()))
    }

    /// The value as `config get` prints it, in the words of whoever said it: texts without quotes.
    #[must_use]
    pub fn plain(&self) -> Option<String> {
        let literal = self.literal()?;
        let text = literal.parse().ok().and_then(|value: toml_edit::Value| value.as_str().map(str::to_owned));
        Some(text.unwrap_or(literal))
    }

    /// The value as JSON, in the words of whoever said it; null where it is unset.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let said = self.literal().and_then(|literal| literal.parse::<toml_edit::Value>().ok());
        let texts = said.as_ref().and_then(|said| match said {
            toml_edit::Value::String(text) => Some(text.value().as_str().into()),
            // Of texts only; other lists have no words of their own.
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
        let path = schema::parse_key(&self.key).unwrap_or_default();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let (section, name) = parts.split_at(parts.len().saturating_sub(1));
        (format_key(section), format_key(name))
    }
}

impl fmt::Display for Setting {
    /// A line of TOML; what is unset is a comment.
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
