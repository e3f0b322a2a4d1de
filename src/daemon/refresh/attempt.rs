//! One refresh: noted on disk before it is sent, and on disk before its token is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::credential::oauth::{AuthorizationServer, OauthSettings, RefreshResult, TokenRotation, refresh};
use crate::credential::refresh::{RefreshFailure, RefreshFault, RefreshOutcome, RefreshTransition};
use crate::credential::{Credential, Link, Secret};
use crate::pool::{AccountId, Command, LoginProblem, LoginState, Mono, spoken};
use crate::store::{Write, WriteError};

use crate::daemon::os::clock;
use crate::daemon::refresh::shared_login;
use crate::daemon::state::{Daemon, oauth_settings, save, set_login_state};

/// How long what a server says of itself is believed.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Between two tries to save a token that must not be lost.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// Most servers that are remembered; a change of the configuration makes new ones.
const MOST_SERVERS: usize = 64;

/// Servers that were asked before.
#[derive(Debug, Default)]
pub(crate) struct Servers(Mutex<Vec<(OauthSettings, Arc<AuthorizationServer>, Mono)>>);

impl Servers {
    async fn of(&self, settings: &OauthSettings) -> Result<Arc<AuthorizationServer>, RefreshResult> {
        let now = clock::now().mono;
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(_, _, since)| now.since(*since) < BELIEVED);
            if let Some((_, server, _)) = known.iter().find(|(known, _, _)| known == settings) {
                return Ok(server.clone());
            }
        }
        let server =
            AuthorizationServer::find(settings.clone()).await.map_err(|error| RefreshResult::of_server(&error))?;
        let server = Arc::new(server);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_SERVERS {
            known.remove(0);
        }
        known.push((settings.clone(), server.clone(), now));
        Ok(server)
    }
}

/// What an attempt is made of.
struct RefreshJob {
    settings: OauthSettings,
    refresh: Secret,
    link: Option<Link>,
}

/// Refreshes one account, and tells everybody how that ended.
pub(crate) async fn attempt(daemon: Arc<Daemon>, servers: Arc<Servers>, id: AccountId) {
    // however this ends, another attempt can be made
    let mut over = Over { daemon: &daemon, id, ended: None };
    let ended = carry_out(&daemon, &servers, id).await;
    over.ended = Some(ended);
}

struct Over<'a> {
    daemon: &'a Daemon,
    id: AccountId,
    ended: Option<RefreshOutcome>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let lost = || {
            RefreshOutcome::Failed(RefreshFailure {
                fault: RefreshFault::Account,
                why: "the attempt failed inside lessor".to_owned(),
                wait: None,
            })
        };
        attempt_ended(self.daemon, self.id, &self.ended.take().unwrap_or_else(lost));
    }
}

async fn carry_out(daemon: &Arc<Daemon>, servers: &Servers, id: AccountId) -> RefreshOutcome {
    let Some(job) = job(daemon, id) else { return RefreshOutcome::LoginEnded };
    // what a tool has rotated meanwhile goes before what we have, and its own refreshing is kept out
    let _held = match &job.link {
        None => None,
        Some(link) => match shared_login::before(daemon, id, link).await {
            shared_login::Before::Newer => return RefreshOutcome::Renewed,
            shared_login::Before::Go(held) => held,
            shared_login::Before::Busy(why) => return failed(RefreshFault::Account, why),
        },
    };
    let server = match servers.of(&job.settings).await {
        Ok(server) => server,
        Err(refused) => return conclude(daemon, id, &job, refused).await,
    };
    let began = clock::now().wall;
    if let Err(error) = save(&daemon.store, Write::MarkRefresh(id, Some(began))).await {
        return failed(RefreshFault::Disk, format!("refresh is suspended: the database is not writable: {error}"));
    }
    let refreshed = refresh(&server, &job.refresh, began).await;
    if matches!(&refreshed, RefreshResult::Failed(_, TokenRotation::Possible)) {
        daemon.state().logins.unanswered.entry(id).or_insert(began);
    }
    conclude(daemon, id, &job, refreshed).await
}

async fn conclude(daemon: &Arc<Daemon>, id: AccountId, job: &RefreshJob, refreshed: RefreshResult) -> RefreshOutcome {
    match refreshed {
        RefreshResult::New(credential, life) => {
            let shared = job.link.as_ref().map(|link| (link.clone(), credential.duplicate()));
            if !save_credential(daemon, id, &job.refresh, credential, life).await {
                return RefreshOutcome::LoginEnded;
            }
            if let Some((link, credential)) = shared {
                shared_login::after(daemon, id, link, credential).await;
            }
            RefreshOutcome::Renewed
        }
        RefreshResult::Rejected(code) => {
            if let Some(link) = &job.link
                && shared_login::has_newer(daemon, id, link).await
            {
                return RefreshOutcome::Renewed;
            }
            login_has_ended(daemon, id, &job.refresh, &code);
            RefreshOutcome::LoginEnded
        }
        RefreshResult::Failed(failure, sent) => {
            if sent == TokenRotation::Excluded && !daemon.state().logins.unanswered.contains_key(&id) {
                daemon.store.write(Write::MarkRefresh(id, None), None);
            }
            RefreshOutcome::Failed(failure)
        }
    }
}

fn failed(fault: RefreshFault, why: String) -> RefreshOutcome {
    RefreshOutcome::Failed(RefreshFailure { fault, why, wait: None })
}

/// Keeps a new credential, on disk first, however long that takes: the one before is worth nothing any more. `false`
/// when there is nobody to keep it for.
async fn save_credential(
    daemon: &Arc<Daemon>,
    id: AccountId,
    before: &Secret,
    credential: Credential,
    life: Option<Duration>,
) -> bool {
    let mut told = false;
    loop {
        {
            // nobody logs in between the look and the write
            let _one_at_a_time = daemon.account_writes.lock().await;
            let Some(write) = write_of(daemon, id, before, &credential) else {
                tracing::info!(account = %id, "a renewed login is not kept: there is another one, or none, by now");
                return false;
            };
            match save(&daemon.store, write).await {
                Ok(()) => {
                    put_in_use(daemon, id, credential, life);
                    return true;
                }
                Err(WriteError::Closed) => {
                    tracing::error!(account = %id, "a renewed login could not be kept: the daemon has ended");
                    return false;
                }
                Err(error) if !told => {
                    told = true;
                    tracing::error!(
                        account = %id,
                        "a renewed login cannot be kept, and nobody gets it before it is: {error}; it is tried again \
                         until it works, and would be lost if the daemon ended now"
                    );
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(SAVE_AGAIN).await;
    }
}

fn job(daemon: &Daemon, id: AccountId) -> Option<RefreshJob> {
    let state = &*daemon.state();
    let record = &state.pool.account(id)?.record;
    Some(RefreshJob {
        settings: oauth_settings(&state.config.config, &record.provider).ok()?,
        refresh: state.credentials.refresh_token(id)?.duplicate(),
        link: state.links.get(id).cloned(),
    })
}

/// The write that saves a new credential; nothing when the login that it renews is no longer the account's.
fn write_of(daemon: &Daemon, id: AccountId, before: &Secret, credential: &Credential) -> Option<Write> {
    let state = &*daemon.state();
    let record = state.pool.account(id)?.record.clone();
    let is_current = state.credentials.refresh_token(id) == Some(before);
    is_current.then(|| Write::SaveAccount { record, credential: Some(credential.duplicate()) })
}

/// Puts a saved credential in use.
fn put_in_use(daemon: &Daemon, id: AccountId, credential: Credential, life: Option<Duration>) {
    let state = &mut *daemon.state();
    state.keep_credential(id, credential, life);
    // the record is the same: the change is for subscribers
    state.apply_internal(clock::now(), Command::ChangeAccount(id, Box::default()));
    state.log.push(move || tracing::debug!(account = %id, "its token was refreshed"));
}

/// The server has ended a login: the one of this account, and no other.
fn login_has_ended(daemon: &Daemon, id: AccountId, rejected: &Secret, code: &str) {
    let state = &mut *daemon.state();
    if state.credentials.refresh_token(id) != Some(rejected) {
        return;
    }
    let answer_lost_at = state.logins.unanswered.remove(&id);
    let problem = LoginProblem::RefreshRejected { code: code.to_owned(), answer_lost_at };
    state.apply_internal(clock::now(), set_login_state(id, LoginState::NeedsLogin(problem)));
    daemon.store.write(Write::MarkRefresh(id, None), None);
}

/// An attempt is over: the next one can begin, and the requests that wait for it continue.
fn attempt_ended(daemon: &Daemon, id: AccountId, ended: &RefreshOutcome) {
    let state = &mut *daemon.state();
    let now = clock::now();
    state.update_refresh_plan(now);
    let jitter = state.logins.jitter();
    let turn = state.logins.plan.finish(id, ended, now, jitter);
    let account = state.pool.account(id);
    let name = account.map_or_else(|| id.to_string(), |account| account.display_name());
    let provider = account.map(|account| account.record.provider.clone()).unwrap_or_default();
    if let Some(turn) = turn {
        state.log.push(move || log_turn(turn, id, &name, &provider, now.mono));
    }
    state.update_renewing_accounts(now);
    state.logins.attempt_ended(id);
}

fn log_turn(turn: RefreshTransition, id: AccountId, name: &str, provider: &str, now: Mono) {
    match turn {
        RefreshTransition::Failing(RefreshFailure { fault: RefreshFault::Account, why, .. }) => {
            tracing::warn!(account = %id, "the token of {name} cannot be refreshed now: {why}");
        }
        RefreshTransition::Failing(RefreshFailure { why, .. }) => {
            tracing::warn!("tokens of {provider} cannot be refreshed now: {why}; current tokens are used to their end");
        }
        RefreshTransition::Recovered(since) => {
            tracing::info!("tokens are refreshed again, after {}", spoken(now.since(since)));
        }
    }
}
