//! The file is open for writing in one process at a time, and for reading in any: a lock on its bytes would keep clients
//! from reading where the daemon listens.

use std::fs::{File, OpenOptions};
use std::{io, os::windows::fs::OpenOptionsExt, path::Path};

use winsafe::co;

use crate::daemon::os::process;

/// `FILE_SHARE_READ`
const OTHERS_MAY_READ: u32 = 1;

/// Opens, or creates, and so locks the file; `None` when another process holds it.
pub(super) fn open_locked(path: &Path) -> io::Result<Option<File>> {
    free(writing().create(true).truncate(false).open(path))
}

/// Whether a process holds the lock of the file at `path`; the file is not created.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    matches!(free(writing().open(path)), Ok(None))
}

/// Opening fails while another process has the file open for writing.
fn writing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).share_mode(OTHERS_MAY_READ);
    options
}

fn free(opened: io::Result<File>) -> io::Result<Option<File>> {
    let taken = co::ERROR::SHARING_VIOLATION.raw().cast_signed();
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(taken) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A process that cannot be inspected may be alive.
pub(super) fn is_alive(pid: u32) -> bool {
    process::find(pid).map_or(true, |found| found.is_some())
}
