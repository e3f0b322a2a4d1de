//! Log lines that come up under the state's lock, and are written when it is released.

use std::fmt;

/// The lines, in order.
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
