//! How processes are started that outlive their starter: nothing of its is left open in them.

#[cfg_attr(unix, path = "spawn/unix.rs")]
#[cfg_attr(windows, path = "spawn/windows.rs")]
mod system;

#[cfg(windows)]
pub(crate) use system::find_program;
pub(super) use system::{daemon, launcher, say};
