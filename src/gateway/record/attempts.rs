//! The attempts of a request: with which account, when, and why one was refused or failed.

use serde_json::Value;

use super::super::waiting::now;
use super::RequestRecord;
use super::names::shortened;
use crate::daemon::{LeasedAccount, ReportOutcome, clock};
use crate::limits::{Reason, Scope, Verdict, lenient_json};
use crate::pool::millis;
use crate::protocol::AttemptRow;

/// The longest words of a provider that are recorded, in bytes.
const MAX_EVIDENCE: usize = 200;
/// The longest type of an error that is recorded, in bytes.
const MAX_TYPE: usize = 48;

/// Why an attempt was refused or failed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::gateway) struct AttemptFailure {
    pub(in crate::gateway) reason: &'static str,
    pub(in crate::gateway) scope: Option<Scope>,
    /// Until when that is limited, epoch ms.
    pub(in crate::gateway) until: Option<u64>,
    pub(in crate::gateway) evidence: Option<String>,
}

impl AttemptFailure {
    /// A refusal that was reported; `may_quote` says whether its words may be recorded.
    pub(in crate::gateway) fn reported(report: &ReportOutcome, may_quote: bool) -> Self {
        let of_verdict = Self::classified(report.verdict.as_ref(), may_quote);
        Self {
            reason: report.decision.reason.map_or(of_verdict.reason, Reason::name),
            scope: report.decision.scope.or(of_verdict.scope),
            until: report.until.map(|at| at.0).or(of_verdict.until),
            evidence: of_verdict.evidence,
        }
    }

    /// A refusal that was only classified.
    pub(in crate::gateway) fn classified(verdict: Option<&Verdict>, may_quote: bool) -> Self {
        let Some(verdict) = verdict else { return Self { reason: Reason::Unknown.name(), ..Self::default() } };
        Self {
            reason: verdict.reason.name(),
            scope: Some(verdict.scope),
            until: verdict.wait.map(|wait| clock::now().wall.after(wait).0),
            evidence: Some(&verdict.evidence).filter(|text| may_quote && !text.is_empty()).cloned(),
        }
    }

    /// With the type of the error in an event as its evidence: a name that cannot be a credential.
    pub(in crate::gateway) fn of_type(self, event: &[u8]) -> Self {
        Self { evidence: error_type(event), ..self }
    }

    /// The token was refused, and there is a new one.
    pub(in crate::gateway) fn rejected_token() -> Self {
        Self { reason: Reason::AuthFailed.name(), scope: Some(Scope::Request), ..Self::default() }
    }

    /// The request could not be sent.
    pub(in crate::gateway) fn not_sent(message: &str) -> Self {
        let evidence = Some(message.strip_prefix("lessor: ").unwrap_or(message).to_owned());
        Self { reason: "not_sent", scope: Some(Scope::Request), until: None, evidence }
    }

    /// The provider has not responded.
    pub(in crate::gateway) fn no_response(error: &str) -> Self {
        Self { reason: "network", scope: Some(Scope::Service), until: None, evidence: Some(error.to_owned()) }
    }
}

/// The type, status or code of the error in the data of an event, if it is a plain word: letters and `_` only.
fn error_type(event: &[u8]) -> Option<String> {
    let document: Value = lenient_json(std::str::from_utf8(event).ok()?.trim()).ok()?;
    let document = document.get("response").filter(|response| response.get("error").is_some()).unwrap_or(&document);
    let error = document.get("error").filter(|error| error.is_object()).unwrap_or(document);
    let is_plain = |word: &&str| {
        (1..=MAX_TYPE).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    ["type", "status", "code"]
        .into_iter()
        .filter_map(|name| error.get(name)?.as_str())
        .find(is_plain)
        .map(str::to_owned)
}

impl RequestRecord {
    /// The request is sent with this account.
    pub(in crate::gateway) fn attempt_begins(&mut self, account: &LeasedAccount) {
        self.waits_no_more();
        let since = now();
        self.attempt_since = Some(since);
        let after_ms = millis(since.duration_since(self.source.received_at));
        let attempts = &mut self.row().attempts;
        if attempts.is_empty() {
            // most requests have one
            attempts.reserve_exact(1);
        }
        attempts.push(AttemptRow { account: account.lease.account.clone(), after_ms, ..AttemptRow::default() });
    }

    /// The response has begun, or the failure is known; the status is that of the response.
    pub(in crate::gateway) fn attempt_answered(&mut self, status: Option<u16>) {
        let Some(since) = self.attempt_since.take() else { return };
        if let Some(attempt) = self.last_attempt() {
            (attempt.duration_ms, attempt.status) = (millis(now().duration_since(since)), status);
        }
    }

    /// The attempt was refused or has failed, for this reason.
    pub(in crate::gateway) fn attempt_failed(&mut self, failure: AttemptFailure) {
        let Some(attempt) = self.last_attempt() else { return };
        attempt.reason = Some(failure.reason.to_owned());
        attempt.scope = failure.scope.map(|scope| scope.name().to_owned());
        attempt.until = failure.until;
        attempt.evidence = failure.evidence.map(|text| shortened(&text, MAX_EVIDENCE).into_owned());
    }

    /// The request has ended before the attempt had a result.
    pub(super) fn abandon_attempt(&mut self) {
        if self.attempt_since.is_some() {
            self.attempt_answered(None);
            if let Some(attempt) = self.last_attempt() {
                attempt.reason = Some("cancelled".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_in_a_stream_only_a_plain_type_is_recorded() {
        for (event, expected) in [
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"sk-ant-x"}}"#, Some("overloaded_error")),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}"#,
                Some("server_error"),
            ),
            (r#"{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}"#, Some("UNAVAILABLE")),
            (r#"{"error":{"type":"sk-ant-api03-abc","code":"k1234567"}}"#, None),
            (r#"{"error":{"type":"the words of a provider","status":"FAILED"}}"#, Some("FAILED")),
            (r#"{"error":"gone"}"#, None),
            ("no document", None),
        ] {
            assert_eq!(error_type(event.as_bytes()).as_deref(), expected, "{event}");
        }
        let long = format!(r#"{{"error":{{"type":"{}"}}}}"#, "a".repeat(MAX_TYPE + 1));
        assert_eq!(error_type(long.as_bytes()), None);
    }
}
