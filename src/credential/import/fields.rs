//! Reading fields of untrusted JSON. Invalid fields are reported with their place; no value is quoted.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::account::login;
use super::{ImportProblem, MOST_ENTRIES};
use crate::credential::{Credential, Secret};
use crate::{limits, pool::Wall};

/// The longest text, in bytes.
const LONGEST_TEXT: usize = 256;
/// The longest link, in bytes.
const LONGEST_LINK: usize = 4096;
/// The longest secret, in bytes.
const LONGEST_SECRET: usize = 64 * 1024;
/// The maximum number of problems reported per file.
const MOST_PROBLEMS: usize = 100;
/// 1973 in milliseconds, the year 5138 in seconds: smaller numbers are seconds.
const SURELY_SECONDS: f64 = 1e11;

/// Whether a text can be stored and shown.
pub(super) fn is_short_text(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// A name, as it is shown in the place of a problem.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// The problems found in a file.
#[derive(Debug, Default)]
pub(super) struct ProblemList(RefCell<Vec<ImportProblem>>);

impl ProblemList {
    /// Records damaged data.
    pub(super) fn note(&self, place: &str, message: impl Into<String>) {
        self.tell(place, message.into(), true);
    }

    /// Records that what has this name in the file is damaged.
    pub(super) fn note_named(&self, name: &str, message: impl Into<String>) {
        self.note(&shown(name), message);
    }

    fn tell(&self, place: &str, message: String, broken: bool) {
        let mut list = self.0.borrow_mut();
        if list.len() < MOST_PROBLEMS {
            list.push(ImportProblem { place: place.to_owned(), message, broken });
        }
    }

    pub(super) fn into_list(self) -> Vec<ImportProblem> {
        self.0.into_inner()
    }
}

/// The fields of an object, and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct JsonFields<'a> {
    map: Option<&'a Map<String, Value>>,
    place: String,
    problems: &'a ProblemList,
}

impl<'a> JsonFields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, place: String, problems: &'a ProblemList) -> Self {
        Self { map: Some(map), place, problems }
    }

    /// An object without fields.
    pub(super) fn none(problems: &'a ProblemList) -> Self {
        Self { map: None, place: String::new(), problems }
    }

    /// An object without fields, at the same place.
    pub(super) fn none_beside(&self) -> Self {
        Self { map: None, ..self.clone() }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Records that the object is damaged.
    pub(super) fn note(&self, message: impl Into<String>) {
        self.problems.note(&self.place, message);
    }

    /// Records that the object is damaged, and leaves it out.
    pub(super) fn leave_out<T>(&self, why: &str) -> Option<T> {
        self.note(format!("is left out: {why}"));
        None
    }

    /// The login with these tokens; without any it is left out.
    pub(super) fn login(&self, access: &str, refresh: &str, expires_at: Option<Wall>) -> Option<Credential> {
        let login = login(self.secret(access), self.secret(refresh), expires_at);
        login.or_else(|| self.leave_out("it has neither an access nor a refresh token"))
    }

    /// Records that the object is valid, but not usable by lessor.
    pub(super) fn pass_over(&self, message: impl Into<String>) {
        self.problems.tell(&self.place, message.into(), false);
    }

    /// The value of a field; `null` counts as missing.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.into_iter().flat_map(|map| map.keys().map(String::as_str))
    }

    fn place_of(&self, name: &str) -> String {
        let name = shown(name);
        if self.place.is_empty() { name } else { format!("{}.{name}", self.place) }
    }

    /// Records that a field is damaged, and leaves it out.
    fn wrong<T>(&self, name: &str, message: &str) -> Option<T> {
        self.problems.note(&self.place_of(name), message);
        None
    }

    /// A short text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if !is_short_text(text) => {
                self.wrong(name, "is left out: it is over 256 bytes, or contains control characters")
            }
            Value::String(text) => Some(text.clone()),
            _ => self.wrong(name, "is left out: it is not a string"),
        }
    }

    /// A longer text, made into one line and shortened.
    pub(super) fn prose(&self, name: &str) -> Option<String> {
        let text = self.value(name)?.as_str()?;
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
        Some(line.trim().to_owned()).filter(|line| !line.is_empty())
    }

    /// A complete https link.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let text = self.value(name)?.as_str().filter(|text| !text.is_empty())?;
        let fits = text.len() <= LONGEST_LINK && text.starts_with("https://");
        if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return self.wrong(name, "is left out: it is not an https link, or over 4 KiB");
        }
        Some(text.to_owned())
    }

    /// A key or token.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if is_secret(text) => Some(Secret::new(text.clone())),
            Value::String(_) => {
                self.wrong(name, "is not a token: it is over 64 KiB, or contains spaces or control characters")
            }
            _ => self.wrong(name, "is not a string"),
        }
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64().filter(|number| number.is_finite())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => self.wrong(name, "is left out: it is neither true nor false"),
        }
    }

    /// A time: milliseconds, seconds, or RFC 3339.
    pub(super) fn instant(&self, name: &str) -> Option<Wall> {
        let value = self.value(name)?;
        let instant = instant(value);
        let empty = value.as_str() == Some("") || value.as_f64() == Some(0.0);
        if instant.is_none() && !empty {
            return self.wrong(name, "is left out: it is not a time");
        }
        instant
    }

    pub(super) fn object(&self, name: &str) -> Option<Self> {
        match self.value(name)? {
            Value::Object(map) => Some(Self::new(map, self.place_of(name), self.problems)),
            _ => self.wrong(name, "is left out: it is not an object"),
        }
    }

    /// The objects of a list; other items are reported.
    pub(super) fn objects(&self, name: &str) -> Vec<Self> {
        match self.value(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => objects(list, &self.place_of(name), self.problems),
            Some(_) => self.wrong(name, "is left out: it is not a list").unwrap_or_default(),
        }
    }
}

/// The objects of a list; other items are reported.
pub(super) fn objects<'a>(list: &'a [Value], place: &str, problems: &'a ProblemList) -> Vec<JsonFields<'a>> {
    if list.len() > MOST_ENTRIES {
        problems.note(place, format!("has {} entries; those after the first {MOST_ENTRIES} are left out", list.len()));
    }
    let mut found = Vec::new();
    for (number, value) in list.iter().take(MOST_ENTRIES).enumerate() {
        let place = format!("{place}[{number}]");
        match value {
            Value::Object(map) => found.push(JsonFields::new(map, place, problems)),
            _ => problems.note(&place, "is left out: it is not an object"),
        }
    }
    found
}

/// Whether a text can be a key or token.
pub(super) fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_SECRET && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// A time: milliseconds, seconds, or RFC 3339; `None` if it is invalid or not after 1970-01-01.
pub(super) fn instant(value: &Value) -> Option<Wall> {
    match value {
        Value::String(text) => limits::epoch_ms(text).map(Wall),
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.is_finite() && *number >= 1.0)?;
            let millis = if number < SURELY_SECONDS { number * 1000.0 } else { number };
            // milliseconds up to 2⁵³ are exact; later times mean "never"
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is positive")]
            Some(Wall(millis as u64))
        }
        _ => None,
    }
}
