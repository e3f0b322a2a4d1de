//! Descriptors are closed in what is executed, and standard error is handed down.

use std::fs::File;
use std::io;
use std::process::{Child, ExitStatus, Stdio};

use crate::client::start::Start;
use crate::config::Places;

/// Runs the launcher to its end; what it writes to standard error goes to the log.
pub(in crate::client) fn launcher(how: &Start, log: File) -> io::Result<ExitStatus> {
    how.command(&["daemon".as_ref(), "--launch".as_ref()]).stderr(log).status()
}

/// Starts the daemon proper; what it writes to standard error goes where ours goes, to the log.
pub(in crate::client) fn daemon(how: &Start, _places: &Places) -> io::Result<Child> {
    // a pipe of the caller's must not stay open for as long as the daemon lives: somebody may wait for its end
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    how.command(&["daemon".as_ref(), "--detached".as_ref()]).stderr(Stdio::inherit()).spawn()
}

/// Says what the launcher has to say where the daemon's words go.
pub(in crate::client) fn say(_places: &Places, text: &str) {
    eprintln!("lessor: {text}");
}
