//! Unix: session, descriptor limit, core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::MOST_CONNECTIONS;

/// Descriptors that are not connections: lock, databases, log, watched files, the threads' own.
const OTHER_DESCRIPTORS: u64 = 64;
/// The fewest connections, whatever the limit of descriptors is.
const FEWEST_CONNECTIONS: u64 = 12;
/// The lowest limit of descriptors with which the daemon starts.
const LEAST_DESCRIPTORS: u64 = 96;
/// The lowest limit of the address space with which the daemon starts. Most of it is never used: the C library reserves
/// 64 MiB for each thread.
const LEAST_ADDRESS_SPACE: u64 = 1 << 30;

/// Checks the limits of the process, which programs that start the daemon may have lowered; answers what is too low,
/// and how to raise it. With less, it would fail later, at any place.
pub(crate) fn check_limits() -> Result<(), String> {
    if let Some(most) = getrlimit(Resource::Nofile).maximum.filter(|most| *most < LEAST_DESCRIPTORS) {
        return Err(format!(
            "the limit on open files is {most}, and lessor needs at least {LEAST_DESCRIPTORS}; raise it: \
             ulimit -n 1024 (for a service: LimitNOFILE=1024)"
        ));
    }
    if let Some(most) = getrlimit(Resource::As).current.filter(|most| *most < LEAST_ADDRESS_SPACE) {
        let (most, least) = (most >> 20, LEAST_ADDRESS_SPACE >> 20);
        return Err(format!(
            "the limit on the address space is {most} MiB, and lessor needs at least {least} MiB, of which it uses \
             little; raise it: ulimit -v unlimited (to limit the memory of a service, use MemoryMax= instead of LimitAS=)"
        ));
    }
    Ok(())
}

/// The name of the machine.
pub(crate) fn name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

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
    // a connection may need a second descriptor, to watch its process; one whose client does not read takes another if there
    // is one, and waits otherwise
    let connections = (most.saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS);
    usize::try_from(connections).unwrap_or(usize::MAX)
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
