//! macOS and BSD: the process table identifies a process, a kernel queue reports its end.

use std::{io, sync::Arc};

use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::{FoundProcess, Handle};
use crate::daemon::os::blocking;
use crate::pool::Process;

/// Finds a living process of this user; `None` when there is none with this pid. Its start time has a resolution of a
/// second.
///
/// # Errors
/// When the process belongs to another user.
pub fn find(pid: u32) -> io::Result<Option<FoundProcess>> {
    find_of(pid, true)
}

/// The same of whatever user.
pub(crate) fn find_of_any_user(pid: u32) -> io::Result<Option<FoundProcess>> {
    find_of(pid, false)
}

fn find_of(pid: u32, is_own_only: bool) -> io::Result<Option<FoundProcess>> {
    blocking::check();
    let mut system = System::new().map_err(io::Error::other)?;
    let wanted = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing().with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[wanted]), true, what);
    let Some(found) = system.process(wanted).filter(|found| found.status() != ProcessStatus::Zombie) else {
        return Ok(None);
    };
    let ours = rustix::process::geteuid().as_raw();
    if is_own_only && ours != 0 && found.user_id().is_some_and(|owner| **owner != ours) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"));
    }
    let program = Arc::from(found.name().to_string_lossy().as_ref());
    Ok(Some(FoundProcess { process: Process { pid, start: found.start_time() }, program: Some(program) }))
}

/// Starts to watch a process; `None` when it has ended.
///
/// # Errors
/// When it cannot be watched, for example because no descriptor is left.
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
    // the pid may have been reused between finding and watching
    if find(process.pid)?.is_none_or(|found| found.process != process) {
        return Ok(None);
    }
    Handle::new(queue.into()).map(Some)
}
