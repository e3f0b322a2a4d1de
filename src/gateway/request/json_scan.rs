//! Reads a few top-level strings, such as the model, from a JSON body in passing, without keeping or changing it.

use memchr::{memchr2, memchr3};

/// A longer key or value is ignored, in bytes.
const MAX_TEXT: usize = 512;

#[derive(Debug)]
pub(super) struct JsonScan {
    wanted: Vec<&'static str>,
    found: Vec<Option<String>>,
    state: ScanState,
    depth: usize,
    /// The string that is being read, with its quotes.
    text: Vec<u8>,
    /// Which wanted key the next value belongs to.
    key: Option<usize>,
    /// A key is expected, not a value.
    at_key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScanState {
    Between,
    /// In a string, which may be of interest; after a backslash.
    Text {
        kept: bool,
        escaped: bool,
    },
    /// Nothing more can be found.
    Done,
}

impl JsonScan {
    pub(super) fn new(wanted: impl IntoIterator<Item = &'static str>) -> Self {
        let wanted: Vec<_> = wanted.into_iter().collect();
        Self {
            found: vec![None; wanted.len()],
            wanted,
            state: ScanState::Between,
            depth: 0,
            text: Vec::new(),
            key: None,
            at_key: false,
        }
    }

    /// Reads more of the body; returns whether it wants the rest.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.state != ScanState::Done {
            bytes = match self.state {
                ScanState::Text { kept, escaped } => self.text(bytes, kept, escaped),
                _ => self.between(bytes),
            };
        }
        self.state != ScanState::Done
    }

    /// The value of the `at`th wanted key.
    pub(super) fn take(&mut self, at: usize) -> Option<String> {
        self.found.get_mut(at)?.take()
    }

    fn text<'a>(&mut self, bytes: &'a [u8], kept: bool, escaped: bool) -> &'a [u8] {
        let (end, state) = if escaped {
            (1, ScanState::Text { kept, escaped: false })
        } else {
            match memchr2(b'"', b'\\', bytes) {
                None => (bytes.len(), self.state),
                Some(at) if bytes[at] == b'\\' => (at + 1, ScanState::Text { kept, escaped: true }),
                Some(at) => (at + 1, ScanState::Between),
            }
        };
        let (part, rest) = bytes.split_at(end);
        if kept && self.text.len() <= MAX_TEXT {
            self.text.extend_from_slice(part);
        }
        self.state = state;
        if kept && state == ScanState::Between {
            self.text_ended();
        }
        rest
    }

    /// A key or a value at the top level is complete.
    fn text_ended(&mut self) {
        let text = (self.text.len() <= MAX_TEXT).then(|| serde_json::from_slice::<String>(&self.text).ok()).flatten();
        self.text.clear();
        if self.at_key {
            self.key = text.and_then(|text| self.wanted.iter().position(|wanted| *wanted == text));
            self.at_key = false;
        } else if let Some(key) = self.key.take() {
            self.found[key] = text;
            if self.found.iter().all(Option::is_some) {
                self.state = ScanState::Done;
            }
        }
    }

    fn between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // deeper down only brackets and quotes matter
        let at = if self.depth > 1 { next_mark(bytes) } else { 0 };
        let Some((byte, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return &[] };
        match byte {
            b'"' => {
                let kept = self.depth == 1 && (self.at_key || self.key.is_some());
                if kept {
                    self.text.push(b'"');
                }
                self.state = if self.depth == 0 { ScanState::Done } else { ScanState::Text { kept, escaped: false } };
            }
            b'{' | b'[' => {
                // a list has no keys
                if self.depth == 0 && *byte == b'[' {
                    self.state = ScanState::Done;
                }
                self.depth += 1;
                self.at_key = self.depth == 1;
                if self.depth > 1 {
                    self.key = None;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.state = ScanState::Done;
                }
            }
            b',' if self.depth == 1 => (self.at_key, self.key) = (true, None),
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

    fn model(pieces: &[&[u8]]) -> Option<String> {
        let mut scan = JsonScan::new(["model"]);
        for piece in pieces {
            if !scan.push(piece) {
                break;
            }
        }
        scan.take(0)
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
            prop_assert_eq!(model(&pieces), Some(name));
        }

        #[test]
        fn no_input_causes_a_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _found = model(&pieces);
        }
    }
}
