//! The lock of the data directory, which a daemon holds as long as it runs: one daemon per data directory.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::{fs::File, time::Duration};

use serde::{Deserialize, Serialize};

#[cfg_attr(unix, path = "lock/unix.rs")]
#[cfg_attr(windows, path = "lock/windows.rs")]
mod system;

/// Whether a process holds the lock of the file at `path`; the file is not created.
pub use system::is_held;

/// How long a daemon that found the lock taken waits: until the holder publishes where it listens, or an ending daemon is
/// gone. Longer than the end of a daemon may take.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(25);
const STEP: Duration = Duration::from_millis(10);
/// The longest lock file, in bytes; lessor writes less.
const MAX_BYTES: usize = 64 * 1024;

/// The lock of a data directory.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// The content of the lock file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockHolder {
    /// The daemon's process id.
    pub pid: u32,
    /// Where it listens.
    pub socket: PathBuf,
    /// What started it.
    #[serde(default)]
    pub started_by: StartedBy,
}

/// What started a daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartedBy {
    /// A client that needed a daemon; any other daemon serves it as well.
    Client,
    /// A service manager, which holds the socket.
    Manager,
    /// A user, or unknown; this daemon is not replaced by another.
    #[default]
    #[serde(other)]
    User,
}

/// The result of taking the lock.
#[derive(Debug)]
pub enum Taken {
    /// This process holds it.
    Ours(Lock),
    /// Another daemon holds it; which one, if it has published that.
    Theirs(Option<LockHolder>),
}

impl Lock {
    /// Takes the lock, or finds its holder.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn take(path: &Path) -> io::Result<Taken> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(file) = system::open_locked(path)? {
                let mut lock = Self { file };
                // the content of an earlier daemon must not be read as this one's
                if let Err(error) = lock.write("") {
                    tracing::warn!(path = %path.display(), %error, "the lock file cannot be written");
                }
                return Ok(Taken::Ours(lock));
            }
            // the file names its holder only while that daemon listens
            let holder = read(path).filter(|holder| system::is_alive(holder.pid));
            if holder.is_some() || waited >= MAX_WAIT {
                return Ok(Taken::Theirs(holder));
            }
            std::thread::sleep(STEP);
            waited += STEP;
        }
    }

    /// Takes over the lock that the last run of this process has held.
    #[cfg(unix)]
    pub(crate) fn taken_over(file: File) -> Self {
        Self { file }
    }

    /// The file, which stays locked as long as it is open.
    #[cfg(unix)]
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Publishes the process id of this daemon and where it listens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&mut self, holder: &LockHolder) -> io::Result<()> {
        self.write(&serde_json::to_string(holder)?)
    }

    /// Withdraws what was published, before the end: a daemon that finds the lock taken then waits for it instead of
    /// giving up. The lock is released when the file is closed.
    pub fn withdraw(&mut self) {
        if let Err(error) = self.write("") {
            tracing::debug!(%error, "the lock file could not be cleared");
        }
    }

    /// Overwrites the content and keeps the length: truncating a file that is being written to a busy disk can take many
    /// seconds.
    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut length = usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX);
        if length > MAX_BYTES {
            self.file.set_len(0)?;
            length = 0;
        }
        if length == 0 && text.is_empty() {
            return Ok(());
        }
        let mut line = format!("{text:length$}", length = length.saturating_sub(1));
        line.push('\n');
        self.file.seek(SeekFrom::Start(0))?;
        // one write, so that a reader sees all or nothing
        self.file.write_all(line.as_bytes())
    }
}

/// The holder that the lock file at `path` names.
#[must_use]
pub fn read(path: &Path) -> Option<LockHolder> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_BYTES as u64).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
