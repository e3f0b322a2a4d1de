//! Guests: other machines and containers whose programs hold leases here. A guest vouches for its holders; each of their
//! leases is bound to a [`Process`] that stands for the holder and is no process of this system. It ends when the guest
//! says so, or when the guest has been gone longer than its grace.

mod holders;
mod limits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::pool::{ConnectionId, GuestId, Holder, Lease, Now, Process};
use crate::protocol::{GuestGreeting, GuestHolder};
use crate::visible::escape;
pub(crate) use holders::{GuestHolderNames, guest_holder};

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
/// The most guests that come with one name of the host's choice.
const MOST_OF_ONE_NAME: usize = 16;
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
    /// The name that the host has chosen for it, not the guest: all guests with that name have the leases together.
    pub(crate) name: Option<String>,
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
    ended: EndedHolders,
}

/// The holders that have ended last.
#[derive(Debug, Default)]
struct EndedHolders {
    numbers: FxHashSet<u32>,
    order: VecDeque<u32>,
}

impl EndedHolders {
    fn note(&mut self, number: u32) {
        if !self.numbers.insert(number) {
            return;
        }
        if self.order.len() >= MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
        self.order.push_back(number);
    }
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
        let is_named_so = |guest: &Guest| guest.policy.name == greeting.policy;
        let others = self.all.iter().filter(|(other, guest)| **other != id && is_named_so(guest));
        if greeting.policy.is_some() && others.count() >= MOST_OF_ONE_NAME {
            return Err(GuestRefusal::TooMany);
        }
        let guest = self.entry(id, &greeting.link, now)?;
        guest.name = match &greeting.policy {
            Some(name) => shown(name),
            None => stated_name(&greeting.name),
        }
        .into();
        guest.version = Some(shown(&greeting.version));
        guest.policy =
            GuestPolicy { only: greeting.only.clone(), max_leases: greeting.max_leases, name: greeting.policy.clone() };
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
        if guest.ended.numbers.contains(&holder.number) {
            return Ok(());
        }
        let program = holder.program.as_deref().map_or_else(|| "a program".to_owned(), shown);
        let program: Arc<str> = format!("{}: {program}", guest.name).into();
        if let Some(known) = guest.holders.get_mut(&holder.number) {
            // its number stands for the process that it was first stated for
            known.program = Some(program);
            return Ok(());
        }
        if guest.holders.len() >= MOST_HOLDERS {
            return Err(GuestRefusal::TooMany);
        }
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
        guest.ended.note(number);
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

    /// Whether a guest may use some accounts only.
    pub(crate) fn is_restricted(&self, id: GuestId) -> bool {
        self.all.get(&id).is_some_and(|guest| guest.policy.only.is_some())
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
            ended: EndedHolders::default(),
        }
    }
}

/// A name from outside, as it is shown.
fn shown(text: &str) -> String {
    // a colon separates the guest's name from the program's
    let short: String = text.chars().filter(|letter| *letter != ':').take(LONGEST_NAME).collect();
    escape(&short).into_owned()
}

/// The name that a guest states. It is never one that the host's configuration or `lessor share --name` has: those have
/// no `@`.
fn stated_name(name: &str) -> String {
    let name = shown(name);
    if name.contains('@') { name } else { format!("@{name}") }
}

/// Set in the ids of shares: no random number of a guest is one.
const SHARE: u64 = 1 << 29;

/// The id of a guest, by its random number: 16 hexadecimal digits.
fn guest_id(link: &str) -> Option<GuestId> {
    let is_number = link.len() == 16 && link.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(link, 16).ok().filter(|_| is_number)?;
    Some(GuestId::from_bits(number & !SHARE))
}

#[cfg(unix)]
fn share_id(name: &str) -> GuestId {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = rustc_hash::FxHasher::default();
    ("share", name).hash(&mut hasher);
    GuestId::from_bits(hasher.finish() >> 17 | SHARE)
}

#[cfg(test)]
mod tests;
