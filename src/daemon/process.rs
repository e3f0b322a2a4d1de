//! Processes: told apart from later ones with the same pid, and watched until they die.

use std::io;
use std::sync::Arc;

use crate::pool::Process;

/// A process as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who.
    pub process: Process,
    /// The program's name.
    pub program: Option<Arc<str>>,
}

/// Finds a living process of ours; `None` when there is none with this pid.
///
/// # Errors
/// When it cannot be told, or the process belongs to somebody else.
#[cfg(target_os = "linux")]
pub fn find(pid: u32) -> io::Result<Option<Found>> {
    use std::os::unix::fs::MetadataExt;
    let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let owner = match std::fs::metadata(format!("/proc/{pid}")) {
        Ok(metadata) => metadata.uid(),
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let ours = rustix::process::geteuid().as_raw();
    if owner != ours && ours != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"));
    }
    Ok(parse_stat(pid, &stat))
}

#[cfg(target_os = "linux")]
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Reads `/proc/PID/stat`: the name may hold blanks and parentheses, so what follows is counted from its end.
#[cfg(any(target_os = "linux", test))]
fn parse_stat(pid: u32, stat: &[u8]) -> Option<Found> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?);
    let mut fields = str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    // a zombie holds nothing any more
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // the state is field 3, the start time field 22
    let start = fields.nth(22 - 4)?.parse().ok()?;
    Some(Found { process: Process { pid, start }, program: Some(name.into()) })
}

/// Finds a living process; its start is not known on this system, so a pid used again is not noticed.
///
/// # Errors
/// When it cannot be told.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn find(pid: u32) -> io::Result<Option<Found>> {
    Ok(is_alive(pid).then_some(Found { process: Process { pid, start: 0 }, program: None }))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Waits until the process is dead.
///
/// # Errors
/// When it cannot be watched.
#[cfg(target_os = "linux")]
pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
    handle.0.readable().await.map(drop)
}

/// What a process is watched by.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct Handle(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

/// Starts to watch; `None` when it is dead already.
///
/// # Errors
/// When it cannot be watched: no descriptor is left, for instance.
#[cfg(target_os = "linux")]
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return Ok(None) };
    let descriptor = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // the pid may have been given to another process between finding it and opening it
    if find(process.pid)?.is_none_or(|found| found.process != process) {
        return Ok(None);
    }
    let interest = tokio::io::Interest::READABLE;
    #[expect(deprecated, reason = "its successor is `unsafe` for descriptors that may close early; an OwnedFd cannot")]
    tokio::io::unix::AsyncFd::with_interest(descriptor, interest).map(|handle| Some(Handle(handle)))
}

/// What a process is watched by: looking now and then.
#[cfg(all(unix, not(target_os = "linux")))]
#[derive(Debug)]
pub struct Handle(u32);

/// Starts to watch; `None` when it is dead already.
///
/// # Errors
/// Never on this system.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    Ok(is_alive(process.pid).then_some(Handle(process.pid)))
}

/// Waits until the process is dead.
///
/// # Errors
/// Never on this system.
#[cfg(all(unix, not(target_os = "linux")))]
pub async fn wait_for_end(handle: Handle) -> io::Result<()> {
    while is_alive(handle.0) {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b (c) S {}", fields.join(" "));
        let found = parse_stat(7, stat.as_bytes()).unwrap();
        assert_eq!(found.process, Process { pid: 7, start: 22 });
        assert_eq!(found.program.as_deref(), Some("a) b (c"));
        assert!(parse_stat(7, b"7 (x) Z 1 2 3").is_none());
        assert!(parse_stat(7, b"garbage").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn we_find_ourselves() {
        let found = find(std::process::id()).unwrap().unwrap();
        assert_eq!(found.process.pid, std::process::id());
        assert!(found.process.start > 0);
    }
}
