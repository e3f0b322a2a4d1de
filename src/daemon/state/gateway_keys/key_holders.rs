//! Maps the gateway keys of leases to their holders' current leases: the holder's own lease, wherever reports have moved
//! it, and the leases that its requests to other providers have taken.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::conversations::Conversations;
use super::moved_leases::MovedLeases;
use crate::daemon::state::State;
use crate::pool::{AccountId, AccountSet, Bind, Ending, Fence, GuestId, Lease, LeaseRequest, Pool, Process, reacquire};

/// Most other providers that one holder uses.
const MOST_PROVIDERS: usize = 16;

/// All holders that have a key.
#[derive(Debug, Default)]
pub(crate) struct KeyHolders {
    /// By the fence that the holder's lease had when its first key was made.
    holders: FxHashMap<Fence, KeyHolder>,
    /// By the fence of each lease that the holder has now.
    owners: FxHashMap<Fence, Fence>,
    /// Those of its sub-agents.
    pub(crate) conversations: Conversations,
    /// What holders present to the next daemon.
    pub(crate) moved_leases: MovedLeases,
}

/// One holder.
#[derive(Debug)]
pub(crate) struct KeyHolder {
    /// The request for its own lease.
    pub(crate) request: LeaseRequest,
    /// Its leases by provider, its own first; none while that one's account is gone.
    held: Vec<(Arc<str>, Option<Fence>)>,
}

impl KeyHolders {
    /// No holder has come back yet.
    pub(crate) fn restored(moved_leases: MovedLeases) -> Self {
        Self { moved_leases, ..Self::default() }
    }

    /// Adds a holder; `first` is the fence in its key.
    pub(super) fn begin(&mut self, first: Fence, lease: &Lease) {
        let account = lease.pinned.then(|| lease.account.to_string().into());
        let held = vec![(lease.target.provider.clone(), Some(lease.fence))];
        self.holders.insert(first, KeyHolder { request: reacquire(lease, account), held });
        self.owners.insert(lease.fence, first);
    }

    /// The holder of this lease, by the fence in its key.
    pub(crate) fn owner(&self, fence: Fence) -> Option<Fence> {
        self.owners.get(&fence).copied()
    }

    /// A holder by the fence in its key.
    pub(crate) fn get(&self, first: Fence) -> Option<&KeyHolder> {
        self.holders.get(&first)
    }

    /// Whether the requests with a key use this lease, each the lease of its moment.
    pub(crate) fn has(&self, fence: Fence) -> bool {
        self.owners.contains_key(&fence) || self.conversations.owner(fence).is_some()
    }

    /// Adds a lease of this provider; `false` when the holder has too many.
    pub(crate) fn add(&mut self, first: Fence, provider: Arc<str>, fence: Fence) -> bool {
        let Some(holder) = self.holders.get_mut(&first) else { return false };
        match holder.held.iter().position(|(of, _)| *of == provider) {
            Some(at) => holder.held[at].1 = Some(fence),
            None if holder.held.len() > MOST_PROVIDERS => return false,
            None => holder.held.push((provider, Some(fence))),
        }
        self.owners.insert(fence, first);
        true
    }

    /// The lease that this holder has itself, wherever it has moved.
    pub(super) fn own_lease(&self, first: Fence) -> Option<Fence> {
        self.holders.get(&first)?.held.first().and_then(|(_, held)| *held)
    }

    /// A lease has moved to another account; answers the holder whose own it is.
    pub(crate) fn moved(&mut self, from: Fence, to: Fence, account: AccountId) -> Option<Fence> {
        self.conversations.moved(from, to);
        let first = self.owners.remove(&from)?;
        let holder = self.holders.get_mut(&first)?;
        let at = holder.held.iter().position(|(_, held)| *held == Some(from))?;
        holder.held[at].1 = Some(to);
        self.owners.insert(to, first);
        // the account that the user has moved it to takes the place of the one that the holder requested
        if at == 0 && holder.request.account.is_some() {
            holder.request.account = Some(account.to_string().into());
        }
        (at == 0).then_some(first)
    }

    /// A guest may use other accounts from now on: its holders' further leases follow.
    pub(crate) fn change_sets(&mut self, guest: GuestId, change: impl Fn(AccountSet) -> AccountSet) {
        for holder in self.holders.values_mut().filter(|holder| holder.request.guest() == Some(guest)) {
            holder.request.set = change(std::mem::take(&mut holder.request.set));
        }
    }

    /// A lease has ended. When it was the holder's own, the holder is gone: answers its other leases, which are to end, too.
    #[must_use]
    pub(crate) fn ended(&mut self, fence: Fence, why: Ending) -> Vec<Fence> {
        self.conversations.ended(fence, why);
        // `moved` follows
        if why == Ending::Switched {
            return Vec::new();
        }
        let Some(first) = self.owners.remove(&fence) else { return Vec::new() };
        let Some(holder) = self.holders.get_mut(&first) else { return Vec::new() };
        let is_own = holder.held.first().is_some_and(|(_, held)| *held == Some(fence));
        if is_own && !why.is_revoked() {
            self.moved_leases.holder_ended(first);
            let rest = self.holders.remove(&first).map(|holder| holder.held).unwrap_or_default();
            let mut rest: Vec<Fence> =
                rest.into_iter().filter_map(|(_, held)| held.filter(|held| *held != fence)).collect();
            for fence in &rest {
                self.owners.remove(fence);
            }
            rest.extend(self.conversations.end_of(first));
            return rest;
        }
        holder.held.iter_mut().filter(|(_, held)| *held == Some(fence)).for_each(|(_, held)| *held = None);
        Vec::new()
    }
}

impl KeyHolder {
    pub(crate) fn lease_of(&self, provider: &str) -> Option<Fence> {
        self.held.iter().find(|(of, _)| **of == *provider).and_then(|(_, held)| *held)
    }

    /// The provider of its own lease.
    pub(crate) fn provider(&self) -> &str {
        self.held.first().map_or("", |(of, _)| of)
    }
}

impl State {
    /// The fence for the key of a live lease: the same in every key of one holder.
    pub(crate) fn key_holder_of(&mut self, lease: Fence) -> Option<Fence> {
        if let Some(first) = self.key_holders.owner(lease) {
            return Some(first);
        }
        self.key_holders.begin(lease, self.pool.lease(lease)?);
        Some(lease)
    }

    /// The fence of the holder that a key names, if its lease is still held.
    pub(crate) fn key_holder(&mut self, first: Fence, process: Option<Process>) -> Option<Fence> {
        if self.key_holders.get(first).is_none() {
            let lease = restored_lease(&self.pool, first, process)?;
            self.key_holders.begin(first, lease);
        }
        Some(first)
    }
}

impl State {
    /// The holder's lease of a provider: one that its requests have taken, or one that its process has leased for the
    /// same purpose and that no other key stands for (`lessor run -p anthropic,openai`).
    pub(crate) fn lease_of_holder(&mut self, first: Fence, provider: &str) -> Option<Fence> {
        let holder = self.key_holders.get(first)?;
        if let Some(fence) = holder.lease_of(provider) {
            return Some(fence);
        }
        let Bind::Process(process) = holder.request.bind else { return None };
        let is_free = |lease: &&Lease| {
            lease.bind == Bind::Process(process)
                && lease.subagent.is_none()
                && *lease.target.provider == *provider
                && self.key_holders.owner(lease.fence).is_none()
        };
        let free = self.pool.leases().filter(is_free).min_by_key(|lease| lease.fence)?;
        let (fence, provider) = (free.fence, free.target.provider.clone());
        self.key_holders.add(first, provider, fence).then_some(fence)
    }
}

/// The lease of a key from before the daemon's restart: it may have moved since the key was made, but then it is bound
/// to the same process.
fn restored_lease(pool: &Pool, first: Fence, process: Option<Process>) -> Option<&Lease> {
    if let Some(lease) = pool.lease(first) {
        return Some(lease);
    }
    let process = process.filter(|_| pool.is_from_before(first))?;
    let of_process = pool.leases().filter(|lease| lease.bind == Bind::Process(process) && lease.subagent.is_none());
    of_process.min_by_key(|lease| lease.fence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{ChosenBy, ConnectionId, Holder, Target, Wall};

    fn lease(fence: u64) -> Lease {
        Lease {
            fence: Fence(fence),
            account: AccountId::from_bits(1),
            target: Arc::new(Target {
                provider: "p".into(),
                family: "p".into(),
                key: "p".into(),
                pool: None,
                model: None,
                names: None,
            }),
            session: None,
            label: None,
            agent: None,
            bind: Bind::Connection(ConnectionId(0)),
            holder: Holder::default(),
            exclusive: false,
            pinned: false,
            set: None,
            by: ChosenBy::Strategy,
            ttl: None,
            expires: None,
            granted_at: Wall(0),
            request_id: None,
            subagent: None,
        }
    }

    #[test]
    fn a_holder_follows_its_own_lease_and_ends_with_it() {
        let mut holders = KeyHolders::default();
        holders.begin(Fence(1), &lease(1));
        assert!(holders.ended(Fence(1), Ending::Switched).is_empty());
        assert_eq!(holders.moved(Fence(1), Fence(2), AccountId::from_bits(2)), Some(Fence(1)));
        assert_eq!(holders.get(Fence(1)).unwrap().lease_of("p"), Some(Fence(2)));
        assert!(holders.add(Fence(1), "q".into(), Fence(3)));
        assert!(holders.ended(Fence(3), Ending::Expired).is_empty(), "the lease of another provider is not its own");
        assert!(holders.add(Fence(1), "q".into(), Fence(4)));
        assert!(holders.ended(Fence(2), Ending::Revoked).is_empty(), "it can get another account");
        assert_eq!(holders.get(Fence(1)).unwrap().lease_of("p"), None);
        assert!(holders.add(Fence(1), "p".into(), Fence(5)));
        assert_eq!(holders.ended(Fence(5), Ending::Released), [Fence(4)]);
        assert!(holders.get(Fence(1)).is_none() && holders.owners.is_empty());
    }
}
