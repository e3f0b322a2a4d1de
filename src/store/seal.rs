//! Sealing: authenticated encryption bound to what a value is and whose.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::credential::{Credential, FingerprintKey, Secret};
use crate::pool::{AccountId, CredentialKind, Wall};

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// The key everything is sealed with.
pub(super) struct Key {
    bytes: Zeroizing<[u8; 32]>,
    /// What fingerprints are made with, when that is not this key's own: a new key goes on with the old one's, so that
    /// tokens are known again.
    prints: Option<Zeroizing<[u8; 16]>>,
}

/// What a sealed value is: it opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The credential of this account.
    Credential(AccountId),
    /// Proves that the key fits the database.
    Check,
    /// Signs the ids of connection-bound leases.
    LeaseKey,
    /// Makes fingerprints, since the key was changed.
    FingerprintKey,
}

impl Purpose {
    fn associated(self) -> String {
        match self {
            Self::Credential(account) => format!("lessor credential {account}"),
            Self::Check => "lessor check".into(),
            Self::LeaseKey => "lessor lease-key".into(),
            Self::FingerprintKey => "lessor fingerprint-key".into(),
        }
    }
}

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { bytes, prints: None }
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// A second owner of the same key, made on purpose.
    pub(super) fn duplicate(&self) -> Self {
        Self { bytes: self.bytes.clone(), prints: self.prints.clone() }
    }

    /// Goes on making fingerprints as another key did.
    pub(super) fn adopt_prints(&mut self, prints: Zeroizing<[u8; 16]>) {
        self.prints = Some(prints);
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    /// Version, nonce, ciphertext and tag.
    pub(super) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| format!("no random bytes: {error}"))?;
        let associated = purpose.associated();
        let payload = Payload { msg: plain, aad: associated.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| "too long to seal")?;
        let mut blob = Vec::with_capacity(1 + NONCE + sealed.len());
        blob.push(VERSION);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(&sealed);
        Ok(blob)
    }

    /// What was sealed, if it was for this purpose, with this key, and is whole.
    pub(super) fn open(&self, purpose: Purpose, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&version, rest) = blob.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        if version != VERSION {
            return None;
        }
        let associated = purpose.associated();
        let payload = Payload { msg: sealed, aad: associated.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// What fingerprints of tokens are made with: drawn from the cipher at a nonce that is never drawn by chance, so
    /// that it tells nothing of the key, and needs no place of its own.
    pub(super) fn fingerprints(&self) -> Result<FingerprintKey, &'static str> {
        self.prints().map(|bytes| FingerprintKey::new(*bytes))
    }

    /// The bytes of the same.
    pub(super) fn prints(&self) -> Result<Zeroizing<[u8; 16]>, &'static str> {
        if let Some(prints) = &self.prints {
            return Ok(prints.clone());
        }
        const NONCE_OF_FINGERPRINTS: [u8; NONCE] = *b"lessor fingerprint key 1";
        let drawn = self.cipher().encrypt(&XNonce::from(NONCE_OF_FINGERPRINTS), &[0u8; 16][..]);
        let drawn = Zeroizing::new(drawn.map_err(|_| "the cipher draws nothing")?);
        let bytes = drawn.first_chunk::<16>().ok_or("the cipher draws too little")?;
        Ok(Zeroizing::new(*bytes))
    }

    /// Seals what authenticates `account`.
    pub(super) fn seal_credential(&self, account: AccountId, credential: &Credential) -> Result<Vec<u8>, String> {
        self.seal(Purpose::Credential(account), &encode(credential))
    }

    /// What authenticates `account`, if `blob` is that.
    pub(super) fn open_credential(&self, account: AccountId, blob: &[u8]) -> Option<Credential> {
        decode(&self.open(Purpose::Credential(account), blob)?)
    }
}

/// Kind; end of `access`; `access`; refresh token. Absence is one byte 0, presence one byte 1.
fn encode(credential: &Credential) -> Zeroizing<Vec<u8>> {
    let refresh = credential.refresh.as_ref().map(Secret::expose);
    // room for all of it at once: a vector that grows leaves its old, unwiped memory behind
    let mut plain =
        Zeroizing::new(Vec::with_capacity(32 + credential.access.expose().len() + refresh.map_or(0, str::len)));
    plain.push(match credential.kind {
        CredentialKind::Oauth => 0,
        CredentialKind::ApiKey => 1,
        CredentialKind::Token => 2,
    });
    plain.push(u8::from(credential.expires_at.is_some()));
    if let Some(Wall(at)) = credential.expires_at {
        plain.extend_from_slice(&at.to_le_bytes());
    }
    push(&mut plain, credential.access.expose());
    plain.push(u8::from(refresh.is_some()));
    if let Some(refresh) = refresh {
        push(&mut plain, refresh);
    }
    plain
}

fn push(plain: &mut Vec<u8>, text: &str) {
    plain.extend_from_slice(&(text.len() as u64).to_le_bytes());
    plain.extend_from_slice(text.as_bytes());
}

fn decode(mut plain: &[u8]) -> Option<Credential> {
    let rest = &mut plain;
    let kind = match byte(rest)? {
        0 => CredentialKind::Oauth,
        1 => CredentialKind::ApiKey,
        2 => CredentialKind::Token,
        _ => return None,
    };
    let expires_at = if flag(rest)? { Some(Wall(number(rest)?)) } else { None };
    let access = secret(rest)?;
    let refresh = if flag(rest)? { Some(secret(rest)?) } else { None };
    rest.is_empty().then_some(Credential { kind, access, refresh, expires_at })
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    Some(first)
}

fn flag(rest: &mut &[u8]) -> Option<bool> {
    match byte(rest)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*bytes))
}

fn secret(rest: &mut &[u8]) -> Option<Secret> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Secret::new(str::from_utf8(text).ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::new(Zeroizing::new([byte; 32]))
    }

    fn credential() -> impl Strategy<Value = Credential> {
        let kind = prop_oneof![Just(CredentialKind::Oauth), Just(CredentialKind::ApiKey), Just(CredentialKind::Token)];
        (kind, ".{0,40}", proptest::option::of(".{0,40}"), proptest::option::of(any::<u64>())).prop_map(
            |(kind, access, refresh, expires)| Credential {
                kind,
                access: Secret::new(access),
                refresh: refresh.map(Secret::new),
                expires_at: expires.map(Wall),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn opens_for_its_owner_and_nobody_else(credential in credential(), bits in 0u64..1 << 40, other in 0u64..1 << 40) {
            let (account, stranger) = (AccountId::from_bits(bits), AccountId::from_bits(other));
            let blob = key(7).seal_credential(account, &credential).unwrap();
            prop_assert_eq!(key(7).open_credential(account, &blob), Some(credential));
            prop_assert!(account == stranger || key(7).open_credential(stranger, &blob).is_none());
            prop_assert!(key(8).open_credential(account, &blob).is_none());
            prop_assert!(key(7).open(Purpose::Check, &blob).is_none());
        }

        #[test]
        fn one_changed_bit_or_a_lost_end_opens_nothing(credential in credential(), at: prop::sample::Index, bit in 0u8..8) {
            let account = AccountId::from_bits(1);
            let blob = key(7).seal_credential(account, &credential).unwrap();
            let place = at.index(blob.len());
            let mut tampered = blob.clone();
            tampered[place] ^= 1 << bit;
            prop_assert!(key(7).open_credential(account, &tampered).is_none());
            prop_assert!(key(7).open_credential(account, &blob[..place]).is_none());
        }

        #[test]
        fn any_bytes_decode_to_something_or_nothing(bytes: Vec<u8>) {
            if let Some(credential) = decode(&bytes) {
                prop_assert_eq!(&encode(&credential)[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn the_same_twice_looks_different() {
        let sealed = || key(1).seal(Purpose::LeaseKey, b"same").unwrap();
        assert_ne!(sealed(), sealed());
    }
}
