//! As a snapshot of all processes tells: names and parents, but no arguments. So a shell counts as one that runs
//! something, and above the shell at a prompt there must be a terminal that is known by its name.

use std::path::Path;

use winsafe::{HPROCESS, HPROCESSLIST, co};

use super::Process;

pub(super) fn parent() -> Option<u32> {
    find(std::process::id()).map(|process| process.parent)
}

pub(super) fn find(pid: u32) -> Option<Process> {
    let mut all = HPROCESSLIST::CreateToolhelp32Snapshot(co::TH32CS::SNAPPROCESS, None).ok()?;
    let mut rows = all.iter_processes();
    let (parent, program) = rows.find_map(|row| {
        let row = row.ok().filter(|row| row.th32ProcessID == pid)?;
        Some((row.th32ParentProcessID, row.szExeFile()))
    })?;
    let name = Path::new(&program).file_stem()?.to_string_lossy().to_lowercase();
    let start = start(pid);
    // who inherited the pid of a parent that is gone is no ancestor
    let is_older = start.zip(self::start(parent)).is_none_or(|(own, of_parent)| of_parent <= own);
    let parent = if is_older { parent } else { 0 };
    Some(Process { parent, args: vec![name], session: 0, has_terminal: false, ours: start.is_some() })
}

/// When the process began; `None` also when it belongs to the system or to another user.
fn start(pid: u32) -> Option<u64> {
    let process = HPROCESS::OpenProcess(co::PROCESS::QUERY_LIMITED_INFORMATION, false, pid).ok()?;
    process.GetProcessTimes().ok().map(|(start, ..)| start.into())
}
