//! The calls of guests: what another machine or a container may ask for, and how much of the answer it gets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account_set::account_set;
use super::dispatch::dispatch_planned;
use super::reply::{CallReply, CallResult, lease_ended};
use super::session::{IssuedLeases, Session, bad, fence_of, find_account};
use super::session_guest::{SessionGuest, refused};
use super::{account, gateway_key, history, lease};
use crate::daemon::memory::MemoryShare;
use crate::daemon::state::{Daemon, State};
use crate::daemon::{os::clock, view};
use crate::guest::{GuestAccess, guest_access};
use crate::pool::{AccountSet, Fence, Holder};
use crate::protocol::{
    AccountInfo, Answer, Call, DaemonStatus, Empty, ErrorInfo, ErrorKind, ExplainParams, ForecastParams, GatewayInfo,
    GatewayKeyParams, GuestAddresses, GuestHoldersParams, HostInfo, MoveLeaseParams,
};

/// The least characters of a prefix of a lease's id.
const SHORTEST_PREFIX: usize = 6;

impl Session {
    /// Refuses what is not for guests, and what is for them only.
    pub(super) fn check_guest(&self, call: &Call) -> Result<(), ErrorInfo> {
        match (&self.guest, guest_access(call)) {
            (None, GuestAccess::Link) => Err(bad(format!("`{}` is for guests only", call.method()))),
            (None, _) | (Some(_), GuestAccess::Host | GuestAccess::Link) => Ok(()),
            // a greeting says nothing of accounts
            (Some(_), GuestAccess::Own) if matches!(call, Call::Hello(_)) => Ok(()),
            (Some(_), GuestAccess::Own) => Err(not_for_guests(call.method())),
        }
    }

    /// `guest.holders`
    pub(super) fn guest_holders(
        &self,
        daemon: &Daemon,
        reply: &mut CallReply<'_>,
        params: &GuestHoldersParams,
    ) -> CallResult {
        let guest = self.guest.as_ref().filter(|guest| guest.addresses.is_some());
        let Some(guest) = guest else { return Err(bad("a container vouches for no holders")) };
        if (params.all || !params.ended.is_empty()) && !guest.is_link {
            return Err(bad("only the link of a guest says which of its holders have ended"));
        }
        let stated = daemon.guest_holders(guest.id, &params.begun, (&params.ended, params.all));
        let holds = params.holds.filter(|_| stated.is_ok());
        guest.holds.store(holds.map_or(0, |number| u64::from(number) + 1), Ordering::Relaxed);
        stated.map_err(refused)?;
        reply.at_once(&Answer::Done(Empty {}))
    }
}

fn not_for_guests(what: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::NotAllowed, format!("`{what}` is not for guests")).hint("run the command at the host")
}

/// Serves a guest's call that needs no session.
pub fn dispatch_of_guest(
    daemon: &Arc<Daemon>,
    guest: &Arc<SessionGuest>,
    reply: &mut CallReply<'_>,
    (call, memory): (Call, Option<MemoryShare>),
) -> CallResult {
    match call {
        Call::ListLeases(_) => lease::list(daemon, reply, Some(guest.id)),
        Call::ListAccounts(params) => {
            let accounts = accounts(daemon, guest, params.provider.as_deref())?;
            reply.answer(&Answer::Accounts(accounts))
        }
        Call::Status(_) => reply.at_once(&Answer::Status(Box::new(status(daemon, guest)))),
        Call::Subscribe(params) => reply.subscribe(daemon, (params.kinds, Some(guest.id)), params.recent),
        Call::Forecast(params) => {
            let params = ForecastParams { directory: None, only: restricted(daemon, guest, params.only)?, ..params };
            dispatch_planned(daemon, reply, Call::Forecast(params), memory)
        }
        Call::Explain(params) => {
            let what = params.what.as_deref().unwrap_or_default();
            let hint = "a guest may ask for its own leases: lessor leases, lessor explain LEASE";
            let own = own_lease(daemon, guest, what).map_err(|error| error.hint(hint))?;
            let params = ExplainParams { what: Some(own), ..ExplainParams::default() };
            dispatch_planned(daemon, reply, Call::Explain(params), memory)
        }
        Call::MoveLease(params) => {
            let lease = match (&params.lease, params.pid) {
                (Some(lease), None) => own_lease(daemon, guest, lease)?,
                (None, Some(pid)) => lease_of_pid(daemon, guest, pid)?,
                _ => return Err(bad("name one of `lease` and `pid`")),
            };
            let to = params.to.map(|name| allowed_account(daemon, guest, &name)).transpose()?;
            lease::move_lease(daemon, reply, &MoveLeaseParams { lease: Some(lease), pid: None, to })
        }
        // a long one
        Call::Report(_) => dispatch_planned(daemon, reply, call, memory),
        Call::QueryHistory(params) => {
            reply.later(daemon, history::query(daemon.clone(), *params, Some((guest.name.clone(), guest.host.clone()))))
        }
        Call::GatewayKey(params) => {
            let Some(lease) = &params.lease else { return Err(not_for_guests("gateway.key without a lease")) };
            let fence = fence_of(daemon, &IssuedLeases::default(), lease, None)?;
            if !is_own(&daemon.state(), guest, fence) {
                return Err(lease_ended());
            }
            // its directory is one of another machine
            let params = GatewayKeyParams { directory: None, ..params };
            gateway_key::key_for_guest(daemon, reply, &params, guest.addresses.as_ref())
        }
        other => Err(not_for_guests(other.method())),
    }
}

fn is_own(state: &State, guest: &SessionGuest, fence: Fence) -> bool {
    state.pool.lease(fence).is_some_and(|lease| lease.guest() == Some(guest.id))
}

/// The id of the one lease of a guest that begins so.
fn own_lease(daemon: &Daemon, guest: &SessionGuest, prefix: &str) -> Result<String, ErrorInfo> {
    if prefix.len() < SHORTEST_PREFIX {
        return Err(ErrorInfo::new(ErrorKind::NotAllowed, "this is not a lease of this guest"));
    }
    let own = own_leases(daemon, guest, |_| true);
    let mut matching = own.into_iter().filter(|id| id.starts_with(prefix));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("several leases begin with {prefix:?}")))
        }
        (None, _) => Err(ErrorInfo::new(ErrorKind::UnknownLease, "this is not a lease of this guest")),
    }
}

/// The lease of a process of a guest, if it has one.
fn lease_of_pid(daemon: &Daemon, guest: &SessionGuest, pid: u32) -> Result<String, ErrorInfo> {
    let own = own_leases(daemon, guest, |holder| holder.process.is_some_and(|process| process.pid == pid));
    match &own[..] {
        [only] => Ok(only.clone()),
        [] => Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("process {pid} of this guest holds no lease"))),
        _ => Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("process {pid} holds several leases; name one"))),
    }
}

fn own_leases(daemon: &Daemon, guest: &SessionGuest, is_wanted: impl Fn(&Holder) -> bool) -> Vec<String> {
    let state = &*daemon.state();
    let own = state.pool.leases().filter(|lease| lease.guest() == Some(guest.id) && lease.subagent.is_none());
    own.filter(|lease| is_wanted(&lease.holder)).map(|lease| daemon.lease_key.id(lease)).collect()
}

/// The accounts that a guest may use, without what only their owner needs.
fn accounts(daemon: &Daemon, guest: &SessionGuest, provider: Option<&str>) -> Result<Vec<AccountInfo>, ErrorInfo> {
    let allowed = daemon.state().pool.set_of_guest(guest.id, AccountSet::default()).only;
    Ok(account::of_each_account(daemon, |state, now, account| {
        let is_wanted = provider.is_none_or(|wanted| wanted == account.record.provider)
            && allowed.as_ref().is_none_or(|allowed| allowed.contains(&account.record.id));
        is_wanted.then(|| AccountInfo {
            email: None,
            project_id: None,
            account_id: None,
            person_id: None,
            organization_id: None,
            organization: None,
            client_id: None,
            link: None,
            state_link: None,
            state_reason: None,
            usage_trouble: None,
            remedy: None,
            // what the pool's other hosts do is not for guests
            sharing: None,
            elsewhere: Vec::new(),
            ..view::account_info(state, now, account)
        })
    }))
}

/// The accounts that a guest's forecast is about.
fn restricted(
    daemon: &Daemon,
    guest: &SessionGuest,
    only: Option<Vec<String>>,
) -> Result<Option<Vec<String>>, ErrorInfo> {
    let state = &*daemon.state();
    let set = account_set(state, only.as_deref(), None);
    let set = set.map_err(|error| guest.without_other_accounts(state, error))?;
    let set = state.pool.set_of_guest(guest.id, set);
    Ok(set.only.map(|only| only.iter().map(ToString::to_string).collect()))
}

/// The account that a guest's lease is to move to, if the guest may use it.
fn allowed_account(daemon: &Daemon, guest: &SessionGuest, name: &str) -> Result<String, ErrorInfo> {
    let state = &*daemon.state();
    let id = find_account(state, name).map_err(|error| guest.without_other_accounts(state, error))?;
    let allowed = state.pool.set_of_guest(guest.id, AccountSet::default()).only;
    if allowed.is_none_or(|allowed| allowed.contains(&id)) {
        return Ok(id.to_string());
    }
    Err(guest.without_other_accounts(state, ErrorInfo::new(ErrorKind::UnknownAccount, "it is not for this guest")))
}

/// The status as a guest sees it: nothing of files, warnings and other guests.
fn status(daemon: &Daemon, guest: &SessionGuest) -> DaemonStatus {
    let full = view::status(daemon, clock::now());
    let (own, is_restricted) = {
        let state = daemon.state();
        (state.guest_info(guest.id), state.guests.is_restricted(guest.id))
    };
    let (leases, since) = own.as_ref().map_or((0, 0), |info| (info.leases, info.since));
    let own: Vec<_> = own.into_iter().collect();
    let mut config = full.config;
    (config.path, config.error) = (String::new(), None);
    let (socket, gateway, host) = match &guest.addresses {
        Some(addresses) => (
            addresses.socket.clone(),
            gateway_of(addresses),
            HostInfo { name: guest.host.clone(), state: "up".to_owned(), since, trouble: None },
        ),
        None => (
            String::new(),
            None,
            HostInfo { name: "the host".to_owned(), state: "up".to_owned(), since, trouble: None },
        ),
    };
    let mut queue = full.queue;
    queue.iter_mut().for_each(|row| row.label = None);
    DaemonStatus {
        socket,
        gateway,
        config,
        leases,
        queue,
        warnings: Vec::new(),
        gateway_trouble: None,
        history: None,
        providers: if is_restricted { Vec::new() } else { full.providers },
        guests: own,
        host: Some(host),
        // the pool that the host is in is not the guest's
        pool: None,
        ..full
    }
}

/// The guest's own gateway.
fn gateway_of(addresses: &GuestAddresses) -> Option<GatewayInfo> {
    let info = GatewayInfo {
        url: addresses.gateway_url.clone(),
        socket: addresses.gateway_socket.clone(),
        secure_url: addresses.secure_url.clone(),
        ca_file: addresses.ca_file.clone(),
        ca_bundle: addresses.ca_bundle.clone(),
        certificate_from: None,
        certificate_until: None,
    };
    (info != GatewayInfo::default()).then_some(info)
}
