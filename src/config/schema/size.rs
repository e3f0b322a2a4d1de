//! Sizes in bytes as users write them: `64KiB`, `32MiB`, `10MB`.

use super::units::{self, MeasureUnit};

/// Units from the largest down, in bytes.
const UNITS: [MeasureUnit; 9] = [
    MeasureUnit { name: "TiB", size: 1 << 40 },
    MeasureUnit { name: "TB", size: 1_000_000_000_000 },
    MeasureUnit { name: "GiB", size: 1 << 30 },
    MeasureUnit { name: "GB", size: 1_000_000_000 },
    MeasureUnit { name: "MiB", size: 1 << 20 },
    MeasureUnit { name: "MB", size: 1_000_000 },
    MeasureUnit { name: "KiB", size: 1 << 10 },
    MeasureUnit { name: "kB", size: 1_000 },
    MeasureUnit { name: "B", size: 1 },
];

/// What a size looks like, for messages.
pub const ALLOWED: &str = "a size such as 64KiB, 10MB, 32MiB or 1GiB";

/// Reads a size in bytes; the error says what is wrong with the text.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("a number without a unit; write {text}MiB or {text}KiB"));
    }
    // Both spellings, KB and kB, are in use.
    let kilobytes = text.strip_suffix("KB").map(|number| format!("{number}kB"));
    let bytes = units::parse(kilobytes.as_deref().unwrap_or(text), &UNITS)?;
    u64::try_from(bytes).map_err(|_| "too large".to_owned())
}

/// Writes a size as its shortest exact text.
pub fn format(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    // Every number is a multiple of the last unit, so there is always a text.
    UNITS
        .iter()
        .filter(|unit| u128::from(bytes).is_multiple_of(unit.size))
        .map(|unit| format!("{}{}", u128::from(bytes) / unit.size, unit.name))
        .min_by_key(String::len)
        .unwrap_or_else(|| format!("{bytes}B"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepted_forms() {
        let [kib, mib, gib] = [1 << 10, 1 << 20, 1 << 30];
        let texts = "32MiB 256MiB 1GiB 64KiB 10MB 5KB 5kB 7B 1.5GiB 0B".split(' ');
        let bytes = [32 * mib, 256 * mib, gib, 64 * kib, 10_000_000, 5_000, 5_000, 7, 3 * gib / 2, 0];
        for (text, bytes) in texts.zip(bytes) {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(parse("0"), Ok(0), "zero needs no unit");
        for (text, part) in [
            ("32", "write 32MiB or 32KiB"),
            ("", "empty"),
            ("-1MiB", "negative"),
            ("1M", "unknown unit `M`"),
            ("NaNMiB", "a number first"),
            ("99999999999TiB", "too large"),
            ("0.3B", "more precise than"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn formats_the_shortest_exact_text() {
        assert_eq!(format(32 << 20), "32MiB");
        assert_eq!(format(10_000_000), "10MB");
        assert_eq!(format(1), "1B");
        assert_eq!(format(0), "0B");
    }

    proptest! {
        #[test]
        fn formatted_text_parses_to_the_same_value(bytes: u64) {
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
