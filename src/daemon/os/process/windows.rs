//! Windows: a handle of the process tells who it is, and becomes signalled when it ends.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use winsafe::guard::CloseHandleGuard;
use winsafe::{HPROCESS, co};

use crate::pool::Process;

use super::FoundProcess;
use crate::daemon::os::blocking;

/// How often the thread that waits for a process looks whether anybody still wants to know; the end itself wakes it
/// at once.
const LOOK_MS: u32 = 1000;
/// It only waits.
const STACK: usize = 64 * 1024;

type Open = CloseHandleGuard<HPROCESS>;

/// What a process is watched by.
#[derive(Debug)]
pub struct Handle(oneshot::Receiver<io::Result<()>>);

/// Finds a living process that we may look at; `None` when there is none with this pid.
///
/// # Errors
/// When it cannot be told, or the process belongs to somebody else.
pub fn find(pid: u32) -> io::Result<Option<FoundProcess>> {
    blocking::check();
    let Some(open) = open(pid)? else { return Ok(None) };
    let Some(process) = identify(&open, pid)? else { return Ok(None) };
    let path = open.QueryFullProcessImageName(co::PROCESS_NAME::WIN32).ok();
    let program = path.as_deref().and_then(|path| Path::new(path).file_stem());
    Ok(Some(FoundProcess { process, program: program.map(|name| Arc::from(name.to_string_lossy().as_ref())) }))
}

fn open(pid: u32) -> io::Result<Option<Open>> {
    let rights = co::PROCESS::QUERY_LIMITED_INFORMATION | co::PROCESS::SYNCHRONIZE;
    match HPROCESS::OpenProcess(rights, false, pid) {
        Ok(open) => Ok(Some(open)),
        // what the system says of a pid that nobody has
        Err(co::ERROR::INVALID_PARAMETER) => Ok(None),
        Err(co::ERROR::ACCESS_DENIED) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The process, if it lives: as long as somebody holds a handle, a dead one can be opened too.
fn identify(open: &Open, pid: u32) -> io::Result<Option<Process>> {
    if open.WaitForSingleObject(Some(0)).map_err(io::Error::other)? != co::WAIT::TIMEOUT {
        return Ok(None);
    }
    let (start, ..) = open.GetProcessTimes().map_err(io::Error::other)?;
    Ok(Some(Process { pid, start: start.into() }))
}

/// Starts to watch; `None` when it is dead already.
///
/// # Errors
/// When it cannot be watched: no thread can be had, for instance.
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    blocking::check();
    let Some(open) = open(process.pid)? else { return Ok(None) };
    // from here on the handle keeps the pid from being used again
    if identify(&open, process.pid)? != Some(process) {
        return Ok(None);
    }
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("watch".to_owned()).stack_size(STACK);
    thread.spawn(move || wait(&open, tell))?;
    Ok(Some(Handle(told)))
}

/// Waits on a thread of its own: the system's other ways to be told call back from its threads, which takes unsafe
/// code.
fn wait(open: &Open, tell: oneshot::Sender<io::Result<()>>) {
    while !tell.is_closed() {
        let outcome = match open.WaitForSingleObject(Some(LOOK_MS)) {
            Ok(co::WAIT::TIMEOUT) => continue,
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        };
        let _nobody_wants_to_know = tell.send(outcome);
        return;
    }
}

/// Waits until the process is dead.
///
/// # Errors
/// When it cannot be watched.
pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
    handle.0.await.unwrap_or_else(|_| Err(io::Error::other("the thread that watched it is gone")))
}
