//! Log lines for the pool's events: one for each change of an account's state, each limit, each lease that moves to
//! another account and each revoked lease; other leases are logged at `debug`.
//!
//! A line is composed under the state lock and written after its release. `journalctl` shows only the message by default,
//! so it is complete; the fields are for searching.

use super::instant;
use crate::daemon::os::process;
use crate::limits::Reason;
use crate::pool::{
    AccountId, AccountRecord, Ending, Event, Ineligible, LeaseMove, LimitRecord, LimitSource, LoginProblem, LoginState,
    MoveCause, NewLimit, Pool, Wall, millis, spoken,
};

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
        Event::SeatsEnd(fence, _) => {
            let lease = pool.lease(*fence)?;
            let (fence, account, name) = (fence.0, lease.account, name(lease.account, pool));
            Some(Box::new(move || {
                tracing::warn!(kind = "lease.revoked", %account, fence, "the seat of a lease on {name} is about to end");
            }))
        }
        Event::Moved(moved) => switched(moved, now, pool),
        Event::Limited(limit) => Some(limited(limit, now, pool)),
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
    if why.is_revoked() {
        let name = name(account, pool);
        return Some(Box::new(move || {
            tracing::info!(kind = "lease.revoked", %account, fence, reason, "a lease on {name} was revoked");
        }));
    }
    tracing::enabled!(tracing::Level::DEBUG).then(|| -> WriteLine {
        Box::new(
            move || tracing::debug!(kind = "lease.ended", %account, fence, reason, "lease #{fence} ended: {reason}"),
        )
    })
}

fn limited(NewLimit { record, refusal }: &NewLimit, now: Wall, pool: &Pool) -> WriteLine {
    let LimitRecord { account, key, reason, scope, until, .. } = record;
    let why = reason_words(*reason);
    let (account, key, reason, scope, until) = (*account, key.clone(), reason.name(), scope.name(), instant(until.0));
    let preferred = pool.settings().selection.preferred_account.as_deref();
    let is_preferred =
        preferred.is_some_and(|wanted| pool.account(account).is_some_and(|of| of.record.is_named(wanted)));
    let instead = if is_preferred { "; it is the preferred account: others serve until then" } else { "" };
    let provider = pool.account(account).map(|account| account.record.provider.clone());
    let stated = refusal.stated_wait.filter(|_| record.source != LimitSource::Table);
    let wait = match record.source {
        LimitSource::Table => ", no stated wait".to_owned(),
        LimitSource::Report | LimitSource::Server => {
            stated.map(|wait| format!(", stated wait {}", spoken(wait))).unwrap_or_default()
        }
    };
    let status = refusal.status.map(|status| format!(", status {status}")).unwrap_or_default();
    let words = record.evidence.as_deref().map(|words| {
        let status = refusal.status.map(|status| status.to_string()).unwrap_or_default();
        words.strip_prefix(&status).unwrap_or(words).trim_start().to_owned()
    });
    let said = words.filter(|words| !words.is_empty()).map(|words| format!(": {words}")).unwrap_or_default();
    let sentence = limit_words(record, now, pool);
    let (model, quota_pool) = (refusal.model.as_deref().map(str::to_owned), refusal.pool.as_deref().map(str::to_owned));
    let (status_code, stated_ms) = (refusal.status, stated.map(millis));
    Box::new(move || {
        tracing::info!(
            kind = "account.limited",
            %account,
            provider,
            pool = quota_pool,
            model,
            key,
            scope,
            reason,
            status = status_code,
            stated_wait_ms = stated_ms,
            until,
            "{sentence}: {why}{status}{wait}{said}{instead}"
        );
    })
}

/// Why an upstream refused, for people.
fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::QuotaExhausted => "its quota is used up",
        Reason::RateLimitExceeded => "too many requests in a short time",
        Reason::ModelCapacityExhausted => "the model is overloaded",
        Reason::ServerError => "the provider failed",
        Reason::Unknown => "the provider gave no known reason",
        Reason::AuthFailed => "the provider does not accept its credential",
        Reason::VerificationRequired => "it must be verified with the provider",
        Reason::Forbidden => "it may not do this",
        Reason::OutOfCredit => "its credit is used up",
        Reason::RequestRejected => "the provider rejected the request",
    }
}

/// `work limited for claude-opus-4-1 until 17:06:12 UTC (in 76 s)`
fn limit_words(record: &LimitRecord, now: Wall, pool: &Pool) -> String {
    let name = name(record.account, pool);
    // the key of a model's limit begins with the quota's
    let key = record.key.split_once(':').map_or(&*record.key, |(_, model)| model);
    let of = if key.is_empty() { String::new() } else { format!(" for {key}") };
    format!("{name} limited{of} until {}", clock_words(record.until, now))
}

/// `17:06:12 UTC (in 76 s)`, with the date on another day; the times of log lines are UTC as well.
fn clock_words(at: Wall, now: Wall) -> String {
    let (text, today) = (instant(at.0), instant(now.0));
    let (day, clock) = (&text[..10], &text[11..19]);
    let day = if today.starts_with(day) { String::new() } else { format!("{day} ") };
    format!("{day}{clock} UTC (in {})", spoken(at.since(now)))
}

fn switched(moved: &LeaseMove, now: Wall, pool: &Pool) -> Option<WriteLine> {
    let lease = pool.lease(moved.to)?;
    let (account, before, reason) = (lease.account, moved.from, moved.cause.name());
    let (from, to) = (name(before, pool), name(account, pool));
    let why = match &moved.cause {
        MoveCause::Limited(limit) => limit_words(limit, now, pool),
        MoveCause::Unavailable(why, until) => {
            let until = until.map(|until| format!(" until {}", clock_words(until, now))).unwrap_or_default();
            format!("{from} {}{until}", obstacle_words(*why))
        }
        MoveCause::Refused(reason) => format!("{from} could not serve the request: {}", reason_words(*reason)),
        MoveCause::Turn => "the accounts take turns".to_owned(),
        MoveCause::Overage => format!("the plan of {from} is used up"),
        MoveCause::Fallback => format!("{from} serves only while no other account can"),
        MoveCause::Requested => "the user asked for it".to_owned(),
    };
    let until = match &moved.cause {
        MoveCause::Limited(limit) => Some(instant(limit.until.0)),
        _ => None,
    };
    let text = |text: Option<&str>| text.map(str::to_owned);
    let target = &lease.target;
    let (provider, model, quota_pool) =
        (target.provider.to_string(), text(target.model.as_deref()), text(target.pool.as_deref()));
    let (agent, label, process) = (text(lease.agent.as_deref()), text(lease.label.as_deref()), lease.holder.process);
    Some(Box::new(move || {
        // the program is looked up here, after the release of the lock
        let program = || process::running(process?)?.program.map(|program| program.to_string());
        let pid = process.map(|process| process.pid);
        let who = match (agent.or_else(program), pid) {
            (Some(who), Some(pid)) => format!("{who} {pid}"),
            (Some(who), None) => who,
            (None, Some(pid)) => format!("process {pid}"),
            (None, None) => label.unwrap_or_else(|| "a request".to_owned()),
        };
        tracing::info!(
            kind = "lease.moved",
            %account,
            from = %before,
            provider,
            pool = quota_pool,
            model,
            reason,
            pid,
            until,
            "switched {who} from {from} to {to}: {why}"
        );
    }))
}

/// What an account cannot serve for, after its name.
fn obstacle_words(why: Ineligible) -> &'static str {
    match why {
        Ineligible::NotInSet => "is not in its set",
        Ineligible::Disabled => "is disabled",
        Ineligible::NeedsLogin => "needs a login",
        Ineligible::NeedsVerification => "needs a verification",
        Ineligible::NotAllowed => "is not for this agent",
        Ineligible::Excluded => "is excluded",
        Ineligible::Limited => "is limited",
        Ineligible::LacksModel => "lacks the model",
        Ineligible::Reserved => "keeps the rest of its quota in reserve",
        Ineligible::Renewing => "waits for its token",
        Ineligible::NoSeat => "has no seat for this host",
        Ineligible::Busy => "is in use",
    }
}

fn changed(account: AccountId, now: Wall, pool: &Pool) -> WriteLine {
    let kind = "account.changed";
    let Some(record) = pool.account(account).map(|account| &account.record) else {
        return Box::new(move || tracing::info!(kind, %account, state = "removed", "{account} was removed"));
    };
    let (name, provider) = (name(account, pool), record.provider.clone());
    let why = login_words(record, now, None).unwrap_or_default();
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

/// Why an account needs its user, for people, with the command that logs in; `None` for a working login. Settings that
/// are missing for a refresh are not mentioned.
pub(crate) fn login_words(record: &AccountRecord, now: Wall, command: Option<&str>) -> Option<String> {
    match &record.login_state {
        LoginState::Ready => None,
        LoginState::NeedsLogin(problem) => Some(problem_words(problem, now, command)),
        LoginState::NeedsVerification(verification) => Some(match &verification.text {
            Some(text) => text.clone(),
            None => with_link("the account must be confirmed with the provider", verification.link.as_deref()),
        }),
    }
}

/// A login problem, for people.
fn problem_words(problem: &LoginProblem, now: Wall, command: Option<&str>) -> String {
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
            let command = command.map(|command| format!(": {command}")).unwrap_or_default();
            format!("the provider rejected its refresh token ({code}){lost}; log in again{command}")
        }
        LoginProblem::RejectedByProvider { link } => with_link("the provider rejected the credential", link.as_deref()),
        LoginProblem::Described(text) => text.clone(),
    }
}

fn with_link(text: &str, link: Option<&str>) -> String {
    link.map_or_else(|| text.to_owned(), |link| format!("{text}: {link}"))
}

/// The label of an account, else its email address, else its id.
fn name(account: AccountId, pool: &Pool) -> String {
    let record = pool.account(account).map(|account| &account.record);
    let name = record.and_then(|record| record.label.clone().or_else(|| record.email.clone()));
    name.unwrap_or_else(|| account.to_string())
}

fn of_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" {key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_words_and_not_its_name() {
        for reason in Reason::ALL {
            let words = reason_words(reason);
            assert!(words.contains(' ') && !words.contains('_') && !words.contains(reason.name()), "{words}");
        }
    }
}
