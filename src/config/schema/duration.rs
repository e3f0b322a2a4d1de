//! Durations as users write them: `10m`, `1h30m`, `1.5h`, `500ms`.

use std::time::Duration;

use super::units::{self, MeasureUnit};

/// Units from the largest down, in nanoseconds.
const UNITS: [MeasureUnit; 7] = [
    MeasureUnit { name: "d", size: 86_400_000_000_000 },
    MeasureUnit { name: "h", size: 3_600_000_000_000 },
    MeasureUnit { name: "m", size: 60_000_000_000 },
    MeasureUnit { name: "s", size: 1_000_000_000 },
    MeasureUnit { name: "ms", size: 1_000_000 },
    MeasureUnit { name: "us", size: 1_000 },
    MeasureUnit { name: "ns", size: 1 },
];

/// The longest duration; a hundred years do not overflow sums with a clock.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// What a duration looks like, for messages.
pub const ALLOWED: &str = "a duration such as 500ms, 30s, 10m, 1h30m or 2d";

/// Reads a duration; the error says what is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("a number without a unit; write {text}s or {text}m"));
    }
    let nanos = units::parse(text, &UNITS)?;
    if nanos > LONGEST.as_nanos() {
        return Err("longer than 36500d".to_owned());
    }
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    // At most LONGEST, so both parts fit.
    Ok(Duration::new(seconds as u64, rest as u32))
}

/// Writes a duration as its shortest exact text: `90m`, `1d`, `1h1s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut mixed = String::new();
    let mut rest = nanos;
    for unit in &UNITS {
        if rest >= unit.size {
            mixed.push_str(&format!("{}{}", rest / unit.size, unit.name));
            rest %= unit.size;
        }
    }
    units::single(nanos, &UNITS).filter(|single| single.len() <= mixed.len()).unwrap_or(mixed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepted_forms() {
        let cases = "10m=600_000 1h30m=5_400_000 2s=2_000 500ms=500 1.5h=5_400_000 2d=172_800_000 0s=0 \
            1d2h3m4s5ms=93_784_005 0.25s=250 90m=5_400_000 36500d=3_153_600_000_000";
        for (text, millis) in cases.split(' ').map(|case| case.split_once('=').unwrap()) {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis.replace('_', "").parse().unwrap())), "{text}");
        }
        assert_eq!(parse("0"), Ok(Duration::ZERO), "zero needs no unit");
        assert_eq!(parse(" 1m "), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("10", "write 10s or 10m"),
            ("1.5", "write 1.5s or 1.5m"),
            ("-5m", "negative"),
            ("NaN", "a number first"),
            ("nan s", "a number first"),
            ("inf", "a number first"),
            ("5 m", "unit"),
            ("5w", "unknown unit `w`"),
            ("5M", "unknown unit `M`"),
            ("1m1h", "largest unit first"),
            ("1m1m", "largest unit first"),
            ("1.5h30m", "a fraction is only allowed"),
            ("1h1.5m", "a fraction is only allowed"),
            ("1.s", "digits after the point"),
            ("0.0000000001s", "more precise than"),
            ("36501d", "longer than"),
            ("99999999999999999999999999999999999999999d", "too large"),
            ("340282366920938463463374607431768211455d", "too large"),
            ("1h30", "unit"),
            ("1e3s", "unknown unit `e`"),
            ("٣s", "a number first"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn formats_the_shortest_exact_text() {
        let cases = "0=0s 60_000=1m 5_400_000=90m 86_400_000=1d 500=500ms 1_500=1500ms 3_601_000=1h1s 3_661_000=3661s \
            7_200_000=2h 600_000=10m";
        for (millis, text) in cases.split(' ').map(|case| case.split_once('=').unwrap()) {
            assert_eq!(format(Duration::from_millis(millis.replace('_', "").parse().unwrap())), text);
        }
        assert_eq!(format(Duration::from_nanos(1_000_000_001)), "1s1ns");
    }

    proptest! {
        #[test]
        fn formatted_text_parses_to_the_same_value(nanos in 0u64..=u64::MAX / 8) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
