//! Lease ids contain the lease under a keyed MAC, so that a connection-bound lease survives a restart of the daemon
//! without a write to disk, and an ended lease can be distinguished from a forged id.

use super::base32::{GROUP, MacKey, encode, take_text};
use crate::pool::{AccountId, Fence, Lease};

const PREFIX: &str = "ls_";
const MAC: usize = 8;
/// Account, fence, flags.
const FIXED: usize = 5 + 8 + 1;
/// The bytes of text in an id; texts that do not fit are omitted, in the order model, pool, session, label.
const MOST_TEXT: usize = 160;
const TEXTS: usize = 4;
/// The longest id, before base 32.
const MOST_BYTES: usize = FIXED + TEXTS + MOST_TEXT + MAC;
const EXCLUSIVE: u8 = 1;

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
    pub model: Option<Box<str>>,
    /// The quota pool, for providers with several.
    pub pool: Option<Box<str>>,
    /// The session.
    pub session: Option<Box<str>>,
    /// The label that the holder chose.
    pub label: Option<Box<str>>,
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
        let mac = self.0.mac(&bytes[..end]);
        bytes[end..end + MAC].copy_from_slice(&mac[..MAC]);
        encode(PREFIX, &bytes[..end + MAC])
    }

    /// The content of an id; `None` for a forged id.
    #[must_use]
    pub fn open(&self, id: &str) -> Option<LeaseToken> {
        let mut room = [0; MOST_BYTES + GROUP];
        let payload = self.0.open(id.strip_prefix(PREFIX)?, MAC, &mut room)?;
        let (fixed, mut texts) = payload.split_at_checked(FIXED)?;
        let mut account = [0; 8];
        account[..5].copy_from_slice(&fixed[..5]);
        Some(LeaseToken {
            fence: Fence(u64::from_le_bytes(fixed[5..13].try_into().ok()?)),
            account: AccountId::from_bits(u64::from_le_bytes(account)),
            exclusive: fixed[13] & EXCLUSIVE != 0,
            model: take_text(&mut texts)?,
            pool: take_text(&mut texts)?,
            session: take_text(&mut texts)?,
            label: take_text(&mut texts)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::base32::every_letter_counts;
    use super::*;
    use crate::pool::{Bind, ChosenBy, ConnectionId, Holder, Target, Wall};

    fn lease(account: u64, fence: u64, texts: [Option<String>; 4], exclusive: bool) -> Lease {
        let [model, pool, session, label] = texts;
        Lease {
            fence: Fence(fence),
            account: AccountId::from_bits(account),
            target: Target {
                provider: "p".into(),
                family: "f".into(),
                key: "k".into(),
                pool: pool.map(Arc::from),
                model: model.map(Into::into),
                names: None,
            },
            session: session.map(Into::into),
            label: label.map(Into::into),
            agent: None,
            bind: Bind::Connection(ConnectionId(0)),
            holder: Holder::default(),
            exclusive,
            pinned: false,
            set: crate::pool::AccountSet::default(),
            by: ChosenBy::Resumed,
            ttl: None,
            expires: None,
            granted_at: Wall(0),
            request_id: None,
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
            let token = key.open(&key.id(&lease)).unwrap();
            prop_assert_eq!((token.fence, token.account, token.exclusive), (lease.fence, lease.account, exclusive));
            prop_assert_eq!((token.model, token.session), (lease.target.model, lease.session));
            prop_assert_eq!(token.label, lease.label);
        }

        #[test]
        fn other_texts_are_rejected(text in "(ls_)?[0-9a-z]{0,80}|.{0,40}") {
            prop_assert_eq!(LeaseKey::new([7; 16]).open(&text), None);
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
    fn texts_that_do_not_fit_are_omitted() {
        let key = LeaseKey::new([7; 16]);
        let long = "x".repeat(MOST_TEXT + 1);
        let token = key.open(&key.id(&lease(1, 2, [Some(long), None, Some("s".into()), None], false))).unwrap();
        assert_eq!((token.model, token.session.as_deref()), (None, Some("s")));
    }
}
