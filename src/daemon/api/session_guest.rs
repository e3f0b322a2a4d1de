//! The guest that a connection was made for: another machine, or a container.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OwnedSemaphorePermit;

use crate::daemon::os::clock;
use crate::daemon::state::guests::GuestRefusal;
use crate::daemon::state::{Daemon, State};
use crate::pool::{Attestation, ConnectionId, GuestId, Holder};
use crate::protocol::{ErrorInfo, ErrorKind, GuestAddresses, GuestGreeting, GuestRole};

/// The guest that a connection was made for.
#[derive(Debug)]
pub struct SessionGuest {
    pub id: GuestId,
    pub(super) name: Arc<str>,
    /// What the guest calls this host.
    pub(super) host: String,
    /// Whether it is the link of the guest, on which it states its holders.
    pub(super) is_link: bool,
    /// Where the guest's programs reach their own daemon; none for a container, whose programs reach this one.
    pub(super) addresses: Option<GuestAddresses>,
    /// The number of the holder whose leases the connection acquires now, plus one; 0 for none.
    pub(super) holds: AtomicU64,
    /// Its place among the connections of guests; none of a container, whose socket has places of its own.
    _place: Option<OwnedSemaphorePermit>,
}

impl SessionGuest {
    /// The guest of a connection that begins with this greeting.
    pub fn greeted(daemon: &Daemon, connection: ConnectionId, greeting: GuestGreeting) -> Result<Self, ErrorInfo> {
        let place = daemon.guest_room.clone().try_acquire_owned();
        let place = place.map_err(|_| ErrorInfo::overloaded("the guests of this daemon have too many connections"))?;
        let state = &mut *daemon.state();
        let is_link = greeting.role == GuestRole::Link;
        let id = match greeting.role {
            GuestRole::Link => state.guests.link_begins(connection, &greeting, clock::now()),
            GuestRole::Client => state.guests.client_begins(&greeting),
        };
        let id = id.map_err(refused)?;
        if is_link {
            state.limit_guest(id, clock::now());
        }
        let name = state.guests.name(id);
        if is_link {
            let name = name.clone();
            state.log.push(move || tracing::info!("the guest {name} is connected"));
        }
        let (host, addresses) = (greeting.host, Some(greeting.addresses));
        Ok(Self { id, name, host, is_link, addresses, holds: AtomicU64::new(0), _place: Some(place) })
    }

    /// The guest of a connection to the socket of a share; `number` is that of its only holder.
    #[cfg(unix)]
    pub fn of_share(id: GuestId, name: &str, number: u32) -> Self {
        let holds = AtomicU64::new(u64::from(number) + 1);
        Self { id, name: name.into(), host: String::new(), is_link: false, addresses: None, holds, _place: None }
    }

    /// The holder whose leases the connection acquires now.
    pub fn holder(&self, daemon: &Daemon) -> Result<Holder, ErrorInfo> {
        let number = self.holds.load(Ordering::Relaxed).checked_sub(1).and_then(|number| u32::try_from(number).ok());
        daemon.state().guests.holder(self.id, number).map_err(refused)
    }

    /// An error about a name of an account that it states: a guest that may use some accounts only learns nothing of the
    /// others.
    pub fn without_other_accounts(&self, state: &State, error: ErrorInfo) -> ErrorInfo {
        if !state.guests.is_restricted(self.id) {
            return error;
        }
        ErrorInfo::new(error.data.kind, "this guest may use no account of that name").hint("see: lessor account list")
    }

    /// Its programs cannot be compared with an agent.
    pub fn attestation(&self) -> Attestation {
        Attestation::Unknown(format!("it runs on another machine or in a container ({})", self.name).into())
    }
}

pub(super) fn refused(why: GuestRefusal) -> ErrorInfo {
    let kind = match why {
        GuestRefusal::TooMany => ErrorKind::Overloaded,
        GuestRefusal::NoLink => ErrorKind::ShuttingDown,
        GuestRefusal::InvalidLink | GuestRefusal::Taken | GuestRefusal::NoHolder => ErrorKind::BadRequest,
    };
    ErrorInfo::new(kind, why.to_string())
}
