//! What an upstream answers.

use super::message::Message;
use crate::limits::{
    self, Backoff, Classification, Headers, LONGEST_BELIEVED, Reason, Scope, UpstreamResponse, Verdict, classify_event,
};

const NOW: u64 = 1_789_997_600_000;
/// The longest evidence, in bytes.
const LONGEST_EVIDENCE: usize = 240;
/// Whose pages a link may lead to.
const VENDORS: [&str; 10] = [
    "google.com",
    "goo.gle",
    "forms.gle",
    "anthropic.com",
    "claude.ai",
    "claude.com",
    "openai.com",
    "chatgpt.com",
    "microsoft.com",
    "azure.com",
];

/// A response: `PROVIDER STATUS [EVENT]`, headers, body.
pub fn classify(input: &[u8]) {
    let message = Message::of(input);
    let names = message.headers.iter().filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, value)));
    let headers = Headers::telling(names);
    let response = UpstreamResponse {
        provider: message.word(0),
        status: message.number(1),
        headers: &headers,
        body: message.body,
        now: NOW,
    };
    let Classification { verdict, windows, .. } = limits::classify(&response);
    let is_refusal = (400..=999).contains(&response.status);
    assert!(!is_refusal || verdict.is_some(), "a refusal has a verdict");
    for window in &windows {
        assert!(window.utilization.is_none_or(|used| used.is_finite() && used >= 0.0), "{window:?}");
    }
    verdict.iter().for_each(assert_possible);
    let event = Some(message.word(2)).filter(|name| !name.is_empty());
    classify_event(&response, event).iter().for_each(assert_possible);
    assert_eq!(limits::classify(&response).verdict, verdict);
}

/// Checks what holds for every verdict.
fn assert_possible(verdict: &Verdict) {
    assert!(verdict.wait.is_none_or(|wait| !wait.is_zero() && wait <= LONGEST_BELIEVED), "{verdict:?}");
    assert!(verdict.wait.is_none_or(|wait| wait.subsec_nanos() % 1_000_000 == 0), "{verdict:?}");
    assert_eq!(verdict.wait.is_none(), verdict.source.name() == "none", "{verdict:?}");
    assert!(verdict.evidence.len() <= LONGEST_EVIDENCE, "{verdict:?}");
    assert!(!verdict.evidence.contains(char::is_control), "{verdict:?}");
    assert!(Backoff::default().wait(verdict.reason, verdict.wait, 0) <= LONGEST_BELIEVED);
    // only what is refused to an account, or to one of its models, can last
    let lasts = verdict.reason == Reason::Forbidden && matches!(verdict.scope, Scope::Account | Scope::Model);
    assert!(!verdict.lasting || lasts, "{verdict:?}");
    if let Some(link) = &verdict.link {
        let host = url::Url::parse(link).ok().and_then(|url| url.host_str().map(str::to_owned));
        let is_of = |vendor: &str, host: &str| host == vendor || host.ends_with(&format!(".{vendor}"));
        let is_known = host.is_some_and(|host| VENDORS.iter().any(|vendor| is_of(vendor, &host)));
        assert!(link.starts_with("https://") && is_known, "{verdict:?}");
    }
}
