//! The pool and everything that must agree with it, behind one lock that is never held across an await.

pub(crate) mod events;
pub(crate) mod fingerprints;
pub(crate) mod key_holders;
pub(crate) mod outbox;
pub(crate) mod report;
pub(crate) mod watched_processes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot, watch};

use crate::credential::refresh::{Refresher, Want};
use crate::credential::{Credential, Link};
use crate::pool::{
    AccountChange, AccountId, Command, ConnectionId, Decision, Effect, Event, Fence, Lease, LoginProblem, LoginState,
    Mono, Now, Pool, Process, Refusal, Reply, WaiterId, Wall,
};
use crate::protocol::{Codec, ErrorInfo, GatewayKeySealer, LeaseKey, RequestId};
use crate::provider::Catalog;
use crate::store::{Done, Store, Write, WriteError};

use crate::daemon::api::gateway_key::GatewayState;
use crate::daemon::api::reply::ReplyKind;
use crate::daemon::config::apply;
use crate::daemon::config::apply::ActiveConfig;
use crate::daemon::config::watcher::ConfigHandle;
use crate::daemon::linked_logins::watcher::LinkedLoginsHandle;
use crate::daemon::log::LogLevelHandle;
use crate::daemon::os::clock;
use crate::daemon::refresh::{Refreshing, rules};
use crate::daemon::run::locked::KeyringWait;
use crate::daemon::state::events::Events;
use crate::daemon::state::fingerprints::Fingerprints;
use crate::daemon::state::key_holders::KeyHolders;
use crate::daemon::state::outbox::Outbox;
use crate::daemon::state::watched_processes::WatchedProcesses;
use crate::daemon::usage::poller::{Gathered, Polls};
use crate::daemon::view;

/// The daemon, as every connection sees it.
#[derive(Debug)]
pub struct Daemon {
    state: Mutex<State>,
    pub(crate) store: Store,
    pub(crate) key: LeaseKey,
    pub(crate) pass_key: GatewayKeySealer,
    pub(crate) facts: RunInfo,
    /// When the timer will next call, ms since boot.
    scheduled: AtomicU64,
    pub(crate) reschedule: Notify,
    pub(crate) stop: watch::Sender<bool>,
    /// Reads the configuration.
    pub(crate) reload: ConfigHandle,
    /// Follows other tools' files.
    pub(crate) follow: OnceLock<LinkedLoginsHandle>,
    /// Asks providers what accounts have used.
    pub(crate) polls: OnceLock<Polls>,
    /// It was read anew.
    pub(crate) reconfigured: Notify,
    /// Something has changed that may serve somebody who waits with a lease.
    pub(crate) stirred: Notify,
    /// Changes with the configuration.
    pub(crate) config_version: watch::Sender<u64>,
    /// Accounts are added one at a time, so that two with one label cannot both be on their way to the disk.
    pub(crate) adding: tokio::sync::Mutex<()>,
    /// Where its own tasks run, whatever thread begins them.
    pub(crate) runtime: tokio::runtime::Handle,
    /// For those tasks.
    pub(crate) itself: OnceLock<Weak<Self>>,
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct RunInfo {
    pub(crate) started: Now,
    pub(crate) socket: String,
    /// What was found at the start.
    pub(crate) warnings: Vec<String>,
    /// How much is logged.
    pub(crate) log_level: LogLevelHandle,
    /// Whether `idle_exit` ends it: a client or a service manager started it, and will again.
    pub(crate) may_idle_exit: bool,
    /// The key of all secrets cannot be had yet.
    pub(crate) waiting: Option<Arc<KeyringWait>>,
    pub(crate) most_connections: usize,
    /// The port that the gateway chose in an earlier run.
    pub(crate) gateway_port: Option<u16>,
}

/// What changes together.
#[derive(Debug)]
pub struct State {
    pub(crate) pool: Pool,
    pub(crate) configured: ActiveConfig,
    pub(crate) catalog: Catalog,
    pub(crate) credentials: FxHashMap<AccountId, Credential>,
    pub(crate) tokens: Fingerprints,
    pub(crate) refreshing: Refreshing,
    /// When this run began.
    pub(crate) started: Wall,
    /// Logins that other tools have, too.
    pub(crate) links: FxHashMap<AccountId, Link>,
    /// Why some of them cannot be followed.
    pub(crate) link_troubles: FxHashMap<AccountId, String>,
    /// What was learnt by asking, beside the windows.
    pub(crate) gathered: Gathered,
    pub(crate) connections: FxHashMap<ConnectionId, Arc<Outbox>>,
    pub(crate) watchers: WatchedProcesses,
    /// Who has a key to the gateway.
    pub(crate) key_holders: KeyHolders,
    /// Where the gateway listens.
    pub(crate) gateway: GatewayState,
    pub(crate) events: Events,
    waiting: FxHashMap<WaiterId, Vec<Responder>>,
    /// Requests of the gateway that wait.
    pub(crate) gateway_waiters: FxHashMap<WaiterId, oneshot::Sender<Result<Fence, Refusal>>>,
    /// The lease that ended last, for who asks why it was where it was.
    pub(crate) last_ended: Option<Box<Lease>>,
    effects: Vec<Effect>,
    /// The earliest end of a credential that nothing can renew.
    next_credential_end: Option<Wall>,
    /// When the daemon was last of use, for `idle_exit`.
    pub(crate) last_busy: Now,
    saved_uses: FxHashMap<AccountId, Wall>,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    pub(crate) connection: ConnectionId,
    pub(crate) codec: Codec,
    pub(crate) id: RequestId,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) wants_credential: bool,
    /// How long a lease is waited for; nothing for what is no request for one.
    pub(crate) until: Option<Mono>,
    /// It was asked without an id: nobody wants to hear.
    pub(crate) quiet: bool,
}

impl Responder {
    /// Sends, if anybody wants to hear.
    pub(crate) fn say(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.quiet {
            self.outbox.push(write);
        }
    }
}

/// The timer's sleep when nothing is to come; whatever comes wakes it.
const IDLE: Duration = Duration::from_secs(3600);

/// What must be on disk before an answer may go out.
pub(crate) type Unsaved = Vec<Write>;

/// What accounts authenticate with, all they have authenticated with, which of it other tools have, too, and which was
/// being refreshed when the last run ended.
pub(crate) type Logins =
    (FxHashMap<AccountId, Credential>, Fingerprints, FxHashMap<AccountId, Link>, Vec<(AccountId, Wall)>);

impl Daemon {
    pub(crate) fn new(
        (pool, configured): (Pool, ActiveConfig),
        (credentials, tokens, links, unknown): Logins,
        store: Store,
        (key, pass_key): (LeaseKey, GatewayKeySealer),
        reload: ConfigHandle,
        facts: RunInfo,
    ) -> Self {
        let catalog = apply::catalog(&configured.config, &pool);
        let mut refreshing = Refreshing::new(Refresher::new(rules(&configured.config)), unknown);
        credentials.keys().for_each(|id| refreshing.account_changed(*id));
        let mut state = State {
            refreshing,
            started: facts.started.wall,
            pool,
            configured,
            catalog,
            credentials,
            tokens,
            links,
            link_troubles: FxHashMap::default(),
            gathered: Gathered::default(),
            connections: FxHashMap::default(),
            watchers: WatchedProcesses::new(facts.most_connections),
            key_holders: KeyHolders::default(),
            gateway: GatewayState::default(),
            events: Events::default(),
            waiting: FxHashMap::default(),
            gateway_waiters: FxHashMap::default(),
            last_ended: None,
            effects: Vec::new(),
            next_credential_end: None,
            last_busy: facts.started,
            saved_uses: FxHashMap::default(),
        };
        // those from before fingerprints were kept
        for (id, credential) in &state.credentials {
            state.tokens.keep(*id, credential, facts.started.wall);
        }
        state.find_next_credential_end();
        Self {
            state: Mutex::new(state),
            store,
            key,
            pass_key,
            facts,
            scheduled: AtomicU64::new(0),
            reschedule: Notify::new(),
            stop: watch::Sender::new(false),
            reload,
            follow: OnceLock::new(),
            polls: OnceLock::new(),
            reconfigured: Notify::new(),
            stirred: Notify::new(),
            config_version: watch::Sender::new(0),
            adding: tokio::sync::Mutex::new(()),
            runtime: tokio::runtime::Handle::current(),
            itself: OnceLock::new(),
        }
    }

    /// Carries out what restoring left to do, and watches the processes that leases are bound to.
    pub(crate) fn begin(self: &Arc<Self>, mut effects: Vec<Effect>, bound: &[Process]) {
        let _only_begun_once = self.itself.set(Arc::downgrade(self));
        let state = &mut *self.state();
        let now = clock::now();
        self.settle_logins(state, now);
        state.take_up_refreshes(now);
        for process in bound {
            match state.watchers.watch(self, process.pid) {
                Ok(Some(found)) if found.process == *process => state.watchers.bind(process.pid),
                Ok(_) => self.apply_unasked(state, clock::now(), Command::ProcessEnded(*process)),
                Err(error) => tracing::error!(pid = process.pid, "a holder cannot be watched: {error}"),
            }
        }
        for write in self.carry_out(state, clock::now(), &mut effects) {
            self.store.write(write, None);
        }
    }

    /// How long it may be unused before it ends itself.
    pub(crate) fn idle_exit(&self) -> Option<Duration> {
        self.state().configured.config.daemon.idle_exit.filter(|_| self.facts.may_idle_exit)
    }

    /// How long nobody has been connected, held a lease or waited.
    pub(crate) fn idle_for(&self) -> Duration {
        let state = &mut *self.state();
        let now = clock::now();
        if state.pool.lease_count() > 0 || !state.connections.is_empty() {
            state.last_busy = now;
        }
        now.mono.since(state.last_busy.mono)
    }

    /// The state, for as long as the guard lives; never across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // the pool checks before it changes: a panic in between is a bug, and serving on is the lesser harm
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a command and its effects; answers what must be on disk before the reply may go out.
    pub(crate) fn apply(&self, state: &mut State, now: Now, command: Command) -> (Result<Reply, Refusal>, Unsaved) {
        state.retire_credentials(now);
        let mut effects = std::mem::take(&mut state.effects);
        let moves = command.moves();
        let reply = state.pool.handle(now, command, &mut effects);
        if let (Some(from), Ok(Reply::Decision(Decision { lease: Some(to), .. }) | Reply::Held(to))) = (moves, &reply) {
            state.key_holders.moved(from, *to);
        }
        let unsaved = self.carry_out(state, now, &mut effects);
        state.effects = effects;
        if state.refreshing.has_changes() {
            self.settle_logins(state, now);
        }
        if let Some(next) = state.pool.next_wakeup(now)
            && next.0 < self.scheduled.load(Ordering::Relaxed)
        {
            self.reschedule.notify_one();
        }
        (reply, unsaved)
    }

    /// Applies a command nobody waits for.
    pub(crate) fn apply_unasked(&self, state: &mut State, now: Now, command: Command) {
        let (reply, unsaved) = self.apply(state, now, command);
        if let Err(refusal) = reply {
            tracing::debug!("an unasked command was refused: {}", refusal.message);
        }
        for write in unsaved {
            self.store.write(write, None);
        }
    }

    fn carry_out(&self, state: &mut State, now: Now, effects: &mut Vec<Effect>) -> Unsaved {
        let (mut unsaved, mut orphans) = (Unsaved::new(), Vec::new());
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer { waiter, result } => self.answer_waiter(state, now, waiter, result, &mut unsaved),
                Effect::SaveLease(fence) => {
                    if let Some(lease) = state.pool.lease(fence) {
                        unsaved.push(Write::SaveLease(lease.clone()));
                    }
                }
                Effect::Ended(lease, why) => {
                    if lease.is_durable() {
                        self.store.write(Write::DropLease(lease.fence), None);
                    }
                    state.refreshing.lease_ended(lease.fence);
                    state.events.ended(now.wall, &lease, why, &state.pool, &self.key);
                    self.stirred.notify_waiters();
                    orphans.extend(state.key_holders.ended(lease.fence, why));
                    state.last_ended = Some(lease);
                }
                Effect::SaveSession(record) => self.store.write(Write::SaveSession(record), None),
                Effect::SaveAccount(id) => {
                    state.refreshing.account_changed(id);
                    if let Some(account) = state.pool.account(id) {
                        unsaved.push(Write::SaveAccount { record: account.record.clone(), credential: None });
                    }
                }
                Effect::DeleteAccount(id) => {
                    state.credentials.remove(&id);
                    state.tokens.forget(id);
                    if state.links.remove(&id).is_some()
                        && let Some(follow) = self.follow.get()
                    {
                        follow.relinked();
                    }
                    state.link_troubles.remove(&id);
                    state.refreshing.account_gone(id);
                    state.gathered.forget(id);
                    state.find_next_credential_end();
                    unsaved.push(Write::DeleteAccount(id));
                }
                Effect::SaveLimit(record) => self.store.write(Write::SaveLimit(record), None),
                Effect::DropLimit(account, which) => self.store.write(Write::DropLimit(account, which), None),
                Effect::ReserveFences(fence) => self.store.write(Write::ReserveFences(fence), None),
                Effect::SaveUsage(id) => {
                    if let Some(account) = state.pool.account(id) {
                        self.store.write(Write::SaveUsage(id, account.usage().kept()), None);
                    }
                }
                Effect::RefreshToken(id) => {
                    // when it cannot be, the pool was told so with the report
                    let _wanted = state.refreshing.want(id, Want::Refused, now);
                }
                Effect::Unwatch(process) => state.watchers.process_is_free(process),
                Effect::Emit(event @ (Event::Recovered(..) | Event::AccountChanged(_))) => {
                    self.stirred.notify_waiters();
                    state.events.tell(now, event, &state.pool, &self.key);
                }
                Effect::Emit(event) => state.events.tell(now, event, &state.pool, &self.key),
            }
        }
        for orphan in orphans {
            let mut effects = Vec::new();
            // those that were bound to the same process or connection are ending by themselves
            if state.pool.handle(now, Command::Release(orphan), &mut effects).is_ok() {
                unsaved.append(&mut self.carry_out(state, now, &mut effects));
            }
        }
        unsaved
    }

    /// Sends `bytes` once `unsaved` is on disk; at once when there is nothing to save.
    pub(crate) fn deliver(&self, responder: &Responder, mut unsaved: Unsaved, bytes: Vec<u8>) {
        let Some(last) = unsaved.pop() else {
            responder.say(|out| out.extend_from_slice(&bytes));
            return;
        };
        // writes are committed in order: when the last one is, all are
        for write in unsaved {
            self.store.write(write, None);
        }
        // a lease is safe in memory as long as we live; a change of accounts that is lost later is not
        let must_last = !matches!(last, Write::SaveLease(_));
        responder.outbox.begin_wait();
        let responder = responder.clone();
        let done: Done = Box::new(move |result: Result<(), WriteError>| {
            responder.say(|out| match result {
                Err(error) if must_last => {
                    let message =
                        format!("done, but it could not be saved and will be lost at the next start: {error}");
                    responder.codec.refusal(&responder.id, &ErrorInfo::new("internal", message), out);
                }
                _ => out.extend_from_slice(&bytes),
            });
            responder.outbox.end_wait();
        });
        self.store.write(last, Some(done));
    }

    fn answer_waiter(
        &self,
        state: &mut State,
        now: Now,
        waiter: WaiterId,
        result: Result<Fence, Refusal>,
        unsaved: &mut Unsaved,
    ) {
        if let Some(insider) = state.gateway_waiters.remove(&waiter) {
            // it takes itself out before it goes away
            let _listens = insider.send(result);
            return;
        }
        let Some(responders) = state.waiting.remove(&waiter) else { return };
        let saved: Unsaved = match &result {
            Ok(fence) => {
                let concerns = |write: &mut Write| matches!(write, Write::SaveLease(lease) if lease.fence == *fence);
                unsaved.extract_if(.., concerns).collect()
            }
            Err(_) => Unsaved::new(),
        };
        let mut saved = Some(saved);
        let mut responders = responders;
        if let Ok(fence) = &result
            && self.waits_for_token(state, now, *fence)
        {
            let waiting: Vec<Responder> = responders.extract_if(.., |responder| responder.wants_credential).collect();
            let until = waiting.iter().filter_map(|responder| responder.until).max().unwrap_or(now.mono);
            if !waiting.is_empty() {
                let unsaved = saved.take().unwrap_or_default();
                self.hand_out_later(state, (*fence, ReplyKind::Granted { until }), waiting, unsaved);
            }
        } else if let Ok(fence) = &result
            && let Some(account) = state.pool.lease(*fence).map(|lease| lease.account)
        {
            state.note_handed(*fence, account);
        }
        for responder in responders {
            let mut bytes = Vec::new();
            match &result {
                Ok(fence) => view::lease(state, &self.key, now, *fence, &responder, &mut bytes),
                Err(refusal) => {
                    responder.codec.refusal(&responder.id, &ErrorInfo::of_refusal(refusal, now.wall), &mut bytes);
                }
            }
            self.deliver(&responder, saved.take().unwrap_or_default(), bytes);
            responder.outbox.end_wait();
        }
    }

    /// Ends everything of a connection.
    pub(crate) fn connection_ended(&self, connection: ConnectionId) {
        let state = &mut *self.state();
        state.waiting.retain(|_, responders| {
            let gone = responders.extract_if(.., |responder| responder.connection == connection);
            gone.for_each(|responder| responder.outbox.end_wait());
            !responders.is_empty()
        });
        state.events.unsubscribe(connection);
        state.connections.remove(&connection);
        state.watchers.connection_ended(connection);
        self.apply_unasked(state, clock::now(), Command::ConnectionClosed(connection));
    }

    /// Ends everything of a process, the connections it made included: a child may still hold their descriptors.
    pub(crate) fn process_ended(&self, process: Process) {
        let state = &mut *self.state();
        let now = clock::now();
        for connection in state.watchers.ended(process) {
            self.apply_unasked(state, now, Command::ConnectionClosed(connection));
            if let Some(outbox) = state.connections.get(&connection) {
                outbox.close();
            }
        }
        self.apply_unasked(state, now, Command::ProcessEnded(process));
    }

    /// Lets time pass; answers how long to sleep, at most `most`.
    pub(crate) fn tick(&self, most: Duration) -> Duration {
        let state = &mut *self.state();
        let now = clock::now();
        self.apply_unasked(state, now, Command::Tick);
        // with nothing to come there is nothing to be late for
        let next = state.pool.next_wakeup(now).map_or(now.mono.after(IDLE), |next| next.min(now.mono.after(most)));
        self.scheduled.store(next.0, Ordering::Relaxed);
        next.since(now.mono)
    }

    /// Writes down when accounts were last used, where that has changed.
    pub(crate) fn save_last_uses(&self) {
        let state = &mut *self.state();
        let used =
            state.pool.accounts().iter().filter_map(|account| Some((account.record.id, account.record.last_used_at?)));
        let changed: Vec<(AccountId, Wall)> = used.filter(|(id, at)| state.saved_uses.get(id) != Some(at)).collect();
        if !changed.is_empty() {
            state.saved_uses.extend(changed.iter().copied());
            self.store.write(Write::LastUsed(changed), None);
        }
    }
}

impl State {
    /// Remembers where the answer to a queued request goes.
    pub(crate) fn wait_for(&mut self, waiter: WaiterId, responder: Responder, now: Now) {
        let responders = self.waiting.entry(waiter).or_default();
        // asked again elsewhere: the lease follows its holder, and only there it is answered
        let (stay, gone) =
            std::mem::take(responders).into_iter().partition::<Vec<_>, _>(|old| old.connection == responder.connection);
        *responders = stay;
        responders.push(responder);
        for old in gone {
            let error = ErrorInfo::new("bad_request", "the same request id was used again on another connection");
            old.outbox.push(|out| old.codec.refusal(&old.id, &error, out));
            old.outbox.end_wait();
        }
        self.last_busy = now;
    }

    /// Keeps a credential, and knows when it ends.
    pub(crate) fn keep_credential(&mut self, id: AccountId, credential: Credential) {
        self.keep_credential_of_life(id, credential, None);
    }

    /// The same of one that was just made, of which it is known how long it lives.
    pub(crate) fn keep_credential_of_life(&mut self, id: AccountId, credential: Credential, life: Option<Duration>) {
        self.refreshing.credential_came(id, life);
        self.tokens.keep(id, &credential, clock::now().wall);
        self.credentials.insert(id, credential);
        self.find_next_credential_end();
        self.gathered.wake.notify_one();
    }

    /// Takes accounts out of selection whose credential has ended.
    fn retire_credentials(&mut self, now: Now) {
        if self.next_credential_end.is_none_or(|end| end > now.wall) {
            return;
        }
        let ended: Vec<AccountId> = self
            .credentials
            .iter()
            .filter(|(id, credential)| {
                credential.expires_at.is_some_and(|end| end <= now.wall) && !self.refreshing.plan.knows(**id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            let is_ready = self.pool.account(id).is_some_and(|account| account.record.login_state == LoginState::Ready);
            if is_ready {
                let login_state = Some(LoginState::NeedsLogin(LoginProblem::AccessTokenEnded));
                let change = AccountChange { login_state, ..AccountChange::default() };
                let mut effects = std::mem::take(&mut self.effects);
                if let Err(refusal) = self.pool.handle(now, Command::ChangeAccount(id, Box::new(change)), &mut effects)
                {
                    tracing::error!(account = %id, "{id} could not be retired: {}", refusal.message);
                }
                // what follows is carried out with the command that is on its way
                self.effects = effects;
            }
        }
        self.next_credential_end = self
            .credentials
            .values()
            .filter_map(|credential| credential.expires_at)
            .filter(|end| *end > now.wall)
            .min();
    }

    fn find_next_credential_end(&mut self) {
        self.next_credential_end = self.credentials.values().filter_map(|credential| credential.expires_at).min();
    }
}
