//! The body of a response to a client: complete, or relayed from the upstream as it comes.

use std::task::{Context, Poll};
use std::{pin::Pin, time::Duration};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::observer::{BodyEnd, ResponseObserver};
use crate::gateway::{BodyError, running_key::KeyedRequest};

pub(crate) enum ClientBody {
    Complete(Option<Bytes>),
    Relayed(Box<RelayedBody>),
    /// The gateway's own, piece by piece as they are made.
    Messages(mpsc::Receiver<Bytes>),
}

pub(crate) struct RelayedBody {
    first: std::vec::IntoIter<Bytes>,
    rest: Incoming,
    idle: Duration,
    /// Set when the upstream is first waited for, and again with each frame; most short bodies are there at once.
    idle_timer: Option<Pin<Box<Sleep>>>,
    observer: Option<ResponseObserver>,
    /// It goes to the client when what it says is saved.
    held: Option<Bytes>,
    /// Until the response has ended.
    keyed: Option<KeyedRequest>,
}

#[derive(Debug, thiserror::Error)]
#[error("the upstream has sent nothing for {} s", .0.as_secs())]
struct UpstreamSilent(Duration);

#[derive(Debug, thiserror::Error)]
#[error("the seats of this host in the shared pool have ended")]
struct SeatsLost;

impl ClientBody {
    /// Of a response without a body.
    pub(crate) fn nothing() -> Self {
        Self::Complete(None)
    }

    /// The bytes of one that is complete.
    pub(crate) fn into_complete(self) -> Option<Bytes> {
        if let Self::Complete(bytes) = self { bytes } else { None }
    }

    /// Keeps the request of a key running until the response has ended; the gateway's own is complete at once.
    pub(crate) fn with_key(mut self, keyed: KeyedRequest) -> Self {
        if let Self::Relayed(relayed) = &mut self {
            relayed.keyed = relayed.observer.is_some().then_some(keyed);
        }
        self
    }
}

impl RelayedBody {
    /// Relays `rest` after the pieces that were read already.
    pub(super) fn new(first: Vec<Bytes>, rest: Incoming, idle: Duration, observer: ResponseObserver) -> Self {
        let (first, observer) = (first.into_iter(), Some(observer));
        let mut body = Self { first, rest, idle, idle_timer: None, observer, held: None, keyed: None };
        // hyper does not poll a body that is empty, as after HEAD or with status 204
        body.end_if_complete();
        body
    }

    /// Notes the end with the last bytes: of a body whose length is known, hyper does not poll for more.
    fn end_if_complete(&mut self) {
        if self.is_at_end() {
            self.end(BodyEnd::Complete);
        }
    }

    fn is_at_end(&self) -> bool {
        self.held.is_none() && self.first.len() == 0 && self.rest.is_end_stream()
    }

    /// Observes a piece of the body, and relays it when what it says is saved.
    fn relay(&mut self, piece: Bytes, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(observer) = &mut self.observer {
            observer.observe(&piece);
        }
        self.held = Some(piece);
        self.poll_held(context)
    }

    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(observer) = &mut self.observer {
            std::task::ready!(observer.poll_saved(context));
        }
        let piece = self.held.take();
        self.end_if_complete();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn end(&mut self, end: BodyEnd) {
        if let Some(mut observer) = self.observer.take() {
            observer.end(end);
        }
        self.keyed = None;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.keyed.as_ref().is_some_and(KeyedRequest::has_lost_seats) {
            self.end(BodyEnd::Broken(SeatsLost.to_string()));
            return Poll::Ready(Some(Err(SeatsLost.into())));
        }
        if self.held.is_some() {
            return self.poll_held(context);
        }
        if let Some(piece) = self.first.next() {
            return self.relay(piece, context);
        }
        let ended: Option<Result<_, BodyError>> = match Pin::new(&mut self.rest).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(timer) = &mut self.idle_timer {
                    #[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
                    timer.as_mut().reset(Instant::now() + self.idle);
                }
                return match frame.into_data() {
                    Ok(piece) => self.relay(piece, context),
                    Err(trailers) => {
                        self.end_if_complete();
                        Poll::Ready(Some(Ok(trailers)))
                    }
                };
            }
            Poll::Ready(Some(Err(error))) => Some(Err(error.into())),
            Poll::Ready(None) => None,
            Poll::Pending => {
                let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
                std::task::ready!(timer.as_mut().poll(context));
                Some(Err(UpstreamSilent(self.idle).into()))
            }
        };
        self.end(match &ended {
            Some(Err(error)) => BodyEnd::Broken(error.to_string()),
            _ => BodyEnd::Complete,
        });
        Poll::Ready(ended)
    }
}

impl Drop for RelayedBody {
    fn drop(&mut self) {
        // the client has gone; this closes the connection to the upstream
        self.end(BodyEnd::Dropped);
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Complete(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relayed) => relayed.poll(context),
            Self::Messages(messages) => {
                messages.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Complete(bytes) => bytes.is_none(),
            Self::Relayed(relayed) => relayed.is_at_end(),
            Self::Messages(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = match self {
            Self::Complete(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relayed) => {
                let first = relayed.held.iter().chain(relayed.first.as_slice());
                let first: u64 = first.map(|piece| piece.len() as u64).sum();
                relayed.rest.size_hint().exact().map(|rest| first + rest)
            }
            Self::Messages(_) => None,
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
