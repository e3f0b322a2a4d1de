//! Starts processes that outlive their parent, without inherited files or handles.

#[cfg_attr(unix, path = "spawn/unix.rs")]
#[cfg_attr(windows, path = "spawn/windows.rs")]
mod system;

#[cfg(windows)]
pub(crate) use system::find_program;
pub(super) use system::{daemon, launcher, say};
