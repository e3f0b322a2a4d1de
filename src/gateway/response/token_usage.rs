//! Reads the token counts from a response in passing.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use crate::protocol::TokenSums;

/// A longer usage object is ignored, in bytes.
const MAX_USAGE: usize = 8 * 1024;
/// The start of a usage object's key: no string within JSON contains it unescaped.
const MARK: &[u8] = b"\"usage";
/// Made once: a piece of a stream is short.
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

#[derive(Debug, Default)]
pub(crate) struct UsageParser {
    /// The last bytes, which may be the start of a mark; or the usage object that is being read.
    kept: Vec<u8>,
    inside: bool,
    /// `None` if the response states none.
    pub(crate) tokens: Option<TokenSums>,
}

impl UsageParser {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
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
                // a mark may be split between two pieces
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

    /// Keeps what may be the start of a mark, and the byte before it, which tells whether the quote is escaped.
    fn keep(&mut self, bytes: &[u8]) {
        self.kept.clear();
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(MARK.len())..]);
    }

    fn begin(&mut self) {
        self.kept.clear();
        self.inside = true;
    }

    /// Reads more of a usage object; once it is complete, returns how much of `bytes` belonged to it.
    fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.kept.len();
        let room = MAX_USAGE.saturating_sub(before).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        match object(&self.kept) {
            UsageObject::Complete(usage, end) => {
                update(&mut self.tokens, &usage);
                self.end();
                Some(end.saturating_sub(before))
            }
            UsageObject::None => {
                self.end();
                Some(0)
            }
            UsageObject::Unfinished if self.kept.len() >= MAX_USAGE => {
                self.end();
                Some(room)
            }
            UsageObject::Unfinished => None,
        }
    }

    fn end(&mut self) {
        self.kept.clear();
        self.inside = false;
    }
}

/// The position of the first mark that is a key and not part of a string, from `from` on.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let is_key = |at: &usize| *at >= from && at.checked_sub(1).is_none_or(|before| bytes[before] != b'\\');
    FINDER.find_iter(bytes).find(is_key)
}

enum UsageObject {
    /// The object, and where it ends.
    Complete(Map<String, Value>, usize),
    Unfinished,
    None,
}

/// The object that follows the mark: the rest of the key, a colon, and the object.
fn object(bytes: &[u8]) -> UsageObject {
    let Some(quote) = bytes.iter().position(|byte| *byte == b'"') else {
        let is_name = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        return if is_name && bytes.len() <= 16 { UsageObject::Unfinished } else { UsageObject::None };
    };
    if !matches!(&bytes[..quote], b"" | b"Metadata" | b"_metadata") {
        return UsageObject::None;
    }
    let after = bytes[quote + 1..].trim_ascii_start();
    let value = after.strip_prefix(b":").unwrap_or(after).trim_ascii_start();
    if value.is_empty() {
        return UsageObject::Unfinished;
    }
    if value.len() == after.len() || !value.starts_with(b"{") {
        return UsageObject::None;
    }
    let mut objects = serde_json::Deserializer::from_slice(value).into_iter();
    match objects.next() {
        Some(Ok(usage)) => UsageObject::Complete(usage, bytes.len() - value.len() + objects.byte_offset()),
        Some(Err(error)) if !error.is_eof() => UsageObject::None,
        _ => UsageObject::Unfinished,
    }
}

/// Adds a usage object: within one response each is the sum so far.
fn update(tokens: &mut Option<TokenSums>, usage: &Map<String, Value>) {
    let number = |names: &[&str]| names.iter().find_map(|name| usage.get(*name).and_then(Value::as_u64));
    let within = |outer: &str, name: &str| usage.get(outer).and_then(|of| of.get(name)).and_then(Value::as_u64);
    let read = number(&["cache_read_input_tokens"]);
    let written = number(&["cache_creation_input_tokens"]);
    let cached = number(&["cachedContentTokenCount", "total_cached_tokens"])
        .or_else(|| within("input_tokens_details", "cached_tokens"))
        .or_else(|| within("prompt_tokens_details", "cached_tokens"))
        .or(read);
    // Anthropic does not include cached tokens in the input
    let uncounted = read.unwrap_or(0) + written.unwrap_or(0);
    let input = number(&["input_tokens", "prompt_tokens", "promptTokenCount"]).map(|input| input + uncounted);
    let thoughts = number(&["thoughtsTokenCount"]).unwrap_or(0);
    let output = number(&["output_tokens", "completion_tokens", "candidatesTokenCount"]);
    if [input, output, cached, written].iter().all(Option::is_none) {
        return;
    }
    let sums = tokens.get_or_insert_default();
    sums.input = sums.input.max(input.unwrap_or(0));
    sums.output = sums.output.max(output.map_or(0, |output| output + thoughts));
    sums.cached = sums.cached.max(cached.unwrap_or(0));
    sums.cache_written = sums.cache_written.max(written.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, step: usize) -> Option<(u64, u64, u64, u64)> {
        let mut parser = UsageParser::default();
        text.as_bytes().chunks(step).for_each(|piece| parser.push(piece));
        parser.tokens.map(|sums| (sums.input, sums.output, sums.cached, sums.cache_written))
    }

    #[test]
    fn every_vendor_s_usage_object_is_read() {
        let rows = [
            (
                "data: {\"message\":{\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":5,\
                 \"cache_creation_input_tokens\":1,\"output_tokens\":1}}}\n\ndata: {\"usage\":{\"output_tokens\":42}}\n\n",
                Some((16, 42, 5, 1)),
            ),
            (
                "{\"response\":{\"usage\" : {\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":3},\
                 \"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}",
                Some((7, 9, 3, 0)),
            ),
            ("{\"usage\":null,\"x\":1}{\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}", Some((4, 2, 0, 0))),
            (
                "{\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":5,\
                 \"cachedContentTokenCount\":1}}",
                Some((4, 7, 1, 0)),
            ),
            ("{\"text\":\"say \\\"usage\\\":{\\\"input_tokens\\\":99}\"}", None),
            ("{\"usage_limits\":{\"input_tokens\":99},\"usages\":{\"input_tokens\":98}}", None),
            ("{\"usage\":\"x\",\"input_tokens\":99}", None),
            ("", None),
        ];
        for (text, expected) in rows {
            for step in [1, 2, 3, 7, 8, 64, 10_000] {
                assert_eq!(tokens(text, step), expected, "{text} by {step}");
            }
        }
        let endless =
            format!("{{\"usage\":{{\"x\":\"{}\"}},\"usage\":{{\"input_tokens\":3}}}}", "x".repeat(2 * MAX_USAGE));
        assert_eq!(tokens(&endless, 1000), Some((3, 0, 0, 0)));
    }
}
