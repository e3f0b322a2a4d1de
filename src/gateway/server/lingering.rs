//! Closing a connection so that the client can read the answer. A client that still sends its request when the answer
//! comes, such as status 413, would lose the answer: a system that closes a connection with unread bytes resets it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use crate::gateway::admission::ConnectionWatch;

/// How long a client may be silent before its connection is closed all the same.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the rest of a request may take.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the answer to a connection that is rejected may take, and the silence after it.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LAST_SILENCE: Duration = Duration::from_millis(100);
/// How much of it is read, in bytes.
const MOST: u64 = 256 << 20;

/// A client's connection, which stays open when hyper has finished with it.
#[derive(Debug)]
pub(super) struct LingeringStream<S>(Arc<SharedStream<S>>);

#[derive(Debug)]
struct SharedStream<S> {
    stream: Mutex<S>,
    watch: Arc<ConnectionWatch>,
    /// The client has sent everything, or its connection has failed: nothing is left to read.
    is_at_end: AtomicBool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> LingeringStream<S> {
    pub(super) fn new(stream: S, watch: Arc<ConnectionWatch>) -> Self {
        Self(Arc::new(SharedStream { stream: Mutex::new(stream), watch, is_at_end: AtomicBool::new(false) }))
    }

    /// The same connection, for [`Self::close`] after hyper has finished.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Sends an answer that is no answer to a request, and closes the connection at once.
    pub(super) async fn reject(self, answer: &[u8]) {
        let mut this = self;
        let send = async {
            let is_sent = this.write_all(answer).await.is_ok() && this.shutdown().await.is_ok();
            // unread bytes would make the system take the answer back
            let mut piece = [0; 4096];
            while is_sent && !this.0.is_at_end.load(Ordering::Relaxed) {
                let read = std::future::poll_fn(|context| this.poll_raw(context, &mut piece));
                if !matches!(timeout(LAST_SILENCE, read).await, Ok(Ok(more)) if more > 0) {
                    return;
                }
            }
        };
        let _in_time = timeout(LAST_WORDS, send).await;
    }

    /// Reads without the watch, for bytes that are thrown away.
    fn poll_raw(&mut self, context: &mut Context<'_>, piece: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(piece);
        let polled = Pin::new(&mut *self.stream()).poll_read(context, &mut room);
        polled.map_ok(|()| room.filled().len())
    }

    /// Reads what the client still sends, within bounds, and closes the connection.
    pub(super) async fn close(mut self) {
        if self.0.is_at_end.load(Ordering::Relaxed) || self.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            // small: many connections may close at a time
            let (mut piece, mut read) = ([0; 4096], 0);
            while read < MOST {
                let more = std::future::poll_fn(|context| self.poll_raw(context, &mut piece));
                match timeout(SILENCE, more).await {
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
        } else if room.filled().len() > before && !self.0.watch.received(&room.filled()[before..]) {
            // the watch ends the connection
            room.set_filled(before);
            return Poll::Pending;
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream()).poll_write(context, bytes);
        self.0.watch.wrote(polled.is_ready());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.stream()).poll_flush(context);
        if polled.is_ready() {
            self.0.watch.flushed();
        }
        polled
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
        let polled = Pin::new(&mut *self.stream()).poll_write_vectored(context, pieces);
        self.0.watch.wrote(polled.is_ready());
        polled
    }
}
