//! The way to the daemon: bytes with a time limit, and the certainty that the other end is ours.

#[cfg_attr(unix, path = "transport/unix.rs")]
#[cfg_attr(windows, path = "transport/windows.rs")]
mod system;

pub(super) use system::Transport;
