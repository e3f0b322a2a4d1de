//! Little to do: who starts the daemon gives it no console, and handles have no limit worth naming.

use super::MOST_CONNECTIONS;

/// A session here is the user's whole stay, and a detached process has no console to leave.
pub(crate) fn leave_the_session() {}

/// Answers how many connections the process can have. Crash dumps are the user's own affair: the system writes none
/// unless its settings say so.
pub(crate) fn prepare_process() -> usize {
    usize::try_from(MOST_CONNECTIONS).unwrap_or(usize::MAX)
}
