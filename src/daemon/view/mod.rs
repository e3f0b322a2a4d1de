//! From the pool's state to what goes over the wire.

pub(crate) mod warnings;

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::credential::Credential;
use crate::pool::{
    Account, AccountRecord, Bind, Fence, Ineligible, Lease, Limit, LoginProblem, LoginState, Now, Process,
    Verification, Wall, Window, spoken,
};
use crate::protocol::{
    AccountInfo, AccountLabel, AccountName, AccountTotals, Answer, CredentialInfo, DaemonStatus, DecisionInfo,
    ErrorInfo, HolderInfo, LeaseInfo, LeaseKey, LeaseRow, LimitInfo, LinkInfo, QueueRow, SecretText, UsageInfo,
};
use crate::{provider, usage};

use crate::daemon::os::{clock, process};
use crate::daemon::refresh::CredentialUse;
use crate::daemon::state::report::ReportOutcome;
use crate::daemon::state::{Daemon, Responder, State};

/// Appends the lease, or why it cannot be handed out.
pub(crate) fn lease(state: &State, key: &LeaseKey, now: Now, fence: Fence, to: &Responder, out: &mut Vec<u8>) {
    match lease_info(state, key, now, fence, to.wants_credential) {
        Ok(info) => to.codec.answer(&to.id, &Answer::Lease(info), out),
        Err(error) => to.codec.refusal(&to.id, &error, out),
    }
}

/// Appends what to do next.
pub(crate) fn decision(
    state: &State,
    key: &LeaseKey,
    now: Now,
    learnt: &ReportOutcome,
    to: &Responder,
    out: &mut Vec<u8>,
) {
    let ReportOutcome { decision, verdict } = learnt;
    let lease = decision.lease.map(|fence| lease_info(state, key, now, fence, to.wants_credential)).transpose();
    match lease {
        Err(error) => to.codec.refusal(&to.id, &error, out),
        Ok(lease) => {
            let info = DecisionInfo {
                action: decision.action.name().into(),
                after_ms: crate::pool::millis(decision.after),
                reason: decision.reason.map(|reason| reason.name().into()),
                scope: decision.scope.map(|scope| scope.name().into()),
                lease,
                evidence: verdict.as_ref().map(|verdict| verdict.evidence.as_str().into()),
                link: verdict.as_ref().and_then(|verdict| verdict.link.as_deref()).map(Cow::Borrowed),
            };
            to.codec.answer(&to.id, &Answer::Decision(Box::new(info)), out);
        }
    }
}

/// A lease, as its holder sees it.
fn lease_info<'a>(
    state: &'a State,
    key: &LeaseKey,
    now: Now,
    fence: Fence,
    credential: bool,
) -> Result<LeaseInfo<'a>, ErrorInfo> {
    let gone = || ErrorInfo::new("stale_lease", "this lease has ended");
    let lease = state.pool.lease(fence).ok_or_else(gone)?;
    let account = state.pool.account(lease.account).ok_or_else(gone)?;
    Ok(LeaseInfo {
        lease: Cow::Owned(key.id(lease)),
        fence: fence.0,
        account: AccountName {
            id: Cow::Owned(account.record.id.to_string()),
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
        credential: credential.then(|| credential_info(state, account)).transpose()?,
        project_id: account.record.project_id.as_deref().map(Cow::Borrowed),
    })
}

/// The credential of a lease, once it is fresh.
pub(crate) async fn fresh_credential(
    daemon: std::sync::Arc<Daemon>,
    fence: Fence,
    need: CredentialUse,
) -> Result<Answer<'static>, ErrorInfo> {
    let credential = daemon.fresh_credential(fence, need).await?;
    let state = &*daemon.state();
    let account = state.pool.lease(fence).and_then(|lease| state.pool.account(lease.account));
    let account = account.ok_or_else(|| ErrorInfo::new("stale_lease", "this lease has ended"))?;
    let (header, scheme) = provider::header(&account.record.provider, credential.kind);
    Ok(Answer::Credential(CredentialInfo {
        kind: credential.kind,
        secret: crate::daemon::api::import::exposed(&credential.access),
        expires_at: credential.expires_at.map(|at| at.0),
        header: Cow::Borrowed(header),
        scheme: scheme.map(Cow::Borrowed),
    }))
}

/// What an account authenticates with.
pub(crate) fn credential_info<'a>(state: &'a State, account: &'a Account) -> Result<CredentialInfo<'a>, ErrorInfo> {
    let missing = || {
        ErrorInfo::new("credential_unavailable", format!("the credential of {} is missing", account.record.id))
            .hint("add the account again")
    };
    let Credential { kind, access, expires_at, .. } = state.credentials.get(&account.record.id).ok_or_else(missing)?;
    let (header, scheme) = provider::header(&account.record.provider, *kind);
    Ok(CredentialInfo {
        kind: *kind,
        secret: SecretText(Cow::Borrowed(access.expose())),
        expires_at: expires_at.map(|at| at.0),
        header: Cow::Borrowed(header),
        scheme: scheme.map(Cow::Borrowed),
    })
}

/// All leases, oldest first.
pub(crate) fn lease_rows(state: &State, key: &LeaseKey, now: Now) -> Vec<LeaseRow> {
    let mut leases: Vec<&Lease> = state.pool.leases().collect();
    leases.sort_unstable_by_key(|lease| lease.fence);
    let mut programs: FxHashMap<Process, Option<HolderInfo>> = FxHashMap::default();
    let mut holder = |lease: &Lease| {
        let holder = lease.holder.process?;
        programs.entry(holder).or_insert_with(|| now_running(holder)).clone()
    };
    let mut row = |lease: &Lease| LeaseRow {
        lease: key.id(lease),
        fence: lease.fence.0,
        account: AccountLabel {
            id: lease.account.to_string(),
            label: state.pool.account(lease.account).and_then(|account| account.record.label.clone()),
        },
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
        holder: holder(lease),
        granted_at: lease.granted_at.0,
        expires_at: lease.expires.map(|at| now.wall_of(at).0),
    };
    leases.into_iter().map(&mut row).collect()
}

/// The holder as it is now: a process may have become another program since (`lessor run` does), or be gone, as that of
/// a lease that outlives it by its time.
fn now_running(holder: Process) -> Option<HolderInfo> {
    let found = process::find(holder.pid).ok().flatten().filter(|found| found.process == holder)?;
    Some(HolderInfo { pid: holder.pid, program: found.program.as_deref().map(str::to_owned) })
}

/// An account, as its owner sees it.
pub(crate) fn account_info(state: &State, now: Now, account: &Account) -> AccountInfo {
    let record = &account.record;
    let credential = state.credentials.get(&record.id);
    let name = account_state(account, now);
    AccountInfo {
        id: record.id.to_string(),
        provider: record.provider.clone(),
        label: record.label.clone(),
        email: record.email.clone(),
        tier: record.tier,
        kind: record.kind,
        state: name.to_owned(),
        state_reason: state_reason(state, now, account),
        state_link: state_link(account, now),
        enabled: account.enabled(),
        leases: account.leases(),
        capacity: account.capacity(),
        priority: account.priority(),
        allowed_agents: account.allowed_agents().map_or_else(|| vec!["any".to_owned()], <[String]>::to_vec),
        project_id: record.project_id.clone(),
        credential_expires_at: credential.and_then(|credential| credential.expires_at).map(|at| at.0),
        limits: limits(account, now),
        usage: usage_of(state, now, account),
        created_at: record.created_at.0,
        last_used_at: record.last_used_at.map(|at| at.0),
        account_id: record.vendor_id.clone(),
        link: state.links.get(&record.id).map(|link| LinkInfo {
            tool: link.tool.clone(),
            path: link.path.clone(),
            mode: link.mode.name().to_owned(),
            trouble: state.link_troubles.get(&record.id).cloned(),
        }),
        plan: state.gathered.plans.get(&record.id).cloned(),
        usage_trouble: state.gathered.troubles.get(&record.id).cloned(),
    }
}

/// What is older than this may be another by now, however often it is asked for.
const STALE: Duration = Duration::from_secs(600);

/// What is known of its windows, then of its rates; of rates only what still counts.
fn usage_of(state: &State, now: Now, account: &Account) -> Vec<UsageInfo> {
    // one that was to be read anew twice since
    let old = state.configured.config.quota.poll.map_or(STALE, |every| STALE.max(2 * every));
    let info = |window: &Window, rate| UsageInfo {
        stale: window.resets_at.is_some_and(|at| at <= now.wall) || now.wall.since(window.as_of) > old,
        pace: usage::length_of(&window.name).and_then(|length| window.pace(length)),
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

/// A rate without a time of its own is forgotten after this.
const RATE: Duration = Duration::from_secs(60);

/// Where the user can do something about it.
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

/// Why an account is not ready, in words.
pub(crate) fn state_reason(state: &State, now: Now, account: &Account) -> Option<String> {
    let record = &account.record;
    if !account.enabled() {
        return record.disabled_reason.clone();
    }
    let words = match record.login_state {
        LoginState::Ready => return account.renewing().map(|_| state.why_renewing(record.id)),
        LoginState::NeedsLogin(_) | LoginState::NeedsVerification(_) => login_words(record, now.wall)?,
    };
    let missing = state.why_not_refreshed(record.id);
    match missing.filter(|_| record.login_state == LoginState::NeedsLogin(LoginProblem::AccessTokenEnded)) {
        Some(missing) => Some(format!("{words} and cannot be renewed: {missing}")),
        None => Some(words),
    }
}

/// What an account's login needs, in words; nothing when it works. What the configuration lacks for a refresh is not
/// part of it.
pub(crate) fn login_words(record: &AccountRecord, now: Wall) -> Option<String> {
    match &record.login_state {
        LoginState::Ready => None,
        LoginState::NeedsLogin(problem) => Some(problem_words(problem, &record.provider, now)),
        LoginState::NeedsVerification(Verification { text: Some(text), .. }) => Some(text.clone()),
        LoginState::NeedsVerification(Verification { text: None, link }) => {
            Some(with_link("the account must be confirmed with the provider", link.as_deref()))
        }
    }
}

/// A login problem in words.
fn problem_words(problem: &LoginProblem, provider: &str, now: Wall) -> String {
    match problem {
        LoginProblem::AccessTokenEnded => "its access token has ended".to_owned(),
        LoginProblem::RefreshRejected { code, answer_lost_at } => {
            let lost = answer_lost_at.map(|at| {
                let ago = spoken(now.since(at));
                format!(
                    " after the answer to a refresh was lost {ago} ago (the server may have replaced the token then)"
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

/// What an account cannot be used for now.
pub(crate) fn limits(account: &Account, now: Now) -> Vec<LimitInfo> {
    account.limits().iter().filter(|limit| !limit.until.passed(now)).map(|known| limit(known, now)).collect()
}

/// A limit, for people.
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

/// The account's state, in a word.
pub(crate) fn account_state(account: &Account, now: Now) -> &'static str {
    if !account.enabled() {
        return Ineligible::Disabled.name();
    }
    match account.record.login_state {
        LoginState::NeedsLogin(_) => Ineligible::NeedsLogin.name(),
        LoginState::NeedsVerification(_) => Ineligible::NeedsVerification.name(),
        LoginState::Ready if account.renewing().is_some() => Ineligible::Limited.name(),
        LoginState::Ready if account.limits().iter().any(|limit| !limit.until.passed(now)) => {
            Ineligible::Limited.name()
        }
        LoginState::Ready => "ready",
    }
}

/// The whole picture.
pub(crate) fn status(daemon: &Daemon, state: &State, now: Now) -> DaemonStatus {
    let accounts = totals(state, now);
    let queue = state.pool.waiters().zip(1u64..).map(|((id, waiter), position)| QueueRow {
        position,
        eta_at: state.pool.eta(now, id).map(|at| at.0),
        provider: waiter.ask.target.provider.to_string(),
        model: waiter.ask.target.model.as_deref().map(str::to_owned),
        label: waiter.ask.label.as_deref().map(str::to_owned),
    });
    let mut warnings = daemon.facts.warnings.clone();
    match &daemon.facts.waiting {
        Some(waiting) => warnings.push(waiting.warning()),
        None => warnings.extend(warnings::of_store(&daemon.store.health(), now.wall)),
    }
    warnings.extend(daemon.store.key_trouble());
    warnings.extend(state.configured.notes());
    warnings.extend(warnings::of_refreshing(state, now));
    warnings
        .extend(state.gateway.trouble.as_ref().map(|why| format!("the gateway does not serve as it should: {why}")));
    warnings.extend(warnings::of_links(state));
    warnings.extend(warnings::of_accounts(&state.configured.config, &state.pool));
    DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: crate::pool::millis(clock::now().mono.since(daemon.facts.started.mono)),
        socket: daemon.facts.socket.clone(),
        gateway: state.gateway.told(),
        config: state.configured.state(),
        accounts,
        leases: state.pool.lease_count() as u64,
        queue: queue.collect(),
        warnings,
    }
}

/// How many accounts are in which state.
pub(crate) fn totals(state: &State, now: Now) -> AccountTotals {
    let mut accounts = AccountTotals { total: state.pool.accounts().len() as u64, ..AccountTotals::default() };
    for account in state.pool.accounts() {
        match account_state(account, now) {
            "ready" => accounts.ready += 1,
            "limited" => accounts.limited += 1,
            "needs_login" => accounts.needs_login += 1,
            "needs_verification" => accounts.needs_verification += 1,
            _ => accounts.disabled += 1,
        }
    }
    accounts
}
