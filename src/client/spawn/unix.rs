//! Starts processes that outlive their parent, on Unix: descriptors are closed in the new process; standard error is inherited.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::{fs::File, io};

use crate::client::start::DaemonStarter;
use crate::config::AppPaths;

/// Runs the launcher to its end; its standard error is the log.
pub(super) fn launcher(mut command: Command, log: File) -> io::Result<ExitStatus> {
    command.stderr(log).status()
}

/// Starts the daemon itself; its standard error is ours, which is the log.
pub(super) fn daemon(starter: &DaemonStarter, _places: &AppPaths) -> io::Result<Child> {
    // a pipe of the caller must not stay open while the daemon runs: its reader would wait for the end
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let mut command = starter.command(&["daemon".as_ref(), "--detached".as_ref()]);
    command.stderr(Stdio::inherit()).spawn()
}

/// Writes a message of the launcher to the daemon's log.
pub(super) fn say(_places: &AppPaths, text: &str) {
    eprintln!("lessor: {text}");
}
