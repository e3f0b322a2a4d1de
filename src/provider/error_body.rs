//! The JSON of an error, in the shape that a provider's own agents understand.

use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::Dialect;

/// Agents block on a longer delay.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// When a limit ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitReset {
    /// How long from now.
    pub after: Duration,
    /// The same in seconds, rounded up, at least 1.
    pub seconds: u64,
    /// The instant, in seconds since 1970, rounded up.
    pub at_seconds: u64,
}

/// The body of an error that has nothing to do with limits.
#[must_use]
pub fn error_body(provider: &str, status: u16, message: &str) -> Value {
    match Dialect::of(provider) {
        Dialect::Anthropic => anthropic(anthropic_type(status), message),
        Dialect::Google => json!({ "error": { "code": status, "message": message, "status": google_status(status) } }),
        Dialect::Openai | Dialect::Other => {
            let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
            json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
        }
    }
}

/// The body of a 429: every account is limited, until `end` if that is known. `comes_back` says that the agent is to
/// send its request again; otherwise it is to stop.
#[must_use]
pub fn limit_body(provider: &str, message: &str, end: Option<LimitReset>, comes_back: bool) -> Value {
    match Dialect::of(provider) {
        Dialect::Anthropic => anthropic("rate_limit_error", message),
        Dialect::Google => {
            let retry_info = end.map(|end| {
                let after = end.after.min(MAX_DELAY);
                let delay = format!("{}.{:03}s", after.as_secs(), after.subsec_millis());
                json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay })
            });
            // Gemini CLI stops at this reason and shows the message
            let stop = (!comes_back).then(|| {
                json!({
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "QUOTA_EXHAUSTED", "domain": "cloudcode-pa.googleapis.com",
                })
            });
            let details: Vec<Value> = stop.into_iter().chain(retry_info).collect();
            json!({ "error": {
                "code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details,
            } })
        }
        Dialect::Openai | Dialect::Other if comes_back => json!({ "error": {
            "message": message, "type": "rate_limit_exceeded", "param": null, "code": "rate_limit_exceeded",
        } }),
        // Codex shows the time and does not try again
        Dialect::Openai | Dialect::Other => json!({ "error": {
            "message": message, "type": "usage_limit_reached", "param": null, "code": "usage_limit_reached",
            "resets_at": end.map(|end| end.at_seconds), "resets_in_seconds": end.map(|end| end.seconds),
        } }),
    }
}

fn anthropic(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 | 426 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        503 => "overloaded_error",
        _ => "api_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        400..=499 => "INVALID_ARGUMENT",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_provider_s_shape() {
        let expected = json!({ "type": "error", "error": { "type": "authentication_error", "message": "no" } });
        assert_eq!(error_body("anthropic", 401, "no"), expected);
        assert_eq!(error_body("google", 413, "no")["error"]["status"], "INVALID_ARGUMENT");
        assert_eq!(error_body("openai", 502, "no")["error"]["type"], "server_error");
    }
}
