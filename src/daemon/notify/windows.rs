//! What a service manager is told: here nobody listens.

use super::core::Daemon;

pub(super) fn ready() {}

pub(super) fn reloading() {}

pub(super) fn stopping() {}

/// Signs of life, for nobody.
#[derive(Debug)]
pub(super) struct Pulse;

impl Pulse {
    pub(super) fn of_process() -> Self {
        Self
    }

    /// It is never time.
    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }

    pub(super) fn say(&mut self, _daemon: &Daemon, _timer_is_gone: bool) {}
}
