//! Linux: `/proc` tells the program of a process, and which process has a socket.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::process::geteuid;

use super::ProcessFacts;
use crate::daemon::os::process;
use crate::daemon::os::tcp_peer::find_tcp_peer;
use crate::pool::Process;

/// More processes, and more descriptors of one process, are not looked at.
const MOST_PROCESSES: usize = 1 << 15;
const MOST_DESCRIPTORS: usize = 1 << 14;
/// So many processes that were found last are looked at before all others.
const MOST_RECENT: usize = 16;
/// What the system adds to the path of an executable that was removed or replaced, as an update does.
const DELETED: &[u8] = b" (deleted)";

/// The processes that were found last: most connections come from one of them.
static RECENT: Mutex<Vec<u32>> = Mutex::new(Vec::new());

pub(super) fn facts(pid: u32) -> Option<ProcessFacts> {
    let stat = process::read_file(pid, "stat").ok()?;
    // the name may contain blanks and parentheses, so the fields are counted from its end
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let parent = str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok().map(without_mark);
    let command = process::read_file(pid, "cmdline").unwrap_or_default();
    let command = command.strip_suffix(b"\0").unwrap_or(&command);
    let arguments = command.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok();
    Some(ProcessFacts { parent, executable, arguments, directory })
}

fn without_mark(path: PathBuf) -> PathBuf {
    let path = path.into_os_string().into_vec();
    let path = path.strip_suffix(DELETED).map(<[u8]>::to_vec).unwrap_or(path);
    std::ffi::OsString::from_vec(path).into()
}

/// The oldest process of the user that has the socket at the other end: children may have inherited it.
pub(super) fn process_of_tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<Process> {
    let socket = find_tcp_peer(own, peer).filter(|found| found.uid == geteuid().as_raw() || geteuid().is_root())?;
    let name = format!("socket:[{}]", socket.inode);
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let found = oldest(recent, &name).or_else(|| oldest(processes_of(socket.uid), &name))?;
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.retain(|pid| *pid != found.pid);
    recent.insert(0, found.pid);
    recent.truncate(MOST_RECENT);
    Some(found)
}

fn oldest(pids: impl IntoIterator<Item = u32>, socket: &str) -> Option<Process> {
    let living = |pid| Some(process::find(pid).ok()??.process);
    // between two looks at the process, so that the pid is not one that was reused
    let holder = |pid| living(pid).filter(|found| has_descriptor(pid, socket) && living(pid) == Some(*found));
    let candidates = pids.into_iter().filter(|pid| has_descriptor(*pid, socket));
    candidates.filter_map(holder).min_by_key(|found| found.start)
}

fn processes_of(uid: u32) -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_user = all.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // root owns the folder of a process that cannot be traced
        let owner = entry.metadata().ok()?.uid();
        (owner == uid || owner == 0).then_some(pid)
    });
    of_user.take(MOST_PROCESSES)
}

fn has_descriptor(pid: u32, socket: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(MOST_DESCRIPTORS);
    let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.any(|target| target.as_os_str() == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_updated_is_known_by_its_path() {
        assert_eq!(without_mark("/usr/bin/x (deleted)".into()), PathBuf::from("/usr/bin/x"));
        assert_eq!(without_mark("/usr/bin/x".into()), PathBuf::from("/usr/bin/x"));
    }
}
