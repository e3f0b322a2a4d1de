//! What is done with an account of the pool, in view of the accounts that this host has.

use crate::daemon::state::State;
use crate::pool::{AccountChange, AccountId, AccountRecord, IdentityMatch};
use crate::shared_pool::SharedAccount;

/// What is done with an account of the pool.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum AdoptDecision {
    /// It is not used on this host, and why not.
    LeaveOut(String),
    /// It is added.
    Add {
        /// As it is here.
        record: Box<AccountRecord>,
        /// The account of this host that is the same login: it is turned off, because two accounts with one login would
        /// use its quota twice.
        turns_off: Option<AccountId>,
    },
    /// It is known.
    Change {
        /// As it is here.
        record: Box<AccountRecord>,
        /// The pool has another credential.
        takes_credential: bool,
    },
}

/// Decides. An account with the id of the pool's is the pool's, also if this host had it first: it was moved to the pool.
/// Only accounts that `[pool] own_accounts` lists stay this host's own.
pub(super) fn decide(state: &State, own_accounts: &[String], account: &SharedAccount) -> AdoptDecision {
    let id = account.record.id;
    let is_listed = |record: &AccountRecord| own_accounts.iter().any(|name| record.is_named(name));
    if state.shared_accounts.was_moved_out(id) {
        return AdoptDecision::LeaveOut("it was moved out of the pool to this host".to_owned());
    }
    let record = Box::new(record_here(state, &account.record));
    if let Some(known) = state.pool.account(id) {
        return match state.shared_accounts.get(id) {
            Some(note) => AdoptDecision::Change { record, takes_credential: account.generation > note.generation },
            None if is_listed(&known.record) => {
                AdoptDecision::LeaveOut("[pool] own_accounts lists it as this host's own".to_owned())
            }
            None => AdoptDecision::Change { record, takes_credential: true },
        };
    }
    let identity = account.record.login_identity();
    let is_same = |own: &AccountRecord| {
        let own = own.login_identity().zip(identity.as_ref());
        own.is_some_and(|(own, pooled)| own.compare(pooled) == IdentityMatch::Agrees)
    };
    let own = state.pool.accounts().iter().map(|own| &own.record);
    let mut same = own.filter(|own| state.shared_accounts.get(own.id).is_none() && is_same(own));
    match same.next() {
        Some(own) if is_listed(own) => AdoptDecision::LeaveOut(format!(
            "this host's own account {} is the same login, and [pool] own_accounts lists it",
            own.display_name()
        )),
        same => AdoptDecision::Add { record, turns_off: same.filter(|own| own.enabled).map(|own| own.id) },
    }
}

/// The record as it is on this host: labels are unique here, and each host has its own times.
fn record_here(state: &State, record: &AccountRecord) -> AccountRecord {
    let id = record.id;
    let known = state.pool.account(id).map(|account| &account.record);
    let mut accounts = state.pool.accounts().iter().map(|account| &account.record);
    let is_taken = record.label.is_some() && accounts.any(|other| other.id != id && other.label == record.label);
    let label = record.label.as_ref().map(|label| if is_taken { format!("{label}-{id}") } else { label.clone() });
    AccountRecord { label, last_used_at: known.and_then(|known| known.last_used_at), ..record.clone() }
}

/// The change that makes a known account like this record.
pub(super) fn change_to(record: &AccountRecord) -> AccountChange {
    AccountChange {
        label: Some(record.label.clone().unwrap_or_default()),
        email: Some(record.email.clone().unwrap_or_default()),
        tier: Some(record.tier),
        project_id: Some(record.project_id.clone().unwrap_or_default()),
        max_leases: Some(record.max_leases.unwrap_or(0)),
        priority: Some(record.priority),
        allowed_agents: Some(record.allowed_agents.clone().unwrap_or_default()),
        reserve: Some(record.reserve),
        fallback_only: Some(record.fallback_only),
        enabled: Some((record.enabled, record.disabled_reason.clone())),
        login_state: Some(record.login_state.clone()),
        owner: Some(record.owner.clone()),
    }
}
