//! The table of leases. It owns the indices by connection and process, the fences, and the timers of expiry.

use crate::limits::Reason;
use crate::pool::lease::Lease;
use crate::pool::lease::comparison::Comparison;
use crate::pool::model::{
    AccountId, AccountSet, Attestation, Bind, ConnectionId, Fence, Holder, Mono, Now, Process, Target,
};
use crate::pool::seats::FenceBlock;
use crate::pool::timers::Timers;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Fences are reserved on disk in blocks, so that no grant waits for the disk.
const FENCE_BLOCK: u64 = 1 << 20;
/// Lists of leases by connection are not searched for empty ones while there are fewer.
const FEWEST_LISTS: usize = 1024;
/// Most comparisons that are kept: each takes as much memory as half a lease, and few are read.
const MOST_COMPARISONS: usize = 4096;
/// Most targets that are looked through for one that a new lease can share.
const MOST_TARGETS: usize = 16;
/// Most ended leases of earlier runs that are kept; beyond it none can be resumed.
const MOST_RETIRED: usize = 1 << 16;

#[derive(Debug)]
pub struct Leases {
    held: FxHashMap<Fence, HeldLease>,
    by_connection: FxHashMap<ConnectionId, Vec<Fence>>,
    /// With this many lists, the empty ones are removed.
    most_lists: usize,
    by_process: FxHashMap<Process, Vec<Fence>>,
    /// The account that a report moved a lease from, and the reason.
    moved_from: FxHashMap<Fence, (AccountId, Reason)>,
    /// What decided for the accounts of some leases, [`MOST_COMPARISONS`] at most, and of the one that ended last.
    comparisons: FxHashMap<Fence, Comparison>,
    last_comparison: Option<(Fence, Comparison)>,
    /// Leases that move when their holders call next.
    pending_moves: FxHashMap<Fence, PendingMove>,
    targets: RecentTargets,
    /// Processes that a lease was bound to since [`Self::take_unbound`].
    unbound: Vec<Process>,
    next: Fence,
    /// Fences below this one were granted before this run.
    first: Fence,
    reserved: Fence,
    /// The fences that the shared pool has given this host, and whether it was asked for more.
    block: Option<FenceBlock>,
    is_block_asked: bool,
    /// Fences from before this run whose leases have ended in it: they cannot be resumed.
    retired_fences: FxHashSet<Fence>,
}

/// The move that a lease makes when its holder calls next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingMove {
    /// The account; only this one if the user has named it.
    pub to: AccountId,
    pub is_named: bool,
    /// Accounts that must not have it, sorted.
    pub exclude: Vec<AccountId>,
}

/// The targets that leases were granted for most recently. Equal ones are shared: a target is a quarter of a lease, and most
/// leases have one of a few.
#[derive(Debug, Default)]
struct RecentTargets {
    targets: Vec<Arc<Target>>,
    /// The one that is replaced next.
    oldest: usize,
}

impl RecentTargets {
    fn share(&mut self, target: Target) -> Arc<Target> {
        if let Some(known) = self.targets.iter().find(|known| ***known == target) {
            return known.clone();
        }
        let target = Arc::new(target);
        if self.targets.len() < MOST_TARGETS {
            self.targets.push(target.clone());
        } else {
            self.targets[self.oldest] = target.clone();
            self.oldest = (self.oldest + 1) % MOST_TARGETS;
        }
        target
    }
}

#[derive(Debug)]
struct HeldLease {
    /// Shared with what is recorded of it.
    lease: Arc<Lease>,
    /// A request under it that is reported now was sent at this time or later, as far as is known.
    sent_at: Mono,
}

impl Default for Leases {
    fn default() -> Self {
        Self::starting_at(Fence(1))
    }
}

impl Leases {
    pub fn starting_at(first: Fence) -> Self {
        Self {
            held: FxHashMap::default(),
            by_connection: FxHashMap::default(),
            most_lists: FEWEST_LISTS,
            by_process: FxHashMap::default(),
            moved_from: FxHashMap::default(),
            comparisons: FxHashMap::default(),
            last_comparison: None,
            pending_moves: FxHashMap::default(),
            targets: RecentTargets::default(),
            unbound: Vec::new(),
            next: first,
            first,
            reserved: Fence(0),
            block: None,
            is_block_asked: false,
            retired_fences: FxHashSet::default(),
        }
    }

    pub fn get(&self, fence: Fence) -> Option<&Lease> {
        self.get_shared(fence).map(|lease| &**lease)
    }

    pub fn get_shared(&self, fence: Fence) -> Option<&Arc<Lease>> {
        self.held.get(&fence).map(|held| &held.lease)
    }

    /// When the request under this lease was sent at the earliest.
    pub fn sent_at(&self, fence: Fence) -> Option<Mono> {
        self.held.get(&fence).map(|held| held.sent_at)
    }

    pub fn set_sent_at(&mut self, fence: Fence, at: Mono) {
        if let Some(held) = self.held.get_mut(&fence) {
            held.sent_at = at;
        }
    }

    pub fn contains(&self, fence: Fence) -> bool {
        self.held.contains_key(&fence)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.held.values().map(|held| &*held.lease)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Leases of one connection, oldest first.
    pub fn of_connection(&self, connection: ConnectionId) -> &[Fence] {
        self.by_connection.get(&connection).map_or(&[], Vec::as_slice)
    }

    pub fn of_process(&self, process: Process) -> &[Fence] {
        self.by_process.get(&process).map_or(&[], Vec::as_slice)
    }

    /// Removes a connection that has ended; returns its leases, which the caller ends.
    pub fn forget_connection(&mut self, connection: ConnectionId) -> Vec<Fence> {
        self.by_connection.remove(&connection).unwrap_or_default()
    }

    pub fn moved_from(&self, fence: Fence) -> Option<(AccountId, Reason)> {
        self.moved_from.get(&fence).copied()
    }

    pub fn set_moved_from(&mut self, fence: Fence, account: AccountId, reason: Reason) {
        self.moved_from.insert(fence, (account, reason));
    }

    /// What decided for the account of a lease that is held, or that ended last.
    pub fn comparison(&self, fence: Fence) -> Option<Comparison> {
        let last = self.last_comparison.filter(|(of, _)| *of == fence).map(|(_, comparison)| comparison);
        self.comparisons.get(&fence).copied().or(last)
    }

    pub fn set_comparison(&mut self, fence: Fence, comparison: Comparison) {
        if self.comparisons.len() < MOST_COMPARISONS {
            self.comparisons.insert(fence, comparison);
        }
    }

    /// The same target as other leases have, or else this one.
    pub fn share_target(&mut self, target: Target) -> Arc<Target> {
        self.targets.share(target)
    }

    /// The move that a lease makes when its holder calls next.
    pub fn pending_move(&self, fence: Fence) -> Option<&PendingMove> {
        self.pending_moves.get(&fence)
    }

    pub fn set_pending_move(&mut self, fence: Fence, pending: PendingMove) {
        if self.contains(fence) {
            self.pending_moves.insert(fence, pending);
        }
    }

    /// Notes how the holder's program compares with its agent; `false` if the lease has ended.
    pub fn set_attested(&mut self, fence: Fence, attested: Attestation) -> bool {
        let held = self.held.get_mut(&fence);
        held.map(|held| Arc::make_mut(&mut held.lease).holder.attested = attested).is_some()
    }

    /// The next fence; every lease so far has a lower one.
    pub fn next_fence(&self) -> Fence {
        self.next
    }

    pub fn is_from_before(&self, fence: Fence) -> bool {
        fence < self.first
    }

    /// Whether the lease of a fence from before this run may still be resumed.
    pub fn may_resume(&self, fence: Fence) -> bool {
        let has_room = self.retired_fences.len() < MOST_RETIRED;
        self.is_from_before(fence) && has_room && !self.retired_fences.contains(&fence)
    }

    /// Takes the next fence; also returns the end of a new block of fences when one must be reserved.
    pub fn take_fence(&mut self) -> (Fence, Option<Fence>) {
        let fence = self.next;
        self.next = Fence(fence.0 + 1);
        let is_low = fence.0 + FENCE_BLOCK / 2 >= self.reserved.0;
        (fence, is_low.then(|| self.reserve_fences()))
    }

    /// Goes on with fences that the shared pool has given, for all leases; what is left of an earlier block is not used
    /// any more. Returns the end of a new reservation when one is necessary.
    pub fn take_block(&mut self, block: FenceBlock) -> Option<Fence> {
        if self.block.is_some_and(|before| block.from <= before.from) {
            return None;
        }
        (self.block, self.is_block_asked) = (Some(block), false);
        self.next = self.next.max(block.from);
        let is_low = self.next.0.saturating_add(FENCE_BLOCK / 2) >= self.reserved.0;
        is_low.then(|| self.reserve_fences())
    }

    /// Whether the next fence is from the shared pool. Leases on accounts of this host alone go on without.
    pub fn has_block(&self) -> bool {
        self.block.is_some_and(|block| block.from <= self.next && self.next <= block.to)
    }

    /// Whether the last fence was the last of its block.
    pub fn has_used_up_block(&self) -> bool {
        self.block.is_some_and(|block| block.to.0.checked_add(1) == Some(self.next.0))
    }

    /// The fences that the shared pool has given.
    pub fn block(&self) -> Option<FenceBlock> {
        self.block
    }

    /// The last fence that was used, if new ones are to be asked for: once, when half of the block is used.
    pub fn ask_for_block(&mut self) -> Option<Fence> {
        let is_low = self.block.is_none_or(|FenceBlock { from, to }| self.next.0 > from.0 + (to.0 - from.0) / 2);
        (is_low && !std::mem::replace(&mut self.is_block_asked, true)).then(|| Fence(self.next.0.saturating_sub(1)))
    }

    /// The shared pool has not answered, or will not.
    pub fn forget_asking(&mut self) {
        self.is_block_asked = false;
    }

    /// Reserves the next block of fences; returns its end.
    pub fn reserve_fences(&mut self) -> Fence {
        self.reserved = Fence(self.next.0.saturating_add(FENCE_BLOCK));
        self.reserved
    }

    pub fn insert(&mut self, lease: Arc<Lease>, now: Mono, timers: &mut Timers) {
        self.bind(lease.fence, lease.bind);
        timers.set_lease(lease.fence, lease.expires);
        self.held.insert(lease.fence, HeldLease { lease, sent_at: now });
    }

    pub fn remove(&mut self, fence: Fence, timers: &mut Timers) -> Option<Arc<Lease>> {
        let HeldLease { lease, .. } = self.held.remove(&fence)?;
        timers.clear_lease(fence, lease.expires);
        if !self.moved_from.is_empty() {
            self.moved_from.remove(&fence);
        }
        self.last_comparison = self.comparisons.remove(&fence).map(|comparison| (fence, comparison));
        if !self.pending_moves.is_empty() {
            self.pending_moves.remove(&fence);
        }
        self.unbind(fence, lease.bind);
        self.retire(fence);
        Some(lease)
    }

    /// Notes that a lease has ended. One from before this run cannot be resumed any more.
    pub fn retire(&mut self, fence: Fence) {
        if self.is_from_before(fence) && self.retired_fences.len() < MOST_RETIRED {
            self.retired_fences.insert(fence);
        }
    }

    pub fn extend(&mut self, fence: Fence, now: Now, timers: &mut Timers) -> Option<&Lease> {
        let lease = &mut self.held.get_mut(&fence)?.lease;
        if let Some(ttl) = lease.ttl {
            let lease = Arc::make_mut(lease);
            timers.clear_lease(fence, lease.expires);
            lease.expires = Some(now.mono.after(ttl));
            timers.set_lease(fence, lease.expires);
        }
        Some(lease)
    }

    /// Binds a connection's lease to the connection that its holder has now, and that of a guest to the holder that the
    /// guest vouches for now.
    /// The accounts that a lease may move to from now on.
    pub fn set_accounts(&mut self, fence: Fence, set: AccountSet) {
        if let Some(HeldLease { lease, .. }) = self.held.get_mut(&fence).filter(|held| *held.lease.set() != set) {
            Arc::make_mut(lease).set = set.of_lease();
        }
    }

    pub fn rebind(&mut self, fence: Fence, bind: Bind, holder: Holder) {
        let Some(HeldLease { lease, .. }) = self.held.get_mut(&fence) else { return };
        let before = lease.bind;
        let of_guest = |bind: Bind| bind.process().is_some_and(|process| process.guest().is_some());
        let may_change = matches!(before, Bind::Connection(_)) || (of_guest(before) && of_guest(bind));
        if !may_change {
            return;
        }
        let lease = Arc::make_mut(lease);
        (lease.bind, lease.holder) = (bind, holder);
        self.unbind(fence, before);
        self.bind(fence, bind);
    }

    /// What [`Self::take_unbound`] will return.
    pub fn unbound(&self) -> &[Process] {
        &self.unbound
    }

    pub fn take_unbound(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.unbound)
    }

    fn bind(&mut self, fence: Fence, bind: Bind) {
        match bind {
            Bind::Connection(connection) => {
                self.by_connection.entry(connection).or_default().push(fence);
                if self.by_connection.len() >= self.most_lists {
                    self.remove_empty_lists();
                }
            }
            Bind::Process(process) => self.by_process.entry(process).or_default().push(fence),
            Bind::Ttl => {}
        }
    }

    /// The ends of the gateway's connections are not known here. This costs little for each of them: until the next time
    /// there are as many new lists as remain.
    fn remove_empty_lists(&mut self) {
        self.by_connection.retain(|_, fences| !fences.is_empty());
        self.most_lists = FEWEST_LISTS.max(2 * self.by_connection.len());
        self.by_connection.shrink_to(self.most_lists);
    }

    fn unbind(&mut self, fence: Fence, bind: Bind) {
        match bind {
            // an empty list stays for a while: most connections acquire again
            Bind::Connection(connection) => {
                if let Some(fences) = self.by_connection.get_mut(&connection) {
                    fences.retain(|held| *held != fence);
                }
            }
            Bind::Process(process) => {
                self.unbound.push(process);
                if let Some(fences) = self.by_process.get_mut(&process) {
                    fences.retain(|held| *held != fence);
                    if fences.is_empty() {
                        self.by_process.remove(&process);
                    }
                }
            }
            Bind::Ttl => {}
        }
    }

    /// Whether every index fits the leases; the first that does not, in words.
    pub fn check(&self, now: Now) -> Result<(), String> {
        let mut bound = 0;
        for (fence, HeldLease { lease, .. }) in &self.held {
            if lease.fence != *fence || *fence >= self.next {
                return Err(format!("{fence:?} is indexed wrongly, or not below the next fence (I4)"));
            }
            let found = match lease.bind {
                Bind::Connection(connection) => self.of_connection(connection).contains(fence),
                Bind::Process(process) => self.of_process(process).contains(fence),
                Bind::Ttl => lease.expires.is_some(),
            };
            bound += usize::from(!matches!(lease.bind, Bind::Ttl));
            if !found {
                return Err(format!("{fence:?} is not indexed by what it is bound to (I3)"));
            }
            if lease.expires.is_some_and(|expires| expires <= now.mono) {
                return Err(format!("{fence:?} has not expired in time"));
            }
        }
        if !self.pending_moves.keys().all(|fence| self.contains(*fence)) {
            return Err("a lease that has ended is to move".into());
        }
        let lists = self.by_connection.values().chain(self.by_process.values());
        if lists.map(Vec::len).sum::<usize>() != bound {
            return Err("a connection or a process has a lease that has ended".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_whose_end_is_not_known_do_not_add_up() {
        let mut leases = Leases::starting_at(Fence(1));
        let bind = |number: u64| (Fence(number), Bind::Connection(ConnectionId(number)));
        for number in 0..10_000 {
            let (fence, bind) = bind(number);
            leases.bind(fence, bind);
            if !number.is_multiple_of(100) {
                leases.unbind(fence, bind);
            }
        }
        let kept = leases.by_connection.len();
        assert!(kept <= FEWEST_LISTS, "{kept} lists for 100 leases");
        for number in (0..10_000).step_by(100) {
            assert_eq!(leases.of_connection(ConnectionId(number)), [Fence(number)]);
        }
    }

    #[test]
    fn leases_share_their_targets_also_after_many_others() {
        let mut leases = Leases::default();
        let target = |model: &str| {
            let names: [Arc<str>; 3] = ["anthropic", "claude", "claude"].map(Into::into);
            let [provider, family, key] = names;
            Target { provider, family, key, pool: None, model: Some(model.into()), names: None }
        };
        let first = leases.share_target(target("model"));
        assert!(Arc::ptr_eq(&first, &leases.share_target(target("model"))));
        for other in 0..100 {
            assert_eq!(*leases.share_target(target(&other.to_string())), target(&other.to_string()));
        }
        let again = leases.share_target(target("model"));
        assert_eq!(again, first);
        assert!(Arc::ptr_eq(&again, &leases.share_target(target("model"))));
        assert_eq!(leases.targets.targets.len(), MOST_TARGETS);
    }

    #[test]
    fn comparisons_are_bounded() {
        let mut leases = Leases::default();
        for fence in 0..2 * MOST_COMPARISONS as u64 {
            leases.set_comparison(Fence(fence), Comparison::default());
        }
        assert_eq!(leases.comparisons.len(), MOST_COMPARISONS);
        assert!(leases.comparison(Fence(0)).is_some() && leases.comparison(Fence(u64::MAX)).is_none());
    }
}
