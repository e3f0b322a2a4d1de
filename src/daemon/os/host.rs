//! What the daemon does to its own process before it serves.

#[cfg_attr(unix, path = "host/unix.rs")]
#[cfg_attr(windows, path = "host/windows.rs")]
mod system;

pub(crate) use system::prepare_process;

/// Most connections at a time, however many there could be.
const MOST_CONNECTIONS: u64 = 8192;

/// Leaves the session of the client that started us: its terminal's end is not ours.
pub(crate) fn leave_the_terminal() {
    system::leave_the_session();
    // a removed directory, or one on a disk to be unmounted, is no place to stay
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::debug!(%error, "the current directory stays");
    }
}
