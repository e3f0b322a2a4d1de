//! The clocks. Only this file reads them.

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

/// The time since boot, for timers.
#[must_use]
pub(crate) fn since_boot() -> Duration {
    Duration::from_millis(mono().0)
}

/// How long from now until `at`.
#[must_use]
pub fn until(at: Mono) -> Duration {
    at.since(mono())
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
