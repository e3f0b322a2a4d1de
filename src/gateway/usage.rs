//! What an answer says of the tokens it took, read as it goes by.

use memchr::memmem;
use serde_json::{Map, Value};

/// A longer account of tokens is none.
const LONGEST: usize = 8 * 1024;
/// What begins an account: no text within JSON holds it unescaped.
const MARK: &[u8] = b"\"usage";

/// Tokens, as every vendor counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
    /// Of the input, what was read from the cache, or written into it.
    pub(super) cached: u64,
}

/// Finds accounts of tokens in a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The end of what was seen, which may be the beginning of a mark; or the account that is being read.
    kept: Vec<u8>,
    inside: bool,
    pub(super) tokens: Tokens,
}

impl Meter {
    /// Takes in more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            if self.inside {
                match self.read(rest) {
                    Some(taken) => rest = &rest[taken..],
                    None => return,
                }
            }
            let mut seen = 0;
            if !self.kept.is_empty() {
                // a mark may lie across the border
                let mut joined = std::mem::take(&mut self.kept);
                let border = joined.len();
                joined.extend_from_slice(&rest[..rest.len().min(MARK.len())]);
                if let Some(at) = find(&joined, 0).filter(|at| at + MARK.len() > border) {
                    rest = &rest[at + MARK.len() - border..];
                    self.begin();
                    continue;
                }
                if rest.len() <= MARK.len() {
                    self.keep(&joined);
                    return;
                }
                seen = 1;
            }
            match find(rest, seen) {
                Some(at) => {
                    rest = &rest[at + MARK.len()..];
                    self.begin();
                }
                None => {
                    self.keep(rest);
                    return;
                }
            }
        }
    }

    /// Keeps what may be the beginning of a mark, and the byte before, which says whether its quote is escaped.
    fn keep(&mut self, bytes: &[u8]) {
        self.kept.clear();
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(MARK.len())..]);
    }

    fn begin(&mut self) {
        self.kept.clear();
        self.inside = true;
    }

    /// Reads on in an account; answers how much of `bytes` belonged to it, once it is whole.
    fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.kept.len();
        let room = LONGEST.saturating_sub(before).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        match object(&self.kept) {
            Found::Whole(start, end) => {
                if let Ok(Value::Object(account)) = serde_json::from_slice(&self.kept[start..end]) {
                    self.tokens.take_in(&account);
                }
                self.end();
                Some(end.saturating_sub(before))
            }
            Found::None => {
                self.end();
                Some(0)
            }
            Found::Unfinished if self.kept.len() >= LONGEST => {
                self.end();
                Some(room)
            }
            Found::Unfinished => None,
        }
    }

    fn end(&mut self) {
        self.kept.clear();
        self.inside = false;
    }
}

/// Where a mark begins that is a key, not a part of a text; at `from` at the earliest.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let is_key = |at: &usize| *at >= from && at.checked_sub(1).is_none_or(|before| bytes[before] != b'\\');
    memmem::find_iter(bytes, MARK).find(is_key)
}

enum Found {
    Whole(usize, usize),
    Unfinished,
    None,
}

/// The object that follows the mark: the rest of the key, a colon, and the object.
fn object(bytes: &[u8]) -> Found {
    let Some(quote) = bytes.iter().position(|byte| *byte == b'"') else {
        let is_name = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        return if is_name && bytes.len() <= 16 { Found::Unfinished } else { Found::None };
    };
    if !matches!(&bytes[..quote], b"" | b"Metadata" | b"_metadata") {
        return Found::None;
    }
    let mut colon = false;
    for (at, byte) in bytes.iter().enumerate().skip(quote + 1) {
        match byte {
            b':' if !colon => colon = true,
            b'{' if colon => return end_of(bytes, at),
            byte if byte.is_ascii_whitespace() => {}
            _ => return Found::None,
        }
    }
    Found::Unfinished
}

fn end_of(bytes: &[u8], start: usize) -> Found {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return Found::Whole(start, at + 1);
                }
            }
            _ => {}
        }
    }
    Found::Unfinished
}

impl Tokens {
    /// Takes in an account: within one answer each is the sum so far.
    fn take_in(&mut self, account: &Map<String, Value>) {
        let number = |names: &[&str]| names.iter().find_map(|name| account.get(*name).and_then(Value::as_u64));
        let within = |outer: &str, name: &str| account.get(outer).and_then(|of| of.get(name)).and_then(Value::as_u64);
        let read = number(&["cache_read_input_tokens"]);
        let written = number(&["cache_creation_input_tokens"]);
        let cached = number(&["cachedContentTokenCount", "total_cached_tokens"])
            .or_else(|| within("input_tokens_details", "cached_tokens"))
            .or_else(|| within("prompt_tokens_details", "cached_tokens"))
            .unwrap_or_else(|| read.unwrap_or(0) + written.unwrap_or(0));
        // Anthropic counts what is cached beside the input
        let beside = read.unwrap_or(0) + written.unwrap_or(0);
        let input = number(&["input_tokens", "prompt_tokens", "promptTokenCount"]).map(|input| input + beside);
        let thoughts = number(&["thoughtsTokenCount"]).unwrap_or(0);
        let output = number(&["output_tokens", "completion_tokens", "candidatesTokenCount"]);
        self.input = self.input.max(input.unwrap_or(0));
        self.output = self.output.max(output.map_or(0, |output| output + thoughts));
        self.cached = self.cached.max(cached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, step: usize) -> (u64, u64, u64) {
        let mut meter = Meter::default();
        text.as_bytes().chunks(step).for_each(|piece| meter.push(piece));
        (meter.tokens.input, meter.tokens.output, meter.tokens.cached)
    }

    #[test]
    fn every_vendor_counts_in_its_own_words() {
        let rows = [
            (
                "data: {\"message\":{\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":5,\
                 \"cache_creation_input_tokens\":1,\"output_tokens\":1}}}\n\ndata: {\"usage\":{\"output_tokens\":42}}\n\n",
                (16, 42, 6),
            ),
            (
                "{\"response\":{\"usage\" : {\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":3},\
                 \"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}",
                (7, 9, 3),
            ),
            ("{\"usage\":null,\"x\":1}{\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}", (4, 2, 0)),
            (
                "{\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":5,\
                 \"cachedContentTokenCount\":1}}",
                (4, 7, 1),
            ),
            ("{\"text\":\"say \\\"usage\\\":{\\\"input_tokens\\\":99}\"}", (0, 0, 0)),
            ("{\"usage_limits\":{\"input_tokens\":99},\"usages\":{\"input_tokens\":98}}", (0, 0, 0)),
            ("{\"usage\":\"x\",\"input_tokens\":99}", (0, 0, 0)),
            ("", (0, 0, 0)),
        ];
        for (text, expected) in rows {
            for step in [1, 2, 3, 7, 8, 64, 10_000] {
                assert_eq!(tokens(text, step), expected, "{text} by {step}");
            }
        }
        let endless =
            format!("{{\"usage\":{{\"x\":\"{}\"}},\"usage\":{{\"input_tokens\":3}}}}", "x".repeat(2 * LONGEST));
        assert_eq!(tokens(&endless, 1000), (3, 0, 0));
    }
}
