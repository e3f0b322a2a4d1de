//! Keys for the gateway. The key of a lease contains its meaning under a keyed MAC, so that it survives the daemon and
//! is not stored. A lasting key is random, and only its hash is stored; earlier versions sealed those as well.

use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::base32::{GROUP, MacKey, encode, take_text};
use crate::pool::{Fence, Process};

const PREFIX: &str = "lk_";
const MAC: usize = 16;
/// The longest text in a key.
const MOST_TEXT: usize = 120;
/// The kind, three numbers, two texts and the MAC.
const MOST_BYTES: usize = 1 + 8 + 4 + 8 + 2 * (1 + MOST_TEXT) + MAC;

const OF_LEASE: u8 = 1;
const OF_CLIENT: u8 = 2;
const LASTING: u8 = 3;
/// The random bytes of a lasting key.
pub const LASTING_KEY_BYTES: usize = 24;
/// What the ids of lasting keys begin with.
pub const KEY_ID_PREFIX: &str = "gk_";
/// The bytes of a hash that are its id.
const ID_BYTES: usize = 5;

/// Seals and opens keys for the gateway. The MAC's key outlives the daemon and reboots.
#[derive(Clone, Debug)]
pub struct GatewayKeySealer(MacKey);

/// The content of a key for the gateway.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum GatewayKey {
    /// The key of a lease; it ends with the lease.
    Lease {
        /// The lease's fencing token when the key was made: the lease may have been moved since.
        fence: Fence,
        /// The process the lease is bound to.
        process: Option<Process>,
        /// The holder's working directory.
        directory: Option<Arc<str>>,
    },
    /// A lasting key of a client, made by an earlier version.
    Client {
        /// Distinguishes the client from others.
        id: u64,
        /// The agent's name, for the `use` policy.
        agent: Option<Arc<str>>,
        /// A label for people.
        label: Option<Arc<str>>,
    },
}

/// A lasting key, of random bytes.
#[must_use]
pub fn lasting_key(random: &[u8; LASTING_KEY_BYTES]) -> String {
    encode(PREFIX, &[&[LASTING], &random[..]].concat())
}

/// What is stored of a key: too much of a key is random to find it by trying.
#[must_use]
pub fn key_hash(key: &str) -> [u8; 32] {
    let hash = digest(&SHA256, key.as_bytes());
    // of SHA-256 it always has this length
    hash.as_ref().try_into().unwrap_or_default()
}

/// The id of a lasting key, from its hash.
#[must_use]
pub fn key_id(hash: &[u8; 32]) -> String {
    encode(KEY_ID_PREFIX, &hash[..ID_BYTES])
}

/// Whether a text has the shape of a key, and not of an id or a label.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() >= 24)
}

impl GatewayKeySealer {
    /// A sealer with a secret key.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self(MacKey(key))
    }

    /// The key that a client authenticates with. Of a long text only the end is kept.
    #[must_use]
    pub fn seal(&self, pass: &GatewayKey) -> String {
        let mut bytes = Vec::with_capacity(MOST_BYTES);
        match pass {
            GatewayKey::Lease { fence, process, directory } => {
                bytes.push(OF_LEASE);
                bytes.extend_from_slice(&fence.0.to_le_bytes());
                // no process has the pid 0
                let process = process.unwrap_or(Process { pid: 0, start: 0 });
                bytes.extend_from_slice(&process.pid.to_le_bytes());
                bytes.extend_from_slice(&process.start.to_le_bytes());
                put(directory.as_deref(), &mut bytes);
            }
            GatewayKey::Client { id, agent, label } => {
                bytes.push(OF_CLIENT);
                bytes.extend_from_slice(&id.to_le_bytes());
                put(agent.as_deref(), &mut bytes);
                put(label.as_deref(), &mut bytes);
            }
        }
        let mac: [u8; MAC] = self.0.mac(&bytes);
        bytes.extend_from_slice(&mac);
        encode(PREFIX, &bytes)
    }

    /// The content of a key; `None` for a forged key.
    #[must_use]
    pub fn open(&self, key: &str) -> Option<GatewayKey> {
        let mut room = [0; MOST_BYTES + GROUP];
        let (kind, mut rest) = self.0.open(key.strip_prefix(PREFIX)?, MAC, &mut room)?.split_first()?;
        match *kind {
            OF_LEASE => {
                let fence = Fence(u64::from_le_bytes(take(&mut rest)?));
                let process =
                    Process { pid: u32::from_le_bytes(take(&mut rest)?), start: u64::from_le_bytes(take(&mut rest)?) };
                let process = (process.pid != 0).then_some(process);
                Some(GatewayKey::Lease { fence, process, directory: take_text(&mut rest)? })
            }
            OF_CLIENT => Some(GatewayKey::Client {
                id: u64::from_le_bytes(take(&mut rest)?),
                agent: take_text(&mut rest)?,
                label: take_text(&mut rest)?,
            }),
            _ => None,
        }
    }
}

/// Writes the length plus one, so that "none" differs from "empty", then the text.
fn put(text: Option<&str>, bytes: &mut Vec<u8>) {
    let Some(text) = text else { return bytes.push(0) };
    let end = &text[text.ceil_char_boundary(text.len().saturating_sub(MOST_TEXT))..];
    bytes.push(end.len() as u8 + 1);
    bytes.extend_from_slice(end.as_bytes());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::base32::every_letter_counts;
    use super::*;

    fn pass() -> impl Strategy<Value = GatewayKey> {
        let text = || prop::option::of("[a-zé/]{0,40}".prop_map(String::into_boxed_str));
        let process = prop::option::of((1u32.., any::<u64>()).prop_map(|(pid, start)| Process { pid, start }));
        prop_oneof![
            (any::<u64>(), process, text()).prop_map(|(fence, process, directory)| GatewayKey::Lease {
                fence: Fence(fence),
                process,
                directory: directory.map(Into::into)
            }),
            (any::<u64>(), text(), text()).prop_map(|(id, agent, label)| GatewayKey::Client {
                id,
                agent: agent.map(Into::into),
                label: label.map(Into::into)
            }),
        ]
    }

    proptest! {
        #[test]
        fn open_returns_what_was_sealed(pass in pass()) {
            let key = GatewayKeySealer::new([7; 16]);
            prop_assert_eq!(key.open(&key.seal(&pass)), Some(pass));
        }

        #[test]
        fn other_texts_are_rejected(text in "(lk_)?[0-9a-z]{0,300}|.{0,40}") {
            prop_assert_eq!(GatewayKeySealer::new([7; 16]).open(&text), None);
        }
    }

    #[test]
    fn changed_letters_and_other_keys_are_rejected() {
        let key = GatewayKeySealer::new([7; 16]);
        let sealed = key.seal(&GatewayKey::Client { id: 1, agent: Some("claude".into()), label: None });
        assert!(GatewayKeySealer::new([8; 16]).open(&sealed).is_none());
        every_letter_counts(&sealed, PREFIX, |changed| key.open(changed).is_some());
    }

    #[test]
    fn a_lasting_key_is_not_sealed_and_its_id_is_not_part_of_it() {
        let key = lasting_key(&[9; LASTING_KEY_BYTES]);
        assert!(looks_like_key(&key) && GatewayKeySealer::new([7; 16]).open(&key).is_none());
        let id = key_id(&key_hash(&key));
        assert!(id.len() == KEY_ID_PREFIX.len() + 8 && !looks_like_key(&id), "{id}");
        assert!(!key.contains(id.trim_start_matches(KEY_ID_PREFIX)));
        assert_ne!(key_hash(&key), key_hash(&lasting_key(&[8; LASTING_KEY_BYTES])));
    }

    #[test]
    fn the_end_of_a_long_text_is_kept() {
        let key = GatewayKeySealer::new([7; 16]);
        let long = format!("/{}é/end", "x".repeat(300));
        let pass = GatewayKey::Lease { fence: Fence(1), process: None, directory: Some(long.into()) };
        let Some(GatewayKey::Lease { directory: Some(kept), .. }) = key.open(&key.seal(&pass)) else {
            panic!("not kept")
        };
        assert!(kept.ends_with("xé/end") && kept.len() <= MOST_TEXT, "{kept}");
    }
}
