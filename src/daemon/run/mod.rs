//! Runs the daemon: start, serve, end.

mod connections;
mod locked;
mod restore;
mod serve;
mod source;
mod watchdog;

use std::convert::Infallible;
use std::sync::{Arc, atomic::AtomicBool};
use std::{io, io::Write as _, path::PathBuf};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::api::connection::planner::PlannerThread;
use crate::config::{AppPaths, Config, LoadedConfig};
use crate::daemon::config::{ConfigWatcher, LOG_VARIABLE, move_key};
use crate::daemon::handle::{GatewayHandle, StartGateway};
use crate::daemon::log::{self, Log};
use crate::daemon::os::handover::{CONTINUES, GatewayListeners, Handover};
use crate::daemon::os::lock::{LockHolder, Taken};
use crate::daemon::os::signals::SignalListener;
use crate::daemon::os::socket::{Socket, SocketError, private_directory};
use crate::daemon::os::{allocator, clock, host, service_manager};
use crate::daemon::state::{
    ActiveConfig, ConfigMessage, Daemon, LinkedLoginsMessage, RunInfo, UsageRequest, key_location,
};
use crate::daemon::worker::{WaitsFor, Worker, WorkerThread};
use crate::daemon::{
    history, linked_logins, many_hosts, notification, notification::policy::NoticeEvent, refresh, usage,
};
use crate::pool::Process;
use crate::store::{AcceptedStore, Store, StoreError, StorePaths};

use connections::Connections;
use locked::wait_for_keyring;
use restore::RestoringThread;
pub(in crate::daemon) use restore::restore;
pub use serve::LONGEST_END;
use serve::{Serving, StopReason};
use source::{OpenedSource, Source};

/// How to run the daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files are.
    pub places: AppPaths,
    /// A client started it: it leaves the client's terminal, and `idle_exit` stops it.
    pub detached: bool,
    /// `LESSOR_LOG`, if it is set.
    pub log: Option<String>,
    /// Starts the gateway.
    pub gateway: Option<StartGateway>,
}

/// How the daemon ended.
#[derive(Debug)]
pub enum Ended {
    /// It served until it was stopped.
    Served,
    /// It served until clients could no longer reach it; a service manager should restart it.
    SocketLost,
    /// Another daemon has this data directory; which one, if its lock file says so.
    AlreadyRunning(Option<LockHolder>),
    /// The same, while a service manager keeps the socket for this daemon: the waiting clients were disconnected, and a
    /// restart is of no use until the other daemon ends.
    InTheWay(Option<LockHolder>),
}

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(crate::config::ConfigErrors),
    /// `LESSOR_LOG` is not a log level.
    #[error("LESSOR_LOG is {0:?}; it may be error, warn, info, debug or trace")]
    LogLevel(String),
    /// A directory or the socket is not usable.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The lock cannot be taken.
    #[error("cannot lock {path}: {error}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's message.
        error: io::Error,
    },
    /// The database is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A limit of the process is too low.
    #[error("{0}")]
    Limit(String),
    /// The system refused something else.
    #[error("{doing}: {error}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's message.
        error: io::Error,
    },
}

/// Runs the daemon; returns when it has ended. To be called before any thread starts.
///
/// # Errors
/// When it cannot serve.
pub fn run(options: &Options) -> Result<Ended, StartError> {
    allocator::set_up();
    allocator::set_up_database();
    let source = Source::find()?;
    let waiting = source.waiting();
    let ended = match (start(options, source), &waiting) {
        (Ok(RunEnd::Ended(Ended::AlreadyRunning(holder))), Some(_)) => Ok(Ended::InTheWay(holder)),
        (Ok(RunEnd::Ended(ended)), _) => Ok(ended),
        (Ok(RunEnd::Restart(handover, socket, is_stopped)), _) => {
            let ended = match handover.execute(&is_stopped) {
                None => Ok(Ended::Served),
                Some(error) => Err(system("executing the program again")(error)),
            };
            socket.remove();
            ended
        }
        (Err(error), _) => Err(error),
    };
    // for waiting clients the service manager would start the daemon again
    if let Some(waiting) = waiting.filter(|_| !matches!(ended, Ok(Ended::Served | Ended::SocketLost))) {
        waiting.disconnect();
    }
    ended
}

/// How a run ends.
enum RunEnd {
    Ended(Ended),
    /// The next run of this process takes over, unless a stop is requested until then.
    Restart(Handover, Socket, Arc<AtomicBool>),
}

fn start(options: &Options, source: Source) -> Result<RunEnd, StartError> {
    let mut paths = options.places.clone();
    if let Some(path) = source.path()? {
        paths.socket = path;
    }
    check_level(options.log.as_deref())?;
    host::check_limits().map_err(StartError::Limit)?;
    let log = log::start(&paths.log);
    let (watcher, loaded) = ConfigWatcher::load(paths.config.clone(), options.log.clone());
    let loaded = loaded.map_err(|errors| {
        // a reader of the log file finds the reason in the journal
        log.announce_journal();
        StartError::Config(errors)
    })?;
    log.level.set(loaded.config.daemon.log);
    if options.detached {
        host::leave_the_terminal();
    }
    let most_connections = host::prepare_process();
    let mut lock = match source.lock(&paths)? {
        Taken::Ours(lock) => lock,
        Taken::Theirs(holder) => return Ok(RunEnd::Ended(Ended::AlreadyRunning(holder))),
    };
    private_directory(&paths.state)?;
    log.announce_journal();
    // from here on a signal must not end the process without cleanup
    let signals = SignalListener::begin().map_err(system("receiving signals"))?;
    let steps = clock::TimerSteps::of_next_runtime();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("starting the runtime"))?;
    let store_paths = StorePaths {
        database: paths.database.clone(),
        key: paths.key.clone(),
        key_backend: key_location(&loaded.config),
    };
    let accepted = match Store::accept(&store_paths) {
        Err(StoreError::Keyring(error)) => Err(error),
        accepted => Ok(accepted?),
    };
    let started_by = source.started_by(options.detached);
    let OpenedSource { socket, gateway, may_resume } = runtime.block_on(async { source.open(&paths.socket) })?;
    let info = RunInfo {
        started: clock::now(),
        socket: paths.socket.display().to_string(),
        state_directory: paths.state.clone(),
        warnings: Vec::new(),
        most_connections,
        gateway_port: None,
        gateway_tls_port: None,
        log_level: log.level.clone(),
        // a client or the service manager starts it again when it is needed
        may_idle_exit: options.detached || socket.is_inherited(),
        keyring: None,
        may_resume,
    };
    let holder = LockHolder { pid: std::process::id(), socket: paths.socket.clone(), started_by };
    if let Err(error) = lock.publish(&holder) {
        tracing::warn!(
            "the lock file cannot be written, clients with another socket path do not find this daemon: {error}"
        );
    }
    let serving = Serving { socket, lock, signals, steps };
    let mut run = Run { paths, options, log, holder, info, serving, gateway, runtime };
    match accepted {
        Ok(accepted) => run.serve(watcher, loaded, accepted, true),
        Err(error) => match wait_for_keyring(&mut run, error, (&store_paths, &loaded))? {
            Ok(accepted) => run.serve(watcher, loaded, accepted, false),
            Err(reason) => end(run.serving, reason, run.gateway),
        },
    }
}

/// A run of the daemon: everything that exists before the database is open.
struct Run<'a> {
    paths: AppPaths,
    options: &'a Options,
    log: Log,
    holder: LockHolder,
    info: RunInfo,
    serving: Serving,
    /// The gateway's listeners, if the last run of this process has handed them over.
    gateway: GatewayListeners,
    runtime: Runtime,
}

/// The daemon, and a channel with the watched processes that have ended.
type RestoredDaemon = (Arc<Daemon>, UnboundedReceiver<Process>);

impl Run<'_> {
    /// What restores the state, on another thread.
    fn restoration(
        &self,
        loaded: LoadedConfig,
        accepted: AcceptedStore,
    ) -> impl FnOnce() -> Result<RestoredDaemon, StartError> + Send + use<> {
        let (runtime, info) = (self.runtime.handle().clone(), self.info.clone());
        let config = ActiveConfig::new(loaded, self.paths.config.clone());
        let history_file = self.paths.history.clone();
        move || {
            // its processes are watched by the runtime of the sockets
            let _entered = runtime.enter();
            let opened = accepted.open(&clock::boot_id())?;
            let (daemon, ended) = restore(config, opened, info);
            move_key(&daemon);
            history::start(&daemon, history_file).map_err(system("starting a thread"))?;
            Ok((daemon, ended))
        }
    }

    /// Restores the state while the first client is greeted, and serves until the daemon stops; `announce` reports when it
    /// is ready.
    fn serve(
        mut self,
        watcher: ConfigWatcher,
        loaded: LoadedConfig,
        accepted: AcceptedStore,
        announce: bool,
    ) -> Result<RunEnd, StartError> {
        let thread = || system("starting a thread");
        let planner = PlannerThread::start().map_err(thread())?;
        let place = planner.planner().place();
        let mut connections = Connections::new(planner.planner(), self.info.most_connections);
        let restoring = RestoringThread::start(self.restoration(loaded, accepted)).map_err(thread())?;
        let restored = self.runtime.block_on(self.serving.greet(&mut connections, restoring));
        let (daemon, ended) = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.serving.withdraw();
                planner.end();
                return Err(error);
            }
        };
        let entered = self.runtime.enter();
        let handle = GatewayHandle::new(&daemon, self.gateway);
        let (reported, ready) = oneshot::channel();
        let start_rest = {
            let (daemon, handle, start_gateway) = (daemon.clone(), handle.clone(), self.options.gateway);
            let usage_file = self.paths.state.join("usage.json");
            let report = announce.then(|| ReadyReport::new(&self.holder, &self.log));
            move || {
                let gateway = start_gateway.map(|start| start(handle)).transpose()?;
                // a client can stop the daemon before that
                if let Some(report) = report.filter(|_| !*daemon.stop.borrow()) {
                    report.send();
                }
                daemon.configure_host_link();
                let _has_ended = reported.send(());
                Ok((gateway, Workers::start(&daemon, watcher, usage_file)))
            }
        };
        drop(entered);
        let (rest, reason) = self.runtime.block_on(async {
            // before the first call that may be for the gateway or a worker
            let started = async {
                let rest: Option<io::Result<_>> = place?.run(&daemon, start_rest).await;
                if !matches!(rest, Some(Ok((_, Ok(_))))) {
                    daemon.stop.send_replace(true);
                }
                rest
            };
            tokio::join!(
                started,
                self.serving.serve(daemon.clone(), (planner, connections), ended, announce.then_some(ready))
            )
        });
        // none when the daemon was stopped before they started
        let (rest, failure) = match rest.transpose() {
            Ok(rest) => (rest, None),
            Err(error) => (None, Some(error)),
        };
        let (gateway, workers) = rest.unzip();
        if let Some(gateway) = gateway.flatten() {
            gateway.end();
        }
        let (workers, failure) = match workers.transpose() {
            Ok(workers) => (workers, failure),
            Err(error) => (None, Some(error)),
        };
        let later = workers.map(Workers::end_first);
        daemon.save_readings();
        drop(self.runtime);
        // after the runtime: a worker may wait for a lock that one of its tasks holds
        if let Some((linked_logins, refresh)) = later {
            linked_logins.end();
            refresh.end();
        }
        // after the refreshes: their answers are for all hosts
        many_hosts::end(&daemon);
        daemon.history.end();
        let health = daemon.store.close(true);
        tracing::info!(?health, "stopped");
        // clients were served: also a start that failed ends in order
        failure.map_or_else(|| end(self.serving, reason, handle.take_listeners()), |error| Err(thread()(error)))
    }
}

/// What works beside the socket, on three threads. As the gateway, they are started by the planner's thread while the first client
/// is served: the calls that are for them come after that.
struct Workers {
    config: Worker<ConfigMessage>,
    linked_logins: Worker<LinkedLoginsMessage>,
    refresh: Worker<Infallible>,
    usage: Worker<UsageRequest>,
    notices: Worker<NoticeEvent>,
}

impl Workers {
    fn start(daemon: &Arc<Daemon>, watcher: ConfigWatcher, usage_file: PathBuf) -> io::Result<Self> {
        many_hosts::update(daemon);
        let shared = WorkerThread::start("workers", WaitsFor::Network)?;
        Ok(Self {
            config: watcher.start(&shared, daemon),
            linked_logins: linked_logins::start(daemon)?,
            refresh: refresh::start(daemon)?,
            usage: usage::start(&shared, daemon, usage_file),
            notices: notification::start(&shared, daemon),
        })
    }

    /// Ends those that need no runtime to end; returns the others.
    fn end_first(self) -> (Worker<LinkedLoginsMessage>, Worker<Infallible>) {
        self.config.end();
        self.usage.end();
        self.notices.end();
        (self.linked_logins, self.refresh)
    }
}

/// Releases socket and lock, or hands them over to the next run.
fn end(serving: Serving, reason: StopReason, gateway: GatewayListeners) -> Result<RunEnd, StartError> {
    let Serving { socket, lock, signals, .. } = serving;
    Ok(match reason {
        StopReason::SocketLost => RunEnd::Ended(Ended::SocketLost),
        StopReason::Restart { may_resume } if CONTINUES => {
            let handover = Handover::of(lock, &socket, gateway, may_resume);
            RunEnd::Restart(handover.map_err(system("handing over to the next run"))?, socket, signals.stop_flag())
        }
        StopReason::Requested | StopReason::Unused | StopReason::Unlocked | StopReason::Restart { .. } => {
            RunEnd::Ended(Ended::Served)
        }
    })
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System { doing, error }
}

/// Says that the daemon serves.
struct ReadyReport {
    holder: LockHolder,
    stderr_is_separate: bool,
}

impl ReadyReport {
    fn new(holder: &LockHolder, log: &Log) -> Self {
        Self { holder: holder.clone(), stderr_is_separate: log.stderr_is_separate }
    }

    fn send(&self) {
        let (version, pid, socket) = (env!("CARGO_PKG_VERSION"), self.holder.pid, self.holder.socket.display());
        tracing::info!(version, pid, %socket, "lessor {version} serves at {socket}");
        if self.stderr_is_separate {
            // the pipe to the client that started the daemon may be closed; `eprintln` would panic
            let _closed = writeln!(io::stderr(), "ready: pid {pid}, socket {socket}");
        }
        service_manager::ready();
    }
}

/// Checks `LESSOR_LOG` once, because it overrides each configuration that is read.
fn check_level(level: Option<&str>) -> Result<(), StartError> {
    let Some(level) = level else { return Ok(()) };
    let checked = Config::default().set_from_environment("daemon.log", LOG_VARIABLE, level);
    checked.map_err(|_| StartError::LogLevel(level.to_owned()))
}
