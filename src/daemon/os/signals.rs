//! Signals to the daemon.

#[cfg_attr(unix, path = "signals/unix.rs")]
#[cfg_attr(windows, path = "signals/windows.rs")]
mod system;

pub(crate) use system::SignalListener;

/// The meaning of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SignalRequest {
    /// Stop; a second one stops immediately.
    Stop,
    /// Read the configuration again.
    #[cfg_attr(windows, expect(dead_code, reason = "the system has no such signal; `lessor reload` reloads"))]
    Reload,
}
