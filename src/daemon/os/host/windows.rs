//! Windows: a client starts the daemon without a console, and handles have no practical limit.

use super::MOST_CONNECTIONS;

/// A detached process has no console to leave.
pub(crate) fn leave_the_session() {}

/// Returns how many connections the process can have. The system writes crash dumps only if its settings enable them.
pub(crate) fn prepare_process() -> usize {
    usize::try_from(MOST_CONNECTIONS).unwrap_or(usize::MAX)
}

/// This system has no such limits.
pub(crate) fn check_limits() -> Result<(), String> {
    Ok(())
}

/// The name of the machine.
pub(crate) fn name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}
