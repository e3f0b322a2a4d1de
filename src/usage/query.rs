//! Querying a provider for an account's usage.

use std::time::Duration;

use super::budget::PollFailure;
use super::{UnexpectedAnswer, UsageReading, anthropic, codex, google};
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

/// The result of a query.
pub type UsageResult = Result<UsageReading, UsageError>;

/// Why a query returned no usage.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What happened, without secrets.
    pub message: String,
    /// What it means for the next query.
    pub kind: PollFailure,
    /// Whether the provider requires the user to confirm the account.
    pub unconfirmed: bool,
    /// The page for the confirmation, if stated.
    pub link: Option<String>,
}
struct HttpCall<'a> {
    url: String,
    /// The JSON body of a POST; a GET without one.
    body: Option<String>,
    headers: Vec<(&'static str, &'a str)>,
}

/// Sends the query. The token is used for the request only.
///
/// # Errors
/// When the provider cannot be reached, or answers with something else.
pub async fn query(client: &reqwest::Client, question: &UsageQuery<'_>, token: &str) -> UsageResult {
    match question.provider {
        "anthropic" => {
            let url = place(question, "https://api.anthropic.com", "/api/oauth/usage");
            let call = HttpCall { url, body: None, headers: vec![("anthropic-beta", "oauth-2025-04-20")] };
            read(&send(client, call, question, token).await?, |body| anthropic::usage(body, question.now))
        }
        "openai" => {
            // other servers use another path than the vendor
            let path = if question.base_url.is_some() { "/api/codex/usage" } else { "/backend-api/wham/usage" };
            let headers = question.vendor_id.map(|id| ("chatgpt-account-id", id)).into_iter().collect();
            let call = HttpCall { url: place(question, "https://chatgpt.com", path), body: None, headers };
            read(&send(client, call, question, token).await?, |body| codex::usage(body, question.now))
        }
        "google" => ask_google(client, question, token).await,
        other => Err(UsageError::permanent(format!("{other} does not report usage"))),
    }
}

async fn ask_google(client: &reqwest::Client, question: &UsageQuery<'_>, token: &str) -> UsageResult {
    let place = |method: &str| {
        let base = place(question, "https://cloudcode-pa.googleapis.com", "/v1internal");
        format!("{}:{method}", base.trim_end_matches('/'))
    };
    let send = async |method: &str, body: serde_json::Value| {
        let call = HttpCall { url: place(method), body: Some(body.to_string()), headers: Vec::new() };
        send(client, call, question, token).await
    };
    let mut whole = UsageReading::default();
    if question.wants_plan || question.project.is_none() {
        let metadata = serde_json::json!({ "metadata": { "ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI" } });
        // the quota can be queried without the plan
        match send("loadCodeAssist", metadata).await.and_then(|body| read(&body, google::code_assist)) {
            Ok(reading) => whole = reading,
            Err(failure) if failure.unconfirmed => return Err(failure),
            Err(failure) => tracing::debug!("the plan could not be queried: {failure}"),
        }
    }
    let project = question.project.or(whole.project.as_deref());
    let of = project.map_or_else(|| serde_json::json!({}), |project| serde_json::json!({ "project": project }));
    let antigravity = send("fetchAvailableModels", of.clone()).await;
    let antigravity = antigravity.and_then(|body| read(&body, |body| google::available_models(body, question.now)));
    let gemini_cli = send("retrieveUserQuota", of).await;
    let gemini_cli = gemini_cli.and_then(|body| read(&body, |body| google::user_quota(body, question.now)));
    match (antigravity, gemini_cli) {
        (Err(failure), Err(_)) => Err(failure),
        (one, other) => {
            let both = [one, other].into_iter().flatten();
            whole.windows = both.flat_map(|reading| reading.windows).collect();
            Ok(whole)
        }
    }
}

/// The URL of the query: the configured one, with the provider's path if it names a host only.
fn place(question: &UsageQuery<'_>, vendors: &str, path: &str) -> String {
    let (base, whole) = match (question.url, question.base_url) {
        (Some(url), _) => (url, has_path(url)),
        (None, Some(base)) => (base, false),
        (None, None) => (vendors, false),
    };
    let base = base.trim_end_matches('/');
    if whole { base.to_owned() } else { format!("{base}{path}") }
}

fn has_path(url: &str) -> bool {
    let after = url.find("://").map_or(0, |at| at + 3);
    url[after..].find('/').is_some_and(|at| url[after + at..].len() > 1)
}

async fn send(
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
            None => verdict.and_then(|verdict| verdict.wait),
        }),
        408 | 500.. => PollFailure::Unreachable,
        _ => PollFailure::Permanent,
    };
    let message = match status {
        401 => "the provider rejected the credential (401)".to_owned(),
        403 if unconfirmed => "the provider requires the account to be confirmed (403)".to_owned(),
        429 => "too many requests (429)".to_owned(),
        status => format!("the answer was {status}"),
    };
    UsageError { message, kind, unconfirmed, link }
}

fn read(body: &[u8], parse: impl FnOnce(&[u8]) -> Result<UsageReading, UnexpectedAnswer>) -> UsageResult {
    parse(body).map_err(|error| UsageError::permanent(error.to_string()))
}

impl UsageError {
    fn permanent(message: String) -> Self {
        Self { message, kind: PollFailure::Permanent, unconfirmed: false, link: None }
    }

    fn unreachable(error: &reqwest::Error) -> Self {
        Self { message: http::error_chain(error), kind: PollFailure::Unreachable, unconfirmed: false, link: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(provider: &'a str, url: Option<&'a str>, base_url: Option<&'a str>) -> UsageQuery<'a> {
        UsageQuery { provider, url, base_url, vendor_id: None, project: None, wants_plan: false, now: Wall(0) }
    }

    #[test]
    fn a_host_gets_the_providers_path_and_a_path_stays() {
        let at = |url, base| place(&question("anthropic", url, base), "https://v.example", "/own/path");
        for (url, base, expected) in [
            (None, None, "https://v.example/own/path"),
            (Some("http://127.0.0.1:9"), None, "http://127.0.0.1:9/own/path"),
            (Some("http://127.0.0.1:9/"), None, "http://127.0.0.1:9/own/path"),
            (Some("http://h/x/usage"), Some("http://other"), "http://h/x/usage"),
            (None, Some("http://h/relay/"), "http://h/relay/own/path"),
        ] {
            assert_eq!(at(url, base), expected);
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
    fn a_required_confirmation_comes_with_its_link() {
        let body = br#"{"error":{"code":403,"status":"PERMISSION_DENIED","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"VALIDATION_REQUIRED","domain":"cloudcode-pa.googleapis.com"},
            {"@type":"type.googleapis.com/google.rpc.Help","links":[{"url":"https://accounts.google.com/verify?x=1"}]}]}}"#;
        let failure = refused(&question("google", None, None), 403, &Headers::default(), body);
        assert_eq!(failure.link.as_deref(), Some("https://accounts.google.com/verify?x=1"));
    }
}
