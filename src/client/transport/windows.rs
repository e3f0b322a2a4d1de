//! A named pipe. Its blocking calls have no timeout, so each call runs an asynchronous one to its end.

use std::io::{self, Read, Write};
use std::{path::Path, time::Duration};

use interprocess::ConnectWaitMode;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::DuplexPipeStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::client::identity;

pub(super) struct Transport {
    pipe: DuplexPipeStream<Bytes>,
    // after the pipe: fields are dropped in this order
    runtime: OwnRuntime,
    send: Option<Duration>,
    recv: Option<Duration>,
}

impl Transport {
    /// Connects; waits at most `wait` while all instances of the pipe are busy.
    pub(super) fn connect(socket: &Path, wait: Duration) -> io::Result<Self> {
        let runtime = OwnRuntime(Some(Builder::new_current_thread().enable_all().build()?));
        let wait = ConnectWaitMode::Timeout(wait);
        let pipe = runtime.run(DuplexPipeStream::connect_by_path_with_wait_mode(socket, wait))?;
        Ok(Self { pipe, runtime, send: None, recv: None })
    }

    /// An error if the other end belongs to another user: any user can create a pipe with an unused name. There are no pipes
    /// for containers, so a name that the user has given changes nothing.
    pub(super) fn is_of_another_user(&self, _is_named: bool) -> Result<bool, String> {
        let pid =
            self.pipe.server_process_id().map_err(|error| format!("the listening process is not known: {error}"))?;
        match identity::is_ours(pid) {
            Ok(true) => Ok(false),
            Ok(false) => Err(format!("it belongs to another user (process {pid}), so lessor does not connect to it")),
            Err(error) => Err(format!("its user is not known (process {pid}: {error})")),
        }
    }

    pub(super) fn set_send_timeout(&mut self, most: Duration) -> io::Result<()> {
        self.send = Some(most);
        Ok(())
    }

    pub(super) fn set_recv_timeout(&mut self, most: Option<Duration>) -> io::Result<()> {
        self.recv = most;
        Ok(())
    }
}

/// A private runtime, which can be used and dropped inside another runtime.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn run<T: Send>(&self, task: impl Future<Output = io::Result<T>> + Send) -> io::Result<T> {
        let Some(runtime) = &self.0 else { return Err(io::ErrorKind::NotConnected.into()) };
        if Handle::try_current().is_err() {
            return runtime.block_on(task);
        }
        // a thread has one runtime at a time
        let apart = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(task)).join());
        apart.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs to the end or to the timeout.
    fn run_within(
        &self,
        most: Option<Duration>,
        task: impl Future<Output = io::Result<usize>> + Send,
    ) -> io::Result<usize> {
        self.run(async {
            match most {
                Some(most) => {
                    tokio::time::timeout(most, task).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                None => task.await,
            }
        })
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.runtime.run_within(self.recv, self.pipe.read(into)) {
            // the other end has closed
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.run_within(self.send, self.pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // unread bytes must not keep the pipe open in the background
        self.pipe.assume_flushed();
    }
}
