//! Keys of the gateway carry what they stand for under a keyed MAC, so that they outlive the daemon and are kept nowhere.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use crate::pool::{Fence, Process};

use super::letters::{GROUP, decode, encode};

const PREFIX: &str = "lk_";
const MAC: usize = 16;
/// The longest text a key carries.
const MOST_TEXT: usize = 120;
/// What kind it is, three numbers, two texts.
const MOST_BYTES: usize = 1 + 8 + 4 + 8 + 2 * (1 + MOST_TEXT) + MAC;

const OF_LEASE: u8 = 1;
const OF_CLIENT: u8 = 2;

/// The key of the MAC; it outlives the daemon and the machine's boot.
#[derive(Clone)]
pub struct GatewayKeySealer([u8; 16]);

/// What a key of the gateway stands for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum GatewayKey {
    /// A lease; it dies with it.
    Lease {
        /// The lease's number when the key was made: it may have moved since.
        fence: Fence,
        /// The process the lease is bound to.
        process: Option<Process>,
        /// Where its holder works.
        directory: Option<Box<str>>,
    },
    /// A client that nothing is known of but this.
    Client {
        /// Tells it from others.
        id: u64,
        /// The agent's name, for the `use` policy.
        agent: Option<Box<str>>,
        /// A name for people.
        label: Option<Box<str>>,
    },
}

impl GatewayKeySealer {
    /// A key from secret bytes.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self(key)
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
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        encode(PREFIX, &bytes)
    }

    /// What a key stands for; `None` when this daemon did not make it.
    #[must_use]
    pub fn open(&self, key: &str) -> Option<GatewayKey> {
        let mut room = [0; MOST_BYTES + GROUP];
        let bytes = decode(key.strip_prefix(PREFIX)?, &mut room)?;
        let (payload, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let differs = self.mac(payload).iter().zip(mac).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        if differs != 0 {
            return None;
        }
        let (kind, mut rest) = payload.split_first()?;
        match *kind {
            OF_LEASE => {
                let fence = Fence(u64::from_le_bytes(take(&mut rest)?));
                let process =
                    Process { pid: u32::from_le_bytes(take(&mut rest)?), start: u64::from_le_bytes(take(&mut rest)?) };
                let process = (process.pid != 0).then_some(process);
                Some(GatewayKey::Lease { fence, process, directory: text(&mut rest)? })
            }
            OF_CLIENT => Some(GatewayKey::Client {
                id: u64::from_le_bytes(take(&mut rest)?),
                agent: text(&mut rest)?,
                label: text(&mut rest)?,
            }),
            _ => None,
        }
    }

    fn mac(&self, payload: &[u8]) -> [u8; MAC] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(payload);
        hasher.finish128().as_bytes()
    }
}

impl std::fmt::Debug for GatewayKeySealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayKeySealer(…)")
    }
}

/// One more than the length, so that "none" is not "empty"; then the text.
fn put(text: Option<&str>, bytes: &mut Vec<u8>) {
    let Some(text) = text else { return bytes.push(0) };
    let end = &text[text.ceil_char_boundary(text.len().saturating_sub(MOST_TEXT))..];
    bytes.push(end.len() as u8 + 1);
    bytes.extend_from_slice(end.as_bytes());
}

#[expect(clippy::option_option, reason = "no text, or nothing that could be one")]
fn text(bytes: &mut &[u8]) -> Option<Option<Box<str>>> {
    let (length, rest) = bytes.split_first()?;
    let Some(length) = length.checked_sub(1) else {
        *bytes = rest;
        return Some(None);
    };
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    *bytes = rest;
    Some(Some(str::from_utf8(text).ok()?.into()))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass() -> impl Strategy<Value = GatewayKey> {
        let text = || prop::option::of("[a-zé/]{0,40}".prop_map(String::into_boxed_str));
        let process = prop::option::of((1u32.., any::<u64>()).prop_map(|(pid, start)| Process { pid, start }));
        prop_oneof![
            (any::<u64>(), process, text()).prop_map(|(fence, process, directory)| GatewayKey::Lease {
                fence: Fence(fence),
                process,
                directory
            }),
            (any::<u64>(), text(), text()).prop_map(|(id, agent, label)| GatewayKey::Client { id, agent, label }),
        ]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(pass in pass()) {
            let key = GatewayKeySealer::new([7; 16]);
            prop_assert_eq!(key.open(&key.seal(&pass)), Some(pass));
        }

        #[test]
        fn anything_else_is_refused(text in "(lk_)?[0-9a-z]{0,300}|.{0,40}") {
            prop_assert_eq!(GatewayKeySealer::new([7; 16]).open(&text), None);
        }
    }

    #[test]
    fn a_changed_letter_or_another_key_is_refused() {
        let key = GatewayKeySealer::new([7; 16]);
        let sealed = key.seal(&GatewayKey::Client { id: 1, agent: Some("claude".into()), label: None });
        assert!(GatewayKeySealer::new([8; 16]).open(&sealed).is_none());
        for place in PREFIX.len()..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            assert!(key.open(str::from_utf8(&changed).unwrap()).is_none(), "letter {place}");
        }
    }

    #[test]
    fn of_a_long_text_the_end_is_kept() {
        let key = GatewayKeySealer::new([7; 16]);
        let long = format!("/{}é/end", "x".repeat(300));
        let pass = GatewayKey::Lease { fence: Fence(1), process: None, directory: Some(long.into()) };
        let Some(GatewayKey::Lease { directory: Some(kept), .. }) = key.open(&key.seal(&pass)) else {
            panic!("not kept")
        };
        assert!(kept.ends_with("xé/end") && kept.len() <= MOST_TEXT, "{kept}");
    }
}
