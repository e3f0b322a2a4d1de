//! Durations as upstreams write them: `34.07s`, `1h16m0.667s`, `6m0s`, `900ms`, `PT1M30S`, `2 minutes and 5 seconds`.

use std::time::Duration;

/// Longer durations are implausible, and would overflow sums.
const LONGEST: u128 = 36_500 * DAY;
const SECOND: u128 = 1_000_000_000;
const DAY: u128 = 86_400 * SECOND;
/// More digits before the point are rejected.
const MOST_DIGITS: usize = 15;
/// Longer texts are rejected.
const LONGEST_TEXT: usize = 80;

/// A decimal number, exact to nine digits and rounded up beyond.
#[derive(Clone, Copy)]
struct Number {
    whole: u128,
    billionths: u128,
}

/// A duration at the beginning of a text.
pub(in crate::limits) struct Leading {
    pub(in crate::limits) duration: Duration,
    /// Its length in bytes.
    pub(in crate::limits) length: usize,
}

/// Reads a text that is one duration; a number alone means seconds. `None` for other texts and for durations that are
/// negative or too long.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_TEXT {
        return None;
    }
    if text.starts_with(['P', 'p']) {
        return iso(text);
    }
    if let Some((number, length)) = number(text)
        && length == text.len()
    {
        return span(number.times(SECOND));
    }
    let found = leading(text)?;
    (found.length == text.len()).then_some(found.duration)
}

/// Reads the longest duration with units that `text` begins with.
pub(in crate::limits) fn leading(text: &str) -> Option<Leading> {
    let (mut at, mut sum, mut end) = (0, 0_u128, 0);
    while at < text.len().min(LONGEST_TEXT) {
        let Some((number, digits)) = number(&text[at..]) else { break };
        let unit_at = at + digits + blanks(&text[at + digits..]);
        let word = word(&text[unit_at..]);
        let Some(size) = unit(word) else { break };
        sum = sum.checked_add(number.times(size))?;
        end = unit_at + word.len();
        at = end + joint(&text[end..]);
    }
    (end > 0).then_some(())?;
    span(sum).map(|duration| Leading { duration, length: end })
}

/// Reads a unit without a number, as in "in an hour".
pub(in crate::limits) fn one_unit(text: &str) -> Option<Duration> {
    unit(word(text)).and_then(span)
}

/// Nanoseconds as a duration, unless too long.
fn span(nanos: u128) -> Option<Duration> {
    if nanos > LONGEST {
        return None;
    }
    Some(Duration::new(u64::try_from(nanos / SECOND).ok()?, u32::try_from(nanos % SECOND).ok()?))
}

/// Reads digits with an optional fraction and no sign.
fn number(text: &str) -> Option<(Number, usize)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    if whole > MOST_DIGITS {
        return None;
    }
    let fraction = if bytes.get(whole) == Some(&b'.') { digits(whole + 1) } else { 0 };
    if whole + fraction == 0 {
        return None;
    }
    let value = |digits: &[u8]| digits.iter().fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let mut number = Number { whole: value(&bytes[..whole]), billionths: 0 };
    if fraction == 0 {
        return Some((number, whole));
    }
    let digits = &bytes[whole + 1..whole + 1 + fraction];
    let kept = &digits[..fraction.min(9)];
    let scale = 10_u128.pow(9 - u32::try_from(kept.len()).ok()?);
    let lost = digits[kept.len()..].iter().any(|digit| *digit != b'0');
    number.billionths = value(kept) * scale + u128::from(lost);
    Some((number, whole + 1 + fraction))
}

impl Number {
    /// In units of `size` nanoseconds, rounded up.
    fn times(self, size: u128) -> u128 {
        self.whole * size + (self.billionths * size).div_ceil(SECOND)
    }
}

/// The names of each unit, and its nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("s sec secs second seconds", SECOND),
    ("ms msec msecs millis millisecond milliseconds", 1_000_000),
    ("m min mins minute minutes", 60 * SECOND),
    ("h hr hrs hour hours", 3600 * SECOND),
    ("d day days", DAY),
    ("w wk week weeks", 7 * DAY),
    ("us µs μs", 1_000),
    ("ns", 1),
];

fn unit(word: &str) -> Option<u128> {
    let is = |names: &str| names.split(' ').any(|name| word.eq_ignore_ascii_case(name));
    UNITS.iter().find(|(names, _)| is(names)).map(|(_, size)| *size)
}

/// The letters that `text` begins with.
fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphabetic()).unwrap_or(text.len());
    &text[..end]
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t', '\u{a0}']).len()
}

/// The length of a separator between two parts: blanks, a comma, "and".
fn joint(text: &str) -> usize {
    let mut rest = text.trim_start_matches([' ', ',', '\t', '\u{a0}']);
    if let Some(after) = rest.strip_prefix("and ") {
        rest = after.trim_start_matches(' ');
    }
    text.len() - rest.len()
}

/// ISO 8601: weeks, days, hours, minutes and seconds; years and months have no length.
fn iso(text: &str) -> Option<Duration> {
    let mut rest = &text[1..];
    let (mut sum, mut in_time, mut least) = (0_u128, false, u128::MAX);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']).filter(|after| !in_time && !after.is_empty()) {
            (rest, in_time) = (after, true);
            continue;
        }
        let (number, digits) = number(rest)?;
        let size = match (rest.as_bytes().get(digits)?.to_ascii_uppercase(), in_time) {
            (b'W', false) => 7 * DAY,
            (b'D', false) => DAY,
            (b'H', true) => 3600 * SECOND,
            (b'M', true) => 60 * SECOND,
            (b'S', true) => SECOND,
            _ => return None,
        };
        // from the largest down, each once
        if size >= least {
            return None;
        }
        least = size;
        sum += number.times(size);
        rest = &rest[digits + 1..];
    }
    span(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_form_that_upstreams_write() {
        // in microseconds, rounded up
        let cases = "
            42s = 42_000_000; 34.07s = 34_070_000; 51820.6s = 51_820_600_000; 900ms = 900_000;
            500ms = 500_000; 510.790006ms = 510_791; 1h16m0.667s = 4_560_667_000; 2h7m23.5s = 7_643_500_000;
            3h22m15s = 12_135_000_000; 6m0s = 360_000_000; 1m30s = 90_000_000; 12ms = 12_000; 0s = 0;
            1.5h = 5_400_000_000; 1d = 86_400_000_000; 1d2h3m4s5ms = 93_784_005_000; 13h = 46_800_000_000;
            7 = 7_000_000; 12.3 = 12_300_000; 0.0000001 = 1; .5s = 500_000; 1H16M = 4_560_000_000;
            30 seconds = 30_000_000; 2 minutes and 5 seconds = 125_000_000;
            1 hour, 5 minutes = 3_900_000_000; 1 week = 604_800_000_000; 250us = 250; 250µs = 250; 1ns = 1;
            PT30S = 30_000_000; PT1M30.5S = 90_500_000; P1DT2H = 93_600_000_000; P1W = 604_800_000_000";
        for (text, micros) in cases.split(';').map(|case| case.split_once('=').unwrap()) {
            let nanos = parse(text).unwrap_or_else(|| panic!("{text}")).as_nanos();
            assert_eq!(nanos.div_ceil(1000).to_string(), micros.trim().replace('_', ""), "{text}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn texts_that_are_not_durations() {
        for text in [
            "", " ", "bad", "-5s", "-3", "+3", "NaN", "inf", "Infinity", "1e3", "1e9s", "s", "5x", "1000 messages",
            "5s later", "5 s x", "1.2.3s", "5..s", "٣s", "P", "PT", "P1Y", "P1M", "PT1M1H", "PT1S1S", "PT5", "P5S",
            "1,5s", "0x10", "36501d", "9999999999999999s", "99999999999999999999999999999999999999", "5s-", "s5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"1s".repeat(100)), None);
    }

    #[test]
    fn a_duration_at_the_beginning_of_a_text() {
        for (text, expected) in [
            ("2h7m23s. more", Some((7_643, 7))),
            ("99 seconds", Some((99, 10))),
            ("5 minutes and 30 seconds left", Some((330, 24))),
            ("5 minutes and so on", Some((300, 9))),
            ("5m 10 messages", Some((300, 2))),
            ("1000 messages", None),
            ("30", None),
            ("3pm", None),
        ] {
            let found = leading(text).map(|found| (found.duration.as_secs(), found.length));
            assert_eq!(found, expected, "{text}");
        }
    }
}
