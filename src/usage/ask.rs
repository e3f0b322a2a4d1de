//! Asking a provider what an account has used.

use std::time::Duration;

use crate::http;
use crate::limits::{self, Headers, Reason, UpstreamResponse, parse_duration};
use crate::pool::Wall;

use super::budget::Setback;
use super::{Reading, Unreadable, anthropic, codex, google};

/// A provider that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(15);
/// More is no answer to such a question.
const LONGEST: usize = 1 << 20;

/// Where and as whom to ask.
#[derive(Debug)]
pub struct Question<'a> {
    /// `anthropic`, `openai` or `google`.
    pub provider: &'a str,
    /// Where the user says it is asked, else the vendor's own place.
    pub url: Option<&'a str>,
    /// Where the user says that the provider's logins are served; asked there, if `url` says nothing.
    pub base_url: Option<&'a str>,
    /// The vendor's own id of the account.
    pub vendor_id: Option<&'a str>,
    /// The cloud project.
    pub project: Option<&'a str>,
    /// Whether the plan is still to be learnt, where that is another question.
    pub wants_plan: bool,
    /// When it is asked.
    pub now: Wall,
}

/// What came of it.
pub type Asked = Result<Reading, Failure>;

/// Why nothing was learnt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened, in words; no secret is in it.
    pub message: String,
    /// What that means for the next time.
    pub setback: Setback,
    /// The provider wants the account confirmed by its owner.
    pub unconfirmed: bool,
    /// Where that is done, if it says so.
    pub link: Option<String>,
}

/// One request.
struct Call<'a> {
    url: String,
    /// JSON to send; without any it is a GET.
    body: Option<String>,
    headers: Vec<(&'static str, &'a str)>,
}

/// Asks. The token goes into the request and nowhere else.
///
/// # Errors
/// When nobody answers, or something else than an answer comes.
pub async fn ask(client: &reqwest::Client, question: &Question<'_>, token: &str) -> Asked {
    match question.provider {
        "anthropic" => {
            let call = Call {
                url: place(question, "https://api.anthropic.com", "/api/oauth/usage"),
                body: None,
                headers: vec![("anthropic-beta", "oauth-2025-04-20")],
            };
            read(&send(client, call, question, token).await?, |body| anthropic::usage(body, question.now))
        }
        "openai" => {
            // elsewhere than at the vendor's it is served under another path
            let path = if question.base_url.is_some() { "/api/codex/usage" } else { "/backend-api/wham/usage" };
            let call = Call {
                url: place(question, "https://chatgpt.com", path),
                body: None,
                headers: question.vendor_id.map(|id| ("chatgpt-account-id", id)).into_iter().collect(),
            };
            read(&send(client, call, question, token).await?, |body| codex::usage(body, question.now))
        }
        "google" => ask_google(client, question, token).await,
        other => Err(Failure::useless(format!("{other} tells nothing of usage"))),
    }
}

async fn ask_google(client: &reqwest::Client, question: &Question<'_>, token: &str) -> Asked {
    let place = |method: &str| {
        let base = place(question, "https://cloudcode-pa.googleapis.com", "/v1internal");
        format!("{}:{method}", base.trim_end_matches('/'))
    };
    let send = async |method: &str, body: serde_json::Value| {
        let call = Call { url: place(method), body: Some(body.to_string()), headers: Vec::new() };
        send(client, call, question, token).await
    };
    let mut whole = Reading::default();
    if question.wants_plan || question.project.is_none() {
        let metadata = serde_json::json!({ "metadata": { "ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI" } });
        // the quota is told without it, too
        match send("loadCodeAssist", metadata).await.and_then(|body| read(&body, google::code_assist)) {
            Ok(reading) => whole = reading,
            Err(failure) if failure.unconfirmed => return Err(failure),
            Err(failure) => tracing::debug!("a plan was not learnt: {failure}"),
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

/// The URL to ask at: what the user says, with the provider's own path where they name a host only.
fn place(question: &Question<'_>, vendors: &str, path: &str) -> String {
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
    call: Call<'_>,
    question: &Question<'_>,
    token: &str,
) -> Result<Vec<u8>, Failure> {
    let request = match call.body {
        Some(body) => client.post(&call.url).header("content-type", "application/json").body(body),
        None => client.get(&call.url),
    };
    let request = call.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let agent = concat!("lessor/", env!("CARGO_PKG_VERSION"));
    let request = request.bearer_auth(token).header("user-agent", agent).timeout(PATIENCE);
    let mut response = request.send().await.map_err(|error| Failure::unreachable(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::unreachable(&error))? {
        if body.len() + chunk.len() > LONGEST {
            return Err(Failure::useless(format!("{} sent more than any answer has", call.url)));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let headers = Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    Err(refused(question, status.as_u16(), &headers, &body))
}

/// What a refusal means for asking again.
fn refused(question: &Question<'_>, status: u16, headers: &Headers, body: &[u8]) -> Failure {
    let response = UpstreamResponse { provider: question.provider, status, headers, body, now: question.now.0 };
    let verdict = limits::classify(&response).verdict;
    let confirm = verdict.as_ref().filter(|verdict| verdict.reason == Reason::VerificationRequired);
    let (unconfirmed, link) = (confirm.is_some(), confirm.and_then(|verdict| verdict.link.clone()));
    let setback = match status {
        // zero is an answer of its own here, and the classifier knows none
        429 => Setback::Limited(match headers.get("retry-after").and_then(parse_duration) {
            Some(stated) => Some(stated),
            None => verdict.and_then(|verdict| verdict.wait),
        }),
        408 | 500.. => Setback::Unreachable,
        _ => Setback::Useless,
    };
    let message = match status {
        401 => "the credential was refused (401)".to_owned(),
        403 if unconfirmed => "the provider wants the account confirmed (403)".to_owned(),
        429 => "too many questions (429)".to_owned(),
        status => format!("the answer was {status}"),
    };
    Failure { message, setback, unconfirmed, link }
}

fn read(body: &[u8], parse: impl FnOnce(&[u8]) -> Result<Reading, Unreadable>) -> Asked {
    parse(body).map_err(|error| Failure::useless(error.to_string()))
}

impl Failure {
    fn useless(message: String) -> Self {
        Self { message, setback: Setback::Useless, unconfirmed: false, link: None }
    }

    fn unreachable(error: &reqwest::Error) -> Self {
        Self { message: http::in_full(error), setback: Setback::Unreachable, unconfirmed: false, link: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(provider: &'a str, url: Option<&'a str>, base_url: Option<&'a str>) -> Question<'a> {
        Question { provider, url, base_url, vendor_id: None, project: None, wants_plan: false, now: Wall(0) }
    }

    #[test]
    fn a_host_gets_the_providers_path_and_a_path_stays_as_it_is() {
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
    fn refusals_say_when_to_come_again() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (status, header, setback) in [
            (429, Some("0"), Setback::Limited(Some(Duration::ZERO))),
            (429, Some("120"), Setback::Limited(seconds(120))),
            (429, None, Setback::Limited(None)),
            (401, None, Setback::Useless),
            (403, None, Setback::Useless),
            (404, None, Setback::Useless),
            (500, Some("5"), Setback::Unreachable),
            (529, None, Setback::Unreachable),
        ] {
            let headers = Headers::telling(header.map(|value| ("retry-after", value)));
            let failure = refused(&question("anthropic", None, None), status, &headers, b"{}");
            assert_eq!(failure.setback, setback, "{status} {header:?}");
            assert!(!failure.unconfirmed);
        }
    }

    #[test]
    fn a_confirmation_that_is_wanted_comes_with_its_place() {
        let body = br#"{"error":{"code":403,"status":"PERMISSION_DENIED","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"VALIDATION_REQUIRED","domain":"cloudcode-pa.googleapis.com"},
            {"@type":"type.googleapis.com/google.rpc.Help","links":[{"url":"https://accounts.google.com/verify?x=1"}]}]}}"#;
        let failure = refused(&question("google", None, None), 403, &Headers::default(), body);
        assert_eq!(failure.link.as_deref(), Some("https://accounts.google.com/verify?x=1"));
    }
}
