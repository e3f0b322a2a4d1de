//! Dates as HTTP writes them, in all three forms of RFC 9110 §5.6.7.

use super::instant::{Civil, month};

/// Reads `Mon, 21 Sep 2026 14:13:20 GMT`, `Monday, 21-Sep-26 14:13:20 GMT` or `Mon Sep 21 14:13:20 2026`, in epoch
/// ms. A year of two digits is the one within fifty years of `now`. The day of the week is not checked.
pub(super) fn epoch_ms(text: &str, now: u64) -> Option<u64> {
    if text.len() > 64 {
        return None;
    }
    let words: Vec<&str> = text.split([' ', ',', '-', '\t']).filter(|word| !word.is_empty()).take(8).collect();
    let (weekday, rest) = words.split_first()?;
    if !weekday.chars().all(|letter| letter.is_ascii_alphabetic()) || weekday.len() < 3 {
        return None;
    }
    let (day, month_name, year, time) = match rest {
        [day, month, year, time, zone] if is_utc(zone) => (day, month, year, time),
        // asctime, which names no zone and means GMT
        [month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let (hour, minute, second) = clock(time)?;
    Civil { year: full_year(year, now)?, month: month(month_name)?, day: digits(day, 1, 2)?, hour, minute, second }
        .epoch_seconds()
        .and_then(|seconds| seconds.checked_mul(1000))
}

fn is_utc(zone: &str) -> bool {
    ["GMT", "UTC", "UT", "Z", "+0000"].iter().any(|known| zone.eq_ignore_ascii_case(known))
}

fn clock(text: &str) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(':');
    let clock = (digits(parts.next()?, 2, 2)?, digits(parts.next()?, 2, 2)?, digits(parts.next()?, 2, 2)?);
    parts.next().is_none().then_some(clock)
}

fn full_year(text: &str, now: u64) -> Option<i64> {
    if text.len() != 2 {
        return digits(text, 4, 4);
    }
    // close enough to tell which century is meant
    let this = 1970 + i64::try_from(now / 31_556_952_000).ok()?;
    let year = this - this.rem_euclid(100) + digits(text, 2, 2)?;
    Some(if year > this + 50 { year - 100 } else { year })
}

fn digits(text: &str, least: usize, most: usize) -> Option<i64> {
    let fits = (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_789_997_600_000;

    #[test]
    fn all_three_forms() {
        for (text, expected) in [
            ("Mon, 21 Sep 2026 14:13:20 GMT", Some(1_790_000_000_000)),
            ("Mon, 21 Sep 2026 14:13:20 UTC", Some(1_790_000_000_000)),
            ("mon, 21 sep 2026 14:13:20 gmt", Some(1_790_000_000_000)),
            ("Monday, 21-Sep-26 14:13:20 GMT", Some(1_790_000_000_000)),
            ("Mon Sep 21 14:13:20 2026", Some(1_790_000_000_000)),
            ("Mon Sep  1 14:13:20 2026", Some(1_788_272_000_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777_000)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777_000)),
            ("Mon, 21 Sep 2026 14:13:20", None),
            ("Mon, 21 Sep 2026 14:13:20 CET", None),
            ("Mon, 31 Feb 2026 14:13:20 GMT", None),
            ("Mon, 21 Sep 2026 25:13:20 GMT", None),
            ("Mon, 21 Sep 2026 14:13 GMT", None),
            ("Mon, 21 Foo 2026 14:13:20 GMT", None),
            ("21 Sep 2026 14:13:20 GMT", None),
            ("120", None),
            ("", None),
        ] {
            assert_eq!(epoch_ms(text, NOW), expected, "{text}");
        }
    }
}
