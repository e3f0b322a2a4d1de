//! The vendors' refusals and token endpoints.

use std::time::{Duration, SystemTime};

use hyper::http::response::Builder;
use serde_json::json;

use super::vendors::{JSON, Vendor, VendorResponse};

fn seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap()
}

/// Epoch seconds.
fn at(wait: Duration) -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + seconds(wait)
}

impl Vendor {
    /// 401: a bad credential; 403: a forbidden request.
    pub fn refused(self, status: u16) -> VendorResponse {
        let is_unauthorized = status == 401;
        let body = match self {
            Self::Anthropic => {
                let (kind, message) = match is_unauthorized {
                    true => ("authentication_error", "invalid x-api-key"),
                    false => {
                        ("permission_error", "Your credential does not have permission to use the specified resource.")
                    }
                };
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Self::Openai => {
                let code = if is_unauthorized { "invalid_api_key" } else { "forbidden" };
                json!({"error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": code}})
            }
            Self::Google => {
                let name = if is_unauthorized { "UNAUTHENTICATED" } else { "PERMISSION_DENIED" };
                json!({"error": {"code": status, "message": "The caller does not have permission", "status": name}})
            }
        };
        (status, JSON, body.to_string())
    }

    /// A rate limit that ends after this time.
    pub fn limited(self, is_login: bool, wait: Duration) -> VendorResponse {
        let seconds = seconds(wait);
        let body = match (self, is_login) {
            (Self::Anthropic, _) => json!({"type": "error", "error": {"type": "rate_limit_error",
                "message": "This request would exceed your account's rate limit."}}),
            (Self::Openai, true) => json!({"error": {"type": "usage_limit_reached",
                "message": "The usage limit has been reached", "plan_type": "plus", "resets_at": at(wait),
                "resets_in_seconds": seconds}}),
            (Self::Openai, false) => json!({"error": {"message":
                format!("Rate limit reached for requests. Please try again in {seconds}s."), "type": "requests",
                "param": null, "code": "rate_limit_exceeded"}}),
            (Self::Google, true) => google_limit(
                &format!("Your quota will reset after {seconds}s."),
                &json!([
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "QUOTA_EXHAUSTED",
                    "domain": "cloudcode-pa.googleapis.com", "metadata": {"quotaResetDelay": format!("{seconds}s")}},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}]),
            ),
            (Self::Google, false) => {
                let period = if seconds <= 60 { "PerMinute" } else { "PerDay" };
                google_limit(
                    &format!("Please retry in {seconds}s."),
                    &json!([
                    {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": format!("GenerateRequests{period}PerProjectPerModel-FreeTier")}]},
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}]),
                )
            }
        };
        (429, JSON, body.to_string())
    }

    /// The headers that a vendor sends with a rate limit.
    pub fn with_limit_headers(self, is_login: bool, wait: Duration, response: Builder) -> Builder {
        let response = match self {
            Self::Google => return response,
            Self::Openai if is_login => return response,
            Self::Openai | Self::Anthropic => response.header("retry-after", seconds(wait).to_string()),
        };
        if self == Self::Openai || !is_login {
            return response;
        }
        let at = at(wait).to_string();
        response
            .header("anthropic-ratelimit-unified-status", "rejected")
            .header("anthropic-ratelimit-unified-representative-claim", "five_hour")
            .header("anthropic-ratelimit-unified-reset", at.clone())
            .header("anthropic-ratelimit-unified-5h-status", "rejected")
            .header("anthropic-ratelimit-unified-5h-utilization", "1.0")
            .header("anthropic-ratelimit-unified-5h-reset", at)
    }

    /// The token endpoint: another access token for a refresh token `rt-PROVIDER-N-…`.
    pub fn token(self, request: &str) -> VendorResponse {
        let Some((_, rest)) = request.split_once("rt-") else {
            return (400, JSON, r#"{"error":"invalid_grant"}"#.to_owned());
        };
        let account: String = rest.split('-').take(2).collect::<Vec<_>>().join("-");
        let number = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let token = json!({"access_token": format!("at-{account}-{number}"), "token_type": "Bearer",
            "refresh_token": format!("rt-{account}-{number}"), "expires_in": 36000});
        (200, JSON, token.to_string())
    }
}

fn google_limit(wait: &str, details: &serde_json::Value) -> serde_json::Value {
    let message = format!("You have exhausted your capacity on this model. {wait}");
    json!({"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}})
}
