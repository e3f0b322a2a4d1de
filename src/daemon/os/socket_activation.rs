//! A listening socket that a service manager hands over: clients that connect while no daemon runs wait in its queue
//! instead of being refused.
//!
//! The daemon adopts the socket, never unlinks it, and never creates another beside it. A daemon that cannot serve removes
//! the waiting clients from the queue before it ends; otherwise the service manager would start it for them again.

use std::path::{Path, PathBuf};
use std::{io, os::unix::net::UnixListener, time::Duration};

use crate::daemon::os::lock::{Lock, LockHolder, StartedBy, Taken};
use crate::daemon::os::socket::SocketError;

/// The most clients that are disconnected at once; more than a queue of connections holds.
const MAX_WAITING: usize = 8192;
/// How long another daemon may take to end; longer than it waits for its clients.
const MAX_WAIT: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(10);

/// A listening socket from a service manager.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(super) listener: UnixListener,
    /// The path that clients connect to.
    pub(super) path: PathBuf,
}

/// The clients in the queue, for a daemon that cannot serve them.
#[derive(Debug)]
pub(crate) struct WaitingClients(UnixListener);

impl Inherited {
    /// Takes the socket that was handed over to this process, if there is one. To be called before any thread starts,
    /// because it removes `LISTEN_PID` and `LISTEN_FDS` from the environment.
    ///
    /// # Errors
    /// When something other than one listening socket with a path was handed over.
    pub(crate) fn take() -> Result<Option<Self>, SocketError> {
        // sockets for another process, or without a process id, are ignored
        let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
        if !ours {
            return Ok(None);
        }
        let wrong = |why: String| Err(SocketError::Inherited { why });
        let mut inherited = listenfd::ListenFd::from_env();
        match inherited.len() {
            0 => return Ok(None),
            1 => {}
            many => return wrong(format!("{many} descriptors")),
        }
        let listener = match inherited.take_unix_listener(0) {
            Ok(Some(listener)) => listener,
            Ok(None) => return Ok(None),
            Err(error) => return wrong(format!("something else ({error})")),
        };
        if !is_listening(&listener) {
            return wrong("a socket that does not listen".to_owned());
        }
        match listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned)) {
            Some(path) if path.is_absolute() => Ok(Some(Self { listener, path })),
            _ => wrong("a socket without an absolute path".to_owned()),
        }
    }

    /// The path that clients connect to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The clients in the queue, for a daemon that turns out not to serve.
    pub(crate) fn waiting(&self) -> Option<WaitingClients> {
        self.listener.try_clone().map(WaitingClients).ok()
    }
}

impl WaitingClients {
    /// Closes the connections of all waiting clients; a lessor client then looks for another daemon.
    pub(crate) fn disconnect(&self) {
        if self.0.set_nonblocking(true).is_err() {
            return;
        }
        let clients = (0..MAX_WAITING).take_while(|_| self.0.accept().is_ok()).count();
        if clients > 0 {
            tracing::info!(clients, "clients that waited for this daemon were disconnected");
        }
    }
}

/// Whether a socket listens.
#[cfg(not(target_vendor = "apple"))]
fn is_listening(socket: &UnixListener) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// This system does not tell; accepting a client will.
#[cfg(target_vendor = "apple")]
fn is_listening(_socket: &UnixListener) -> bool {
    true
}

/// Replaces the daemon that has the data directory, if a client started it: it is stopped, and its clients find the new
/// one at the same path. A daemon of a user or of another service manager is not replaced.
///
/// # Errors
/// When the lock cannot be tried.
pub(crate) fn replace_daemon(holder: LockHolder, lock: &Path) -> io::Result<Taken> {
    let mut holder = Some(holder);
    let mut stopped = None;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = holder.filter(|found| stopped != Some(found.pid)) {
            if found.started_by != StartedBy::Client {
                return Ok(Taken::Theirs(Some(found)));
            }
            tracing::info!(pid = found.pid, "replacing the daemon that a client has started");
            if let Err(error) = stop_daemon(found.pid, lock) {
                tracing::warn!(pid = found.pid, %error, "the daemon cannot be stopped");
                return Ok(Taken::Theirs(Some(found)));
            }
            stopped = Some(found.pid);
        }
        match Lock::take(lock)? {
            Taken::Theirs(found) if waited < MAX_WAIT => holder = found,
            taken => return Ok(taken),
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
}

/// Sends SIGTERM to this process, if it holds the lock: a pid in a file may belong to another process by now.
#[cfg(target_os = "linux")]
fn stop_daemon(pid: u32, lock: &Path) -> io::Result<()> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(number, PidfdFlags::empty())?;
    if !has_locked(pid, lock)? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this process does not have the lock"));
    }
    pidfd_send_signal(&process, Signal::TERM)?;
    Ok(())
}

/// Whether a process holds the lock, by the system's list of locks: the open files of a process that is not dumpable
/// cannot be read.
#[cfg(target_os = "linux")]
fn has_locked(pid: u32, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(path)?.ino();
    let locks = std::fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().any(|line| is_lock_of(line, pid, inode)))
}

/// Whether a line like `1: FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF` names this process and this file. The device is
/// not compared, because its format differs; the line of a waiting process has an arrow before the kind.
#[cfg(target_os = "linux")]
fn is_lock_of(line: &str, pid: u32, inode: u64) -> bool {
    let mut words = line.split_ascii_whitespace().skip(4);
    let holder = words.next().and_then(|word| word.parse().ok());
    let file = words.next().and_then(|word| word.rsplit(':').next()?.parse().ok());
    (holder, file) == (Some(pid), Some(inode))
}

/// Only service managers of Linux hand over sockets this way.
#[cfg(not(target_os = "linux"))]
fn stop_daemon(_pid: u32, _lock: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_the_lock_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("daemon.lock");
        let file = std::fs::File::create(&lock).unwrap();
        assert!(!has_locked(std::process::id(), &lock).unwrap());
        // otherwise the signal would end this test
        assert_eq!(stop_daemon(std::process::id(), &lock).unwrap_err().kind(), io::ErrorKind::NotFound);
        file.lock().unwrap();
        assert!(has_locked(std::process::id(), &lock).unwrap());
        assert!(!has_locked(std::process::id() + 1, &lock).unwrap());
    }

    #[test]
    fn a_process_that_waits_for_a_lock_does_not_hold_it() {
        for (line, holds) in [
            ("1: FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF", true),
            ("1: POSIX  ADVISORY  WRITE 14811 fe:00:1234 0 EOF", true),
            ("1: -> FLOCK  ADVISORY  WRITE 14811 00:2d:1234 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE 1481 00:2d:1234 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE 14811 00:2d:12345 0 EOF", false),
            ("1: FLOCK  ADVISORY  WRITE -1 00:2d:1234 0 EOF", false),
            ("", false),
        ] {
            assert_eq!(is_lock_of(line, 14811, 1234), holds, "{line}");
        }
    }

    #[test]
    fn a_foreground_daemon_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let holder = LockHolder { pid: 1, socket: "/x".into(), started_by: StartedBy::User };
        let taken = replace_daemon(holder.clone(), &directory.path().join("daemon.lock")).unwrap();
        assert!(matches!(taken, Taken::Theirs(Some(found)) if found == holder));
    }

    #[test]
    fn waiting_clients_are_disconnected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let inherited = Inherited { listener, path };
        let waiting = inherited.waiting().unwrap();
        let mut clients: Vec<_> =
            (0..3).map(|_| std::os::unix::net::UnixStream::connect(&inherited.path).unwrap()).collect();
        waiting.disconnect();
        for client in &mut clients {
            assert_eq!(io::Read::read(client, &mut [0]).unwrap(), 0);
        }
    }
}
