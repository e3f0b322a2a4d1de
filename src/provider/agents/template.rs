//! The table's texts, filled in.

use serde_json::Value;

use super::Handed;

/// How much of a key the vendor's program keeps of one that was approved.
const TAIL: usize = 20;

/// What the places in a text stand for.
pub(super) struct Filling<'a> {
    handed: &'a Handed<'a>,
    /// The provider's name as a variable begins with it.
    name: String,
}

impl<'a> Filling<'a> {
    pub(super) fn new(handed: &'a Handed<'a>) -> Self {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        Self { handed, name: handed.provider.chars().map(letter).collect() }
    }

    /// A text with its places filled; `None` when one of them is not known.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            // a brace that opens no place is one
            match after.split_once('}').and_then(|(place, after)| Some((self.value(place)?, after))) {
                Some((value, after)) => {
                    filled.push_str(&value?);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Some(filled)
    }

    /// A file's content: JSON if it is some, else a text.
    pub(super) fn file(&self, text: &str) -> Option<String> {
        if text.starts_with('{') { self.json(text).map(|value| value.to_string()) } else { self.text(text) }
    }

    /// JSON with its texts filled; members that are not known are left out, and a time is a number.
    pub(super) fn json(&self, text: &str) -> Option<Value> {
        self.filled(serde_json::from_str(text).ok()?)
    }

    fn filled(&self, value: Value) -> Option<Value> {
        Some(match value {
            Value::String(text) if text == "{expires}" => self.handed.expires_at?.into(),
            Value::String(text) => self.text(&text)?.into(),
            Value::Array(items) => items.into_iter().filter_map(|item| self.filled(item)).collect(),
            Value::Object(members) => {
                members.into_iter().filter_map(|(name, member)| Some((name, self.filled(member)?))).collect()
            }
            plain => plain,
        })
    }

    /// What a place stands for: `None` when there is no such place, `Some(None)` when it is not known.
    #[expect(clippy::option_option, reason = "no such place, or one that is not known")]
    fn value(&self, place: &str) -> Option<Option<String>> {
        let handed = self.handed;
        Some(match place {
            "base" => handed.base.map(str::to_owned),
            "key" => Some(handed.key.to_owned()),
            "dir" => Some(handed.directory.to_owned()),
            "NAME" => Some(self.name.clone()),
            "tail" => Some(tail(handed.key).to_owned()),
            "project" => handed.project.map(str::to_owned),
            "expires" => handed.expires_at.map(|at| at.to_string()),
            _ => return None,
        })
    }
}

fn tail(key: &str) -> &str {
    let from = key.len().saturating_sub(TAIL);
    key.get(from..).unwrap_or(key)
}
