//! The clocks: the only place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pool::{Mono, Now, Wall, millis};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
fn wall() -> Wall {
    Wall(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// The time since boot, suspend included where the platform can: `Instant` stops in suspend on Linux and macOS.
#[cfg(target_os = "linux")]
fn mono() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Mono(seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// The time since boot; on these systems it stops in suspend, and the tick makes up for it.
#[cfg(all(unix, not(target_os = "linux")))]
fn mono() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Mono(seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// The time since this process first asked.
#[cfg(not(unix))]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn mono() -> Mono {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Mono(millis(START.get_or_init(std::time::Instant::now).elapsed()))
}

/// How long from now until `at`.
#[must_use]
pub fn until(at: Mono) -> Duration {
    at.since(mono())
}

/// What tells this boot of the machine from any other.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| String::from("unknown"), |id| id.trim().to_owned())
}
