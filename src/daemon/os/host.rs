//! Settings of the daemon's own process, made before it serves.

#[cfg_attr(unix, path = "host/unix.rs")]
#[cfg_attr(windows, path = "host/windows.rs")]
mod system;

pub(crate) use system::{check_limits, name, prepare_process};

/// The most connections at a time, regardless of the limit of descriptors.
const MOST_CONNECTIONS: u64 = 8192;

/// The name of the user, as the environment has it.
pub(crate) fn user_name() -> Option<String> {
    let of = |name| std::env::var(name).ok().filter(|name| !name.is_empty());
    of("USER").or_else(|| of("LOGNAME")).or_else(|| of("USERNAME"))
}

/// Leaves the session of the client that started the daemon, so that closing its terminal does not end the daemon.
pub(crate) fn leave_the_terminal() {
    system::leave_the_session();
    // the current directory may be removed, or keep a disk from being unmounted
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::debug!(%error, "the current directory was not changed");
    }
}
