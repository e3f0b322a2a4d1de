//! Sealing: authenticated encryption that is bound to the purpose and owner of a value.

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::credential::seal::{self, NONCE};
use crate::credential::{Credential, FingerprintKey, decode, encode};
use crate::pool::AccountId;

/// The key that seals everything.
pub(in crate::store) struct SealKey {
    bytes: Zeroizing<[u8; 32]>,
    /// The fingerprint key, if it is not derived from this key: a new key keeps the old fingerprint key, so that known
    /// tokens are still recognised.
    prints: Option<Zeroizing<[u8; 16]>>,
}

/// The purpose of a sealed value. It can be opened for this purpose only.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum SealPurpose<'a> {
    /// An account's credential.
    Credential(AccountId),
    /// The secret of the OAuth client with this name.
    ClientSecret(&'a str),
    /// The value that proves that the key fits the database.
    Check,
    /// The key that signs the ids of connection-bound leases.
    LeaseKey,
    /// The fingerprint key, stored since the key was replaced.
    FingerprintKey,
    /// What this host has as a member of a pool that other machines share: its key pair, the pool's keys, its password.
    PoolMembership,
}

impl SealPurpose<'_> {
    fn associated(self) -> String {
        match self {
            Self::Credential(account) => format!("lessor credential {account}"),
            Self::ClientSecret(name) => format!("lessor client-secret {name}"),
            Self::Check => "lessor check".into(),
            Self::LeaseKey => "lessor lease-key".into(),
            Self::FingerprintKey => "lessor fingerprint-key".into(),
            Self::PoolMembership => "lessor pool-membership".into(),
        }
    }
}

impl SealKey {
    pub(in crate::store) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { bytes, prints: None }
    }

    pub(in crate::store) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// A deliberate copy of the key.
    pub(in crate::store) fn duplicate(&self) -> Self {
        Self { bytes: self.bytes.clone(), prints: self.prints.clone() }
    }

    /// Keeps the fingerprint key of another key.
    pub(in crate::store) fn adopt_prints(&mut self, prints: Zeroizing<[u8; 16]>) {
        self.prints = Some(prints);
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    /// Seals a value: version, nonce, ciphertext, tag.
    pub(in crate::store) fn seal(&self, purpose: SealPurpose<'_>, plain: &[u8]) -> Result<Vec<u8>, String> {
        seal::seal(&self.bytes, &purpose.associated(), plain)
    }

    /// Opens a value, if it is intact and was sealed for this purpose with this key.
    pub(in crate::store) fn open(&self, purpose: SealPurpose<'_>, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        seal::open(&self.bytes, &purpose.associated(), blob)
    }

    /// The fingerprint key. It is derived with the cipher at a fixed nonce that is never drawn at random, so it reveals
    /// nothing about the key and needs no storage.
    pub(in crate::store) fn fingerprints(&self) -> Result<FingerprintKey, &'static str> {
        self.prints().map(|bytes| FingerprintKey::new(*bytes))
    }

    /// The bytes of the fingerprint key.
    pub(in crate::store) fn prints(&self) -> Result<Zeroizing<[u8; 16]>, &'static str> {
        if let Some(prints) = &self.prints {
            return Ok(prints.clone());
        }
        const NONCE_OF_FINGERPRINTS: [u8; NONCE] = *b"lessor fingerprint key 1";
        let drawn = self.cipher().encrypt(&XNonce::from(NONCE_OF_FINGERPRINTS), &[0u8; 16][..]);
        let drawn = Zeroizing::new(drawn.map_err(|_| "the cipher failed")?);
        let bytes = drawn.first_chunk::<16>().ok_or("the cipher returned too few bytes")?;
        Ok(Zeroizing::new(*bytes))
    }

    /// The key of the rows' tags, derived as [`Self::prints`] is.
    pub(in crate::store) fn row_tags(&self) -> Result<Zeroizing<[u8; 32]>, &'static str> {
        const NONCE_OF_ROW_TAGS: [u8; NONCE] = *b"lessor row tag mac key 1";
        let drawn = self.cipher().encrypt(&XNonce::from(NONCE_OF_ROW_TAGS), &[0u8; 32][..]);
        let drawn = Zeroizing::new(drawn.map_err(|_| "the cipher failed")?);
        let bytes = drawn.first_chunk::<32>().ok_or("the cipher returned too few bytes")?;
        Ok(Zeroizing::new(*bytes))
    }

    pub(in crate::store) fn seal_credential(
        &self,
        account: AccountId,
        credential: &Credential,
    ) -> Result<Vec<u8>, String> {
        self.seal(SealPurpose::Credential(account), &encode(credential)?)
    }
    pub(in crate::store) fn open_credential(&self, account: AccountId, blob: &[u8]) -> Option<Credential> {
        decode(&self.open(SealPurpose::Credential(account), blob)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::any_credential;
    use crate::pool::AccountId;

    fn key(byte: u8) -> SealKey {
        SealKey::new(Zeroizing::new([byte; 32]))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn opens_only_for_its_owner(credential in any_credential(), bits in 0u64..1 << 40, other in 0u64..1 << 40) {
            let (account, stranger) = (AccountId::from_bits(bits), AccountId::from_bits(other));
            let blob = key(7).seal_credential(account, &credential).unwrap();
            prop_assert_eq!(key(7).open_credential(account, &blob), Some(credential));
            prop_assert!(account == stranger || key(7).open_credential(stranger, &blob).is_none());
            prop_assert!(key(8).open_credential(account, &blob).is_none());
            prop_assert!(key(7).open(SealPurpose::Check, &blob).is_none());
        }

        #[test]
        fn one_changed_bit_or_a_lost_end_opens_nothing(credential in any_credential(), at: prop::sample::Index, bit in 0u8..8) {
            let account = AccountId::from_bits(1);
            let blob = key(7).seal_credential(account, &credential).unwrap();
            let place = at.index(blob.len());
            let mut tampered = blob.clone();
            tampered[place] ^= 1 << bit;
            prop_assert!(key(7).open_credential(account, &tampered).is_none());
            prop_assert!(key(7).open_credential(account, &blob[..place]).is_none());
        }

    }

    #[test]
    fn sealing_the_same_value_twice_gives_different_texts() {
        let sealed = || key(1).seal(SealPurpose::LeaseKey, b"same").unwrap();
        assert_ne!(sealed(), sealed());
    }
}
