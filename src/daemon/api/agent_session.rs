//! `session.report`: what an agent states of its session's quota, as Claude Code does to its status line; and the account
//! of the session's last request.
//!
//! The statement is about an account that the agent does not know. It is learnt only for an account that it is certainly
//! about: for the one that every request of the session was given, or one whose known windows fit, while those of the
//! session's other accounts do not. An agent that uses no account of lessor's is recognised by its process, and nothing is
//! learnt of it.

use std::sync::Arc;

use crate::daemon::api::reply::AnswerResult;
use crate::daemon::os::peer_process::{Ancestry, RunningProgram, ancestry};
use crate::daemon::state::gateway_keys::ValidKey;
use crate::daemon::state::{AccountState, Asker, Daemon, State};
use crate::daemon::{os::clock, view};
use crate::pool::{AccountId, CredentialKind, Fence, Lease, Now, Process, Usage, Wall, Window};
use crate::protocol::{AccountLabel, AgentSessionInfo, AgentSessionParams, Answer};
use crate::provider::Program;
use crate::usage::{can_be, newer_windows, stated_window};

/// The upstream whose agent states windows.
const PROVIDER: &str = "anthropic";
/// Its agent.
const AGENT: &str = "claude";
/// Most windows that are looked at.
const MOST_WINDOWS: usize = 16;

/// How the agent is connected with lessor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AgentLink {
    /// Its requests go through the gateway, as those of this client.
    Gateway(u64),
    /// It has the credential of this lease itself.
    Direct(Fence),
    /// No agent is above the process that reports: only the session says whose requests they were.
    SessionOnly,
    /// It has no lease: it uses an account of its own, whatever its session did before.
    Foreign,
}

/// The account of the session, and what is known of the session's accounts.
struct SessionAccount {
    account: AccountId,
    /// Not before this time.
    read_from: Wall,
    /// The other accounts that the statement could be about; `None` if they are not all known.
    others: Option<Vec<AccountId>>,
    /// It is certain that the agent is the one of this session.
    is_certain_agent: bool,
}

pub async fn report(daemon: Arc<Daemon>, params: AgentSessionParams) -> AnswerResult {
    let processes = match params.pid {
        Some(pid) => daemon.attest.lookups.run(move || ancestry(pid)).await,
        None => None,
    };
    let programs = daemon.configured_programs(AGENT);
    let key =
        params.key.as_ref().and_then(|key| daemon.gateway_keys.check(&daemon.store, &key.0, clock::now().wall).ok());
    let state = &mut *daemon.state();
    let now = clock::now();
    let provider = params.provider.as_deref().unwrap_or(PROVIDER);
    let link = agent_link(state, provider, key, processes, &programs);
    let of_session = session_account(state, provider, params.session.as_deref(), link);
    let learnt = match &of_session {
        Some(found) => learn(state, found, &params, now),
        None => false,
    };
    let shown = of_session.map(|found| found.account).or_else(|| leased_account(state, provider, link));
    Ok(Answer::AgentSession(Box::new(info(&daemon, state, (provider, shown), learnt, now))))
}

fn agent_link(
    state: &mut State,
    provider: &str,
    key: Option<ValidKey>,
    processes: Option<Ancestry>,
    programs: &[String],
) -> AgentLink {
    match key {
        Some(ValidKey::Lasting(key)) => return AgentLink::Gateway(key.record().client),
        Some(ValidKey::Lease(first, process, _)) if state.key_holder(first, process).is_some() => {
            return AgentLink::Gateway(first.0);
        }
        Some(ValidKey::Lease(..)) | None => {}
    }
    let Some(Ok(chain)) = processes else { return AgentLink::SessionOnly };
    let is_agent = |running: &RunningProgram| {
        running.program.as_ref().is_some_and(|program: &Program| program.is_agent(AGENT, programs))
    };
    let agent = chain.iter().find(|running| is_agent(running)).map(|running| running.process);
    for running in &chain {
        let leases = leases_of(state, provider, running.process);
        if let Some(first) = leases.iter().find_map(|fence| state.key_holders.owner(*fence)) {
            return AgentLink::Gateway(first.0);
        }
        // what it was handed may be in the environment of its children, too, but they may have another credential
        if let [fence] = leases[..]
            && agent.is_none_or(|agent| agent == running.process)
        {
            return AgentLink::Direct(fence);
        }
    }
    if agent.is_some() { AgentLink::Foreign } else { AgentLink::SessionOnly }
}

/// The leases that are bound to a process, without those of its sub-agents.
fn leases_of(state: &State, provider: &str, process: Process) -> Vec<Fence> {
    let is_of_it = |lease: &&Lease| {
        lease.bind.process() == Some(process) && *lease.target.provider == *provider && lease.subagent.is_none()
    };
    state.pool.leases().filter(is_of_it).map(|lease| lease.fence).collect()
}

fn session_account(state: &State, provider: &str, session: Option<&str>, link: AgentLink) -> Option<SessionAccount> {
    if link == AgentLink::Foreign {
        return None;
    }
    if let AgentLink::Direct(fence) = link {
        let lease = state.pool.lease(fence)?;
        // after a move the agent has the credential of the account before
        let may_be_moved = state.pool.is_from_before(fence) || state.session_accounts.is_moved(fence);
        return Some(SessionAccount {
            account: lease.account,
            read_from: lease.granted_at,
            others: (!may_be_moved).then(Vec::new),
            is_certain_agent: true,
        });
    }
    let given = state.session_accounts.get(provider, Asker::Session(session?))?;
    let of_client = match link {
        AgentLink::Gateway(client) => state.session_accounts.get(provider, Asker::Client(client)),
        _ => None,
    };
    let is_complete = !given.is_incomplete && of_client.is_none_or(|given| !given.is_incomplete);
    let all = given.others.iter().chain(of_client.into_iter().flat_map(|of| of.others.iter().chain([&of.last])));
    let mut others: Vec<AccountId> = all.copied().filter(|other| *other != given.last).collect();
    others.sort_unstable();
    others.dedup();
    Some(SessionAccount {
        account: given.last,
        read_from: given.at,
        others: is_complete.then_some(others),
        is_certain_agent: of_client.is_some(),
    })
}

/// Learns what the agent states, if it is certainly about the session's account; returns whether that was news.
fn learn(state: &mut State, found: &SessionAccount, params: &AgentSessionParams, now: Now) -> bool {
    let Some(account) = state.pool.account(found.account) else { return false };
    // only plans have these windows
    if state.api_kind(&account.record) == CredentialKind::ApiKey {
        return false;
    }
    let read_at = match params.read_at {
        Some(at) => Wall(at).clamp(found.read_from, now.wall.max(found.read_from)),
        None => found.read_from,
    };
    let stated = params.windows.iter().take(MOST_WINDOWS).filter_map(|window| {
        let read = stated_window(&window.name, window.used_percentage, window.resets_at.map(Wall), now.wall)?;
        Some(Window { as_of: read_at, ..read })
    });
    let stated: Vec<Window> = stated.collect();
    let known = &account.usage().windows;
    let Some(others) = &found.others else { return false };
    let fits = |id: &AccountId| {
        state.pool.account(*id).is_some_and(|account| can_be(&account.usage().windows, &stated, now.wall))
    };
    let is_certain = match others.is_empty() {
        true => found.is_certain_agent || fits(&found.account),
        false => fits(&found.account) && !others.iter().any(fits),
    };
    if !is_certain {
        return false;
    }
    let news = newer_windows(known, stated, now.wall);
    let is_news = !news.is_empty();
    let learnt = state.learn_usage(now, found.account, Usage::from(news));
    learnt.no_answer();
    is_news
}

/// The account that the agent has leased now.
fn leased_account(state: &State, provider: &str, link: AgentLink) -> Option<AccountId> {
    let fence = match link {
        AgentLink::Gateway(client) => state.key_holders.get(Fence(client))?.lease_of(provider)?,
        AgentLink::Direct(fence) => fence,
        AgentLink::SessionOnly | AgentLink::Foreign => return None,
    };
    Some(state.pool.lease(fence)?.account)
}

fn info(
    daemon: &Daemon,
    state: &State,
    (provider, shown): (&str, Option<AccountId>),
    learnt: bool,
    now: Now,
) -> AgentSessionInfo {
    let account = shown.and_then(|id| state.pool.account(id));
    let details = account.map(|account| view::account_info(state, now, account));
    let label = account.map(|account| {
        let id = account.record.id;
        AccountLabel { email: state.email_name(id), ..AccountLabel::of(&state.pool, id) }
    });
    let is_limited = account.is_some_and(|account| state.account_state(account, now) == AccountState::Limited);
    let limits = details.iter().flat_map(|details| details.limits.iter().map(|limit| limit.until));
    let waiting = state.pool.waiters().filter(|(_, waiter)| *waiter.ask.target.provider == *provider).count();
    let has_accounts = state.pool.accounts().iter().any(|account| account.record.provider == provider);
    AgentSessionInfo {
        account: label,
        state: details.as_ref().map(|details| details.state.clone()),
        limited_until: limits.max().filter(|_| is_limited),
        usage: details.map(|details| details.usage).unwrap_or_default().into_iter().filter(|w| !w.rate).collect(),
        learnt,
        waiting: waiting as u64,
        provider: has_accounts.then(|| view::provider_info(state, now, provider, daemon.run.keyring.is_some())),
    }
}
