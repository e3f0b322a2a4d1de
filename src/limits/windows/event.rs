//! What an event of a stream says of the account's quota, in the form of the headers that say the same over HTTP.

use memchr::memmem;
use serde_json::{Map, Value};

use crate::limits::body::lenient_json;
use crate::limits::response::Headers;

/// A longer event is content, in bytes.
const LONGEST_EVENT: usize = 64 * 1024;
/// The event in which a ChatGPT plan's windows come, where a response has no headers of its own.
const RATE_LIMITS: &str = "codex.rate_limits";

/// The headers about limits that an event stands for: those of the plan's windows in `codex.rate_limits`, and those
/// that another event has in an object `headers`. `None` if it says nothing of limits.
#[must_use]
pub fn limit_headers_of_event(data: &[u8]) -> Option<Headers> {
    let may_tell = |mark: &str| memmem::find(data, mark.as_bytes()).is_some();
    if data.len() > LONGEST_EVENT || !(may_tell("\"codex.rate_limits\"") || may_tell("\"headers\"")) {
        return None;
    }
    let Value::Object(event) = lenient_json(std::str::from_utf8(data).ok()?.trim()).ok()? else { return None };
    let mut headers = Headers::default();
    if event.get("type").and_then(Value::as_str) == Some(RATE_LIMITS) {
        add_windows(&event, &mut headers);
    }
    let of_response = event.get("response").and_then(|response| response.get("headers"));
    for named in [event.get("headers"), of_response].into_iter().flatten().filter_map(Value::as_object) {
        for (name, value) in named {
            headers.add(name, plain(value).unwrap_or_default().as_bytes());
        }
    }
    let is_empty = headers.iter().next().is_none();
    (!is_empty).then_some(headers)
}

/// Adds the windows and the credits of the event.
fn add_windows(event: &Map<String, Value>, headers: &mut Headers) {
    let name = ["metered_limit_name", "limit_name"].into_iter().find_map(|name| event.get(name)?.as_str());
    let family = name.map(|name| name.trim().to_ascii_lowercase().replace('_', "-")).filter(|name| !name.is_empty());
    let family = family.as_deref().unwrap_or("codex");
    for slot in ["primary", "secondary"] {
        let window = event.get("rate_limits").and_then(|limits| limits.get(slot));
        for field in ["used_percent", "window_minutes", "reset_after_seconds", "reset_at"] {
            if let Some(value) = window.and_then(|window| window.get(field)).and_then(plain) {
                headers.add(&format!("x-{family}-{slot}-{}", field.replace('_', "-")), value.as_bytes());
            }
        }
    }
    for field in ["has_credits", "unlimited"] {
        if let Some(value) = event.get("credits").and_then(|credits| credits.get(field)).and_then(plain) {
            headers.add(&format!("x-codex-credits-{}", field.replace('_', "-")), value.as_bytes());
        }
    }
}

/// A value as a header has it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::windows;

    const NOW: u64 = 1_789_997_600_000;

    #[test]
    fn windows_in_an_event_are_those_of_the_headers() {
        let event = br#"{"type":"codex.rate_limits","plan_type":"plus","rate_limits":{"allowed":true,
            "primary":{"used_percent":42.5,"window_minutes":300,"reset_at":1789997700},
            "secondary":{"used_percent":100,"window_minutes":10080,"reset_after_seconds":50}},
            "credits":{"has_credits":true,"unlimited":false,"balance":"3"}}"#;
        let headers = limit_headers_of_event(event).unwrap();
        let read = windows::read(&headers, NOW).into_iter();
        let read: Vec<_> =
            read.map(|of| (of.name, of.utilization, of.resets_at.map(|at| at - NOW), of.spent)).collect();
        assert_eq!(
            read,
            [("5h".to_owned(), Some(0.425), Some(100_000), false), ("7d".to_owned(), Some(1.0), Some(50_000), true)]
        );
        assert_eq!(headers.get("x-codex-credits-has-credits"), Some("true"));
        let further = br#"{"type":"codex.rate_limits","metered_limit_name":"codex_spark","rate_limits":{"primary":{"used_percent":3}}}"#;
        let headers = limit_headers_of_event(further).unwrap();
        assert_eq!(headers.get("x-codex-spark-primary-used-percent"), Some("3"));
    }

    #[test]
    fn headers_within_an_event_are_read_and_content_is_not() {
        let event = br#"{"type":"response.created","response":{"headers":{"x-codex-primary-used-percent":7,"set-cookie":"x"}}}"#;
        let headers = limit_headers_of_event(event).unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x-codex-primary-used-percent", "7")]);
        for event in [
            r#"{"type":"response.output_text.delta","delta":"\"codex.rate_limits\" \"headers\""}"#,
            r#"{"type":"codex.rate_limits","rate_limits":null}"#,
            r#"["codex.rate_limits","headers"]"#,
            r#"{"type":"x","headers":{"content-type":"text"}}"#,
            "codex.rate_limits",
        ] {
            assert_eq!(limit_headers_of_event(event.as_bytes()), None, "{event}");
        }
    }
}
