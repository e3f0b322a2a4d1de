//! Reads a body of any shape. Known shapes: an `error` object or text, alone or in a list, at the top or within a
//! `response`; `errors`; `detail`; errors written into the text of other errors; an event stream; a page; nothing.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Number, Value};

use super::error_body::{ErrorBody, MOST_TEXT, beginning};
use super::google::{self, MOST_ELEMENTS};
use super::{codes, embedded, json, page, stream};
use crate::limits::response::MAX_BODY;
use crate::limits::time::{When, duration, instant};

/// Errors nested in errors beyond this depth are ignored.
const DEEPEST: usize = 8;

impl ErrorBody {
    pub(in crate::limits) fn read(bytes: &[u8]) -> Self {
        let text = text_of(bytes);
        let text = trimmed(&text);
        match document(text).or_else(|| stream::first_error(text)) {
            Some(document) => Self::of_document(document),
            None => Self::of_text(text),
        }
    }

    /// Reads the body of a 2xx response if it is an error or an event stream that contains one.
    pub(in crate::limits) fn read_failure(bytes: &[u8]) -> Option<Self> {
        if !stream::may_be_error(&bytes[..bytes.len().min(MAX_BODY)]) {
            return None;
        }
        let text = text_of(bytes);
        let text = trimmed(&text);
        let found = match document(text) {
            Some(document) => Some(document).filter(stream::is_error),
            None => stream::first_error(text),
        };
        found.map(Self::of_document)
    }

    fn of_document(document: Value) -> Self {
        let mut body = Self::default();
        body.envelope(&document, 0);
        body.waits.sort_by_key(|wait| wait.rank);
        if body.text.is_empty() && body.codes.is_empty() {
            // an unknown shape may still contain prose
            body.add_text(&document.to_string());
        }
        body.add_document(document);
        body
    }

    fn of_text(text: &str) -> Self {
        let mut body = Self { is_page: page::is_page(text), ..Self::default() };
        if text.starts_with('<') {
            body.add_text(text);
            body.message = title(text);
        } else {
            body.words(text, 0);
            body.waits.sort_by_key(|wait| wait.rank);
        }
        body
    }

    /// Reads what an error is wrapped in.
    fn envelope(&mut self, document: &Value, depth: usize) {
        match document {
            Value::String(text) => self.words(text, depth),
            Value::Array(list) => list.iter().take(MOST_ELEMENTS).for_each(|one| self.envelope(one, depth + 1)),
            Value::Object(object) if depth <= DEEPEST => {
                let response = object.get("response").filter(|response| response.is_object());
                if let Some(response) = response {
                    self.envelope(response, depth + 1);
                }
                self.error(object, depth);
            }
            _ => {}
        }
    }

    /// Reads an error object, or an object that contains one.
    pub(super) fn error(&mut self, object: &Map<String, Value>, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for key in ["error", "message", "msg", "error_message", "error_description", "detail", "status_msg", "title"] {
            match object.get(key) {
                Some(Value::String(text)) => {
                    if key == "error" && !text.contains(' ') {
                        self.add_code(&Value::String(text.clone()));
                    }
                    self.words(text, depth);
                }
                Some(Value::Object(inner)) => self.error(inner, depth + 1),
                _ => {}
            }
        }
        for key in [
            "code",
            "type",
            "status",
            "reason",
            "error_type",
            "error_code",
            "errorCode",
            "__type",
            "status_code",
            "statusCode",
        ] {
            object.get(key).into_iter().for_each(|code| self.add_code(code));
        }
        for key in ["details", "errors"] {
            match object.get(key) {
                Some(Value::String(text)) => self.words(text, depth),
                Some(Value::Object(inner)) => self.error(inner, depth + 1),
                Some(Value::Array(list)) => {
                    for inner in list.iter().take(MOST_ELEMENTS).filter_map(Value::as_object) {
                        google::detail(self, inner);
                        self.error(inner, depth + 1);
                    }
                }
                _ => {}
            }
        }
        for key in ["metadata", "innererror", "base_resp"] {
            if let Some(Value::Object(inner)) = object.get(key) {
                self.passed_on(inner, depth);
                self.error(inner, depth + 1);
            }
        }
        self.headers_of(object);
        self.times(object);
    }

    /// Reads what a router reports about its own upstream.
    fn passed_on(&mut self, metadata: &Map<String, Value>, depth: usize) {
        if let Some(Value::String(raw)) = metadata.get("raw") {
            self.words(raw, depth);
        }
    }

    /// Reads the headers that an object states.
    fn headers_of(&mut self, object: &Map<String, Value>) {
        let Some(Value::Object(headers)) = object.get("headers") else { return };
        for (name, value) in headers {
            let value = value.as_array().and_then(|values| values.first()).unwrap_or(value);
            match value {
                Value::String(value) => self.headers.add(name, value.as_bytes()),
                Value::Number(value) => self.headers.add(name, value.to_string().as_bytes()),
                _ => {}
            }
        }
    }

    /// Reads a text, which may be a serialised error or contain one.
    fn words(&mut self, text: &str, depth: usize) {
        if depth >= DEEPEST {
            return self.add_text(text);
        }
        if let Some(inner) = document(text.trim()) {
            self.envelope(&inner, depth + 1);
            self.add_document(inner);
        } else if let Some((words, inner)) = embedded::document(text) {
            // the inner error comes first: its message says what happened
            self.envelope(&inner, depth + 1);
            self.add_document(inner);
            words.into_iter().for_each(|words| self.add_text(words));
        } else {
            self.add_text(text);
        }
    }

    /// The times that the fields of an object state.
    pub(super) fn times(&mut self, object: &Map<String, Value>) {
        for (key, value) in object {
            let Some(key) = codes::plain(key) else { continue };
            match key.as_str() {
                "retrydelay" => self.add_wait(0, "RetryInfo", span(value).map(When::In)),
                "quotaresetdelay" => self.add_wait(1, "quotaResetDelay", span(value).map(When::In)),
                "quotaresettimestamp" => self.add_wait(2, "quotaResetTimeStamp", at(value)),
                // some write a span under the name of an instant
                "resetsat" | "resetat" | "resettime" | "resettimestamp" => {
                    let span = value.as_str().and_then(duration::parse);
                    self.add_wait(3, "resets_at", at(value).or(span.map(When::In)));
                }
                "resetsinseconds" | "resetinseconds" | "resetsafterseconds" | "resetafterseconds" | "resetsin"
                | "resetin" | "resetafter" | "resetseconds" => {
                    self.add_wait(4, "resets_in_seconds", span(value).map(When::In));
                }
                "retryafterms" | "retryaftermilliseconds" => self.add_wait(5, "retry_after_ms", millis(value)),
                "retryafter" | "retryafterseconds" | "retryin" | "retryinseconds" => {
                    self.add_wait(
                        6,
                        "retry_after",
                        span(value).map(When::In).filter(not_an_instant).or_else(|| at(value)),
                    );
                }
                _ => {}
            }
        }
    }
}

fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BODY)])
}

fn trimmed(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Parses a text as JSON, if it looks like it.
fn document(text: &str) -> Option<Value> {
    text.starts_with(['{', '[', '"']).then(|| json::lenient(text).ok()).flatten()
}

/// A span: seconds as a number, a duration as text, or seconds and nanoseconds.
fn span(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => duration::parse(text),
        Value::Number(number) => seconds(number),
        Value::Object(parts) => {
            let part = |name: &str| match parts.get(name) {
                None => Some(0),
                Some(Value::String(digits)) => digits.parse().ok(),
                Some(number) => number.as_u64(),
            };
            let nanos = u32::try_from(part("nanos")?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
            Some(Duration::new(part("seconds")?, nanos))
        }
        _ => None,
    }
}

/// Floats are inexact: their error must not be rounded up.
fn seconds(number: &Number) -> Option<Duration> {
    match number.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => {
            let micros = (number.as_f64()? * 1e6).round();
            (0.0..1e18).contains(&micros).then(|| Duration::from_micros(micros as u64))
        }
    }
}

fn millis(value: &Value) -> Option<When> {
    let digits = match value {
        Value::String(text) => Cow::Borrowed(text.trim()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    instant::plain_number(&digits)?;
    duration::parse(&format!("{digits}ms")).map(When::In)
}

fn at(value: &Value) -> Option<When> {
    match value {
        Value::Number(number) => number.as_f64().and_then(instant::of_number),
        Value::String(text) => instant::epoch_ms(text),
        _ => None,
    }
    .map(When::At)
}

/// Such a large number of seconds is an instant.
fn not_an_instant(when: &When) -> bool {
    !matches!(when, When::In(span) if span.as_secs() >= 1_000_000_000)
}

fn title(page: &str) -> Option<String> {
    let page = beginning(page, MOST_TEXT);
    // ASCII lower case keeps the offsets
    let lower = page.to_ascii_lowercase();
    let from = lower.find("<title")? + "<title".len();
    let from = from + lower[from..].find('>')? + 1;
    let to = from + lower[from..].find("</title")?;
    Some(page[from..to].trim().to_owned())
}
