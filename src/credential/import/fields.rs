//! Reading fields of JSON that nobody vouches for: what does not fit is noted with its place, and nothing is quoted.

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::credential::Secret;
use crate::limits;
use crate::pool::Wall;

use super::{MOST_ENTRIES, Problem};

/// The longest text an account carries, in bytes.
const LONGEST_TEXT: usize = 256;
/// The longest link, in bytes.
const LONGEST_LINK: usize = 4096;
/// The longest secret, in bytes.
const LONGEST_SECRET: usize = 64 * 1024;
/// Problems of one file that are told; the rest would say the same.
const MOST_PROBLEMS: usize = 100;
/// 1973 in milliseconds, the year 5138 in seconds: what is below is in seconds.
const SURELY_SECONDS: f64 = 1e11;

/// What is wrong with a file, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Something is damaged.
    pub(super) fn note(&self, place: &str, message: impl Into<String>) {
        self.tell(place, message.into(), true);
    }

    fn tell(&self, place: &str, message: String, broken: bool) {
        let mut list = self.0.borrow_mut();
        if list.len() < MOST_PROBLEMS {
            list.push(Problem { place: place.to_owned(), message, broken });
        }
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// The fields of an object, and its place.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    place: String,
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, place: String, problems: &'a Problems) -> Self {
        Self { map: Some(map), place, problems }
    }

    /// An object without fields.
    pub(super) fn none(problems: &'a Problems) -> Self {
        Self { map: None, place: String::new(), problems }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// It is damaged.
    pub(super) fn note(&self, message: impl Into<String>) {
        self.problems.note(&self.place, message);
    }

    /// It is whole, and lessor has no use for it.
    pub(super) fn pass_over(&self, message: impl Into<String>) {
        self.problems.tell(&self.place, message.into(), false);
    }

    /// What is there; `null` is nothing.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// The names of all fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.into_iter().flat_map(|map| map.keys().map(String::as_str))
    }

    fn place_of(&self, name: &str) -> String {
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        if self.place.is_empty() { name } else { format!("{}.{name}", self.place) }
    }

    fn wrong(&self, name: &str, message: &str) {
        self.problems.note(&self.place_of(name), message);
    }

    /// A text for people.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) => {
                self.wrong(name, "is left out: it is over 256 bytes, or holds control characters");
                None
            }
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(name, "is left out: it is no text");
                None
            }
        }
    }

    /// A text that was written for people, made into one line of bearable length.
    pub(super) fn prose(&self, name: &str) -> Option<String> {
        let text = self.value(name)?.as_str()?;
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
        Some(line.trim().to_owned()).filter(|line| !line.is_empty())
    }

    /// A link that can be opened; half of one could not.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let text = self.value(name)?.as_str().filter(|text| !text.is_empty())?;
        let fits = text.len() <= LONGEST_LINK && text.starts_with("https://");
        if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.wrong(name, "is left out: it is no https link, or over 4 KiB");
            return None;
        }
        Some(text.to_owned())
    }

    /// A key or token.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if is_secret(text) => Some(Secret::new(text.clone())),
            Value::String(_) => {
                self.wrong(name, "is no token: it is over 64 KiB, or holds blanks or control characters");
                None
            }
            _ => {
                self.wrong(name, "is no text");
                None
            }
        }
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64().filter(|number| number.is_finite())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => {
                self.wrong(name, "is left out: it is neither true nor false");
                None
            }
        }
    }

    /// An instant: milliseconds, seconds, or RFC 3339.
    pub(super) fn instant(&self, name: &str) -> Option<Wall> {
        let value = self.value(name)?;
        let instant = instant(value);
        let empty = value.as_str() == Some("") || value.as_f64() == Some(0.0);
        if instant.is_none() && !empty {
            self.wrong(name, "is left out: it is no instant");
        }
        instant
    }

    pub(super) fn object(&self, name: &str) -> Option<Self> {
        match self.value(name)? {
            Value::Object(map) => Some(Self::new(map, self.place_of(name), self.problems)),
            _ => {
                self.wrong(name, "is left out: it is no object");
                None
            }
        }
    }

    /// The objects of a list; others are noted.
    pub(super) fn objects(&self, name: &str) -> Vec<Self> {
        match self.value(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => objects(list, &self.place_of(name), self.problems),
            Some(_) => {
                self.wrong(name, "is left out: it is no list");
                Vec::new()
            }
        }
    }
}

/// The objects of a list; others are noted.
pub(super) fn objects<'a>(list: &'a [Value], place: &str, problems: &'a Problems) -> Vec<Fields<'a>> {
    if list.len() > MOST_ENTRIES {
        problems.note(place, format!("has {} entries; those after the first {MOST_ENTRIES} are left out", list.len()));
    }
    let mut found = Vec::new();
    for (number, value) in list.iter().take(MOST_ENTRIES).enumerate() {
        let place = format!("{place}[{number}]");
        match value {
            Value::Object(map) => found.push(Fields::new(map, place, problems)),
            _ => problems.note(&place, "is left out: it is no object"),
        }
    }
    found
}

/// Whether a text can be a key or token.
pub(super) fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_SECRET && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// An instant: milliseconds, seconds, or RFC 3339; `None` before 1970, at its first moment and when it is none.
pub(super) fn instant(value: &Value) -> Option<Wall> {
    match value {
        Value::String(text) => limits::epoch_ms(text).map(Wall),
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.is_finite() && *number >= 1.0)?;
            let millis = if number < SURELY_SECONDS { number * 1000.0 } else { number };
            // up to 2⁵³ every number of milliseconds is exact; later ones are as good as never
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is positive")]
            Some(Wall(millis as u64))
        }
        _ => None,
    }
}
