//! What a service manager is told; only systemd listens, so elsewhere there is nothing to say.

#[cfg(unix)]
use sd_notify::NotifyState;

/// Serving.
pub(super) fn ready() {
    #[cfg(unix)]
    tell(&[NotifyState::Ready]);
}

/// Reading the configuration; [`ready`] follows.
pub(super) fn reloading() {
    #[cfg(unix)]
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

#[cfg(unix)]
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager was told");
    }
}
