//! Reads a few strings, such as the model, from a JSON body in passing, without keeping or changing it.

use std::sync::Arc;

use memchr::{memchr2, memchr3};

use crate::provider::StoredIdKey;

/// A longer value is ignored, in bytes.
const MAX_TEXT: usize = 2048;
/// A longer string is no key of interest, in bytes with its quotes.
const MAX_KEY: usize = 64;
/// The most values of one key that are kept.
const MAX_FOUND: usize = 64;

/// A key whose values are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WantedKey {
    pub(super) name: &'static str,
    /// In objects within objects too, and in lists of strings; else at the top level only.
    pub(super) nested: bool,
    /// Which values of which keys are kept; all, if empty.
    pub(super) kept: &'static [StoredIdKey],
}

impl WantedKey {
    fn keeps(&self, text: &str) -> bool {
        self.kept.is_empty() || self.kept.iter().any(|of| of.key == self.name && of.names_stored(text))
    }
}

/// A string that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundText {
    /// Which wanted key it belongs to.
    pub(super) key: usize,
    /// Empty if it is too long.
    pub(super) text: Arc<str>,
    /// Where it stands in the decoded body, with its quotes.
    pub(super) place: std::ops::Range<usize>,
}

#[derive(Debug)]
pub(super) struct JsonScan {
    wanted: Arc<[WantedKey]>,
    found: Vec<FoundText>,
    state: ScanState,
    depth: usize,
    /// How much was read.
    offset: usize,
    /// The string that is being read, with its quotes, and where it began.
    text: Vec<u8>,
    began: usize,
    /// The last string is this key, if a colon follows.
    candidate: Option<usize>,
    /// Which wanted key the next value belongs to.
    key: Option<usize>,
    /// In a list of values of the key.
    in_list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScanState {
    Between,
    /// In a string; after a backslash.
    Text {
        escaped: bool,
    },
    /// Nothing more can be found.
    Done,
}

impl JsonScan {
    pub(super) fn new(wanted: Arc<[WantedKey]>) -> Self {
        Self {
            found: Vec::new(),
            wanted,
            state: ScanState::Between,
            depth: 0,
            offset: 0,
            // most keys are shorter
            text: Vec::with_capacity(MAX_KEY),
            began: 0,
            candidate: None,
            key: None,
            in_list: false,
        }
    }

    /// Reads more of the body; returns whether it wants the rest.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.state != ScanState::Done {
            let rest = match self.state {
                ScanState::Text { escaped } => self.text(bytes, escaped),
                _ => self.between(bytes),
            };
            self.offset += bytes.len() - rest.len();
            bytes = rest;
        }
        self.state != ScanState::Done
    }

    /// The values of all wanted keys, in the order of the keys.
    pub(super) fn into_found(mut self) -> Vec<FoundText> {
        self.found.sort_by_key(|found| found.key);
        self.found
    }

    fn text<'a>(&mut self, bytes: &'a [u8], escaped: bool) -> &'a [u8] {
        let (end, state) = if escaped {
            (1, ScanState::Text { escaped: false })
        } else {
            match memchr2(b'"', b'\\', bytes) {
                None => (bytes.len(), self.state),
                Some(at) if bytes[at] == b'\\' => (at + 1, ScanState::Text { escaped: true }),
                Some(at) => (at + 1, ScanState::Between),
            }
        };
        let (part, rest) = bytes.split_at(end);
        // one byte more than is allowed shows that it is too long
        let room = self.longest().saturating_sub(self.text.len()) + 1;
        if self.text.len() <= self.longest() {
            self.text.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.state = state;
        if state == ScanState::Between {
            self.text_ended(self.offset + end);
        }
        rest
    }

    /// How long the string that is being read may be.
    fn longest(&self) -> usize {
        if self.key.is_some() { MAX_TEXT } else { MAX_KEY }
    }

    /// Which key the string that was read is, if it is one.
    fn wanted_key(&self) -> Option<usize> {
        let position = |text: &[u8]| {
            let is_meant = |wanted: &WantedKey| wanted.name.as_bytes() == text && (wanted.nested || self.depth == 1);
            self.wanted.iter().position(is_meant)
        };
        match self.plain() {
            Some(plain) => position(plain.as_bytes()),
            None => position(self.decoded()?.as_bytes()),
        }
    }

    /// The string that was read, if it stands in the body as it is meant: most do.
    fn plain(&self) -> Option<&str> {
        let plain = self.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_as_meant = plain.iter().all(|byte| *byte != b'\\' && *byte >= b' ');
        is_as_meant.then(|| std::str::from_utf8(plain).ok()).flatten()
    }

    /// The string that was read, unless it is too long or no JSON.
    fn decoded(&self) -> Option<String> {
        (self.text.len() <= self.longest()).then(|| serde_json::from_slice(&self.text).ok()).flatten()
    }

    /// A key or a value is complete; it ends before `end`.
    fn text_ended(&mut self, end: usize) {
        let Some(key) = self.key else {
            self.candidate = self.wanted_key();
            self.text.clear();
            return;
        };
        let text: Arc<str> = match self.plain().filter(|_| self.text.len() <= MAX_TEXT) {
            Some(plain) => plain.into(),
            None => self.decoded().unwrap_or_default().into(),
        };
        self.text.clear();
        let of_key = |found: &&FoundText| found.key == key;
        if self.wanted[key].keeps(&text) && self.found.iter().filter(of_key).count() < MAX_FOUND {
            self.found.push(FoundText { key, text, place: self.began..end });
        }
        if !self.in_list {
            self.key = None;
        }
        let is_complete =
            |(key, wanted): (usize, &WantedKey)| !wanted.nested && self.found.iter().any(|found| found.key == key);
        if self.wanted.iter().enumerate().all(is_complete) {
            self.state = ScanState::Done;
        }
    }

    fn between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // deeper down only brackets and quotes matter, unless a wanted key was just read
        let is_near_key = self.depth <= 1 || self.candidate.is_some() || self.key.is_some();
        let at = if is_near_key { 0 } else { next_mark(bytes) };
        let Some((byte, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return &[] };
        match byte {
            b'"' => {
                self.began = self.offset + at;
                self.text.push(b'"');
                self.candidate = None;
                self.state = if self.depth == 0 { ScanState::Done } else { ScanState::Text { escaped: false } };
            }
            b'{' | b'[' => {
                // a list has no keys
                if self.depth == 0 && *byte == b'[' {
                    self.state = ScanState::Done;
                }
                self.depth += 1;
                let may_list = *byte == b'[' && !self.in_list;
                self.in_list = may_list && self.key.is_some_and(|key| self.wanted[key].nested);
                if !self.in_list {
                    self.key = None;
                }
                self.candidate = None;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                (self.key, self.candidate, self.in_list) = (None, None, false);
                if self.depth == 0 {
                    self.state = ScanState::Done;
                }
            }
            b':' => self.key = self.candidate.take(),
            b',' => {
                self.candidate = None;
                if !self.in_list {
                    self.key = None;
                }
            }
            // no object begins like this
            byte if self.depth == 0 && !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte) => {
                self.state = ScanState::Done;
            }
            _ => {}
        }
        rest
    }
}

fn next_mark(bytes: &[u8]) -> usize {
    let first = memchr3(b'"', b'{', b'}', bytes).unwrap_or(bytes.len());
    memchr2(b'[', b']', &bytes[..first]).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn model(pieces: &[&[u8]]) -> Option<Arc<str>> {
        let found = found(&[("model", false)], pieces);
        found.into_iter().map(|found| found.text).find(|text| !text.is_empty())
    }

    fn found(wanted: &[(&'static str, bool)], pieces: &[&[u8]]) -> Vec<FoundText> {
        let wanted = wanted.iter().map(|(name, nested)| WantedKey { name, nested: *nested, kept: &[] });
        let mut scan = JsonScan::new(wanted.collect());
        for piece in pieces {
            if !scan.push(piece) {
                break;
            }
        }
        scan.into_found()
    }

    #[test]
    fn nested_values_are_found_where_they_stand() {
        let body = r#"{"project":"p","x":[{"file_id":"f1","project":"no"},{"y":{"file_id" : "f\u0032"}}],
            "file_ids":["f3",{"file_id":null},"no"],"z":["file_id","no"],"text":"\"file_id\":\"no\"","file_id":7,"a":"no"}"#;
        let wanted = [("project", false), ("file_id", true), ("file_ids", true)];
        for step in [1, 2, 7, body.len()] {
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(step).collect();
            let found = found(&wanted, &pieces);
            let of = |key: usize| found.iter().filter(move |found| found.key == key);
            let texts = |key: usize| of(key).map(|found| &*found.text).collect::<Vec<_>>();
            assert_eq!((texts(0), texts(1), texts(2)), (vec!["p"], vec!["f1", "f2"], vec!["f3"]), "by {step}");
            let places: Vec<&str> = found.iter().map(|found| &body[found.place.clone()]).collect();
            assert_eq!(places, ["\"p\"", "\"f1\"", "\"f\\u0032\"", "\"f3\""], "by {step}");
        }
    }

    #[test]
    fn the_model_is_found_at_the_top_level_only() {
        for (body, expected) in [
            (r#"{"model":"claude-sonnet-4-5","messages":[]}"#, Some("claude-sonnet-4-5")),
            (r#"{"messages":[{"model":"no","content":"\"model\":\"no\"}"}], "model" : "yes" }"#, Some("yes")),
            (r#"{"x":{"model":"no"},"y":["model","no"],"model":"yes"}"#, Some("yes")),
            ("\u{feff} {\"m\\u006fdel\":\"a\\u002fb\"}", Some("a/b")),
            (r#"{"model":null,"n":"model"}"#, None),
            (r#"{"model":{"model":"no"},"z":"no"}"#, None),
            (r#"{"model":["no"]}"#, None),
            (r#"{"model":7}"#, None),
            (r#"{"a":"model"}"#, None),
            (r#"["model","no"]"#, None),
            (r#""model""#, None),
            ("model=x", None),
            ("", None),
            (r#"{"a":{}} {"model":"no"}"#, None),
            (r#"{"model":"unfinished"#, None),
        ] {
            assert_eq!(model(&[body.as_bytes()]).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"model":"{}","x":1}}"#, "x".repeat(MAX_TEXT + 1));
        assert_eq!(model(&[long.as_bytes()]), None);
    }

    proptest! {
        #[test]
        fn the_model_is_found_however_the_body_is_split(
            before in "[a-z\\\\\"{}\\[\\],:]{0,30}", name in "[a-z\"\\\\]{1,20}", cuts in prop::collection::vec(0usize..200, 0..6)
        ) {
            let body = json!({ "a": [{ "model": before, "b": before }], "model": name, "z": "model" }).to_string();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut start) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([body.len()]) {
                pieces.push(&body.as_bytes()[start..cut]);
                start = cut;
            }
            let found = model(&pieces);
            prop_assert_eq!(found.as_deref(), Some(&*name));
        }

        #[test]
        fn no_input_causes_a_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _found = model(&pieces);
        }
    }
}
