//! What the messages in a socket say, as far as it matters here, and the error events of the gateway's own.

use std::borrow::Cow;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::limits::is_error_event;
use crate::provider::is_final_event;

/// A message of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClientMessage<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    /// The response that a turn continues.
    #[serde(borrow)]
    pub(super) previous_response_id: Option<Cow<'a, str>>,
    /// What a request over HTTP says in headers.
    client_metadata: Value,
}

impl<'a> ClientMessage<'a> {
    /// Reads a message; one that is no JSON object says nothing.
    pub(super) fn read(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// What it states in place of a header.
    pub(super) fn metadata(&self, name: &str) -> Option<&str> {
        self.client_metadata.get(name)?.as_str()
    }

    /// Whether it begins a turn.
    pub(super) fn begins_turn(&self) -> bool {
        self.kind.as_deref() == Some("response.create")
    }
}

/// Whether an event of an upstream is the last one of a turn.
pub(super) fn ends_turn(data: &[u8]) -> bool {
    let kind = event_type(data);
    is_final_event(Some(&kind), data) || kind == "response.cancelled" || is_error_event(None, data)
}

/// Whether an event says only that a turn has begun, or how much of a quota is used: an error may still follow it.
pub(super) fn is_preamble(data: &[u8]) -> bool {
    const TYPES: [&str; 4] = ["response.created", "response.in_progress", "response.queued", "codex.rate_limits"];
    TYPES.contains(&&*event_type(data))
}

/// The type of an event; empty if it has none.
fn event_type(data: &[u8]) -> Cow<'_, str> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct TypedEvent<'a> {
        #[serde(rename = "type", borrow)]
        kind: Option<Cow<'a, str>>,
    }
    // it usually comes first, and the rest of an event can be long
    const START: &[u8] = b"{\"type\":\"";
    let rest = data.strip_prefix(START);
    let first = rest.and_then(|rest| rest.split(|byte| *byte == b'"').next());
    if let Some(kind) = first.and_then(|kind| std::str::from_utf8(kind).ok()).filter(|kind| !kind.contains('\\')) {
        return kind.into();
    }
    serde_json::from_slice::<TypedEvent<'_>>(data).ok().and_then(|event| event.kind).unwrap_or_default()
}

/// The status that an error event states.
pub(super) fn stated_status(data: &[u8]) -> Option<u16> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct ErrorEvent {
        #[serde(alias = "status_code")]
        status: Option<Value>,
    }
    let event: ErrorEvent = serde_json::from_slice(data).ok()?;
    u16::try_from(event.status?.as_u64()?).ok().filter(|status| (400..600).contains(status))
}

/// An answer over HTTP as an error event: clients read its status, headers and error as those of the answer.
pub(super) fn error_event(status: u16, headers: &HeaderMap, body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = document.get("error").cloned().unwrap_or_else(
        || json!({ "type": "upstream_error", "message": String::from_utf8_lossy(&body[..body.len().min(2048)]) }),
    );
    let named = headers.iter().filter(|(name, _)| !["content-length", "content-type"].contains(&name.as_str()));
    let headers: Map<String, Value> =
        named.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into()))).collect();
    json!({ "type": "error", "status": status, "error": error, "headers": headers }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_and_what_it_continues_are_read() {
        for (text, begins, previous) in [
            (r#"{"type":"response.create","previous_response_id":"resp_1","input":[]}"#, true, Some("resp_1")),
            (r#"{"input":[{"type":"x"}],"previous_response_id":null,"type":"response.\u0063reate"}"#, true, None),
            (r#"{"type":"response.cancel"}"#, false, None),
            (r#"{"type":5}"#, false, None),
            ("", false, None),
            ("[]", false, None),
        ] {
            let message = ClientMessage::read(text);
            assert_eq!((message.begins_turn(), message.previous_response_id.as_deref()), (begins, previous), "{text}");
        }
    }

    #[test]
    fn the_last_event_of_a_turn_is_recognised() {
        for (event, expected) in [
            (r#"{"type":"response.completed","response":{}}"#, true),
            (r#"{ "response" : {"x":"y"}, "type" : "response.completed" }"#, true),
            (r#"{"type":"response.incomplete","response":{}}"#, true),
            (r#"{"type":"response.failed","response":{"error":{"code":"x"}}}"#, true),
            (r#"{"type":"response.cancelled","response":{}}"#, true),
            (r#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"}}"#, true),
            (r#"{"type":"response.output_text.delta","delta":"response.completed"}"#, false),
            (r#"{"type":"codex.rate_limits"}"#, false),
        ] {
            assert_eq!(ends_turn(event.as_bytes()), expected, "{event}");
        }
        assert_eq!(stated_status(br#"{"type":"error","status":429}"#), Some(429));
        assert_eq!(stated_status(br#"{"type":"error","status_code":503}"#), Some(503));
        assert_eq!(stated_status(br#"{"type":"error","status":"x"}"#), None);
    }

    #[test]
    fn an_answer_becomes_an_event() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", 7.into());
        headers.insert("content-type", "application/json".parse().unwrap());
        let read = |body: &[u8]| serde_json::from_str::<Value>(&error_event(429, &headers, body)).unwrap();
        let event = read(br#"{"error":{"type":"usage_limit_reached","resets_at":5}}"#);
        let expected = json!({ "type": "error", "status": 429, "headers": { "retry-after": "7" },
            "error": { "type": "usage_limit_reached", "resets_at": 5 } });
        assert_eq!(event, expected);
        assert_eq!(read(b"no document")["error"]["message"], "no document");
    }
}
