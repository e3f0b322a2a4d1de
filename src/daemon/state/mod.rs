//! The state: the pool and everything that must agree with it, behind one lock, changed in one place ([`State::apply`]).
//!
//! The lock is never held across an await, and nothing under it waits for the system: processes are looked up before
//! it is taken, files are read by workers, log lines are written after it is released.

pub(crate) mod account_names;
mod account_state;
mod apply;
mod commit;
mod configuration;
mod credentials;
mod differences;
pub(crate) mod events;
pub(crate) mod gateway_keys;
mod guard;
pub(crate) mod guests;
pub(in crate::daemon) mod host_link;
mod mailbox;
pub(crate) mod outbox;
mod processes;
mod requests;
mod shared_accounts;
mod waiters;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, Semaphore, watch};

use crate::credential::{FormerCredential, Link, oauth::StoredClient};
use crate::daemon::attest::AttestState;
use crate::daemon::many_hosts::handle::ManyHosts;
use crate::daemon::notification::troubles::NoticeTroubles;
use crate::daemon::os::clock;
use crate::daemon::page_sessions::PageSessions;
use crate::daemon::view::PoolSeats;
use crate::history::History;
use crate::pool::{AccountId, Bind, Command, ConnectionId, Effect, Lease, Now, Pool, Process, Wall};
use crate::protocol::LeaseKey;
use crate::shared_pool::{Membership, TokenGeneration};
use crate::store::Store;
use crate::usage::BankedResets;
use crate::{daemon::log::LogLevelHandle, provider::Catalog};

pub(crate) use account_state::AccountState;
pub use commit::SavedSignal;
pub(crate) use commit::{Pending, Unsaved, save};
use commit::{UnsavedAccounts, WriteCounts};
pub(crate) use configuration::{ActiveConfig, catalog, key_location};
pub use configuration::{GatewayShortage, GatewayState, SecureGateway};
pub(crate) use credentials::{
    CredentialProblem, CredentialResult, CredentialState, Credentials, Fingerprints, KeyringWait, Links, LoginRefresh,
    Renewal, client_of, imported_limit, is_ours_to_refresh, login_state_of, set_login_state,
};
pub use credentials::{CredentialUse, connect_options, credential_check, direct_settings, oauth_given};
pub(crate) use differences::Differences;
pub(crate) use events::Events;
pub(crate) use gateway_keys::GatewayKeys;
pub(crate) use requests::in_flight::RequestsInFlight;
pub use requests::in_flight::{AccountInFlight, RequestTurn};

pub(crate) use gateway_keys::conversations::{ConversationKey, ConversationOwner};
pub(crate) use gateway_keys::key_holders::KeyHolders;
pub(crate) use gateway_keys::lasting_key::LISTED_AFTER_END;
pub use gateway_keys::lasting_key::{KeyUse, LastingKey};
pub(crate) use gateway_keys::moved_leases::MovedLeases;
pub(crate) use guard::{LogLater, StateGuard};
use guests::{GuestHolderNames, Guests};
use host_link::HostLink;
pub(crate) use mailbox::{ConfigMessage, LinkedLoginsMessage, Mailbox, Mailboxes, PollOutcome, UsageRequest};
pub(crate) use outbox::Outbox;
pub(crate) use processes::WatchedProcesses;
pub use requests::report::{ReportOutcome, UpstreamOutcome};
pub(crate) use requests::served::{Served, ServedBy};
pub(crate) use requests::session_accounts::{Asker, SessionAccounts};
pub(crate) use shared_accounts::SharedAccounts;
pub(crate) use shared_accounts::own_changes::OwnChangeCount;
pub(crate) use waiters::{Waiter, Waiters};

/// The first id of the gateway's connections; those of the socket never get this high.
pub(crate) const FIRST_GATEWAY_CONNECTION: u64 = 1 << 62;

/// Whether a lease is for one request of the gateway and ends with it. What the request leaves in the history says all
/// of the lease, too.
pub(crate) fn ends_with_request(lease: &Lease) -> bool {
    matches!(lease.bind, Bind::Connection(connection) if connection.0 >= FIRST_GATEWAY_CONNECTION)
}

/// The daemon, as every connection and worker sees it.
#[derive(Debug)]
pub struct Daemon {
    state: Mutex<State>,
    /// The threads that wait for the lock.
    lock_waiters: AtomicUsize,
    shared: Arc<Shared>,
}

/// What needs no lock.
#[derive(Debug)]
pub struct Shared {
    pub(crate) store: Store,
    counts: WriteCounts,
    pub(crate) history: History,
    pub(crate) lease_key: LeaseKey,
    pub(crate) gateway_keys: GatewayKeys,
    pub(crate) run: RunInfo,
    pub(crate) mailboxes: Mailboxes,
    /// When the timer will next call, ms since boot.
    scheduled: AtomicU64,
    /// Wakes the timer.
    pub(crate) reschedule: Notify,
    pub(crate) stop: watch::Sender<bool>,
    /// A restart that was asked for: how long requests in flight may take.
    pub(crate) restart: watch::Sender<Option<Duration>>,
    /// The gateway has no request in flight any more, and has handed over its listeners.
    pub(crate) gateway_drained: Notify,
    /// The gateway's requests that wait for their upstream or get its response.
    pub(crate) in_flight: Arc<AtomicU64>,
    /// The same by account and key, and those that wait for room.
    pub(crate) requests: RequestsInFlight,
    /// When the gateway last had too many connections.
    pub(crate) gateway_shortage: Mutex<Option<GatewayShortage>>,
    /// Wakes the serving loop after a change of the configuration.
    pub(crate) reconfigured: Notify,
    /// Counts changes of the configuration.
    pub(crate) config_version: watch::Sender<u64>,
    /// Wakes the end of the daemon: a refresh that was sent is over.
    pub(crate) refresh_ended: Notify,
    /// Wakes requests that hold a lease and wait for an account that can serve them.
    pub(crate) capacity_changed: Notify,
    pub(crate) attest: AttestState,
    /// The link to the host whose accounts this daemon uses.
    pub(crate) host_link: HostLink,
    /// What the holders of guests are called.
    pub(crate) guest_names: GuestHolderNames,
    /// Room for the connections of guests over ssh: the other half of all connections is left to this machine.
    pub(crate) guest_room: Arc<Semaphore>,
    /// Whether the configuration has sets of accounts for directories.
    pub(crate) directory_sets: AtomicBool,
    /// Who may use the gateway's page.
    pub(crate) page: PageSessions,
    /// The pool that this host shares with others.
    pub(crate) many_hosts: ManyHosts,
    /// The seats of the other hosts, as people were last shown them.
    pub(crate) pool_seats: PoolSeats,
    /// Why notifications cannot be sent.
    pub(crate) notice_troubles: NoticeTroubles,
    /// Held while an account is added or its credential replaced, so that two with one label cannot both be on their
    /// way to the disk.
    pub(crate) account_writes: tokio::sync::Mutex<()>,
    /// Held while a banked reset is used: one at a time.
    pub(crate) limit_resets: tokio::sync::Mutex<()>,
    /// The runtime of the sockets, for tasks that another thread begins.
    pub(crate) runtime: tokio::runtime::Handle,
    /// For those tasks.
    daemon: Weak<Daemon>,
}

/// What is known when the daemon starts, and does not change.
#[derive(Clone, Debug)]
pub struct RunInfo {
    pub(crate) started: Now,
    pub(crate) socket: String,
    /// The directory of the login homes, among others.
    pub(crate) state_directory: PathBuf,
    /// What was found at the start.
    pub(crate) warnings: Vec<String>,
    pub(crate) log_level: LogLevelHandle,
    /// Whether `idle_exit` ends the daemon: a client or a service manager started it, and will again.
    pub(crate) may_idle_exit: bool,
    /// The keyring that holds the key of all secrets is locked.
    pub(crate) keyring: Option<Arc<KeyringWait>>,
    pub(crate) most_connections: usize,
    /// The port that the gateway chose in an earlier run.
    pub(crate) gateway_port: Option<u16>,
    /// The one that it chose for TLS.
    pub(crate) gateway_tls_port: Option<u16>,
    /// Holders of the last run's leases may resume them before others are served.
    pub(crate) may_resume: bool,
}

/// What changes together.
#[derive(Debug)]
pub struct State {
    pub(crate) pool: Pool,
    pub(crate) config: ActiveConfig,
    pub(crate) catalog: Catalog,
    pub(crate) credentials: Credentials,
    pub(crate) logins: LoginRefresh,
    /// The OAuth clients whose secrets are stored, by name.
    pub(crate) stored_clients: Vec<StoredClient>,
    pub(crate) links: Links,
    pub(crate) usage_notes: UsageNotes,
    pub(crate) shared_accounts: SharedAccounts,
    pub(crate) connections: FxHashMap<ConnectionId, Arc<Outbox>>,
    pub(crate) processes: WatchedProcesses,
    pub(crate) key_holders: KeyHolders,
    pub(crate) served_by: ServedBy,
    pub(crate) session_accounts: SessionAccounts,
    pub(crate) differences: Differences,
    pub(crate) gateway: GatewayState,
    pub(crate) events: Events,
    pub(crate) waiters: Waiters,
    pub(crate) guests: Guests,
    /// The lease that ended last, for `explain`.
    pub(crate) last_ended: Option<Arc<Lease>>,
    /// When the daemon last had a client or a lease, for `idle_exit`.
    pub(crate) last_busy: Now,
    /// Log lines to be written when the lock is released.
    pub(crate) log: LogLater,
    effects: Vec<Effect>,
    follow_ups: Vec<Command>,
    saved_uses: FxHashMap<AccountId, Wall>,
    unsaved: UnsavedAccounts,
    shared: Arc<Shared>,
}

/// What asking for usage has brought, beside the windows.
#[derive(Debug, Default)]
pub(crate) struct UsageNotes {
    /// The plan, as the provider calls it.
    pub(crate) plans: FxHashMap<AccountId, String>,
    /// Why the last question failed.
    pub(crate) failures: FxHashMap<AccountId, String>,
    /// When the next question is due.
    pub(crate) next: FxHashMap<AccountId, Wall>,
    /// The limit resets that are banked.
    pub(crate) resets: FxHashMap<AccountId, BankedResets>,
    /// The use of a reset has begun, and its result is not known.
    pub(crate) unfinished_resets: FxHashSet<AccountId>,
}

impl UsageNotes {
    /// Forgets an account that was removed.
    pub(crate) fn forget(&mut self, id: AccountId) {
        self.plans.remove(&id);
        self.failures.remove(&id);
        self.next.remove(&id);
        self.resets.remove(&id);
        self.unfinished_resets.remove(&id);
    }
}

/// What was read from the disk at the start.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) pool: Pool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) config: ActiveConfig,
    pub(crate) credentials: Vec<(AccountId, crate::credential::Credential)>,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) links: Vec<(AccountId, Link)>,
    pub(crate) formers: Vec<(AccountId, FormerCredential)>,
    pub(crate) stored_clients: Vec<StoredClient>,
    /// Refreshes that the last run sent and whose answers it did not get.
    pub(crate) unanswered_refreshes: Vec<(AccountId, Wall)>,
    pub(crate) store: Store,
    pub(crate) lease_key: LeaseKey,
    pub(crate) gateway_keys: GatewayKeys,
    pub(crate) moved_leases: MovedLeases,
    /// This host's membership in a shared pool.
    pub(crate) membership: Option<Arc<Membership>>,
    /// The term in which it last held seats, and the life of the daemon in it.
    pub(crate) pool_term: Option<(i64, u64)>,
    pub(crate) shared_accounts: SharedAccounts,
    /// Accounts whose credential is an answer that the pool does not have yet, and of which generation.
    pub(crate) pool_answers: Vec<(AccountId, i64)>,
    /// A random number, for pseudo-random numbers under the lock.
    pub(crate) seed: u64,
}

#[cfg(debug_assertions)]
thread_local! {
    /// How often this thread has locked the state, for tests.
    pub(crate) static LOCK_COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The timer's sleep when nothing is due; a change wakes it.
const IDLE: Duration = Duration::from_secs(3600);

impl Daemon {
    /// A daemon in the state that was restored; `processes` are those that its leases are bound to.
    pub(crate) fn new(restored: Restored, run: RunInfo, processes: WatchedProcesses) -> Arc<Self> {
        let Restored { pool, effects, config, credentials, fingerprints, links, formers, .. } = restored;
        let unanswered_refreshes = restored.unanswered_refreshes;
        let mailboxes = Mailboxes::default();
        Arc::new_cyclic(|daemon| {
            let started = run.started;
            let guest_room = Arc::new(Semaphore::new(run.most_connections / 2));
            let served_by = ServedBy::restored(&pool, started);
            let session_accounts = SessionAccounts::restored(&pool, started);
            let history = History::default();
            let mut events = Events::new(restored.lease_key.clone(), history.queue(), mailboxes.notices.clone());
            events.notify(config.config.notify.is_on());
            let shared = Arc::new(Shared {
                store: restored.store,
                counts: WriteCounts::default(),
                history,
                lease_key: restored.lease_key,
                gateway_keys: restored.gateway_keys,
                run,
                mailboxes: mailboxes.clone(),
                scheduled: AtomicU64::new(0),
                reschedule: Notify::new(),
                stop: watch::Sender::new(false),
                restart: watch::Sender::new(None),
                gateway_drained: Notify::new(),
                in_flight: Arc::default(),
                requests: RequestsInFlight::new(&config.config.pool.leases),
                gateway_shortage: Mutex::default(),
                reconfigured: Notify::new(),
                config_version: watch::Sender::new(0),
                capacity_changed: Notify::new(),
                attest: AttestState::default(),
                host_link: HostLink::new(restored.seed),
                guest_names: GuestHolderNames::default(),
                guest_room,
                directory_sets: AtomicBool::new(!config.config.pool.directories.is_empty()),
                page: PageSessions::default(),
                many_hosts: ManyHosts::new(restored.membership, restored.pool_term),
                pool_seats: PoolSeats::default(),
                notice_troubles: NoticeTroubles::default(),
                refresh_ended: Notify::new(),
                account_writes: tokio::sync::Mutex::new(()),
                limit_resets: tokio::sync::Mutex::new(()),
                runtime: tokio::runtime::Handle::current(),
                daemon: daemon.clone(),
            });
            shared.attest.configure(&config.config.pool);
            let catalog = catalog(&config.config, &pool);
            let logins = LoginRefresh::new(
                &config.config,
                unanswered_refreshes,
                mailboxes.refresh,
                (started.wall, restored.seed),
            );
            let mut state = State {
                pool,
                config,
                catalog,
                credentials: Credentials::new(fingerprints),
                logins,
                stored_clients: restored.stored_clients,
                links: Links::new(links, formers, mailboxes.linked_logins),
                usage_notes: UsageNotes::default(),
                shared_accounts: restored.shared_accounts,
                connections: FxHashMap::default(),
                processes,
                key_holders: KeyHolders::restored(restored.moved_leases),
                served_by,
                session_accounts,
                differences: Differences::default(),
                gateway: GatewayState::default(),
                events,
                waiters: Waiters::default(),
                guests: Guests::default(),
                last_ended: None,
                last_busy: started,
                log: LogLater::default(),
                effects,
                follow_ups: Vec::new(),
                saved_uses: FxHashMap::default(),
                unsaved: UnsavedAccounts::default(),
                shared: shared.clone(),
            };
            for (id, from) in restored.pool_answers {
                state.logins.note_pool_answer(id, TokenGeneration(from));
            }
            state.begin(started, credentials);
            Self { state: Mutex::new(state), lock_waiters: AtomicUsize::new(0), shared }
        })
    }

    /// The state, for as long as the guard lives; never across an await.
    pub(crate) fn state(&self) -> StateGuard<'_> {
        #[cfg(debug_assertions)]
        LOCK_COUNT.set(LOCK_COUNT.get() + 1);
        // the pool checks before it changes: a panic in between is a bug, and serving on does less harm
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.lock_waiters.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.lock_waiters.fetch_sub(1, Ordering::Relaxed);
                state
            }
        };
        StateGuard::new(state)
    }

    /// Whether a thread waits for the lock.
    pub(crate) fn is_lock_wanted(&self) -> bool {
        self.lock_waiters.load(Ordering::Relaxed) > 0
    }

    /// How long the daemon may be unused before it ends.
    pub(crate) fn idle_exit(&self) -> Option<Duration> {
        self.state().config.config.daemon.idle_exit.filter(|_| self.run.may_idle_exit)
    }

    /// How long there has been no connection, lease or queued request.
    pub(crate) fn idle_for(&self) -> Duration {
        let state = &mut *self.state();
        let now = clock::now();
        if state.pool.lease_count() > 0 || !state.connections.is_empty() || self.host_link.has_holders() {
            state.last_busy = now;
        }
        now.mono.since(state.last_busy.mono)
    }

    pub(crate) fn connection_ended(&self, connection: ConnectionId) {
        self.host_link.connection_ended(connection);
        let state = &mut *self.state();
        state.waiters.connection_ended(connection);
        state.events.unsubscribe(connection);
        state.connections.remove(&connection);
        state.processes.connection_ended(connection);
        let now = clock::now();
        state.apply_internal(now, Command::ConnectionClosed(connection));
        if let Some(lost) = state.guests.connection_ended(connection, now) {
            self.await_guest(lost);
        }
    }

    /// Ends everything of a process, the connections it made included: a child may still hold their descriptors.
    pub(crate) fn process_ended(&self, process: Process) {
        let state = &mut *self.state();
        let now = clock::now();
        self.host_link.process_ended(process);
        for connection in state.processes.ended(process) {
            self.host_link.connection_ended(connection);
            state.apply_internal(now, Command::ConnectionClosed(connection));
            if let Some(outbox) = state.connections.get(&connection) {
                outbox.close();
            }
        }
        state.apply_internal(now, Command::ProcessEnded(process));
    }

    /// Lets time pass; answers how long to sleep, at most `most`.
    pub(crate) fn tick(&self, most: Duration) -> Duration {
        let state = &mut *self.state();
        let now = clock::now();
        state.apply_internal(now, Command::Tick);
        // with nothing due there is nothing to be late for
        let next = state.pool.next_wakeup(now).map_or(now.mono.after(IDLE), |next| next.min(now.mono.after(most)));
        self.scheduled.store(next.0, Ordering::Relaxed);
        next.since(now.mono)
    }
}

impl Deref for Daemon {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Shared {
    /// The daemon, while it lives.
    pub(crate) fn daemon(&self) -> Option<Arc<Daemon>> {
        self.daemon.upgrade()
    }
}

impl State {
    /// What needs no lock.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}
