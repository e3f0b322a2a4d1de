//! `restart`: another run of the daemon takes over its socket, its gateway and its leases.

use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::stop::{cannot_end, has_ended, is_other_version, running, wait_for_close};
use crate::cli::launch::parse_duration;
use crate::cli::ui::{clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError, EndingCall, end_other_version};
use crate::daemon::LONGEST_END;
use crate::pool::millis;
use crate::protocol::{HelloInfo, RestartInfo, RestartParams};

/// How much longer than for its requests in flight a daemon may take to end, and the next one to serve.
const MARGIN: Duration = LONGEST_END.saturating_add(Duration::from_secs(15));
/// How long a daemon waits at most for requests in flight, unless the command says otherwise.
const DEFAULT_DRAIN: Duration = Duration::from_secs(50);
const STEP: Duration = Duration::from_millis(10);
/// What helps if the daemon's program is that of another version also after it was executed again.
const OTHER_PROGRAM: &str = "its program is still that of another version; to use this one: lessor stop, then lessor ping \
                             (as a service: lessor service install, then lessor service restart)";

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// How long requests in flight may take; new ones wait meanwhile [default: 50s]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    drain: Option<Duration>,
}

/// `restart --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli::commands) struct RestartResult {
    /// Whether a daemon was running; otherwise one was started.
    restarted: bool,
    /// The version of the daemon that runs now.
    version: String,
    /// Its process id; on Unix the same as before.
    pid: u32,
    /// How many requests were in flight in the gateway.
    in_flight: u64,
    /// From the call until the daemon served again, in ms.
    took_ms: u64,
}

pub(in crate::cli::commands) fn execute(args: &RestartArgs, context: &Context) -> Result<(), CliError> {
    let begun = Instant::now();
    let running = match running(context) {
        Err(error) if is_other_version(&error) => {
            // it executes its program again, which is another one by now
            let places = context.places()?;
            let within = MARGIN + DEFAULT_DRAIN;
            end_other_version(&places, EndingCall::Restart, within).map_err(|why| cannot_end(&error, &why, &places))?;
            let mut next = context.reconnect(None).map_err(|error| match is_other_version(&error) {
                true => error.replace_hint(OTHER_PROGRAM),
                false => error,
            })?;
            return print(true, next.ping()?, 0, begun, context);
        }
        running => running?,
    };
    let (restarted, server, in_flight) = match running {
        Some(client) => {
            let (server, in_flight) = restart(client, args, context)?;
            (true, server, in_flight)
        }
        None => (false, context.connect()?.ping()?, 0),
    };
    print(restarted, server, in_flight, begun, context)
}

fn print(
    restarted: bool,
    server: HelloInfo,
    in_flight: u64,
    begun: Instant,
    context: &Context,
) -> Result<(), CliError> {
    let took = begun.elapsed();
    let HelloInfo { version, pid, .. } = server;
    note_other_version(&version, context);
    let result = RestartResult { restarted, version, pid, in_flight, took_ms: millis(took) };
    context.output.result(&result, || {
        let done = if restarted { "restarted" } else { "started" };
        let before = if restarted { "" } else { "; no daemon was running" };
        format!("{done}: lessor {} (pid {}){before}", clean(&result.version), result.pid)
    })
}

/// Restarts this daemon; answers the greeting of the next one, and how many requests were in flight.
fn restart(mut client: Client, args: &RestartArgs, context: &Context) -> Result<(HelloInfo, u64), CliError> {
    let before = client.server().pid;
    let RestartInfo { in_flight, drain_ms, comes_back } =
        client.restart(RestartParams { drain_ms: args.drain.map(millis) })?;
    let drain = Duration::from_millis(drain_ms);
    if in_flight > 0 {
        let (requests, seconds) =
            (format::count(usize::try_from(in_flight).unwrap_or(usize::MAX), "request"), drain.as_secs());
        context
            .output
            .note(&format!("lessor: waiting for {requests} in flight, at most {seconds} s; new requests wait"));
    }
    let deadline = Instant::now() + drain + MARGIN;
    let slow = || {
        let log = context.places().map(|places| clean(&places.log.display().to_string())).unwrap_or_default();
        CliError::internal(format!("the daemon (pid {before}) does not come back")).hint(format!("see its log: {log}"))
    };
    if !wait_for_close(&mut client, deadline, context) {
        return Err(slow());
    }
    let places = context.places()?;
    if !comes_back {
        while !has_ended(&places.lock, before) {
            if Instant::now() >= deadline {
                return Err(slow());
            }
            std::thread::sleep(STEP);
        }
        return Ok((context.connect()?.ping()?, in_flight));
    }
    loop {
        match Client::connect(&places) {
            // its second greeting comes when it has restored its state
            Ok(mut next) => match next.ping() {
                Ok(server) => return Ok((server, in_flight)),
                Err(ClientError::Lost(_)) => return Err(slow()),
                Err(error) => return Err(error.into()),
            },
            Err(ClientError::NoDaemon(_)) if Instant::now() < deadline => std::thread::sleep(STEP),
            Err(ClientError::NoDaemon(_)) => return Err(slow()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The daemon executes its own program, which may be another one than this.
fn note_other_version(version: &str, context: &Context) {
    let own = env!("CARGO_PKG_VERSION");
    if version != own {
        let version = clean(version);
        context.output.note(&format!(
            "lessor: the daemon's program is still version {version}, this one is {own}; to use this one: lessor stop, then \
             lessor ping (as a service: lessor service install, then lessor service restart)"
        ));
    }
}
