//! Leases and decisions.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::credential;
use crate::daemon::os::{peer_process, process};
use crate::daemon::state::guests::guest_holder;
use crate::daemon::state::{ReportOutcome, State};
use crate::pool::{Bind, Fence, GuestId, Lease, Now, Process, millis};
use crate::protocol::{
    AccountIdText, AccountLabel, AccountName, Answer, DecisionInfo, ErrorInfo, ErrorKind, HolderInfo, LeaseInfo,
    LeaseRow,
};

/// The answer to a report: the next action, and the new lease if there is one.
pub(crate) fn decision<'a>(outcome: &'a ReportOutcome, lease: Option<LeaseInfo<'a>>) -> Answer<'a> {
    let ReportOutcome { decision, verdict, .. } = outcome;
    Answer::Decision(Box::new(DecisionInfo {
        action: decision.action.name().into(),
        after_ms: millis(decision.after),
        reason: decision.reason.map(|reason| reason.name().into()),
        scope: decision.scope.map(|scope| scope.name().into()),
        lease,
        evidence: verdict.as_ref().map(|verdict| verdict.evidence.as_str().into()),
        link: verdict.as_ref().and_then(|verdict| verdict.link.as_deref()).map(Cow::Borrowed),
    }))
}

/// Calls `read` with a lease as its holder sees it; `id` becomes its id.
pub(crate) fn with_lease<T>(
    state: &State,
    now: Now,
    (fence, with_credential): (Fence, bool),
    id: &mut String,
    read: impl FnOnce(LeaseInfo<'_>) -> T,
) -> Result<T, ErrorInfo> {
    let ended = || ErrorInfo::new(ErrorKind::StaleLease, "this lease has ended");
    let lease = state.pool.lease(fence).ok_or_else(ended)?;
    let account = state.pool.account(lease.account).ok_or_else(ended)?;
    // without it, `lease.credential` says why
    let has_credential = with_credential && account.may_be_handed_to(&lease.holder.attested);
    let credential = if has_credential { Some(credential(state, account)?) } else { None };
    state.shared().lease_key.write_id(lease, id);
    let account_id = AccountIdText::of(lease.account);
    Ok(read(LeaseInfo {
        lease: Cow::Borrowed(id),
        fence: fence.0,
        account: AccountName {
            id: Cow::Borrowed(account_id.as_str()),
            label: account.record.label.as_deref().map(Cow::Borrowed),
            email: account.record.email.as_deref().map(Cow::Borrowed),
            tier: account.record.tier,
        },
        provider: Cow::Borrowed(&lease.target.provider),
        pool: lease.target.pool.as_deref().map(Cow::Borrowed),
        model: lease.target.model_for(account.record.kind).map(Cow::Borrowed),
        quota_key: Cow::Borrowed(&lease.target.key),
        shared_with: account.leases().saturating_sub(1),
        expires_at: lease.expires.map(|at| now.wall_of(at).0),
        credential,
        project_id: account.record.project_id.as_deref().map(Cow::Borrowed),
    }))
}

/// All leases, or those `of` a guest, oldest first, and their holders.
pub(crate) fn lease_rows(state: &State, now: Now, of: Option<GuestId>) -> Vec<(LeaseRow, Option<Process>)> {
    let is_wanted = |lease: &&Lease| of.is_none() || lease.guest() == of;
    let mut leases: Vec<&Lease> = state.pool.leases().filter(is_wanted).collect();
    leases.sort_unstable_by_key(|lease| lease.fence);
    let shared = state.shared();
    // a guest has a name of its own for this host
    let membership = shared.many_hosts.membership().filter(|_| of.is_none());
    let host = membership.map(|membership| membership.name.clone());
    let row = |lease: &Lease| LeaseRow {
        lease: shared.lease_key.id(lease),
        fence: lease.fence.0,
        account: AccountLabel::of(&state.pool, lease.account),
        provider: lease.target.provider.to_string(),
        model: lease.target.model.as_deref().map(str::to_owned),
        pool: lease.target.pool.as_deref().map(str::to_owned),
        session: lease.session.as_deref().map(str::to_owned),
        label: lease.label.as_deref().map(str::to_owned),
        bind: match lease.bind {
            Bind::Connection(_) => "connection",
            Bind::Process(_) => "pid",
            Bind::Ttl => "ttl",
        }
        .to_owned(),
        holder: guest_holder(&lease.holder),
        granted_at: lease.granted_at.0,
        expires_at: lease.expires.map(|at| now.wall_of(at).0),
        agent: lease.agent.as_deref().map(str::to_owned),
        directory: None,
        subagent: lease.subagent.as_ref().map(|subagent| subagent.id.to_string()),
        host: host.clone(),
    };
    let here = |lease: &Lease| lease.holder.process.filter(|process| process.guest().is_none());
    leases.into_iter().map(|lease| (row(lease), here(lease))).collect()
}

/// Adds the program that each holder runs now, and its directory. This reads from the system, so it must not be called
/// under the lock.
pub(crate) fn with_programs(rows: Vec<(LeaseRow, Option<Process>)>) -> Vec<LeaseRow> {
    let mut holders: FxHashMap<Process, Option<(HolderInfo, Option<String>)>> = FxHashMap::default();
    let mut holder = |process: Process| holders.entry(process).or_insert_with(|| holder_info(process)).clone();
    let add = |(row, process): (LeaseRow, Option<Process>)| match process.and_then(&mut holder) {
        Some((holder, directory)) => LeaseRow { holder: Some(holder), directory, ..row },
        None => row,
    };
    rows.into_iter().map(add).collect()
}

/// A holder with its current program and directory: both may have changed since the grant, as with `lessor run`. `None`
/// when the process has ended.
pub(crate) fn holder_info(holder: Process) -> Option<(HolderInfo, Option<String>)> {
    if holder.guest().is_some() {
        return None;
    }
    // before its identity is checked: the pid may belong to another process meanwhile
    let directory = peer_process::directory_of(holder.pid);
    let found = process::running(holder)?;
    Some((HolderInfo { pid: holder.pid, program: found.program.as_deref().map(str::to_owned) }, directory))
}
