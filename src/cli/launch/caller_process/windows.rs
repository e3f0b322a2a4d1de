//! Processes from a snapshot of the system: names and parents, but no arguments. So a shell counts as one that runs a
//! script, and the terminal above a shell is recognised by its name.

use std::path::Path;

use winsafe::{HPROCESS, HPROCESSLIST, co};

use super::process::AncestorProcess;

pub(super) fn parent() -> Option<u32> {
    find(std::process::id()).map(|process| process.parent)
}

pub(super) fn find(pid: u32) -> Option<AncestorProcess> {
    let mut all = HPROCESSLIST::CreateToolhelp32Snapshot(co::TH32CS::SNAPPROCESS, None).ok()?;
    let mut rows = all.iter_processes();
    let (parent, program) = rows.find_map(|row| {
        let row = row.ok().filter(|row| row.th32ProcessID == pid)?;
        Some((row.th32ParentProcessID, row.szExeFile()))
    })?;
    let name = Path::new(&program).file_stem()?.to_string_lossy().to_lowercase();
    let start = start(pid);
    // if the parent has ended, its pid may belong to a newer process
    let is_older = start.zip(self::start(parent)).is_none_or(|(own, of_parent)| of_parent <= own);
    let parent = if is_older { parent } else { 0 };
    Some(AncestorProcess { parent, args: vec![name], session: 0, has_terminal: false, ours: start.is_some() })
}

/// When the process was started; `None` if it belongs to the system or to another user.
fn start(pid: u32) -> Option<u64> {
    let process = HPROCESS::OpenProcess(co::PROCESS::QUERY_LIMITED_INFORMATION, false, pid).ok()?;
    process.GetProcessTimes().ok().map(|(start, ..)| start.into())
}
