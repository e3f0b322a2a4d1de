//! Which agent of a script uses the script's own lease: a file, with the process of that agent in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::daemon::find_process;
use crate::pool::Process;

/// Claims the script's lease for a process, until that process has ended; `false` if another process has it.
pub(super) fn take(directory: &Path, provider: &str, process: Process) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(directory.join(provider))?;
    match file.try_lock() {
        Ok(()) => {}
        // another agent is claiming it at this moment
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let text = read(&file)?;
    if holder(&text).is_some_and(|holder| holder != process && is_alive(holder)) {
        return Ok(false);
    }
    write(&mut file, process)?;
    Ok(true)
}

/// Gives the lease back, before the process ends.
pub(super) fn give_back(directory: &Path, provider: &str, process: Process) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(directory.join(provider))?;
    file.lock()?;
    let text = read(&file)?;
    if holder(&text) == Some(process) { file.set_len(0) } else { Ok(()) }
}

fn read(file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
    Ok(text)
}

fn write(file: &mut File, process: Process) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    write!(file, "{} {}", process.pid, process.start)
}

fn holder(text: &str) -> Option<Process> {
    let (pid, start) = text.split_once(' ')?;
    Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

/// If the system cannot say that a process has ended, it has not.
fn is_alive(process: Process) -> bool {
    !find_process(process.pid).is_ok_and(|found| found.is_none_or(|found| found.process != process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_living_process_has_the_lease() {
        let directory = tempfile::tempdir().unwrap();
        let me = find_process(std::process::id()).unwrap().unwrap().process;
        let ended = Process { start: me.start + 1, ..me };
        let other = Process { pid: me.pid, start: me.start + 2 };
        let take = |process| take(directory.path(), "anthropic", process).unwrap();
        assert!(take(ended), "free");
        assert!(take(me), "its process has ended");
        assert!(take(me), "already its own");
        assert!(!take(other), "in use");
        assert!(self::take(directory.path(), "openai", other).unwrap(), "of another provider");
        give_back(directory.path(), "anthropic", other).unwrap();
        assert!(!take(other), "only its process gives it back");
        give_back(directory.path(), "anthropic", me).unwrap();
        assert!(take(other));
        assert!(self::take(&directory.path().join("gone"), "anthropic", me).is_err());
    }
}
