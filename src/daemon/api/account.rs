//! The calls about accounts, but for adding one.

use crate::pool::{AccountChange, AccountId, Command};
use crate::protocol::{Answer, ErrorInfo, ListAccountsParams, RequestId, SetAccountParams};
use crate::provider;

use crate::daemon::api::add_account::{check_account_texts, check_uses};
use crate::daemon::api::dispatch::{CallResult, ClientSession, bad, refused, too_many};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::daemon::view;

/// What to do to an account.
pub(crate) enum Change {
    Remove,
    Enabled(bool, Option<String>),
    Set(Box<SetAccountParams>),
    ClearLimits,
}

impl ClientSession {
    pub(crate) fn list_accounts(
        &self,
        daemon: &Daemon,
        id: &RequestId,
        params: &ListAccountsParams,
        out: &mut Vec<u8>,
    ) {
        let state = &*daemon.state();
        let now = clock::now();
        let wanted = state
            .pool
            .accounts()
            .iter()
            .filter(|account| params.provider.as_ref().is_none_or(|provider| account.record.provider == *provider));
        let accounts = wanted.map(|account| view::account_info(state, now, account)).collect();
        self.codec.answer(id, &Answer::Accounts(accounts), out);
    }

    pub(crate) fn change(
        &self,
        daemon: &Daemon,
        id: &RequestId,
        name: &str,
        change: Change,
        out: &mut Vec<u8>,
    ) -> CallResult {
        if !self.outbox.has_room() {
            return Err(too_many());
        }
        let state = &mut *daemon.state();
        let account = find(state, name)?;
        let now = clock::now();
        let before = state.pool.account(account).map(|account| view::account_info(state, now, account));
        let command = match change {
            Change::Remove => Command::RemoveAccount(account),
            Change::ClearLimits => Command::ClearLimits(account),
            Change::Enabled(enabled, reason) => {
                refuse_configured(state, account, &["enabled"], enabled)?;
                let enabled = Some((enabled, reason.filter(|reason| !reason.is_empty())));
                Command::ChangeAccount(account, Box::new(AccountChange { enabled, ..AccountChange::default() }))
            }
            Change::Set(params) => Command::ChangeAccount(account, Box::new(set(state, account, *params)?)),
        };
        let (reply, unsaved) = daemon.apply(state, now, command);
        refused(reply, now)?;
        let after = state.pool.account(account).map(|account| view::account_info(state, now, account));
        // a removed account is answered as it was
        let Some(info) = after.or(before) else { return Ok(()) };
        let responder = self.responder(id, false);
        let mut bytes = Vec::new();
        self.codec.answer(id, &Answer::Account(Box::new(info)), &mut bytes);
        if unsaved.is_empty() {
            out.append(&mut bytes);
        } else {
            daemon.deliver(&responder, unsaved, bytes);
        }
        Ok(())
    }
}

/// The account of this name.
pub(crate) fn find(state: &State, name: &str) -> Result<AccountId, ErrorInfo> {
    let found = state.pool.find_account(name).map(|account| account.record.id);
    found.map_err(|refusal| ErrorInfo::of_refusal(&refusal, clock::now().wall))
}

fn set(state: &State, account: AccountId, params: SetAccountParams) -> Result<AccountChange, ErrorInfo> {
    check_account_texts(&[
        ("label", params.label.as_deref()),
        ("email", params.email.as_deref()),
        ("project_id", params.project_id.as_deref()),
    ])?;
    if let Some(allowed_agents) = &params.allowed_agents {
        check_uses(allowed_agents)?;
    }
    let given = [
        ("max_leases", params.max_leases.is_some()),
        ("priority", params.priority.is_some()),
        ("use", params.allowed_agents.is_some()),
    ];
    let keys: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    refuse_configured(state, account, &keys, false)?;
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
        enabled: None,
        login_state: None,
        vendor_id: None,
    })
}

fn default_uses(state: &State, account: AccountId) -> Vec<String> {
    let secret = state.credentials.get(&account).map_or("", |credential| credential.access.expose());
    let record = state.pool.account(account).map(|account| &account.record);
    record.map_or_else(Vec::new, |record| provider::default_use(&record.provider, record.kind, secret))
}

/// Refuses to change in the database what the configuration decides, and names the line.
fn refuse_configured(state: &State, account: AccountId, keys: &[&str], enabling: bool) -> Result<(), ErrorInfo> {
    let record = state.pool.account(account).map(|account| &account.record);
    let Some(section) = record.and_then(|record| state.pool.configured(record)) else { return Ok(()) };
    let decides = |key: &str| match key {
        // both must allow it: only turning on what the configuration turns off has no effect
        "enabled" => enabling && section.enabled == Some(false),
        "max_leases" => section.max_leases.is_some(),
        "priority" => section.priority.is_some(),
        _ => section.allowed_agents.is_some(),
    };
    let Some(key) = keys.iter().find(|key| decides(key)) else { return Ok(()) };
    let place = state.configured.config.location_of(&["accounts", &section.name, key]);
    let place = place.unwrap_or_else(|| state.configured.path.display().to_string());
    let message = format!("`{key}` of this account is decided by the configuration: {place}");
    Err(bad(message).hint("change it there, or take the line out"))
}
