//! A request to a provider: its URL, and what a refusal of it means.

use std::time::Duration;

use super::UnexpectedAnswer;
use super::budget::PollFailure;
use crate::limits::{self, Headers, Reason, UpstreamResponse, parse_duration};
use crate::{http, pool::Wall};

/// A provider that takes longer is considered down.
const PATIENCE: Duration = Duration::from_secs(15);
/// The maximum length of a response, in bytes.
const LONGEST: usize = 1 << 20;

/// Where and for which account to query.
#[derive(Debug)]
pub struct UsageQuery<'a> {
    /// `anthropic`, `openai` or `google`.
    pub provider: &'a str,
    /// The configured URL; otherwise the vendor's.
    pub url: Option<&'a str>,
    /// The configured base URL of the provider's logins; used if `url` is not set.
    pub base_url: Option<&'a str>,
    /// The vendor's id of the account.
    pub vendor_id: Option<&'a str>,
    /// The cloud project.
    pub project: Option<&'a str>,
    /// Whether to query the plan as well, if that needs another request.
    pub wants_plan: bool,
    /// The current time.
    pub now: Wall,
}

/// Why a query returned no usage.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What happened, without secrets.
    pub message: String,
    /// What it means for the next query.
    pub kind: PollFailure,
    /// The HTTP status of a refusal.
    pub status: Option<u16>,
    /// Whether the provider requires the user to confirm the account.
    pub unconfirmed: bool,
    /// The page for the confirmation, if stated.
    pub link: Option<String>,
}
/// An HTTP request.
pub(super) struct HttpCall<'a> {
    pub(super) url: String,
    /// The JSON body of a POST; a GET without one.
    pub(super) body: Option<String>,
    pub(super) headers: Vec<(&'static str, &'a str)>,
}

/// The URL of the one query of a provider that needs no more.
pub(super) fn query_url(question: &UsageQuery<'_>) -> String {
    let vendors = if question.provider == "openai" { "https://chatgpt.com" } else { "https://api.anthropic.com" };
    place(question, vendors)
}

/// The URL of the query: the configured one, or else below the configured base of logins, or else the vendor's.
pub(super) fn place(question: &UsageQuery<'_>, vendors: &str) -> String {
    let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
    match (question.url, question.base_url) {
        (Some(url), _) if has_path(url) => trimmed(url),
        (Some(url), _) => trimmed(url) + path(question.provider),
        (None, Some(base)) => below(question.provider, base.trim_end_matches('/')),
        (None, None) => vendors.to_owned() + path(question.provider),
    }
}

/// The vendor's path of the query.
fn path(provider: &str) -> &'static str {
    match provider {
        "anthropic" => "/api/oauth/usage",
        "openai" => "/backend-api/wham/usage",
        _ => "/v1internal",
    }
}

/// The URL of the query at a server that serves logins below this base. A base ends where the requests of programs
/// begin, and usage is not below that place.
fn below(provider: &str, base: &str) -> String {
    let without = |endings: &[&str]| endings.iter().find_map(|ending| base.strip_suffix(ending)).unwrap_or(base);
    match provider {
        "anthropic" => without(&["/v1"]).to_owned() + path(provider),
        "openai" => match base.split_once("/backend-api") {
            Some((host, _)) => host.to_owned() + path(provider),
            None if base.ends_with("://chatgpt.com") => base.to_owned() + path(provider),
            // servers of others have a path of their own
            None => without(&["/api/codex", "/v1"]).to_owned() + "/api/codex/usage",
        },
        _ => without(&["/v1internal"]).to_owned() + path(provider),
    }
}

fn has_path(url: &str) -> bool {
    let after = url.find("://").map_or(0, |at| at + 3);
    url[after..].find('/').is_some_and(|at| url[after + at..].len() > 1)
}

pub(super) async fn send(
    client: &reqwest::Client,
    call: HttpCall<'_>,
    question: &UsageQuery<'_>,
    token: &str,
) -> Result<Vec<u8>, UsageError> {
    let request = match call.body {
        Some(body) => client.post(&call.url).header("content-type", "application/json").body(body),
        None => client.get(&call.url),
    };
    let request = call.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let agent = concat!("lessor/", env!("CARGO_PKG_VERSION"));
    let request = request.bearer_auth(token).header("user-agent", agent).timeout(PATIENCE);
    let mut response = request.send().await.map_err(|error| UsageError::unreachable(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| UsageError::unreachable(&error))? {
        if body.len() + chunk.len() > LONGEST {
            return Err(UsageError::permanent(format!("the answer of {} is too long", call.url)));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let headers = Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    Err(refused(question, status.as_u16(), &headers, &body))
}

/// What a refusal means for the next query.
fn refused(question: &UsageQuery<'_>, status: u16, headers: &Headers, body: &[u8]) -> UsageError {
    let response = UpstreamResponse { provider: question.provider, status, headers, body, now: question.now.0 };
    let verdict = limits::classify(&response).verdict;
    let confirm = verdict.as_ref().filter(|verdict| verdict.reason == Reason::VerificationRequired);
    let (unconfirmed, link) = (confirm.is_some(), confirm.and_then(|verdict| verdict.link.clone()));
    let kind = match status {
        // zero has a meaning here that the classifier does not know
        429 => PollFailure::Limited(match headers.get("retry-after").and_then(parse_duration) {
            Some(stated) => Some(stated),
            None => verdict.as_ref().and_then(|verdict| verdict.wait),
        }),
        408 | 500.. => PollFailure::Unreachable,
        // a page of what stands before the service
        _ if verdict.as_ref().is_some_and(|verdict| verdict.reason == Reason::ServerError) => PollFailure::Unreachable,
        _ => PollFailure::Permanent,
    };
    let message = match status {
        401 => "the provider rejected the credential (401)".to_owned(),
        403 if unconfirmed => "the provider requires the account to be confirmed (403)".to_owned(),
        429 => "too many requests (429)".to_owned(),
        status => match verdict.map(|verdict| verdict.evidence).filter(|evidence| evidence.len() > 3) {
            // for example the project and the API to enable
            Some(evidence) => format!("the answer was {evidence}"),
            None => format!("the answer was {status}"),
        },
    };
    UsageError { message, kind, status: Some(status), unconfirmed, link }
}

pub(super) fn read<T>(body: &[u8], parse: impl FnOnce(&[u8]) -> Result<T, UnexpectedAnswer>) -> Result<T, UsageError> {
    parse(body).map_err(|error| UsageError::permanent(error.to_string()))
}

impl UsageError {
    pub(super) fn permanent(message: String) -> Self {
        Self { message, kind: PollFailure::Permanent, status: None, unconfirmed: false, link: None }
    }

    fn unreachable(error: &reqwest::Error) -> Self {
        let host = error.url().and_then(|url| url.host_str()).unwrap_or("the server");
        let message = format!("{host} cannot be reached: {}", http::failure_cause(error));
        Self { message, kind: PollFailure::Unreachable, status: None, unconfirmed: false, link: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(provider: &'a str, url: Option<&'a str>, base_url: Option<&'a str>) -> UsageQuery<'a> {
        UsageQuery { provider, url, base_url, vendor_id: None, project: None, wants_plan: false, now: Wall(0) }
    }

    #[test]
    fn usage_has_a_path_of_its_own_below_each_base() {
        for (provider, url, base, expected) in [
            ("anthropic", None, None, "https://v.example/api/oauth/usage"),
            ("anthropic", Some("http://127.0.0.1:9"), None, "http://127.0.0.1:9/api/oauth/usage"),
            ("anthropic", Some("http://127.0.0.1:9/"), None, "http://127.0.0.1:9/api/oauth/usage"),
            ("anthropic", Some("http://h/x/usage"), Some("http://other"), "http://h/x/usage"),
            ("anthropic", None, Some("http://h/relay/"), "http://h/relay/api/oauth/usage"),
            ("anthropic", None, Some("http://h/relay/v1"), "http://h/relay/api/oauth/usage"),
            ("openai", None, None, "https://v.example/backend-api/wham/usage"),
            ("openai", Some("http://127.0.0.1:9"), Some("http://other"), "http://127.0.0.1:9/backend-api/wham/usage"),
            ("openai", None, Some("http://h/relay"), "http://h/relay/api/codex/usage"),
            ("openai", None, Some("http://h/api/codex/"), "http://h/api/codex/usage"),
            ("openai", None, Some("http://h/v1"), "http://h/api/codex/usage"),
            ("openai", None, Some("http://h/x/backend-api/codex"), "http://h/x/backend-api/wham/usage"),
            ("openai", None, Some("https://chatgpt.com"), "https://chatgpt.com/backend-api/wham/usage"),
            ("google", None, None, "https://v.example/v1internal"),
            ("google", None, Some("http://h/relay/v1internal"), "http://h/relay/v1internal"),
            ("google", Some("http://h/v1internal"), None, "http://h/v1internal"),
        ] {
            assert_eq!(
                place(&question(provider, url, base), "https://v.example"),
                expected,
                "{provider} {url:?} {base:?}"
            );
        }
    }

    #[test]
    fn refusals_state_when_the_next_query_is_allowed() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (status, header, kind) in [
            (429, Some("0"), PollFailure::Limited(Some(Duration::ZERO))),
            (429, Some("120"), PollFailure::Limited(seconds(120))),
            (429, None, PollFailure::Limited(None)),
            (401, None, PollFailure::Permanent),
            (403, None, PollFailure::Permanent),
            (404, None, PollFailure::Permanent),
            (500, Some("5"), PollFailure::Unreachable),
            (529, None, PollFailure::Unreachable),
        ] {
            let headers = Headers::telling(header.map(|value| ("retry-after", value)));
            let failure = refused(&question("anthropic", None, None), status, &headers, b"{}");
            assert_eq!(failure.kind, kind, "{status} {header:?}");
            assert!(!failure.unconfirmed);
        }
    }

    #[test]
    fn a_refusal_says_what_the_owner_must_mend_and_a_page_is_no_refusal() {
        let refused = |body: &[u8]| refused(&question("google", None, None), 403, &Headers::default(), body);
        let failure = refused(
            br#"{"error":{"code":403,"message":"it is off","details":[{"reason":"SERVICE_DISABLED",
                "metadata":{"consumer":"projects/p-1","service":"cloudaicompanion.googleapis.com"}}]}}"#,
        );
        let expected =
            "the answer was 403 SERVICE_DISABLED project_id p-1 API cloudaicompanion.googleapis.com “it is off”";
        assert_eq!((failure.message.as_str(), failure.kind), (expected, PollFailure::Permanent));
        let failure = refused(b"<html><title>Attention Required! | Cloudflare</title>");
        assert_eq!(failure.kind, PollFailure::Unreachable);
        assert_eq!(refused(b"").message, "the answer was 403");
    }

    #[test]
    fn a_required_confirmation_comes_with_its_link() {
        let body = br#"{"error":{"code":403,"status":"PERMISSION_DENIED","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"VALIDATION_REQUIRED","domain":"cloudcode-pa.googleapis.com"},
            {"@type":"type.googleapis.com/google.rpc.Help","links":[{"url":"https://accounts.google.com/verify?x=1"}]}]}}"#;
        let failure = refused(&question("google", None, None), 403, &Headers::default(), body);
        assert_eq!(failure.link.as_deref(), Some("https://accounts.google.com/verify?x=1"));
    }
}
