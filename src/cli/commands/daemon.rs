//! `daemon`, `stop`, `ping`.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{context::Context, error::CliError, ui::format};
use crate::client::{Client, ClientError, launch};
use crate::daemon::lock::{self, LockHolder};
use crate::daemon::{Ended, Options, StartError, find_process, run};
use crate::protocol::HelloInfo;

/// How long a daemon may take to end.
const STOP: Duration = Duration::from_secs(15);
/// The exit code after which a service manager restarts the daemon.
const SOCKET_LOST: u8 = 1;
/// The exit code after which a service manager does not restart the daemon (`EX_TEMPFAIL`): another daemon is running.
/// The units in `systemd/` name it.
const OTHER_DAEMON: u8 = 75;

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Run detached from the terminal, as started by a client (internal)
    #[arg(long, hide = true, conflicts_with = "launch")]
    detached: bool,
    /// Start a detached daemon and return as soon as it serves (internal)
    #[arg(long, hide = true)]
    launch: bool,
}

pub(super) fn execute(args: &DaemonArgs, context: &Context) -> Result<u8, CliError> {
    let places = context.places()?;
    if args.launch {
        return launch(&places, &context.start()?)
            .map_err(|error| CliError::internal(format!("the daemon could not be started: {error}")));
    }
    let log = std::env::var("LESSOR_LOG").ok();
    let output = &context.output;
    match run(&Options { places, detached: args.detached, log, gateway: Some(crate::gateway::start) }) {
        Ok(Ended::Served) => Ok(0),
        Ok(Ended::SocketLost) => Ok(SOCKET_LOST),
        Ok(Ended::AlreadyRunning(holder)) => {
            output.note(&format!("already running: {}", describe(holder.as_ref())));
            Ok(0)
        }
        Ok(Ended::InTheWay(holder)) => {
            output.note(&format!("already running: {}", describe(holder.as_ref())));
            let pid = holder.map_or_else(String::new, |holder| format!(" (kill {})", holder.pid));
            output.note(&format!("it was not started by a client: end it{pid}, then: lessor service start"));
            Ok(OTHER_DAEMON)
        }
        Err(StartError::Config(errors)) => Err(CliError::config(errors.to_string())),
        Err(error) => Err(CliError::internal(error.to_string())),
    }
}

fn describe(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(
        || "its lock file does not say where it listens".to_owned(),
        |holder| format!("pid {}, socket {}", holder.pid, holder.socket.display()),
    )
}

/// `stop --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StopResult {
    /// Whether a daemon was stopped.
    stopped: bool,
    /// Its process id, if there was one.
    pid: Option<u32>,
}

/// Stops the daemon and waits for its end; it is not an error if none is running.
pub(super) fn stop(context: &Context) -> Result<(), CliError> {
    let pid = stop_running(context)?;
    context.output.result(&StopResult { stopped: pid.is_some(), pid }, || match pid {
        Some(pid) => format!("stopped (pid {pid})"),
        None => "no daemon is running".to_owned(),
    })
}

/// Stops the daemon and waits for its end; answers its process id, if one was running.
pub(super) fn stop_running(context: &Context) -> Result<Option<u32>, CliError> {
    let places = context.places()?;
    // connecting to a socket that a service manager holds would start a daemon
    let other_socket = context.flags.socket.is_some() || std::env::var_os("LESSOR_SOCKET").is_some();
    if !other_socket && !lock::is_held(&places.lock) {
        return Ok(None);
    }
    let client = match Client::connect(&places) {
        Ok(client) => client,
        Err(ClientError::NoDaemon(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let deadline = Instant::now() + STOP;
    let pid = client.server().pid;
    let slow = || {
        CliError::internal(format!("the daemon (pid {pid}) has not ended after {} s", STOP.as_secs()))
            .hint(format!("see its log: {}", places.log.display()))
    };
    if !client.stop(STOP)? {
        return Err(slow());
    }
    // it closes its connections before its socket and its lock
    while !has_ended(&places.lock, pid) {
        if Instant::now() >= deadline {
            return Err(slow());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Some(pid))
}

/// Whether the daemon has released the data directory, or its process has ended.
fn has_ended(lock: &Path, pid: u32) -> bool {
    matches!(find_process(pid), Ok(None)) || !lock::is_held(lock)
}

/// `ping --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PingResult<'a> {
    /// From the call to its answer, in microseconds.
    round_trip_us: u64,
    /// The daemon.
    #[serde(flatten)]
    server: &'a HelloInfo,
}

pub(super) fn ping(context: &Context) -> Result<(), CliError> {
    let (trip, server) = context.ask(|client| {
        let start = Instant::now();
        let server = client.ping()?;
        Ok((start.elapsed(), server))
    })?;
    let round_trip_us = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    context.output.result(&PingResult { round_trip_us, server: &server }, || {
        format!("lessor {} (pid {}) answers in {}", server.version, server.pid, format::round_trip(trip))
    })
}
