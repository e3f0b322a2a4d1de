//! Recognising tokens without storing them.

use std::{fmt, hash::Hasher as _};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{Credential, Secret};

/// The keyed hash of a token. Without the key it reveals nothing about the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub u128);

/// The key that fingerprints are made with.
#[derive(Clone)]
pub struct FingerprintKey([u8; 16]);

impl FingerprintKey {
    /// A key of 16 secret bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of a token.
    #[must_use]
    pub fn of(&self, secret: &Secret) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(secret.expose().as_bytes());
        Fingerprint(hasher.finish128().as_u128())
    }

    /// Derives a key for another purpose; it reveals nothing about this one.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        // no token starts with a zero byte
        hasher.write(b"\0");
        hasher.write(purpose.as_bytes());
        hasher.finish128().as_bytes()
    }

    /// The fingerprint of the part of a credential that stays the same while its access tokens change.
    #[must_use]
    pub fn of_credential(&self, credential: &Credential) -> Fingerprint {
        self.of(credential.refresh.as_ref().unwrap_or(&credential.access))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_same_fingerprint_under_the_same_key_only() {
        let (ours, theirs) = (FingerprintKey::new([1; 16]), FingerprintKey::new([2; 16]));
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(ours.of(&secret("a")), ours.of(&secret("a")));
        assert_ne!(ours.of(&secret("a")), ours.of(&secret("b")));
        assert_ne!(ours.of(&secret("a")), theirs.of(&secret("a")));
        assert_eq!(format!("{ours:?}"), "FingerprintKey(…)");
    }
}
