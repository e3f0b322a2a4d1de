//! Processes from the system's process table: macOS and the BSDs.

use std::os::unix::process::parent_id;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::process::AncestorProcess;

pub(super) fn parent() -> Option<u32> {
    Some(parent_id())
}

pub(super) fn find(pid: u32) -> Option<AncestorProcess> {
    let wanted = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).with_user(UpdateKind::Always);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[wanted]), true, what);
    let found = system.process(wanted)?;
    let mut args: Vec<String> = found.cmd().iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if args.first().is_none_or(String::is_empty) {
        args = vec![found.name().to_string_lossy().into_owned()];
    }
    let ours = found.user_id().is_none_or(|owner| **owner == rustix::process::geteuid().as_raw());
    let session = found.session_id().map_or(0, Pid::as_u32);
    let parent = found.parent().map_or(0, Pid::as_u32);
    // the system does not report terminals; a session leader usually has one
    Some(AncestorProcess { parent, args, session, has_terminal: session == pid, ours })
}
