//! A string that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: not printed, not cloned by accident, compared in constant time, zeroed when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`; no copy of it remains with the caller.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second owner, made on purpose.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.0.as_bytes(), other.0.as_bytes());
        left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (l, r)| differs | (l ^ r)) == 0
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("sk-canary".into());
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(secret, secret.duplicate());
        assert_ne!(secret, Secret::new("sk-canarx".into()));
    }
}
