//! The keys that seal the credentials of a shared pool, and how a host gets them.
//!
//! The database has only sealed credentials and, for each host, the pool's keys wrapped for that host alone. There are two
//! keys: `access` opens what is needed to use an account, `refresh` opens refresh tokens, which only some hosts may have.
//! Every sealed value is bound to the pool, the account, its purpose and the generation of the keys, so that a person who
//! can write to the database cannot exchange one for another.

use std::fmt;

use ring::hkdf;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::KeyGeneration;
use crate::credential::seal::{open, seal};
use crate::credential::{Credential, Secret, decode, encode};
use crate::pool::AccountId;

/// The version of wrapped keys.
const VERSION: u8 = 1;
/// Generation, origin, access key, whether there is a refresh key, refresh key.
const PLAIN: usize = 4 + 32 + 32 + 1 + 32;

/// 32 secret bytes.
type KeyBytes = Zeroizing<[u8; 32]>;

/// Why something could not be sealed, opened or unwrapped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PoolKeyError {
    /// It was sealed with keys that this host does not have.
    #[error(
        "it was sealed with generation {} of the pool's keys, and this host has generation {}",
        sealed.0,
        known.0
    )]
    OtherGeneration {
        /// The generation that it was sealed with.
        sealed: KeyGeneration,
        /// The generation that this host has.
        known: KeyGeneration,
    },
    /// This host has no key for refresh tokens.
    #[error("this host has no key for refresh tokens: it is no refresher of the pool")]
    NoRefreshKey,
    /// A sealed value does not open: it was changed, or belongs elsewhere.
    #[error("{0} in the pool's database does not open with the pool's keys: it was changed there or belongs elsewhere")]
    Unopened(String),
    /// Wrapped keys do not open.
    #[error(
        "the pool's keys in its database were not wrapped for this host by a member of the pool; join again: lessor pool join"
    )]
    NotForThisHost,
    /// Wrapped keys are older than those that this host has.
    #[error(
        "the pool's database has generation {} of the keys for this host, which has generation {} already: the database \
         is older than what this host has seen",
        wrapped.0,
        known.0
    )]
    Older {
        /// The generation in the database.
        wrapped: KeyGeneration,
        /// The generation that this host has.
        known: KeyGeneration,
    },
    /// Nothing could be sealed.
    #[error("sealing failed: {0}")]
    Sealing(String),
}

/// The keys of a pool, as far as a host may have them.
pub struct PoolKeys {
    generation: KeyGeneration,
    /// The same in every generation. Only who has it can wrap keys: keys that the database has made up are refused.
    origin: KeyBytes,
    access: KeyBytes,
    refresh: Option<KeyBytes>,
}

impl PoolKeys {
    /// The first keys of a new pool.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn first() -> Result<Self, PoolKeyError> {
        Ok(Self { generation: KeyGeneration(1), origin: random()?, access: random()?, refresh: Some(random()?) })
    }

    /// The keys that follow these, after a host was evicted.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn next(&self) -> Result<Self, PoolKeyError> {
        let generation = KeyGeneration(self.generation.0.saturating_add(1));
        Ok(Self { generation, origin: self.origin.clone(), access: random()?, refresh: Some(random()?) })
    }

    /// Which keys these are.
    #[must_use]
    pub fn generation(&self) -> KeyGeneration {
        self.generation
    }

    /// Whether they open refresh tokens.
    #[must_use]
    pub fn can_refresh(&self) -> bool {
        self.refresh.is_some()
    }

    /// A deliberate copy.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            generation: self.generation,
            origin: self.origin.clone(),
            access: self.access.clone(),
            refresh: self.refresh.clone(),
        }
    }

    /// A copy for a host that may not refresh.
    #[must_use]
    pub fn without_refresh(&self) -> Self {
        Self { refresh: None, ..self.duplicate() }
    }

    /// Seals what is needed to use an account: its credential without the refresh token.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn seal_access(
        &self,
        pool: &str,
        account: AccountId,
        credential: &Credential,
    ) -> Result<Vec<u8>, PoolKeyError> {
        let access = Credential { refresh: None, ..credential.duplicate() };
        let plain = encode(&access).map_err(PoolKeyError::Sealing)?;
        seal(&self.access, &self.purpose("access", pool, account), &plain).map_err(PoolKeyError::Sealing)
    }

    /// Opens what [`Self::seal_access`] made with keys of this generation; the credential has no refresh token.
    ///
    /// # Errors
    /// When it was sealed with other keys, for another account or pool, or was changed.
    pub fn open_access(
        &self,
        pool: &str,
        account: AccountId,
        keys: KeyGeneration,
        sealed: &[u8],
    ) -> Result<Credential, PoolKeyError> {
        self.check_generation(keys)?;
        let plain = open(&self.access, &self.purpose("access", pool, account), sealed);
        plain
            .and_then(|plain| decode(&plain))
            .ok_or_else(|| PoolKeyError::Unopened(format!("the credential of {account}")))
    }

    /// Seals the refresh token of an account.
    ///
    /// # Errors
    /// When these are not the keys of a refresher, or it cannot be sealed.
    pub fn seal_refresh(&self, pool: &str, account: AccountId, token: &Secret) -> Result<Vec<u8>, PoolKeyError> {
        let key = self.refresh.as_ref().ok_or(PoolKeyError::NoRefreshKey)?;
        let purpose = self.purpose("refresh", pool, account);
        seal(key, &purpose, token.expose().as_bytes()).map_err(PoolKeyError::Sealing)
    }

    /// Opens what [`Self::seal_refresh`] made with keys of this generation.
    ///
    /// # Errors
    /// When these are not the keys of a refresher; or it was sealed with other keys, for another account or pool, or was
    /// changed.
    pub fn open_refresh(
        &self,
        pool: &str,
        account: AccountId,
        keys: KeyGeneration,
        sealed: &[u8],
    ) -> Result<Secret, PoolKeyError> {
        self.check_generation(keys)?;
        let key = self.refresh.as_ref().ok_or(PoolKeyError::NoRefreshKey)?;
        let plain = open(key, &self.purpose("refresh", pool, account), sealed);
        let text = plain.and_then(|plain| str::from_utf8(&plain).map(str::to_owned).ok());
        text.map(Secret::new).ok_or_else(|| PoolKeyError::Unopened(format!("the refresh token of {account}")))
    }

    /// Wraps these keys for a host of the pool, with its public key. Only that host can open them, and it sees that a
    /// member has wrapped them.
    ///
    /// # Errors
    /// When the key of the host is none, or the system has no random bytes.
    pub fn wrap_for(&self, pool: &str, host: &HostPublicKey) -> Result<Vec<u8>, PoolKeyError> {
        self.wrap(pool, host, &self.origin)
    }

    /// Wraps these keys for the holder of the one-time key pair of an invitation, of which the database has no part.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn wrap_for_invitation(&self, pool: &str, one_time: &HostKeyPair) -> Result<Vec<u8>, PoolKeyError> {
        self.wrap(pool, &one_time.public(), &one_time.invitation_secret())
    }

    fn wrap(&self, pool: &str, host: &HostPublicKey, proof: &[u8; 32]) -> Result<Vec<u8>, PoolKeyError> {
        let passing = HostKeyPair::generate()?;
        let key = passing.shared_key(&passing.public(), host, pool, proof, host)?;
        let mut plain = Zeroizing::new([0u8; PLAIN]);
        let (generation, rest) = plain.split_at_mut(4);
        generation.copy_from_slice(&self.generation.0.to_le_bytes());
        rest[..32].copy_from_slice(&*self.origin);
        rest[32..64].copy_from_slice(&*self.access);
        if let Some(refresh) = &self.refresh {
            rest[64] = 1;
            rest[65..].copy_from_slice(&**refresh);
        }
        let sealed = seal(&key, &wrapping(pool), &*plain).map_err(PoolKeyError::Sealing)?;
        let mut wrapped = Vec::with_capacity(1 + 32 + sealed.len());
        wrapped.push(VERSION);
        wrapped.extend_from_slice(&passing.public().0);
        wrapped.extend_from_slice(&sealed);
        Ok(wrapped)
    }

    /// What a value is bound to. The pool's id comes last, because it may contain anything.
    fn purpose(&self, what: &str, pool: &str, account: AccountId) -> String {
        format!("lessor pool {what} {account} {} {pool}", self.generation.0)
    }

    fn check_generation(&self, sealed: KeyGeneration) -> Result<(), PoolKeyError> {
        if sealed == self.generation {
            return Ok(());
        }
        Err(PoolKeyError::OtherGeneration { sealed, known: self.generation })
    }

    /// The bytes of the keys, for the membership: generation, origin, access, refresh.
    pub(super) fn parts(&self) -> (KeyGeneration, &[u8; 32], &[u8; 32], Option<&[u8; 32]>) {
        (self.generation, &self.origin, &self.access, self.refresh.as_deref())
    }

    /// The keys with these parts.
    pub(super) fn of_parts(
        generation: KeyGeneration,
        origin: [u8; 32],
        access: [u8; 32],
        refresh: Option<[u8; 32]>,
    ) -> Self {
        let [origin, access] = [origin, access].map(Zeroizing::new);
        Self { generation, origin, access, refresh: refresh.map(Zeroizing::new) }
    }
}

impl PartialEq for PoolKeys {
    fn eq(&self, other: &Self) -> bool {
        let refresh = match (&self.refresh, &other.refresh) {
            (Some(ours), Some(theirs)) => are_same(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        let same = are_same(&self.origin, &other.origin) & are_same(&self.access, &other.access) & refresh;
        same && self.generation == other.generation
    }
}

impl Eq for PoolKeys {}

impl fmt::Debug for PoolKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKeys({}, {})", self.generation.0, if self.can_refresh() { "refresher" } else { "member" })
    }
}

/// The public half of a host's key pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HostPublicKey(pub [u8; 32]);

/// The key pair of a host, or the one-time key pair of an invitation.
pub struct HostKeyPair(StaticSecret);

impl HostKeyPair {
    /// A new key pair.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> Result<Self, PoolKeyError> {
        random().map(|bytes| Self(StaticSecret::from(*bytes)))
    }

    /// The key pair with these secret bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// The secret bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// A deliberate copy.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> HostPublicKey {
        HostPublicKey(PublicKey::from(&self.0).to_bytes())
    }

    /// Unwraps keys that a member wrapped for this host, which has `known` already.
    ///
    /// # Errors
    /// When they were not wrapped for this host by a member of the pool, or are older than `known`.
    pub fn unwrap(&self, pool: &str, wrapped: &[u8], known: &PoolKeys) -> Result<PoolKeys, PoolKeyError> {
        let keys = self.unwrap_with(pool, wrapped, &known.origin).ok_or(PoolKeyError::NotForThisHost)?;
        if keys.generation < known.generation {
            return Err(PoolKeyError::Older { wrapped: keys.generation, known: known.generation });
        }
        Ok(keys)
    }

    /// Unwraps the keys of an invitation, with its one-time key pair.
    ///
    /// # Errors
    /// When they were not wrapped for this invitation.
    pub fn unwrap_invitation(&self, pool: &str, wrapped: &[u8]) -> Result<PoolKeys, PoolKeyError> {
        self.unwrap_with(pool, wrapped, &self.invitation_secret()).ok_or(PoolKeyError::NotForThisHost)
    }

    fn unwrap_with(&self, pool: &str, wrapped: &[u8], proof: &[u8; 32]) -> Option<PoolKeys> {
        let (&version, rest) = wrapped.split_first()?;
        let (passing, sealed) = rest.split_first_chunk::<32>()?;
        if version != VERSION {
            return None;
        }
        let passing = HostPublicKey(*passing);
        let key = self.shared_key(&passing, &passing, pool, proof, &self.public()).ok()?;
        let plain = open(&key, &wrapping(pool), sealed)?;
        let plain: &[u8; PLAIN] = (**plain).try_into().ok()?;
        let (generation, rest) = plain.split_first_chunk::<4>()?;
        let (origin, rest) = rest.split_first_chunk::<32>()?;
        let (access, rest) = rest.split_first_chunk::<32>()?;
        let (has_refresh, refresh) = rest.split_first()?;
        let refresh = <[u8; 32]>::try_from(refresh).ok().filter(|_| *has_refresh == 1);
        Some(PoolKeys::of_parts(KeyGeneration(i32::from_le_bytes(*generation)), *origin, *access, refresh))
    }

    /// The key that wraps: of the secret that both sides have, and of a proof that the database does not have. It is
    /// bound to both public keys and the pool.
    fn shared_key(
        &self,
        passing: &HostPublicKey,
        theirs: &HostPublicKey,
        pool: &str,
        proof: &[u8; 32],
        host: &HostPublicKey,
    ) -> Result<KeyBytes, PoolKeyError> {
        let shared = self.0.diffie_hellman(&PublicKey::from(theirs.0));
        // a public key that gives the same secret with every private key
        if !shared.was_contributory() {
            return Err(PoolKeyError::NotForThisHost);
        }
        let mut secrets = Zeroizing::new([0u8; 64]);
        secrets[..32].copy_from_slice(shared.as_bytes());
        secrets[32..].copy_from_slice(proof);
        derive(&*secrets, &[b"lessor pool keys 1", &passing.0, &host.0, pool.as_bytes()])
    }

    /// What the holder of an invitation has, and the database has not.
    fn invitation_secret(&self) -> KeyBytes {
        self.to_bytes()
    }
}

impl PartialEq for HostKeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for HostKeyPair {}

impl fmt::Debug for HostKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKeyPair(…)")
    }
}

/// Compares in constant time.
fn are_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |differs, (left, right)| differs | (left ^ right)) == 0
}

/// The purpose of wrapped keys.
fn wrapping(pool: &str) -> String {
    format!("lessor pool wrapped-keys {pool}")
}

/// A key of secret bytes for what is described by `bound`.
fn derive(secret: &[u8], bound: &[&[u8]]) -> Result<KeyBytes, PoolKeyError> {
    let failed = |_| PoolKeyError::Sealing("no key could be derived".to_owned());
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lessor shared pool").extract(secret);
    let output = pseudorandom.expand(bound, hkdf::HKDF_SHA256).map_err(failed)?;
    let mut key = Zeroizing::new([0u8; 32]);
    output.fill(&mut *key).map_err(failed)?;
    Ok(key)
}

fn random() -> Result<KeyBytes, PoolKeyError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| PoolKeyError::Sealing(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
