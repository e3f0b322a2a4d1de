//! Sealing: authenticated encryption that is bound to the purpose and owner of a value.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::credential::{Credential, FingerprintKey, Secret};
use crate::pool::{AccountId, CredentialKind, Wall};

const VERSION: u8 = 1;
const NONCE: usize = 24;

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
}

impl SealPurpose<'_> {
    fn associated(self) -> String {
        match self {
            Self::Credential(account) => format!("lessor credential {account}"),
            Self::ClientSecret(name) => format!("lessor client-secret {name}"),
            Self::Check => "lessor check".into(),
            Self::LeaseKey => "lessor lease-key".into(),
            Self::FingerprintKey => "lessor fingerprint-key".into(),
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

    /// Opens a value, if it is intact and was sealed for this purpose with this key.
    pub(in crate::store) fn open(&self, purpose: SealPurpose<'_>, blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&version, rest) = blob.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        if version != VERSION {
            return None;
        }
        let associated = purpose.associated();
        let payload = Payload { msg: sealed, aad: associated.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
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

/// The format of a plain credential: kind, expiry, access token, refresh token; integers have a fixed length.
type Plain<'a> = (u8, Option<u64>, &'a str, Option<&'a str>);

/// What follows it if any of it is known: the OAuth client, and when the provider first accepted the credential.
/// Earlier versions did not write it.
type Later<'a> = (Option<&'a str>, Option<u64>);

/// What follows that if any of it is known: the API that the login is for, and when it may be refreshed.
type Latest<'a> = (Option<&'a str>, Option<u64>);

/// The bound keeps damaged lengths from allocating memory.
const FORMAT: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ 16 << 20 }>,
> = bincode::config::legacy().with_limit();

const KINDS: [CredentialKind; 3] = [CredentialKind::Oauth, CredentialKind::ApiKey, CredentialKind::Token];

fn encode(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, String> {
    let kind = KINDS.iter().position(|kind| *kind == credential.kind).and_then(|at| u8::try_from(at).ok());
    let (access, refresh) = (credential.access.expose(), credential.refresh.as_ref().map(Secret::expose));
    let plain: Plain<'_> = (kind.ok_or("unknown kind")?, credential.expires_at.map(|at| at.0), access, refresh);
    let later: Later<'_> = (credential.client_id.as_deref(), credential.accepted_at.map(|at| at.0));
    let latest: Latest<'_> = (credential.resource.as_deref(), credential.refresh_from.map(|at| at.0));
    let texts = [Some(access), refresh, later.0, latest.0];
    // allocated in full: a vector that grows leaves unwiped memory behind
    let mut bytes = Zeroizing::new(vec![0; 96 + texts.into_iter().flatten().map(str::len).sum::<usize>()]);
    let mut length = bincode::encode_into_slice(plain, &mut bytes, FORMAT).map_err(|error| error.to_string())?;
    let parts = [later, latest];
    let known = parts.iter().rposition(|part| *part != (None, None)).map_or(0, |last| last + 1);
    for part in parts.into_iter().take(known) {
        let rest = bytes.get_mut(length..).unwrap_or_default();
        length += bincode::encode_into_slice(part, rest, FORMAT).map_err(|error| error.to_string())?;
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Credential> {
    let ((kind, expires_at, access, refresh), length): (Plain<'_>, _) =
        bincode::borrow_decode_from_slice(bytes, FORMAT).ok()?;
    let mut rest = bytes.get(length..).unwrap_or_default();
    let mut parts: [Later<'_>; 2] = [(None, None); 2];
    for part in &mut parts {
        if rest.is_empty() {
            break;
        }
        let length;
        (*part, length) = bincode::borrow_decode_from_slice(rest, FORMAT).ok()?;
        rest = rest.get(length..).unwrap_or_default();
        // the last part that is there says something
        if rest.is_empty() && *part == (None, None) {
            return None;
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let [(client_id, accepted_at), (resource, refresh_from)] = parts;
    let secret = |text: &str| Secret::new(text.to_owned());
    Some(Credential {
        kind: *KINDS.get(usize::from(kind))?,
        access: secret(access),
        refresh: refresh.map(secret),
        expires_at: expires_at.map(Wall),
        client_id: client_id.map(str::to_owned),
        accepted_at: accepted_at.map(Wall),
        resource: resource.map(str::to_owned),
        refresh_from: refresh_from.map(Wall),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::new(Zeroizing::new([byte; 32]))
    }

    fn credential() -> impl Strategy<Value = Credential> {
        let kind = prop_oneof![Just(CredentialKind::Oauth), Just(CredentialKind::ApiKey), Just(CredentialKind::Token)];
        let (text, time) = (|| proptest::option::of(".{0,40}"), || proptest::option::of(any::<u64>()));
        (kind, ".{0,40}", text(), time(), text(), time(), text(), time()).prop_map(
            |(kind, access, refresh, expires, client_id, accepted, resource, refresh_from)| Credential {
                kind,
                access: Secret::new(access),
                refresh: refresh.map(Secret::new),
                expires_at: expires.map(Wall),
                client_id,
                accepted_at: accepted.map(Wall),
                resource,
                refresh_from: refresh_from.map(Wall),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn opens_only_for_its_owner(credential in credential(), bits in 0u64..1 << 40, other in 0u64..1 << 40) {
            let (account, stranger) = (AccountId::from_bits(bits), AccountId::from_bits(other));
            let blob = key(7).seal_credential(account, &credential).unwrap();
            prop_assert_eq!(key(7).open_credential(account, &blob), Some(credential));
            prop_assert!(account == stranger || key(7).open_credential(stranger, &blob).is_none());
            prop_assert!(key(8).open_credential(account, &blob).is_none());
            prop_assert!(key(7).open(SealPurpose::Check, &blob).is_none());
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
                prop_assert_eq!(&encode(&credential).unwrap()[..], &bytes[..]);
            }
        }
    }

    /// What version 0.1 wrote: without a client id.
    #[test]
    fn credentials_of_earlier_versions_open_and_are_written_as_before() {
        let bytes = b"\x00\x01\x09\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0at\x01\x02\0\0\0\0\0\0\0rt";
        let login = decode(bytes).unwrap();
        assert_eq!((login.access.expose(), login.expires_at), ("at", Some(Wall(9))));
        assert_eq!((&login.client_id, login.accepted_at), (&None, None));
        assert_eq!(&encode(&login).unwrap()[..], bytes);
        let of_client = Credential { client_id: Some("c".into()), accepted_at: Some(Wall(7)), ..login };
        let longer = encode(&of_client).unwrap();
        let later = b"\x01\x01\0\0\0\0\0\0\0c\x01\x07\0\0\0\0\0\0\0";
        assert_eq!((&longer[..bytes.len()], &longer[bytes.len()..]), (&bytes[..], &later[..]));
        assert_eq!(decode(&longer), Some(of_client));
        for cut in bytes.len() + 1..longer.len() {
            assert_eq!(decode(&longer[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn sealing_the_same_value_twice_gives_different_texts() {
        let sealed = || key(1).seal(SealPurpose::LeaseKey, b"same").unwrap();
        assert_ne!(sealed(), sealed());
    }
}
