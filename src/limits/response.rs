//! An upstream's response as it is handed to the classifier: who answered, status, relevant headers, body.

use std::borrow::Cow;

/// The number of bytes of a body that are read; refusals are small.
pub const MAX_BODY: usize = 256 * 1024;

/// The part of an upstream's response that the classifier reads.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamResponse<'a> {
    /// The provider's name, which determines the expected formats.
    pub provider: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a Headers,
    /// The body or its beginning; bytes beyond [`MAX_BODY`] are ignored.
    pub body: &'a [u8],
    /// When the response arrived, epoch ms.
    pub now: u64,
}

/// A vendor's format of refusals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// Gemini, Code Assist, Antigravity.
    Google,
    /// Claude.
    Anthropic,
    /// The OpenAI API and Codex.
    Openai,
    /// All others: mostly compatible with one of these, and read as any of them.
    Other,
}

impl Dialect {
    /// The dialect of a provider, by its name.
    #[must_use]
    pub fn of(provider: &str) -> Self {
        let is = |names: &[&str]| names.iter().any(|name| provider.eq_ignore_ascii_case(name));
        if is(&["google", "gemini", "gemini-cli", "antigravity", "vertex"]) {
            Self::Google
        } else if is(&["anthropic", "claude"]) {
            Self::Anthropic
        } else if is(&["openai", "codex", "chatgpt"]) {
            Self::Openai
        } else {
            Self::Other
        }
    }
}

/// More headers are dropped; no upstream sends as many.
const MOST: usize = 96;
/// A longer value is not a time or a number.
const LONGEST_VALUE: usize = 256;
const LONGEST_NAME: usize = 128;

/// Headers of a response, by lower-case name, in the order they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Headers {
    /// Keeps the headers that are about limits, of any number of headers with any bytes.
    pub fn telling<N: AsRef<str>, V: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut kept = Self::default();
        for (name, value) in headers {
            kept.add(name.as_ref(), value.as_ref());
        }
        kept
    }

    /// Adds a header, if it is about limits.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) {
        if self.0.len() >= MOST || name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE {
            return;
        }
        // names of HTTP headers mostly come in lower case
        let mut name = Cow::Borrowed(name.trim());
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_mut().make_ascii_lowercase();
        }
        let Ok(value) = std::str::from_utf8(value) else { return };
        if tells(&name) {
            self.0.push((name.into(), value.trim().into()));
        }
    }

    /// The first value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All headers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn tells(name: &str) -> bool {
    // most names have none of these letters, and a search of its own for each word would take longer
    let names_a_rate = name
        .match_indices('r')
        .any(|(at, _)| ["ratelimit", "rate-limit", "retry-after"].iter().any(|word| name[at..].starts_with(word)));
    names_a_rate
        || name.starts_with("x-codex-")
        || (name.starts_with("x-") && (name.contains("-primary-") || name.contains("-secondary-")))
        || name.starts_with("anthropic-fast-")
        || matches!(name, "x-should-retry" | "cf-mitigated" | "x-amzn-waf-action" | "x-vercel-mitigated" | "x-datadome")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_about_limits_are_kept_under_their_lower_case_names() {
        let headers = Headers::telling([
            ("Retry-After", &b" 7 "[..]),
            ("RETRY-AFTER", b"8"),
            ("Anthropic-RateLimit-Unified-Status", b"allowed"),
            ("authorization", b"Bearer secret"),
            ("x-ratelimit-limit", b"\xff"),
        ]);
        assert_eq!(headers.get("retry-after"), Some("7"));
        assert_eq!(headers.all("retry-after").collect::<Vec<_>>(), ["7", "8"]);
        assert_eq!(headers.iter().count(), 3);
    }

    #[test]
    fn the_number_and_size_of_headers_are_bounded() {
        let many = Headers::telling((0..10_000).map(|at| (format!("x-ratelimit-{at}"), "1")));
        assert_eq!(many.iter().count(), MOST);
        assert_eq!(Headers::telling([("retry-after", "1".repeat(10_000))]), Headers::default());
    }
}
