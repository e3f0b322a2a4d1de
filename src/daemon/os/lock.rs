//! One daemon per data directory: the lock is held for life.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg_attr(unix, path = "lock/unix.rs")]
#[cfg_attr(windows, path = "lock/windows.rs")]
mod system;

/// Whether somebody has the lock of the file at `path`, which is not made here.
pub use system::is_held;

/// How long a daemon that found the lock taken waits for the winner to say where it listens, or for one that is ending
/// to be gone: longer than the end may take.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(10);
/// More than a lock file holds.
const LONGEST: usize = 64 * 1024;

/// The lock of a data directory.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What the lock file says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockHolder {
    /// The daemon's process id.
    pub pid: u32,
    /// Where it listens.
    pub socket: PathBuf,
    /// Who wanted it.
    #[serde(default)]
    pub started_by: StartedBy,
}

/// Who wanted a daemon to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartedBy {
    /// A client that needed one: any other daemon will do as well.
    Client,
    /// A service manager, which holds the socket.
    Manager,
    /// Somebody who wants this very one, or it has not said.
    #[default]
    #[serde(other)]
    User,
}

/// What became of taking the lock.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Another daemon has it; who, if it has said so.
    Theirs(Option<LockHolder>),
}

impl Lock {
    /// Takes the lock, or finds who has it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked at all.
    pub fn take(path: &Path) -> io::Result<Taken> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(file) = system::open_locked(path)? {
                let mut lock = Self { file };
                // what an earlier daemon said must not be taken for ours
                if let Err(error) = lock.say("") {
                    tracing::warn!(path = %path.display(), %error, "the lock file cannot be written");
                }
                return Ok(Taken::Ours(lock));
            }
            // it says who it is while it listens; before and after there is nothing to name
            let holder = read(path).filter(|holder| system::is_alive(holder.pid));
            if holder.is_some() || waited >= PATIENCE {
                return Ok(Taken::Theirs(holder));
            }
            std::thread::sleep(STEP);
            waited += STEP;
        }
    }

    /// Says who we are and where we listen.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&mut self, holder: &LockHolder) -> io::Result<()> {
        self.say(&serde_json::to_string(holder)?)
    }

    /// Takes back what was said, before the end: who finds the lock taken then waits for it instead of giving up. The
    /// lock itself goes with the file.
    pub fn withdraw(&mut self) {
        if let Err(error) = self.say("") {
            tracing::debug!(%error, "the lock file could not be emptied");
        }
    }

    /// Writes over what the file says, and leaves its length: to cut a file that is on its way to a busy disk takes as
    /// long as the disk, which can be many seconds.
    fn say(&mut self, words: &str) -> io::Result<()> {
        let mut length = usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX);
        if length > LONGEST {
            self.file.set_len(0)?;
            length = 0;
        }
        if length == 0 && words.is_empty() {
            return Ok(());
        }
        let mut line = format!("{words:length$}", length = length.saturating_sub(1));
        line.push('\n');
        self.file.seek(SeekFrom::Start(0))?;
        // one write, so that a reader sees all of it or nothing
        self.file.write_all(line.as_bytes())
    }
}

/// What the lock file at `path` says, if it says anything.
#[must_use]
pub fn read(path: &Path) -> Option<LockHolder> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST as u64).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
