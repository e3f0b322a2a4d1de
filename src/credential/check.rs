//! Trying a credential: one request that costs nothing.

use std::time::Duration;

use super::Secret;
use crate::http::{self, ConnectOptions};
use crate::limits::{self, Headers, Reason, Scope, UpstreamResponse, Verdict};
use crate::pool::{CredentialKind, Wall};
use crate::provider::{CheckRequest, base_for_path, check_request, companion_header, credential_header};

/// A provider that takes longer is considered down.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// What to try, and where.
#[derive(Debug)]
pub struct CredentialCheck {
    /// The provider.
    pub provider: String,
    /// How the credential authenticates.
    pub kind: CredentialKind,
    /// The secret.
    pub secret: Secret,
    /// The configured base URL for this kind; otherwise the vendor's.
    pub base: Option<String>,
    /// The vendor's base URL; none for a provider that is not built in.
    pub vendor_base: Option<&'static str>,
    /// The vendor's id of the account.
    pub vendor_id: Option<String>,
    /// How to connect.
    pub reach: ConnectOptions,
}

/// What a provider answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CheckResult {
    /// The credential is accepted.
    Accepted(u16),
    /// The provider refused the account or its credential.
    Refused(u16, Box<Verdict>),
    /// There was no answer, or the service failed; the reason.
    Unreachable(String),
    /// The answer says nothing about the credential; the status, and what it was.
    Unknown(u16, String),
}

/// Sends the request, once.
pub async fn check(of: &CredentialCheck, now: Wall) -> CheckResult {
    let (request, host) = match request(of) {
        Ok(request) => request,
        Err(why) => return CheckResult::Unreachable(why),
    };
    let unreachable = |error: reqwest::Error| {
        let why = http::failure_cause(&error.without_url());
        CheckResult::Unreachable(format!("{host} cannot be reached: {why}"))
    };
    let mut response = match request.timeout(PATIENCE).send().await {
        Ok(response) => response,
        Err(error) => return unreachable(error),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while body.len() < LONGEST {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if status < 400 => return unreachable(error),
            // a refusal is a refusal, even without its body
            Err(_) => break,
        }
    }
    body.truncate(LONGEST);
    let headers = Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let provider = of.provider.as_str();
    read(&UpstreamResponse { provider, status, headers: &headers, body: &body, now: now.0 })
}

/// The request, and the host that it goes to.
fn request(of: &CredentialCheck) -> Result<(reqwest::RequestBuilder, String), String> {
    let client = http::client(&of.reach).map_err(|error| error.to_string())?;
    let url = url(of, check_request(&of.provider, of.kind))?;
    let url = url::Url::parse(&url).map_err(|error| format!("the base URL is not a URL: {error}"))?;
    let host = [Some(url.host_str().unwrap_or_default().to_owned()), url.port().map(|port| port.to_string())];
    let host = host.into_iter().flatten().collect::<Vec<_>>().join(":");
    let CheckRequest { body, header, .. } = check_request(&of.provider, of.kind);
    let mut request = match body {
        Some(body) => client.post(url).header("content-type", "application/json").body(body),
        None => client.get(url),
    };
    let secret = of.secret.expose();
    let (name, scheme) = credential_header(&of.provider, of.kind);
    let value = scheme.map_or_else(|| secret.to_owned(), |scheme| format!("{scheme} {secret}"));
    request = request.header(name, value).header("accept", "application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let companion = companion_header(&of.provider, of.kind, secret, of.vendor_id.as_deref());
    let request = companion.into_iter().fold(request, |request, header| request.header(header.name, header.value));
    Ok((request, host))
}

fn url(of: &CredentialCheck, request: CheckRequest) -> Result<String, String> {
    let provider = &of.provider;
    let configured = of.base.as_deref().filter(|base| !base.is_empty());
    let base = match (configured, request.vendor_url, of.vendor_base) {
        (Some(base), _, _) => base,
        (None, Some(url), Some(_)) => return Ok(url.to_owned()),
        (None, _, Some(base)) => base,
        (None, _, None) => {
            return Err(format!("the base URL of {provider} is not configured; set providers.{provider}.base_url"));
        }
    };
    let base = base_for_path(provider, base.trim_end_matches('/'), request.path);
    Ok(format!("{base}{}", request.path))
}

fn read(response: &UpstreamResponse<'_>) -> CheckResult {
    let status = response.status;
    match limits::classify(response).verdict {
        None if (200..300).contains(&status) => CheckResult::Accepted(status),
        Some(verdict) if is_about_account(&verdict) => CheckResult::Refused(status, Box::new(verdict)),
        _ if status >= 500 => CheckResult::Unreachable(format!("the provider answered {status}")),
        Some(verdict) if !verdict.evidence.is_empty() => CheckResult::Unknown(status, verdict.evidence),
        _ => CheckResult::Unknown(status, format!("the answer was {status}")),
    }
}

/// Whether a refusal is one of the account, and not of the request or the service.
fn is_about_account(verdict: &Verdict) -> bool {
    let is_reason = match verdict.reason {
        Reason::AuthFailed
        | Reason::Forbidden
        | Reason::VerificationRequired
        | Reason::OutOfCredit
        | Reason::QuotaExhausted
        | Reason::RateLimitExceeded => true,
        Reason::ModelCapacityExhausted | Reason::ServerError | Reason::Unknown | Reason::RequestRejected => false,
    };
    is_reason && matches!(verdict.scope, Scope::Model | Scope::Pool | Scope::Account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(provider: &str, kind: CredentialKind, base: Option<&str>) -> CredentialCheck {
        let urls = crate::provider::base_urls(provider);
        CredentialCheck {
            provider: provider.to_owned(),
            kind,
            secret: Secret::new("sk-canary".into()),
            base: base.map(str::to_owned),
            vendor_base: urls.map(|urls| if kind == CredentialKind::ApiKey { urls.keys } else { urls.logins }),
            vendor_id: None,
            reach: ConnectOptions::default(),
        }
    }

    #[test]
    fn the_request_goes_to_the_configured_base_or_to_the_vendor() {
        use CredentialKind::{ApiKey, Oauth};
        for (provider, kind, base, expected) in [
            ("anthropic", ApiKey, None, "https://api.anthropic.com/v1/models?limit=1"),
            ("anthropic", ApiKey, Some("http://h/v1/"), "http://h/v1/models?limit=1"),
            ("openai", ApiKey, None, "https://api.openai.com/v1/models"),
            ("openai", Oauth, None, "https://chatgpt.com/backend-api/wham/usage"),
            ("openai", Oauth, Some("http://h/x"), "http://h/x/api/codex/usage"),
            ("google", Oauth, None, "https://cloudcode-pa.googleapis.com/v1internal:loadCodeAssist"),
            ("my-llm", ApiKey, Some("http://h/api"), "http://h/api/v1/models"),
            ("my-llm", ApiKey, Some("http://h/v1"), "http://h/v1/models"),
        ] {
            let of = check(provider, kind, base);
            assert_eq!(url(&of, check_request(provider, kind)).as_deref(), Ok(expected), "{provider} {base:?}");
        }
        let unknown = check("my-llm", ApiKey, None);
        assert!(url(&unknown, check_request("my-llm", ApiKey)).unwrap_err().contains("providers.my-llm.base_url"));
    }

    #[test]
    fn only_an_answer_about_the_account_is_a_refusal() {
        for (provider, status, body, expected) in [
            ("anthropic", 200, r#"{"data":[]}"#, "accepted"),
            ("anthropic", 401, r#"{"type":"error","error":{"type":"authentication_error","message":"x"}}"#, "refused"),
            (
                "google",
                400,
                r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#,
                "refused",
            ),
            (
                "openai",
                429,
                r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"x"}}"#,
                "refused",
            ),
            ("my-llm", 404, r#"{"error":"no such path"}"#, "unknown"),
            ("openai", 503, "", "unreachable"),
            ("openai", 302, "", "unknown"),
        ] {
            let headers = Headers::telling(std::iter::empty::<(&str, &str)>());
            let response = UpstreamResponse { provider, status, headers: &headers, body: body.as_bytes(), now: 0 };
            let outcome = match read(&response) {
                CheckResult::Accepted(_) => "accepted",
                CheckResult::Refused(..) => "refused",
                CheckResult::Unreachable(_) => "unreachable",
                CheckResult::Unknown(..) => "unknown",
            };
            assert_eq!(outcome, expected, "{provider} {status} {body}");
        }
    }
}
