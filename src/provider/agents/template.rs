//! Fills in the placeholders of the recipes.

use serde_json::Value;

use super::HandOutRequest;
use crate::pool::Tier;

/// How many last characters of an approved key the vendor's program stores.
const TAIL: usize = 20;
pub(super) struct TemplateValues<'a> {
    handed: &'a HandOutRequest<'a>,
    /// The provider's name as the prefix of a variable.
    name: String,
}

impl<'a> TemplateValues<'a> {
    pub(super) fn new(handed: &'a HandOutRequest<'a>) -> Self {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        Self { handed, name: handed.provider.chars().map(letter).collect() }
    }

    /// Whether a placeholder has a value.
    pub(super) fn has(&self, place: &str) -> bool {
        matches!(self.value(place), Some(Some(_)))
    }

    /// Fills in a text; `None` if a placeholder has no value.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            // a brace without a placeholder stays
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

    /// Fills in a file: JSON, or a plain text.
    pub(super) fn file(&self, text: &str) -> Option<String> {
        if text.starts_with('{') { self.json(text).map(|value| value.to_string()) } else { self.text(text) }
    }

    /// Fills in the strings of JSON. Members without a value are left out; the expiry becomes a number.
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

    /// The value of a placeholder: `None` if it is not one, `Some(None)` if it has no value.
    #[expect(clippy::option_option, reason = "not a placeholder, or one without a value")]
    fn value(&self, place: &str) -> Option<Option<String>> {
        let handed = self.handed;
        Some(match place {
            "base" => handed.base.map(str::to_owned),
            "secure_base" => handed.secure_base.map(str::to_owned),
            "socket" => handed.socket.map(str::to_owned),
            "ca_file" => handed.ca_file.map(str::to_owned),
            "ca_bundle" => handed.ca_bundle.map(str::to_owned),
            "websocket" => Some(handed.websocket.to_string()),
            "key" => Some(handed.key.to_owned()),
            "dir" => Some(handed.directory.to_owned()),
            "NAME" => Some(self.name.clone()),
            "tail" => Some(tail(handed.key).to_owned()),
            "plan" => plan_name(handed.provider, handed.tier).map(str::to_owned),
            "project" => handed.project.map(str::to_owned),
            // it may stand between quotes
            "account_id" => handed.account_id.filter(|id| id.bytes().all(is_plain)).map(str::to_owned),
            "now" => Some(handed.now.to_owned()),
            "expires" => handed.expires_at.map(|at| at.to_string()),
            _ => return None,
        })
    }
}

/// The plan in the word that the vendor's own program uses.
fn plan_name(provider: &str, tier: Tier) -> Option<&'static str> {
    const PLANS: [(&str, Tier, &str); 2] = [("anthropic", Tier::Ultra, "max"), ("anthropic", Tier::Pro, "pro")];
    PLANS.iter().find(|(of, at, _)| *of == provider && *at == tier).map(|(_, _, name)| *name)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn tail(key: &str) -> &str {
    let from = key.len().saturating_sub(TAIL);
    key.get(from..).unwrap_or(key)
}
