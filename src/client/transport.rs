//! The transport to the daemon: reads and writes with timeouts, and a check that the other end belongs to this user.

#[cfg_attr(unix, path = "transport/unix.rs")]
#[cfg_attr(windows, path = "transport/windows.rs")]
mod system;

pub(super) use system::Transport;
