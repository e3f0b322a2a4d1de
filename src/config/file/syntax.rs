//! Parses TOML and finds every syntax error of a file, not only the first.

use std::ops::Range;

use toml_edit::Document;

use super::position::LineIndex;
use crate::config::schema::lookup::{self, PathMatch};

/// A file that was parsed as far as possible.
pub(in crate::config) struct Parsed {
    /// The part that parsed.
    pub(in crate::config) document: Option<Document<String>>,
    /// Syntax errors: where, which key, what.
    pub(in crate::config) errors: Vec<(Range<usize>, String, String)>,
    /// Ranges below a broken header, whose keys cannot be checked.
    pub(in crate::config) unknown: Vec<Range<usize>>,
}

/// The number of broken lines after which parsing stops.
const MOST_ERRORS: usize = 20;

/// Parses a text; a broken line is reported, blanked and skipped.
pub(in crate::config) fn parse(lines: &LineIndex<'_>) -> Parsed {
    let mut text = lines.text().to_owned();
    let mut parsed = Parsed { document: None, errors: Vec::new(), unknown: Vec::new() };
    for attempt in 0..MOST_ERRORS {
        let error = match Document::parse(text.clone()) {
            Ok(document) => {
                parsed.document = Some(document);
                break;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = lines.line_at(span.start.min(text.len()));
        let source = &lines.text()[line.clone()];
        let follows = attempt > 0 && !starts_something(source);
        if !follows && !parsed.unknown.iter().any(|range| range.contains(&span.start)) {
            let key = key_at(lines, &line, &span);
            let message = describe(error.message(), &key, source);
            parsed.errors.push((span, lookup::format_key(&key), message));
        }
        if source.trim_start().starts_with('[') {
            parsed.unknown.push(line.start..next_header(&text, line.end));
        }
        if text[line.clone()].trim().is_empty() {
            // Nothing left to blank: stop.
            break;
        }
        text.replace_range(line.clone(), &" ".repeat(line.len()));
    }
    parsed
}

/// Whether a line starts a header or a key; errors in other lines follow from the line before.
fn starts_something(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('[') && !line.starts_with("[\"")
        || line.split_once('=').is_some_and(|(name, _)| toml_edit::Key::parse(name.trim()).is_ok())
}

/// The key that an error is about, as far as it is known.
fn key_at(lines: &LineIndex<'_>, line: &Range<usize>, span: &Range<usize>) -> Vec<String> {
    let source = &lines.text()[line.clone()];
    if source.trim_start().starts_with('[') {
        return header(source).unwrap_or_default();
    }
    let before = lines.text()[..line.start].lines().rev();
    let mut key = before.filter(|line| line.trim_start().starts_with('[')).find_map(header).unwrap_or_default();
    let name = source.split_once('=').map(|(name, _)| name).or_else(|| lines.text().get(span.clone()));
    key.extend(name.and_then(path).unwrap_or_default());
    key
}

fn header(line: &str) -> Option<Vec<String>> {
    let inner = line.trim_start().trim_start_matches('[');
    path(inner.split(']').next()?)
}

fn path(text: &str) -> Option<Vec<String>> {
    let keys = toml_edit::Key::parse(text.trim()).ok()?;
    Some(keys.iter().map(|key| key.get().to_owned()).collect())
}

/// The parser's message, or a better one for the two most frequent mistakes.
fn describe(message: &str, key: &[String], source: &str) -> String {
    if message.starts_with("duplicate key") {
        return format!("`{}` is defined twice; keep one of them", lookup::format_key(key));
    }
    let value = source.split_once('=').map(|(_, value)| value.trim()).unwrap_or_default();
    let path: Vec<&str> = key.iter().map(String::as_str).collect();
    if let PathMatch::Key(found) = lookup::find(&path)
        && found.kind.is_text()
        && !value.starts_with(['"', '\''])
    {
        return format!(
            "`{}` needs quotes around its value; allowed: {}",
            lookup::format_key(key),
            found.kind.allowed()
        );
    }
    format!("invalid TOML: {message}")
}

/// Where the next header line after an offset starts.
fn next_header(text: &str, from: usize) -> usize {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            return at;
        }
        at += line.len();
    }
    text.len() + 1
}
