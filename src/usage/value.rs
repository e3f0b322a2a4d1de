//! Reading values that may be missing, null, or of an unexpected type.

use serde_json::Value;

use crate::{limits, pool::Wall};

/// The longest text that is kept.
const LONGEST: usize = 128;

/// Parses a response that is a JSON object.
pub(super) fn document(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(Value::is_object)
}

/// A finite number, as a JSON number or as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// A percentage as a fraction; it may exceed 1, but is not negative.
pub(super) fn percent(value: &Value) -> Option<f64> {
    number(value).map(|number| (number / 100.0).max(0.0))
}

/// The used fraction, from the remaining one.
pub(super) fn used_of_remaining(value: &Value) -> Option<f64> {
    number(value).map(|remaining| (1.0 - remaining).clamp(0.0, 1.0))
}

/// A time: ISO 8601 text, or a number of seconds or milliseconds.
pub(super) fn instant(value: &Value) -> Option<Wall> {
    match value {
        Value::String(text) => limits::epoch_ms(text).map(Wall),
        Value::Number(number) => limits::epoch_ms(&number.to_string()).map(Wall),
        _ => None,
    }
}

/// A short text in a single line.
pub(super) fn text(value: &Value) -> Option<&str> {
    let text = value.as_str()?.trim();
    (!text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)).then_some(text)
}
