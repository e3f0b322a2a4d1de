//! Messages to a service manager, by systemd's notification socket. Without a service manager, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon serves: after the start, and after [`reloading`].
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The daemon reloads its configuration; [`ready`] must follow, whatever the result.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager was not notified of the reload"),
    }
}

pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Whether a service manager receives messages.
pub(crate) fn is_present() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// The longest time between two keep-alive messages, if the service manager has a watchdog.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero())
}

/// Sends a keep-alive message if `alive`, and a new status line if there is one.
pub(crate) fn report(alive: bool, status: Option<&str>) {
    let alive = alive.then_some(NotifyState::Watchdog);
    let states: Vec<NotifyState<'_>> = alive.into_iter().chain(status.map(NotifyState::Status)).collect();
    if !states.is_empty() {
        notify(&states);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not notified");
    }
}
