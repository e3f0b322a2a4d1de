//! Bodies: a request's, kept so that it can be sent again; a response's, passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use tokio::time::{Instant, Sleep, sleep};

/// What may go wrong with a body.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes that may be kept, over all requests.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

/// A share of the budget.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Budget>,
    bytes: u64,
}

impl Share {
    pub(super) fn none(of: &Arc<Budget>) -> Self {
        Self { of: of.clone(), bytes: 0 }
    }

    /// Takes so much more, unless that is more than all may have.
    pub(super) fn grow(&mut self, bytes: u64, most: u64) -> bool {
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= most);
        let taken = self.of.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body for the upstream.
#[derive(Debug)]
pub(super) enum Sent {
    /// Kept bytes, in the pieces they came in.
    Kept {
        pieces: std::vec::IntoIter<Bytes>,
        left: u64,
        trailers: Option<HeaderMap>,
        /// It had no length, and gets none.
        chunked: bool,
    },
    /// The beginning, and what is still to come from the client.
    Passing { first: std::vec::IntoIter<Bytes>, rest: Incoming, length: Option<u64>, room: u64 },
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Kept { pieces, left, trailers, .. } => {
                if let Some(piece) = pieces.next() {
                    *left -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Self::Passing { first, rest, room, .. } => {
                if let Some(piece) = first.next() {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                let polled = Pin::new(rest).poll_frame(context).map_err(Into::into);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    let piece = frame.data_ref().map_or(0, |piece| piece.len() as u64);
                    let Some(left) = room.checked_sub(piece) else {
                        return Poll::Ready(Some(Err(TooLarge.into())));
                    };
                    *room = left;
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Kept { left: 0, trailers: None, chunked: false, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept { left, chunked: false, .. } => SizeHint::with_exact(*left),
            Self::Passing { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Kept { .. } | Self::Passing { .. } => SizeHint::default(),
        }
    }
}

/// The request became larger than `gateway.max_body`.
#[derive(Debug, thiserror::Error)]
#[error("the request is larger than gateway.max_body")]
pub(super) struct TooLarge;

/// Looks at what goes by.
pub(super) trait Watch: Send {
    /// More has come.
    fn see(&mut self, bytes: &Bytes);
    /// It is over: in order, or not.
    fn over(&mut self, in_order: bool);
}

/// A body for the client.
pub(super) enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes from the upstream.
    Relay(Box<Relay>),
}

/// A response on its way.
pub(super) struct Relay {
    first: std::vec::IntoIter<Bytes>,
    rest: Incoming,
    /// Silence that is longer ends it.
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    watch: Option<Box<dyn Watch>>,
}

/// The upstream was silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has sent nothing for {} s", .0.as_secs())]
pub(super) struct Silent(Duration);

impl Relay {
    /// Passes on `rest` after what has come already.
    pub(super) fn new(first: Vec<Bytes>, rest: Incoming, idle: Duration, watch: Option<Box<dyn Watch>>) -> Box<Self> {
        Box::new(Self { first: first.into_iter(), rest, idle, alarm: Box::pin(sleep(idle)), watch })
    }

    fn over(&mut self, in_order: bool) {
        if let Some(mut watch) = self.watch.take() {
            watch.over(in_order);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // the client has gone; the upstream hears of it by the end of its connection
        self.over(false);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let relay = match self.get_mut() {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relay(relay) => relay,
        };
        if let Some(piece) = relay.first.next() {
            if let Some(watch) = &mut relay.watch {
                watch.see(&piece);
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match Pin::new(&mut relay.rest).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(watch), Some(piece)) = (&mut relay.watch, frame.data_ref()) {
                    watch.see(piece);
                }
                #[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
                relay.alarm.as_mut().reset(Instant::now() + relay.idle);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                relay.over(false);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                relay.over(true);
                Poll::Ready(None)
            }
            Poll::Pending => match relay.alarm.as_mut().poll(context) {
                Poll::Ready(()) => {
                    relay.over(false);
                    Poll::Ready(Some(Err(Silent(relay.idle).into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            // the watch is told of the end when it is asked for
            Self::Relay(relay) => relay.watch.is_none() && relay.first.len() == 0 && relay.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relay(relay) => {
                let first: u64 = relay.first.as_slice().iter().map(|piece| piece.len() as u64).sum();
                relay.rest.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_and_given_back() {
        let budget = Arc::new(Budget::default());
        let (mut one, mut other) = (Share::none(&budget), Share::none(&budget));
        assert!(one.grow(60, 100) && !other.grow(50, 100) && other.grow(40, 100));
        drop(one);
        assert!(other.grow(60, 100) && !other.grow(1, 100));
        drop(other);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
