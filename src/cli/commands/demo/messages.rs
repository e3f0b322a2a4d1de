//! What the simulated provider answers: the Messages API, in one piece or as a stream, with a text that does not depend
//! on the question.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// The model of a request that names none, and the one that the provider lists.
const MODEL: &str = "claude-sonnet-4-5";
const TEXT: &str = "Hello from the demo.";
const INPUT_TOKENS: u64 = 12;
const OUTPUT_TOKENS: u64 = 6;
/// The longest request body that is read.
pub(super) const LONGEST: usize = 16 * 1024 * 1024;

/// The part of a request that the answer depends on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageRequest {
    model: Option<String>,
    stream: bool,
}

impl MessageRequest {
    /// Of a request body; one that is not understood gets the answer in one piece.
    pub(super) fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// The answer to the request with this number.
    pub(super) fn answer(&self, number: u64) -> Response<Full<Bytes>> {
        let whole = json!({
            "id": format!("msg_demo{number}"),
            "type": "message",
            "role": "assistant",
            "model": self.model.as_deref().unwrap_or(MODEL),
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "stop_sequence": null,
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
        });
        if !self.stream {
            return respond(StatusCode::OK, &[], whole.to_string());
        }
        let events: String = stream_of(whole)
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
            .collect();
        typed(StatusCode::OK, "text/event-stream", &[], events)
    }
}

/// The events that a message is streamed as.
fn stream_of(mut message: Value) -> [Value; 6] {
    let usage = message["usage"].take();
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"] = json!({"input_tokens": INPUT_TOKENS, "output_tokens": 1});
    [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": usage["output_tokens"]},
        }),
        json!({"type": "message_stop"}),
    ]
}

/// The answer to a request that only reads, such as the check of a credential.
pub(super) fn models() -> Response<Full<Bytes>> {
    let model = json!({
        "type": "model", "id": MODEL, "display_name": "Demo", "created_at": "2025-09-29T00:00:00Z",
    });
    respond(StatusCode::OK, &[], json!({"data": [model], "has_more": false}).to_string())
}

/// The answer to a request that asks how long its prompt is.
pub(super) fn token_count() -> Response<Full<Bytes>> {
    respond(StatusCode::OK, &[], json!({"input_tokens": INPUT_TOKENS}).to_string())
}

/// A refusal.
pub(super) fn refusal(status: StatusCode, headers: &[(&str, &str)], kind: &str, why: &str) -> Response<Full<Bytes>> {
    let body = json!({"type": "error", "error": {"type": kind, "message": why}});
    respond(status, headers, body.to_string())
}

fn respond(status: StatusCode, headers: &[(&str, &str)], body: String) -> Response<Full<Bytes>> {
    typed(status, "application/json", headers, body)
}

fn typed(status: StatusCode, kind: &str, headers: &[(&str, &str)], body: String) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status).header("content-type", kind);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body_of(response: Response<Full<Bytes>>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn a_request_gets_its_model_back_in_one_piece_or_as_a_stream() {
        let whole = body_of(MessageRequest::of(br#"{"model":"m","stream":false,"messages":[]}"#).answer(3));
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!((&whole["model"], &whole["content"][0]["text"]), (&json!("m"), &json!(TEXT)));
        let streamed = MessageRequest::of(br#"{"model":"m","stream":true}"#).answer(4);
        assert_eq!(streamed.headers()["content-type"], "text/event-stream");
        let streamed = body_of(streamed);
        let events: Vec<&str> = streamed.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!((events.len(), events[0], events[5]), (6, "message_start", "message_stop"));
        assert!(streamed.contains(TEXT) && streamed.contains("\"model\":\"m\""), "{streamed}");
    }

    #[test]
    fn a_body_that_is_not_understood_gets_an_answer_in_one_piece() {
        for body in [&b""[..], b"{", b"[1]", b"{\"stream\":3}"] {
            assert!(body_of(MessageRequest::of(body).answer(1)).contains(MODEL));
        }
    }
}
