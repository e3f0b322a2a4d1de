//! The calls about accounts.

pub mod add;
pub mod check;
pub mod export;
pub mod import;
pub mod refresh;
mod remedy;
pub mod replace;
pub mod reset;
pub mod usage;

use std::sync::Arc;

use self::add::{check_account_texts, check_agents, check_reserve};
use super::connection::planner::let_others_lock;
use crate::config::format_key;
use crate::daemon::api::reply::{AnswerResult, CallReply, CallResult};
use crate::daemon::api::session::{bad, find_account, refused};
use crate::daemon::state::{Daemon, State, Unsaved};
use crate::daemon::{os::clock, view};
use crate::pool::{Account, AccountChange, AccountId, Command, Now};
use crate::protocol::{AccountInfo, Answer, ErrorInfo, ErrorKind, ListAccountsParams, SetAccountParams};
use crate::provider;
use crate::visible::shell_word;

/// For how many accounts the state is locked at once.
const LOCKED_AT_ONCE: usize = 32;

/// A change of an account.
#[derive(Debug)]
pub enum AccountAction {
    Remove,
    Enable(bool, Option<String>),
    Set(Box<SetAccountParams>),
    ClearLimits,
}

/// `account.list`
pub fn list(daemon: &Daemon, reply: &mut CallReply<'_>, params: &ListAccountsParams) -> CallResult {
    reply.answer(&Answer::Accounts(listed(daemon, params)))
}

/// The same with the seats that other hosts of the shared pool hold.
pub async fn list_of_pool(daemon: Arc<Daemon>, params: ListAccountsParams) -> AnswerResult {
    view::read_pool_seats(&daemon).await;
    Ok(Answer::Accounts(listed(&daemon, &params)))
}

fn listed(daemon: &Daemon, params: &ListAccountsParams) -> Vec<AccountInfo> {
    let is_wanted = |provider: &String| params.provider.as_ref().is_none_or(|wanted| wanted == provider);
    of_each_account(daemon, |state, now, account| {
        is_wanted(&account.record.provider).then(|| view::account_info(state, now, account))
    })
}

/// What `make` makes of each account. The state is locked for a few accounts at a time: where there are thousands, to
/// name each of them takes long.
pub(in crate::daemon::api) fn of_each_account<T>(
    daemon: &Daemon,
    make: impl Fn(&State, Now, &Account) -> Option<T>,
) -> Vec<T> {
    let ids: Vec<AccountId> = daemon.state().pool.accounts().iter().map(|account| account.record.id).collect();
    let mut made = Vec::with_capacity(ids.len());
    for some in ids.chunks(LOCKED_AT_ONCE) {
        let_others_lock(daemon);
        let state = &*daemon.state();
        let now = clock::now();
        made.extend(some.iter().filter_map(|id| make(state, now, state.pool.account(*id)?)));
    }
    made
}

/// Changes an account, and answers with the result; for a removed one, with its last state.
pub fn change(daemon: &Daemon, reply: &mut CallReply<'_>, name: &str, command: AccountAction) -> CallResult {
    reply.check_room()?;
    let state = &mut *daemon.state();
    let id = find_account(state, name)?;
    let changed = changed_account(state, id, command)?;
    reply.saved(changed)
}

/// Changes an account on this host; the answer is sent when that is saved.
pub(in crate::daemon::api) fn changed_account(
    state: &mut State,
    id: AccountId,
    command: AccountAction,
) -> Result<Unsaved<Result<Answer<'static>, ErrorInfo>>, ErrorInfo> {
    let now = clock::now();
    let info = |state: &State| state.pool.account(id).map(|account| view::account_info(state, now, account));
    let before = info(state);
    // what is meant to make an account usable says what else is in the way
    let is_repair = matches!(command, AccountAction::Enable(true, _) | AccountAction::ClearLimits);
    let command = pool_command(state, id, command)?;
    let changed = state.apply(now, command);
    let problem = is_repair.then(|| view::still_unusable(state, now, id)).flatten();
    let account = info(state).or(before);
    Ok(changed.map(|result| {
        result.map_err(|refusal| refused(state, &refusal, now))?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, "the account was removed meanwhile");
        Ok(Answer::Account(Box::new(account.ok_or_else(removed)?)))
    }))
}

fn pool_command(state: &State, id: AccountId, command: AccountAction) -> Result<Command, ErrorInfo> {
    let change = match command {
        AccountAction::Remove => return Ok(Command::RemoveAccount(id)),
        AccountAction::ClearLimits => return Ok(Command::ClearLimits(id)),
        AccountAction::Enable(enabled, reason) => {
            refuse_if_configuration_disables(state, id, enabled)?;
            let enabled = Some((enabled, reason.filter(|reason| !reason.is_empty())));
            AccountChange { enabled, ..AccountChange::default() }
        }
        AccountAction::Set(params) => set(state, id, *params)?,
    };
    Ok(Command::ChangeAccount(id, Box::new(change)))
}

fn set(state: &State, account: AccountId, params: SetAccountParams) -> Result<AccountChange, ErrorInfo> {
    check_account_texts(&[
        ("label", params.label.as_deref()),
        ("email", params.email.as_deref()),
        ("project_id", params.project_id.as_deref()),
    ])?;
    check_agents(params.allowed_agents.as_deref().unwrap_or_default())?;
    check_reserve(params.reserve)?;
    let given = [
        ("max_leases", params.max_leases.is_some()),
        ("priority", params.priority.is_some()),
        ("use", params.allowed_agents.is_some()),
        ("reserve", params.reserve.is_some()),
        ("fallback_only", params.fallback_only.is_some()),
    ];
    let keys: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    refuse_configured(state, account, &keys)?;
    let allowed_agents = params
        .allowed_agents
        .map(|allowed_agents| if allowed_agents.is_empty() { default_uses(state, account) } else { allowed_agents });
    Ok(AccountChange {
        label: params.label,
        email: params.email,
        tier: params.tier,
        project_id: params.project_id,
        max_leases: params.max_leases,
        priority: params.priority,
        allowed_agents,
        reserve: params.reserve,
        fallback_only: params.fallback_only,
        ..AccountChange::default()
    })
}

fn default_uses(state: &State, account: AccountId) -> Vec<String> {
    let secret = state.credentials.get(account).map_or("", |credential| credential.access.expose());
    let record = state.pool.account(account).map(|account| &account.record);
    record.map_or_else(Vec::new, |record| provider::default_agents(&record.provider, state.api_kind(record), secret))
}

/// Refuses to change a setting that the configuration decides, and names its line.
fn refuse_configured(state: &State, account: AccountId, keys: &[&str]) -> Result<(), ErrorInfo> {
    let record = state.pool.account(account).map(|account| &account.record);
    let Some(section) = record.and_then(|record| state.pool.configured(record)) else { return Ok(()) };
    let decides = |key: &str| match key {
        "max_leases" => section.max_leases.is_some(),
        "priority" => section.priority.is_some(),
        "reserve" => section.reserve.is_some(),
        "fallback_only" => section.fallback_only.is_some(),
        _ => section.allowed_agents.is_some(),
    };
    let Some(key) = keys.iter().find(|key| decides(key)) else { return Ok(()) };
    let line = state.config.config.location_of(&["accounts", &section.name, key]);
    let line = line.unwrap_or_else(|| state.config.path.display().to_string());
    let message = format!("`{key}` of this account is decided by the configuration: {line}");
    let command = shell_word(&format_key(&["accounts", &section.name, key]));
    let command =
        command.map_or_else(|| "lessor config edit".to_owned(), |key| format!("lessor config set {key} VALUE"));
    Err(bad(message).hint(format!("change it there: {command}")))
}

/// An account must be enabled in both: to enable what the configuration disables has no effect.
fn refuse_if_configuration_disables(state: &State, account: AccountId, enabling: bool) -> Result<(), ErrorInfo> {
    let Some(account) = state.pool.account(account) else { return Ok(()) };
    let section = state.pool.configured(&account.record);
    let is_disabled = section.is_some_and(|section| section.enabled == Some(false));
    if enabling && is_disabled && account.record.enabled { Err(view::disabled(state, account)) } else { Ok(()) }
}
