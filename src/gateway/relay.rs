//! One request on its way: an account, an attempt, the next account; until something can go to the client.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use crate::daemon::{
    GatewayClient, GatewayHandle, LeaseStep, LeasedAccount, NoLeaseReason, ReportOutcome, RouteRequest,
    UpstreamOutcome, clock,
};
use crate::limits::{Dialect, Headers, Reason, Scope};
use crate::pool::{Action, ConnectionId, CredentialKind, Refusal, RefusalKind};

use super::ask::Asked;
use super::body::{Body, Relay};
use super::front::Front;
use super::ledger::Entry;
use super::peek::{self, Beginning};
use super::refuse;
use super::route::Route;
use super::swap::{self, With};
use super::tap::Tap;

/// What lessor itself may add: the agent that gives up first does so after 60 s.
const OWN_DELAY: Duration = Duration::from_secs(50);
/// No answer at all for so long is none; agents that think for longer stream.
const NO_ANSWER: Duration = Duration::from_secs(1800);
/// Silence within an answer that is longer ends it.
const IDLE: Duration = Duration::from_secs(600);
/// The first wait after a failure of the service; twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// More attempts than this are a loop.
const MOST_ATTEMPTS: u32 = 100;

const X_LESSOR_ACCOUNT: HeaderName = HeaderName::from_static("x-lessor-account");
const X_LESSOR_ATTEMPTS: HeaderName = HeaderName::from_static("x-lessor-attempts");

/// A request, where it goes, and how far it has come.
pub(super) struct Journey<'a> {
    pub(super) front: &'a Arc<Front>,
    pub(super) visitor: &'a GatewayClient,
    pub(super) connection: ConnectionId,
    pub(super) route: Route,
    pub(super) query: Option<String>,
    pub(super) asked: Asked,
    pub(super) model: Option<String>,
    pub(super) pool: Option<&'static str>,
    pub(super) session: Option<String>,
    pub(super) max_attempts: u32,
    pub(super) entry: Entry,
    deadline: Instant,
    attempts: u32,
    /// Failures that are no account's fault.
    failures: u32,
    /// The accounts whose credential was renewed for this request.
    renewed: bool,
}

/// What an attempt came to.
enum Attempt {
    /// It goes to the client.
    Good(Box<Parts>, Vec<Bytes>, Incoming),
    /// It was refused.
    Refused(Box<Refused>),
    /// There was no answer.
    Failed(String),
}

/// A refusal, in case it is passed on.
struct Refused {
    head: Parts,
    first: Vec<Bytes>,
    rest: Incoming,
    said: Said,
}

/// How it was said.
enum Said {
    Status(Vec<u8>),
    Event(Option<String>, Vec<u8>),
}

/// What comes after a refusal.
enum Next {
    /// Another attempt.
    Again(Option<Box<LeasedAccount>>),
    /// The client gets this.
    Answer(Response<Body>),
}

/// A request before it sets out.
pub(super) struct Baggage {
    pub(super) route: Route,
    pub(super) query: Option<String>,
    pub(super) asked: Asked,
    pub(super) model: Option<String>,
    pub(super) pool: Option<&'static str>,
    pub(super) session: Option<String>,
    pub(super) entry: Entry,
}

impl<'a> Journey<'a> {
    pub(super) fn new(
        front: &'a Arc<Front>,
        visitor: &'a GatewayClient,
        connection: ConnectionId,
        baggage: Baggage,
        max_attempts: u32,
    ) -> Self {
        let Baggage { route, query, asked, model, pool, session, entry } = baggage;
        let deadline = now() + OWN_DELAY;
        let (attempts, failures, renewed) = (0, 0, false);
        Self {
            front,
            visitor,
            connection,
            route,
            query,
            asked,
            model,
            pool,
            session,
            max_attempts,
            entry,
            deadline,
            attempts,
            failures,
            renewed,
        }
    }

    fn desk(&self) -> &'a GatewayHandle {
        &self.front.desk
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(now())
    }

    /// Goes all the way.
    pub(super) async fn go(mut self) -> Response<Body> {
        let mut held = None;
        loop {
            let account = match self.account(held).await {
                Ok(account) => account,
                Err(answer) => return answer,
            };
            self.attempts += 1;
            let attempt = match self.attempt(&account).await {
                Ok(attempt) => attempt,
                Err(message) => return self.error(StatusCode::BAD_GATEWAY, &message),
            };
            let next = match attempt {
                Attempt::Good(head, first, rest) => return self.commit(account, *head, first, rest),
                Attempt::Refused(refused) => self.refused(account, *refused).await,
                Attempt::Failed(why) => self.failed(account, &why).await,
            };
            held = match next {
                Next::Again(held) => held,
                Next::Answer(answer) => return answer,
            };
        }
    }

    /// Finds an account that can serve, and waits for one where that can be in time.
    async fn account(&mut self, mut held: Option<Box<LeasedAccount>>) -> Result<Box<LeasedAccount>, Response<Body>> {
        loop {
            let wanted = RouteRequest {
                provider: &self.route.provider,
                model: self.model.as_deref(),
                pool: self.pool,
                kinds: self.route.kinds,
                session: self.session.as_deref(),
                connection: self.connection,
            };
            match self.desk().lease(self.visitor, &wanted, held, self.left()).await {
                Ok(LeaseStep::Leased(held)) => return Ok(held),
                Ok(LeaseStep::Wait(after, before)) => {
                    held = before;
                    self.pause(after).await;
                }
                Err(NoLeaseReason::Gone) => return Err(self.front.stranger(&self.route.provider)),
                Err(NoLeaseReason::Bad(why)) => return Err(self.error(StatusCode::BAD_REQUEST, &why.to_string())),
                Err(NoLeaseReason::Refused(refusal)) => return Err(self.nobody(&refusal)),
            }
        }
    }

    /// Waits so long, or until something has changed.
    async fn pause(&self, after: Duration) {
        let after = after.min(self.left()).max(Duration::from_millis(1));
        tokio::select! {
            () = sleep(after) => {}
            () = self.desk().stirred() => {}
        }
    }

    async fn attempt(&mut self, held: &LeasedAccount) -> Result<Attempt, String> {
        let with = With {
            provider: &self.route.provider,
            kind: held.kind,
            secret: &held.secret,
            vendor_id: held.vendor_id.as_deref(),
        };
        let bad = |error: &dyn std::fmt::Display| format!("{} cannot be asked this: {error}", self.route.provider);
        let uri = self.route.uri(held.kind, self.query.as_deref()).map_err(|error| bad(&error))?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| bad(&error))?;
        let headers = swap::swapped(&self.asked.headers, &host, with).map_err(|error| bad(&error))?;
        let upstream = match self.front.upstreams.to(&self.route.reach, &uri).await {
            Ok(upstream) => upstream,
            Err(error) => return Err(format!("{} cannot be reached: {error}", self.route.provider)),
        };
        let Some(request) = self.asked.to(uri, headers) else {
            return Err("the request is too large to be sent again".to_owned());
        };
        let response = match timeout(NO_ANSWER, upstream.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Attempt::Failed(error.to_string())),
            Err(_) => return Ok(Attempt::Failed(format!("no answer within {} s", NO_ANSWER.as_secs()))),
        };
        Ok(self.look(response).await)
    }

    /// Looks at the beginning of an answer.
    async fn look(&self, response: Response<Incoming>) -> Attempt {
        let (head, mut rest) = response.into_parts();
        if !head.status.is_success() {
            if head.status.is_redirection() || head.status.is_informational() {
                return Attempt::Good(Box::new(head), Vec::new(), rest);
            }
            let (text, first) = peek::read(&head.headers, &mut rest).await;
            return Attempt::Refused(Box::new(Refused { head, first, rest, said: Said::Status(text) }));
        }
        let dialect = Dialect::of(&self.route.provider);
        match peek::look(&head.headers, &mut rest, dialect, IDLE).await {
            Beginning::Good(first) => Attempt::Good(Box::new(head), first, rest),
            Beginning::Event { name, data, first } => {
                Attempt::Refused(Box::new(Refused { head, first, rest, said: Said::Event(name, data) }))
            }
            Beginning::Document { text, first } => {
                Attempt::Refused(Box::new(Refused { head, first, rest, said: Said::Status(text) }))
            }
            Beginning::Broken(why) => Attempt::Failed(why),
        }
    }

    /// Lets the answer go to the client, and learns from it on the way.
    fn commit(self, held: Box<LeasedAccount>, head: Parts, first: Vec<Bytes>, rest: Incoming) -> Response<Body> {
        let telling = telling(&head.headers);
        if head.status.is_success() {
            let heard = UpstreamOutcome::Response { status: head.status.as_u16(), headers: &telling, body: &[] };
            self.desk().learn_late(&held, heard);
        }
        let tap = Tap::new(&head, telling, self.desk().clone(), self.front.ledger.clone(), self.entry.clone(), held);
        self.answer(tap, head, first, rest)
    }

    /// The upstream's own answer, as it is.
    fn answer(&self, tap: Tap, head: Parts, first: Vec<Bytes>, rest: Incoming) -> Response<Body> {
        let Parts { status, headers, extensions, .. } = head;
        let account = tap.account().to_owned();
        let body = Body::Relay(Relay::new(first, rest, IDLE, Some(Box::new(tap))));
        let mut response = Response::new(body);
        *response.status_mut() = status;
        // the reason phrase and the case of names, among others
        *response.extensions_mut() = extensions;
        let named = swap::named_by_connection(&headers);
        let kept = response.headers_mut();
        kept.reserve(headers.len() + 2);
        for (name, value) in &headers {
            if !swap::is_of_connection(name, &named) {
                kept.append(name.clone(), value.clone());
            }
        }
        self.sign(kept, Some(&account));
        response
    }

    fn sign(&self, headers: &mut HeaderMap, account: Option<&str>) {
        if let Some(account) = account.and_then(|account| HeaderValue::from_str(account).ok()) {
            headers.insert(X_LESSOR_ACCOUNT, account);
        }
        headers.insert(X_LESSOR_ATTEMPTS, self.attempts.into());
    }

    /// The account refused: it is learnt, and somebody else is asked.
    async fn refused(&mut self, held: Box<LeasedAccount>, refused: Refused) -> Next {
        let telling = telling(&refused.head.headers);
        let heard = match &refused.said {
            Said::Status(text) => {
                UpstreamOutcome::Response { status: refused.head.status.as_u16(), headers: &telling, body: text }
            }
            Said::Event(name, data) => UpstreamOutcome::Event { headers: &telling, name: name.as_deref(), data },
        };
        let is_login = held.kind == CredentialKind::Oauth;
        if is_login && refused.head.status == StatusCode::UNAUTHORIZED && !self.renewed && self.asked.can_be_sent() {
            self.renewed = true;
            if self.desk().renew(&held, self.left()).await {
                return Next::Again(Some(held));
            }
        }
        let name = held.name.clone();
        let (learnt, held) = match self.desk().learn(held, heard).await {
            Ok((learnt, held)) => (learnt, Some(held)),
            // by another request of the same holder: it has an account that it can go on with
            Err(_) => return if self.may_go_on() { Next::Again(None) } else { self.pass_on(None, &name, refused) },
        };
        self.front.ledger.failure(&self.entry, &name, reason_of(&learnt));
        let ReportOutcome { decision, .. } = &learnt;
        let of_service = decision.scope == Some(Scope::Service);
        match decision.action {
            Action::Continue => self.pass_on(held, &name, refused),
            Action::Stop if decision.scope == Some(Scope::Request) => self.pass_on(held, &name, refused),
            Action::Stop => self.out(&learnt),
            Action::Switch if self.may_go_on() => Next::Again(held),
            Action::Retry | Action::Wait if of_service => {
                let stated = learnt.verdict.as_ref().and_then(|verdict| verdict.wait);
                if self.service_pause(stated).await { Next::Again(held) } else { self.pass_on(held, &name, refused) }
            }
            Action::Retry | Action::Wait if self.may_go_on() => {
                if decision.after > self.left() {
                    return self.out(&learnt);
                }
                if decision.action == Action::Wait {
                    self.pause(decision.after).await;
                } else {
                    // the same account is asked again, and not before its time
                    sleep(decision.after).await;
                }
                Next::Again(held)
            }
            Action::Switch | Action::Retry | Action::Wait => self.pass_on(held, &name, refused),
        }
    }

    fn may_go_on(&self) -> bool {
        self.asked.can_be_sent() && self.attempts < MOST_ATTEMPTS && !self.left().is_zero()
    }

    /// Waits before the service is asked again; `false` when it was asked often enough, or the wait is too long.
    async fn service_pause(&mut self, stated: Option<Duration>) -> bool {
        self.failures += 1;
        if self.failures >= self.max_attempts || !self.may_go_on() {
            return false;
        }
        let pause = stated.unwrap_or(FIRST_PAUSE * (1 << (self.failures - 1).min(6)));
        if pause > self.left() {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// The refusal goes to the client as it came.
    fn pass_on(&self, held: Option<Box<LeasedAccount>>, name: &str, refused: Refused) -> Next {
        let Refused { head, first, rest, .. } = refused;
        let tap = Tap::passive(&head, self.front.ledger.clone(), self.entry.clone(), name, held);
        Next::Answer(self.answer(tap, head, first, rest))
    }

    /// Nobody is left; the last one's word says why.
    fn out(&self, learnt: &ReportOutcome) -> Next {
        let decision = &learnt.decision;
        let evidence = learnt.verdict.as_ref().map(|verdict| verdict.evidence.as_str()).unwrap_or_default();
        let reason = decision.reason.map_or("unknown", Reason::name).replace('_', " ");
        let retry_at = (!decision.after.is_zero()).then(|| clock::now().wall.after(decision.after));
        let message = format!("no {} account can serve this: {reason} ({evidence})", self.route.provider);
        let refusal = Refusal { kind: RefusalKind::AllLimited, message, retry_at, accounts: Vec::new(), hint: None };
        Next::Answer(self.nobody(&refusal))
    }

    /// There was no answer.
    async fn failed(&mut self, held: Box<LeasedAccount>, why: &str) -> Next {
        let name = held.name.clone();
        self.front.ledger.failure(&self.entry, &name, "network");
        tracing::debug!(account = name, "no answer of {}: {why}", self.route.provider);
        let told = UpstreamOutcome::Told { reason: Reason::ServerError, wait: None };
        let held = self.desk().learn(held, told).await.ok().map(|(_, held)| held);
        if self.service_pause(None).await {
            return Next::Again(held);
        }
        let message = format!("lessor: no answer of {}: {why}", self.route.provider);
        Next::Answer(self.error(StatusCode::BAD_GATEWAY, &message))
    }

    fn nobody(&self, refusal: &Refusal) -> Response<Body> {
        self.front.ledger.refusal(&self.entry, refusal.kind);
        let mut response = refuse::nobody(&self.route.provider, refusal, clock::now().wall);
        self.sign(response.headers_mut(), None);
        response
    }

    fn error(&self, status: StatusCode, message: &str) -> Response<Body> {
        let mut response = refuse::error(&self.route.provider, status, message);
        self.sign(response.headers_mut(), None);
        response
    }
}

fn reason_of(learnt: &ReportOutcome) -> &'static str {
    learnt.decision.reason.map_or("none", Reason::name)
}

/// The headers that tell something.
fn telling(headers: &HeaderMap) -> Headers {
    Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

#[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
fn now() -> Instant {
    Instant::now()
}
