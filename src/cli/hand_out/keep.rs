//! Who stays behind when `run` becomes the command: it looks after the daemon, and cleans up at the end.
//!
//! The command takes the place of `run`, so that everything about it is as if it ran alone. What remains to be done
//! while it lives is done by a process apart, which is no child of the command: when the daemon dies beneath it, it
//! starts another one and says so; when the command has ended, it removes the directory made for it.
//! The lease and the gateway's key need no help: the daemon finds both again by itself.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::pool::Process;

/// `keep`
#[derive(Debug, Args)]
pub(in crate::cli) struct Keep {
    /// The process it is for
    #[arg(long)]
    pid: u32,
    /// When that process was started, as the system counts it
    #[arg(long)]
    start: u64,
    /// Remove this when it has ended
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Have a daemon run as long as it lives
    #[arg(long)]
    watch: bool,
    /// Say on standard error what happens to the daemon, to whoever uses this program
    #[arg(long)]
    program: Option<String>,
    /// Be that process; else, start it
    #[arg(long)]
    detached: bool,
}

#[cfg(unix)]
pub(super) use unix::leave;

/// Stays until its process has ended.
#[cfg(unix)]
pub(in crate::cli) fn keep(options: Keep, context: &Context) -> Result<u8, Failure> {
    unix::keep(options, context)
}

/// Here `run` waits for the command itself.
#[cfg(windows)]
pub(in crate::cli) fn keep(_options: Keep, _context: &Context) -> Result<u8, Failure> {
    Err(Failure::usage("on this system `run` stays with its command"))
}

/// Here `run` waits for the command itself; what `env` leaves is removed by the next one.
#[cfg(windows)]
pub(super) fn leave(
    _holder: Process,
    _directory: Option<&Path>,
    _watches: bool,
    _program: Option<&std::ffi::OsStr>,
    _context: &Context,
) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::io;
    use std::process::Stdio;
    use std::time::Duration;

    use super::super::directory;
    use super::{Context, Failure, Keep, Path, Process};
    use crate::cli::output::clean;
    use crate::client::{Client, DaemonStarter};
    use crate::config::AppPaths;
    use crate::daemon::{find_process, lock, wait_for_process, watch_process};

    /// How long a daemon may be away before somebody does something about it: a service manager may be about to.
    const PATIENCE: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(25);
    /// How often to look whether a daemon that was stopped is back.
    const LOOK: Duration = Duration::from_secs(1);

    /// Starts it. Standard error is its own only if it has something to say there: somebody may wait for its end.
    pub(in crate::cli::hand_out) fn leave(
        holder: Process,
        directory: Option<&Path>,
        watches: bool,
        program: Option<&OsStr>,
        context: &Context,
    ) -> io::Result<()> {
        let mut command = DaemonStarter::this_program(&context.flags)?.command(&["keep".as_ref()]);
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
        if !context.may_start {
            command.arg("--no-start");
        }
        let stderr = if program.is_some() { Stdio::inherit() } else { Stdio::null() };
        // it starts the one that stays, and ends
        let status = command.stderr(stderr).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    }

    pub(super) fn keep(options: Keep, context: &Context) -> Result<u8, Failure> {
        let failed = |error: io::Error| Failure::new("internal", format!("looking after a command: {error}"));
        if !options.detached {
            // nothing of the caller's stays open in it
            close_fds::set_fds_cloexec_threadsafe(3, &[]);
            let mut again = std::process::Command::new(std::env::current_exe().map_err(failed)?);
            again.args(std::env::args_os().skip(1)).arg("--detached");
            again.spawn().map_err(failed)?;
            return Ok(0);
        }
        let _own = rustix::process::setsid();
        let _nowhere = std::env::set_current_dir("/");
        let places = context.places()?;
        if options.watch {
            let (start, program) = (context.start()?, options.program.clone());
            let (output, may_start) = (context.output, context.may_start);
            let say = move |text: &str| {
                if let Some(program) = &program {
                    output.note(&format!("lessor: {}", text.replace("{program}", &clean(program))));
                }
            };
            // it ends with this process
            std::thread::Builder::new()
                .spawn(move || look_after(&places, may_start.then_some(&start), &say))
                .map_err(failed)?;
        }
        let ended = wait(Process { pid: options.pid, start: options.start });
        if let Some(at) = &options.directory {
            directory::remove(at);
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

    /// Has a daemon run, for as long as this process does.
    fn look_after(places: &AppPaths, start: Option<&DaemonStarter>, say: &dyn Fn(&str)) {
        let mut client = Client::connect(places).ok();
        loop {
            if let Some(client) = &mut client {
                client.wait_for_end();
                tracing::debug!("the daemon has closed the connection");
            }
            client = Some(come_back(places, start, say));
        }
    }

    /// A connection to the next daemon. One that died is replaced; one that somebody stopped is waited for.
    fn come_back(places: &AppPaths, start: Option<&DaemonStarter>, say: &dyn Fn(&str)) -> Client {
        let begun = std::time::Instant::now();
        let mut is_gone = false;
        loop {
            if let Ok(client) = Client::connect(places) {
                say("the daemon was restarted; {program} keeps its account");
                return client;
            }
            if let Some(start) = start.filter(|_| has_died(places))
                && let Ok(client) = Client::connect_or_start(places, start)
            {
                say("the daemon had died and was started again; {program} keeps its account");
                return client;
            }
            if !is_gone && begun.elapsed() > PATIENCE {
                is_gone = true;
                say("the daemon is gone: {program} reaches no account until it runs again; start it: lessor ping");
            }
            std::thread::sleep(if is_gone { LOOK } else { STEP });
        }
    }

    /// One that ends in order takes back what its lock file says of it.
    fn has_died(places: &AppPaths) -> bool {
        lock::read(&places.lock).is_some_and(|holder| matches!(find_process(holder.pid), Ok(None)))
    }
}
