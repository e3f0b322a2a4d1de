//! `daemon`, `stop`, `ping`.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::client::{Client, ClientError, launch};
use crate::daemon::lock::{self, LockHolder};
use crate::daemon::{Ended, Options, StartError, find_process, run};
use crate::protocol::HelloInfo;

use super::context::Context;
use super::failure::Failure;
use super::words;

/// How long a daemon may take to end.
const STOP: Duration = Duration::from_secs(15);
/// The exit status that makes a service manager start the daemon anew.
const SOCKET_LOST: u8 = 1;
/// The exit status that says to a service manager: not now, and trying again changes nothing (`EX_TEMPFAIL`). The units
/// in `systemd/` know it.
const IN_THE_WAY: u8 = 75;

/// `daemon`
#[derive(Debug, Args)]
pub(super) struct Daemon {
    /// Be a daemon that a client has started: away from the terminal
    #[arg(long, hide = true, conflicts_with = "launch")]
    detached: bool,
    /// Start such a daemon, and return as soon as it serves
    #[arg(long, hide = true)]
    launch: bool,
}

/// Serves until it is asked to end.
pub(super) fn daemon(options: &Daemon, context: &Context) -> Result<u8, Failure> {
    let places = context.places()?;
    if options.launch {
        return launch(&places, &context.start()?)
            .map_err(|error| Failure::new("internal", format!("the daemon could not be started: {error}")));
    }
    let log = std::env::var("LESSOR_LOG").ok();
    match run(&Options { places, detached: options.detached, log, gateway: Some(crate::gateway::start) }) {
        Ok(Ended::Served) => Ok(0),
        Ok(Ended::SocketLost) => Ok(SOCKET_LOST),
        Ok(Ended::AlreadyRunning(holder)) => {
            context.output.note(&format!("already running: {}", who(holder.as_ref())));
            Ok(0)
        }
        Ok(Ended::InTheWay(holder)) => {
            context.output.note(&format!("already running: {}", who(holder.as_ref())));
            let pid = holder.map_or_else(String::new, |holder| format!(" (kill {})", holder.pid));
            context.output.note(&format!("it was not started by a client: end it{pid}, then: lessor service start"));
            Ok(IN_THE_WAY)
        }
        Err(StartError::Config(errors)) => Err(Failure::config(errors.to_string())),
        Err(error) => Err(Failure::new("internal", error.to_string())),
    }
}

fn who(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(
        || "it has not said where it listens".to_owned(),
        |holder| format!("pid {}, socket {}", holder.pid, holder.socket.display()),
    )
}

/// `stop --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stopped {
    /// Whether a daemon was ended.
    stopped: bool,
    /// Its process id, if there was one.
    pid: Option<u32>,
}

/// Ends the daemon and waits until it is gone; that there was none is as good.
pub(super) fn stop(context: &Context) -> Result<(), Failure> {
    let pid = end(context)?;
    context.output.result(&Stopped { stopped: pid.is_some(), pid }, || match pid {
        Some(pid) => format!("stopped (pid {pid})"),
        None => "no daemon is running".to_owned(),
    })
}

/// Ends the daemon, and waits until it is gone; answers which process it was.
pub(super) fn end(context: &Context) -> Result<Option<u32>, Failure> {
    let places = context.places()?;
    // a service manager that holds the socket would start one, only to have it stopped
    let elsewhere = context.flags.socket.is_some() || std::env::var_os("LESSOR_SOCKET").is_some();
    if !elsewhere && !lock::is_held(&places.lock) {
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
        Failure::new("internal", format!("the daemon (pid {pid}) has not ended after {} s", STOP.as_secs()))
            .hint(format!("see its log: {}", places.log.display()))
    };
    if !client.stop(STOP)? {
        return Err(slow());
    }
    // its connections close first, then its socket and its lock
    while !is_gone(&places.lock, pid) {
        if Instant::now() >= deadline {
            return Err(slow());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Some(pid))
}

/// Whether the daemon has let go of the data directory; that the next one has it already is no reason to wait.
fn is_gone(lock: &Path, pid: u32) -> bool {
    if matches!(find_process(pid), Ok(None)) {
        return true;
    }
    !lock::is_held(lock)
}

/// `ping --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pong<'a> {
    /// From the call to its answer, in microseconds.
    round_trip_us: u64,
    /// Who answered.
    #[serde(flatten)]
    server: &'a HelloInfo,
}

/// Measures the round trip of one small call.
pub(super) fn ping(context: &Context) -> Result<(), Failure> {
    let (trip, server) = context.ask(|client| {
        let start = Instant::now();
        let server = client.ping()?;
        Ok((start.elapsed(), server))
    })?;
    let round_trip_us = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    context.output.result(&Pong { round_trip_us, server: &server }, || {
        format!("lessor {} (pid {}) answers in {}", server.version, server.pid, words::trip(trip))
    })
}
