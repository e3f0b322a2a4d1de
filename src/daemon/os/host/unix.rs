//! Unix: session, descriptor limit, core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::MOST_CONNECTIONS;

/// Descriptors that are not connections: lock, database, log, the system's own.
const OTHER_DESCRIPTORS: u64 = 32;

pub(crate) fn leave_the_session() {
    if let Err(error) = setsid() {
        tracing::debug!(%error, "the session was not left");
    }
}

/// Sets limits of the process; returns how many connections it can have.
pub(crate) fn prepare_process() -> usize {
    // inherited descriptors must not reach programs that the daemon starts
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    // a core dump would hold every secret
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core dumps were not disabled");
    }
    hide_memory();
    let descriptors = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: descriptors.maximum, maximum: descriptors.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, "the descriptor limit was not raised");
    }
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // a connection may need a second descriptor, to watch its process
    let connections = (most.saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(4, MOST_CONNECTIONS);
    usize::try_from(connections).unwrap_or(4)
}

/// Closes this process's memory to other programs of the same user: no debugger can attach, `/proc` does not show it, and
/// no core dump handler receives it.
#[cfg(target_os = "linux")]
fn hide_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!(%error, "other programs can trace this process");
    }
}

/// Other systems have no such call in safe Rust.
#[cfg(not(target_os = "linux"))]
fn hide_memory() {}
