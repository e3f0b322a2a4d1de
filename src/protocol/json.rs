//! JSON-RPC 2.0, one message per line.

mod lease_answer;
mod plain_call;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MAX_MESSAGE;
use super::answer::{Answer, Empty, EventInfo, LeaseInfo};
use super::call::Call;
use super::error::{ErrorInfo, ErrorKind, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR};
use super::message::{Incoming, RequestId};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    /// Absent in a notification; `null` is an id like any other.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Notification<'a, P> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a P,
}

/// The value, even if it is `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

pub(super) use plain_call::parse as parse_plain;

pub(super) fn parse(line: &[u8]) -> Incoming {
    // serde would also accept a list for a structure
    if !line.trim_ascii_start().starts_with(b"{") {
        return no_object(line);
    }
    let envelope: Envelope<'_> = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(error) => return not_a_call(line, &error),
    };
    let id = envelope.id.map(request_id);
    let fail = |code, message: String| Err(ErrorInfo::malformed(code, message));
    let nothing = RawValue::NULL;
    let params = envelope.params.unwrap_or(nothing);
    let call = if envelope.jsonrpc != "2.0" {
        fail(INVALID_REQUEST, "`jsonrpc` must be \"2.0\"".into())
    } else if id.as_ref().is_some_and(is_composite) {
        fail(INVALID_REQUEST, "`id` must be a string, a number or null".into())
    } else {
        match params.get().as_bytes().first() {
            Some(b'{') => parse_call(&envelope.method, params),
            // omitted or null: no parameters
            Some(b'n') => serde_json::from_str::<&RawValue>("{}")
                .map_err(|error| ErrorInfo::malformed(INVALID_PARAMS, error.to_string()))
                .and_then(|none| parse_call(&envelope.method, none)),
            _ => fail(INVALID_PARAMS, "`params` must be an object".into()),
        }
    };
    Incoming { id, call }
}

fn parse_call(method: &str, params: &RawValue) -> Result<Call, ErrorInfo> {
    match Call::parse(method, params) {
        Some(Ok(call)) => Ok(call),
        Some(Err(error)) => {
            let text = without_place(&error);
            let place = parameter_at(params, &error).map(|name| format!("`{name}`: ")).unwrap_or_default();
            Err(ErrorInfo::malformed(INVALID_PARAMS, format!("{method}: {place}{text}")))
        }
        None => Err(ErrorInfo::malformed(METHOD_NOT_FOUND, format!("unknown method {method:?}"))
            .hint(format!("methods: {}", Call::METHODS.join(", ")))),
    }
}

/// The error for a line that is not JSON, or is JSON but not a call; its id is repeated if it can be read.
fn not_a_call(line: &[u8], error: &serde_json::Error) -> Incoming {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_slice::<OnlyId<'_>>(line).ok().and_then(|only| only.id).map(request_id);
    let error = if is_json(line) {
        ErrorInfo::malformed(INVALID_REQUEST, format!("not a JSON-RPC 2.0 call: {}", without_place(error)))
    } else {
        ErrorInfo::malformed(PARSE_ERROR, format!("not JSON: {error}"))
    };
    Incoming { id: Some(id.unwrap_or(RequestId::Json("null".into()))), call: Err(error) }
}

/// The id of a call of which only the beginning is known.
pub(super) fn id_of_beginning(line: &[u8]) -> Option<RequestId> {
    /// Keeps the id, and stops there.
    struct FindId<'a>(&'a mut Option<RequestId>);
    impl<'de> serde::de::Visitor<'de> for FindId<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a call")
        }
        fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                let value: &RawValue = map.next_value()?;
                if key == "id" {
                    // a number at the very end may go on
                    map.next_key::<serde::de::IgnoredAny>()?;
                    *self.0 = Some(request_id(value)).filter(|id| !is_composite(id));
                    return Ok(());
                }
            }
            Ok(())
        }
    }
    let mut found = None;
    // it ends in the middle of the call
    let _incomplete =
        serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_slice(line), FindId(&mut found));
    found
}

/// Whether an id is an object or a list.
fn is_composite(id: &RequestId) -> bool {
    matches!(id, RequestId::Json(text) if text.starts_with(['{', '[']))
}

fn no_object(line: &[u8]) -> Incoming {
    let error = if !is_json(line) {
        ErrorInfo::malformed(PARSE_ERROR, "not JSON")
    } else if line.trim_ascii_start().starts_with(b"[") {
        ErrorInfo::malformed(INVALID_REQUEST, "batches are not supported; send one message per line")
    } else {
        ErrorInfo::malformed(INVALID_REQUEST, "a call must be an object")
    };
    Incoming { id: Some(RequestId::Json("null".into())), call: Err(error) }
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_ok()
}

/// The parameter whose value is not valid; `None` when the error is about a name, which the message contains.
fn parameter_at(params: &RawValue, error: &serde_json::Error) -> Option<String> {
    let names = ["unknown field", "missing field", "duplicate field"];
    let text = error.to_string();
    if names.iter().any(|kind| text.starts_with(kind)) {
        return None;
    }
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(params.get()).ok()?;
    let begins_at = |value: &RawValue| value.get().as_ptr().addr() - params.get().as_ptr().addr();
    // a message has one line, so that a column is a position in it
    let before = values.into_iter().filter(|(_, value)| begins_at(value) < error.column());
    before.max_by_key(|(_, value)| begins_at(value)).map(|(name, _)| name)
}

/// The message without serde's "at line 1 column 7", which refers to a part of the line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

pub(super) fn request_id(raw: &RawValue) -> RequestId {
    let text = raw.get();
    // only a text that prints the same again is read as a number
    match text.parse::<u64>() {
        Ok(number) if text.len() == 1 || !text.starts_with(['0', '+']) => RequestId::Number(number),
        _ => RequestId::Json(text.into()),
    }
}

/// Appends a call as a line; a notification has no id.
///
/// # Errors
/// When it is larger than a message may be.
pub(super) fn encode_call(id: Option<&RequestId>, call: &Call, out: &mut Vec<u8>) -> Result<(), ErrorInfo> {
    let start = out.len();
    match id {
        Some(id) => begin(id, b"", out),
        None => out.extend_from_slice(b"{\"jsonrpc\":\"2.0\""),
    }
    out.extend_from_slice(b",\"method\":");
    value(call.method(), out);
    out.extend_from_slice(b",\"params\":");
    call.write_params(out);
    out.extend_from_slice(b"}\n");
    if out.len() - start > MAX_MESSAGE {
        out.truncate(start);
        let text = format!("a message must not be larger than {MAX_MESSAGE} bytes");
        return Err(ErrorInfo::new(ErrorKind::TooLarge, text));
    }
    Ok(())
}

pub(super) fn answer(id: &RequestId, answer: &Answer<'_>, out: &mut Vec<u8>) {
    begin(id, b",\"result\":", out);
    macro_rules! write_result {
        ($($variant:ident)*) => {
            match answer {
                // already a JSON document
                Answer::Config(document) => out.extend_from_slice(document.as_bytes()),
                Answer::Lease(info) => lease_answer::lease(info, out),
                Answer::Decision(info) => lease_answer::decision(info, out),
                Answer::Done(Empty {}) => out.extend_from_slice(b"{}"),
                $(Answer::$variant(result) => value(result, out),)*
            }
        };
    }
    write_result!(Hello Credential Leases Accounts Account Status Reloaded
        Imported Exported Forecast Explained GatewayAccess Rekeyed Restarting Checked GatewayKeys RevokedKey
        History Moved PageAccess StoredClient StoredClients UsedReset AgentSession
        PoolMember JoinToken PoolHosts PoolStatus EvictedHost RekeyedPool LeftPool PoolRules Migrated);
    out.extend_from_slice(b"}\n");
}

pub(super) fn lease(id: &RequestId, lease: &LeaseInfo<'_>, out: &mut Vec<u8>) {
    begin(id, b",\"result\":", out);
    lease_answer::lease(lease, out);
    out.extend_from_slice(b"}\n");
}

pub(super) fn refusal(id: &RequestId, error: &ErrorInfo, out: &mut Vec<u8>) {
    begin(id, b",\"error\":", out);
    value(error, out);
    out.extend_from_slice(b"}\n");
}

pub(super) fn event(event: &EventInfo, out: &mut Vec<u8>) {
    value(&Notification { jsonrpc: "2.0", method: "event", params: event }, out);
    out.push(b'\n');
}

fn begin(id: &RequestId, part: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    match id {
        RequestId::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        RequestId::Json(text) => out.extend_from_slice(text.as_bytes()),
    }
    out.extend_from_slice(part);
}

fn value(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // our own types have string keys and are written to memory: this cannot fail
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_parameter() {
        let message = |method: &str, params: &str| {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            parse(line.as_bytes()).call.unwrap_err().message
        };
        for (params, expected) in [
            (r#"{"provider":"p","model":5,"label":"l"}"#, "`model`: invalid type: integer `5`, expected a string"),
            (r#"{"provider":"p","only":"a"}"#, "`only`: invalid type: string \"a\", expected a sequence"),
            (r#"{"only": ["a", 7], "provider": "p"}"#, "`only`: invalid type: integer `7`, expected a string"),
            (r#"{"provider":"p","wait_ms":-1}"#, "`wait_ms`: invalid value: integer `-1`, expected u64"),
            (r#"{"provider":null}"#, "`provider`: invalid type: null, expected a string"),
            (r#"{"model":"m"}"#, "missing field `provider`"),
        ] {
            assert_eq!(message("lease.acquire", params), format!("lease.acquire: {expected}"));
        }
        let text = message("lease.report", r#"{"lease":"l","reason":"tired"}"#);
        assert!(text.starts_with("lease.report: `reason`: unknown variant `tired`"), "{text}");
        let text = message("lease.acquire", r#"{"provider":"p","waits":1}"#);
        assert!(text.starts_with("lease.acquire: unknown field `waits`"), "{text}");
    }
}
