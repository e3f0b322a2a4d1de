//! The process that supervises a command which `run` started: it restarts the daemon, and cleans up at the end.
//!
//! The command replaces the process of `run`. So a separate process, not a child of the command, does what remains:
//! if the daemon dies while the command runs, it starts another daemon and prints a message; when the command has ended,
//! it removes the command's directory. It does not have to restore the lease and the gateway key: the daemon reads both
//! from its database.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{context::Context, error::CliError};
use crate::pool::Process;

#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The process to supervise
    #[arg(long)]
    pid: u32,
    /// When that process was started, in the system's units
    #[arg(long)]
    start: u64,
    /// Remove this directory when the process has ended
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Restart the daemon if it dies while the process runs
    #[arg(long)]
    watch: bool,
    /// Print messages about the daemon for the user of this program
    #[arg(long)]
    program: Option<String>,
    /// Print a line when the program's account changes
    #[arg(long, requires = "watch")]
    switches: bool,
    /// Supervise in this process; without it, start a detached supervisor
    #[arg(long)]
    detached: bool,
}

/// What the supervisor prints for the user.
#[cfg_attr(windows, allow(dead_code))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages<'a> {
    /// Messages about the daemon name this program; without one, nothing is printed.
    pub(crate) program: Option<&'a std::ffi::OsStr>,
    /// A line when the account of the program changes, too.
    pub(crate) switches: bool,
}

#[cfg(unix)]
pub(super) use unix::start;
#[cfg(unix)]
pub(crate) use unix::supervise;

/// On Windows, `run` itself waits for the command.
#[cfg(windows)]
pub(crate) fn supervise(_args: SuperviseArgs, _context: &Context) -> Result<u8, CliError> {
    Err(CliError::usage("on this system `run` waits for its command itself"))
}

/// On Windows, `run` itself waits for the command; the next `env` removes the directory of the last.
#[cfg(windows)]
pub(super) fn start(
    _holder: Process,
    _directory: Option<&Path>,
    _watches: bool,
    _messages: Messages<'_>,
    _context: &Context,
) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::{directory, switches};
    use super::{CliError, Context, Messages, Path, Process, SuperviseArgs};
    use crate::cli::{context::has_died, ui::clean, ui::format};
    use crate::client::{Client, DaemonStarter};
    use crate::config::AppPaths;
    use crate::daemon::{wait_for_process, watch_process};
    use crate::protocol::{EventInfo, SubscribeParams};

    /// How long the daemon may be unreachable before the user gets a message: a service manager may restart it.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// The interval between attempts to reach the daemon, before and after [`PATIENCE`].
    const STEP: Duration = Duration::from_millis(25);
    const SLOW_STEP: Duration = Duration::from_secs(1);
    /// The start of this process takes less, in ms: what happened to the command before is of another one.
    const START_TAKES: u64 = 10_000;

    /// Starts the supervisor. It keeps standard error only if it prints messages: another program may wait until
    /// standard error is closed.
    pub(in crate::cli::launch) fn start(
        holder: Process,
        directory: Option<&Path>,
        watches: bool,
        Messages { program, switches }: Messages<'_>,
        context: &Context,
    ) -> io::Result<()> {
        let mut command = DaemonStarter::this_program(&context.flags)?.command(&["supervise".as_ref()]);
        command.arg("--pid").arg(holder.pid.to_string()).arg("--start").arg(holder.start.to_string());
        if let Some(directory) = directory {
            command.arg("--directory").arg(directory);
        }
        if watches {
            command.arg("--watch");
        }
        if let Some(program) = program {
            command.arg("--program").arg(program);
        }
        if switches && watches && program.is_some() {
            command.arg("--switches");
        }
        if !context.may_start {
            command.arg("--no-start");
        }
        let stderr = if program.is_some() { Stdio::inherit() } else { Stdio::null() };
        // this process starts the detached supervisor, and ends
        let status = command.stderr(stderr).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the supervisor ended with {status}"))) }
    }

    /// Runs until the supervised process has ended.
    pub(crate) fn supervise(args: SuperviseArgs, context: &Context) -> Result<u8, CliError> {
        let failed = |error: io::Error| CliError::internal(format!("supervising a command: {error}"));
        if !args.detached {
            // no open file of the caller stays open in the supervisor
            close_fds::set_fds_cloexec_threadsafe(3, &[]);
            let mut detached = Command::new(std::env::current_exe().map_err(failed)?);
            detached.args(std::env::args_os().skip(1)).arg("--detached");
            detached.spawn().map_err(failed)?;
            return Ok(0);
        }
        let _own = rustix::process::setsid();
        let _root = std::env::set_current_dir("/");
        let places = context.places()?;
        if args.watch {
            let (start, program) = (context.start()?, args.program.clone());
            let (output, may_start) = (context.output, context.may_start);
            let note = move |text: &str| {
                if let Some(program) = &program {
                    output.note(&format!("lessor: {}", text.replace("{program}", &clean(program))));
                }
            };
            let lines = switches::SwitchLines::of(args.pid);
            let print_switch = args.switches.then_some(move |event: &EventInfo| {
                if let Some(line) = lines.line(event, format::now()) {
                    output.note(&line);
                }
            });
            // the thread ends with this process
            std::thread::Builder::new()
                .spawn(move || watch_daemon(&places, may_start.then_some(&start), &note, print_switch.as_ref()))
                .map_err(failed)?;
        }
        let ended = wait(Process { pid: args.pid, start: args.start });
        if let Some(path) = &args.directory {
            directory::remove(path);
        }
        ended.map(|()| 0).map_err(failed)
    }

    fn wait(process: Process) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match watch_process(process)? {
                Some(handle) => wait_for_process(handle).await,
                None => Ok(()),
            }
        })
    }

    /// Keeps a daemon running, for as long as this process runs.
    fn watch_daemon(
        places: &AppPaths,
        start: Option<&DaemonStarter>,
        note: &dyn Fn(&str),
        print_switch: Option<&impl Fn(&EventInfo)>,
    ) {
        let mut client = Client::connect(places).ok();
        // the command may be moved before this connection is there
        let (begun, mut recent) = (format::now().saturating_sub(START_TAKES), true);
        loop {
            if let Some(mut client) = client {
                match print_switch {
                    None => client.wait_for_end(),
                    Some(print) => {
                        let kinds = switches::PRINTED.map(str::to_owned).to_vec();
                        match client.subscribe(SubscribeParams { kinds, recent: std::mem::take(&mut recent) }) {
                            Ok(events) => {
                                let events = events.map_while(Result::ok);
                                events.filter(|event| event.at >= begun).for_each(|event| print(&event));
                            }
                            // a daemon of another version may not have these events
                            Err(_) => drop(Client::connect(places).map(|mut client| client.wait_for_end())),
                        }
                    }
                }
                tracing::debug!("the daemon has closed the connection");
            }
            client = Some(reconnect(places, start, note));
        }
    }

    /// Connects to the next daemon. A daemon that died is restarted; one that was stopped is waited for.
    fn reconnect(places: &AppPaths, start: Option<&DaemonStarter>, note: &dyn Fn(&str)) -> Client {
        let begun = Instant::now();
        let mut is_gone = false;
        loop {
            // it greets before it has restored its state; a second greeting waits for that
            if let Ok(mut client) = Client::connect(places)
                && client.ping().is_ok()
            {
                note("the daemon was restarted; {program} keeps its account");
                return client;
            }
            if let Some(start) = start.filter(|_| has_died(&places.lock))
                && let Ok(client) = Client::connect_or_start(places, start)
            {
                note("the daemon died and was started again; {program} keeps its account");
                return client;
            }
            if !is_gone && begun.elapsed() > PATIENCE {
                is_gone = true;
                note("the daemon is not running: {program} has no account until it is; start it: lessor ping");
            }
            std::thread::sleep(if is_gone { SLOW_STEP } else { STEP });
        }
    }
}
