//! Decides from the evidence of one response why the upstream refused.

use super::body::{ErrorBody, Period, codes, google, prose, prose_time, stream};
use super::evidence::{self, ResponseEvidence};
use super::reason::{Reason, Scope};
use super::response::{Dialect, UpstreamResponse};
use super::time::{StatedDelay, WaitSource, When, duration};
use super::verdict::{Classification, Confidence, Verdict};
use super::windows::{self, Window, WindowFamily};

/// A reason and how certain it is; without a scope, the reason's default scope applies.
struct Conclusion {
    reason: Reason,
    scope: Option<Scope>,
    confidence: Confidence,
}

/// Classifies a response: what it says about the account's quota and, unless it is a success, why it refused.
///
/// A 2xx response whose body is an error, or an event stream that contains one, counts as a refusal.
#[must_use]
pub fn classify(response: &UpstreamResponse) -> Classification {
    let windows = windows::read(response.headers, response.now);
    let verdict = match response.status {
        100..=199 | 300..=399 => None,
        200..=299 => refused_within(response, &windows),
        status => Some(judge(response, Some(status), &ErrorBody::read(response.body), &windows)),
    };
    let paid_overage = verdict.is_none() && windows::is_paid_overage(response.headers, &windows);
    Classification { verdict, windows, paid_overage }
}

/// Classifies one event of a stream that began with a success; the response's body is the event's data. `None` if the
/// event is not an error.
#[must_use]
pub fn classify_event(response: &UpstreamResponse, name: Option<&str>) -> Option<Verdict> {
    if !stream::is_error_event(name, response.body) {
        return None;
    }
    let body = ErrorBody::read(response.body);
    let windows = windows::read(response.headers, response.now);
    Some(judge(response, body.status, &body, &windows))
}

fn refused_within(response: &UpstreamResponse, windows: &[Window]) -> Option<Verdict> {
    let body = ErrorBody::read_failure(response.body)?;
    Some(judge(response, body.status, &body, windows))
}

fn judge(response: &UpstreamResponse, status: Option<u16>, body: &ErrorBody, windows: &[Window]) -> Verdict {
    let mut headers = response.headers.clone();
    body.headers.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
    let passed_on = windows::read(&body.headers, response.now);
    let windows: Vec<Window> = windows.iter().cloned().chain(passed_on).collect();
    let dialect = Dialect::of(response.provider);
    let case = ResponseEvidence { dialect, status, headers: &headers, body, windows: &windows, now: response.now };
    let found = case.find();
    let stated = case.stated(found.reason);
    let source = stated.as_ref().map_or(WaitSource::NONE, |stated| stated.source.clone());
    let scope = case.scope(&found, stated.is_some());
    let link = (found.reason == Reason::VerificationRequired).then(|| google::verification_link(body)).flatten();
    Verdict {
        reason: found.reason,
        scope,
        wait: stated.as_ref().map(|stated| stated.wait),
        at: stated.and_then(|stated| stated.at),
        evidence: evidence::of(&case, &source),
        source,
        confidence: found.confidence,
        link,
        lasting: false,
    }
}

impl ResponseEvidence<'_> {
    fn find(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if self.status == Some(413) || (self.may_be_limit() && prose::is_too_large(text)) {
            return certain(Reason::RequestRejected);
        }
        if self.may_be_limit() && prose::is_beyond_plan(text) {
            return likely(Reason::OutOfCredit).at(Scope::Request);
        }
        if let Some((reason, scope)) = codes::specific(&self.body.codes) {
            return self.by_code(reason, scope);
        }
        match self.status {
            Some(401) => certain(Reason::AuthFailed),
            Some(402) => certain(Reason::OutOfCredit),
            Some(403) => self.forbidden(),
            Some(408 | 425) => likely(Reason::ServerError),
            Some(429) => self.limited(),
            Some(400..=499) => self.rejected(),
            Some(500..=599) => self.failed(),
            _ => self.without_status(),
        }
    }

    /// Whether the status allows the refusal to be a limit.
    fn may_be_limit(&self) -> bool {
        matches!(self.status, None | Some(400 | 403 | 429))
    }

    fn by_code(&self, reason: Reason, scope: Option<Scope>) -> Conclusion {
        // the name of the violated limit is more specific than "too many"
        if reason == Reason::RateLimitExceeded && self.body.period == Some(Period::Long) {
            return certain(Reason::QuotaExhausted);
        }
        let further = |window: &&Window| window.kind == WindowFamily::Codex && window.scope == Scope::Model;
        if scope == Some(Scope::Account) && windows::blocking(self.windows).as_ref().is_some_and(further) {
            return certain(reason).at(Scope::Model);
        }
        Conclusion { reason, scope, confidence: Confidence::Certain }
    }

    /// A 429 whose codes are not conclusive.
    fn limited(&self) -> Conclusion {
        let text = self.body.text.as_str();
        let blocking = windows::blocking(self.windows);
        if let Some(window) = blocking.filter(|window| window.kind != WindowFamily::Rate) {
            return certain(Reason::QuotaExhausted).at(window.scope);
        }
        if let Some((reason, scope)) = windows::overage(self.headers) {
            return certain(reason).at(scope);
        }
        if windows::is_unpaid(self.headers)
            || windows::credits_depleted(self.headers)
            || prose::is_out_of_credit(text, self.dialect)
        {
            return likely(Reason::OutOfCredit);
        }
        if let Some(period) = self.body.period {
            return certain(if period == Period::Long { Reason::QuotaExhausted } else { Reason::RateLimitExceeded });
        }
        let told = codes::generic(&self.body.codes).filter(|reason| *reason == Reason::RateLimitExceeded);
        match (prose::why_limited(text), told) {
            // the code fits every limit; the prose says which one
            (Some(Reason::QuotaExhausted), Some(_)) if prose::is_long(text) => likely(Reason::QuotaExhausted),
            (_, Some(reason)) => certain(reason),
            (Some(reason), None) => likely(reason),
            (None, None) if blocking.is_some() => likely(Reason::RateLimitExceeded),
            (None, None) => guess(Reason::Unknown),
        }
    }

    fn forbidden(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if prose::is_verification(text) {
            likely(Reason::VerificationRequired)
        } else if self.is_challenge() {
            // a bot challenge in front of the service concerns this machine, not this account
            likely(Reason::ServerError)
        } else if prose::is_refused_for_all_accounts(text) {
            likely(Reason::Forbidden).at(Scope::Request)
        } else if prose::is_dead_credential(text) {
            likely(Reason::AuthFailed)
        } else if prose::is_out_of_credit(text, self.dialect) {
            likely(Reason::OutOfCredit)
        } else if text.contains("quota exceeded") || text.contains("rate limit exceeded") {
            likely(prose::why_limited(text).unwrap_or(Reason::QuotaExhausted))
        } else if prose::is_model_denied(text) {
            likely(Reason::Forbidden).at(Scope::Model)
        } else {
            likely(Reason::Forbidden)
        }
    }

    /// Any other 4xx status.
    fn rejected(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if self.status != Some(400) {
            return likely(Reason::RequestRejected);
        }
        if prose::is_out_of_credit(text, self.dialect) {
            likely(Reason::OutOfCredit)
        } else if prose::is_dead_credential(text) {
            likely(Reason::AuthFailed)
        } else if prose::is_verification(text) {
            likely(Reason::VerificationRequired)
        } else if prose::is_shut(text) {
            likely(Reason::Forbidden)
        } else {
            certain(Reason::RequestRejected)
        }
    }

    fn failed(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if self.is_challenge() {
            return likely(Reason::ServerError);
        }
        let told = codes::generic(&self.body.codes).filter(|reason| *reason == Reason::ServerError);
        match self.status {
            Some(529) => certain(Reason::ModelCapacityExhausted),
            _ if prose::is_capacity(text) => likely(Reason::ModelCapacityExhausted),
            // a 503 means overload, unless its code reports an internal error
            Some(503) if told.is_none() => likely(Reason::ModelCapacityExhausted),
            _ => certain(Reason::ServerError),
        }
    }

    /// An error in a stream without a status, or with a status that is not an error.
    fn without_status(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if prose::is_out_of_credit(text, self.dialect) {
            return likely(Reason::OutOfCredit);
        }
        let generic = codes::generic(&self.body.codes);
        if matches!(generic, None | Some(Reason::RateLimitExceeded))
            && let limited @ Conclusion { reason, .. } = self.limited()
            && reason != Reason::Unknown
        {
            return limited;
        }
        match (generic, self.status) {
            (Some(reason), _) => certain(reason),
            // the stream broke: that does not concern the account
            (None, None) => guess(Reason::ServerError),
            (None, Some(_)) => guess(Reason::Unknown),
        }
    }

    fn is_challenge(&self) -> bool {
        let body = self.body;
        self.headers.get("cf-mitigated") == Some("challenge")
            || body.message.as_deref().is_some_and(|title| title.starts_with("Just a moment"))
    }

    fn scope(&self, found: &Conclusion, stated: bool) -> Scope {
        if let Some(scope) = found.scope {
            return scope;
        }
        let limited = matches!(found.reason, Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::Unknown);
        if !limited {
            return found.reason.scope();
        }
        // Claude sends window headers with every limit: without them, the request itself is refused
        let of_claude = self.dialect == Dialect::Anthropic && self.status == Some(429);
        let told = found.reason != Reason::Unknown || self.headers.get("x-should-retry").is_some();
        if of_claude && told && !stated && windows::is_windowless(self.headers) {
            return Scope::Request;
        }
        let of_model = self.body.of_model || prose::names_model(&self.body.text);
        if of_model { Scope::Model } else { found.reason.scope() }
    }

    /// The stated wait from the most reliable source.
    fn stated(&self, reason: Reason) -> Option<StatedDelay> {
        let of_window = matches!(
            reason,
            Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::OutOfCredit | Reason::Unknown
        );
        let body = self.body.waits.iter().find_map(|known| known.when.stated(self.now, WaitSource::body(known.source)));
        body.or_else(|| windows::blocking(self.windows).filter(|_| of_window)?.stated(self.now))
            .or_else(|| self.unified_reset().filter(|_| of_window))
            .or_else(|| self.retry_header())
            .or_else(|| self.only_reset().filter(|_| of_window))
            .or_else(|| {
                let wait = prose_time::wait(&self.body.text).filter(|_| reason != Reason::RequestRejected)?;
                wait.stated(self.now, WaitSource::PROSE)
            })
    }

    /// The overall reset of a subscription's refusal, when its window states none.
    fn unified_reset(&self) -> Option<StatedDelay> {
        windows::blocking(self.windows).filter(|window| window.kind == WindowFamily::Unified)?;
        let name = "anthropic-ratelimit-unified-reset";
        When::parse(self.headers.get(name)?)?.stated(self.now, WaitSource::header(name))
    }

    fn retry_header(&self) -> Option<StatedDelay> {
        const MILLIS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];
        const SECONDS: [&str; 2] = ["retry-after", "x-retry-after"];
        let all = |names: [&'static str; 2]| {
            names.into_iter().flat_map(|name| self.headers.all(name).map(move |value| (name, value)))
        };
        let millis = all(MILLIS).map(|(name, value)| (name, duration::parse(&format!("{value}ms")).map(When::In)));
        let seconds = all(SECONDS).map(|(name, value)| (name, retry_after(value)));
        millis.chain(seconds).find_map(|(name, when)| when?.stated(self.now, WaitSource::header(name)))
    }

    /// The reset of the only window, when nothing else is known about it.
    fn only_reset(&self) -> Option<StatedDelay> {
        match self.windows {
            [window] if window.utilization.is_none() => window.stated(self.now),
            _ => None,
        }
    }
}

/// The value of a header that a proxy may have joined with another one of the same name.
fn retry_after(value: &str) -> Option<When> {
    When::parse(value).or_else(|| When::parse(value.split_once(',')?.0))
}

impl Conclusion {
    fn at(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }
}

fn certain(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Certain }
}

fn likely(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Likely }
}

fn guess(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Guess }
}
