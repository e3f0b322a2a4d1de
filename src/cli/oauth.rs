//! A login as JSON, as `account add --oauth-stdin` reads it.
//!
//! Read by hand: the messages of a derived reader quote what they found, and that may be a token.

use serde_json::{Map, Value};

use crate::limits::rfc3339;
use crate::pool::Tier;

/// A login.
#[derive(PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Login {
    pub(super) access_token: String,
    pub(super) refresh_token: String,
    /// Epoch ms.
    pub(super) expires_at: u64,
    pub(super) email: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) tier: Option<Tier>,
    pub(super) account_id: Option<String>,
}

const FIELDS: [&str; 7] = ["access_token", "refresh_token", "expires_at", "email", "project_id", "tier", "account_id"];
/// 1973 in milliseconds, the year 5138 in seconds: what is below was meant as seconds.
const SURELY_SECONDS: u64 = 100_000_000_000;

/// Reads a login; the error says what is wrong, and quotes nothing.
pub(super) fn parse(text: &str) -> Result<Login, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut fields) = value else {
        return Err("a JSON object is expected: {\"access_token\":…,\"refresh_token\":…,\"expires_at\":…}".to_owned());
    };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(30).collect();
        return Err(format!("unknown field `{unknown}`; known are {}", FIELDS.join(", ")));
    }
    Ok(Login {
        access_token: required(&mut fields, "access_token")?,
        refresh_token: required(&mut fields, "refresh_token")?,
        expires_at: instant(fields.remove("expires_at"))?,
        email: optional(&mut fields, "email")?,
        project_id: optional(&mut fields, "project_id")?,
        tier: optional(&mut fields, "tier")?.map(|text| tier(&text)).transpose()?,
        account_id: optional(&mut fields, "account_id")?,
    })
}

/// A plan by its name.
pub(super) fn tier(text: &str) -> Result<Tier, String> {
    match text {
        "ultra" => Ok(Tier::Ultra),
        "pro" => Ok(Tier::Pro),
        "free" => Ok(Tier::Free),
        "unknown" => Ok(Tier::Unknown),
        _ => Err("the tier may be ultra, pro, free or unknown".to_owned()),
    }
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    let text = optional(fields, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("`{name}` is empty, or has blanks or line breaks in it"));
    }
    Ok(text)
}

fn optional(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` must be a text")),
    }
}

fn instant(value: Option<Value>) -> Result<u64, String> {
    let expected = "epoch milliseconds, or an instant such as 2026-03-04T05:06:07Z";
    match value {
        None | Some(Value::Null) => Err(format!("`expires_at` is missing: {expected}")),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(seconds) if seconds < SURELY_SECONDS => {
                Err("`expires_at` looks like seconds; it is in milliseconds".to_owned())
            }
            Some(millis) => Ok(millis),
            None => Err(format!("`expires_at` must be {expected}")),
        },
        Some(Value::String(text)) => rfc3339(&text).ok_or_else(|| format!("`expires_at` must be {expected}")),
        Some(_) => Err(format!("`expires_at` must be {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_login_is_read() {
        let text = r#"{"access_token":"a","refresh_token":"r","expires_at":1790000000000,"email":"a@b.c",
            "project_id":"p","tier":"pro","account_id":"v"}"#;
        let login = parse(text).unwrap();
        assert_eq!((login.expires_at, login.tier), (1_790_000_000_000, Some(Tier::Pro)));
        assert_eq!((login.email.as_deref(), login.account_id.as_deref()), (Some("a@b.c"), Some("v")));
        let text = r#"{"access_token":"a","refresh_token":"r","expires_at":"2026-09-21T14:13:20Z","email":null}"#;
        assert_eq!(parse(text).unwrap().expires_at, 1_790_000_000_000);
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_is_quoted() {
        for (text, part) in [
            ("sk-canary", "not JSON"),
            ("\"sk-canary\"", "a JSON object"),
            (r#"{"access_token":"sk-canary"}"#, "`refresh_token` is missing"),
            (r#"{"access_token":["sk-canary"]}"#, "`access_token` must be a text"),
            (r#"{"access_token":"sk-canary","refresh_token":"","expires_at":1}"#, "`refresh_token` is empty"),
            (r#"{"access_token":"sk-canary","refresh_token":"r"}"#, "`expires_at` is missing"),
            (r#"{"access_token":"sk-canary","refresh_token":"r","expires_at":1790000000}"#, "seconds"),
            (r#"{"access_token":"sk-canary","refresh_token":"r","expires_at":"sk-canary"}"#, "an instant such as"),
            (r#"{"access_token":"sk-canary","refresh_token":"r","expires_at":-5}"#, "epoch milliseconds"),
            (r#"{"access_token":"a","refresh_token":"r","expires_at":1790000000000,"tier":"sk-canary"}"#, "ultra"),
            (r#"{"acess_token":"sk-canary"}"#, "unknown field `acess_token`"),
            (r#"{"access_token":"sk-ca\nnary","refresh_token":"r","expires_at":1}"#, "line breaks"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
