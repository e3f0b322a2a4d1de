//! Linux: `/proc` identifies a process, a pidfd reports its end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use super::{FoundProcess, Handle};
use crate::daemon::os::blocking;
use crate::pool::Process;

/// The bytes of most files of a process.
const USUAL_FILE: usize = 1024;

/// Reads a file of a process in `/proc`. `std::fs::read` would ask for its length, which is not known, and read it in many
/// small pieces.
pub(crate) fn read_file(pid: u32, name: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(USUAL_FILE);
    File::open(format!("/proc/{pid}/{name}"))?.take(u64::MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Finds a living process of this user; `None` when there is none with this pid.
///
/// # Errors
/// When it cannot be found out, or the process belongs to another user.
pub fn find(pid: u32) -> io::Result<Option<FoundProcess>> {
    blocking::check();
    let Some(found) = find_of_any_user(pid)? else { return Ok(None) };
    let owner = match fs::metadata(format!("/proc/{pid}")) {
        Ok(metadata) => metadata.uid(),
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let ours = geteuid().as_raw();
    // root owns the folder of a process that cannot be traced
    if owner != ours && ours != 0 && !(owner == 0 && runs_as(pid, ours)) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process belongs to another user"));
    }
    Ok(Some(found))
}

/// The same of whatever user.
pub(crate) fn find_of_any_user(pid: u32) -> io::Result<Option<FoundProcess>> {
    match read_file(pid, "stat") {
        Ok(stat) => Ok(parse_stat(pid, &stat)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the effective user of a process is this one.
fn runs_as(pid: u32, user: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // real, effective, saved, file system
    ids.and_then(|ids| ids.split_ascii_whitespace().nth(1)).is_some_and(|effective| effective.parse() == Ok(user))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Parses `/proc/PID/stat`: the name may hold blanks and parentheses, so the fields are counted from its end.
fn parse_stat(pid: u32, stat: &[u8]) -> Option<FoundProcess> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?);
    let mut fields = str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    // a zombie holds no lease
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // the state is field 3, the start time field 22
    let start = fields.nth(22 - 4)?.parse().ok()?;
    Some(FoundProcess { process: Process { pid, start }, program: Some(name.into()) })
}

/// Starts to watch a process; `None` when it has ended.
///
/// # Errors
/// When it cannot be watched, for example because no descriptor is left.
pub fn watch(process: Process) -> io::Result<Option<Handle>> {
    blocking::check();
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // the pid may have been reused between finding and opening
    if find_of_any_user(process.pid)?.is_none_or(|found| found.process != process) {
        return Ok(None);
    }
    Handle::new(descriptor).map(Some)
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
}
