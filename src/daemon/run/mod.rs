//! From a command line to a daemon that serves, and to its end.

pub(crate) mod locked;
pub(crate) mod serve;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::config::{AppPaths, Config, LoadedConfig};
use crate::pool::{Bind, Fence, Lease, Now, Pool, PoolStart, Process};
use crate::protocol::{GatewayKeySealer, LeaseKey};
use crate::store::{KeyringTrouble, Opened, Paths, Store, StoreError, Write};

use crate::daemon::config::apply;
use crate::daemon::config::apply::ActiveConfig;
use crate::daemon::config::watcher::{ConfigHandle, Reloader};
use crate::daemon::handle::{GatewayHandle, StartGateway};
use crate::daemon::linked_logins::watcher::Following;
use crate::daemon::log;
use crate::daemon::log::Log;
use crate::daemon::os::lock::{Lock, LockHolder, StartedBy, Taken};
use crate::daemon::os::signals::Listening;
use crate::daemon::os::socket::{Socket, SocketError, prepare_place, private_directory};
use crate::daemon::os::socket_activation;
use crate::daemon::os::socket_activation::Inherited;
use crate::daemon::os::{clock, host, process};
use crate::daemon::refresh::Engine;
use crate::daemon::run::locked::KeyringWait;
use crate::daemon::run::serve::{StopReason, serve};
use crate::daemon::state::fingerprints::Fingerprints;
use crate::daemon::state::{Daemon, RunInfo};
use crate::daemon::usage::poller::Polling;

/// Goes before `daemon.log`.
pub(crate) const LOG_VARIABLE: &str = "LESSOR_LOG";

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is.
    pub places: AppPaths,
    /// Started by a client: away from its terminal, and ended by `idle_exit`.
    pub detached: bool,
    /// `LESSOR_LOG`, if it is set.
    pub log: Option<String>,
    /// What serves HTTP beside the socket.
    pub gateway: Option<StartGateway>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// It served, and was asked to end.
    Served,
    /// It served until clients could no longer reach it; a service manager should start it anew.
    SocketLost,
    /// Another daemon has this data directory; who, if it has said so.
    AlreadyRunning(Option<LockHolder>),
    /// The same, while a service manager holds the socket for this one: who waited there was sent away, and starting
    /// anew would change nothing until the other one ends.
    InTheWay(Option<LockHolder>),
}

/// StopReason it does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(crate::config::ConfigErrors),
    /// `LESSOR_LOG` is no level.
    #[error("LESSOR_LOG is {0:?}; it may be error, warn, info, debug or trace")]
    LogLevel(String),
    /// A directory or the socket is not usable.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The lock cannot be taken.
    #[error("locking {path}: {error}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// The database is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused something else.
    #[error("{doing}: {error}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's word.
        error: std::io::Error,
    },
}

/// The time in the upper bits of a fence: a second guard beside the number kept on disk, for when the disk was full,
/// read-only or restored from a backup. 2⁹ fences a millisecond are more than any machine grants, and the result is
/// exact in JSON (below 2⁵³) until the year 2500.
const FENCES_PER_MS: u64 = 1 << 9;

/// KeyHolders the daemon; returns when it has ended. To be called before any thread starts.
///
/// # Errors
/// When it cannot serve: why, and what to do.
pub fn run(options: &Options) -> Result<Ended, StartError> {
    let inherited = Inherited::take()?;
    let waiting = inherited.as_ref().and_then(Inherited::waiting);
    let ended = match (begin(options, inherited), &waiting) {
        (Ok(Ended::AlreadyRunning(holder)), Some(_)) => Ok(Ended::InTheWay(holder)),
        (ended, _) => ended,
    };
    // a service manager would start us again for those who wait
    if let Some(waiting) = waiting.filter(|_| !matches!(ended, Ok(Ended::Served | Ended::SocketLost))) {
        waiting.send_away();
    }
    ended
}

fn begin(options: &Options, inherited: Option<Inherited>) -> Result<Ended, StartError> {
    let mut places = options.places.clone();
    if let Some(inherited) = &inherited {
        inherited.path().clone_into(&mut places.socket);
    }
    let places = &places;
    check_level(options.log.as_deref())?;
    let log = log::start(&places.log);
    let (reload, reloader) = Reloader::new(places.config.clone(), options.log.clone());
    let (content, loaded) = reloader.load();
    let loaded = loaded.map_err(|errors| {
        // whoever looks for the reason in the file is sent to where it is said
        log.say_where();
        StartError::Config(errors)
    })?;
    log.level.set(loaded.config.daemon.log);
    if options.detached {
        host::leave_the_terminal();
    }
    let most_connections = host::prepare_process();
    private_directory(&places.data)?;
    let lock_error = |error| StartError::Lock { path: places.lock.clone(), error };
    let taken = match Lock::take(&places.lock).map_err(lock_error)? {
        Taken::Theirs(Some(holder)) if inherited.is_some() => {
            socket_activation::succeed(holder, &places.lock).map_err(lock_error)?
        }
        taken => taken,
    };
    let mut lock = match taken {
        Taken::Ours(lock) => lock,
        Taken::Theirs(holder) => return Ok(Ended::AlreadyRunning(holder)),
    };
    private_directory(&places.state)?;
    log.say_where();
    // signals are caught before anything exists that a default end would leave behind
    let mut signals =
        Listening::begin().map_err(|error| StartError::System { doing: "listening to signals", error })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System { doing: "starting the runtime", error })?;
    let key_place = apply::key_place(&loaded.config);
    let paths = Paths { database: places.database.clone(), key: places.key.clone(), key_place };
    let opened = match Store::open(&paths, &clock::boot_id()) {
        Err(StoreError::Keyring(trouble)) => Err(trouble),
        opened => Ok(opened?),
    };
    let started_by = match &inherited {
        Some(_) => StartedBy::Manager,
        None if options.detached => StartedBy::Client,
        None => StartedBy::User,
    };
    let socket = runtime.block_on(async { open_socket(places, inherited) })?;
    let facts = RunInfo {
        started: clock::now(),
        socket: places.socket.display().to_string(),
        warnings: Vec::new(),
        most_connections,
        gateway_port: opened.as_ref().ok().and_then(|opened| opened.loaded.gateway_port),
        log_level: log.level.clone(),
        // who started it for a client starts the next one for the next client
        may_idle_exit: options.detached || socket.is_inherited(),
        waiting: None,
    };
    let holder = LockHolder { pid: std::process::id(), socket: places.socket.clone(), started_by };
    if let Err(error) = lock.publish(&holder) {
        tracing::warn!("clients elsewhere will not find this daemon by its lock file: {error}");
    }
    let say_ready = || say_ready(&holder, &log);
    let (opened, has_said) = match opened {
        Ok(opened) => (opened, false),
        Err(trouble) => {
            let antechamber = LockedDaemon { paths: &paths, loaded: &loaded, facts: &facts, options };
            let waited = antechamber.wait(trouble, &runtime, (&socket, &mut lock, &mut signals), say_ready)?;
            match waited {
                Ok(opened) => (opened, true),
                Err(why) => return Ok(why.into()),
            }
        }
    };
    let facts = RunInfo { gateway_port: opened.loaded.gateway_port, ..facts };
    let (served, daemon, following, engine) = runtime.block_on(async {
        let daemon = restore(ActiveConfig::new(loaded, places.config.clone()), opened, reload, facts);
        daemon.settle_key();
        let reloading = reloader.begin(&daemon, content);
        let thread_error = |error| StartError::System { doing: "starting a thread", error };
        let reloading = reloading.map_err(thread_error)?;
        let following = Following::begin(&daemon).map_err(thread_error)?;
        let engine = Engine::begin(&daemon).map_err(thread_error)?;
        let gateway =
            options.gateway.map(|start| start(GatewayHandle::new(&daemon))).transpose().map_err(thread_error)?;
        let polling = Polling::begin(&daemon, places.state.join("usage.json")).map_err(thread_error)?;
        if !has_said {
            say_ready();
        }
        let served = serve(daemon.clone(), &socket, &mut lock, &mut signals).await;
        if let Some(gateway) = gateway {
            gateway.end();
        }
        reloading.end();
        polling.end();
        daemon.save_last_uses();
        Ok::<_, StartError>((served, daemon, following, engine))
    })?;
    drop(runtime);
    // it may have waited for a task that went with the runtime
    following.end();
    engine.end();
    let health = daemon.store.close(true);
    tracing::info!(?health, "stopped");
    drop(lock);
    Ok(served.into())
}

impl From<StopReason> for Ended {
    fn from(why: StopReason) -> Self {
        match why {
            StopReason::SocketLost => Self::SocketLost,
            StopReason::Requested | StopReason::Unused | StopReason::Unlocked => Self::Served,
        }
    }
}

/// Where clients wait with us for a key that cannot be had yet.
struct LockedDaemon<'a> {
    paths: &'a Paths,
    loaded: &'a LoadedConfig,
    facts: &'a RunInfo,
    options: &'a Options,
}

impl LockedDaemon<'_> {
    /// Serves what needs no secret until the key is there, or something ends it before.
    fn wait(
        &self,
        mut trouble: KeyringTrouble,
        runtime: &Runtime,
        (socket, lock, signals): (&Socket, &mut Lock, &mut Listening),
        ready: impl Fn(),
    ) -> Result<Result<Opened, StopReason>, StartError> {
        let thread_error = |error| StartError::System { doing: "starting a thread", error };
        let config = &self.options.places.config;
        tracing::warn!("{trouble}: no account can serve until the key is there");
        ready();
        loop {
            let waiting = KeyringWait::begin(&trouble).map_err(thread_error)?;
            let facts = RunInfo { waiting: Some(waiting.clone()), ..self.facts.clone() };
            let (reload, reloader) = Reloader::new(config.clone(), self.options.log.clone());
            let (content, _) = reloader.load();
            let opened = Store::open_without_key(self.paths)?;
            let why = runtime.block_on(async {
                let configured = ActiveConfig::new(self.loaded.clone(), config.clone());
                let daemon = restore(configured, opened, reload, facts);
                let reloading = reloader.begin(&daemon, content).map_err(thread_error)?;
                let why = serve(daemon.clone(), socket, lock, signals).await;
                reloading.end();
                Ok::<_, StartError>(why)
            })?;
            waiting.give_up();
            if why != StopReason::Unlocked {
                return Ok(Err(why));
            }
            match Store::open(self.paths, &clock::boot_id()) {
                Err(StoreError::Keyring(again)) => trouble = again,
                opened => {
                    tracing::info!("the key is there");
                    return Ok(Ok(opened?));
                }
            }
        }
    }
}

/// Binds, or takes over a service manager's socket; the directory of a socket in one of lessor's own places is made and
/// closed to others.
fn open_socket(places: &AppPaths, inherited: Option<Inherited>) -> Result<Socket, StartError> {
    prepare_place(&places.socket)?;
    if let Some(inherited) = inherited {
        if let Some(socket) = Socket::adopt(inherited)? {
            return Ok(socket);
        }
        // no client can come to the one that was handed over
        tracing::warn!(
            path = %places.socket.display(),
            "the service manager's socket was removed from its place; there is a new one until its unit is restarted"
        );
    }
    Ok(Socket::bind(&places.socket)?)
}

/// Puts the pool together again from what was kept.
fn restore(configured: ActiveConfig, opened: Opened, reload: ConfigHandle, mut facts: RunInfo) -> Arc<Daemon> {
    let Opened { store, loaded: mut kept } = opened;
    let now = facts.started;
    let (living, dead): (Vec<Lease>, Vec<Lease>) = kept.snapshot.leases.into_iter().partition(is_alive);
    for lease in dead {
        store.write(Write::DropLease(lease.fence), None);
    }
    kept.snapshot.leases = living;
    let start = PoolStart { fence: first_fence(kept.fence, now), grace: !kept.clean && kept.same_boot };
    let mut effects = Vec::new();
    let pool = Pool::restore(now, configured.config.pool.clone(), kept.snapshot, start, &mut effects);
    let bound: Vec<Process> = pool.leases().filter_map(|lease| bound_process(lease.bind)).collect();
    facts.warnings = kept.warnings;
    for warning in facts.warnings.iter().cloned().chain(configured.notes()) {
        tracing::warn!("{warning}");
    }
    let (accounts, leases, clean, grace) = (pool.accounts().len(), pool.lease_count(), kept.clean, start.grace);
    let after = if clean { "" } else { ", after an end that was none of its own" };
    tracing::info!(accounts, leases, clean, grace, "restored: accounts {accounts}, leases {leases}{after}");
    let credentials = kept.credentials.into_iter().collect();
    let pass_key = GatewayKeySealer::new(kept.fingerprint_key.derived("keys of the gateway"));
    let tokens = Fingerprints::new(kept.fingerprint_key, kept.fingerprints);
    let logins = (credentials, tokens, kept.links.into_iter().collect(), kept.refreshing);
    let keys = (LeaseKey::new(kept.lease_key), pass_key);
    let daemon = Arc::new(Daemon::new((pool, configured), logins, store, keys, reload, facts));
    daemon.begin(effects, &bound);
    daemon
}

/// Whether what a lease is bound to is still there.
fn is_alive(lease: &Lease) -> bool {
    bound_process(lease.bind)
        .is_none_or(|bound| process::find(bound.pid).ok().flatten().is_some_and(|found| found.process == bound))
}

fn bound_process(bind: Bind) -> Option<Process> {
    match bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => None,
    }
}

fn first_fence(kept: Fence, now: Now) -> Fence {
    Fence(kept.0.max(now.wall.0.saturating_mul(FENCES_PER_MS)))
}

fn say_ready(holder: &LockHolder, log: &Log) {
    let (version, pid, socket) = (env!("CARGO_PKG_VERSION"), holder.pid, holder.socket.display());
    tracing::info!(version, pid, %socket, "lessor {version} serves at {socket}");
    if log.stderr_is_apart {
        // who started us may have gone, and with it the pipe: `eprintln` would end us for that
        let _nobody_listens = writeln!(std::io::stderr(), "ready: pid {pid}, socket {socket}");
    }
    crate::daemon::os::service_manager::ready();
}

/// `LESSOR_LOG` goes before every file, so it is refused once, here.
fn check_level(wanted: Option<&str>) -> Result<(), StartError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let known = Config::default().set_from_environment("daemon.log", LOG_VARIABLE, wanted);
    known.map_err(|_| StartError::LogLevel(wanted.to_owned()))
}
