//! Telling tokens apart without keeping them.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{Credential, Secret};

/// Stands for a token: the same for the same one, and of no use to whoever does not have the key it was made with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub u128);

/// What fingerprints are made with.
#[derive(Clone)]
pub struct FingerprintKey([u8; 16]);

impl FingerprintKey {
    /// Of 16 secret bytes.
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

    /// Another key, for this purpose; it tells nothing of this one.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        // no token begins with it
        hasher.write(b"\0");
        hasher.write(purpose.as_bytes());
        hasher.finish128().as_bytes()
    }

    /// The fingerprint of what stays the same of a credential while its access tokens come and go.
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
    fn tokens_are_told_apart_by_who_has_the_key() {
        let (ours, theirs) = (FingerprintKey::new([1; 16]), FingerprintKey::new([2; 16]));
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(ours.of(&secret("a")), ours.of(&secret("a")));
        assert_ne!(ours.of(&secret("a")), ours.of(&secret("b")));
        assert_ne!(ours.of(&secret("a")), theirs.of(&secret("a")));
        assert_eq!(format!("{ours:?}"), "FingerprintKey(…)");
    }
}
