//! What a service manager is told: here nobody listens.

use crate::daemon::state::Daemon;

pub(crate) fn ready() {}

pub(crate) fn reloading() {}

pub(crate) fn stopping() {}

/// Signs of life, for nobody.
#[derive(Debug)]
pub(crate) struct Pulse;

impl Pulse {
    pub(crate) fn of_process() -> Self {
        Self
    }

    /// It is never time.
    pub(crate) async fn next(&mut self) {
        std::future::pending::<()>().await;
    }

    pub(crate) fn say(&mut self, _daemon: &Daemon, _timer_is_gone: bool) {}
}
