//! Times, numbers and reasons as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use crate::daemon::clock::day_and_clock;
use crate::daemon::clock::local;
use crate::pool::spoken;

/// The time of day, in ms since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `in 4 min`, or `now` if the time has passed.
pub(crate) fn until(now: u64, at: u64) -> String {
    match at.saturating_sub(now) {
        0 => "now".to_owned(),
        left => format!("in {}", spoken(Duration::from_millis(left))),
    }
}

/// `until 17:06, in 76 s`, or `now` if the time has passed.
pub(crate) fn until_clock(now: u64, at: u64) -> String {
    if at <= now { "now".to_owned() } else { format!("until {}", clock_and_span(now, at)) }
}

/// `17:06, in 76 s`, or `now` if the time has passed.
pub(crate) fn clock_and_span(now: u64, at: u64) -> String {
    if at <= now { "now".to_owned() } else { format!("{}, {}", day_and_clock(now, at), until(now, at)) }
}

/// `17:06`, in the local time zone.
pub(crate) fn clock(at: u64) -> String {
    local(at).strftime("%H:%M").to_string()
}

/// `17:06:31`, in the local time zone.
pub(crate) fn clock_with_seconds(at: u64) -> String {
    local(at).strftime("%H:%M:%S").to_string()
}

/// `Tue 24 Nov 2026`, in the local time zone.
pub(crate) fn day(at: u64) -> String {
    local(at).strftime("%a %-d %b %Y").to_string()
}

/// `2 h ago`, in whole units.
pub(crate) fn ago(now: u64, at: u64) -> String {
    let seconds = now.saturating_sub(at) / 1000;
    match seconds {
        0 => "just now".to_owned(),
        1..=99 => format!("{seconds} s ago"),
        100..=5_999 => format!("{} min ago", seconds / 60),
        6_000..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `2 h ago`, or `never`.
pub(crate) fn last(now: u64, at: Option<u64>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| ago(now, at))
}

/// `1 lease`, `2 leases`.
pub(crate) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// A reason or state with blanks instead of underscores.
pub(crate) fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// Why a provider refused, in words.
pub(crate) fn reason(name: &str) -> String {
    match name {
        "unknown" => "refusal without a reason".to_owned(),
        "rate_limit_exceeded" => "rate limit".to_owned(),
        other => spaced(other),
    }
}

/// The reason of an account that a request may not use, because of its set.
pub(crate) const NOT_IN_SET: &str = "not_in_set";

/// What keeps an account from serving a request: its state, or what is in the way of this request.
pub(crate) fn obstacle(name: &str) -> String {
    match name {
        "not_allowed" => "not for this agent".to_owned(),
        "busy" => "in use".to_owned(),
        "no_seat" => "without a seat for this host".to_owned(),
        "lacks_model" => "lacks the model".to_owned(),
        NOT_IN_SET => "not in the set".to_owned(),
        "excluded" => "excluded, or not suited to this request".to_owned(),
        other => spaced(other),
    }
}

/// A reason or state, short enough for a table.
pub(crate) fn short(name: &str) -> String {
    match name {
        "unknown" => "no reason given",
        "quota_exhausted" => "quota",
        "rate_limit_exceeded" => "rate limit",
        "model_capacity_exhausted" => "capacity",
        "auth_failed" | "forbidden" => "refused",
        "verification_required" => "verify",
        other => return spaced(other),
    }
    .to_owned()
}

/// `85 µs`, `1.2 ms`.
pub(crate) fn round_trip(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros < 1000 { format!("{micros} µs") } else { format!("{:.1} ms", duration.as_secs_f64() * 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1000;
    const MIN: u64 = 60 * S;
    const H: u64 = 60 * MIN;
    const D: u64 = 24 * H;

    #[test]
    fn a_refusal_without_a_reason_is_not_an_unknown_state() {
        for reason in crate::limits::Reason::ALL {
            for words in [super::reason(reason.name()), short(reason.name())] {
                assert!(!words.contains("unknown") && !words.contains('_'), "{words}");
            }
        }
    }

    #[test]
    fn times_are_shown_in_their_largest_unit() {
        let now = 100 * D;
        for (at, expected) in [
            (now, "now"),
            (now - H, "now"),
            (now + 1, "in 1 s"),
            (now + 4 * MIN, "in 4 min"),
            (now + 2 * H - 1, "in 2 h"),
            (now + 3 * D, "in 3 d"),
        ] {
            assert_eq!(until(now, at), expected);
        }
        for (at, expected) in [
            (now + H, "just now"),
            (now - 999, "just now"),
            (now - 99 * S, "99 s ago"),
            (now - 100 * S, "1 min ago"),
            (now - 2 * H, "2 h ago"),
            (now - 47 * H, "47 h ago"),
            (now - 3 * D - 23 * H, "3 d ago"),
        ] {
            assert_eq!(ago(now, at), expected);
        }
    }

    #[test]
    fn a_time_to_come_is_shown_as_clock_time_and_span() {
        // Thursday, 1 January 1970 was day 0
        let now = 333 * D + 17 * H + 5 * MIN;
        for (at, expected) in [
            (now - 1, "now"),
            (now, "now"),
            (now + 76 * S, "until 17:06, in 76 s"),
            (now + 6 * H, "until 23:05, in 6 h"),
            (now + 7 * H, "until Tue 00:05, in 7 h"),
            (now + 6 * D, "until Sun 17:05, in 6 d"),
            (now + 7 * D, "until 7 Dec 17:05, in 7 d"),
            (now + 40 * D, "until 9 Jan 1971, in 40 d"),
        ] {
            assert_eq!(until_clock(now, at), expected);
        }
        assert_eq!(day_and_clock(now, now - 20 * H), "Sun 21:05");
        assert_eq!(day_and_clock(now, now - 9 * D), "21 Nov 17:05");
        assert_eq!((clock(now + 59 * S), clock_with_seconds(now + 59 * S)), ("17:05".into(), "17:05:59".into()));
        assert!(until_clock(now, u64::MAX).starts_with("until 30 Dec 9999, in "), "no time is too late to show");
    }

    #[test]
    fn counts_durations_and_reasons_are_short() {
        assert_eq!((count(1, "lease"), count(0, "lease")), ("1 lease".into(), "0 leases".into()));
        assert_eq!(round_trip(Duration::from_micros(85)), "85 µs");
        assert_eq!(round_trip(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(short("quota_exhausted"), "quota");
        assert_eq!(short("out_of_credit"), "out of credit");
    }
}
