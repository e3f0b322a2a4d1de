//! Exact numbers with units: the common part of durations and sizes.
pub(in crate::config) struct MeasureUnit {
    /// How it is written.
    pub(in crate::config) name: &'static str,
    /// How many of the smallest unit it is.
    pub(in crate::config) size: u128,
}

/// Reads numbers with units, the largest unit first, into the smallest unit.
pub(in crate::config) fn parse(text: &str, units: &[MeasureUnit]) -> Result<u128, String> {
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.starts_with('-') {
        return Err("negative".to_owned());
    }
    let mut total: u128 = 0;
    let mut rest = text;
    let mut next_unit = 0;
    let mut fraction_seen = false;
    let mut parts = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        if number.is_empty() {
            return Err("no number before the unit; write a number first, then its unit".to_owned());
        }
        let (name, after) = split(after, char::is_alphabetic);
        if name.is_empty() {
            return Err(format!("`{number}` has no unit; units are {}", names(units)));
        }
        let Some(at) = units.iter().position(|unit| unit.name == name) else {
            return Err(format!("unknown unit `{}`; units are {}", shorten(name), names(units)));
        };
        if at < next_unit {
            return Err("units out of order; largest unit first, each once".to_owned());
        }
        next_unit = at + 1;
        parts += 1;
        fraction_seen |= number.contains('.');
        if fraction_seen && parts > 1 {
            return Err("a fraction is only allowed in a single part, as in 1.5h".to_owned());
        }
        let amount = scaled(number, units[at].size)?;
        total = total.checked_add(amount).ok_or_else(too_large)?;
        rest = after;
    }
    Ok(total)
}

/// The whole amount in the largest unit that divides it.
pub(in crate::config) fn single(amount: u128, units: &[MeasureUnit]) -> Option<String> {
    let unit = units.iter().find(|unit| amount.is_multiple_of(unit.size))?;
    Some(format!("{}{}", amount / unit.size, unit.name))
}

/// A decimal number of units in smallest units, or why it is not exact.
fn scaled(number: &str, size: u128) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(format!("`{}` is not a number; digits before and digits after the point", shorten(number)));
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u128>().map_err(|_| too_large()) };
    let whole = digits(whole)?.checked_mul(size).ok_or_else(too_large)?;
    let power = u32::try_from(fraction.len()).ok().and_then(|n| 10u128.checked_pow(n)).ok_or_else(too_fine)?;
    let part = digits(fraction)?.checked_mul(size).ok_or_else(too_fine)?;
    if !part.is_multiple_of(power) {
        return Err(too_fine());
    }
    whole.checked_add(part / power).ok_or_else(too_large)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn names(units: &[MeasureUnit]) -> String {
    units.iter().map(|unit| unit.name).collect::<Vec<_>>().join(", ")
}

fn shorten(text: &str) -> String {
    text.chars().take(12).collect()
}

fn too_large() -> String {
    "too large".to_owned()
}

fn too_fine() -> String {
    "more precise than the smallest unit".to_owned()
}
