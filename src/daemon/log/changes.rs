//! What the pool does, in the log: a line for every change of an account's state; of leases only those taken away, the
//! others at `debug`.
//!
//! The journal shows the words alone at first, so they say all that matters; fields are there to search by.

use crate::pool::{AccountId, Ending, Event, Fence, Lease, LimitRecord, LoginState, Pool, Wall};

use crate::daemon::view::login_words;
use super::instant;

/// The pool said so.
pub(crate) fn happened(event: &Event, now: Wall, pool: &Pool) {
    match event {
        Event::Granted(fence) => granted(*fence, pool),
        Event::Limited(record) => limited(record, pool),
        Event::Recovered(account, key) => {
            let who = name(*account, pool);
            let what = of_key(key);
            tracing::info!(kind = "account.ready", %account, key, "{who} can serve{what} again");
        }
        Event::AccountChanged(account) => changed(*account, now, pool),
        Event::UsageUpdated(account) => tracing::trace!(kind = "usage.updated", %account, "usage of {account} learnt"),
        Event::QueueChanged(waiting) => tracing::trace!(kind = "queue.changed", waiting, "{waiting} waiting"),
    }
}

/// A lease has ended.
pub(crate) fn ended(lease: &Lease, why: Ending, pool: &Pool) {
    let (account, fence, reason) = (lease.account, lease.fence.0, why.name());
    if why == Ending::Revoked {
        let who = name(account, pool);
        tracing::info!(kind = "lease.revoked", %account, fence, reason, "lease #{fence} on {who} was taken away");
    } else {
        tracing::debug!(kind = "lease.ended", %account, fence, reason, "lease #{fence} ended: {reason}");
    }
}

fn granted(fence: Fence, pool: &Pool) {
    // the usual: nothing is looked up for nobody
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let Some(lease) = pool.lease(fence) else { return };
    let (account, fence, who) = (lease.account, fence.0, name(lease.account, pool));
    let model = lease.target.model.as_deref();
    tracing::debug!(kind = "lease.granted", %account, fence, model, "lease #{fence} granted on {who}");
}

fn limited(record: &LimitRecord, pool: &Pool) {
    let LimitRecord { account, key, reason, scope, until, .. } = record;
    let (reason, scope, until) = (reason.name(), scope.name(), instant(until.0));
    let (who, what) = (name(*account, pool), of_key(key));
    let provider = pool.account(*account).map(|account| account.record.provider.as_str());
    tracing::info!(
        kind = "account.limited",
        %account,
        provider,
        key,
        scope,
        reason,
        until,
        "{who} cannot serve{what} until {until}: {reason}"
    );
}

fn changed(account: AccountId, now: Wall, pool: &Pool) {
    let kind = "account.changed";
    let Some(record) = pool.account(account).map(|account| &account.record) else {
        tracing::info!(kind, %account, state = "removed", "{account} was removed");
        return;
    };
    let (who, provider) = (name(account, pool), record.provider.as_str());
    let why = || login_words(record, now).unwrap_or_default();
    match &record.login_state {
        LoginState::NeedsLogin(_) => {
            tracing::warn!(kind, %account, provider, state = "needs_login", "{who} needs a login: {}", why());
        }
        LoginState::NeedsVerification(_) => {
            tracing::warn!(kind, %account, provider, state = "needs_verification", "{who} needs a confirmation: {}", why());
        }
        LoginState::Ready if !record.enabled => {
            tracing::info!(kind, %account, provider, state = "disabled", "{who} is disabled");
        }
        LoginState::Ready => tracing::info!(kind, %account, provider, state = "ready", "{who} was added or changed"),
    }
}

/// What people call an account.
fn name(account: AccountId, pool: &Pool) -> String {
    let record = pool.account(account).map(|account| &account.record);
    let called = record.and_then(|record| record.label.clone());
    called.unwrap_or_else(|| account.to_string())
}

fn of_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" {key}") }
}
