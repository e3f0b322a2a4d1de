//! The locked state, and what waits for the end of the lock: log lines and events.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

use super::State;
use crate::daemon::os::blocking;

/// Log lines that come up under the lock, in order.
#[derive(Default)]
pub(crate) struct LogLater(Vec<Box<dyn FnOnce() + Send>>);

impl LogLater {
    /// Has `write` called when the lock is released.
    pub(crate) fn push(&mut self, write: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(write));
    }

    /// Writes them all.
    pub(crate) fn write(self) {
        self.0.into_iter().for_each(|write| write());
    }
}

impl fmt::Debug for LogLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.0.len())
    }
}

/// The locked state. When it is dropped, the lock is released first, and then the log lines are written and the events
/// sent that came up under it.
#[derive(Debug)]
pub(crate) struct StateGuard<'a> {
    /// There until the drop.
    state: Option<MutexGuard<'a, State>>,
    not_blocking: blocking::Forbidden,
}

impl<'a> StateGuard<'a> {
    pub(super) fn new(state: MutexGuard<'a, State>) -> Self {
        Self { state: Some(state), not_blocking: blocking::forbid() }
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    #[expect(clippy::expect_used, reason = "only `drop` takes it out")]
    fn deref(&self) -> &State {
        self.state.as_deref().expect("the state is locked")
    }
}

impl DerefMut for StateGuard<'_> {
    #[expect(clippy::expect_used, reason = "only `drop` takes it out")]
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_deref_mut().expect("the state is locked")
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let left = self.state.take().map(|mut state| (std::mem::take(&mut state.log), state.events.unsent()));
        self.not_blocking.end();
        if let Some((log, events)) = left {
            log.write();
            if let Some(events) = events {
                events.send();
            }
        }
    }
}
