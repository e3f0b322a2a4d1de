//! A Unix socket.

use std::io::{self, Read, Write};
use std::{path::Path, time::Duration};

use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::{Stream as _, StreamCommon};
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};

pub(super) struct Transport(Stream);

impl Transport {
    /// Connects; waits at most `wait` while the other end's queue is full.
    pub(super) fn connect(socket: &Path, wait: Duration) -> io::Result<Self> {
        let name = socket.to_fs_name::<GenericFilePath>()?;
        ConnectOptions::new().name(name).wait_mode(ConnectWaitMode::Timeout(wait)).connect_sync().map(Self)
    }

    /// Whether the other end belongs to another user: a socket in a directory that others can write to could. An error
    /// says why there is no connection. A socket that the user has named may be another user's: that of a container.
    pub(super) fn is_of_another_user(&self, is_named: bool) -> Result<bool, String> {
        let owner = self.0.peer_creds().ok().and_then(|peer| peer.euid());
        match owner {
            Some(owner) if owner != rustix::process::geteuid().as_raw() => match is_named {
                true => Ok(true),
                false => Err(format!("it belongs to another user (uid {owner}), so lessor does not connect to it")),
            },
            _ => Ok(false),
        }
    }

    pub(super) fn set_send_timeout(&mut self, most: Duration) -> io::Result<()> {
        self.0.set_send_timeout(Some(most))
    }

    pub(super) fn set_recv_timeout(&mut self, most: Option<Duration>) -> io::Result<()> {
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
