//! Descriptors are closed in what is executed, and standard error is handed down.

use std::fs::File;
use std::io;
use std::process::{Child, ExitStatus, Stdio};

use crate::client::start::DaemonStarter;
use crate::config::AppPaths;

/// Runs the launcher to its end; what it writes to standard error goes to the log.
pub(in crate::client) fn launcher(how: &DaemonStarter, log: File) -> io::Result<ExitStatus> {
    how.command(&["daemon".as_ref(), "--launch".as_ref()]).stderr(log).status()
}

/// Starts the daemon proper; what it writes to standard error goes where ours goes, to the log.
pub(in crate::client) fn daemon(how: &DaemonStarter, _places: &AppPaths) -> io::Result<Child> {
    // a pipe of the caller's must not stay open for as long as the daemon lives: somebody may wait for its end
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    how.command(&["daemon".as_ref(), "--detached".as_ref()]).stderr(Stdio::inherit()).spawn()
}

/// Says what the launcher has to say where the daemon's words go.
pub(in crate::client) fn say(_places: &AppPaths, text: &str) {
    eprintln!("lessor: {text}");
}
