//! Errors inside an event stream that began with a success.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use super::json;

/// Longer events are content, not errors.
const LONGEST_EVENT: usize = 64 * 1024;

/// Words of which every error has one. Made once: most events are short.
static WORDS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new(b"error"), Finder::new(b"faile")]);

/// Whether an event of a stream is an error, by its name or its data.
#[must_use]
pub fn is_error_event(name: Option<&str>, data: &[u8]) -> bool {
    let named = name.is_some_and(|name| name.trim() == "error");
    named
        || (data.len() <= LONGEST_EVENT
            && may_be_error(data)
            && std::str::from_utf8(data).ok().and_then(read).is_some())
}

/// A quick filter: every error contains one of some words, and few other events do.
pub(in crate::limits) fn may_be_error(data: &[u8]) -> bool {
    WORDS.iter().any(|word| word.find(data).is_some())
}

/// The document of an event that is an error.
fn read(data: &str) -> Option<Value> {
    json::lenient(data.trim()).ok().filter(is_error)
}

/// Whether the document of a 2xx response is an error.
pub(in crate::limits) fn is_error(document: &Value) -> bool {
    let Value::Object(object) = document else {
        return document
            .as_array()
            .is_some_and(|list| list.first().is_some_and(|one| one.is_object() && is_error(one)));
    };
    let response = object.get("response").and_then(Value::as_object);
    matches!(text(object, "type"), Some("error" | "response.failed" | "response.error"))
        || failed(object)
        || response.is_some_and(failed)
}

/// Whether an object is or contains an error. A resource that has failed, such as a batch, is not an error of the
/// request.
fn failed(object: &Map<String, Value>) -> bool {
    let kind = text(object, "object");
    let stated = match object.get("error") {
        Some(Value::Object(error)) => error.values().any(|value| !value.is_null()),
        Some(Value::String(error)) => !error.is_empty(),
        _ => false,
    };
    match kind {
        None | Some("error" | "chat.completion" | "chat.completion.chunk" | "text_completion") => stated,
        Some("response") => stated || text(object, "status") == Some("failed"),
        Some(_) => false,
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// The first error in the text of an event stream.
pub(in crate::limits) fn first_error(text: &str) -> Option<Value> {
    let (mut name, mut data) = (None, String::new());
    for line in text.lines().chain([""]) {
        if let Some(value) = line.strip_prefix("event:") {
            name = Some(value.trim());
        } else if let Some(value) = line.strip_prefix("data:") {
            if data.len() + value.len() <= LONGEST_EVENT {
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
                data.push('\n');
            }
        } else if line.is_empty() && !data.is_empty() {
            if is_error_event(name, data.as_bytes()) {
                let document = json::lenient(data.trim()).ok();
                return Some(document.unwrap_or_else(|| Value::String(data.trim().to_owned())));
            }
            name = None;
            data.clear();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_distinguished_from_content() {
        for (name, data, expected) in [
            (None, r#"{"type":"response.created","response":{"error":null}}"#, false),
            (None, r#"{"type":"response.failed","response":{"status":"failed"}}"#, true),
            (None, r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded"}}}"#, true),
            (None, r#"{"error":{"message":"quota exceeded"}}"#, true),
            (None, r#"[{"error":{"code":429}}]"#, true),
            (None, r#"{"type":"response.output_text.delta","delta":"... \"error\" ..."}"#, false),
            (None, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, true),
            (Some("error"), "not json", true),
            (Some("message_start"), r#"{"type":"message_start"}"#, false),
            (None, r#"{"choices":[{"delta":{"content":"error"}}],"error":null}"#, false),
            (None, r#"{"candidates":[{"content":{"parts":[{"text":"fail"}]}}]}"#, false),
            (None, r#"{"id":"x","status":"completed","error":null}"#, false),
            (None, r#"{"error":""}"#, false),
            (None, r#"{"id":"b","object":"batch","status":"failed","error":{"code":"x"}}"#, false),
            (None, r#"{"object":"response","status":"failed","error":null}"#, true),
            (None, r#"{"object":"chat.completion.chunk","error":{"code":502,"message":"x"},"choices":[]}"#, true),
            (None, r#"{"error":{"code":null,"message":null}}"#, false),
            (None, "[DONE]", false),
            (None, "", false),
        ] {
            assert_eq!(is_error_event(name, data.as_bytes()), expected, "{name:?} {data}");
        }
        assert!(!is_error_event(None, b"\xff\"error\""));
    }

    #[test]
    fn the_first_error_of_a_stream() {
        let text = ": ping\n\nevent: response.created\ndata: {\"response\":{\"error\":null}}\n\n\
                    event: error\r\ndata: {\"error\":\r\ndata: {\"code\":\"slow_down\"}}\r\n\r\n";
        let found = first_error(text).unwrap();
        assert_eq!(found["error"]["code"], "slow_down");
        assert_eq!(first_error("data: {\"error\":{\"code\":1}}").unwrap()["error"]["code"], 1);
        assert_eq!(first_error("event: error\ndata: oops"), Some(Value::String("oops".into())));
        assert_eq!(first_error("data: {}\n\ndata: [DONE]\n\n"), None);
        assert_eq!(first_error(""), None);
    }
}
