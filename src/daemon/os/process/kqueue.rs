//! macOS and its relatives: the system's table of processes tells who a process is, a kernel queue when it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::pool::Process;

use super::FoundProcess;
use crate::daemon::os::blocking;

/// What a process is watched by: a queue that becomes readable with its one event, the process's end.
#[derive(Debug)]
pub struct Handle(AsyncFd<OwnedFd>);

/// Finds a living process of ours; `None` when there is none with this pid. Its start is known to the second.
///
/// # Errors
/// When the process belongs to somebody else.
pub fn find(pid: u32) -> io::Result<Option<FoundProcess>> {
    blocking::check();
    let mut system = System::new().map_err(io::Error::other)?;
    let wanted = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing().with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[wanted]), true, what);
    let Some(found) = system.process(wanted).filter(|found| found.status() != ProcessStatus::Zombie) else {
        return Ok(None);
    };
    let ours = rustix::process::geteuid().as_raw();
    if ours != 0 && found.user_id().is_some_and(|owner| **owner != ours) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"));
    }
    let program = Arc::from(found.name().to_string_lossy().as_ref());
    Ok(Some(FoundProcess { process: Process { pid, start: found.start_time() }, program: Some(program) }))
}

/// Starts to watch; `None` when it is dead already.
///
/// # Errors
/// When it cannot be watched: no descriptor is left, for instance.
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    blocking::check();
    let Ok(ident) = usize::try_from(process.pid) else { return Ok(None) };
    let queue = Kqueue::new()?;
    let once = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
    let end = KEvent::new(ident, EventFilter::EVFILT_PROC, once, FilterFlag::NOTE_EXIT, 0, 0);
    match queue.kevent(&[end], &mut [], None) {
        Ok(_) => {}
        Err(Errno::ESRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // the pid may have been given to another process between finding it and watching it
    if find(process.pid)?.is_none_or(|found| found.process != process) {
        return Ok(None);
    }
    #[expect(deprecated, reason = "its successor is `unsafe` for descriptors that may close early; an OwnedFd cannot")]
    AsyncFd::with_interest(queue.into(), Interest::READABLE).map(|handle| Some(Handle(handle)))
}

/// Waits until the process is dead.
///
/// # Errors
/// When it cannot be watched.
pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
    handle.0.readable().await.map(drop)
}
