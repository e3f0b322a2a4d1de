//! Querying a provider for an account's usage.

use super::budget::PollFailure;
use super::request::{HttpCall, UsageError, UsageQuery, place, query_url, read, send};
use super::resets::{self, BankedResets};
use super::{UsageReading, anthropic, codex, google};

/// The server of Gemini CLI's quotas and of plans.
const CODE_ASSIST: &str = "https://cloudcode-pa.googleapis.com";
/// The server of Antigravity's quotas, which knows what Antigravity used.
const ANTIGRAVITY: &str = "https://daily-cloudcode-pa.googleapis.com";

/// The result of a query.
pub type UsageResult = Result<UsageReading, UsageError>;

/// Sends the query. The token is used for the request only.
///
/// # Errors
/// When the provider cannot be reached, or answers with something else.
pub async fn query(client: &reqwest::Client, question: &UsageQuery<'_>, token: &str) -> UsageResult {
    match question.provider {
        "anthropic" => {
            let call = HttpCall {
                url: query_url(question),
                body: None,
                headers: vec![("anthropic-beta", "oauth-2025-04-20")],
            };
            read(&send(client, call, question, token).await?, |body| anthropic::usage(body, question.now))
        }
        "openai" => {
            let headers = question.vendor_id.map(|id| ("chatgpt-account-id", id)).into_iter().collect();
            let call = HttpCall { url: query_url(question), body: None, headers };
            let body = send(client, call, question, token).await?;
            let reading = read(&body, |body| codex::usage(body, question.now))?;
            let resets = resets_beside(client, question, token, resets::stated_number(&body)).await;
            Ok(UsageReading { resets, ..reading })
        }
        "google" => ask_google(client, question, token).await,
        other => Err(UsageError::permanent(format!("{other} does not report usage"))),
    }
}

/// The resets that an account has banked, if its usage does not say that there are none.
async fn resets_beside(
    client: &reqwest::Client,
    question: &UsageQuery<'_>,
    token: &str,
    stated: Option<u32>,
) -> Option<BankedResets> {
    let only_number = stated.map(|available| BankedResets { available, credits: Vec::new(), as_of: question.now });
    if stated == Some(0) {
        return only_number;
    }
    match resets::query_resets(client, question, token).await {
        Ok(resets) => Some(resets),
        Err(failure) => {
            tracing::debug!("the banked resets could not be queried: {failure}");
            only_number
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Wall;

    fn question<'a>(provider: &'a str, url: Option<&'a str>, base_url: Option<&'a str>) -> UsageQuery<'a> {
        UsageQuery { provider, url, base_url, vendor_id: None, project: None, wants_plan: false, now: Wall(0) }
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
}
