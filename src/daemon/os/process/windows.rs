//! Windows: a handle identifies a process, and is signalled when it ends.

use std::{io, path::Path, sync::Arc};

use tokio::sync::oneshot;
use winsafe::guard::CloseHandleGuard;
use winsafe::{HPROCESS, co};

use super::FoundProcess;
use crate::daemon::os::blocking;
use crate::pool::Process;

/// How often the thread that waits for a process checks whether its [`Handle`] was dropped; the end of the process wakes
/// it immediately.
const CHECK_MS: u32 = 1000;
/// The stack of that thread, which only waits.
const STACK: usize = 64 * 1024;

type Open = CloseHandleGuard<HPROCESS>;

/// Watches a process.
#[derive(Debug)]
pub struct Handle(oneshot::Receiver<io::Result<()>>);

/// Finds a living process of this user; `None` when there is none with this pid.
///
/// # Errors
/// When it cannot be found out, or the process belongs to another user.
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
        // no process has this pid
        Err(co::ERROR::INVALID_PARAMETER) => Ok(None),
        Err(co::ERROR::ACCESS_DENIED) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The process, if it lives: a process that has ended can be opened, too, while another handle is open.
fn identify(open: &Open, pid: u32) -> io::Result<Option<Process>> {
    if open.WaitForSingleObject(Some(0)).map_err(io::Error::other)? != co::WAIT::TIMEOUT {
        return Ok(None);
    }
    let (start, ..) = open.GetProcessTimes().map_err(io::Error::other)?;
    Ok(Some(Process { pid, start: start.into() }))
}

/// Starts to watch a process; `None` when it has ended.
///
/// # Errors
/// When it cannot be watched, for example because no thread can be started.
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    blocking::check();
    let Some(open) = open(process.pid)? else { return Ok(None) };
    // the open handle keeps the pid from being reused
    if identify(&open, process.pid)? != Some(process) {
        return Ok(None);
    }
    let (sender, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("watch".to_owned()).stack_size(STACK);
    thread.spawn(move || wait(&open, sender))?;
    Ok(Some(Handle(ended)))
}

/// Waits on a separate thread: the system's callbacks need unsafe code.
fn wait(open: &Open, sender: oneshot::Sender<io::Result<()>>) {
    while !sender.is_closed() {
        let outcome = match open.WaitForSingleObject(Some(CHECK_MS)) {
            Ok(co::WAIT::TIMEOUT) => continue,
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        };
        let _dropped = sender.send(outcome);
        return;
    }
}

/// Waits until the process has ended.
///
/// # Errors
/// When it cannot be watched.
pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
    handle.0.await.unwrap_or_else(|_| Err(io::Error::other("the thread that watched the process has ended")))
}
