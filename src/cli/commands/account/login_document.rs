//! A login as JSON, for `account add --oauth-stdin`.
//!
//! It is not read with serde's derive, whose error messages quote the input, which may be a token.

use serde_json::{Map, Value};

use crate::{cli::ui::account::parse_tier, credential::claims::LoginClaims, limits::rfc3339, pool::Tier, pool::Wall};

#[derive(PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct LoginDocument {
    pub(super) access_token: String,
    pub(super) refresh_token: String,
    /// In ms since 1970.
    pub(super) expires_at: u64,
    /// What the tokens say about the login.
    pub(super) claims: LoginClaims,
    /// The id of the OAuth client that made the login.
    pub(super) client_id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) tier: Option<Tier>,
    pub(super) account_id: Option<String>,
    pub(super) person_id: Option<String>,
    pub(super) organization_id: Option<String>,
    pub(super) organization: Option<String>,
}

const FIELDS: [&str; 12] = [
    "access_token",
    "refresh_token",
    "id_token",
    "expires_at",
    "email",
    "project_id",
    "tier",
    "account_id",
    "person_id",
    "organization_id",
    "organization",
    "client_id",
];
/// The year 1973 in ms, or 5138 in seconds: a smaller number is in seconds.
const MIN_MILLIS: u64 = 100_000_000_000;

/// Parses a login; the error does not quote any value.
pub(super) fn parse(text: &str) -> Result<LoginDocument, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut fields) = value else {
        return Err("a JSON object is expected: {\"access_token\":…,\"refresh_token\":…,\"expires_at\":…}".to_owned());
    };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(30).collect();
        return Err(format!("unknown field `{unknown}`; the known fields are {}", FIELDS.join(", ")));
    }
    let access_token = required(&mut fields, "access_token")?;
    let claims = LoginClaims::of(&access_token, optional(&mut fields, "id_token")?.as_deref());
    Ok(LoginDocument {
        access_token,
        refresh_token: required(&mut fields, "refresh_token")?,
        expires_at: instant(fields.remove("expires_at"), claims.expires_at)?,
        claims,
        client_id: optional(&mut fields, "client_id")?,
        email: optional(&mut fields, "email")?,
        project_id: optional(&mut fields, "project_id")?,
        tier: optional(&mut fields, "tier")?.map(|text| parse_tier(&text)).transpose()?,
        account_id: optional(&mut fields, "account_id")?,
        person_id: optional(&mut fields, "person_id")?,
        organization_id: optional(&mut fields, "organization_id")?,
        organization: optional(&mut fields, "organization")?,
    })
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    let text = optional(fields, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("`{name}` is empty or contains blanks or line breaks"));
    }
    Ok(text)
}

fn optional(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` must be a string")),
    }
}

/// A time; the one that the access token names, if the document names none.
fn instant(value: Option<Value>, claimed: Option<Wall>) -> Result<u64, String> {
    let expected = "a time in epoch milliseconds, or as 2026-03-04T05:06:07Z";
    match value {
        None | Some(Value::Null) => {
            claimed.map(|at| at.0).ok_or_else(|| format!("`expires_at` is missing: {expected}"))
        }
        Some(Value::Number(number)) => match number.as_u64() {
            Some(seconds) if seconds < MIN_MILLIS => {
                Err("`expires_at` seems to be in seconds; it must be in milliseconds".to_owned())
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
    fn a_complete_login_is_parsed() {
        let text = r#"{"access_token":"a","refresh_token":"r","expires_at":1790000000000,"email":"a@b.c",
            "project_id":"p","tier":"pro","account_id":"v"}"#;
        let login = parse(text).unwrap();
        assert_eq!((login.expires_at, login.tier), (1_790_000_000_000, Some(Tier::Pro)));
        assert_eq!((login.email.as_deref(), login.account_id.as_deref()), (Some("a@b.c"), Some("v")));
        let text = r#"{"access_token":"a","refresh_token":"r","expires_at":"2026-09-21T14:13:20Z","email":null}"#;
        assert_eq!(parse(text).unwrap().expires_at, 1_790_000_000_000);
    }

    #[test]
    fn what_the_document_leaves_out_is_taken_from_the_tokens() {
        // {"exp":1790000000,"client_id":"app_1"} and {"email":"a@b.c","sub":"1"}
        let access = "e30.eyJleHAiOjE3OTAwMDAwMDAsImNsaWVudF9pZCI6ImFwcF8xIn0.FAKE";
        let identity = "e30.eyJlbWFpbCI6ImFAYi5jIiwic3ViIjoiMSJ9.FAKE";
        let text = format!(r#"{{"access_token":"{access}","refresh_token":"r","id_token":"{identity}"}}"#);
        let login = parse(&text).unwrap();
        assert_eq!((login.expires_at, login.claims.client_id.as_deref()), (1_790_000_000_000, Some("app_1")));
        assert_eq!((login.claims.email.as_deref(), login.claims.person.as_deref()), (Some("a@b.c"), Some("1")));
    }

    #[test]
    fn errors_name_the_field_and_never_quote_a_value() {
        for (text, part) in [
            ("sk-canary", "not JSON"),
            ("\"sk-canary\"", "a JSON object"),
            (r#"{"access_token":"sk-canary"}"#, "`refresh_token` is missing"),
            (r#"{"access_token":["sk-canary"]}"#, "`access_token` must be a string"),
            (r#"{"access_token":"sk-canary","refresh_token":"","expires_at":1}"#, "`refresh_token` is empty"),
            (r#"{"access_token":"sk-canary","refresh_token":"r"}"#, "`expires_at` is missing"),
            (r#"{"access_token":"sk-canary","refresh_token":"r","expires_at":1790000000}"#, "seconds"),
            (r#"{"access_token":"sk-canary","refresh_token":"r","expires_at":"sk-canary"}"#, "or as 2026"),
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
