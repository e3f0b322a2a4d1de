//! A socket that a service manager holds and hands over: clients that come while no daemon is there wait in its queue
//! instead of being refused.
//!
//! The daemon adopts it, never unlinks it, and never makes its own beside it. Whoever cannot serve takes the waiting
//! clients out of the queue before it ends, or the service manager would start it again for the same ones, and again.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::os::lock::{Lock, LockHolder, StartedBy, Taken};
use crate::daemon::os::socket::SocketError;

/// Most clients that are sent away at once; more than a queue of connections holds.
const MOST_WAITING: usize = 8192;
/// How long an older daemon may take to end: longer than it lets its clients take.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(10);

/// A listening socket from a service manager.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) listener: UnixListener,
    /// Where clients find it.
    pub(crate) path: PathBuf,
}

/// The clients in the queue, for a daemon that cannot serve them.
#[derive(Debug)]
pub(crate) struct WaitingClients(UnixListener);

impl Inherited {
    /// Takes what was handed over to this process, if anything was; to be called before any thread starts, because
    /// it removes `LISTEN_PID` and `LISTEN_FDS` from the environment.
    ///
    /// # Errors
    /// When something else than one listening socket with a path was handed over.
    pub(crate) fn take() -> Result<Option<Self>, SocketError> {
        // what was meant for another process, or for nobody in particular, is none of our business
        let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
        if !ours {
            return Ok(None);
        }
        let wrong = |why: String| Err(SocketError::Inherited { why });
        let mut handed = listenfd::ListenFd::from_env();
        match handed.len() {
            0 => return Ok(None),
            1 => {}
            many => return wrong(format!("{many} descriptors")),
        }
        let listener = match handed.take_unix_listener(0) {
            Ok(Some(listener)) => listener,
            Ok(None) => return Ok(None),
            Err(error) => return wrong(format!("something else ({error})")),
        };
        if !listens(&listener) {
            return wrong("a socket that does not listen".to_owned());
        }
        match listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned)) {
            Some(path) if path.is_absolute() => Ok(Some(Self { listener, path })),
            _ => wrong("a socket without an absolute path".to_owned()),
        }
    }

    /// Where clients find it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A second way to the queue, to be kept until it is known whether we serve.
    pub(crate) fn waiting(&self) -> Option<WaitingClients> {
        self.listener.try_clone().map(WaitingClients).ok()
    }
}

impl WaitingClients {
    /// Closes the connections of all that wait: lessor's own clients then look elsewhere, and tell what they find.
    pub(crate) fn send_away(&self) {
        if self.0.set_nonblocking(true).is_err() {
            return;
        }
        let gone = (0..MOST_WAITING).take_while(|_| self.0.accept().is_ok()).count();
        if gone > 0 {
            tracing::info!(clients = gone, "clients that waited for this daemon were sent away");
        }
    }
}

/// Whether it is a socket that listens.
#[cfg(not(target_vendor = "apple"))]
fn listens(socket: &UnixListener) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// This system does not tell; accepting will.
#[cfg(target_vendor = "apple")]
fn listens(_socket: &UnixListener) -> bool {
    true
}

/// What a daemon of the service manager does when another one has the data directory: one that a client had started
/// is asked to end and replaced, because its clients find the new one where they found the old. One that somebody runs
/// in the foreground, or another service manager, is left alone.
///
/// # Errors
/// When the lock cannot be tried at all.
pub(crate) fn succeed(holder: LockHolder, lock: &Path) -> io::Result<Taken> {
    let mut holder = Some(holder);
    let mut asked = None;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = holder.filter(|found| asked != Some(found.pid)) {
            if found.started_by != StartedBy::Client {
                return Ok(Taken::Theirs(Some(found)));
            }
            tracing::info!(pid = found.pid, "a client had started a daemon before: it is asked to end for this one");
            if let Err(error) = ask_to_end(found.pid, lock) {
                tracing::warn!(pid = found.pid, %error, "it cannot be asked");
                return Ok(Taken::Theirs(Some(found)));
            }
            asked = Some(found.pid);
        }
        match Lock::take(lock)? {
            Taken::Theirs(found) if waited < PATIENCE => holder = found,
            taken => return Ok(taken),
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
}

/// SIGTERM, to this very process and only while it has the lock: a pid in a file may be that of another one.
#[cfg(target_os = "linux")]
fn ask_to_end(pid: u32, lock: &Path) -> io::Result<()> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(number, PidfdFlags::empty())?;
    if !has_locked(pid, lock)? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this process does not have the lock"));
    }
    pidfd_send_signal(&process, Signal::TERM)?;
    Ok(())
}

/// Whether it has the lock, by the system's list of them: what a process has open is not told of one that keeps its
/// secrets from core dumps.
#[cfg(target_os = "linux")]
fn has_locked(pid: u32, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(path)?.ino();
    let locks = std::fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().any(|line| names(line, pid, inode)))
}

/// Whether a line like `1: FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF` names this process and this file. Devices are
/// named differently here and there; one who waits for a lock has an arrow before the kind.
#[cfg(target_os = "linux")]
fn names(line: &str, pid: u32, inode: u64) -> bool {
    let mut words = line.split_ascii_whitespace().skip(4);
    let holder = words.next().and_then(|word| word.parse().ok());
    let file = words.next().and_then(|word| word.rsplit(':').next()?.parse().ok());
    (holder, file) == (Some(pid), Some(inode))
}

/// Only Linux has service managers that hand over sockets this way.
#[cfg(not(target_os = "linux"))]
fn ask_to_end(_pid: u32, _lock: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_lock_is_asked_to_end() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("daemon.lock");
        let file = std::fs::File::create(&lock).unwrap();
        assert!(!has_locked(std::process::id(), &lock).unwrap());
        // it would end this test
        assert_eq!(ask_to_end(std::process::id(), &lock).unwrap_err().kind(), io::ErrorKind::NotFound);
        file.lock().unwrap();
        assert!(has_locked(std::process::id(), &lock).unwrap());
        assert!(!has_locked(std::process::id() + 1, &lock).unwrap());
    }

    #[test]
    fn who_waits_for_a_lock_does_not_have_it() {
        for (line, has) in [
            ("1: FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF", true),
            ("1: POSIX  ADVISORY  WRITE 14811 fe:00:1234 0 EOF", true),
            ("1: -> FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE 1481 00:2d:1234 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE 14811 00:2d:12345 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE -1 00:2d:1234 0 EOF", false),
            ("", false),
        ] {
            assert_eq!(names(line, 14811, 1234), has, "{line}");
        }
    }

    #[test]
    fn a_foreground_daemon_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let holder = LockHolder { pid: 1, socket: "/x".into(), started_by: StartedBy::User };
        let taken = succeed(holder.clone(), &directory.path().join("daemon.lock")).unwrap();
        assert!(matches!(taken, Taken::Theirs(Some(found)) if found == holder));
    }

    #[test]
    fn who_waits_is_sent_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let inherited = Inherited { listener, path };
        let waiting = inherited.waiting().unwrap();
        let mut clients: Vec<_> =
            (0..3).map(|_| std::os::unix::net::UnixStream::connect(&inherited.path).unwrap()).collect();
        waiting.send_away();
        for client in &mut clients {
            assert_eq!(io::Read::read(client, &mut [0]).unwrap(), 0);
        }
    }
}
