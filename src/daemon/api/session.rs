//! What the calls share: their connection, the lookup of accounts and targets, common errors.

use std::sync::Arc;

use super::session_guest::SessionGuest;
use crate::daemon::{
    state::{Daemon, Outbox, State},
    view,
};
use crate::pool::{AccountId, AccountRecord, ConnectionId, Fence, Holder, Now, Refusal, Target};
use crate::protocol::{Codec, ErrorInfo, ErrorKind, LeaseRef, LeaseToken, SecretText};
use crate::{credential::Secret, daemon::os::clock, provider::TargetError};

/// One connection, as its calls see it.
#[derive(Debug)]
pub struct Session {
    pub connection: ConnectionId,
    /// The process at the other end.
    pub pid: Option<u32>,
    pub codec: Codec,
    pub outbox: Arc<Outbox>,
    /// That process, once it is watched.
    pub holder: Option<Holder>,
    pub greeted: bool,
    pub issued: IssuedLeases,
    /// The guest that the connection was made for.
    pub guest: Option<Arc<SessionGuest>>,
}

/// The leases that a connection got last, by their ids: what was issued needs no check of its MAC.
#[derive(Debug, Default)]
pub struct IssuedLeases(Vec<IssuedLease>);

#[derive(Debug, Default)]
struct IssuedLease {
    /// Empty where there is none; the memory is used again.
    id: String,
    fence: Fence,
}

/// So many are remembered; the others are found by their MAC.
const MOST_ISSUED: usize = 16;

impl IssuedLeases {
    /// Remembers a lease, whose id is what `issue` makes the text, unless it answers that there is none.
    pub fn note(&mut self, fence: Fence, issue: impl FnOnce(&mut String) -> bool) {
        let is_known = |issued: &IssuedLease| issued.fence == fence && !issued.id.is_empty();
        let known = self.0.iter().position(is_known);
        let place = known.or_else(|| self.0.iter().position(|issued| issued.id.is_empty())).unwrap_or_else(|| {
            if self.0.len() < MOST_ISSUED {
                self.0.push(IssuedLease::default());
            } else {
                // one of the oldest makes room
                self.0.rotate_left(1);
            }
            self.0.len() - 1
        });
        let issued = &mut self.0[place];
        issued.fence = fence;
        if !issue(&mut issued.id) {
            issued.id.clear();
        }
    }

    /// Forgets a lease that its client releases.
    pub fn forget(&mut self, id: &str) {
        if let Some(issued) = self.0.iter_mut().find(|issued| issued.id == id) {
            issued.id.clear();
        }
    }

    pub fn fence(&self, id: &str) -> Option<Fence> {
        self.0.iter().find(|issued| issued.id == id && !id.is_empty()).map(|issued| issued.fence)
    }
}

/// The fence of a lease id, if this daemon made it and the fence in the call agrees; `issued` is what the client of the
/// call got last.
pub fn fence_of(daemon: &Daemon, issued: &IssuedLeases, id: &str, stated: Option<u64>) -> Result<Fence, ErrorInfo> {
    let fence = issued.fence(id).or_else(|| daemon.lease_key.fence(id)).ok_or_else(unknown_lease)?;
    check_fence(fence, stated)
}

/// The content of a lease id, under the same conditions.
pub fn open_lease(daemon: &Daemon, params: &LeaseRef) -> Result<LeaseToken, ErrorInfo> {
    let token = daemon.lease_key.open(&params.lease).ok_or_else(unknown_lease)?;
    check_fence(token.fence, params.fence).map(|_| token)
}

fn check_fence(granted: Fence, stated: Option<u64>) -> Result<Fence, ErrorInfo> {
    if stated.is_some_and(|stated| stated != granted.0) {
        return Err(ErrorInfo::new(ErrorKind::StaleLease, "the fence is not the one this lease was granted with"));
    }
    Ok(granted)
}

fn unknown_lease() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::UnknownLease, "this is not a lease of this daemon").hint("acquire a new one")
}

pub fn find_account(state: &State, name: &str) -> Result<AccountId, ErrorInfo> {
    match state.pool.find_account(name) {
        Ok(account) => Ok(account.record.id),
        // an address that several accounts have is the name of the first of them
        Err(refusal) => {
            let records = state.pool.accounts().iter().map(|account| &account.record);
            // only then is it worth comparing the account with all others
            let may_be = |record: &&AccountRecord| record.email.as_ref().is_some_and(|email| name.starts_with(email));
            let mut ids = records.filter(may_be).map(|record| record.id);
            let named = ids.find(|id| state.email_name(*id).as_deref() == Some(name));
            named.ok_or_else(|| refused(state, &refusal, clock::now()))
        }
    }
}

/// The error for a refusal of the pool.
pub fn refused(state: &State, refusal: &Refusal, now: Now) -> ErrorInfo {
    view::refusal(state, refusal, now)
}

/// The target of a request that names a provider, a model and a pool.
pub fn target(state: &State, provider: &str, model: Option<&str>, pool: Option<&str>) -> Result<Target, ErrorInfo> {
    let primary = state.pool.settings().quota.primary;
    state.catalog.target(provider, model, pool, primary).map_err(|error| match error {
        TargetError::Provider(_) => ErrorInfo::new(ErrorKind::UnknownProvider, error.to_string()).hint(format!(
            "known providers: {}; add another one as a section [providers.NAME] of the configuration",
            state.catalog.names().join(", ")
        )),
        TargetError::Pool { .. } | TargetError::NotInPool { .. } | TargetError::TwoPools { .. } => {
            bad(error.to_string())
        }
    })
}

/// The error for a call that the ending daemon does not answer any more.
pub fn shutting_down<E>(_: E) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::ShuttingDown, "the daemon is about to end")
}

/// The error for a call that cannot be served for lack of room, and may be sent again.
pub fn overloaded(message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::overloaded(message)
}

pub fn bad(message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, message)
}

/// A secret from the wire.
pub fn secret(text: SecretText<'static>) -> Secret {
    Secret::new(text.0.into_owned())
}

/// A secret for the wire.
pub fn exposed(secret: &Secret) -> SecretText<'static> {
    SecretText(secret.expose().to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_issued_last_are_known_until_they_are_forgotten() {
        let mut issued = IssuedLeases::default();
        let id = |number: u64| format!("ls_{number}");
        let note = |issued: &mut IssuedLeases, number: u64, is_issued: bool| {
            issued.note(Fence(number), |text| {
                *text = id(number);
                is_issued
            });
        };
        let known = |issued: &IssuedLeases| (0..100).filter(|number| issued.fence(&id(*number)).is_some()).count();
        (0..20).for_each(|number| note(&mut issued, number, true));
        assert_eq!(known(&issued), MOST_ISSUED);
        assert_eq!((issued.fence(&id(3)), issued.fence(&id(4))), (None, Some(Fence(4))));
        // one that is renewed takes no second place
        note(&mut issued, 19, true);
        assert_eq!((known(&issued), issued.fence(&id(4))), (MOST_ISSUED, Some(Fence(4))));
        issued.forget(&id(10));
        note(&mut issued, 20, false);
        assert_eq!((known(&issued), issued.fence("")), (MOST_ISSUED - 1, None));
        note(&mut issued, 21, true);
        assert_eq!((known(&issued), issued.fence(&id(4)), issued.0.len()), (MOST_ISSUED, Some(Fence(4)), MOST_ISSUED));
    }
}
