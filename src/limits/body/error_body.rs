//! The content of a body, collected from any shape.

use serde_json::Value;

use super::{codes, prose};
use crate::limits::response::Headers;
use crate::limits::time::When;

/// The number of bytes of prose that are read.
pub(in crate::limits) const MOST_TEXT: usize = 16 * 1024;
const MOST_CODES: usize = 32;
const MOST_WAITS: usize = 32;
const MOST_DOCUMENTS: usize = 16;
#[derive(Clone, Debug, Default)]
pub(in crate::limits) struct ErrorBody {
    /// Error codes, normalised by [`codes::plain`].
    pub(in crate::limits) codes: Vec<String>,
    /// The same codes as the body spells them.
    pub(in crate::limits) written: Vec<String>,
    /// The first message, unchanged.
    pub(in crate::limits) message: Option<String>,
    /// All prose, in lower case.
    pub(in crate::limits) text: String,
    /// Times in structured fields, the most reliable first.
    pub(in crate::limits) waits: Vec<Wait>,
    /// The HTTP status that the body states.
    pub(in crate::limits) status: Option<u16>,
    /// All HTTP statuses that the body states: a proxy repeats those of its own upstream.
    pub(in crate::limits) statuses: Vec<u16>,
    /// The window of the quota that was violated.
    pub(in crate::limits) period: Option<Period>,
    /// Whether the quota belongs to one model.
    pub(in crate::limits) of_model: bool,
    /// The quota is zero: it is never granted.
    pub(in crate::limits) is_never_granted: bool,
    /// The cloud project that the refusal names.
    pub(in crate::limits) project: Option<String>,
    /// The API that the refusal names.
    pub(in crate::limits) api: Option<String>,
    /// Headers that the body states: a router's, of its own upstream, or those of an error event.
    pub(in crate::limits) headers: Headers,
    /// The documents that the body contains, also those within texts, for further searches.
    pub(in crate::limits) documents: Vec<Value>,
    /// The body is a page for people.
    pub(in crate::limits) is_page: bool,
}
#[derive(Clone, Copy, Debug)]
pub(in crate::limits) struct Wait {
    pub(in crate::limits) rank: u8,
    pub(in crate::limits) source: &'static str,
    pub(in crate::limits) when: When,
}

/// The length of a quota's window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::limits) enum Period {
    /// Minutes or less.
    Short,
    /// Days or more.
    Long,
}

impl ErrorBody {
    pub(in crate::limits) fn add_text(&mut self, text: &str) {
        let room = MOST_TEXT.saturating_sub(self.text.len());
        let piece = beginning(text, room);
        if piece.is_empty() {
            return;
        }
        if self.message.is_none() {
            self.message = Some(piece.to_owned());
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&piece.to_ascii_lowercase());
    }

    /// Adds an error code: a text, or a status as a number.
    pub(in crate::limits) fn add_code(&mut self, code: &Value) {
        let status = match code {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if let Some(status) = status.and_then(|status| u16::try_from(status).ok()).filter(|s| (400..600).contains(s)) {
            self.status.get_or_insert(status);
            self.add_status(status);
            return;
        }
        let Value::String(text) = code else { return };
        if self.codes.len() < MOST_CODES
            && let Some(plain) = codes::plain(text)
            && !self.codes.contains(&plain)
        {
            self.codes.push(plain);
            self.written.push(text.clone());
        }
    }

    fn add_status(&mut self, status: u16) {
        if self.statuses.len() < MOST_CODES && !self.statuses.contains(&status) {
            self.statuses.push(status);
        }
    }

    pub(in crate::limits) fn add_document(&mut self, document: Value) {
        if self.documents.len() < MOST_DOCUMENTS {
            self.documents.push(document);
        }
    }

    /// Whether the body states this status, as a code or in prose: `HTTP 429`, `status: 429`, `429 Too Many Requests`.
    pub(in crate::limits) fn states(&self, status: u16) -> bool {
        self.statuses.contains(&status) || prose::states_status(&self.text, status)
    }

    pub(in crate::limits) fn add_period(&mut self, period: Period) {
        self.period = self.period.max(Some(period));
    }

    pub(in crate::limits) fn add_wait(&mut self, rank: u8, source: &'static str, when: Option<When>) {
        if let Some(when) = when
            && self.waits.len() < MOST_WAITS
        {
            self.waits.push(Wait { rank, source, when });
        }
    }
}

/// The beginning of a text, at most `most` bytes, cut at a character boundary.
pub(in crate::limits) fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
