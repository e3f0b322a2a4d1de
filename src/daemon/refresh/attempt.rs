//! One refresh: noted on disk before it is sent, kept on disk before anybody has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::credential::oauth::{Refreshed, Sent, Server, Settings, refresh};
use crate::credential::refresh::{Ended, Failure, Fault, Turn};
use crate::credential::{Credential, Link, Secret};
use crate::pool::{AccountChange, AccountId, Command, LoginProblem, LoginState, Mono, spoken};
use crate::store::{Write, WriteError};

use crate::daemon::os::clock;
use crate::daemon::refresh::{chance, settings, shared_login};
use crate::daemon::state::Daemon;

/// How long what a server says of itself is believed.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Between two tries to save a token that must not be lost.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// Most servers that are remembered; a change of the configuration makes new ones.
const MOST_SERVERS: usize = 64;

/// Servers that were asked before.
#[derive(Debug, Default)]
pub(crate) struct Servers(Mutex<Vec<(Settings, Arc<Server>, Mono)>>);

impl Servers {
    async fn of(&self, settings: &Settings) -> Result<Arc<Server>, Refreshed> {
        let now = clock::now().mono;
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(_, _, since)| now.since(*since) < BELIEVED);
            if let Some((_, server, _)) = known.iter().find(|(known, _, _)| known == settings) {
                return Ok(server.clone());
            }
        }
        let server = Server::find(settings.clone()).await.map_err(|error| Refreshed::of_server(&error))?;
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
struct Job {
    settings: Settings,
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
    ended: Option<Ended>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let lost =
            || Ended::Failed(Failure { fault: Fault::Account, why: "lessor failed at it".to_owned(), wait: None });
        self.daemon.refresh_ended(self.id, &self.ended.take().unwrap_or_else(lost));
    }
}

async fn carry_out(daemon: &Arc<Daemon>, servers: &Servers, id: AccountId) -> Ended {
    let Some(job) = daemon.job(id) else { return Ended::Over };
    // what a tool has rotated meanwhile goes before what we have, and its own refreshing is kept out
    let _held = match &job.link {
        None => None,
        Some(link) => match shared_login::before(daemon, id, link).await {
            shared_login::Before::Newer => return Ended::Renewed,
            shared_login::Before::Go(held) => held,
            shared_login::Before::Busy(why) => return failed(Fault::Account, why),
        },
    };
    let server = match servers.of(&job.settings).await {
        Ok(server) => server,
        Err(refused) => return conclude(daemon, id, &job, refused).await,
    };
    let began = clock::now().wall;
    if let Err(error) = keep(daemon, Write::MarkRefresh(id, Some(began))).await {
        return failed(Fault::Disk, format!("nothing is renewed while nothing can be kept: {error}"));
    }
    let refreshed = refresh(&server, &job.refresh, began).await;
    if matches!(&refreshed, Refreshed::Failed(_, Sent::Unknown)) {
        daemon.state().refreshing.unknown.entry(id).or_insert(began);
    }
    conclude(daemon, id, &job, refreshed).await
}

async fn conclude(daemon: &Arc<Daemon>, id: AccountId, job: &Job, refreshed: Refreshed) -> Ended {
    match refreshed {
        Refreshed::New(credential, life) => {
            let shared = job.link.as_ref().map(|link| (link.clone(), credential.duplicate()));
            if !save(daemon, id, &job.refresh, credential, life).await {
                return Ended::Over;
            }
            if let Some((link, credential)) = shared {
                shared_login::after(daemon, id, link, credential).await;
            }
            Ended::Renewed
        }
        Refreshed::Over(code) => {
            if let Some(link) = &job.link
                && shared_login::has_newer(daemon, id, link).await
            {
                return Ended::Renewed;
            }
            daemon.login_is_over(id, &job.refresh, &code);
            Ended::Over
        }
        Refreshed::Failed(failure, sent) => {
            if sent == Sent::Known && !daemon.state().refreshing.unknown.contains_key(&id) {
                daemon.store.write(Write::MarkRefresh(id, None), None);
            }
            Ended::Failed(failure)
        }
    }
}

fn failed(fault: Fault, why: String) -> Ended {
    Ended::Failed(Failure { fault, why, wait: None })
}

/// Writes, and waits until it is on disk.
async fn keep(daemon: &Daemon, write: Write) -> Result<(), WriteError> {
    let (done, kept) = oneshot::channel();
    daemon.store.write(write, Some(Box::new(move |result| drop(done.send(result)))));
    kept.await.unwrap_or(Err(WriteError::Closed))
}

/// Keeps a new credential, on disk first, however long that takes: the one before is worth nothing any more. `false`
/// when there is nobody to keep it for.
async fn save(
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
            let _one_at_a_time = daemon.adding.lock().await;
            let Some(write) = daemon.write_of(id, before, &credential) else {
                tracing::info!(account = %id, "a renewed login is not kept: there is another one, or none, by now");
                return false;
            };
            match keep(daemon, write).await {
                Ok(()) => {
                    daemon.take_renewed(id, credential, life);
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

impl Daemon {
    fn job(&self, id: AccountId) -> Option<Job> {
        let state = &*self.state();
        let record = &state.pool.account(id)?.record;
        Some(Job {
            settings: settings::of(&state.configured.config, &record.provider).ok()?,
            refresh: state.credentials.get(&id)?.refresh.as_ref()?.duplicate(),
            link: state.links.get(&id).cloned(),
        })
    }

    /// What keeps a new credential; nothing when the login it renews is no longer the account's.
    fn write_of(&self, id: AccountId, before: &Secret, credential: &Credential) -> Option<Write> {
        let state = &*self.state();
        let record = state.pool.account(id)?.record.clone();
        let is_current = state.credentials.get(&id)?.refresh.as_ref() == Some(before);
        is_current.then(|| Write::SaveAccount { record, credential: Some(credential.duplicate()) })
    }

    /// A new credential is on disk: everybody gets it from now on.
    fn take_renewed(&self, id: AccountId, credential: Credential, life: Option<Duration>) {
        let state = &mut *self.state();
        let now = clock::now();
        state.keep_credential_of_life(id, credential, life);
        // the record is the same: whoever listens is told
        self.apply_unasked(state, now, Command::ChangeAccount(id, Box::default()));
        tracing::debug!(account = %id, "its token is renewed");
    }

    /// The server does not honour a login any more: that of this account, and no other.
    fn login_is_over(&self, id: AccountId, refused: &Secret, code: &str) {
        let state = &mut *self.state();
        let is_current = state.credentials.get(&id).and_then(|credential| credential.refresh.as_ref()) == Some(refused);
        if state.pool.account(id).is_none() || !is_current {
            return;
        }
        let now = clock::now();
        let answer_lost_at = state.refreshing.unknown.remove(&id);
        let problem = LoginProblem::RefreshRejected { code: code.to_owned(), answer_lost_at };
        let change = AccountChange { login_state: Some(LoginState::NeedsLogin(problem)), ..AccountChange::default() };
        self.apply_unasked(state, now, Command::ChangeAccount(id, Box::new(change)));
        self.store.write(Write::MarkRefresh(id, None), None);
    }

    /// An attempt is over: the next one can begin, and who has waited is told.
    fn refresh_ended(&self, id: AccountId, ended: &Ended) {
        let state = &mut *self.state();
        let now = clock::now();
        if state.refreshing.has_changes() {
            self.settle_logins(state, now);
        }
        let turn = state.refreshing.plan.ended(id, ended, now, chance());
        let account = state.pool.account(id);
        let name = account.map_or_else(|| id.to_string(), |account| account.display_name());
        match turn {
            Some(Turn::Down(Failure { fault: Fault::Account, why, .. })) => {
                tracing::warn!(account = %id, "the token of {name} cannot be renewed now: {why}");
            }
            Some(Turn::Down(Failure { why, .. })) => {
                let provider = account.map(|account| account.record.provider.clone()).unwrap_or_default();
                tracing::warn!("tokens of {provider} cannot be renewed now: {why}; living ones serve to their end");
            }
            Some(Turn::Up(since)) => {
                tracing::info!("tokens are renewed again, after {}", spoken(now.mono.since(since)));
            }
            None => {}
        }
        self.settle_tokens(state, now);
        state.refreshing.tell(id);
    }
}
