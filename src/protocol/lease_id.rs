//! Lease ids contain the lease under a keyed MAC, so that a connection-bound lease survives a restart of the daemon
//! without a write to disk, and an ended lease can be distinguished from a forged id.

use std::sync::Arc;

use super::base32::{GROUP, MacKey, encode_to, take_text};
use crate::pool::{AccountId, AccountSet, Bind, Fence, Lease};

const PREFIX: &str = "ls_";
const MAC: usize = 8;
/// Account, fence, flags.
const FIXED: usize = 5 + 8 + 1;
/// The bytes of text in an id; texts that do not fit are omitted, in the order model, pool, session, label.
const MOST_TEXT: usize = 160;
const TEXTS: usize = 4;
/// The longest id, before base 32.
const MOST_BYTES: usize = FIXED + TEXTS + MOST_TEXT + 1 + MOST_DIRECTORY + 1 + ACCOUNT * MOST_ACCOUNTS + MAC;
const EXCLUSIVE: u8 = 1;
/// The set of the lease's accounts follows the texts.
const SET: u8 = 2;
/// The lease has a set of accounts that is not in the id.
const UNKNOWN_SET: u8 = 4;
/// The longest directory in an id, and the most accounts; a set that has more is not in the id.
const MOST_DIRECTORY: usize = 200;
const MOST_ACCOUNTS: usize = 32;
/// The bytes of an account in an id.
const ACCOUNT: usize = 5;

/// The key of the MAC; a new one for each boot of the machine.
#[derive(Clone, Debug)]
pub struct LeaseKey(MacKey);

/// The content of a lease id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseToken {
    /// The fencing token.
    pub fence: Fence,
    /// The account.
    pub account: AccountId,
    /// Whether the lease is exclusive.
    pub exclusive: bool,
    /// The model.
    pub model: Option<Arc<str>>,
    /// The quota pool, for providers with several.
    pub pool: Option<Arc<str>>,
    /// The session.
    pub session: Option<Arc<str>>,
    /// The label that the holder chose.
    pub label: Option<Arc<str>>,
    /// The accounts that it may move to; `None` if they are not in the id.
    pub set: Option<AccountSet>,
}

impl LeaseKey {
    /// A key from random bytes.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self(MacKey(key))
    }

    /// The id of a lease.
    #[must_use]
    pub fn id(&self, lease: &Lease) -> String {
        let mut id = String::new();
        self.write_id(lease, &mut id);
        id
    }

    /// Replaces a text by the id of a lease.
    pub fn write_id(&self, lease: &Lease, id: &mut String) {
        let mut bytes = [0u8; MOST_BYTES];
        bytes[..5].copy_from_slice(&lease.account.bits().to_le_bytes()[..5]);
        bytes[5..13].copy_from_slice(&lease.fence.0.to_le_bytes());
        bytes[13] = if lease.exclusive { EXCLUSIVE } else { 0 };
        let mut end = FIXED;
        let pool = lease.target.pool.as_deref();
        let texts = [lease.target.model.as_deref(), pool, lease.session.as_deref(), lease.label.as_deref()];
        let mut room = MOST_TEXT;
        for text in texts {
            // the length plus one, so that "none" differs from "empty"
            let text = text.filter(|text| text.len() <= room);
            bytes[end] = text.map_or(0, |text| text.len() as u8 + 1);
            end += 1;
            if let Some(text) = text {
                bytes[end..end + text.len()].copy_from_slice(text.as_bytes());
                end += text.len();
                room -= text.len();
            }
        }
        if lease.set.is_some() {
            let known = add_set(&mut bytes, &mut end, lease);
            bytes[FIXED - 1] |= if known { SET } else { UNKNOWN_SET };
        }
        let mac = self.0.mac(&bytes[..end]);
        bytes[end..end + MAC].copy_from_slice(&mac[..MAC]);
        encode_to(id, PREFIX, &bytes[..end + MAC]);
    }

    /// The fence of an id; `None` for a forged id.
    #[must_use]
    pub fn fence(&self, id: &str) -> Option<Fence> {
        let mut room = [0; MOST_BYTES + GROUP];
        fence_in(self.0.open(id.strip_prefix(PREFIX)?, MAC, &mut room)?)
    }

    /// The content of an id; `None` for a forged id.
    #[must_use]
    pub fn open(&self, id: &str) -> Option<LeaseToken> {
        let mut room = [0; MOST_BYTES + GROUP];
        let payload = self.0.open(id.strip_prefix(PREFIX)?, MAC, &mut room)?;
        let (fixed, mut texts) = payload.split_at_checked(FIXED)?;
        let mut account = [0; 8];
        account[..5].copy_from_slice(&fixed[..5]);
        let flags = fixed[13];
        let (model, pool) = (take_text(&mut texts)?, take_text(&mut texts)?);
        let (session, label) = (take_text(&mut texts)?, take_text(&mut texts)?);
        let set = match flags & (SET | UNKNOWN_SET) {
            0 => Some(AccountSet::default()),
            SET => Some(take_set(&mut texts)?),
            _ => None,
        };
        Some(LeaseToken {
            fence: fence_in(fixed)?,
            account: AccountId::from_bits(u64::from_le_bytes(account)),
            exclusive: flags & EXCLUSIVE != 0,
            model,
            pool,
            session,
            label,
            set,
        })
    }
}

/// Adds the set of a lease, if it is needed for resuming it and has room; `false` if it is not in the id.
fn add_set(bytes: &mut [u8; MOST_BYTES], end: &mut usize, lease: &Lease) -> bool {
    let AccountSet { only, directory } = lease.set();
    let (only, directory) = (only.as_deref(), directory.as_deref());
    let fits = only.is_none_or(|only| only.len() <= MOST_ACCOUNTS)
        && directory.is_none_or(|directory| directory.len() <= MOST_DIRECTORY);
    // other leases are stored
    if !fits || !matches!(lease.bind, Bind::Connection(_)) {
        return false;
    }
    bytes[*end] = directory.map_or(0, |directory| directory.len() as u8 + 1);
    *end += 1;
    let directory = directory.unwrap_or_default().as_bytes();
    bytes[*end..*end + directory.len()].copy_from_slice(directory);
    *end += directory.len();
    bytes[*end] = only.map_or(0, |only| only.len() as u8 + 1);
    *end += 1;
    for account in only.unwrap_or_default() {
        bytes[*end..*end + ACCOUNT].copy_from_slice(&account.bits().to_le_bytes()[..ACCOUNT]);
        *end += ACCOUNT;
    }
    true
}

fn take_set(bytes: &mut &[u8]) -> Option<AccountSet> {
    let directory = take_text(bytes)?;
    let (number, rest) = bytes.split_first()?;
    let account = |bytes: &[u8]| {
        let mut bits = [0; 8];
        bits[..ACCOUNT].copy_from_slice(bytes);
        AccountId::from_bits(u64::from_le_bytes(bits))
    };
    let only = match number.checked_sub(1) {
        None => None,
        Some(number) => {
            let accounts = rest.get(..usize::from(number) * ACCOUNT)?;
            Some(accounts.chunks_exact(ACCOUNT).map(account).collect())
        }
    };
    Some(AccountSet { only, directory })
}

fn fence_in(payload: &[u8]) -> Option<Fence> {
    Some(Fence(u64::from_le_bytes(payload.get(5..13)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::base32::every_letter_counts;
    use super::*;
    use crate::pool::{ChosenBy, ConnectionId, Holder, Target, Wall};

    fn lease(account: u64, fence: u64, texts: [Option<String>; 4], exclusive: bool) -> Lease {
        let [model, pool, session, label] = texts;
        Lease {
            fence: Fence(fence),
            account: AccountId::from_bits(account),
            target: Arc::new(Target {
                provider: "p".into(),
                family: "f".into(),
                key: "k".into(),
                pool: pool.map(Arc::from),
                model: model.map(Into::into),
                names: None,
            }),
            session: session.map(Into::into),
            label: label.map(Into::into),
            agent: None,
            bind: Bind::Connection(ConnectionId(0)),
            holder: Holder::default(),
            exclusive,
            pinned: false,
            set: None,
            by: ChosenBy::Resumed,
            ttl: None,
            expires: None,
            granted_at: Wall(0),
            request_id: None,
            subagent: None,
        }
    }

    proptest! {
        #[test]
        fn open_returns_what_was_sealed(
            account in 0u64..1 << 40, fence: u64, exclusive: bool,
            texts in prop::array::uniform4(prop::option::of("[a-zé]{0,20}")),
        ) {
            let key = LeaseKey::new([7; 16]);
            let lease = lease(account, fence, texts, exclusive);
            let id = key.id(&lease);
            let token = key.open(&id).unwrap();
            prop_assert_eq!(key.fence(&id), Some(lease.fence));
            prop_assert_eq!((token.fence, token.account, token.exclusive), (lease.fence, lease.account, exclusive));
            prop_assert_eq!((token.model, token.session), (lease.target.model.clone(), lease.session));
            prop_assert_eq!(token.label, lease.label);
        }

        #[test]
        fn other_texts_are_rejected(text in "(ls_)?[0-9a-z]{0,80}|.{0,40}") {
            prop_assert_eq!(LeaseKey::new([7; 16]).open(&text), None);
            prop_assert_eq!(LeaseKey::new([7; 16]).fence(&text), None);
        }
    }

    #[test]
    fn changed_letters_and_other_keys_are_rejected() {
        let key = LeaseKey::new([7; 16]);
        let id = key.id(&lease(1, 2, [Some("claude".into()), None, None, None], false));
        assert!(LeaseKey::new([8; 16]).open(&id).is_none());
        every_letter_counts(&id, PREFIX, |changed| key.open(changed).is_some());
    }

    #[test]
    fn a_set_comes_back_whole_or_not_at_all() {
        let key = LeaseKey::new([7; 16]);
        let opened = |set: AccountSet, bind: Bind| {
            let lease = Lease {
                set: set.of_lease(),
                bind,
                ..lease(1, 2, [Some("m".into()), None, None, Some("l".into())], true)
            };
            let token = key.open(&key.id(&lease)).unwrap();
            assert_eq!((token.exclusive, token.label.as_deref()), (true, Some("l")));
            token.set
        };
        let bound = Bind::Connection(ConnectionId(0));
        let ids = |number: u64| Some((0..number).map(AccountId::from_bits).collect::<Arc<[AccountId]>>());
        let directory = |length: usize| Some(Arc::from("/".repeat(length)));
        for set in [
            AccountSet::default(),
            AccountSet { only: ids(1), directory: None },
            AccountSet { only: None, directory: directory(1) },
            AccountSet { only: ids(32), directory: directory(200) },
        ] {
            assert_eq!(opened(set.clone(), bound), Some(set));
        }
        for set in
            [AccountSet { only: ids(33), directory: None }, AccountSet { only: ids(1), directory: directory(201) }]
        {
            assert_eq!(opened(set, bound), None, "it cannot be resumed without its set");
        }
        assert_eq!(opened(AccountSet { only: ids(1), directory: None }, Bind::Ttl), None, "that one is stored");
        assert_eq!(opened(AccountSet::default(), Bind::Ttl), Some(AccountSet::default()));
    }

    #[test]
    fn texts_that_do_not_fit_are_omitted() {
        let key = LeaseKey::new([7; 16]);
        let long = "x".repeat(MOST_TEXT + 1);
        let token = key.open(&key.id(&lease(1, 2, [Some(long), None, Some("s".into()), None], false))).unwrap();
        assert_eq!((token.model, token.session.as_deref()), (None, Some("s")));
    }
}
