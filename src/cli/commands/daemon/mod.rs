//! `daemon`, `ping`.

pub(super) mod restart;
pub(super) mod stop;

use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{context::Context, error::CliError, ui::format};
use crate::client::{greeting, launch};
use crate::daemon::lock::LockHolder;
use crate::daemon::{Ended, Options, StartError, run};
use crate::protocol::{Call, HelloInfo};

/// The exit code after which a service manager restarts the daemon.
const SOCKET_LOST: u8 = 1;
/// The exit code after which a service manager does not restart the daemon (`EX_TEMPFAIL`): another daemon is running.
/// The units in `systemd/` name it.
const OTHER_DAEMON: u8 = 75;

/// Less than a daemon takes to start.
const DAEMON_START: Duration = Duration::from_millis(2);

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Run detached from the terminal, as started by a client (internal)
    #[arg(long, hide = true, conflicts_with = "launch")]
    detached: bool,
    /// Start a detached daemon and return as soon as it serves (internal)
    #[arg(long, hide = true)]
    launch: bool,
    /// Milliseconds after which that is given up (internal)
    #[arg(long, hide = true, requires = "launch")]
    launch_ms: Option<u64>,
}

pub(super) fn execute(args: &DaemonArgs, context: &Context) -> Result<u8, CliError> {
    let places = context.places()?;
    if args.launch {
        return launch(&places, &context.start()?, args.launch_ms.map(Duration::from_millis))
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
    // a daemon greets before it has restored its state; the second greeting waits for that, and is sent with the first
    let (trip, server) = context.ask_ahead(&Call::Hello(greeting()), |client| {
        let start = Instant::now();
        let server = client.ping()?;
        let trip = client.greeted_in() + start.elapsed();
        if trip < DAEMON_START {
            return Ok((trip, server));
        }
        // the daemon may have been starting
        let start = Instant::now();
        client.ping()?;
        Ok((start.elapsed(), server))
    })?;
    let round_trip_us = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    context.output.result(&PingResult { round_trip_us, server: &server }, || {
        format!("lessor {} (pid {}) answers in {}", server.version, server.pid, format::round_trip(trip))
    })
}
