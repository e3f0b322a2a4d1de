//! `lease.move`: a lease gets another account because the user asks for it.
//!
//! When it moves depends on who has the account's credential. The holder of a gateway key has none: each of its requests
//! is sent with the lease of that moment, so its lease moves at once. A holder that has the credential itself goes on using
//! it until it learns of another one, so its lease moves when it calls. A lease of one request of the gateway ends with
//! it: there, the session moves.

use super::super::reply::{CallReply, CallResult};
use super::super::session::{bad, find_account, refused};
use crate::config::KindMix;
use crate::daemon::os::peer_process::{Ancestry, ancestry};
use crate::daemon::state::{Daemon, State, Unsaved, ends_with_request};
use crate::daemon::{os::clock, view};
use crate::pool::{AccountId, Command, CredentialKind, Fence, Lease, MoveTime, Process, Reply};
use crate::protocol::{AccountLabel, Answer, ErrorInfo, ErrorKind, MoveLeaseParams, MovedInfo};

/// The least characters that may stand for an id: its prefix and some more.
const SHORTEST_PREFIX: usize = 6;
/// Most leases that a message lists.
const MOST_LISTED: usize = 8;

/// Moves a lease to another account.
pub fn move_lease(daemon: &Daemon, reply: &mut CallReply<'_>, params: &MoveLeaseParams) -> CallResult {
    // processes are looked up before the state is locked
    let above = params.pid.map(ancestry);
    let moved = apply(daemon, params, above.as_ref())?;
    reply.saved(moved.map(|moved| {
        let (info, holder) = moved?;
        let holder = holder.and_then(view::holder_info).map(|(holder, _)| holder);
        Ok(Answer::Moved(Box::new(MovedInfo { holder, ..info })))
    }))
}

/// The answer without its holder, and the holder.
type MovedLease = Result<(MovedInfo, Option<Process>), ErrorInfo>;

fn apply(
    daemon: &Daemon,
    params: &MoveLeaseParams,
    above: Option<&Ancestry>,
) -> Result<Unsaved<MovedLease>, ErrorInfo> {
    let state = &mut *daemon.state();
    let now = clock::now();
    // leases and limits whose time is over must end first
    state.apply_internal(now, Command::Tick);
    let to = params.to.as_deref().map(|name| find_account(state, name)).transpose()?;
    let fence = find_lease(state, params, to, above)?;
    let lease = state.pool.lease(fence).ok_or_else(super::lease_ended)?.clone();
    let when = move_time(state, &lease);
    let exclude = state.other_kind(&lease, when);
    if let Some(to) = to {
        check_account(state, &lease, to, &exclude)?;
    }
    let moved = state.apply(now, Command::MoveLease { fence, to, exclude, when });
    Ok(moved.map(|reply| {
        let reply = reply.map_err(|refusal| refused(state, &refusal, now))?;
        let (held, account) = match reply {
            Reply::Held(moved_to) => (moved_to, state.pool.lease(moved_to).map(|lease| lease.account)),
            _ if when == MoveTime::NextRequest => (fence, state.pool.session_account(now, &lease)),
            _ => (fence, state.pool.moves_to(fence)),
        };
        let current = state.pool.lease(held).ok_or_else(super::lease_ended)?;
        let info = MovedInfo {
            lease: state.shared().lease_key.id(current),
            fence: held.0,
            from: AccountLabel::of(&state.pool, lease.account),
            to: AccountLabel::of(&state.pool, account.unwrap_or(lease.account)),
            holder: None,
            at_next_request: when != MoveTime::AtOnce,
        };
        Ok((info, lease.bind.process().or(lease.holder.process)))
    }))
}

/// When a lease moves.
fn move_time(state: &State, lease: &Lease) -> MoveTime {
    if state.key_holders.has(lease.fence) {
        MoveTime::AtOnce
    } else if ends_with_request(lease) {
        MoveTime::NextRequest
    } else {
        MoveTime::NextCall
    }
}

fn check_account(state: &State, lease: &Lease, to: AccountId, exclude: &[AccountId]) -> Result<(), ErrorInfo> {
    let Some(account) = state.pool.account(to) else { return Ok(()) };
    let (name, provider) = (account.display_name(), &account.record.provider);
    if *provider != *lease.target.provider {
        return Err(bad(format!("{name} is an account of {provider}, and the lease is for {}", lease.target.provider)));
    }
    if exclude.binary_search(&to).is_ok() {
        let message = format!("{name} has another kind of credential, and this conversation stays on its kind");
        let hint = format!("let it move: lessor config set providers.{provider}.mix always");
        return Err(ErrorInfo::new(ErrorKind::NotAllowed, message).hint(hint));
    }
    Ok(())
}

/// The lease with this id or unique prefix of it, or the one of the process or of the nearest process above it.
fn find_lease(
    state: &State,
    params: &MoveLeaseParams,
    to: Option<AccountId>,
    above: Option<&Ancestry>,
) -> Result<Fence, ErrorInfo> {
    match (params.lease.as_deref(), params.pid) {
        (Some(lease), None) => by_id(state, lease),
        (None, Some(pid)) => by_process(state, pid, to, above),
        _ => Err(bad("one of `lease` and `pid` says which lease is to move")),
    }
}

fn by_id(state: &State, id: &str) -> Result<Fence, ErrorInfo> {
    let key = &state.shared().lease_key;
    if let Some(token) = key.open(id) {
        return Ok(token.fence);
    }
    let prefix = id.trim_end_matches('…');
    let begins = |lease: &&Lease| prefix.len() >= SHORTEST_PREFIX && key.id(lease).starts_with(prefix);
    let found: Vec<&Lease> = state.pool.leases().filter(begins).collect();
    match found[..] {
        [lease] => Ok(lease.fence),
        [] => Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("no lease begins with {id}"))),
        _ => Err(several(state, &format!("the id {id} may mean several leases"), found)),
    }
}

fn by_process(state: &State, pid: u32, to: Option<AccountId>, above: Option<&Ancestry>) -> Result<Fence, ErrorInfo> {
    let provider = to.and_then(|to| state.pool.account(to)).map(|account| account.record.provider.as_str());
    let of = |process: u32| -> Vec<&Lease> {
        // those of its sub-agents have ids
        let is_its = |lease: &&Lease| {
            let holder = lease.bind.process().or(lease.holder.process);
            holder.is_some_and(|holder| holder.pid == process) && lease.subagent.is_none()
        };
        let mut held: Vec<&Lease> = state.pool.leases().filter(is_its).collect();
        // one that ends with a request of the process is beside its own
        if held.iter().any(|lease| !ends_with_request(lease)) {
            held.retain(|lease| !ends_with_request(lease));
        }
        // of several leases, the account says which one is meant
        let fitting: Vec<&Lease> =
            held.iter().copied().filter(|lease| provider.is_none_or(|name| *lease.target.provider == *name)).collect();
        if fitting.is_empty() { held } else { fitting }
    };
    let above = above.and_then(|found| found.as_ref().ok()).map_or(&[][..], Vec::as_slice);
    let processes = std::iter::once(pid).chain(above.iter().map(|running| running.process.pid));
    let found = processes.map(of).find(|held| !held.is_empty()).unwrap_or_default();
    match found[..] {
        [lease] => Ok(lease.fence),
        [] => {
            let message = format!("neither the process {pid} nor one above it holds a lease");
            Err(ErrorInfo::new(ErrorKind::UnknownLease, message))
        }
        _ => Err(several(state, &format!("the process {pid} holds several leases"), found)),
    }
}

fn several(state: &State, what: &str, mut found: Vec<&Lease>) -> ErrorInfo {
    found.sort_unstable_by_key(|lease| lease.fence);
    let more = found.len().saturating_sub(MOST_LISTED);
    let row = |lease: &&Lease| {
        let account = state.pool.account(lease.account).map_or_else(String::new, |account| account.display_name());
        let model = lease.target.model.as_deref().map(|model| format!(", {model}")).unwrap_or_default();
        format!("{} on {account} ({}{model})", state.shared().lease_key.id(lease), lease.target.provider)
    };
    let rows: Vec<String> = found.iter().take(MOST_LISTED).map(row).collect();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    bad(format!("{what}: {}{more}", rows.join(", "))).hint("name one of them: lessor move LEASE")
}

impl State {
    /// The accounts with another kind of credential, sorted, where a conversation stays on its kind.
    fn other_kind(&self, lease: &Lease, when: MoveTime) -> Vec<AccountId> {
        let provider = &*lease.target.provider;
        if when == MoveTime::NextCall {
            return self.needs_by_mix(lease.fence, clock::now()).map(|needs| needs.exclude).unwrap_or_default();
        }
        let is_key = |id| Some(self.pool.account(id)?.record.kind == CredentialKind::ApiKey);
        if self.mix(provider) == KindMix::Always {
            return Vec::new();
        }
        let keys = is_key(lease.account);
        let records = self.pool.accounts().iter().map(|account| &account.record);
        let others = records.filter(|record| record.provider == provider && is_key(record.id) != keys);
        let mut exclude: Vec<AccountId> = others.map(|record| record.id).collect();
        exclude.sort_unstable();
        exclude
    }
}
