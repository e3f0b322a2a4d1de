//! `explain` and `forecast`: why an account was chosen or not, and what could be granted.

use crate::daemon::api::account_set::{account_set, check_only, stated_directory};
use crate::daemon::api::reply::{CallReply, CallResult};
use crate::daemon::api::session::{bad, find_account, target};
use crate::daemon::state::{Daemon, State};
use crate::daemon::{log::instant, os::clock, view};
use crate::pool::{
    Account, AccountId, AccountSet, CandidateAccount, Comparison, Criterion, Explanation, Ineligible, Lease,
    LeaseExplanation, LeaseRequest, Limit, Now, PassedAccount, RefusedRequest, SelectionResult, Wall, spoken,
};
use crate::protocol::{
    AccountLabel, Answer, CandidateInfo, ComparedInfo, DecidedInfo, ErrorInfo, ErrorKind, ExplainInfo, ExplainParams,
    ForecastInfo, ForecastParams, OutlookInfo, PassedInfo, RequestInfo, VerdictInfo,
};

/// Names the most recent decision.
const LAST: &str = "last";
/// The most accounts in one answer, which must fit into one message.
const MAX_CANDIDATES: usize = 256;

/// `forecast`
pub fn forecast(daemon: &Daemon, reply: &mut CallReply<'_>, params: &ForecastParams) -> CallResult {
    check_only(params.only.as_deref())?;
    let directory = params.directory.as_deref().map(|stated| stated_directory(daemon, stated)).transpose()?;
    let state = &*daemon.state();
    let now = clock::now();
    let target = target(state, &params.provider, params.model.as_deref(), None)?;
    let set = account_set(state, params.only.as_deref(), directory)?;
    let ask = LeaseRequest { set, ..LeaseRequest::of_agent(target, params.agent.as_deref()) };
    let forecast = state.pool.forecast(now, &ask, params.count);
    let accounts = forecast.accounts.into_iter().map(|outlook| OutlookInfo {
        id: outlook.account.to_string(),
        label: name(state, outlook.account).label,
        room: outlook.room,
        why: outlook.why.map(|why| state.obstacle_name(now, outlook.account, why).to_owned()),
        until: outlook.until.map(|until| until.0),
    });
    let info = ForecastInfo {
        grantable: forecast.grantable,
        unshared: forecast.unshared,
        next_at: forecast.next_at.map(|at| at.0),
        accounts: accounts.collect(),
        set: state.pool.set_in_words(&ask.set),
    };
    reply.answer(&Answer::Forecast(info))
}

/// `explain`
pub fn explain(daemon: &Daemon, reply: &mut CallReply<'_>, params: &ExplainParams) -> CallResult {
    check_only(params.only.as_deref())?;
    let directory = params.directory.as_deref().map(|stated| stated_directory(daemon, stated)).transpose()?;
    let state = &*daemon.state();
    let now = clock::now();
    let what = params.what.as_deref().unwrap_or(LAST);
    let is_decided = what.eq_ignore_ascii_case(LAST) || what.starts_with("ls_");
    if is_decided && params.model.is_some() {
        return Err(bad("`model` is for accounts: a lease has its own"));
    }
    if is_decided && params.only.is_some() {
        return Err(bad("`only` is for accounts: a lease has its own"));
    }
    let info = match what {
        last if last.eq_ignore_ascii_case(LAST) => explain_last(daemon, state, now)?,
        lease if lease.starts_with("ls_") => {
            let lease = find_lease(daemon, state, lease)?;
            of_lease(daemon, state, now, lease)
        }
        account => {
            let set = account_set(state, params.only.as_deref(), directory)?;
            of_account(state, now, find_account(state, account)?, params.model.as_deref(), set)?
        }
    };
    reply.answer(&Answer::Explained(Box::new(info)))
}

/// The last decision: a grant or a refusal.
fn explain_last(daemon: &Daemon, state: &State, now: Now) -> Result<ExplainInfo, ErrorInfo> {
    let held = state.pool.last_granted().and_then(|fence| state.pool.lease(fence));
    let granted = [held, state.last_ended.as_deref()].into_iter().flatten().max_by_key(|lease| lease.fence);
    match (granted, state.pool.refusals().next_back()) {
        (Some(lease), Some(refused)) if lease.granted_at < refused.at => Ok(of_refusal(state, now, refused)),
        (Some(lease), _) => Ok(of_lease(daemon, state, now, lease)),
        (None, Some(refused)) => Ok(of_refusal(state, now, refused)),
        (None, None) => {
            Err(ErrorInfo::new(ErrorKind::UnknownLease, "nothing was granted or refused since the daemon started")
                .hint("name an account: lessor explain A"))
        }
    }
}

/// The lease with this id, or with an id that begins with this text.
fn find_lease<'a>(daemon: &Daemon, state: &'a State, id: &str) -> Result<&'a Lease, ErrorInfo> {
    let all = || state.pool.leases().chain(state.last_ended.as_deref());
    if let Some(token) = daemon.lease_key.open(id) {
        let stale = || ErrorInfo::new(ErrorKind::StaleLease, "this lease has ended").hint("see: lessor leases");
        return all().find(|lease| lease.fence == token.fence).ok_or_else(stale);
    }
    let beginning = id.trim_end_matches('…');
    let mut found = all().filter(|lease| daemon.lease_key.id(lease).starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(lease), None) => Ok(lease),
        (Some(_), Some(_)) => {
            Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("several leases begin with {beginning}")))
        }
        (None, _) => {
            Err(ErrorInfo::new(ErrorKind::UnknownLease, format!("there is no lease {id}")).hint("see: lessor leases"))
        }
    }
}

fn of_lease(daemon: &Daemon, state: &State, now: Now, lease: &Lease) -> ExplainInfo {
    let LeaseExplanation { fence, account, by, at, moved_from, comparison, now: as_of_now } =
        state.pool.explain_ended_lease(now, lease);
    let decided = DecidedInfo {
        lease: Some(daemon.lease_key.id(lease)),
        fence: Some(fence.0),
        held: state.pool.lease(fence).is_some(),
        account: Some(name(state, account)),
        by: Some(by.name().to_owned()),
        moved_from: moved_from.map(|(account, _)| name(state, account)),
        moved_because: moved_from.map(|(_, reason)| reason.name().to_owned()),
        compared: comparison.map(|comparison| compared(state, now, &comparison)),
        pid: lease.bind.process().or(lease.holder.process).map(|process| process.pid),
        subagent: lease.subagent.as_ref().map(|subagent| subagent.id.to_string()),
        parent: lease.subagent.as_ref().and_then(|subagent| subagent.parent).map(|parent| name(state, parent)),
        apart: lease.subagent.as_ref().and_then(|subagent| subagent.apart).map(|apart| apart.name().to_owned()),
        ..decided_at(at)
    };
    let request = RequestInfo {
        session: text(lease.session.as_deref()),
        label: text(lease.label.as_deref()),
        agent: text(lease.agent.as_deref()),
        account: lease.pinned.then(|| account.to_string()),
        set: state.pool.set_in_words(lease.set()),
        ..request(&lease.target)
    };
    ExplainInfo { decided: Some(decided), ..explained(state, now, "lease", request, as_of_now) }
}

fn decided_at(at: Wall) -> DecidedInfo {
    DecidedInfo {
        at: at.0,
        lease: None,
        fence: None,
        held: false,
        account: None,
        by: None,
        moved_from: None,
        moved_because: None,
        kind: None,
        message: None,
        compared: None,
        until: None,
        pid: None,
        subagent: None,
        parent: None,
        apart: None,
    }
}

fn of_refusal(state: &State, now: Now, refused: &RefusedRequest) -> ExplainInfo {
    let RefusedRequest { at, ask, refusal } = refused;
    let decided = DecidedInfo {
        kind: Some(refusal.kind.into()),
        message: Some(refusal.message.clone()),
        until: refusal.retry_at.map(|at| at.0),
        ..decided_at(*at)
    };
    let explanation = state.pool.explain(now, ask);
    ExplainInfo { decided: Some(decided), ..explained(state, now, "refusal", of_request(state, ask), explanation) }
}

/// How a plain request for the account's provider would be decided, from an agent that may use the account.
fn of_account(
    state: &State,
    now: Now,
    id: AccountId,
    model: Option<&str>,
    set: AccountSet,
) -> Result<ExplainInfo, ErrorInfo> {
    let unknown = || ErrorInfo::new(ErrorKind::UnknownAccount, format!("there is no account {id}"));
    let account = state.pool.account(id).ok_or_else(unknown)?;
    let agent = account.allowed_agents().and_then(|agents| agents.first()).map(|agent| agent.as_str().into());
    let target = target(state, &account.record.provider, model, None)?;
    let ask = LeaseRequest { agent, set, ..LeaseRequest::plain(target) };
    let explanation = state.pool.explain(now, &ask);
    let limits = view::limits(account, now);
    let info = explained(state, now, "account", of_request(state, &ask), explanation);
    Ok(ExplainInfo { account: Some(name(state, id)), limits, ..info })
}

fn explained(state: &State, now: Now, subject: &str, request: RequestInfo, explanation: Explanation) -> ExplainInfo {
    let selection = &state.pool.settings().selection;
    let candidates = explanation.candidates.iter().take(MAX_CANDIDATES);
    ExplainInfo {
        subject: subject.to_owned(),
        request,
        decided: None,
        account: None,
        limits: Vec::new(),
        now: verdict(state, now, explanation.verdict, explanation.comparison),
        strategy: selection.strategy.name().to_owned(),
        mode: selection.mode.name().to_owned(),
        candidates: candidates.filter_map(|one| candidate(state, now, one)).collect(),
    }
}

/// What decided for an account over the others.
fn compared(state: &State, now: Now, Comparison { over, by, passed }: &Comparison) -> ComparedInfo {
    let [chosen, other] = by.map(criterion_values).unwrap_or_default();
    let passed = passed.map(|PassedAccount { account, wanted_by, why, is_fallback, until }| PassedInfo {
        account: name(state, account),
        by: wanted_by.name().to_owned(),
        why: match why {
            Some(why) => state.obstacle_name(now, account, why).to_owned(),
            None if is_fallback => "fallback_only".to_owned(),
            None => "overage".to_owned(),
        },
        until: until.map(|at| at.0),
    });
    ComparedInfo {
        over: over.map(|over| name(state, over)),
        criterion: by.map(|by| by.name().to_owned()),
        chosen,
        other,
        passed,
    }
}

/// The values of the chosen account and of the other one, for people.
fn criterion_values(by: Criterion) -> [Option<String>; 2] {
    let percent =
        |used: Option<f64>| Some(used.map_or_else(|| "unknown".to_owned(), |used| format!("{:.0} %", used * 100.0)));
    let points = |value: f64| Some(format!("{value:.1}"));
    match by {
        Criterion::QuotaPool
        | Criterion::Fallback
        | Criterion::Overage
        | Criterion::Current
        | Criterion::Turn
        | Criterion::Order => [None, None],
        Criterion::PidOffset(pid) => [Some(pid.to_string()), None],
        Criterion::Leases(leases) => leases.map(|(leases, capacity)| Some(format!("{leases}/{capacity}"))),
        Criterion::Subagents(leases) => {
            leases.map(|(agents, subagents)| Some(format!("{agents} and {subagents} of sub-agents")))
        }
        Criterion::Priority(priorities) => priorities.map(|priority| Some(priority.to_string())),
        Criterion::Tier(tiers) => tiers.map(|tier| Some(tier.name().to_owned())),
        Criterion::Health(values) | Criterion::Tokens(values) | Criterion::Score(values) => values.map(points),
        Criterion::SoftThreshold(used) | Criterion::Weekly(used) | Criterion::Short(used) | Criterion::Used(used) => {
            used.map(percent)
        }
        Criterion::WeeklyReset(resets) => {
            resets.map(|at| Some(at.map_or_else(|| "unknown".to_owned(), |at| instant(at.0))))
        }
        Criterion::Idle(idle) => idle.map(|idle| Some(idle.map_or_else(|| "never used".to_owned(), spoken))),
    }
}

fn verdict(state: &State, now: Now, verdict: SelectionResult, comparison: Option<Comparison>) -> VerdictInfo {
    let nothing = |outcome: &str| VerdictInfo {
        outcome: outcome.to_owned(),
        account: None,
        by: None,
        kind: None,
        until: None,
        compared: comparison.map(|comparison| compared(state, now, &comparison)),
        message: None,
        hint: None,
    };
    match verdict {
        SelectionResult::Grant(account, by) => {
            VerdictInfo { account: Some(name(state, account)), by: Some(by.name().to_owned()), ..nothing("grant") }
        }
        SelectionResult::Wait(kind, until) => {
            VerdictInfo { kind: Some(kind.into()), until: until.map(|at| at.0), ..nothing("wait") }
        }
        SelectionResult::Refuse(refusal) => VerdictInfo {
            kind: Some(refusal.kind.into()),
            until: refusal.retry_at.map(|at| at.0),
            message: Some(refusal.message),
            hint: refusal.hint,
            ..nothing("refuse")
        },
    }
}

fn candidate(state: &State, now: Now, one: &CandidateAccount) -> Option<CandidateInfo> {
    let account = state.pool.account(one.account)?;
    let exclusion = one.exclusion.as_ref();
    let limits = exclusion.map_or(&[][..], |exclusion| &exclusion.limits);
    let login = exclusion.filter(|one| matches!(one.why, Ineligible::NeedsLogin | Ineligible::NeedsVerification));
    Some(CandidateInfo {
        id: one.account.to_string(),
        label: account.record.label.clone(),
        email: account.record.email.clone(),
        rank: one.rank.map(|rank| rank as u64),
        why: exclusion.map(|exclusion| state.obstacle_name(now, one.account, exclusion.why).to_owned()),
        until: exclusion.and_then(|exclusion| exclusion.until).map(|until| until.0),
        note: match login {
            Some(_) => view::state_reason(state, now, account),
            None if one.exclusion.is_none() && one.fallback_only => {
                Some("it serves only while no other account can (fallback_only)".to_owned())
            }
            None if one.pays_overage => Some("its plan is used up: requests are paid for beyond it".to_owned()),
            None => exclusion
                .and_then(|exclusion| exclusion.note.clone())
                .or_else(|| state.difference_of(one.account, now.wall).or_else(|| preferred_note(state, account))),
        },
        limits: limits.iter().map(|limit: &Limit| view::limit(limit, now)).collect(),
        pool: one.pool.as_deref().map(str::to_owned),
        leases: one.leases,
        capacity: one.capacity,
        priority: one.priority,
        tier: one.tier,
        over_threshold: one.over_threshold,
        health: one.health,
        tokens: one.tokens,
        idle_ms: one.idle.map(crate::pool::millis),
        score: one.score,
        current: one.current,
        used_5h: one.short,
        used_7d: one.weekly,
        resets_7d_at: one.weekly_resets_at.map(|at| at.0),
        fallback_only: one.fallback_only,
    })
}

/// That the configuration prefers an account.
fn preferred_note(state: &State, account: &Account) -> Option<String> {
    let preferred = state.pool.settings().selection.preferred_account.as_deref()?;
    account.record.is_named(preferred).then(|| "the configuration prefers it".to_owned())
}

fn of_request(state: &State, ask: &LeaseRequest) -> RequestInfo {
    RequestInfo {
        session: text(ask.session.as_deref()),
        label: text(ask.label.as_deref()),
        agent: text(ask.agent.as_deref()),
        account: text(ask.account.as_deref()),
        set: state.pool.set_in_words(&ask.set),
        ..request(&ask.target)
    }
}

fn request(target: &crate::pool::Target) -> RequestInfo {
    RequestInfo {
        provider: target.provider.to_string(),
        model: text(target.model.as_deref()),
        pool: text(target.pool.as_deref()),
        quota_key: target.key.to_string(),
        session: None,
        label: None,
        agent: None,
        account: None,
        set: None,
    }
}

fn text(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn name(state: &State, id: AccountId) -> AccountLabel {
    AccountLabel::of(&state.pool, id)
}
