//! One refresh: it is recorded on disk before it is sent, and its token is on disk before it is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::credential::oauth::{AuthorizationServer, OauthSettings, RefreshResult, TokenRotation, refresh};
use crate::credential::refresh::{RefreshFailure, RefreshFault, RefreshOutcome, RefreshTransition};
use crate::credential::{Credential, Link, Secret};
use crate::daemon::os::clock;
use crate::daemon::refresh::over_hosts::{self, SharedBegin, SharedClaim};
use crate::daemon::refresh::{shared_login, start_tool};
use crate::daemon::state::{Daemon, Renewal, State, save, set_login_state};
use crate::pool::{AccountId, Command, LoginProblem, LoginState, Mono, Now, spoken};
use crate::shared_pool::TokenGeneration;
use crate::store::{Write, WriteError};

/// A change of the difference between both clocks below this, in ms, is that of two readings.
const CLOCK_SET: u64 = 1_000;
/// How long the metadata of a server is cached.
const CACHED_FOR: Duration = Duration::from_secs(3600);
/// The time between two tries to save a token.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// The most cached servers; each change of their settings adds one.
const MAX_SERVERS: usize = 64;

/// The authorization servers that were used before.
#[derive(Debug, Default)]
pub(super) struct Servers(Mutex<Vec<(OauthSettings, Arc<AuthorizationServer>, Mono)>>);

impl Servers {
    async fn of(&self, settings: &OauthSettings) -> Result<Arc<AuthorizationServer>, RefreshResult> {
        let now = clock::now().mono;
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(_, _, since)| now.since(*since) < CACHED_FOR);
            if let Some((_, server, _)) = known.iter().find(|(known, _, _)| known == settings) {
                return Ok(server.clone());
            }
        }
        let server =
            AuthorizationServer::find(settings.clone()).await.map_err(|error| RefreshResult::of_server(&error))?;
        let server = Arc::new(server);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SERVERS {
            known.remove(0);
        }
        known.push((settings.clone(), server.clone(), now));
        Ok(server)
    }
}

/// What is done for one account.
enum Job {
    Oauth(Box<RefreshJob>),
    StartTool(Link),
}

struct RefreshJob {
    settings: OauthSettings,
    /// Its refresh token; of a login that other hosts use, too, the pool has it.
    refresh: Option<Secret>,
    link: Option<Link>,
}

/// What is sent.
struct SendableRefresh {
    refresh: Secret,
    link: Option<Link>,
    /// That no other host sends it.
    claim: Option<SharedClaim>,
}

/// Which login was refreshed: what followed it is used only while the account still has it.
#[derive(Clone, Copy)]
pub(super) enum RefreshedLogin<'a> {
    /// The one with this refresh token.
    Token(&'a Secret),
    /// The one that the pool has as this generation.
    Shared(TokenGeneration),
}

/// Refreshes one account, and reports the outcome.
pub(super) async fn attempt(daemon: Arc<Daemon>, servers: Arc<Servers>, id: AccountId) {
    let mut attempt = AttemptGuard { daemon: &daemon, id, outcome: None };
    attempt.outcome = carry_out(&daemon, &servers, id).await;
}

/// A refresh that may have been sent: the end of the daemon waits for it.
struct SentRefresh<'a> {
    daemon: &'a Daemon,
    id: AccountId,
}

impl<'a> SentRefresh<'a> {
    /// `None` when the daemon is ending.
    fn begin(daemon: &'a Daemon, id: AccountId) -> Option<Self> {
        daemon.state().logins.begin_request(id, clock::now()).then_some(Self { daemon, id })
    }
}

impl Drop for SentRefresh<'_> {
    fn drop(&mut self) {
        self.daemon.state().logins.request_ended(self.id);
        self.daemon.refresh_ended.notify_waiters();
    }
}

/// Reports the outcome when it is dropped, also after a panic, so that another attempt can be made.
struct AttemptGuard<'a> {
    daemon: &'a Daemon,
    id: AccountId,
    outcome: Option<RefreshOutcome>,
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        let panicked = || failed(RefreshFault::Account, "the attempt failed inside lessor".to_owned());
        match self.outcome.take() {
            // it was not sent, or is given up
            None if self.daemon.state().logins.is_ending() => self.daemon.state().logins.attempt_ended(self.id),
            outcome => attempt_ended(self.daemon, self.id, &outcome.unwrap_or_else(panicked)),
        }
    }
}

/// `None` when it was not sent, because the daemon is ending.
async fn carry_out(daemon: &Arc<Daemon>, servers: &Servers, id: AccountId) -> Option<RefreshOutcome> {
    let job = match job(daemon, id) {
        None => return Some(RefreshOutcome::LoginEnded),
        // the end of the daemon ends the tool: its refresh token stays the same
        Some(Job::StartTool(link)) => return Some(start_tool::refresh(daemon, id, &link).await),
        Some(Job::Oauth(job)) => job,
    };
    // a newer login in the tool's file is used instead, and the tool must not refresh at the same time
    let _locks = match &job.link {
        None => None,
        Some(link) => match shared_login::prepare(daemon, id, link).await {
            shared_login::Preparation::Adopted => return Some(RefreshOutcome::Renewed),
            shared_login::Preparation::Ready(locks) => locks,
            shared_login::Preparation::Busy(why) => return Some(failed(RefreshFault::Account, why)),
        },
    };
    let server = match servers.of(&job.settings).await {
        Ok(server) => server,
        Err(refused) => return Some(could_not_ask(daemon, id, refused)),
    };
    let job = match job.refresh {
        Some(refresh) => SendableRefresh { refresh, link: job.link, claim: None },
        None => match over_hosts::begin(daemon, id).await {
            SharedBegin::Claimed(refresh, claim) => SendableRefresh { refresh, link: job.link, claim: Some(claim) },
            SharedBegin::Ended(outcome) => return Some(outcome),
        },
    };
    let sent = send(daemon, id, &server, &job).await;
    if !matches!(sent, RefreshSending::Answered(_))
        && let Some(claim) = &job.claim
    {
        claim.unsent().await;
    }
    match sent {
        RefreshSending::Answered(outcome) => Some(outcome),
        RefreshSending::NotSent(outcome) => outcome,
    }
}

/// Whether a refresh was sent.
enum RefreshSending {
    /// It was, and this followed.
    Answered(RefreshOutcome),
    /// It was not: why, or `None` because the daemon is ending.
    NotSent(Option<RefreshOutcome>),
}

/// Records the refresh, sends it, and keeps what follows.
async fn send(
    daemon: &Arc<Daemon>,
    id: AccountId,
    server: &AuthorizationServer,
    job: &SendableRefresh,
) -> RefreshSending {
    let Some(_request) = SentRefresh::begin(daemon, id) else { return RefreshSending::NotSent(None) };
    let begun = clock::now();
    let began = begun.wall;
    // of several in a row that were not answered, the first one counts
    let marked = daemon.state().logins.unanswered.get(&id).copied().unwrap_or(began);
    if let Err(error) = save(&daemon.store, Write::MarkRefresh(id, Some(marked))).await {
        let why = format!("refresh is suspended: the database is not writable: {error}");
        return RefreshSending::NotSent(Some(failed(RefreshFault::Disk, why)));
    }
    if daemon.state().logins.is_ending() {
        if marked == began {
            daemon.write(Write::MarkRefresh(id, None));
        }
        return RefreshSending::NotSent(None);
    }
    let refreshed = by_the_clock_of(refresh(server, &job.refresh, began).await, begun, clock::now());
    if matches!(&refreshed, RefreshResult::Failed(_, TokenRotation::Possible)) {
        daemon.state().logins.unanswered.entry(id).or_insert(began);
    }
    RefreshSending::Answered(conclude(daemon, id, job, refreshed).await)
}

/// The answer, with its times on the clock as it is now: they were counted from the request, and the clock may have been set
/// since.
fn by_the_clock_of(answer: RefreshResult, sent: Now, now: Now) -> RefreshResult {
    let step = now.skew().saturating_sub(sent.skew());
    match answer {
        RefreshResult::New(credential, life) if step.unsigned_abs() >= CLOCK_SET => {
            RefreshResult::New(credential.follow_clock(step), life)
        }
        other => other,
    }
}

/// The server cannot be found out: nothing was sent.
fn could_not_ask(daemon: &Daemon, id: AccountId, refused: RefreshResult) -> RefreshOutcome {
    match refused {
        RefreshResult::Failed(failure, sent) => not_answered(daemon, id, failure, sent),
        // a server that was not asked has no answer
        RefreshResult::New(..) | RefreshResult::Rejected(_) => RefreshOutcome::LoginEnded,
    }
}

fn not_answered(daemon: &Daemon, id: AccountId, failure: RefreshFailure, sent: TokenRotation) -> RefreshOutcome {
    if sent == TokenRotation::Excluded && !daemon.state().logins.unanswered.contains_key(&id) {
        daemon.write(Write::MarkRefresh(id, None));
    }
    RefreshOutcome::Failed(failure)
}

async fn conclude(
    daemon: &Arc<Daemon>,
    id: AccountId,
    job: &SendableRefresh,
    refreshed: RefreshResult,
) -> RefreshOutcome {
    let login = match &job.claim {
        Some(claim) => RefreshedLogin::Shared(claim.generation()),
        None => RefreshedLogin::Token(&job.refresh),
    };
    match refreshed {
        RefreshResult::New(credential, life) => {
            let shared = job.link.as_ref().map(|link| (link.clone(), credential.duplicate()));
            let is_used = match &job.claim {
                Some(claim) => claim.answered(daemon, (credential, life)).await,
                None => save_credential(daemon, id, login, credential, life).await,
            };
            if !is_used {
                // of several hosts, another one was first
                return if job.claim.is_some() { RefreshOutcome::Renewed } else { RefreshOutcome::LoginEnded };
            }
            if let Some((link, credential)) = shared {
                shared_login::write_back(daemon, id, link, credential).await;
            }
            RefreshOutcome::Renewed
        }
        RefreshResult::Rejected(code) => {
            if let Some(link) = &job.link
                && shared_login::adopt_newer(daemon, id, link).await
            {
                return RefreshOutcome::Renewed;
            }
            // another host may have the successor of the token that was refused
            if let Some(claim) = &job.claim
                && let Some(waits) = claim.refused(daemon).await
            {
                return waits;
            }
            login_has_ended(daemon, id, login, &code);
            RefreshOutcome::LoginEnded
        }
        RefreshResult::Failed(failure, sent) => {
            if let Some(claim) = &job.claim {
                claim.failed(sent == TokenRotation::Possible).await;
            }
            not_answered(daemon, id, failure, sent)
        }
    }
}

fn failed(fault: RefreshFault, why: String) -> RefreshOutcome {
    RefreshOutcome::Failed(RefreshFailure { fault, why, wait: None })
}

/// Saves a new credential, then puts it in use. It retries until the disk can be written, because the old credential is
/// void. `false` when the account has another login by now, or was removed.
pub(super) async fn save_credential(
    daemon: &Arc<Daemon>,
    id: AccountId,
    before: RefreshedLogin<'_>,
    credential: Credential,
    life: Option<Duration>,
) -> bool {
    let mut logged = false;
    loop {
        {
            // no other login can be saved between the check and the write
            let _lock = daemon.account_writes.lock().await;
            let Some((write, answer_to)) = write_of(daemon, id, before, &credential) else {
                tracing::info!(account = %id, "a refreshed login was discarded: the account has another one, or was removed");
                return false;
            };
            match save(&daemon.store, write).await {
                Ok(()) => {
                    if let Some(from) = answer_to {
                        daemon.state().logins.note_pool_answer(id, from);
                    }
                    put_in_use(daemon, id, credential, life);
                    return true;
                }
                Err(WriteError::Closed) => {
                    tracing::error!(account = %id, "a refreshed login could not be saved: the daemon is ending");
                    return false;
                }
                Err(error) if !logged => {
                    logged = true;
                    tracing::error!(
                        account = %id,
                        "a refreshed login cannot be saved, so it is not used yet: {error}; lessor retries, and the \
                         login would be lost if the daemon ended now"
                    );
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(SAVE_INTERVAL).await;
    }
}

fn job(daemon: &Daemon, id: AccountId) -> Option<Job> {
    let state = &*daemon.state();
    let settings = match state.renewal(id)?.ok()? {
        Renewal::StartTool(link) => return Some(Job::StartTool(link)),
        Renewal::Oauth(settings) => *settings,
    };
    let refresh = match state.is_shared(id) && !state.keeps_refresh_here(id) {
        true => None,
        false => Some(state.credentials.get(id)?.refresh.as_ref()?.duplicate()),
    };
    Some(Job::Oauth(Box::new(RefreshJob { settings, refresh, link: state.links.get(id).cloned() })))
}

/// The write that saves a new credential, and of which generation the pool has the one before it, if it is to get this one;
/// `None` when the account no longer has the login that was refreshed.
fn write_of(
    daemon: &Daemon,
    id: AccountId,
    before: RefreshedLogin<'_>,
    credential: &Credential,
) -> Option<(Write, Option<TokenGeneration>)> {
    let state = &*daemon.state();
    let record = state.pool.account(id)?.record.clone();
    if !has_login(state, id, before) {
        return None;
    }
    let save = Write::SaveAccount { record: Box::new(record), credential: Some(credential.duplicate()) };
    let answer_to = match before {
        // a login that only this host refreshes
        RefreshedLogin::Token(_) => state.generation_to_give(id),
        RefreshedLogin::Shared(from) => Some(from),
    };
    let write = match answer_to {
        None => save,
        Some(from) => Write::Together(vec![save, Write::SavePoolAnswer(id, Some(from.0))]),
    };
    Some((write, answer_to))
}

/// Whether the account still has the login that was refreshed.
fn has_login(state: &State, id: AccountId, login: RefreshedLogin<'_>) -> bool {
    match login {
        RefreshedLogin::Token(token) => state.credentials.refresh_token(id) == Some(token),
        RefreshedLogin::Shared(generation) => {
            state.shared_accounts.get(id).is_some_and(|note| note.generation == generation)
        }
    }
}

/// Puts a saved credential in use.
fn put_in_use(daemon: &Daemon, id: AccountId, credential: Credential, life: Option<Duration>) {
    let state = &mut *daemon.state();
    state.keep_refreshed(id, credential, life);
    // the record does not change: this notifies subscribers
    state.apply_internal(clock::now(), Command::ChangeAccount(id, Box::default()));
    state.log.push(move || tracing::debug!(account = %id, "its token was refreshed"));
}

/// The server has rejected a login; the account may have another one by now.
fn login_has_ended(daemon: &Daemon, id: AccountId, rejected: RefreshedLogin<'_>, code: &str) {
    let state = &mut *daemon.state();
    if !has_login(state, id, rejected) {
        return;
    }
    let answer_lost_at = state.logins.unanswered.remove(&id);
    let problem = LoginProblem::RefreshRejected { code: code.to_owned(), answer_lost_at };
    state.apply_internal(clock::now(), set_login_state(id, LoginState::NeedsLogin(problem)));
    daemon.write(Write::MarkRefresh(id, None));
}

/// After an attempt: the next one can begin, and the requests that wait for it continue.
fn attempt_ended(daemon: &Daemon, id: AccountId, outcome: &RefreshOutcome) {
    let state = &mut *daemon.state();
    let now = clock::now();
    state.update_refresh_plan(now);
    let jitter = state.logins.jitter();
    let transition = state.logins.plan.finish(id, outcome, now, jitter);
    let name = state.account_name(id);
    let provider = state.pool.account(id).map(|account| account.record.provider.clone()).unwrap_or_default();
    if let Some(transition) = transition {
        state.log.push(move || log_transition(transition, id, &name, &provider, now.mono));
    }
    state.update_renewing_accounts(now);
    state.logins.attempt_ended(id);
}

fn log_transition(transition: RefreshTransition, id: AccountId, name: &str, provider: &str, now: Mono) {
    match transition {
        RefreshTransition::Failing(RefreshFailure {
            fault:
                RefreshFault::Account
                | RefreshFault::ClientRefused
                | RefreshFault::ClientUnknown
                | RefreshFault::Tool
                | RefreshFault::ToolWantsLogin,
            why,
            ..
        }) => {
            tracing::warn!(account = %id, "the token of {name} cannot be refreshed now: {why}");
        }
        RefreshTransition::Failing(RefreshFailure { fault: RefreshFault::SharedPool, why, .. }) => {
            tracing::info!(account = %id, "the token of {name} is not refreshed by this host now: {why}");
        }
        RefreshTransition::Failing(RefreshFailure { why, .. }) => {
            tracing::warn!("tokens of {provider} cannot be refreshed now: {why}; current tokens are used to their end");
        }
        RefreshTransition::Recovered(since) => {
            tracing::info!("tokens are refreshed again, after {}", spoken(now.since(since)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;
    use crate::pool::{CredentialKind, Wall};

    #[test]
    fn a_token_ends_when_it_should_also_if_the_clock_was_set_during_the_request() {
        let at = |mono: u64, wall: u64| Now { mono: Mono(mono), wall: Wall(wall) };
        let sent = at(10_000, 1_000_000);
        let end_after = |now: Now| {
            let token = Credential::new(CredentialKind::Oauth, Secret::new("a".to_owned()));
            let answer = RefreshResult::New(Credential { expires_at: Some(Wall(1_600_000)), ..token }, None);
            let RefreshResult::New(credential, _) = by_the_clock_of(answer, sent, now) else { panic!() };
            credential.expires_at.unwrap().0
        };
        assert_eq!(end_after(at(12_000, 1_002_003)), 1_600_000, "two clocks are never read at once");
        assert_eq!(end_after(at(12_000, 1_502_000)), 2_100_000);
        assert_eq!(end_after(at(12_000, 702_000)), 1_300_000);
    }
}
