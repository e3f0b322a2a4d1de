//! Closing a connection so that the client can read the answer. A client that still sends its request when the answer
//! comes, such as status 413, would lose the answer: a system that closes a connection with unread bytes resets it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

/// How long a client may be silent before its connection is closed all the same.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the rest of a request may take.
const LONGEST: Duration = Duration::from_secs(30);
/// How much of it is read, in bytes.
const MOST: u64 = 256 << 20;

/// A client's connection, which stays open when hyper has finished with it.
#[derive(Debug)]
pub(super) struct LingeringStream<S>(Arc<SharedStream<S>>);

#[derive(Debug)]
struct SharedStream<S> {
    stream: Mutex<S>,
    /// The client has sent everything, or its connection has failed: nothing is left to read.
    is_at_end: AtomicBool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> LingeringStream<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(SharedStream { stream: Mutex::new(stream), is_at_end: AtomicBool::new(false) }))
    }

    /// The same connection, for [`Self::close`] after hyper has finished.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Reads what the client still sends, within bounds, and closes the connection.
    pub(super) async fn close(mut self) {
        if self.0.is_at_end.load(Ordering::Relaxed) || self.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            let (mut piece, mut read) = (vec![0; 64 * 1024], 0);
            while read < MOST {
                match timeout(SILENCE, self.read(&mut piece)).await {
                    Ok(Ok(more)) if more > 0 => read += more as u64,
                    _ => return,
                }
            }
        };
        let _in_time = timeout(LONGEST, drain).await;
    }

    fn stream(&self) -> MutexGuard<'_, S> {
        // one task has both ends, so the lock is always free; a panic ends the connection
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for LingeringStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, may_read) = (room.filled().len(), room.remaining() > 0);
        let polled = Pin::new(&mut *self.stream()).poll_read(context, room);
        let is_at_end = match &polled {
            Poll::Ready(Ok(())) => may_read && room.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if is_at_end {
            self.0.is_at_end.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write_vectored(context, pieces)
    }
}
