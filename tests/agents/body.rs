//! The body of a response: whole, or event by event with pauses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Sleep, sleep};

pub struct PacedBody {
    events: VecDeque<Bytes>,
    pace: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    pub fn whole(text: String) -> Self {
        Self { events: [Bytes::from(text)].into(), pace: Duration::ZERO, pause: None }
    }

    /// With a pause after each event.
    pub fn paced(text: String, pace: Duration) -> Self {
        if pace.is_zero() {
            return Self::whole(text);
        }
        let events = text.split_inclusive("\n\n").map(|event| Bytes::copy_from_slice(event.as_bytes()));
        Self { events: events.collect(), pace, pause: None }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
        }
        let event = self.events.pop_front();
        self.pause = (event.is_some() && !self.pace.is_zero()).then(|| Box::pin(sleep(self.pace)));
        Poll::Ready(event.map(|event| Ok(Frame::data(event))))
    }
}
