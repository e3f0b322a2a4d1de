//! Windows has no service manager that receives messages.

use std::time::Duration;

pub(crate) fn ready() {}

pub(crate) fn reloading() {}

pub(crate) fn stopping() {}

pub(crate) fn is_present() -> bool {
    false
}

pub(crate) fn watchdog() -> Option<Duration> {
    None
}

pub(crate) fn report(_alive: bool, _status: Option<&str>) {}
