//! The file is open for writing in one process at a time, and for reading in any: a lock on its bytes, as this system
//! has it, would keep clients from reading where the daemon listens.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use winsafe::co;

use crate::daemon::os::process;

/// `FILE_SHARE_READ`
const OTHERS_MAY_READ: u32 = 1;

/// Opens and so locks the file, which is made if need be; `None` when somebody else has it.
pub(crate) fn open_locked(path: &Path) -> io::Result<Option<File>> {
    free(writing().create(true).truncate(false).open(path))
}

/// Whether somebody has the lock of the file at `path`, which is not made here.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    matches!(free(writing().open(path)), Ok(None))
}

/// A reader shares with writers, but a writer only with readers, and both have a say.
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

/// One that cannot be looked at may be alive.
pub(crate) fn is_alive(pid: u32) -> bool {
    process::find(pid).map_or(true, |found| found.is_some())
}
