//! A Unix socket.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::{Stream as _, StreamCommon};
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};

/// A connection.
pub(in crate::client) struct Transport(Stream);

impl Transport {
    /// Connects; for as long as the other end's queue is full, at most `wait`.
    pub(in crate::client) fn connect(socket: &Path, wait: Duration) -> io::Result<Self> {
        let name = socket.to_fs_name::<GenericFilePath>()?;
        ConnectOptions::new().name(name).wait_mode(ConnectWaitMode::Timeout(wait)).connect_sync().map(Self)
    }

    /// Makes sure that the other end is one's own: a socket in a directory that others may write to could be
    /// anybody's, and secrets go only to one's own daemon.
    pub(in crate::client) fn check_owner(&self) -> Result<(), String> {
        let owner = self.0.peer_creds().ok().and_then(|peer| peer.euid());
        match owner {
            Some(owner) if owner != rustix::process::geteuid().as_raw() => {
                Err(format!("it belongs to another user (uid {owner}); it is not spoken to"))
            }
            _ => Ok(()),
        }
    }

    /// Every write from now on takes at most so long.
    pub(in crate::client) fn set_send_timeout(&mut self, most: Duration) -> io::Result<()> {
        self.0.set_send_timeout(Some(most))
    }

    /// Every read from now on takes at most so long.
    pub(in crate::client) fn set_recv_timeout(&mut self, most: Option<Duration>) -> io::Result<()> {
        self.0.set_recv_timeout(most)
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
