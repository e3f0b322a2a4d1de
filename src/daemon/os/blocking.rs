//! Finds, in debug builds, calls to the system that are made under the state's lock, where they would delay everybody.

use std::cell::Cell;

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, calls that may wait for the system panic in debug builds.
#[derive(Debug)]
pub(crate) struct Forbidden(());

/// Forbids such calls on this thread.
pub(crate) fn forbid() -> Forbidden {
    FORBIDDEN.set(true);
    Forbidden(())
}

impl Forbidden {
    /// Allows them again.
    pub(crate) fn end(&mut self) {
        FORBIDDEN.set(false);
    }
}

/// To be called where the system is asked for something that may take time.
#[track_caller]
pub(crate) fn check() {
    debug_assert!(!FORBIDDEN.get(), "a call that may block is made under the state's lock");
}
