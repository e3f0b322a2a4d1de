//! The gateway's own errors, in the shape that the provider's agents understand.

use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::response::{self, ClientBody};
use crate::pool::{Refusal, RefusalKind, Wall};
use crate::provider::{LimitReset, error_body, limit_body};

/// Agents hang when `retry-after` names more seconds than this.
const MAX_RETRY_AFTER: u64 = 60;
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const X_LESSOR_RETRY_AFTER: HeaderName = HeaderName::from_static("x-lessor-retry-after");

pub(super) fn error(provider: &str, status: StatusCode, message: &str) -> Response<ClientBody> {
    response::json(status, &error_body(provider, status.as_u16(), message))
}

/// The request has no valid key; the message does not tell a wrong key from a missing one.
pub(super) fn unauthorized(provider: &str) -> Response<ClientBody> {
    let message = "lessor: a gateway key is required; create one with `lessor gateway key`";
    error(provider, StatusCode::UNAUTHORIZED, message)
}

/// No account can serve the request; the refusal says when one can, if that is known.
pub(super) fn no_account(provider: &str, refusal: &Refusal, now: Wall) -> Response<ClientBody> {
    let message = match &refusal.hint {
        Some(hint) => format!("lessor: {}; {hint}", refusal.message),
        None => format!("lessor: {}", refusal.message),
    };
    if matches!(refusal.kind, RefusalKind::ShuttingDown | RefusalKind::Overloaded) {
        return error(provider, StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let end = refusal.retry_at.map(|at| {
        let after = at.since(now);
        let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
        LimitReset { after, seconds, at_seconds: at.0.div_ceil(1000) }
    });
    let mut response = response::json(StatusCode::TOO_MANY_REQUESTS, &limit_body(provider, &message, end));
    let headers = response.headers_mut();
    // a retry would get the same response
    headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    if let Some(LimitReset { seconds, .. }) = end {
        headers.insert(X_LESSOR_RETRY_AFTER, seconds.into());
        if seconds <= MAX_RETRY_AFTER {
            headers.insert(RETRY_AFTER, seconds.into());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    fn read(response: Response<ClientBody>) -> (u16, Vec<(String, String)>, Value) {
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
    fn a_limit_has_the_provider_s_shape_and_never_a_long_retry_after() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (status, headers, body) = read(no_account("anthropic", &limited(Some(7_200_001)), Wall(1_000_000)));
        assert_eq!((status, &body["error"]["type"]), (429, &json!("rate_limit_error")));
        assert_eq!(headers, [header("x-should-retry", "false"), header("x-lessor-retry-after", "7201")]);
        let (_, headers, body) = read(no_account("openai", &limited(Some(30_000)), Wall(1_000_000)));
        assert_eq!(
            (&body["error"]["type"], &body["error"]["resets_at"]),
            (&json!("usage_limit_reached"), &json!(1030))
        );
        assert!(headers.contains(&header("retry-after", "30")), "{headers:?}");
        let (_, headers, body) = read(no_account("google", &limited(Some(1_500)), Wall(1_000_000)));
        assert_eq!(body["error"]["details"][0]["retryDelay"], "1.500s");
        assert!(headers.contains(&header("x-lessor-retry-after", "2")), "{headers:?}");
        let (_, headers, _) = read(no_account("my-llm", &limited(None), Wall(1_000_000)));
        assert_eq!(headers, [header("x-should-retry", "false")]);
    }
}
