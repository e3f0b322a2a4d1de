//! What a machine has as a host of a shared pool.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{HostId, HostKeyPair, KeyGeneration, PoolAddress, PoolKeys};
use crate::credential::{Secret, SecretBytes};

/// The version of its bytes in the store.
const VERSION: u8 = 1;

/// What a machine has as a host of a shared pool. Its secrets are not printed.
#[derive(PartialEq, Eq, Debug)]
pub struct Membership {
    /// The id of the pool.
    pub pool: String,
    /// The id of this host in it.
    pub host: HostId,
    /// The name of this host in it.
    pub name: String,
    /// Where its database is, and the password of this host's role.
    pub address: PoolAddress,
    /// This host's key pair, for which others wrap the pool's keys.
    pub key_pair: HostKeyPair,
    /// The pool's keys, as far as this host may have them.
    pub keys: PoolKeys,
    /// Whether this host may add, change and remove accounts and hosts.
    pub admin: bool,
    /// Whether this host may refresh logins.
    pub refresher: bool,
}

/// Pool, host, name; url, password, root certificate; admin, refresher.
type PlainMembership<'a> = (&'a str, i64, &'a str, (&'a str, Option<&'a str>, Option<&'a str>), (bool, bool));
/// The key pair; generation, origin, access key and refresh key of the pool.
type PlainKeys = ([u8; 32], (i32, [u8; 32], [u8; 32], Option<[u8; 32]>));

/// The bound keeps damaged lengths from allocating memory.
const FORMAT: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ 1 << 20 }>,
> = bincode::config::legacy().with_limit();

impl Membership {
    /// A deliberate copy.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            host: self.host,
            name: self.name.clone(),
            address: self.address.duplicate(),
            key_pair: self.key_pair.duplicate(),
            keys: self.keys.duplicate(),
            admin: self.admin,
            refresher: self.refresher,
        }
    }

    /// The bytes for the store, which seals them.
    ///
    /// # Errors
    /// When the path of the certificate is no text.
    pub fn to_bytes(&self) -> Result<SecretBytes, String> {
        let not_text = || "the path of the pool's root certificate is no Unicode text".to_owned();
        let certificate = self.address.root_certificate.as_ref();
        let certificate = certificate.map(|path| path.to_str().ok_or_else(not_text)).transpose()?;
        let password = self.address.password.as_ref().map(Secret::expose);
        let plain: PlainMembership<'_> = (
            &self.pool,
            self.host.0,
            &self.name,
            (&self.address.url, password, certificate),
            (self.admin, self.refresher),
        );
        let (generation, origin, access, refresh) = self.keys.parts();
        let pair = self.key_pair.to_bytes();
        let keys = Zeroizing::new((*pair, (generation.0, *origin, *access, refresh.copied())));
        let texts = [Some(&*self.pool), Some(&*self.name), Some(&*self.address.url), password, certificate];
        // allocated in full: a vector that grows leaves unwiped memory behind
        let mut bytes = Zeroizing::new(vec![0; 256 + texts.into_iter().flatten().map(str::len).sum::<usize>()]);
        bytes[0] = VERSION;
        let mut length = 1;
        let rest = bytes.get_mut(length..).unwrap_or_default();
        length += bincode::encode_into_slice(plain, rest, FORMAT).map_err(|error| error.to_string())?;
        let rest = bytes.get_mut(length..).unwrap_or_default();
        let keys: &PlainKeys = &keys;
        length += bincode::encode_into_slice(keys, rest, FORMAT).map_err(|error| error.to_string())?;
        bytes.truncate(length);
        Ok(SecretBytes::new(bytes))
    }

    /// The membership that these are the bytes of.
    ///
    /// # Errors
    /// When a newer lessor has written them, or they are damaged; the text says so and how to go on.
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, String> {
        let damaged = || "the stored membership in a pool is damaged; join again: lessor pool join".to_owned();
        let (&version, rest) = bytes.expose().split_first().ok_or_else(damaged)?;
        if version > VERSION {
            return Err(format!(
                "the stored membership in a pool was written by a newer lessor (version {version}; this one knows {VERSION})"
            ));
        }
        let (plain, length): (PlainMembership<'_>, _) =
            bincode::borrow_decode_from_slice(rest, FORMAT).map_err(|_| damaged())?;
        let rest = rest.get(length..).unwrap_or_default();
        let (keys, length): (PlainKeys, _) = bincode::decode_from_slice(rest, FORMAT).map_err(|_| damaged())?;
        if version != VERSION || length != rest.len() {
            return Err(damaged());
        }
        let (pair, (generation, origin, access, refresh)) = &*Zeroizing::new(keys);
        let (pool, host, name, (url, password, certificate), (admin, refresher)) = plain;
        Ok(Self {
            pool: pool.to_owned(),
            host: HostId(host),
            name: name.to_owned(),
            address: PoolAddress {
                url: url.to_owned(),
                password: password.map(|password| Secret::new(password.to_owned())),
                root_certificate: certificate.map(PathBuf::from),
            },
            key_pair: HostKeyPair::from_bytes(pair),
            keys: PoolKeys::of_parts(KeyGeneration(*generation), *origin, *access, *refresh),
            admin,
            refresher,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(keys: PoolKeys) -> Membership {
        Membership {
            pool: "pool-1".into(),
            host: HostId(7),
            name: "laptop".into(),
            address: PoolAddress {
                url: "postgres://h7@db.example/lessor".into(),
                password: Some(Secret::new("canary".into())),
                root_certificate: Some("/etc/ca.pem".into()),
            },
            key_pair: HostKeyPair::generate().unwrap(),
            keys,
            admin: true,
            refresher: false,
        }
    }

    #[test]
    fn a_membership_reads_back_and_prints_no_secret() {
        let keys = PoolKeys::first().unwrap();
        for keys in [keys.without_refresh(), keys.next().unwrap(), keys] {
            let mut membership = membership(keys);
            let read = |membership: &Membership| Membership::from_bytes(&membership.to_bytes().unwrap()).unwrap();
            assert_eq!(read(&membership), membership);
            assert_eq!(membership.duplicate(), membership);
            assert!(!format!("{membership:?}").contains("canary"), "{membership:?}");
            (membership.address.password, membership.address.root_certificate) = (None, None);
            (membership.admin, membership.refresher) = (false, true);
            assert_eq!(read(&membership), membership);
        }
    }

    #[test]
    fn damaged_bytes_and_those_of_a_newer_lessor_are_refused() {
        let bytes = membership(PoolKeys::first().unwrap()).to_bytes().unwrap();
        let bytes = bytes.expose();
        let read = |bytes: &[u8]| Membership::from_bytes(&SecretBytes::new(bytes.to_vec().into()));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).unwrap_err().contains("lessor pool join"), "{cut}");
        }
        assert!(read(&[bytes, &[0]].concat()).unwrap_err().contains("damaged"), "something follows it");
        let newer = read(&[&[2], &bytes[1..]].concat()).unwrap_err();
        assert!(newer.contains("newer lessor (version 2; this one knows 1)"), "{newer}");
    }
}
