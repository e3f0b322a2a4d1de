//! Instants as upstreams write them: RFC 3339, HTTP dates, seconds or milliseconds since the epoch.

/// Numbers from here on are milliseconds since the epoch (as seconds, this is the year 5138).
const MILLIS_FROM: f64 = 1e11;
/// Numbers from here on are seconds since the epoch (the year 2001); smaller ones are durations.
const SECONDS_FROM: f64 = 1e9;

/// A date and time of day in UTC.
pub(in crate::limits) struct Civil {
    pub(in crate::limits) year: i64,
    pub(in crate::limits) month: i64,
    pub(in crate::limits) day: i64,
    pub(in crate::limits) hour: i64,
    pub(in crate::limits) minute: i64,
    pub(in crate::limits) second: i64,
}

impl Civil {
    /// Seconds since the epoch; `None` for an invalid date or one before 1970.
    pub(in crate::limits) fn epoch_seconds(&self) -> Option<u64> {
        // a leap second is written as second 60, and read as the next second
        let clock = (0..24).contains(&self.hour) && (0..60).contains(&self.minute) && (0..=60).contains(&self.second);
        if !clock || !(1..=12).contains(&self.month) || !(1..=days_of(self.year, self.month)).contains(&self.day) {
            return None;
        }
        let seconds =
            days(self.year, self.month, self.day) * 86_400 + self.hour * 3600 + self.minute * 60 + self.second;
        u64::try_from(seconds).ok()
    }
}

/// Reads an instant in any of the forms, in epoch ms, rounded up. Numbers below 10⁹ are not instants.
#[must_use]
pub fn epoch_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(number) = plain_number(text) {
        return of_number(number);
    }
    rfc3339(text).or_else(|| http_date(text))
}

/// Reads an RFC 3339 instant and no other form, in epoch ms, rounded up. Without a zone it is read as UTC.
#[must_use]
pub fn rfc3339(text: &str) -> Option<u64> {
    leading(text).filter(|(_, length)| *length == text.len()).map(|(at, _)| at)
}

/// Reads an HTTP date in any of the three forms of RFC 9110 §5.6.7. More lenient than the RFC: any case, other names
/// for GMT, and a weekday that does not match the date. A year of two digits is between 1970 and 2069.
fn http_date(text: &str) -> Option<u64> {
    if text.len() > 64 {
        return None;
    }
    let words: Vec<&str> = text.split([' ', ',', '-', '\t']).filter(|word| !word.is_empty()).take(8).collect();
    let is_weekday = |word: &str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_utc = |zone: &str| ["GMT", "UTC", "UT", "Z", "+0000"].iter().any(|known| zone.eq_ignore_ascii_case(known));
    let (day, month, year, time) = match *words {
        [weekday, day, month, year, time, zone] if is_weekday(weekday) && is_utc(zone) => (day, month, year, time),
        // asctime, which names no zone and means GMT
        [weekday, month, day, time, year] if is_weekday(weekday) => (day, month, year, time),
        _ => return None,
    };
    let number = |text: &str, length: usize| digits(text.as_bytes(), 0, length).filter(|_| text.len() == length);
    let year = number(year, 4).or_else(|| number(year, 2).map(|year| year + if year < 70 { 2000 } else { 1900 }))?;
    let day = number(day, 2).or_else(|| number(day, 1))?;
    let [hour, minute, second] = *time.split(':').map(|part| number(part, 2)).collect::<Option<Vec<_>>>()? else {
        return None;
    };
    Civil { year, month: month_number(month)?, day, hour, minute, second }.epoch_seconds()?.checked_mul(1000)
}

/// The number of a month, by the first three letters of its name.
fn month_number(name: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let at = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))?;
    i64::try_from(at + 1).ok()
}

/// Digits with an optional fraction, as a number.
pub(in crate::limits) fn plain_number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// A number as an instant, in epoch ms.
pub(in crate::limits) fn of_number(number: f64) -> Option<u64> {
    let millis = match number {
        n if n >= MILLIS_FROM => n,
        n if n >= SECONDS_FROM => n * 1000.0,
        _ => return None,
    };
    // milliseconds beyond the year 5138 are not an instant
    // floats are inexact: their error must not be rounded up
    (millis < MILLIS_FROM * 1000.0).then_some(((millis * 100.0).round() / 100.0).ceil() as u64)
}

/// Reads the RFC 3339 instant at the beginning of `text`, in epoch ms, and its length in bytes. Also accepted: a blank
/// or
/// ` at ` for the `T`, no seconds, ` UTC` for the zone, and no zone, which means UTC.
pub(in crate::limits) fn leading(text: &str) -> Option<(u64, usize)> {
    let bytes = text.as_bytes();
    let is = |at: usize, letter: u8| bytes.get(at) == Some(&letter);
    if !(is(4, b'-') && is(7, b'-')) {
        return None;
    }
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let mut at = match bytes.get(10..)? {
        [b'T' | b't' | b' ', b'0'..=b'9', ..] => 11,
        [b' ', b'a', b't', b' ', ..] => 14,
        _ => return None,
    };
    if !is(at + 2, b':') {
        return None;
    }
    let (hour, minute) = (digits(bytes, at, 2)?, digits(bytes, at + 3, 2)?);
    at += 5;
    let (mut second, mut millis) = (0, 0);
    if is(at, b':') {
        second = digits(bytes, at + 1, 2)?;
        at += 3;
        let (fraction, length) = fraction(&bytes[at..]);
        millis = fraction;
        at += length;
    }
    let (offset, length) = zone(&bytes[at..])?;
    let seconds = Civil { year, month, day, hour, minute, second }.epoch_seconds()?;
    let seconds = seconds.checked_add_signed(-offset)?;
    Some((seconds * 1000 + millis, at + length))
}

fn digits(bytes: &[u8], from: usize, length: usize) -> Option<i64> {
    let digits = bytes.get(from..from + length)?;
    digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
}

/// The milliseconds of a fraction such as `.123`, rounded up, and its length in bytes.
fn fraction(bytes: &[u8]) -> (u64, usize) {
    let [b'.', rest @ ..] = bytes else { return (0, 0) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return (0, 0);
    }
    let digit = |at: usize| if at < length { u64::from(rest[at] - b'0') } else { 0 };
    let lost = rest[..length].iter().skip(3).any(|digit| *digit != b'0');
    (digit(0) * 100 + digit(1) * 10 + digit(2) + u64::from(lost), length + 1)
}

/// The seconds east of UTC, and the zone's length in bytes.
fn zone(bytes: &[u8]) -> Option<(i64, usize)> {
    match bytes {
        [b'Z' | b'z', ..] => Some((0, 1)),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let colon = usize::from(rest.get(2) == Some(&b':'));
            let (hours, minutes) = (digits(rest, 0, 2)?, digits(rest, 2 + colon, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some((if *sign == b'-' { -seconds } else { seconds }, 5 + colon))
        }
        [b' ', rest @ ..]
            if rest.len() >= 3 && ["UTC", "GMT"].iter().any(|name| rest[..3].eq_ignore_ascii_case(name.as_bytes())) =>
        {
            Some((0, 4))
        }
        _ => Some((0, 0)),
    }
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
    fn rfc_3339_instants_and_no_other_form() {
        for (expected, texts) in [
            (Some(1_772_600_767_089), "2026-03-04T05:06:07.089Z"),
            (Some(1_772_600_767_500), "2026-03-04 07:36:07.5+02:30"),
            (Some(1_772_600_767_000), "2026-03-03t23:06:07-06:00"),
            (Some(1_709_164_800_000), "2024-02-29T00:00:00Z"),
            (Some(1_483_228_800_000), "2016-12-31T23:59:60Z"),
            (
                None,
                "2025-02-29T00:00:00Z | 2100-02-29T00:00:00Z | 1969-12-31T23:59:59Z | \
                 2026-13-01T00:00:00Z | 2026-03-04T24:00:00Z | 2026-03-04T05:06:07.Z | \
                 2026-03-04T05:06:07Zx | 2026-03-04 | 2026-03-04T05:06:0é | 1790000000 | \
                 Mon, 21 Sep 2026 14:13:20 GMT | ",
            ),
        ] {
            for text in texts.split('|').map(str::trim) {
                assert_eq!(rfc3339(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn instants_in_every_form() {
        for (expected, texts) in [
            (Some(0), "1970-01-01T00:00:00Z"),
            (
                Some(1_790_000_000_000),
                "2026-09-21T14:13:20Z | 2026-09-21t14:13:20z | 2026-09-21 14:13:20 UTC | \
                 2026-09-21T14:13:20 | 2026-09-21T16:13:20+02:00 | 2026-09-21T07:13:20-0700 | \
                 Mon, 21 Sep 2026 14:13:20 GMT | 1790000000 | 1790000000000",
            ),
            (Some(1_790_000_000_500), "2026-09-21T14:13:20.5Z"),
            (Some(1_790_000_000_001), "2026-09-21T14:13:20.000000001Z | 1790000000.001"),
            (Some(1_789_999_980_000), "2026-09-21T14:13Z | 2026-09-21 at 14:13 UTC"),
            (Some(1_790_000_000_250), "1790000000.25"),
            (Some(1_790_000_000_100), "1790000000.1"),
            (Some(1_709_164_800_000), "2024-02-29T00:00:00Z"),
            (Some(1_483_228_800_000), "2016-12-31T23:59:60Z"),
            (
                None,
                "2025-02-29T00:00:00Z | 1969-12-31T23:59:59Z | 2026-13-01T00:00:00Z | \
                 2026-09-21T24:00:00Z | 2026-09-21T14:13:20Zx | 2026-09-21 | 999999999 | 1e12 | \
                 -1790000000 | 99999999999999999999 | NaN | 2026-09-21T14:13:2é | ",
            ),
        ] {
            for text in texts.split('|').map(str::trim) {
                assert_eq!(epoch_ms(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn http_dates_in_all_three_forms() {
        for (expected, texts) in [
            (
                Some(1_790_000_000_000),
                "Mon, 21 Sep 2026 14:13:20 GMT | Mon, 21 Sep 2026 14:13:20 UTC | \
                 mon, 21 sep 2026 14:13:20 gmt | Monday, 21-Sep-26 14:13:20 GMT | \
                 Mon Sep 21 14:13:20 2026",
            ),
            (Some(1_788_272_000_000), "Mon Sep  1 14:13:20 2026"),
            (
                Some(784_111_777_000),
                "Sun, 06 Nov 1994 08:49:37 GMT | Sunday, 06-Nov-94 08:49:37 GMT | \
                 Sun Nov  6 08:49:37 1994",
            ),
            (
                None,
                "Mon, 21 Sep 2026 14:13:20 | Mon, 21 Sep 2026 14:13:20 CET | \
                 Mon, 31 Feb 2026 14:13:20 GMT | Mon, 21 Sep 2026 25:13:20 GMT | \
                 Mon, 21 Sep 2026 14:13 GMT | Mon, 21 Foo 2026 14:13:20 GMT | \
                 21 Sep 2026 14:13:20 GMT | 120 | ",
            ),
        ] {
            for text in texts.split('|').map(str::trim) {
                assert_eq!(http_date(text), expected, "{text}");
            }
        }
    }
}
