//! What values a key may have.

use std::{ops::Range, time::Duration};

use toml_edit::{Item, TableLike};

use super::types::Listen;
use super::value::{ConfigValue, quoted};
use super::{duration, pool_url, size};
use crate::pool::Protect;

/// What values a key may have; ranges include both ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool,
    /// A whole number from .. to.
    Integer(i64, i64),
    /// A number from .. to.
    Number(f64, f64),
    /// A duration from .. to, or the word that disables it.
    Duration(Duration, Duration, Option<&'static str>),
    /// A list of one to so many durations, each from .. to.
    Durations(Duration, Duration, usize),
    /// A size in bytes from .. to.
    Size(u64, u64),
    /// One of several words.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// An http or https URL, or empty.
    Url,
    /// The URL of a proxy, or empty.
    ProxyUrl,
    /// An https URL, an http URL of this machine, or empty.
    Webhook,
    /// The URL of a PostgreSQL database without a password, or empty.
    PoolUrl,
    /// A machine as ssh knows it: `HOST`, `USER@HOST` or `ssh://…`, or empty.
    SshHost,
    /// A program and its arguments: a list, or one text that is split as a shell does it.
    Command,
    /// `ADDRESS:PORT`.
    Listen,
    /// The name of an environment variable, or empty. The value is never shown, because users put the secret itself
    /// here.
    Variable,
    /// A list of so many to so many texts.
    Texts(usize, usize),
    /// A list of `{ models, below }`.
    Protect,
}

/// Why a value is not valid.
#[derive(Debug)]
pub(in crate::config) struct InvalidValue {
    /// What is wrong: "is 0", "is \"10\": a number without a unit".
    pub(in crate::config) what: String,
    /// Where, if it is only a part of the value.
    pub(in crate::config) at: Option<Range<usize>>,
}

/// The schemes of proxies that requests can go through.
pub(super) const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks5", "socks5h", "socks4", "socks4a"];
/// The longest text in a configuration, in characters.
const LONGEST_TEXT: usize = 4096;
/// The most words of a command.
const MOST_ARGUMENTS: usize = 64;
/// The most entries of a list of reserves.
const MOST_PROTECTED: usize = 64;

impl ValueKind {
    /// What is allowed, for messages: "a whole number from 1 to 10000".
    pub fn allowed(&self) -> String {
        match *self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer(from, to) => format!("a whole number from {from} to {to}"),
            Self::Number(from, to) => format!("a number from {from} to {to}"),
            Self::Duration(from, to, off) => {
                let off = off.map(|word| format!(", or {}", quoted(word))).unwrap_or_default();
                format!("{} ({} to {}){off}", duration::ALLOWED, duration::format(from), duration::format(to))
            }
            Self::Durations(from, to, most) => {
                let (from, to) = (duration::format(from), duration::format(to));
                format!("a list of 1 to {most} durations such as [\"1m\", \"30m\"], each {from} to {to}")
            }
            Self::Size(from, to) => format!("{} ({} to {})", size::ALLOWED, size::format(from), size::format(to)),
            Self::OneOf(words) => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "),
            Self::Text => "text on one line".to_owned(),
            Self::Url => "an http or https URL, or \"\"".to_owned(),
            Self::ProxyUrl => {
                format!("SCHEME://HOST:PORT with one of the schemes {}, or \"\"", PROXY_SCHEMES.join(", "))
            }
            Self::Webhook => "an https URL, an http URL of this machine (localhost), or \"\"".to_owned(),
            Self::PoolUrl => "postgres://[USER@]HOST[:PORT]/DATABASE without a password, or \"\"".to_owned(),
            Self::SshHost => "HOST, USER@HOST or ssh://USER@HOST:PORT, or \"\"".to_owned(),
            Self::Command => {
                "a program and its arguments: \"PROGRAM ARG…\" (no shell runs it) or [\"PROGRAM\", \"ARG\", …]"
                    .to_owned()
            }
            Self::Listen => "ADDRESS:PORT, such as \"127.0.0.1:0\"".to_owned(),
            Self::Variable => "the name of an environment variable (letters, digits, _), or \"\"".to_owned(),
            Self::Texts(0, most) => format!("a list of at most {most} texts"),
            Self::Texts(least, most) => format!("a list of {least} to {most} texts"),
            Self::Protect => "a list such as [{ models = [\"claude-opus*\"], below = 0.1 }]".to_owned(),
        }
    }

    /// Whether its values are TOML strings.
    pub(in crate::config) fn is_text(&self) -> bool {
        !matches!(
            self,
            Self::Bool
                | Self::Integer(..)
                | Self::Number(..)
                | Self::Durations(..)
                | Self::Texts(..)
                | Self::Protect
                | Self::Command
        )
    }

    /// Whether this value, as a user types it without quotes, is a TOML string.
    pub(in crate::config) fn is_text_as(&self, plain: &str) -> bool {
        self.is_text() || (*self == Self::Command && !plain.trim_start().starts_with('['))
    }

    /// Reads a value as it is typed after `config set KEY`: texts without quotes.
    pub fn read_plain(&self, text: &str) -> Result<ConfigValue, String> {
        let value = if self.is_text_as(text) {
            toml_edit::Value::from(text)
        } else {
            let parsed = text.trim().parse::<toml_edit::Value>();
            parsed.map_err(|_| format!("is {}; allowed: {}", shown(text), self.allowed()))?
        };
        self.read(&Item::Value(value)).map_err(|refusal| format!("{}; allowed: {}", refusal.what, self.allowed()))
    }

    pub(in crate::config) fn read(&self, item: &Item) -> Result<ConfigValue, InvalidValue> {
        let other = || InvalidValue::new(format!("is {}", self.found(item)));
        match *self {
            Self::Bool => item.as_bool().map(ConfigValue::Bool).ok_or_else(other),
            Self::Integer(from, to) => {
                let value = item.as_integer().filter(|value| (from..=to).contains(value));
                value.map(ConfigValue::Integer).ok_or_else(other)
            }
            Self::Number(from, to) => {
                // NaN is in no range.
                let value = number(item).filter(|value| (from..=to).contains(value));
                value.map(ConfigValue::Number).ok_or_else(other)
            }
            Self::Duration(from, to, off) => {
                if let Some(word) = off.filter(|word| item.as_str() == Some(word)) {
                    return Ok(ConfigValue::Off(word));
                }
                read_duration(item, from, to).map(ConfigValue::Duration)
            }
            Self::Durations(from, to, most) => {
                let list = elements(item, 1, most).ok_or_else(other)?;
                let read = |element: &Item| read_duration(element, from, to).map_err(|refusal| refusal.at(element));
                list.iter().map(read).collect::<Result<_, _>>().map(ConfigValue::Durations)
            }
            Self::Size(from, to) => {
                let in_range = |value: &u64| (from..=to).contains(value);
                read_measure(item, size::parse, in_range, ["MiB", "KiB"]).map(ConfigValue::Size)
            }
            Self::OneOf(words) => {
                let word = item.as_str().filter(|word| words.contains(word));
                word.map(|word| ConfigValue::Text(word.to_owned())).ok_or_else(other)
            }
            Self::Texts(least, most) => read_texts(item, least, most).map(ConfigValue::Texts),
            Self::Protect => read_protect(item).map(ConfigValue::Protect),
            Self::Command => match item.as_str() {
                Some(text) if is_line(text) => split_command(text).map(ConfigValue::Texts),
                Some(_) => Err(other()),
                None => read_texts(item, 0, MOST_ARGUMENTS).map(ConfigValue::Texts),
            },
            Self::Text
            | Self::Url
            | Self::ProxyUrl
            | Self::Webhook
            | Self::PoolUrl
            | Self::SshHost
            | Self::Listen
            | Self::Variable => {
                let text = item.as_str().filter(|text| self.admits(text)).ok_or_else(other)?;
                Ok(ConfigValue::Text(text.to_owned()))
            }
        }
    }

    fn admits(&self, text: &str) -> bool {
        match self {
            Self::Url => text.is_empty() || is_url(text, &["https", "http"]),
            Self::ProxyUrl => text.is_empty() || is_url(text, &PROXY_SCHEMES),
            Self::Webhook => text.is_empty() || is_url(text, &["https"]) || is_url_of_this_machine(text),
            Self::PoolUrl => text.is_empty() || is_line(text) && pool_url::fault_of(text).is_none(),
            // what begins so would be an option
            Self::SshHost => is_line(text) && !text.starts_with('-') && !text.contains(char::is_whitespace),
            Self::Listen => Listen::parse(text).is_some(),
            Self::Variable => {
                !text.starts_with(|c: char| c.is_ascii_digit())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                    && text.len() <= LONGEST_TEXT
            }
            _ => is_line(text),
        }
    }

    fn found(&self, item: &Item) -> String {
        match (self, item.as_str()) {
            (Self::Variable, Some(_)) => "another text".to_owned(),
            (Self::PoolUrl, Some(text)) => match pool_url::fault_of(text) {
                Some("") | None => found(item),
                Some(fault) => fault.to_owned(),
            },
            (Self::Url | Self::ProxyUrl | Self::Webhook, Some(text)) if text.contains('@') => {
                "a URL with a user name or password, which is not allowed".to_owned()
            }
            _ => found(item),
        }
    }
}

impl InvalidValue {
    fn new(what: String) -> Self {
        Self { what, at: None }
    }

    fn at(self, item: &Item) -> Self {
        Self { at: self.at.or_else(|| item.span()), ..self }
    }
}

fn read_duration(item: &Item, from: Duration, to: Duration) -> Result<Duration, InvalidValue> {
    read_measure(item, duration::parse, |value| (from..=to).contains(value), ["s", "m"])
}

/// A number with a unit; `examples` are units for the message about a number without one.
fn read_measure<T>(
    item: &Item,
    parse: fn(&str) -> Result<T, String>,
    in_range: impl Fn(&T) -> bool,
    [one, other]: [&str; 2],
) -> Result<T, InvalidValue> {
    let why = match (item.as_str().map(parse), item.as_integer()) {
        (Some(Ok(value)), _) if in_range(&value) => return Ok(value),
        (Some(Ok(_)), _) => ": out of range".to_owned(),
        (Some(Err(why)), _) => format!(": {why}"),
        (None, Some(number)) => format!(": a number without a unit; write {number}{one} or {number}{other}"),
        (None, None) => String::new(),
    };
    Err(InvalidValue::new(format!("is {}{why}", found(item))))
}

fn read_texts(item: &Item, least: usize, most: usize) -> Result<Vec<String>, InvalidValue> {
    let list = elements(item, least, most).ok_or_else(|| InvalidValue::new(format!("is {}", found(item))))?;
    let read = |element: &Item| {
        let text = element.as_str().filter(|text| !text.is_empty() && is_line(text));
        let refusal = || InvalidValue::new(format!("has the entry {}", found(element))).at(element);
        text.map(str::to_owned).ok_or_else(refusal)
    };
    list.iter().map(read).collect()
}

fn read_protect(item: &Item) -> Result<Vec<Protect>, InvalidValue> {
    let refuse = || InvalidValue::new(format!("is {}", found(item)));
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|table| protect(table, table.span())).collect();
    }
    let list = elements(item, 0, MOST_PROTECTED).ok_or_else(refuse)?;
    let read = |element: &Item| match element.as_table_like() {
        Some(table) => protect(table, element.span()),
        None => Err(InvalidValue::new(format!("has the entry {}", found(element))).at(element)),
    };
    list.iter().map(read).collect()
}

fn protect(table: &dyn TableLike, span: Option<Range<usize>>) -> Result<Protect, InvalidValue> {
    if let Some((key, item)) = table.iter().find(|(key, _)| !["models", "below"].contains(key)) {
        let at = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
        return Err(InvalidValue { what: format!("has the unknown entry `{key}`"), at });
    }
    let missing = |what: &str| InvalidValue { what: format!("has an entry without `{what}`"), at: span.clone() };
    let models = table.get("models").ok_or_else(|| missing("models"))?;
    let below = table.get("below").ok_or_else(|| missing("below"))?;
    let models = read_texts(models, 1, 64).map_err(|refusal| InvalidValue {
        what: format!("has `models` that {}", refusal.what),
        at: refusal.at.or_else(|| models.span()),
    })?;
    let fraction = number(below).filter(|value| (0.0..=1.0).contains(value));
    let refusal = || InvalidValue::new(format!("has `below = {}`, which is not from 0 to 1", found(below))).at(below);
    Ok(Protect { models, below: fraction.ok_or_else(refusal)? })
}

/// The elements of a list that is not too short or long.
fn elements(item: &Item, least: usize, most: usize) -> Option<Vec<Item>> {
    let list = item.as_array().filter(|list| (least..=most).contains(&list.len()))?;
    Some(list.iter().cloned().map(Item::Value).collect())
}
fn number(item: &Item) -> Option<f64> {
    item.as_float().or_else(|| item.as_integer().map(|value| value as f64))
}

fn is_line(text: &str) -> bool {
    text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// An http URL whose host is this machine.
fn is_url_of_this_machine(text: &str) -> bool {
    let url = url::Url::parse(text).ok().filter(|_| is_url(text, &["http"]));
    url.is_some_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// The words of a command, with quotes and backslashes as in a shell, and nothing else that a shell does.
fn split_command(text: &str) -> Result<Vec<String>, InvalidValue> {
    let words = shlex::split(text).filter(|words| words.len() <= MOST_ARGUMENTS);
    words.ok_or_else(|| {
        InvalidValue::new(format!("is {}: a quote is not closed, or there are too many words", shown(text)))
    })
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    let rest = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    // Credentials in a URL would be shown wherever the URL is shown.
    let clean = |host: &str| !host.is_empty() && !host.starts_with(':') && !host.contains('@');
    host.is_some_and(clean) && is_line(text) && !text.contains(char::is_whitespace)
}

/// The value that was found, shortened for a message.
fn found(item: &Item) -> String {
    match item {
        Item::Value(toml_edit::Value::String(text)) => shown(text.value()),
        Item::Value(toml_edit::Value::Integer(value)) => value.value().to_string(),
        Item::Value(toml_edit::Value::Float(value)) => value.value().to_string(),
        Item::Value(toml_edit::Value::Boolean(value)) => value.value().to_string(),
        Item::Value(toml_edit::Value::Datetime(_)) => "a date or time".to_owned(),
        Item::Value(toml_edit::Value::Array(list)) if list.is_empty() => "an empty list".to_owned(),
        Item::Value(toml_edit::Value::Array(list)) => format!("a list of {}", list.len()),
        Item::Value(toml_edit::Value::InlineTable(_)) => "a table".to_owned(),
        Item::ArrayOfTables(_) => "a list of sections".to_owned(),
        Item::Table(_) | Item::None => "a section".to_owned(),
    }
}

/// A text in quotes, shortened.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
