//! Processes from `/proc`.

use std::os::unix::fs::MetadataExt;

use super::process::AncestorProcess;
use crate::daemon::read_process_file;

pub(super) fn parent() -> Option<u32> {
    Some(std::os::unix::process::parent_id())
}

pub(super) fn find(pid: u32) -> Option<AncestorProcess> {
    let stat = read_process_file(pid, "stat").ok()?;
    // the name may contain blanks and parentheses, so the fields are counted from its end
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let has_terminal = fields.next()? != "0";
    let command = read_process_file(pid, "cmdline").ok()?;
    let command = command.strip_suffix(b"\0").unwrap_or(&command);
    let mut args: Vec<String> =
        command.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    if args.first().is_none_or(String::is_empty) {
        args = vec![String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned()];
    }
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let ours = owner == rustix::process::geteuid().as_raw();
    Some(AncestorProcess { parent, args, session, has_terminal, ours })
}
