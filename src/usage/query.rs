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

/// The server of Gemini CLI's quotas and of plans.
const CODE_ASSIST: &str = "https://cloudcode-pa.googleapis.com";
/// The server of Antigravity's quotas, which knows what Antigravity used.
const ANTIGRAVITY: &str = "https://daily-cloudcode-pa.googleapis.com";

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
            let call = HttpCall {
                url: place(question, "https://api.anthropic.com"),
                body: None,
                headers: vec![("anthropic-beta", "oauth-2025-04-20")],
            };
            read(&send(client, call, question, token).await?, |body| anthropic::usage(body, question.now))
        }
        "openai" => {
            let headers = question.vendor_id.map(|id| ("chatgpt-account-id", id)).into_iter().collect();
            let call = HttpCall { url: place(question, "https://chatgpt.com"), body: None, headers };
            read(&send(client, call, question, token).await?, |body| codex::usage(body, question.now))
        }
        "google" => ask_google(client, question, token).await,
        other => Err(UsageError::permanent(format!("{other} does not report usage"))),
    }
}

async fn ask_google(client: &reqwest::Client, question: &UsageQuery<'_>, token: &str) -> UsageResult {
    let send = async |host: &'static str, method: &str, body: serde_json::Value| {
        let url = format!("{}:{method}", place(question, host));
        let call = HttpCall { url, body: Some(body.to_string()), headers: Vec::new() };
        send(client, call, question, token).await
    };
    let mut whole = UsageReading::default();
    if question.wants_plan || question.project.is_none() {
        let metadata = serde_json::json!({ "metadata": { "ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI" } });
        // the quota can be queried without the plan
        match send(CODE_ASSIST, "loadCodeAssist", metadata).await.and_then(|body| read(&body, google::code_assist)) {
            Ok(reading) => whole = reading,
            Err(failure) if failure.unconfirmed => return Err(failure),
            Err(failure) => tracing::debug!("the plan could not be queried: {failure}"),
        }
    }
    let project = question.project.or(whole.project.as_deref());
    let of = project.map_or_else(|| serde_json::json!({}), |project| serde_json::json!({ "project": project }));
    let summary = send(ANTIGRAVITY, "retrieveUserQuotaSummary", of.clone()).await;
    let summary = summary.and_then(|body| read(&body, |body| google::quota_summary(body, question.now)));
    let antigravity = match summary.map(|reading| believed(question, reading)) {
        Ok(reading) => Ok(reading),
        Err(failure) if failure.unconfirmed || matches!(failure.kind, PollFailure::Limited(_)) => Err(failure),
        // an older server
        Err(_) => {
            let models = send(ANTIGRAVITY, "fetchAvailableModels", of.clone()).await;
            models.and_then(|body| read(&body, |body| google::available_models(body, question.now)))
        }
    };
    let gemini_cli = send(CODE_ASSIST, "retrieveUserQuota", of).await;
    let gemini_cli = gemini_cli.and_then(|body| read(&body, |body| google::user_quota(body, question.now)));
    match (antigravity, gemini_cli) {
        (Err(failure), Err(_)) => match whole.not_served {
            Some(message) => Err(UsageError { message, ..failure }),
            None => Err(failure),
        },
        (one, other) => {
            let both = [one, other].into_iter().flatten();
            whole.windows = both.flat_map(|reading| reading.windows).collect();
            match whole.not_served.take() {
                Some(message) if whole.windows.is_empty() => Err(UsageError::permanent(message)),
                _ => Ok(whole),
            }
        }
    }
}

/// A reading of Antigravity's quotas as far as its server knows them: that of Gemini CLI answers that they are unused.
fn believed(question: &UsageQuery<'_>, mut reading: UsageReading) -> UsageReading {
    if place(question, ANTIGRAVITY).starts_with(CODE_ASSIST) {
        reading.windows.retain(|window| !google::is_unused(window));
    }
    reading
}

/// The URL of the query: the configured one, or else below the configured base of logins, or else the vendor's.
fn place(question: &UsageQuery<'_>, vendors: &str) -> String {
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
        let host = error.url().and_then(|url| url.host_str()).unwrap_or("the server");
        let message = format!("{host} cannot be reached: {}", http::failure_cause(error));
        Self { message, kind: PollFailure::Unreachable, unconfirmed: false, link: None }
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
    fn gemini_cli_s_server_does_not_know_what_antigravity_used() {
        let window = |used: f64| crate::pool::Window {
            name: "5h".to_owned(),
            utilization: used,
            resets_at: None,
            as_of: Wall(0),
            key: "gemini-antigravity".to_owned(),
        };
        let kept = |url| {
            let reading = UsageReading { windows: vec![window(0.0), window(0.2)], ..UsageReading::default() };
            believed(&question("google", url, None), reading).windows.len()
        };
        assert_eq!((kept(None), kept(Some("http://relay"))), (2, 2));
        assert_eq!(kept(Some("https://cloudcode-pa.googleapis.com")), 1);
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
