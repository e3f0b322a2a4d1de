//! The headers that tell something about limits; all others are left where they were.

/// More are not kept; no upstream sends as many.
const MOST: usize = 96;
/// A longer value tells nothing of a time or a share.
const LONGEST_VALUE: usize = 256;
const LONGEST_NAME: usize = 128;

/// Headers of a response, by lower-case name, in the order they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Headers {
    /// Keeps what matters here, of any number of headers with any bytes.
    pub fn telling<N: AsRef<str>, V: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut kept = Self::default();
        for (name, value) in headers {
            kept.add(name.as_ref(), value.as_ref());
        }
        kept
    }

    /// Takes in one more, if it tells something.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) {
        if self.0.len() >= MOST || name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE {
            return;
        }
        let name = name.trim().to_ascii_lowercase();
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

    /// Every value of a header.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn tells(name: &str) -> bool {
    name.contains("ratelimit")
        || name.contains("rate-limit")
        || name.contains("retry-after")
        || name.starts_with("x-codex-")
        || (name.starts_with("x-") && (name.contains("-primary-") || name.contains("-secondary-")))
        || matches!(name, "x-should-retry" | "cf-mitigated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_is_kept_under_its_lower_case_name() {
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
    fn there_is_a_bound() {
        let many = Headers::telling((0..10_000).map(|at| (format!("x-ratelimit-{at}"), "1")));
        assert_eq!(many.iter().count(), MOST);
        assert_eq!(Headers::telling([("retry-after", "1".repeat(10_000))]), Headers::default());
    }
}
