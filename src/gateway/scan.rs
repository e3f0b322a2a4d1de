//! Reads a request's model out of a JSON body as it goes by, without keeping or changing it.

use memchr::{memchr2, memchr3};

/// A longer name or value is none.
const LONGEST: usize = 512;

/// Finds texts at the top level of one JSON object.
#[derive(Debug)]
pub(super) struct Scan {
    wanted: &'static [&'static str],
    found: Vec<Option<String>>,
    state: State,
    depth: usize,
    /// The text that is being read, with its quotes.
    text: Vec<u8>,
    /// Which of those wanted the next value belongs to.
    key: Option<usize>,
    /// A key is expected, not a value.
    at_key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Between,
    /// In a text that is of interest, or not; behind a backslash.
    Text {
        kept: bool,
        escaped: bool,
    },
    Over,
}

impl Scan {
    /// Looks for these keys.
    pub(super) fn new(wanted: &'static [&'static str]) -> Self {
        Self {
            wanted,
            found: vec![None; wanted.len()],
            state: State::Between,
            depth: 0,
            text: Vec::new(),
            key: None,
            at_key: false,
        }
    }

    /// Takes in more of the body; answers whether more is wanted.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.state != State::Over {
            bytes = match self.state {
                State::Text { kept, escaped } => self.text(bytes, kept, escaped),
                _ => self.between(bytes),
            };
        }
        self.state != State::Over
    }

    /// The text of a key.
    pub(super) fn take(&mut self, at: usize) -> Option<String> {
        self.found.get_mut(at)?.take()
    }

    fn text<'a>(&mut self, bytes: &'a [u8], kept: bool, escaped: bool) -> &'a [u8] {
        let (end, state) = if escaped {
            (1, State::Text { kept, escaped: false })
        } else {
            match memchr2(b'"', b'\\', bytes) {
                None => (bytes.len(), self.state),
                Some(at) if bytes[at] == b'\\' => (at + 1, State::Text { kept, escaped: true }),
                Some(at) => (at + 1, State::Between),
            }
        };
        let (part, rest) = bytes.split_at(end);
        if kept && self.text.len() <= LONGEST {
            self.text.extend_from_slice(part);
        }
        self.state = state;
        if kept && state == State::Between {
            self.text_ended();
        }
        rest
    }

    /// A key or a value at the top level is whole.
    fn text_ended(&mut self) {
        let text = (self.text.len() <= LONGEST).then(|| serde_json::from_slice::<String>(&self.text).ok()).flatten();
        self.text.clear();
        if self.at_key {
            self.key = text.and_then(|text| self.wanted.iter().position(|wanted| *wanted == text));
            self.at_key = false;
        } else if let Some(key) = self.key.take() {
            self.found[key] = text;
            if self.found.iter().all(Option::is_some) {
                self.state = State::Over;
            }
        }
    }

    fn between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // deeper down only what opens and closes is of interest
        let at = if self.depth > 1 { next_mark(bytes) } else { 0 };
        let Some((byte, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return &[] };
        match byte {
            b'"' => {
                let kept = self.depth == 1 && (self.at_key || self.key.is_some());
                if kept {
                    self.text.push(b'"');
                }
                self.state = if self.depth == 0 { State::Over } else { State::Text { kept, escaped: false } };
            }
            b'{' | b'[' => {
                // a list, or a second document, is none of ours
                if self.depth == 0 && *byte == b'[' {
                    self.state = State::Over;
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
                    self.state = State::Over;
                }
            }
            b',' if self.depth == 1 => (self.at_key, self.key) = (true, None),
            // what no object begins with
            byte if self.depth == 0 && !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte) => {
                self.state = State::Over;
            }
            _ => {}
        }
        rest
    }
}

/// The next byte that opens or closes something.
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
        let mut scan = Scan::new(&["model"]);
        for piece in pieces {
            if !scan.push(piece) {
                break;
            }
        }
        scan.take(0)
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
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
        let long = format!(r#"{{"model":"{}","x":1}}"#, "x".repeat(LONGEST + 1));
        assert_eq!(model(&[long.as_bytes()]), None);
    }

    proptest! {
        #[test]
        fn it_is_found_however_the_body_is_cut(
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
        fn nothing_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _whatever = model(&pieces);
        }
    }
}
