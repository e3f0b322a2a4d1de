//! Log lines for the pool's events: one for each change of an account's state and for each revoked lease; other leases
//! are logged at `debug`.
//!
//! A line is composed under the state lock and written after its release. `journalctl` shows only the message by default,
//! so it is complete; the fields are for searching.

use super::instant;
use crate::pool::{AccountId, AccountRecord, Ending, Event, LimitRecord, LoginProblem, LoginState, Pool, Wall, spoken};

/// Writes a composed line.
pub(crate) type WriteLine = Box<dyn FnOnce() + Send>;

/// The line for an event of the pool, if the event is logged.
pub(crate) fn event_line(event: &Event, now: Wall, pool: &Pool) -> Option<WriteLine> {
    match event {
        Event::Granted(fence) if tracing::enabled!(tracing::Level::DEBUG) => {
            let lease = pool.lease(*fence)?;
            let (account, fence, name) = (lease.account, fence.0, name(lease.account, pool));
            let model = lease.target.model.as_deref().map(str::to_owned);
            Some(Box::new(move || {
                tracing::debug!(kind = "lease.granted", %account, fence, model, "lease #{fence} granted on {name}");
            }))
        }
        Event::Granted(_) | Event::UsageUpdated(_) | Event::QueueChanged(_) => None,
        Event::Limited(record) => Some(limited(record, pool)),
        Event::Recovered(account, key) => {
            let (account, key, name, what) = (*account, key.clone(), name(*account, pool), of_key(key));
            Some(Box::new(move || {
                tracing::info!(kind = "account.ready", %account, key, "{name} can serve{what} again");
            }))
        }
        Event::AccountChanged(account) => Some(changed(*account, now, pool)),
    }
}

/// The line for the end of a lease, if it is logged.
pub(crate) fn lease_end_line(lease: &crate::pool::Lease, why: Ending, pool: &Pool) -> Option<WriteLine> {
    let (account, fence, reason) = (lease.account, lease.fence.0, why.name());
    if why == Ending::Revoked {
        let name = name(account, pool);
        return Some(Box::new(move || {
            tracing::info!(kind = "lease.revoked", %account, fence, reason, "lease #{fence} on {name} was revoked");
        }));
    }
    tracing::enabled!(tracing::Level::DEBUG).then(|| -> WriteLine {
        Box::new(
            move || tracing::debug!(kind = "lease.ended", %account, fence, reason, "lease #{fence} ended: {reason}"),
        )
    })
}

fn limited(record: &LimitRecord, pool: &Pool) -> WriteLine {
    let LimitRecord { account, key, reason, scope, until, .. } = record;
    let (account, key, reason, scope, until) = (*account, key.clone(), reason.name(), scope.name(), instant(until.0));
    let (name, what) = (name(account, pool), of_key(&key));
    let preferred = pool.settings().selection.preferred_account.as_deref();
    let is_preferred =
        preferred.is_some_and(|wanted| pool.account(account).is_some_and(|of| of.record.is_named(wanted)));
    let instead = if is_preferred { "; it is the preferred account: others serve until then" } else { "" };
    let provider = pool.account(account).map(|account| account.record.provider.clone());
    Box::new(move || {
        tracing::info!(
            kind = "account.limited",
            %account,
            provider,
            key,
            scope,
            reason,
            until,
            "{name} cannot serve{what} until {until}: {reason}{instead}"
        );
    })
}

fn changed(account: AccountId, now: Wall, pool: &Pool) -> WriteLine {
    let kind = "account.changed";
    let Some(record) = pool.account(account).map(|account| &account.record) else {
        return Box::new(move || tracing::info!(kind, %account, state = "removed", "{account} was removed"));
    };
    let (name, provider) = (name(account, pool), record.provider.clone());
    let why = login_words(record, now).unwrap_or_default();
    let (needs_login, enabled) = (matches!(record.login_state, LoginState::NeedsLogin(_)), record.enabled);
    match record.login_state {
        LoginState::NeedsLogin(_) | LoginState::NeedsVerification(_) => {
            let (state, what) =
                if needs_login { ("needs_login", "login") } else { ("needs_verification", "confirmation") };
            Box::new(move || tracing::warn!(kind, %account, provider, state, "{name} needs a {what}: {why}"))
        }
        LoginState::Ready => {
            let (state, what) = if enabled { ("ready", "was added or changed") } else { ("disabled", "is disabled") };
            Box::new(move || tracing::info!(kind, %account, provider, state, "{name} {what}"))
        }
    }
}

/// Why an account needs its user, for people; `None` for a working login. Settings that are missing for a refresh are
/// not mentioned.
pub(crate) fn login_words(record: &AccountRecord, now: Wall) -> Option<String> {
    match &record.login_state {
        LoginState::Ready => None,
        LoginState::NeedsLogin(problem) => Some(problem_words(problem, &record.provider, now)),
        LoginState::NeedsVerification(verification) => Some(match &verification.text {
            Some(text) => text.clone(),
            None => with_link("the account must be confirmed with the provider", verification.link.as_deref()),
        }),
    }
}

/// A login problem, for people.
fn problem_words(problem: &LoginProblem, provider: &str, now: Wall) -> String {
    match problem {
        LoginProblem::AccessTokenEnded => "its access token has ended".to_owned(),
        LoginProblem::RefreshRejected { code, answer_lost_at } => {
            let lost = answer_lost_at.map(|at| {
                let ago = spoken(now.since(at));
                format!(
                    " after the answer to a refresh was lost {ago} ago, by the end of the daemon or of the connection (the \
                     server may have replaced the token then)"
                )
            });
            let lost = lost.unwrap_or_default();
            format!("the provider rejected its refresh token ({code}){lost}; log in again: lessor login {provider}")
        }
        LoginProblem::RejectedByProvider { link } => with_link("the provider rejected the credential", link.as_deref()),
        LoginProblem::Described(text) => text.clone(),
    }
}

fn with_link(text: &str, link: Option<&str>) -> String {
    link.map_or_else(|| text.to_owned(), |link| format!("{text}: {link}"))
}

/// The label of an account, or its id.
fn name(account: AccountId, pool: &Pool) -> String {
    let record = pool.account(account).map(|account| &account.record);
    let label = record.and_then(|record| record.label.clone());
    label.unwrap_or_else(|| account.to_string())
}

fn of_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" {key}") }
}
