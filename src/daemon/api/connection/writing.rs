//! Writing answers to a client that may read slowly, or not at all.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::time::timeout;
use zeroize::Zeroize as _;

use super::turn::AdmittedTurn;
use super::{Connection, UNCOUNTED};
use crate::daemon::os::socket::ClientStream;

/// A client that reads nothing for this long is disconnected.
const UNREAD: Duration = Duration::from_secs(30);

/// The capacity that a buffer keeps between messages, in bytes.
const KEPT_CAPACITY: usize = 8 * 1024;

/// The most bytes that are written before other connections are served.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

impl Connection {
    /// Writes the answers of the calls that still wait.
    pub(super) async fn write_last_answers(&mut self, stream: &ClientStream) -> Option<()> {
        loop {
            let more = self.session.outbox.answered().await;
            self.session.outbox.drain_into(&mut self.out);
            self.write(stream, &mut None).await?;
            if !more {
                return Some(());
            }
        }
    }

    /// Writes the answers; `None` when the client does not read them. Where it has to be waited for, the turn is over.
    pub(super) async fn write(&mut self, stream: &ClientStream, turn: &mut Option<AdmittedTurn>) -> Option<()> {
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            let mut write = pin!(stream.write(&rest[..rest.len().min(WRITTEN_AT_ONCE)]));
            // most writes finish immediately: a timer is created only for the others
            let written = match poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await {
                Poll::Ready(written) => written.ok()?,
                Poll::Pending => {
                    *turn = None;
                    if rest.len() > UNCOUNTED {
                        self.unread.resize(self.out.capacity()).ok()?;
                    }
                    tokio::select! {
                        written = timeout(UNREAD, write) => written.ok()?.ok()?,
                        () = self.session.outbox.overflowed() => return None,
                    }
                }
            };
            rest = rest.get(written..).filter(|_| written > 0)?;
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        self.out.clear();
        self.unread.clear();
        if self.out.capacity() > KEPT_CAPACITY {
            self.out.zeroize();
            self.out = Vec::new();
        }
        Some(())
    }
}
