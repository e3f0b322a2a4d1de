//! Signals, as messages.

#[cfg_attr(unix, path = "signals/unix.rs")]
#[cfg_attr(windows, path = "signals/windows.rs")]
mod system;

pub use system::Listening;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalRequest {
    /// End; asked twice, at once.
    Stop,
    /// Read the configuration again.
    #[cfg_attr(windows, expect(dead_code, reason = "the system has no signal for it; `lessor reload` asks"))]
    Reload,
}
