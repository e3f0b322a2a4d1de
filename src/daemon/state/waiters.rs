//! Requests that wait in the pool's queue, and where their answers go.

use std::any::Any;
use std::fmt;

use rustc_hash::FxHashMap;

use super::{State, Unsaved};
use crate::pool::{ConnectionId, Fence, Now, Refusal, WaiterId};

/// Receives the end of a wait: a lease, or why there is none. The socket and the gateway have one each.
pub(crate) trait Waiter: Any + fmt::Debug + Send {
    /// Called once, under the state's lock; answers when everything is saved.
    fn answer(self: Box<Self>, state: &mut State, now: Now, result: Unsaved<Result<Fence, Refusal>>);

    /// A connection has ended; answers whether nothing is left that waits.
    fn connection_ended(&mut self, _connection: ConnectionId) -> bool {
        false
    }
}

/// All that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiters(FxHashMap<WaiterId, Box<dyn Waiter>>);

impl Waiters {
    pub(crate) fn insert(&mut self, id: WaiterId, waiter: impl Waiter) {
        self.0.insert(id, Box::new(waiter));
    }

    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Box<dyn Waiter>> {
        self.0.remove(&id)
    }

    /// The waiter, if it is of this kind.
    pub(crate) fn get_mut<W: Waiter>(&mut self, id: WaiterId) -> Option<&mut W> {
        let waiter: &mut dyn Any = &mut **self.0.get_mut(&id)?;
        waiter.downcast_mut()
    }

    pub(crate) fn connection_ended(&mut self, connection: ConnectionId) {
        self.0.retain(|_, waiter| !waiter.connection_ended(connection));
    }
}
