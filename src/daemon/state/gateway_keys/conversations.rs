//! The conversations of sub-agents: each has a lease of its own, which ends when it is idle for `leases.ttl`, or with the
//! lease of the run.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pool::{Ending, Fence};

/// Most of all keys together; further ones get a lease for each request.
const MOST: usize = 4096;

/// Whose conversation it is: that of a sub-agent of this run, or of this client, with a provider.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ConversationKey {
    pub(crate) owner: ConversationOwner,
    pub(crate) provider: Arc<str>,
    /// The session of the run, and the sub-agent in it.
    pub(crate) name: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ConversationOwner {
    /// The holder of a lease's key.
    Holder(Fence),
    /// The client with a lasting key, or with none.
    Client(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Conversations {
    leases: FxHashMap<ConversationKey, Fence>,
    keys: FxHashMap<Fence, ConversationKey>,
}

impl Conversations {
    pub(crate) fn lease_of(&self, key: &ConversationKey) -> Option<Fence> {
        self.leases.get(key).copied()
    }

    /// The owner of a conversation's lease.
    pub(crate) fn owner(&self, fence: Fence) -> Option<ConversationOwner> {
        self.keys.get(&fence).map(|key| key.owner)
    }

    /// Adds the lease of a conversation that has none; `false` when there are too many.
    pub(crate) fn add(&mut self, key: &ConversationKey, fence: Fence) -> bool {
        if self.leases.len() >= MOST {
            return false;
        }
        self.keys.insert(fence, key.clone());
        self.leases.insert(key.clone(), fence);
        true
    }

    /// A lease has moved to another account.
    pub(super) fn moved(&mut self, from: Fence, to: Fence) {
        let Some(key) = self.keys.remove(&from) else { return };
        self.leases.insert(key.clone(), to);
        self.keys.insert(to, key);
    }

    /// A lease has ended.
    pub(super) fn ended(&mut self, fence: Fence, why: Ending) {
        // `moved` follows
        if why != Ending::Switched
            && let Some(key) = self.keys.remove(&fence)
        {
            self.leases.remove(&key);
        }
    }

    /// A run has ended: answers the leases of its sub-agents, which end with it.
    pub(super) fn end_of(&mut self, holder: Fence) -> Vec<Fence> {
        let owner = ConversationOwner::Holder(holder);
        let of_holder = self.keys.iter().filter(|(_, key)| key.owner == owner);
        let fences: Vec<Fence> = of_holder.map(|(fence, _)| *fence).collect();
        fences.iter().for_each(|fence| self.ended(*fence, Ending::Released));
        fences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_follows_its_lease_and_ends_with_its_run() {
        let mut conversations = Conversations::default();
        let key = |holder, name: &str| ConversationKey {
            owner: ConversationOwner::Holder(Fence(holder)),
            provider: "p".into(),
            name: name.into(),
        };
        for (fence, key) in [(11, key(1, "a")), (12, key(1, "b")), (21, key(2, "a"))] {
            assert!(conversations.add(&key, Fence(fence)));
        }
        conversations.ended(Fence(11), Ending::Switched);
        conversations.moved(Fence(11), Fence(13));
        assert_eq!(conversations.lease_of(&key(1, "a")), Some(Fence(13)));
        conversations.ended(Fence(12), Ending::Expired);
        assert_eq!(conversations.lease_of(&key(1, "b")), None);
        assert_eq!(conversations.end_of(Fence(1)), [Fence(13)]);
        assert_eq!((conversations.owner(Fence(13)), conversations.leases.len()), (None, 1));
        assert_eq!(conversations.owner(Fence(21)), Some(ConversationOwner::Holder(Fence(2))));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut conversations = Conversations::default();
        let key = |n: usize| ConversationKey {
            owner: ConversationOwner::Client(1),
            provider: "p".into(),
            name: n.to_string().into(),
        };
        let added = (0..MOST + 2).filter(|n| conversations.add(&key(*n), Fence(*n as u64))).count();
        assert_eq!(added, MOST);
    }
}
