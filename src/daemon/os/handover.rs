//! A restart within one process: the daemon executes its program again, and the next run takes over the listening sockets
//! and the lock. Clients and agents that connect meanwhile wait in the queues of the sockets instead of being refused, and
//! a service manager sees the same process.
//!
//! The descriptors wait in a pair of sockets, of which the next run has one end as its standard input.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::daemon::os::lock::Lock;
use crate::daemon::os::socket::{Socket, SocketError};

/// The process that takes over: the same one, after the program was executed again.
const VARIABLE: &str = "LESSOR_HANDOVER";
/// The lock, the daemon's socket, the gateway's three.
const MOST_DESCRIPTORS: usize = 5;
/// The description is shorter, in bytes.
const MOST_BYTES: usize = 256;
/// What Linux appends to the path of a program whose file was replaced.
const REPLACED: &str = " (deleted)";

/// Whether the process that is restarted continues; otherwise a client or the service manager starts the next one.
pub(crate) const CONTINUES: bool = true;

/// What the next run takes over.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The locked lock file.
    lock: File,
    /// The daemon's listening socket.
    socket: OwnedFd,
    /// A service manager created the socket and keeps it.
    is_managers: bool,
    may_resume: bool,
    gateway: GatewayListeners,
}

/// The listening sockets of the gateway.
#[derive(Debug, Default)]
pub(crate) struct GatewayListeners {
    pub(crate) tcp: Option<TcpListener>,
    /// The one for TLS.
    pub(crate) tls: Option<TcpListener>,
    pub(crate) local: Option<OwnedFd>,
}

/// Which descriptors follow, after the lock and the socket.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    is_managers: bool,
    may_resume: bool,
    has_tcp: bool,
    has_local: bool,
    /// An earlier version has none.
    #[serde(default)]
    has_tls: bool,
}

impl Handover {
    /// Of this run, for the next.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn of(lock: Lock, socket: &Socket, gateway: GatewayListeners, may_resume: bool) -> io::Result<Self> {
        let (socket, is_managers) = (socket.descriptor()?, socket.is_inherited());
        Ok(Self { lock: lock.into_file(), socket, is_managers, may_resume, gateway })
    }

    /// Takes what the last run of this process handed over. To be called before anything reads standard input.
    ///
    /// # Errors
    /// When it handed over something else.
    pub(crate) fn take() -> io::Result<Option<Self>> {
        let is_for_us = std::env::var(VARIABLE).is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
        if !is_for_us {
            return Ok(None);
        }
        let taken = Self::receive(&io::stdin());
        // the socket must not stay the standard input
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        taken.map(Some)
    }

    /// Executes the program again. Returns only if that fails, or with `None` if a stop was requested: the program would
    /// not get that signal.
    pub(crate) fn execute(self, is_stop_requested: &AtomicBool) -> Option<io::Error> {
        let execute = || -> io::Result<Option<io::Error>> {
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
            self.send(&ours)?;
            drop(ours);
            let mut command = Command::new(program()?);
            command.args(std::env::args_os().skip(1)).env(VARIABLE, std::process::id().to_string()).stdin(theirs);
            io::stderr().flush()?;
            Ok(if is_stop_requested.load(Ordering::SeqCst) { None } else { Some(command.exec()) })
        };
        let ended = execute().unwrap_or_else(Some);
        // no next run: clients must not take this daemon for one that died
        Lock::taken_over(self.lock).withdraw();
        ended
    }

    fn send(&self, to: &OwnedFd) -> io::Result<()> {
        let Self { lock, socket, is_managers, may_resume, gateway } = self;
        let description = Description {
            is_managers: *is_managers,
            may_resume: *may_resume,
            has_tcp: gateway.tcp.is_some(),
            has_local: gateway.local.is_some(),
            has_tls: gateway.tls.is_some(),
        };
        let gateways = gateway.tcp.iter().map(AsFd::as_fd).chain(gateway.local.iter().map(AsFd::as_fd));
        let gateways = gateways.chain(gateway.tls.iter().map(AsFd::as_fd));
        let descriptors: Vec<BorrowedFd<'_>> = [lock.as_fd(), socket.as_fd()].into_iter().chain(gateways).collect();
        let text = serde_json::to_vec(&description)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many descriptors to hand over"));
        }
        sendmsg(to, &[IoSlice::new(&text)], &mut control, SendFlags::empty())?;
        Ok(())
    }

    fn receive(from: &impl AsFd) -> io::Result<Self> {
        let incomplete = || io::Error::new(io::ErrorKind::InvalidData, "the last run handed over too little");
        let mut text = [0; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::empty())?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(these) = message {
                descriptors.extend(these);
            }
        }
        let description: Description = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(incomplete);
        Ok(Self {
            lock: next()?.into(),
            socket: next()?,
            is_managers: description.is_managers,
            may_resume: description.may_resume,
            gateway: GatewayListeners {
                tcp: description.has_tcp.then(&mut next).transpose()?.map(TcpListener::from),
                local: description.has_local.then(&mut next).transpose()?,
                tls: description.has_tls.then(&mut next).transpose()?.map(TcpListener::from),
            },
        })
    }

    /// The lock, which was held all the time.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        self.lock.try_clone().map(Lock::taken_over)
    }

    /// Whether a service manager keeps the daemon's socket.
    pub(crate) fn has_managers_socket(&self) -> bool {
        self.is_managers
    }

    /// Whether connections of the last run held leases.
    pub(crate) fn may_resume(&self) -> bool {
        self.may_resume
    }

    /// The daemon's socket and those of the gateway. To be called within the runtime.
    ///
    /// # Errors
    /// When the socket was removed, or the system refuses.
    pub(crate) fn open(self, path: &Path) -> Result<(Socket, GatewayListeners), SocketError> {
        Ok((Socket::take_over(self.socket, path, self.is_managers)?, self.gateway))
    }

    /// The path that clients connect to.
    ///
    /// # Errors
    /// When the system does not know it.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        let listener = std::os::unix::net::UnixListener::from(self.socket.try_clone()?);
        let address = listener.local_addr()?;
        address.as_pathname().map(PathBuf::from).ok_or_else(|| io::Error::other("the daemon's socket has no path"))
    }
}

/// Checks that the program can be executed again.
///
/// # Errors
/// The reason, for people.
pub(crate) fn check_program() -> Result<(), String> {
    let program = program().map_err(|error| format!("the file of the daemon's program is not known: {error}"))?;
    match program.is_file() {
        true => Ok(()),
        false => Err(format!("the daemon's program does not exist any more: {}", program.display())),
    }
}

/// The file of this program; after an update, the new one at the same path.
fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path.to_str().and_then(|path| path.strip_suffix(REPLACED)).map(PathBuf::from);
    Ok(replaced.filter(|_| !path.exists()).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_arrive_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let open = |gateway: GatewayListeners| Handover {
            lock: File::create(directory.path().join("lock")).unwrap(),
            socket: std::os::unix::net::UnixListener::bind(&socket).unwrap().into(),
            is_managers: true,
            may_resume: false,
            gateway,
        };
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listeners: &GatewayListeners| {
            [&listeners.tcp, &listeners.tls].map(|of| of.as_ref().map(|tcp| tcp.local_addr().unwrap()))
        };
        for gateway in [
            GatewayListeners::default(),
            GatewayListeners { tcp: Some(tcp()), ..GatewayListeners::default() },
            GatewayListeners { tcp: Some(tcp()), tls: Some(tcp()), local: None },
        ] {
            let before = address(&gateway);
            let handover = open(gateway);
            handover.lock.lock().unwrap();
            let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
            handover.send(&one).unwrap();
            drop((one, handover));
            let taken = Handover::receive(&other).unwrap();
            assert_eq!(taken.path().unwrap(), socket);
            assert!(taken.is_managers && !taken.may_resume && taken.gateway.local.is_none());
            assert_eq!(address(&taken.gateway), before);
            let lock = File::open(directory.path().join("lock")).unwrap();
            assert!(lock.try_lock().is_err(), "it was locked all the time");
            std::fs::remove_file(&socket).unwrap();
        }
    }

    #[test]
    fn nothing_is_taken_that_was_handed_over_to_another_process() {
        assert!(Handover::take().unwrap().is_none());
        check_program().unwrap();
    }
}
