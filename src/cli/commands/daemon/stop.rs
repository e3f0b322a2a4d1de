//! `stop`: ends the daemon, after it has said what that cuts.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::error::{CliError, FAILED};
use crate::cli::ui::{clean, lease, prompt};
use crate::client::{Client, ClientError, EndingCall, end_other_version};
use crate::config::AppPaths;
use crate::daemon::{LONGEST_END, find_process, lock};
use crate::protocol::{ENDING, ErrorKind, LeaseRow};

/// How long a daemon may take to end.
const STOP: Duration = LONGEST_END.saturating_add(Duration::from_secs(5));
/// How often a daemon that ends is asked what it waits for.
const ASK: Duration = Duration::from_millis(300);
/// The interval between two looks at a daemon that ends.
const STEP: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Skip the confirmation prompt
    #[arg(long, short)]
    pub(in crate::cli::commands) yes: bool,
}

/// `stop --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli::commands) struct StopResult {
    /// Whether a daemon was stopped.
    stopped: bool,
    /// Its process id, if there was one.
    pid: Option<u32>,
    /// The leases that were held. Those bound to a process or a time are kept for the next daemon.
    leases: Vec<LeaseRow>,
    /// How many requests waited for an account.
    queued: usize,
}

/// What uses the daemon now.
#[derive(Debug, Default)]
pub(super) struct DaemonUse {
    leases: Vec<LeaseRow>,
    queued: usize,
}

impl DaemonUse {
    /// A daemon that does not answer is stopped without knowing.
    fn of(client: &mut Client) -> Self {
        let leases = client.leases().unwrap_or_default();
        let queued = client.status().map_or(0, |status| status.queue.len());
        Self { leases, queued }
    }

    /// What a stop cuts, as a sentence; `None` if nothing.
    fn sentence(&self) -> Option<String> {
        let leases = (!self.leases.is_empty()).then(|| lease::holders(&self.leases));
        let queued = match self.queued {
            0 => None,
            1 => Some("1 request waits for an account".to_owned()),
            many => Some(format!("{many} requests wait for an account")),
        };
        let parts: Vec<String> = leases.into_iter().chain(queued).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Stops the daemon and waits for its end; it is not an error if none is running.
pub(in crate::cli::commands) fn stop(args: &StopArgs, context: &Context) -> Result<(), CliError> {
    let (stopped, pid, used) = match running(context) {
        Err(error) if is_other_version(&error) => {
            let unknown = format!("{}; which leases it has is not known", error.message());
            confirm_stop(&unknown, args.yes, context)?;
            (true, stop_other_version(&error, context)?, DaemonUse::default())
        }
        running => match running? {
            Some(client) => {
                let (client, used) = confirmed(client, args.yes, context)?;
                (true, Some(end(client, context)?), used)
            }
            None => (false, None, DaemonUse::default()),
        },
    };
    let DaemonUse { leases, queued } = used;
    context.output.result(&StopResult { stopped, pid, leases, queued }, || match pid {
        Some(pid) => format!("stopped (pid {pid})"),
        None if stopped => "stopped".to_owned(),
        None => "no daemon is running".to_owned(),
    })
}

/// Says what a stop cuts; on a terminal, asks whether to stop all the same. A script is not asked.
fn confirmed(mut client: Client, yes: bool, context: &Context) -> Result<(Client, DaemonUse), CliError> {
    let used = DaemonUse::of(&mut client);
    if let Some(sentence) = used.sentence() {
        confirm_stop(&format!("{sentence}; none is served until a daemon runs again"), yes, context)?;
    }
    Ok((client, used))
}

/// Says what speaks against a stop; on a terminal, asks.
fn confirm_stop(sentence: &str, yes: bool, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    output.note(&format!("lessor: {sentence}"));
    if !yes && !output.json && prompt::can_ask() {
        let answer = prompt::ask("Stop the daemon? [y/N]", output)?;
        if !answer.is_some_and(|answer| ["y", "yes"].contains(&answer.as_str())) {
            return Err(CliError::new(ErrorKind::NotAllowed, "not stopped")
                .exit(FAILED)
                .hint("to keep the agents running with a new daemon: lessor restart"));
        }
    }
    Ok(())
}

/// Asks as [`stop`] does, before a service manager stops the daemon.
pub(in crate::cli::commands) fn confirm(yes: bool, context: &Context) -> Result<(), CliError> {
    match running(context) {
        // the service manager stops that of another version as well
        Err(error) if is_other_version(&error) => Ok(()),
        running => running?.map_or(Ok(()), |client| confirmed(client, yes, context).map(drop)),
    }
}

/// Stops the daemon without a question and waits for its end; answers its process id, if one was running.
pub(in crate::cli::commands) fn stop_running(context: &Context) -> Result<Option<u32>, CliError> {
    match running(context) {
        Err(error) if is_other_version(&error) => stop_other_version(&error, context),
        running => running?.map(|client| end(client, context)).transpose(),
    }
}

pub(super) fn is_other_version(error: &CliError) -> bool {
    *error.kind() == ErrorKind::UnsupportedVersion
}

/// Stops a daemon that speaks another version of the protocol, and waits for its end; answers its process id,
/// if the lock file names it.
fn stop_other_version(mismatch: &CliError, context: &Context) -> Result<Option<u32>, CliError> {
    let places = context.places()?;
    let deadline = Instant::now() + STOP;
    let pid = lock::read(&places.lock).map(|holder| holder.pid);
    end_other_version(&places, EndingCall::Stop, STOP).map_err(|why| cannot_end(mismatch, &why, &places))?;
    while lock::is_held(&places.lock) {
        if Instant::now() >= deadline {
            let message = format!("the daemon has not ended after {} s", STOP.as_secs());
            return Err(with_kill_hint(CliError::internal(message), &places));
        }
        std::thread::sleep(STEP);
    }
    Ok(pid)
}

/// The error for a daemon of another version that does not end when it is asked to.
pub(super) fn cannot_end(mismatch: &CliError, why: &ClientError, places: &AppPaths) -> CliError {
    let message = format!("{}, and does not end when it is asked to: {}", mismatch.message(), clean(&why.to_string()));
    with_kill_hint(CliError::new(ErrorKind::UnsupportedVersion, message), places)
}

fn with_kill_hint(error: CliError, places: &AppPaths) -> CliError {
    match lock::read(&places.lock) {
        Some(holder) if cfg!(windows) => error.hint(format!("end its process: taskkill /PID {}", holder.pid)),
        Some(holder) => error.hint(format!("end its process: kill {}", holder.pid)),
        None => error.hint("end its process with the program that started it"),
    }
}

/// A connection to the running daemon; none is started.
pub(super) fn running(context: &Context) -> Result<Option<Client>, CliError> {
    let places = context.places()?;
    // connecting to a socket that a service manager holds would start a daemon
    let other_socket = context.flags.socket.is_some() || std::env::var_os("LESSOR_SOCKET").is_some();
    if !other_socket && !lock::is_held(&places.lock) {
        return Ok(None);
    }
    match Client::connect(&places) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoDaemon(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Stops this daemon and waits for its end; answers its process id.
fn end(mut client: Client, context: &Context) -> Result<u32, CliError> {
    let places = context.places()?;
    let deadline = Instant::now() + STOP;
    let pid = client.server().pid;
    let slow = || {
        CliError::internal(format!("the daemon (pid {pid}) has not ended after {} s", STOP.as_secs()))
            .hint(format!("see its log: {}", clean(&places.log.display().to_string())))
    };
    client.begin_stop(STOP)?;
    if !wait_for_close(&mut client, deadline, context) {
        return Err(slow());
    }
    // it closes its connections before its socket and its lock
    while !has_ended(&places.lock, pid) {
        if Instant::now() >= deadline {
            return Err(slow());
        }
        std::thread::sleep(STEP);
    }
    Ok(pid)
}

/// Waits until an ending daemon closes the connection, and says what it waits for; `false` when it does not in time.
pub(super) fn wait_for_close(client: &mut Client, deadline: Instant, context: &Context) -> bool {
    let mut is_said = false;
    loop {
        if !is_said && let Ok(status) = client.status() {
            let waits = status.warnings.iter().find_map(|warning| warning.strip_prefix(ENDING));
            waits.inspect(|waits| context.output.note(&format!("lessor: {}", clean(waits))));
            is_said = waits.is_some();
        }
        if client.wait_for_close(deadline.min(Instant::now() + ASK)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
    }
}

/// Whether the daemon has released the data directory, or its process has ended.
pub(super) fn has_ended(lock: &Path, pid: u32) -> bool {
    matches!(find_process(pid), Ok(None)) || !lock::is_held(lock)
}
