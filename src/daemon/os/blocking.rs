//! In debug builds, panics when the system is called under the state lock, where a slow call would delay all clients.

use std::cell::Cell;

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// While this exists, calls that may block panic in debug builds.
#[derive(Debug)]
pub(crate) struct Forbidden(());

/// Forbids calls that may block on this thread.
pub(crate) fn forbid() -> Forbidden {
    if cfg!(debug_assertions) {
        FORBIDDEN.set(true);
    }
    Forbidden(())
}

impl Forbidden {
    /// Allows such calls again.
    pub(crate) fn end(&mut self) {
        if cfg!(debug_assertions) {
            FORBIDDEN.set(false);
        }
    }
}

/// To be called before each call to the system that may block.
#[track_caller]
pub(crate) fn check() {
    debug_assert!(!FORBIDDEN.get(), "a call that may block was made under the state lock");
}
