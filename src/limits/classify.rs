//! Decides from the evidence of one response why the upstream refused.

use std::time::Duration;

use super::body::lasting::{self, Lasting};
use super::body::{ErrorBody, Period, codes, links, page, prose, stream};
use super::evidence::{self, ResponseEvidence};
use super::reason::{Reason, Scope};
use super::response::{Dialect, MAX_BODY, UpstreamResponse};
use super::time::WaitSource;
use super::verdict::{Classification, Confidence, Verdict};
use super::windows::{self, Window, WindowFamily};

/// From this stated time on, a limit is not a passing overload but a used-up quota. Overloads pass within seconds, and
/// servers state no more than a minute for them.
const MINUTES: Duration = Duration::from_secs(120);

/// A reason and how certain it is; without a scope, the reason's default scope applies.
struct Conclusion {
    reason: Reason,
    scope: Option<Scope>,
    confidence: Confidence,
    lasting: bool,
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
    let beginning = &response.body[..response.body.len().min(MAX_BODY)];
    if page::may_be_block(beginning) {
        // some protections refuse with the status of a success
        let body = ErrorBody::read(beginning);
        return (body.is_page && page::is_block(response.headers, &body))
            .then(|| judge(response, None, &body, windows));
    }
    let body = ErrorBody::read_failure(response.body)?;
    Some(judge(response, body.status, &body, windows))
}

fn judge(response: &UpstreamResponse, status: Option<u16>, body: &ErrorBody, windows: &[Window]) -> Verdict {
    // the headers in an error event are newer than those of the stream that it ends
    let mut headers = body.headers.clone();
    response.headers.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
    let passed_on = windows::read(&body.headers, response.now);
    let windows: Vec<Window> = windows.iter().cloned().chain(passed_on).collect();
    let dialect = Dialect::of(response.provider);
    let case = ResponseEvidence { dialect, status, headers: &headers, body, windows: &windows, now: response.now };
    let found = case.find();
    let of_a_change = found.lasting && prose::is_of_a_change(&body.text);
    let stated = case.stated(found.reason).filter(|stated| !of_a_change || stated.source != WaitSource::PROSE);
    let found = case.unless_long(found, stated.as_ref().map(|stated| stated.wait));
    let source = stated.as_ref().map_or(WaitSource::NONE, |stated| stated.source.clone());
    let scope = case.scope(&found, stated.is_some());
    let link = match found.reason {
        Reason::VerificationRequired => links::verification(body),
        Reason::Forbidden => links::remedy(body),
        _ => None,
    };
    Verdict {
        reason: found.reason,
        scope,
        wait: stated.as_ref().map(|stated| stated.wait),
        at: stated.and_then(|stated| stated.at),
        status,
        evidence: evidence::of(&case, &source, found.reason),
        source,
        confidence: found.confidence,
        link,
        lasting: found.lasting,
    }
}

impl ResponseEvidence<'_> {
    fn find(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if self.status == Some(413) || (self.may_be_limit() && prose::is_too_large(text)) {
            return certain(Reason::RequestRejected);
        }
        if let Some(window) = self.spent_plan().filter(|_| self.status == Some(429)) {
            // whatever the body says, the plan's own window refuses
            return certain(Reason::QuotaExhausted).at(window.scope);
        }
        if self.is_edge() {
            // what stands before the service concerns this machine, not this account
            return likely(Reason::ServerError);
        }
        if self.may_be_limit() && prose::is_beyond_plan(text) {
            return likely(Reason::OutOfCredit).at(Scope::Request);
        }
        if self.may_be_limit() && (windows::is_fast_mode_spent(self.headers) || prose::is_of_fast_mode(text)) {
            return likely(Reason::RateLimitExceeded).at(Scope::Request);
        }
        if let Some(state) = self.lasting() {
            return state;
        }
        if let Some((reason, scope)) = codes::specific(&self.body.codes) {
            return self.by_code(reason, scope);
        }
        if self.is_limit_within() {
            return self.limited();
        }
        let is_money = || !self.body.is_page && prose::is_out_of_credit(text, self.dialect);
        match self.status {
            Some(401 | 404..=428 | 430..=499 | 500..=528) if is_money() => likely(Reason::OutOfCredit),
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

    /// A state that lasts, of the account or of a model that its plan lacks. Other reasons of the same words come
    /// first: a page to verify the account, a region, money.
    fn lasting(&self) -> Option<Conclusion> {
        let (body, text) = (self.body, self.body.text.as_str());
        let is_quota = self.status == Some(429) || body.states(429);
        if is_quota && lasting::is_never_granted(body) {
            return Some(certain(Reason::Forbidden).at(Scope::Model).lasting());
        }
        let is_refusal = |status: u16| matches!(status, 400..=404);
        // a proxy wraps the refusal of its own upstream
        let is_wrapped = || {
            let stated = body.statuses.iter().copied().chain([400, 401, 403, 404]);
            let code = codes::generic(&body.codes);
            stated.filter(|status| is_refusal(*status)).any(|status| body.states(status))
                || matches!(code, Some(Reason::Forbidden | Reason::AuthFailed))
                || lasting::state_by_code(body).is_some()
                || text.contains("unknown provider for model")
        };
        let refuses = match self.status {
            Some(429 | 500..=599) => is_wrapped(),
            // a failing login service says "currently not allowed for this organization" to everyone
            Some(401) => !text.contains("currently"),
            Some(status) => is_refusal(status),
            None => true,
        };
        if !refuses
            || codes::specific(&body.codes)
                .is_some_and(|(reason, _)| matches!(reason, Reason::VerificationRequired | Reason::OutOfCredit))
            || codes::met(&body.codes, "invalidprompt contentpolicyviolation contextlengthexceeded requesttoolarge")
            || prose::is_verification(text)
            || prose::is_refused_for_all_accounts(text)
            || prose::is_out_of_credit(text, self.dialect)
        {
            return None;
        }
        let forbidden = likely(Reason::Forbidden);
        Some(match lasting::state(body)? {
            Lasting::Account => forbidden.at(Scope::Account).lasting(),
            Lasting::Model => forbidden.at(Scope::Model).lasting(),
            Lasting::Login => forbidden.at(Scope::Request),
        })
    }

    /// Whether an answer with another status reports a limit: a proxy wraps its upstream's refusals in its own.
    fn is_limit_within(&self) -> bool {
        if matches!(self.status, None | Some(429 | 401 | 402)) {
            return false;
        }
        let text = self.body.text.as_str();
        let says = || {
            codes::met(&self.body.codes, "resourceexhausted ratelimiterror ratelimit") || prose::is_surely_limited(text)
        };
        let is_timed = || {
            let why = prose::why_limited(text);
            why.is_some_and(|why| why != Reason::ModelCapacityExhausted) && self.stated_in_words().is_some()
        };
        self.body.states(429) || says() || is_timed()
    }

    /// Whether the answer comes from what stands before the service: a block page, or any page where only the service
    /// could blame an account.
    fn is_edge(&self) -> bool {
        // the paths and arguments that a service does not know are the request's
        let blames = !matches!(self.status, Some(400 | 404..=428 | 529));
        page::is_block(self.headers, self.body) || (self.body.is_page && blames)
    }

    /// The used-up window of the plan that blocks longest.
    fn spent_plan(&self) -> Option<&Window> {
        windows::blocking(self.windows).filter(|window| window.kind != WindowFamily::Rate)
    }

    /// A long stated time belongs to a quota, whatever the words say of an overload. A 5xx with such a `retry-after` is
    /// a service that is closed for so long.
    fn unless_long(&self, found: Conclusion, wait: Option<Duration>) -> Conclusion {
        let is_long = wait.is_some_and(|wait| wait >= MINUTES);
        let of_account = match found.reason {
            Reason::ModelCapacityExhausted => {
                self.status == Some(429) || self.stated_in_body().or_else(|| self.stated_in_words()).is_some()
            }
            Reason::RateLimitExceeded => codes::met(&self.body.codes, "modelcooldown"),
            Reason::Unknown => codes::met(&self.body.codes, "resourceexhausted"),
            _ => false,
        };
        match (of_account, found.reason) {
            (true, _) if is_long => likely(Reason::QuotaExhausted),
            (true, Reason::Unknown) if wait.is_some() => likely(Reason::RateLimitExceeded),
            _ => found,
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
        Conclusion { scope, ..certain(reason) }
    }

    /// A 429 whose codes are not conclusive.
    fn limited(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if let Some(window) = self.spent_plan() {
            return certain(Reason::QuotaExhausted).at(window.scope);
        }
        if let Some((reason, scope)) = windows::overage(self.headers).filter(|_| !self.is_per_minute()) {
            return certain(reason).at(scope);
        }
        if let Some(scope) = windows::refused(self.headers) {
            return certain(Reason::QuotaExhausted).at(scope);
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
        let is_timed = !self.body.waits.is_empty() || self.retry_header().is_some();
        if prose::is_stock_phrase(text) && !is_timed {
            return guess(Reason::Unknown);
        }
        let told = codes::generic(&self.body.codes).filter(|reason| *reason == Reason::RateLimitExceeded);
        if told.is_none() && prose::is_status_phrase(text) && !is_timed && self.windows.is_empty() {
            return guess(Reason::Unknown);
        }
        match (prose::why_limited(text), told) {
            // the code fits every limit; the prose says which one
            (Some(Reason::QuotaExhausted), Some(_)) if prose::is_long(text) => likely(Reason::QuotaExhausted),
            (_, Some(reason)) => certain(reason),
            (Some(reason), None) => likely(reason),
            (None, None) if windows::blocking(self.windows).is_some() => likely(Reason::RateLimitExceeded),
            (None, None) => guess(Reason::Unknown),
        }
    }

    /// Whether the plan has room and only the rate of a short time is exceeded.
    fn is_per_minute(&self) -> bool {
        let is_short = || self.retry_header().is_some_and(|stated| stated.wait < MINUTES);
        windows::refused(self.headers).is_none()
            && (windows::blocking(self.windows).is_some() || is_short() || prose::is_per_minute(&self.body.text))
    }

    fn forbidden(&self) -> Conclusion {
        let text = self.body.text.as_str();
        if prose::is_verification(text) {
            likely(Reason::VerificationRequired)
        } else if prose::is_refused_for_all_accounts(text) {
            likely(Reason::Forbidden).at(Scope::Request)
        } else if prose::is_dead_credential(text) {
            likely(Reason::AuthFailed)
        } else if prose::is_out_of_credit(text, self.dialect) {
            likely(Reason::OutOfCredit)
        } else if text.contains("quota exceeded") || text.contains("rate limit exceeded") {
            likely(prose::why_limited(text).unwrap_or(Reason::QuotaExhausted))
        } else if self.body.documents.is_empty() && !lasting::names_account(text) {
            // what stands before the service answers in plain text or not at all
            likely(Reason::ServerError)
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
        } else {
            certain(Reason::RequestRejected)
        }
    }

    fn failed(&self) -> Conclusion {
        let text = self.body.text.as_str();
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
}

impl Conclusion {
    fn at(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }
}

fn certain(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Certain, lasting: false }
}

fn likely(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Likely, lasting: false }
}

fn guess(reason: Reason) -> Conclusion {
    Conclusion { reason, scope: None, confidence: Confidence::Guess, lasting: false }
}
