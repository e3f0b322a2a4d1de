//! Accounts, their limits and their usage.

use std::time::Duration;

use super::denial::{by_the_configuration, denial_words};
use super::why_renewing;
use crate::daemon::many_hosts::loss::JOIN_AGAIN;
use crate::daemon::many_hosts::status::{PoolAway, PoolAwayKind, PoolLink};
use crate::daemon::state::{State, client_of};
use crate::pool::{Account, AccountId, Ineligible, Limit, LoginProblem, LoginState, Now, Refusal, Window, spoken};
use crate::protocol::{AccountInfo, Answer, BankedResetsInfo, ErrorInfo, ErrorKind, LimitInfo, LinkInfo, UsageInfo};
use crate::{credential::Credential, daemon::log::login_words, provider::vendor_account_id, usage};

impl State {
    /// The name of an account for people, or its id if it was removed.
    pub(crate) fn account_name(&self, id: AccountId) -> String {
        let record = self.pool.account(id).map(|account| &account.record);
        let name = record.and_then(|record| record.label.clone().or_else(|| self.shown_email(record)));
        name.unwrap_or_else(|| id.to_string())
    }

    /// What an account is called in a command that the user copies.
    pub(crate) fn account_reference(&self, id: AccountId) -> String {
        self.pool.account_reference(id)
    }
}

/// The answer with an account, or the error if it was removed meanwhile.
pub(crate) fn account_answer(state: &State, now: Now, id: AccountId) -> Result<Answer<'static>, ErrorInfo> {
    let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, format!("account {id} was removed meanwhile"));
    let account = state.pool.account(id).ok_or_else(removed)?;
    Ok(Answer::Account(Box::new(account_info(state, now, account))))
}

/// An account as its user sees it.
pub(crate) fn account_info(state: &State, now: Now, account: &Account) -> AccountInfo {
    let record = &account.record;
    let credential = state.credentials.get(record.id);
    AccountInfo {
        id: record.id.to_string(),
        provider: record.provider.clone(),
        label: record.label.clone(),
        email: state.shown_email(record),
        tier: record.tier,
        kind: record.kind,
        unchecked: credential.is_some_and(Credential::is_unchecked),
        state: state.account_state(account, now).name().to_owned(),
        state_reason: state_reason(state, now, account),
        state_link: state_link(account, now),
        enabled: account.enabled(),
        leases: account.leases(),
        capacity: account.capacity(),
        priority: account.priority(),
        reserve: account.reserve(),
        fallback_only: account.is_fallback_only(),
        allowed_agents: account.allowed_agents().map_or_else(|| vec!["any".to_owned()], <[String]>::to_vec),
        project_id: record.project_id.clone(),
        credential_expires_at: credential.and_then(|credential| credential.expires_at).map(|at| at.0),
        limits: limits(account, now),
        usage: usage_of(state, now, account),
        created_at: record.created_at.0,
        last_used_at: record.last_used_at.map(|at| at.0),
        account_id: vendor_account_id(&record.provider, &record.owner).map(str::to_owned),
        link: state.links.get(record.id).map(|link| LinkInfo {
            tool: link.tool.clone(),
            path: link.path.clone(),
            mode: link.mode.name().to_owned(),
            trouble: state.links.problem(record.id).cloned(),
        }),
        plan: state.usage_notes.plans.get(&record.id).cloned(),
        usage_trouble: state.usage_notes.failures.get(&record.id).cloned(),
        person_id: record.owner.person.clone(),
        organization_id: record.owner.organization.clone(),
        organization: record.owner.organization_name.clone(),
        in_flight: state.shared().requests.read(|table| table.under_way(record.id)).into(),
        usage_next_at: state.usage_notes.next.get(&record.id).map(|at| at.0),
        remedy: super::remedy::remedy(state, now, account),
        resource: credential.and_then(|credential| credential.resource.clone()),
        client_id: credential.and_then(client_of),
        resets: banked_resets(state, now, record.id),
        in_flight_cap: state.shared().requests.read(|table| table.cap(record.id, now.mono)).map(Into::into),
        subagents: account.subagents(),
        sharing: sharing(state, record.id),
        elsewhere: state.shared().pool_seats.of(record.id),
    }
}

/// Whether the account is the pool's or this host's own; `None` without a shared pool.
fn sharing(state: &State, id: AccountId) -> Option<String> {
    state.shared().many_hosts.membership()?;
    Some(if state.is_shared(id) { "pool" } else { "own" }.to_owned())
}

/// The banked resets that have not expired.
fn banked_resets(state: &State, now: Now, id: AccountId) -> Option<BankedResetsInfo> {
    let banked = state.usage_notes.resets.get(&id)?;
    let live = || banked.credits.iter().filter(|credit| credit.expires_at.is_none_or(|at| at > now.wall));
    let number =
        if banked.credits.is_empty() { banked.available } else { live().count().try_into().unwrap_or(u32::MAX) };
    Some(BankedResetsInfo {
        available: number,
        next_expires_at: live().filter_map(|credit| credit.expires_at).map(|at| at.0).min(),
        as_of: banked.as_of.0,
        unfinished: state.usage_notes.unfinished_resets.contains(&id),
    })
}

/// A reading older than this is stale, however often the provider is polled.
const STALE: Duration = Duration::from_secs(600);

/// The quota windows, then the rate windows that have not ended.
fn usage_of(state: &State, now: Now, account: &Account) -> Vec<UsageInfo> {
    // two polls were missed
    let old = state.config.config.quota.poll.map_or(STALE, |every| STALE.max(2 * every));
    let info = |window: &Window, rate| UsageInfo {
        stale: window.resets_at.is_some_and(|at| at <= now.wall) || now.wall.since(window.as_of) > old,
        pace: usage::window_length(&window.name).and_then(|length| window.pace(length)),
        window: window.name.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at.map(|at| at.0),
        as_of: window.as_of.0,
        key: window.key.clone(),
        rate,
    };
    let known = account.usage();
    let live = |rate: &&Window| rate.resets_at.unwrap_or(rate.as_of.after(RATE)) > now.wall;
    let rates = known.rates.iter().filter(live).map(|window| info(window, true));
    known.windows.iter().map(|window| info(window, false)).chain(rates).collect()
}

/// The error for a refusal of the pool: its accounts have their names, and their states as everywhere else.
pub(crate) fn refusal(state: &State, refusal: &Refusal, now: Now) -> ErrorInfo {
    let mut error = ErrorInfo::of_refusal(refusal, now.wall);
    for (shown, obstacle) in error.data.accounts.iter_mut().zip(&refusal.accounts) {
        shown.name = Some(state.account_name(obstacle.account));
        shown.why = state.obstacle_name(now, obstacle.account, obstacle.why).to_owned();
    }
    if refusal.accounts.iter().any(|obstacle| obstacle.why == Ineligible::NoSeat)
        && let Some((message, hint)) = pool_is_closed(&state.shared().many_hosts.status().link)
    {
        error.message = message;
        (error.data.hint, error.data.retry_after_ms) = (Some(hint.to_owned()), None);
        return error;
    }
    // what helps the only account; of several, the list says what each needs
    if let [only] = refusal.accounts.as_slice()
        && matches!(
            only.why,
            Ineligible::Disabled | Ineligible::NeedsLogin | Ineligible::NeedsVerification | Ineligible::Renewing
        )
        && let Some(remedy) = state.pool.account(only.account).and_then(|account| super::remedy(state, now, account))
    {
        error.data.hint = Some(remedy);
    }
    error
}

/// Why the shared pool is closed to this host until a person acts, and what that person does.
fn pool_is_closed(link: &PoolLink) -> Option<(String, &'static str)> {
    match link {
        PoolLink::NoUrl => Some((
            "this host has joined a shared pool, and can use none of its accounts because [pool] url is not set"
                .to_owned(),
            "lessor config set pool.url URL, or leave the pool: lessor pool leave",
        )),
        PoolLink::Away(PoolAway { kind: PoolAwayKind::Evicted, .. }) => Some((
            "this host was evicted from the shared pool, and can use none of its accounts".to_owned(),
            JOIN_AGAIN,
        )),
        PoolLink::Away(PoolAway { kind: PoolAwayKind::Refused, why, .. }) => Some((
            format!("this host can use none of the shared pool's accounts: {why}"),
            "after that: lessor pool status",
        )),
        _ => None,
    }
}

/// How long a rate window without a reset time counts.
const RATE: Duration = Duration::from_secs(60);

/// A page of the provider where the user can act.
fn state_link(account: &Account, now: Now) -> Option<String> {
    let of_limit = || {
        let live = account.limits().iter().filter(|limit| !limit.until.passed(now));
        live.filter_map(|limit| limit.link.as_deref()).next().map(str::to_owned)
    };
    match &account.record.login_state {
        LoginState::Ready => of_limit(),
        login_state => login_state.link(),
    }
}

/// Why an account is not ready, or what a request on it costs, for people.
pub(crate) fn state_reason(state: &State, now: Now, account: &Account) -> Option<String> {
    let record = &account.record;
    if !account.enabled() {
        return Some(match &record.disabled_reason {
            _ if record.enabled => by_the_configuration(state, record),
            Some(why) => why.clone(),
            None => "by hand".to_owned(),
        });
    }
    let words = match record.login_state {
        LoginState::Ready if account.renewing().is_some() => return Some(why_renewing(state, record.id)),
        LoginState::Ready => {
            let denial = denial_words(state, now, account).or_else(|| overage_words(account, now));
            return denial.or_else(|| interrupted_words(state, now, record.id));
        }
        LoginState::NeedsLogin(_) | LoginState::NeedsVerification(_) => {
            login_words(record, now.wall, Some(&super::remedy::login_command(state, account)))?
        }
    };
    let missing = state.missing_for_refresh(record.id);
    match missing.filter(|_| record.login_state == LoginState::NeedsLogin(LoginProblem::AccessTokenEnded)) {
        Some(missing) => Some(format!("{words} and cannot be renewed: {missing}")),
        None => Some(words),
    }
}

/// That a refresh was sent whose answer the end of the last daemon cut off.
fn interrupted_words(state: &State, now: Now, id: AccountId) -> Option<String> {
    let ago = spoken(now.wall.since(state.logins.interrupted_at(id)?));
    let end = state.credentials.get(id)?.expires_at;
    let serves = match end.map(|end| end.since(now.wall)).filter(|left| !left.is_zero()) {
        Some(left) => format!("its token serves for {} more, then the refresh is tried again", spoken(left)),
        None if end.is_none() => "its token serves until it is refused, then the refresh is tried again".to_owned(),
        None => "the refresh is tried again".to_owned(),
    };
    Some(format!("its refresh was interrupted {ago} ago, when the daemon ended; {serves}"))
}

/// That requests are paid for beyond the plan.
fn overage_words(account: &Account, now: Now) -> Option<String> {
    let until = spoken(account.overage_until(now.wall)?.since(now.wall));
    Some(format!("its plan is used up for {until}; requests are paid for beyond it"))
}

pub(crate) fn limits(account: &Account, now: Now) -> Vec<LimitInfo> {
    account.limits().iter().filter(|limit| !limit.until.passed(now)).map(|known| limit(known, now)).collect()
}

pub(crate) fn limit(limit: &Limit, now: Now) -> LimitInfo {
    LimitInfo {
        key: limit.key.clone(),
        reason: limit.reason.name().to_owned(),
        scope: limit.scope.name().to_owned(),
        until: limit.until.wall(now).0,
        source: limit.source.name().to_owned(),
        since: limit.since.0,
        evidence: limit.evidence.as_deref().map(str::to_owned),
        link: limit.link.as_deref().map(str::to_owned),
    }
}
