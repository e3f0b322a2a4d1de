//! Guests: other machines and containers whose programs hold leases here. A guest vouches for its holders; each of their
//! leases is bound to a [`Process`] that stands for the holder and is no process of this system. It ends when the guest
//! says so, or when the guest has been gone longer than its grace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{Daemon, State};
use crate::daemon::os::clock;
use crate::pool::{Command, ConnectionId, GuestId, Holder, Lease, Now, Process};
use crate::protocol::{GuestGreeting, GuestHolder, GuestInfo, HolderInfo};
use crate::visible::escape;

/// The longest time that leases outlive a link.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);
/// How long the leases from before a restart of the daemon wait for their guest.
const RESTORED_GRACE: Duration = Duration::from_secs(30);
/// The most guests.
const MOST_GUESTS: usize = 256;
/// The most holders of one guest.
const MOST_HOLDERS: usize = 4096;
/// So many holders that have ended are remembered: what a connection sent before may arrive after that.
const MOST_ENDED: usize = 4096;
/// The longest name of a guest or of its program, in characters.
const LONGEST_NAME: usize = 64;

/// How a guest reaches the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GuestKind {
    /// Over ssh; it vouches for its holders.
    Ssh,
    /// By a socket of its own; its holders are processes of this system.
    #[cfg_attr(not(unix), expect(dead_code, reason = "shares need Unix"))]
    Socket,
}

/// What a guest may have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GuestPolicy {
    /// Only these accounts.
    pub(crate) only: Option<Vec<String>>,
    /// At most so many leases.
    pub(crate) max_leases: Option<u32>,
}

/// Why a guest is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum GuestRefusal {
    /// Its greeting is no greeting of this version.
    #[error("the guest has no valid id")]
    InvalidLink,
    /// Another guest has the same id.
    #[error("another guest has the same id; restart the guest's daemon")]
    Taken,
    /// There are too many guests or holders.
    #[error("there are too many guests, or too many holders of one")]
    TooMany,
    /// Its link was never begun, or has ended.
    #[error("the guest's link has ended")]
    NoLink,
    /// A lease was requested for no holder that the guest vouches for.
    #[error("the process or connection that the lease is for has ended")]
    NoHolder,
}

/// All guests.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    all: FxHashMap<GuestId, Guest>,
}

#[derive(Debug)]
struct Guest {
    /// Its random number in full; empty while it is only known from leases of before a restart.
    link: String,
    name: Arc<str>,
    kind: GuestKind,
    version: Option<String>,
    policy: GuestPolicy,
    grace: Duration,
    /// The connection of its link, or none while that is down.
    up: Option<ConnectionId>,
    since: Now,
    holders: FxHashMap<u32, Holder>,
    ended: VecDeque<u32>,
}

/// A guest that is gone for now, and when its leases end.
pub(crate) type LostGuest = (GuestId, Now, Duration);

impl Guests {
    /// A link of a guest begins, or begins again.
    pub(crate) fn link_begins(
        &mut self,
        connection: ConnectionId,
        greeting: &GuestGreeting,
        now: Now,
    ) -> Result<GuestId, GuestRefusal> {
        let id = guest_id(&greeting.link).ok_or(GuestRefusal::InvalidLink)?;
        let guest = self.entry(id, &greeting.link, now)?;
        guest.name = shown(&greeting.name).into();
        guest.version = Some(shown(&greeting.version));
        guest.policy = GuestPolicy { only: greeting.only.clone(), max_leases: greeting.max_leases };
        guest.grace = Duration::from_millis(greeting.grace_ms).min(LONGEST_GRACE);
        (guest.up, guest.since) = (Some(connection), now);
        Ok(id)
    }

    /// A connection of a client of a guest, whose link must be up.
    pub(crate) fn client_begins(&self, greeting: &GuestGreeting) -> Result<GuestId, GuestRefusal> {
        let id = guest_id(&greeting.link).ok_or(GuestRefusal::InvalidLink)?;
        let is_up = |guest: &&Guest| guest.up.is_some() && guest.link == greeting.link;
        self.all.get(&id).filter(is_up).map(|_| id).ok_or(GuestRefusal::NoLink)
    }

    /// A share of this system's socket, by its name.
    #[cfg(unix)]
    pub(crate) fn share_begins(&mut self, name: &str, policy: GuestPolicy, now: Now) -> Result<GuestId, GuestRefusal> {
        let id = share_id(name);
        let guest = self.entry(id, &format!("share {name}"), now)?;
        if guest.up.is_none() {
            guest.since = now;
        }
        (guest.name, guest.kind, guest.policy) = (shown(name).into(), GuestKind::Socket, policy);
        // its connections have ids of their own; this one is never used
        guest.up = Some(ConnectionId(u64::MAX));
        Ok(id)
    }

    fn entry(&mut self, id: GuestId, link: &str, now: Now) -> Result<&mut Guest, GuestRefusal> {
        if self.all.len() >= MOST_GUESTS && !self.all.contains_key(&id) {
            return Err(GuestRefusal::TooMany);
        }
        let guest = self.all.entry(id).or_insert_with(|| Guest::unknown(now));
        if guest.link.is_empty() {
            link.clone_into(&mut guest.link);
        }
        if guest.link == link { Ok(guest) } else { Err(GuestRefusal::Taken) }
    }

    /// A guest that is only known from leases that were restored.
    fn expect(&mut self, id: GuestId, lease: &Lease, now: Now) {
        let guest = self.all.entry(id).or_insert_with(|| Guest::unknown(now));
        if let Some((name, _)) = lease.holder.program.as_deref().and_then(|program| program.split_once(": ")) {
            guest.name = name.into();
        }
    }

    /// The guest vouches for a holder from now on; one that has ended stays so.
    pub(crate) fn holder_begins(&mut self, id: GuestId, holder: &GuestHolder) -> Result<(), GuestRefusal> {
        let guest = self.all.get_mut(&id).ok_or(GuestRefusal::NoLink)?;
        if guest.ended.contains(&holder.number) {
            return Ok(());
        }
        if guest.holders.len() >= MOST_HOLDERS && !guest.holders.contains_key(&holder.number) {
            return Err(GuestRefusal::TooMany);
        }
        let program = holder.program.as_deref().map_or_else(|| "a program".to_owned(), shown);
        let program = format!("{}: {program}", guest.name).into();
        let process = Process::of_guest(id, holder.number, holder.pid);
        let known = Holder { process: Some(process), program: Some(program), ..Holder::default() };
        guest.holders.insert(holder.number, known);
        Ok(())
    }

    /// A holder that the guest vouches for.
    pub(crate) fn holder(&self, id: GuestId, number: Option<u32>) -> Result<Holder, GuestRefusal> {
        let guest = self.all.get(&id).ok_or(GuestRefusal::NoLink)?;
        number.and_then(|number| guest.holders.get(&number)).cloned().ok_or(GuestRefusal::NoHolder)
    }

    /// A holder has ended.
    fn holder_ends(&mut self, id: GuestId, number: u32) -> Option<Process> {
        let guest = self.all.get_mut(&id)?;
        if guest.ended.len() >= MOST_ENDED {
            guest.ended.pop_front();
        }
        guest.ended.push_back(number);
        guest.holders.remove(&number)?.process
    }

    /// A connection has ended; answers the guest whose link it was.
    pub(crate) fn connection_ended(&mut self, connection: ConnectionId, now: Now) -> Option<LostGuest> {
        let (id, guest) = self.all.iter_mut().find(|(_, guest)| guest.up == Some(connection))?;
        (guest.up, guest.since) = (None, now);
        // with no holder there is no lease that waits
        let grace = if guest.holders.is_empty() { Duration::ZERO } else { guest.grace };
        Some((*id, now, grace))
    }

    /// A share was removed.
    #[cfg(unix)]
    pub(crate) fn share_ends(&mut self, name: &str, now: Now) -> Option<LostGuest> {
        let guest = self.all.get_mut(&share_id(name))?;
        (guest.up, guest.since) = (None, now);
        Some((share_id(name), now, Duration::ZERO))
    }

    /// What a guest may have.
    pub(crate) fn policy(&self, id: GuestId) -> GuestPolicy {
        self.all.get(&id).map(|guest| guest.policy.clone()).unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(&self, id: GuestId) -> Arc<str> {
        self.all.get(&id).map_or_else(|| "a guest".into(), |guest| guest.name.clone())
    }
}

impl Guest {
    fn unknown(now: Now) -> Self {
        Self {
            link: String::new(),
            name: "a guest".into(),
            kind: GuestKind::Ssh,
            version: None,
            policy: GuestPolicy::default(),
            grace: RESTORED_GRACE,
            up: None,
            since: now,
            holders: FxHashMap::default(),
            ended: VecDeque::new(),
        }
    }
}

/// A name from outside, as it is shown.
fn shown(text: &str) -> String {
    // a colon separates the guest's name from the program's
    let short: String = text.chars().filter(|letter| *letter != ':').take(LONGEST_NAME).collect();
    escape(&short).into_owned()
}

/// The id of a guest, by its random number: 16 hexadecimal digits.
fn guest_id(link: &str) -> Option<GuestId> {
    let is_number = link.len() == 16 && link.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(link, 16).ok().filter(|_| is_number).map(GuestId::from_bits)
}

#[cfg(unix)]
fn share_id(name: &str) -> GuestId {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = rustc_hash::FxHasher::default();
    ("share", name).hash(&mut hasher);
    GuestId::from_bits(hasher.finish() >> 17)
}

/// The guest that a lease belongs to.
pub(crate) fn guest_of(lease: &Lease) -> Option<GuestId> {
    lease.bind.process().or(lease.holder.process)?.guest()
}

/// How a holder of a guest is shown; `None` for one of this system.
pub(crate) fn guest_holder(holder: &Holder) -> Option<HolderInfo> {
    let process = holder.process.filter(|process| process.guest().is_some())?;
    Some(HolderInfo { pid: process.pid, program: holder.program.as_deref().map(str::to_owned) })
}

/// The names of guests' holders, for those that do not lock the state.
#[derive(Debug, Default)]
pub(crate) struct GuestHolderNames(Mutex<FxHashMap<Process, Arc<str>>>);

impl GuestHolderNames {
    fn names(&self) -> MutexGuard<'_, FxHashMap<Process, Arc<str>>> {
        // entries are only added and removed
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, holder: &Holder) {
        if let Some((process, program)) = holder.process.zip(holder.program.clone()) {
            self.names().insert(process, program);
        }
    }

    pub(crate) fn get(&self, process: Process) -> Option<Arc<str>> {
        self.names().get(&process).cloned()
    }

    fn forget(&self, process: Process) {
        self.names().remove(&process);
    }
}

impl State {
    /// How many leases a guest has, and how many it waits for.
    pub(crate) fn leases_of_guest(&self, id: GuestId) -> usize {
        let is_its = |lease: &&Lease| guest_of(lease) == Some(id) && lease.subagent.is_none();
        self.pool.leases().filter(is_its).count()
    }

    /// How many requests of a guest wait in the queue.
    pub(crate) fn queued_of_guest(&self, id: GuestId) -> usize {
        let is_its = |process: Process| process.guest() == Some(id);
        self.pool.waiters().filter(|(_, waiter)| waiter.ask.bind.process().is_some_and(is_its)).count()
    }

    /// The guests, for `status`.
    pub(crate) fn guest_infos(&self) -> Vec<GuestInfo> {
        let mut infos: Vec<GuestInfo> = self
            .guests
            .all
            .iter()
            .map(|(id, guest)| GuestInfo {
                name: guest.name.to_string(),
                kind: match guest.kind {
                    GuestKind::Ssh => "ssh",
                    GuestKind::Socket => "socket",
                }
                .to_owned(),
                state: if guest.up.is_some() { "up" } else { "down" }.to_owned(),
                since: guest.since.wall.0,
                leases: self.leases_of_guest(*id) as u64,
                max_leases: guest.policy.max_leases,
                only: guest.policy.only.clone(),
                version: guest.version.clone(),
            })
            .collect();
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        infos
    }

    /// Ends what a guest's holder has.
    fn end_guest_holder(&mut self, id: GuestId, number: u32, now: Now) {
        let known = self.guests.holder_ends(id, number);
        // also of a lease that was restored, whose holder was never named again
        let of_leases = self.pool.leases().filter_map(|lease| lease.bind.process().or(lease.holder.process));
        let is_it = |process: &Process| process.guest() == Some(id) && process.guest_number() == number;
        let mut ended: Vec<Process> = of_leases.filter(is_it).chain(known).collect();
        ended.sort_unstable();
        ended.dedup();
        for process in ended {
            self.shared().guest_names.forget(process);
            self.apply_internal(now, Command::ProcessEnded(process));
        }
    }

    /// Ends the leases of all holders of a guest but these.
    fn keep_guest_holders(&mut self, id: GuestId, living: &[u32], now: Now) {
        let numbers = self.pool.leases().filter_map(|lease| lease.bind.process().or(lease.holder.process));
        let known = self.guests.all.get(&id).into_iter().flat_map(|guest| guest.holders.keys().copied());
        let mut gone: Vec<u32> = numbers
            .filter(|process| process.guest() == Some(id))
            .map(Process::guest_number)
            .chain(known)
            .filter(|number| !living.contains(number))
            .collect();
        gone.sort_unstable();
        gone.dedup();
        for number in gone {
            self.end_guest_holder(id, number, now);
        }
    }
}

impl Daemon {
    /// The guest states its holders.
    pub(crate) fn guest_holders(
        &self,
        id: GuestId,
        begun: &[GuestHolder],
        (ended, all): (&[u32], bool),
    ) -> Result<(), GuestRefusal> {
        let state = &mut *self.state();
        let now = clock::now();
        for number in ended {
            state.end_guest_holder(id, *number, now);
        }
        for holder in begun {
            state.guests.holder_begins(id, holder)?;
            if let Ok(known) = state.guests.holder(id, Some(holder.number)) {
                self.guest_names.note(&known);
            }
        }
        if all {
            let living: Vec<u32> = begun.iter().map(|holder| holder.number).collect();
            state.keep_guest_holders(id, &living, now);
        }
        Ok(())
    }

    /// Ends what a guest has, unless it comes back in time.
    pub(crate) fn await_guest(&self, (id, since, grace): LostGuest) {
        let Some(daemon) = self.daemon() else { return };
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            daemon.end_guest(id, since);
        });
    }

    fn end_guest(&self, id: GuestId, since: Now) {
        let state = &mut *self.state();
        let is_gone = |guest: &Guest| guest.up.is_none() && guest.since == since;
        if state.guests.all.get(&id).is_some_and(is_gone) {
            state.keep_guest_holders(id, &[], clock::now());
            if let Some(guest) = state.guests.all.remove(&id) {
                state.log.push(move || tracing::info!("the guest {} is gone, and its leases have ended", guest.name));
            }
        }
    }

    /// Waits for the guests that have leases from before a restart of the daemon.
    pub(crate) fn await_restored_guests(&self) {
        let state = &mut *self.state();
        let now = clock::now();
        let restored: Vec<_> =
            state.pool.leases().filter_map(|lease| Some((guest_of(lease)?, lease.clone()))).collect();
        for (id, lease) in &restored {
            state.guests.expect(*id, lease, now);
            self.guest_names.note(&lease.holder);
        }
        let lost: Vec<LostGuest> =
            state.guests.all.iter().map(|(id, guest)| (*id, guest.since, RESTORED_GRACE)).collect();
        lost.into_iter().for_each(|lost| self.await_guest(lost));
    }
}

#[cfg(test)]
mod tests;
