//! Limit resets that a ChatGPT plan has banked: `GET /backend-api/wham/rate-limit-reset-credits`, and the call that uses
//! one.
//!
//! Using one cannot be undone. The provider knows a use by the id that the caller gives it: the same id again is the same
//! use.

use serde_json::{Value, json};

use super::request::{HttpCall, UsageError, UsageQuery, query_url, read, send};
use super::value::{document, instant, number, text};
use super::{UnexpectedAnswer, is_reported};
use crate::pool::{CredentialKind, Wall};

/// The maximum number of resets that are read.
const MOST: usize = 32;

/// The resets of an account that can be used.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct BankedResets {
    /// How many.
    pub available: u32,
    /// Each of them, the one that expires first at the beginning; empty where the provider states the number only.
    pub credits: Vec<ResetCredit>,
    /// When they were read.
    pub as_of: Wall,
}

/// A banked reset.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ResetCredit {
    /// The provider's id of it.
    pub id: String,
    /// What it resets, in the provider's words.
    pub title: Option<String>,
    /// Until when it can be used.
    pub expires_at: Option<Wall>,
}

/// The use of a reset.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ResetRequest {
    /// The reset.
    pub credit: String,
    /// The id of this use: the same in every attempt.
    pub request: String,
}

/// What the provider says of a use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetOutcome {
    /// The reset was used; so many windows were reset, if that is stated.
    Used(Option<u32>),
    /// It had been used before.
    UsedBefore,
    /// There is no such reset any more.
    Gone,
    /// No window is used: the reset is kept.
    NothingToReset,
}

/// Whether accounts of this kind can have banked resets.
#[must_use]
pub fn has_resets(provider: &str, kind: CredentialKind) -> bool {
    provider == "openai" && is_reported(provider, kind)
}

/// Asks for the resets of an account.
///
/// # Errors
/// When the provider cannot be reached, refuses, or answers with something else.
pub async fn query_resets(
    client: &reqwest::Client,
    question: &UsageQuery<'_>,
    token: &str,
) -> Result<BankedResets, UsageError> {
    let call = HttpCall { url: url(question)?, body: None, headers: headers(question) };
    read(&send(client, call, question, token).await?, |body| parse(body, question.now))
}

/// Uses a reset.
///
/// # Errors
/// When the answer does not say what became of it: the same use may be asked for again, with the same ids.
pub async fn use_reset(
    client: &reqwest::Client,
    question: &UsageQuery<'_>,
    token: &str,
    request: &ResetRequest,
) -> Result<ResetOutcome, UsageError> {
    let body = json!({ "credit_id": request.credit, "redeem_request_id": request.request });
    let url = url(question)? + "/consume";
    let call = HttpCall { url, body: Some(body.to_string()), headers: headers(question) };
    read(&send(client, call, question, token).await?, outcome)
}

/// How many resets a usage response states, if it does.
pub(super) fn stated_number(body: &[u8]) -> Option<u32> {
    let document = document(body)?;
    count(document.get("rate_limit_reset_credits")?.get("available_count")?)
}

fn headers<'a>(question: &UsageQuery<'a>) -> Vec<(&'static str, &'a str)> {
    question.vendor_id.map(|id| ("chatgpt-account-id", id)).into_iter().collect()
}

/// The resets are beside the usage.
fn url(question: &UsageQuery<'_>) -> Result<String, UsageError> {
    let usage = query_url(question);
    let beside = usage.strip_suffix("/usage").filter(|_| question.provider == "openai");
    let unknown = || UsageError::permanent(format!("resets are not known at {usage}, which does not end in /usage"));
    Ok(beside.ok_or_else(unknown)?.to_owned() + "/rate-limit-reset-credits")
}

fn parse(body: &[u8], now: Wall) -> Result<BankedResets, UnexpectedAnswer> {
    let unexpected = || UnexpectedAnswer("OpenAI");
    let document: Value = serde_json::from_slice(body).map_err(|_| unexpected())?;
    let stated = document.get("available_count").and_then(count);
    let listed = document.get("credits").or(Some(&document)).and_then(Value::as_array);
    if stated.is_none() && listed.is_none() {
        return Err(unexpected());
    }
    let entries = listed.map_or(&[][..], Vec::as_slice);
    let mut credits: Vec<ResetCredit> = entries.iter().filter_map(|entry| credit(entry, now)).take(MOST).collect();
    credits.sort_by_key(|credit| (credit.expires_at.is_none(), credit.expires_at));
    let number = u32::try_from(credits.len()).unwrap_or(u32::MAX);
    // the list is exact, unless nothing in it can be read
    let available = if number > 0 { number } else { stated.unwrap_or(0) };
    Ok(BankedResets { available, credits, as_of: now })
}

/// A reset of the list, if it can be used.
fn credit(entry: &Value, now: Wall) -> Option<ResetCredit> {
    let word = |key: &str| entry.get(key).and_then(text);
    let expires_at = entry.get("expires_at").and_then(instant);
    let is_usable = word("status").is_none_or(|status| status == "available");
    let is_live = expires_at.is_none_or(|at| at > now);
    (is_usable && is_live).then_some(())?;
    let title = word("title").or_else(|| word("reset_type")).map(str::to_owned);
    Some(ResetCredit { id: word("id")?.to_owned(), title, expires_at })
}

fn outcome(body: &[u8]) -> Result<ResetOutcome, UnexpectedAnswer> {
    let unexpected = || UnexpectedAnswer("OpenAI");
    let document = document(body).ok_or_else(unexpected)?;
    let code = ["code", "outcome"].iter().find_map(|key| document.get(*key).and_then(text));
    match code.ok_or_else(unexpected)? {
        "reset" => Ok(ResetOutcome::Used(document.get("windows_reset").and_then(count))),
        "already_redeemed" => Ok(ResetOutcome::UsedBefore),
        "no_credit" => Ok(ResetOutcome::Gone),
        "nothing_to_reset" => Ok(ResetOutcome::NothingToReset),
        _ => Err(unexpected()),
    }
}

fn count(value: &Value) -> Option<u32> {
    let number = number(value).filter(|number| (0.0..=1e6).contains(number))?;
    Some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_789_997_600_000);

    fn question<'a>(url: Option<&'a str>, base_url: Option<&'a str>) -> UsageQuery<'a> {
        UsageQuery { provider: "openai", url, base_url, vendor_id: None, project: None, wants_plan: false, now: NOW }
    }

    #[test]
    fn resets_are_beside_the_usage() {
        for (usage, base, expected) in [
            (None, None, Some("https://chatgpt.com/backend-api/wham/rate-limit-reset-credits")),
            (Some("http://h/backend-api/wham/usage"), None, Some("http://h/backend-api/wham/rate-limit-reset-credits")),
            (Some("http://h"), None, Some("http://h/backend-api/wham/rate-limit-reset-credits")),
            (Some("http://h/usage/"), None, Some("http://h/rate-limit-reset-credits")),
            (Some("http://h/how-much"), None, None),
            (None, Some("http://h/backend-api/codex"), Some("http://h/backend-api/wham/rate-limit-reset-credits")),
            (None, Some("http://h/v1"), Some("http://h/api/codex/rate-limit-reset-credits")),
        ] {
            assert_eq!(url(&question(usage, base)).ok().as_deref(), expected, "{usage:?} {base:?}");
        }
    }

    #[test]
    fn only_resets_that_can_be_used_count_and_the_first_to_expire_comes_first() {
        let body = json!({ "available_count": 9, "credits": [
            { "id": "late", "status": "available", "expires_at": "2100-01-01T00:00:00Z", "title": "Full reset" },
            { "id": "for-ever", "status": "available", "expires_at": null, "reset_type": "codex_rate_limits" },
            { "id": "early", "status": "available", "expires_at": "2099-01-01T00:00:00Z" },
            { "id": "used", "status": "redeemed", "expires_at": "2100-01-01T00:00:00Z" },
            { "id": "expired", "status": "available", "expires_at": "2001-01-01T00:00:00Z" },
            { "id": 7, "status": "available" },
            { "id": "x".repeat(500), "status": "available" },
            "text",
        ] });
        let read = parse(body.to_string().as_bytes(), NOW).unwrap();
        let ids: Vec<&str> = read.credits.iter().map(|credit| credit.id.as_str()).collect();
        assert_eq!((read.available, ids), (3, vec!["early", "late", "for-ever"]));
        assert_eq!(read.credits[1].title.as_deref(), Some("Full reset"));
        let bare = parse(br#"[{"id":"one"}]"#, NOW).unwrap();
        assert_eq!((bare.available, bare.as_of), (1, NOW));
        assert_eq!(parse(br#"{"available_count":2}"#, NOW).unwrap().available, 2);
        assert_eq!(parse(br#"{"credits":[]}"#, NOW).unwrap().available, 0);
        for body in ["", "7", "{}", r#"{"available_count":"many"}"#, r#"{"credits":7}"#, r#"{"available_count":-1}"#] {
            assert!(parse(body.as_bytes(), NOW).is_err(), "{body}");
        }
    }

    #[test]
    fn an_answer_says_what_became_of_a_use_or_nothing() {
        for (body, expected) in [
            (r#"{"code":"reset","windows_reset":2}"#, Some(ResetOutcome::Used(Some(2)))),
            (r#"{"code":"reset"}"#, Some(ResetOutcome::Used(None))),
            (r#"{"code":"already_redeemed","windows_reset":0}"#, Some(ResetOutcome::UsedBefore)),
            (r#"{"code":"no_credit"}"#, Some(ResetOutcome::Gone)),
            (r#"{"outcome":"nothing_to_reset"}"#, Some(ResetOutcome::NothingToReset)),
            (r#"{"code":"perhaps"}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(outcome(body.as_bytes()).ok(), expected, "{body}");
        }
    }

    #[test]
    fn a_usage_response_may_state_their_number() {
        assert_eq!(stated_number(br#"{"rate_limit_reset_credits":{"available_count":2}}"#), Some(2));
        assert_eq!(stated_number(br#"{"rate_limit_reset_credits":{"available_count":0}}"#), Some(0));
        for body in ["{}", r#"{"rate_limit_reset_credits":null}"#, r#"{"rate_limit_reset_credits":{}}"#] {
            assert_eq!(stated_number(body.as_bytes()), None, "{body}");
        }
    }
}
