//! The error codes of authorization servers, wherever their answers contain them.

use serde_json::Value;

/// The codes that say that a refresh token or code is no longer valid: the user must log in again.
const LOGIN_ENDED: [&str; 16] = [
    "invalid_grant",
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    "refresh_token_revoked",
    "refresh_token_invalid",
    "refresh_token_not_found",
    "invalid_refresh_token",
    "expired_refresh_token",
    "bad_refresh_token",
    "token_revoked",
    "token_expired",
    "app_session_terminated",
    "interaction_required",
    "login_required",
    "consent_required",
];
/// The codes that say that a client is not accepted for a login.
const CLIENT_REFUSED: [&str; 2] = ["unauthorized_client", "unsupported_grant_type"];
/// The codes that say that a client is not accepted.
const CLIENT_UNKNOWN: [&str; 2] = ["invalid_client", "deleted_client"];
/// The fields that contain codes.
const FIELDS: [&str; 9] =
    ["error", "code", "type", "error_code", "errorCode", "reason", "status", "error_subtype", "__type"];
/// The objects that contain errors.
const OBJECTS: [&str; 5] = ["error", "errors", "detail", "details", "data"];
/// How deep errors are nested at most.
const DEPTH: u32 = 6;

/// What an error code is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ErrorMeaning {
    /// The login, which has ended.
    LoginEnded,
    /// The OAuth client, which is not accepted for this login.
    ClientRefused,
    /// The OAuth client, which is not accepted.
    ClientUnknown,
    /// Something else, or the code is not known.
    Other,
}

pub(super) fn meaning(code: Option<&str>) -> ErrorMeaning {
    match code {
        Some(code) if LOGIN_ENDED.contains(&code) => ErrorMeaning::LoginEnded,
        Some(code) if CLIENT_REFUSED.contains(&code) => ErrorMeaning::ClientRefused,
        Some(code) if CLIENT_UNKNOWN.contains(&code) => ErrorMeaning::ClientUnknown,
        _ => ErrorMeaning::Other,
    }
}

/// The error code of an answer: `{"error":"…"}`, `{"error":{"code":"…"}}`, or nested otherwise. A code with a known
/// meaning precedes others.
pub(super) fn error_code(document: &Value) -> Option<String> {
    let mut found = Vec::new();
    collect(document, DEPTH, &mut found);
    let known = |wanted: ErrorMeaning| found.iter().find(|code| meaning(Some(code)) == wanted).cloned();
    known(ErrorMeaning::LoginEnded)
        .or_else(|| known(ErrorMeaning::ClientRefused))
        .or_else(|| known(ErrorMeaning::ClientUnknown))
        .or_else(|| found.iter().find(|code| *code != "error").cloned())
}

fn collect(value: &Value, depth: u32, found: &mut Vec<String>) {
    let Some(deeper) = depth.checked_sub(1) else { return };
    match value {
        Value::Object(fields) => {
            let texts = FIELDS.iter().filter_map(|name| fields.get(*name)?.as_str());
            for text in texts {
                match serde_json::from_str::<Value>(text) {
                    // an answer of another server, as text
                    Ok(inner) if inner.is_object() => collect(&inner, deeper, found),
                    _ => found.extend(code_of(text)),
                }
            }
            OBJECTS.iter().filter_map(|name| fields.get(*name)).for_each(|inner| collect(inner, deeper, found));
        }
        Value::Array(list) => list.iter().take(8).for_each(|inner| collect(inner, deeper, found)),
        _ => {}
    }
}

/// A server's error code, if it looks like one: a printed text must not be able to contain a token.
pub(super) fn code_of(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if meaning(Some(&lower)) != ErrorMeaning::Other {
        return Some(lower);
    }
    let is_code = |c: char| c.is_ascii_lowercase() || c == '_' || c == '-' || c == '.' || c.is_ascii_digit();
    let fits = !text.is_empty() && text.len() <= 48 && text.chars().all(is_code);
    // a code consists of letters; a token contains many digits
    let digits = text.chars().filter(char::is_ascii_digit).count();
    (fits && digits <= 3).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_every_form_of_an_answer() {
        for (text, code) in [
            (r#"{"error":"invalid_grant","error_description":"Token has been revoked."}"#, "invalid_grant"),
            (r#"{"error":{"code":"refresh_token_reused","type":"invalid_request_error"}}"#, "refresh_token_reused"),
            (r#"{"error":{"type":"invalid_request_error","code":"refresh_token_expired"}}"#, "refresh_token_expired"),
            (r#"{"type":"error","error":{"type":"invalid_grant","message":"…"}}"#, "invalid_grant"),
            (r#"{"error":{"error":"invalid_grant"}}"#, "invalid_grant"),
            (r#"{"error":{"code":400,"status":"INVALID_GRANT"}}"#, "invalid_grant"),
            (r#"{"code":"invalid_grant"}"#, "invalid_grant"),
            (r#"{"detail":{"error":{"code":"token_revoked"}}}"#, "token_revoked"),
            (r#"{"errors":[{"code":"x"},{"code":"invalid_refresh_token"}]}"#, "invalid_refresh_token"),
            (r#"{"error":"{\"error\":\"invalid_grant\"}"}"#, "invalid_grant"),
            (r#"{"error":"unauthorized_client","error_description":"Unauthorized"}"#, "unauthorized_client"),
            (r#"{"type":"error","error":{"type":"permission_error"}}"#, "permission_error"),
            (r#"{"error":"temporarily_unavailable"}"#, "temporarily_unavailable"),
        ] {
            let document = serde_json::from_str(text).unwrap();
            assert_eq!(error_code(&document).as_deref(), Some(code), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_codes_are_not_repeated() {
        let deep = format!("{}{}{}", r#"{"error":"#.repeat(50), r#""invalid_grant""#, "}".repeat(50));
        for text in
            [r#"{"error":"at-CANARY0123"}"#, r#"{"error":"a b"}"#, r#"{"message":"invalid_grant"}"#, "[]", &deep]
        {
            assert_eq!(error_code(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}
