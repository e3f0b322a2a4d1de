//! The body of a request on its way to the upstream, and the budget for the bytes that are buffered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::{pin::Pin, sync::Arc};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;

use crate::gateway::BodyError;

/// How many bytes all requests have buffered.
#[derive(Debug, Default)]
pub(crate) struct BufferBudget(AtomicU64);

/// The part of the budget that one request uses; it is returned on drop.
#[derive(Debug)]
pub(crate) struct BufferShare {
    budget: Arc<BufferBudget>,
    bytes: u64,
    has_failed: bool,
}

impl BufferShare {
    pub(super) fn empty(budget: &Arc<BufferBudget>) -> Self {
        Self { budget: budget.clone(), bytes: 0, has_failed: false }
    }

    /// Takes `bytes` more, unless all requests together would exceed `limit`.
    pub(super) fn grow(&mut self, bytes: u64, limit: u64) -> bool {
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        let is_taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if is_taken { bytes } else { 0 };
        self.has_failed |= !is_taken;
        is_taken
    }

    /// Whether the budget once had no room.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Drop for BufferShare {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) enum UpstreamBody {
    /// Buffered bytes, in the pieces they came in.
    Buffered {
        pieces: std::vec::IntoIter<Bytes>,
        left: u64,
        trailers: Option<HeaderMap>,
        /// The client sent no length, and the upstream gets none.
        chunked: bool,
        /// For bytes that are not those of the request.
        _share: Option<BufferShare>,
    },
    /// The beginning, and what the client still sends; `max_left` bytes at most.
    Streamed {
        first: std::vec::IntoIter<Bytes>,
        rest: Incoming,
        length: Option<u64>,
        max_left: u64,
        _share: Option<BufferShare>,
    },
}

impl UpstreamBody {
    /// Of a request without a body.
    pub(crate) fn none() -> Self {
        Self::Buffered { pieces: Vec::new().into_iter(), left: 0, trailers: None, chunked: false, _share: None }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Buffered { pieces, left, trailers, .. } => {
                if let Some(piece) = pieces.next() {
                    *left -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Self::Streamed { first, rest, max_left, .. } => {
                if let Some(piece) = first.next() {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                let polled = Pin::new(rest).poll_frame(context).map_err(Into::into);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    let piece = frame.data_ref().map_or(0, |piece| piece.len() as u64);
                    let Some(left) = max_left.checked_sub(piece) else {
                        return Poll::Ready(Some(Err(BodyTooLarge.into())));
                    };
                    *max_left = left;
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Buffered { left: 0, trailers: None, chunked: false, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffered { left, chunked: false, .. } => SizeHint::with_exact(*left),
            Self::Streamed { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Buffered { .. } | Self::Streamed { .. } => SizeHint::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request is larger than gateway.max_body")]
pub(crate) struct BodyTooLarge;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffered_bytes_are_counted_and_returned() {
        let budget = Arc::new(BufferBudget::default());
        let (mut one, mut other) = (BufferShare::empty(&budget), BufferShare::empty(&budget));
        assert!(one.grow(60, 100) && !other.grow(50, 100) && other.grow(40, 100));
        drop(one);
        assert!(other.grow(60, 100) && !other.grow(1, 100));
        drop(other);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
