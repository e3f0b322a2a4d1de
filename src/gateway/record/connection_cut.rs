//! Why the gateway has ended a connection while a request was served on it.

use std::sync::{Arc, OnceLock};

const END_OF_DAEMON: &str = "the daemon was stopped or restarted";

/// The reason; none if the client has closed the connection.
#[derive(Debug, Default)]
pub(in crate::gateway) struct CutReason(OnceLock<&'static str>);

/// Notes the end of the daemon as the reason if the connection is dropped while it is served.
#[derive(Debug)]
pub(in crate::gateway) struct CutWatch {
    cut: Arc<CutReason>,
    is_served: bool,
}

impl CutReason {
    /// The connection is ended for this reason; the first one counts.
    fn set(&self, reason: &'static str) {
        let _is_first = self.0.set(reason);
    }

    /// Ends what is served on the connection, for this reason.
    pub(in crate::gateway) fn end<S>(&self, serving: S, reason: &'static str) {
        self.set(reason);
        drop(serving);
    }

    pub(super) fn reason(&self) -> Option<&'static str> {
        self.0.get().copied()
    }

    pub(super) fn is_end_of_daemon(&self) -> bool {
        self.reason() == Some(END_OF_DAEMON)
    }
}

impl CutWatch {
    pub(in crate::gateway) fn new(cut: &Arc<CutReason>) -> Self {
        Self { cut: cut.clone(), is_served: true }
    }

    /// Serving the connection has ended.
    pub(in crate::gateway) fn ended(mut self) {
        self.is_served = false;
    }
}

impl Drop for CutWatch {
    fn drop(&mut self) {
        if self.is_served {
            self.cut.set(END_OF_DAEMON);
        }
    }
}
