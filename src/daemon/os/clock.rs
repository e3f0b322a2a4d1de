//! The clocks. Only this file reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

use crate::pool::{Mono, Now, Wall, millis};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    Now { mono: mono(), wall: wall() }
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
fn wall() -> Wall {
    Wall(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// The time since boot, including suspend: `Instant` stops in suspend on Linux and macOS.
#[cfg(unix)]
fn mono() -> Mono {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const SINCE_BOOT: ClockId = ClockId::Boottime;
    // includes suspend on macOS; where it does not, the timer's longest sleep limits the error
    #[cfg(not(target_os = "linux"))]
    const SINCE_BOOT: ClockId = ClockId::Monotonic;
    let time = clock_gettime(SINCE_BOOT);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Mono(seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// The time since boot, including suspend. The system's count has steps of up to 16 ms, so it is read once and continued
/// by `Instant`, which includes suspend on this system.
#[cfg(windows)]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn mono() -> Mono {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (winsafe::GetTickCount64(), Instant::now()));
    let (at_start, start) = &*START;
    Mono(at_start + millis(start.elapsed()))
}

/// Tells when sleeping threads may be late: they sleep on while the machine is suspended, and do not notice that the time of
/// day was set.
#[derive(Debug)]
pub(crate) struct ClockJumps {
    wall: Wall,
    running: std::time::Instant,
}

impl ClockJumps {
    /// The smallest jump that counts.
    const LEAST: u64 = 1000;

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn new() -> Self {
        Self { wall: wall(), running: std::time::Instant::now() }
    }

    /// Whether the time of day has advanced by another amount than the running time, since this was last asked. Where the
    /// running time includes suspend, which is on Windows, one cannot tell: `true`.
    pub(crate) fn have_occurred(&mut self) -> bool {
        let before = std::mem::replace(self, Self::new());
        let ran = millis(self.running.duration_since(before.running));
        cfg!(windows) || self.wall.0.abs_diff(before.wall.0 + ran) >= Self::LEAST
    }
}

/// The steps of a runtime's timer. A sleep that ends with a step wakes the thread once, any other long one up to three times.
#[derive(Debug)]
pub(crate) struct TimerSteps {
    began: tokio::time::Instant,
}

impl TimerSteps {
    /// How often tokio's timer looks at sleeps of minutes.
    const STEP: Duration = Duration::from_millis(4096);

    /// Of a runtime that is made right after this: its steps begin then.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn of_next_runtime() -> Self {
        Self { began: tokio::time::Instant::now() }
    }

    /// The last step within this time; its end if that is short.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn last_within(&self, time: Duration) -> tokio::time::Instant {
        let end = tokio::time::Instant::now() + time;
        if time <= Self::STEP {
            return end;
        }
        let beyond = end.duration_since(self.began).as_nanos() % Self::STEP.as_nanos();
        end - Duration::from_nanos(u64::try_from(beyond).unwrap_or_default())
    }
}

/// How much processor time the calling thread has used.
#[cfg(unix)]
pub(crate) fn work_time() -> Duration {
    processor_time(rustix::time::ClockId::ThreadCPUTime)
}

/// How much processor time the daemon has used.
#[cfg(unix)]
pub(crate) fn process_time() -> Duration {
    processor_time(rustix::time::ClockId::ProcessCPUTime)
}

#[cfg(unix)]
fn processor_time(of: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(of);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The time that has passed: the system counts the processor time of a thread in steps of 16 ms.
#[cfg(windows)]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn work_time() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Not counted on this system.
#[cfg(windows)]
pub(crate) fn process_time() -> Duration {
    Duration::ZERO
}

/// The time since boot, for timers.
#[must_use]
pub(crate) fn since_boot() -> Duration {
    Duration::from_millis(now().mono.0)
}

/// How long from now until `at`.
#[must_use]
pub fn until(at: Mono) -> Duration {
    at.since(now().mono)
}

/// `17:06` today, `Tue 17:06` within a week, else with the date: `24 Dec 17:06`, `3 Jan 2027`.
#[must_use]
pub fn day_and_clock(now: u64, at: u64) -> String {
    let (today, then) = (local(now), local(at));
    let days = (then.date() - today.date()).get_days();
    let form = match days {
        0 => "%H:%M",
        -6..=6 => "%a %H:%M",
        _ if then.year() == today.year() => "%-d %b %H:%M",
        _ => "%-d %b %Y",
    };
    then.strftime(form).to_string()
}

/// A time of day in the local time zone; in unit tests that is UTC.
#[must_use]
pub fn local(at: u64) -> ZonedDateTime {
    let zone = if cfg!(test) { TimeZone::UTC } else { TimeZone::system() };
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.unwrap_or(Timestamp::MAX).to_zoned_datetime(zone)
}

/// Identifies this boot of the machine.
#[must_use]
pub fn boot_id() -> String {
    system_boot_id().map_or_else(|| String::from("unknown"), |id| id.trim().to_owned())
}

#[cfg(target_os = "linux")]
fn system_boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn system_boot_id() -> Option<String> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}

/// A mark in the volatile part of the registry, which is deleted when the user's session ends: it identifies the session,
/// so that no lease survives it.
#[cfg(windows)]
fn system_boot_id() -> Option<String> {
    use winsafe::{HKEY, RegistryValue, co};
    const NAME: Option<&str> = Some("session");
    let access = co::KEY::QUERY_VALUE | co::KEY::SET_VALUE;
    let key =
        HKEY::CURRENT_USER.RegCreateKeyEx("Software\\lessor session", None, co::REG_OPTION::VOLATILE, access, None);
    let (key, _) = key.inspect_err(|error| tracing::debug!(%error, "no mark of this session")).ok()?;
    if let Ok(RegistryValue::Sz(mark)) = key.RegQueryValueEx(NAME) {
        return Some(mark);
    }
    let mark = format!("{:016x}", getrandom::u64().ok()?);
    key.RegSetValueEx(NAME, RegistryValue::Sz(mark.clone())).ok().map(|()| mark)
}

/// A clock that a simulation sets, for the threads that take part in it.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::pool::{Mono, Now, Wall};

    /// The time that the threads of a simulation share.
    #[derive(Debug, Default)]
    pub(crate) struct SimulatedClock {
        mono: AtomicU64,
        wall: AtomicU64,
    }

    thread_local! {
        static CLOCK: RefCell<Option<Arc<SimulatedClock>>> = const { RefCell::new(None) };
    }

    impl SimulatedClock {
        pub(crate) fn set(&self, now: Now) {
            self.mono.store(now.mono.0, Ordering::Relaxed);
            self.wall.store(now.wall.0, Ordering::Relaxed);
        }

        /// The current thread reads this clock from now on.
        pub(crate) fn join(self: Arc<Self>) {
            CLOCK.with(|clock| *clock.borrow_mut() = Some(self));
        }
    }

    pub(super) fn now() -> Option<Now> {
        CLOCK.with(|clock| {
            let clock = clock.borrow();
            let clock = clock.as_ref()?;
            let (mono, wall) = (clock.mono.load(Ordering::Relaxed), clock.wall.load(Ordering::Relaxed));
            Some(Now { mono: Mono(mono), wall: Wall(wall) })
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_jumped_when_the_time_of_day_differs_from_the_time_that_has_passed() {
        let mut jumps = ClockJumps::new();
        assert!(!jumps.have_occurred());
        // set forward, or the machine was suspended
        jumps.wall = Wall(jumps.wall.0 - 5000);
        assert!(jumps.have_occurred());
        assert!(!jumps.have_occurred(), "each jump counts once");
        // set back
        jumps.wall = Wall(jumps.wall.0 + 5000);
        assert!(jumps.have_occurred());
    }
}
