//! Values of keys, already checked.

use std::{fmt, time::Duration};

use super::{duration, size};
use crate::pool::Protect;

/// The value of a key; prints as a TOML literal.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text; empty means none where the key is optional.
    Text(String),
    /// The word that disables a duration.
    Off(&'static str),
    /// A duration.
    Duration(Duration),
    /// Bytes.
    Size(u64),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of durations.
    Durations(Vec<Duration>),
    /// `quota.protect`
    Protect(Vec<Protect>),
}

impl ConfigValue {
    /// The value as `config get` prints it: texts without quotes.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Off(word) => (*word).to_owned(),
            Self::Duration(value) => duration::format(*value),
            Self::Size(bytes) => size::format(*bytes),
            other => other.to_string(),
        }
    }

    /// The value as JSON; durations and sizes stay text, because their units are part of them.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Texts(list) => list.clone().into(),
            Self::Durations(list) => list.iter().map(|value| duration::format(*value)).collect(),
            Self::Protect(list) => {
                list.iter().map(|p| serde_json::json!({ "models": p.models, "below": p.below })).collect()
            }
            Self::Text(_) | Self::Off(_) | Self::Duration(_) | Self::Size(_) => self.plain().into(),
        }
    }
}

impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Texts(list) => f.write_str(&texts(list)),
            Self::Durations(list) => {
                f.write_str(&texts(&list.iter().map(|value| duration::format(*value)).collect::<Vec<_>>()))
            }
            Self::Protect(list) => {
                let entries: Vec<_> =
                    list.iter().map(|p| format!("{{ models = {}, below = {} }}", texts(&p.models), p.below)).collect();
                write!(f, "[{}]", entries.join(", "))
            }
            Self::Text(_) | Self::Off(_) | Self::Duration(_) | Self::Size(_) => f.write_str(&quoted(&self.plain())),
        }
    }
}

/// A text as a basic TOML string, which is also a valid key; `toml_edit` may choose other forms.
pub(in crate::config) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn texts(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}
