//! Instants as RFC 3339 writes them, in epoch milliseconds.

/// Reads `2026-03-04T05:06:07.089Z`; `None` when it is no such instant or before 1970.
#[must_use]
pub fn epoch_ms(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| -> Option<i64> {
        let digits = bytes.get(from..from + length)?;
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, letters: &[u8]| bytes.get(at).is_some_and(|byte| letters.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    // a leap second is written as the 60th, and counts as the next
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut end = 19;
    let mut millis = 0;
    if is(end, b".") {
        let digits = bytes[end + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let kept = digits.min(3);
        millis = number(end + 1, kept)? * 10_i64.pow(3 - u32::try_from(kept).ok()?);
        end += 1 + digits;
    }
    let offset = if is(end, b"Zz") && bytes.len() == end + 1 {
        0
    } else if is(end, b"+-") && is(end + 3, b":") && bytes.len() == end + 6 {
        let (hours, minutes) = (number(end + 1, 2)?, number(end + 4, 2)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = hours * 3600 + minutes * 60;
        if is(end, b"-") { -seconds } else { seconds }
    } else {
        return None;
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    u64::try_from(seconds * 1000 + millis).ok()
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01, counted in years that begin in March, so that a leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-03-04T05:06:07.089Z", Some(1_772_600_767_089)),
            ("2026-03-04T05:06:07.089123456Z", Some(1_772_600_767_089)),
            ("2026-03-04 07:36:07.5+02:30", Some(1_772_600_767_500)),
            ("2026-03-03t23:06:07-06:00", Some(1_772_600_767_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)),
            ("2025-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-03-04T24:00:00Z", None),
            ("2026-03-04T05:06:07", None),
            ("2026-03-04T05:06:07.Z", None),
            ("2026-03-04T05:06:07+0230", None),
            ("2026-03-04T05:06:07Zx", None),
            ("2026-03-04", None),
            ("2026-03-04T05:06:0é", None),
            ("", None),
        ] {
            assert_eq!(epoch_ms(text), expected, "{text}");
        }
    }
}
