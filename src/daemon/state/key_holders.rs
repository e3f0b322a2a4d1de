//! What the gateway's keys of leases stand for: a holder's lease, wherever reports have moved it, and those that its
//! requests to other providers have taken.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::pool::{Ending, Fence, Lease, LeaseRequest, Pool, Process, reacquire};

use crate::daemon::state::State;

/// Most other providers that one holder asks.
const MOST_PROVIDERS: usize = 16;

/// All holders that have a key.
#[derive(Debug, Default)]
pub(crate) struct KeyHolders {
    /// By the number its lease had when the first key was made.
    holders: FxHashMap<Fence, KeyHolder>,
    /// By the number of each lease it has now.
    owners: FxHashMap<Fence, Fence>,
}

/// One holder.
#[derive(Debug)]
pub(crate) struct KeyHolder {
    /// What it asked for when it got its lease.
    pub(crate) ask: LeaseRequest,
    /// What it has now, its own lease first; none while its account is gone.
    held: Vec<(Arc<str>, Option<Fence>)>,
}

impl KeyHolders {
    /// Takes up a holder; `first` is the number that its key has.
    fn begin(&mut self, first: Fence, lease: &Lease) {
        let account = lease.pinned.then(|| lease.account.to_string().into());
        let held = vec![(lease.target.provider.clone(), Some(lease.fence))];
        self.holders.insert(first, KeyHolder { ask: reacquire(lease, account), held });
        self.owners.insert(lease.fence, first);
    }

    /// The holder of this lease, if it has a key.
    fn owner(&self, fence: Fence) -> Option<Fence> {
        self.owners.get(&fence).copied()
    }

    /// A holder by its key's number.
    pub(crate) fn get(&self, first: Fence) -> Option<&KeyHolder> {
        self.holders.get(&first)
    }

    /// A holder has taken a lease of this provider, too; `false` when it has too many.
    pub(crate) fn took(&mut self, first: Fence, provider: Arc<str>, fence: Fence) -> bool {
        let Some(run) = self.holders.get_mut(&first) else { return false };
        match run.held.iter().position(|(of, _)| *of == provider) {
            Some(at) => run.held[at].1 = Some(fence),
            None if run.held.len() > MOST_PROVIDERS => return false,
            None => run.held.push((provider, Some(fence))),
        }
        self.owners.insert(fence, first);
        true
    }

    /// A report has moved a holder.
    pub(crate) fn moved(&mut self, from: Fence, to: Fence) {
        let Some(first) = self.owners.remove(&from) else { return };
        let held =
            self.holders.get_mut(&first).and_then(|run| run.held.iter_mut().find(|(_, held)| *held == Some(from)));
        if let Some((_, held)) = held {
            *held = Some(to);
            self.owners.insert(to, first);
        }
    }

    /// A lease has ended; answers those that are nobody's any more, because their holder has given up its own.
    #[must_use]
    pub(crate) fn ended(&mut self, fence: Fence, why: Ending) -> Vec<Fence> {
        // told again by `moved`
        if why == Ending::Switched {
            return Vec::new();
        }
        let Some(first) = self.owners.remove(&fence) else { return Vec::new() };
        let Some(run) = self.holders.get_mut(&first) else { return Vec::new() };
        let is_own = run.held.first().is_some_and(|(_, held)| *held == Some(fence));
        if is_own && why != Ending::Revoked {
            let rest = self.holders.remove(&first).map(|run| run.held).unwrap_or_default();
            let rest: Vec<Fence> =
                rest.into_iter().filter_map(|(_, held)| held.filter(|held| *held != fence)).collect();
            for fence in &rest {
                self.owners.remove(fence);
            }
            return rest;
        }
        run.held.iter_mut().filter(|(_, held)| *held == Some(fence)).for_each(|(_, held)| *held = None);
        Vec::new()
    }
}

impl KeyHolder {
    /// Its lease of a provider.
    pub(crate) fn lease_of(&self, provider: &str) -> Option<Fence> {
        self.held.iter().find(|(of, _)| **of == *provider).and_then(|(_, held)| *held)
    }

    /// The provider of its own lease.
    pub(crate) fn provider(&self) -> &str {
        self.held.first().map_or("", |(of, _)| of)
    }
}

impl State {
    /// The number for the key of a live lease: the same for every key of one holder.
    pub(crate) fn run_of(&mut self, lease: Fence) -> Option<Fence> {
        if let Some(first) = self.key_holders.owner(lease) {
            return Some(first);
        }
        self.key_holders.begin(lease, self.pool.lease(lease)?);
        Some(lease)
    }

    /// The holder that a key stands for, if its lease is still held.
    pub(crate) fn run_named(&mut self, first: Fence, process: Option<Process>) -> Option<Fence> {
        if self.key_holders.get(first).is_none() {
            let lease = kept(&self.pool, first, process)?;
            self.key_holders.begin(first, lease);
        }
        Some(first)
    }
}

/// The lease of a key from before the daemon's restart: it may have moved since the key was made, but then it is bound
/// to the same process.
fn kept(pool: &Pool, first: Fence, process: Option<Process>) -> Option<&Lease> {
    if let Some(lease) = pool.lease(first) {
        return Some(lease);
    }
    let process = process.filter(|_| pool.is_from_before(first))?;
    let of_process = pool.leases().filter(|lease| lease.bind == crate::pool::Bind::Process(process));
    of_process.min_by_key(|lease| lease.fence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{AccountId, Bind, ChosenBy, ConnectionId, Holder, Target, Wall};

    fn lease(fence: u64) -> Lease {
        Lease {
            fence: Fence(fence),
            account: AccountId::from_bits(1),
            target: Target {
                provider: "p".into(),
                family: "p".into(),
                key: "p".into(),
                pool: None,
                model: None,
                names: None,
            },
            session: None,
            label: None,
            agent: None,
            bind: Bind::Connection(ConnectionId(0)),
            holder: Holder::default(),
            exclusive: false,
            pinned: false,
            by: ChosenBy::Strategy,
            ttl: None,
            expires: None,
            granted_at: Wall(0),
            request_id: None,
        }
    }

    #[test]
    fn a_run_follows_its_lease_and_ends_with_it() {
        let mut runs = KeyHolders::default();
        runs.begin(Fence(1), &lease(1));
        assert!(runs.ended(Fence(1), Ending::Switched).is_empty());
        runs.moved(Fence(1), Fence(2));
        assert_eq!(runs.get(Fence(1)).unwrap().lease_of("p"), Some(Fence(2)));
        assert!(runs.took(Fence(1), "q".into(), Fence(3)));
        assert!(runs.ended(Fence(3), Ending::Expired).is_empty(), "another provider's is not its own");
        assert!(runs.took(Fence(1), "q".into(), Fence(4)));
        assert!(runs.ended(Fence(2), Ending::Revoked).is_empty(), "it can have another account");
        assert_eq!(runs.get(Fence(1)).unwrap().lease_of("p"), None);
        assert!(runs.took(Fence(1), "p".into(), Fence(5)));
        assert_eq!(runs.ended(Fence(5), Ending::Released), [Fence(4)]);
        assert!(runs.get(Fence(1)).is_none() && runs.owners.is_empty());
    }
}
