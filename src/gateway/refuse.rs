//! What a client hears from the gateway itself, in the words that its provider's agents understand best.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::limits::Dialect;
use crate::pool::{Refusal, RefusalKind, Wall};

use super::reply::{self, Body};

/// Agents hang on longer ones.
const LONGEST_RETRY_AFTER: u64 = 60;
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const X_LESSOR_RETRY_AFTER: HeaderName = HeaderName::from_static("x-lessor-retry-after");

/// An error that the gateway itself has found.
pub(super) fn error(provider: &str, status: StatusCode, message: &str) -> Response<Body> {
    reply::json(status, &document(provider, status, message))
}

/// Nobody can serve the request; when somebody can again, if that is known.
pub(super) fn nobody(provider: &str, refusal: &Refusal, now: Wall) -> Response<Body> {
    let message = match &refusal.hint {
        Some(hint) => format!("lessor: {}; {hint}", refusal.message),
        None => format!("lessor: {}", refusal.message),
    };
    if matches!(refusal.kind, RefusalKind::ShuttingDown | RefusalKind::Overloaded) {
        return error(provider, StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let wait = refusal.retry_at.map(|at| at.since(now));
    let seconds = wait.map(|wait| wait.as_millis().div_ceil(1000).max(1) as u64);
    let document = match Dialect::of(provider) {
        Dialect::Anthropic => anthropic("rate_limit_error", &message),
        Dialect::Google => google_limit(&message, wait),
        Dialect::Openai | Dialect::Other => openai_limit(&message, refusal.retry_at, seconds),
    };
    let mut response = reply::json(StatusCode::TOO_MANY_REQUESTS, &document);
    let headers = response.headers_mut();
    // whoever tries again gets the same answer
    headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    if let Some(seconds) = seconds {
        headers.insert(X_LESSOR_RETRY_AFTER, seconds.into());
        if seconds <= LONGEST_RETRY_AFTER {
            headers.insert(RETRY_AFTER, seconds.into());
        }
    }
    response
}

fn document(provider: &str, status: StatusCode, message: &str) -> Value {
    match Dialect::of(provider) {
        Dialect::Anthropic => anthropic(anthropic_type(status), message),
        Dialect::Google => {
            json!({ "error": { "code": status.as_u16(), "message": message, "status": google_status(status) } })
        }
        Dialect::Openai | Dialect::Other => {
            json!({ "error": { "message": message, "type": openai_type(status), "param": null, "code": null } })
        }
    }
}

fn anthropic(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 426 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        503 => "overloaded_error",
        _ => "api_error",
    }
}

fn openai_type(status: StatusCode) -> &'static str {
    if status.is_server_error() { "server_error" } else { "invalid_request_error" }
}

fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        400..=499 => "INVALID_ARGUMENT",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    }
}

/// Codex shows the time, and does not ask again.
fn openai_limit(message: &str, at: Option<Wall>, seconds: Option<u64>) -> Value {
    let resets_at = at.map(|at| at.0.div_ceil(1000));
    json!({ "error": {
        "message": message, "type": "usage_limit_reached", "param": null, "code": "usage_limit_reached",
        "resets_at": resets_at, "resets_in_seconds": seconds,
    } })
}

/// Without a time it is one that nobody waits for.
fn google_limit(message: &str, wait: Option<Duration>) -> Value {
    let wait = wait.unwrap_or(Duration::from_secs(3600));
    let delay = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
    json!({ "error": {
        "code": 429, "message": message, "status": "RESOURCE_EXHAUSTED",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }],
    } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn read(response: Response<Body>) -> (u16, Vec<(String, String)>, Value) {
        let status = response.status().as_u16();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let headers = headers.filter(|(name, _)| name != "content-type").collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    fn limited(after_ms: Option<u64>) -> Refusal {
        Refusal {
            kind: RefusalKind::AllLimited,
            message: "every account is limited".into(),
            retry_at: after_ms.map(|after| Wall(1_000_000 + after)),
            accounts: Vec::new(),
            hint: None,
        }
    }

    #[test]
    fn each_agent_is_told_in_its_words_and_never_to_wait_long() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (status, headers, body) = read(nobody("anthropic", &limited(Some(7_200_001)), Wall(1_000_000)));
        assert_eq!((status, &body["error"]["type"]), (429, &json!("rate_limit_error")));
        assert_eq!(headers, [header("x-should-retry", "false"), header("x-lessor-retry-after", "7201")]);
        let (_, headers, body) = read(nobody("openai", &limited(Some(30_000)), Wall(1_000_000)));
        assert_eq!(
            (&body["error"]["type"], &body["error"]["resets_at"]),
            (&json!("usage_limit_reached"), &json!(1030))
        );
        assert!(headers.contains(&header("retry-after", "30")), "{headers:?}");
        let (_, headers, body) = read(nobody("google", &limited(Some(1_500)), Wall(1_000_000)));
        assert_eq!(body["error"]["details"][0]["retryDelay"], "1.500s");
        assert!(headers.contains(&header("x-lessor-retry-after", "2")), "{headers:?}");
        let (_, headers, _) = read(nobody("my-llm", &limited(None), Wall(1_000_000)));
        assert_eq!(headers, [header("x-should-retry", "false")]);
    }

    #[test]
    fn errors_have_the_providers_shape() {
        let (status, _, body) = read(error("anthropic", StatusCode::UNAUTHORIZED, "no"));
        assert_eq!(
            (status, body),
            (401, json!({ "type": "error", "error": { "type": "authentication_error", "message": "no" } }))
        );
        let (_, _, body) = read(error("google", StatusCode::PAYLOAD_TOO_LARGE, "no"));
        assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
        let (_, _, body) = read(error("openai", StatusCode::BAD_GATEWAY, "no"));
        assert_eq!(body["error"]["type"], "server_error");
    }
}
