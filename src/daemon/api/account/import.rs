//! `account.import`: imports the accounts of other tools. Each is on disk before it is used; one import at a time.

use std::{path::Path, sync::Arc};

use super::add::{
    NewIds, check_account_texts, check_agents, check_max_leases, check_refresh_token, check_reserve, check_resource,
    check_secret, new_id, new_ids,
};
use super::of_each_account;
use super::remedy::{login_remedy, other_remedy};
use crate::credential::import::plan::{AccountUpdate, ImportPlan, ImportStep, KnownAccount, LinkChange};
use crate::credential::import::{DiscoveredAccount, DiscoveredLimit, Tool};
use crate::credential::{Credential, FormerRole, Link, LinkMode, LoginHome, may_refresh};
use crate::daemon::api::pool::shared_account::PoolPart;
use crate::daemon::api::reply::UnsavedAnswer;
use crate::daemon::api::session::{bad, refused, secret};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State, Unsaved, imported_limit, login_state_of, save};
use crate::pool::{
    Account, AccountChange, AccountId, AccountOwner, AccountRecord, Command, CredentialKind, Limit, LoginProblem,
    LoginState, Now, Usage, Verification, Wall, Window,
};
use crate::protocol::{
    AccountLabel, Answer, ErrorInfo, ErrorKind, ImportAccountsParams, ImportEntry, ImportInfo, ImportWindow,
    ImportedEntry,
};
use crate::{provider, provider::learn_account_id, store::Write};

/// The longest reason, in bytes.
const LONGEST_PROSE: usize = 8192;
/// The longest path, in bytes.
const LONGEST_PATH: usize = 4096;

/// Imports the entries, or reports what an import would do.
pub async fn import(daemon: Arc<Daemon>, params: ImportAccountsParams) -> UnsavedAnswer {
    let mode = mode_of(params.mode.as_deref())?;
    let entries: Vec<DiscoveredAccount> = params.entries.into_iter().map(entry_of).collect::<Result<_, _>>()?;
    let _lock = daemon.account_writes.lock().await;
    let all =
        of_each_account(&daemon, |state, now, account| Some((Some(account.record.id), known(state, now, account))));
    let (mut ids, known): (Vec<Option<AccountId>>, Vec<_>) = all.into_iter().unzip();
    let mut plan = ImportPlan::new(known, mode, clock::now().wall);
    let mut rows = Vec::new();
    let mut done = Unsaved::nothing_to_save(());
    for mut entry in entries {
        // other calls come in between: an import of thousands of entries takes long
        tokio::task::yield_now().await;
        let fingerprint = {
            let state = &*daemon.state();
            entry.credential.client_id = state.client_of_imported(&entry);
            let home = entry
                .file
                .as_ref()
                .and_then(|file| LoginHome::containing(&daemon.run.state_directory, Path::new(file)));
            entry.needs_its_tool = needs_its_tool(state, &entry);
            if let Some(home) = home.filter(|home| home.root().is_dir()) {
                entry.is_new_login = true;
                entry.mode = entry.mode.or(Some(home.program().link_mode()));
            }
            let target = state.catalog.target(&entry.provider, None, None, state.pool.settings().quota.primary);
            target.ok().map(|_| state.credentials.fingerprints.of(&entry.credential))
        };
        // the plan compares the entry with all accounts, so the state is not locked meanwhile
        let step = match fingerprint {
            Some(_) if mode.or(entry.mode) == Some(LinkMode::StartTool) && !has_home(&daemon, &entry) => {
                ImportStep::refused(NO_HOME.to_owned())
            }
            Some(fingerprint) => plan.next(&entry, fingerprint),
            None => ImportStep::refused(no_provider(&entry.provider)),
        };
        let known_already = step.account.and_then(|place| ids.get(place).copied().flatten());
        let mut message = step.message.clone();
        if let Some(command) = lacking(&daemon.state(), &entry, &step, known_already) {
            message += &format!("; it cannot be renewed yet; first: {command}");
        }
        let mut outcome = step.outcome.name().to_owned();
        let account = if params.dry_run || step.account.is_none() {
            known_already
        } else {
            if let Some(holder) = step.taken_from.and_then(|place| ids.get(place).copied().flatten()) {
                daemon.state().exchange_former(clock::now(), holder, FormerRole::Withdrawn);
            }
            match carry_out(&daemon, entry, step.clone(), known_already, params.own).await {
                Ok(imported) => {
                    let id = *imported.peek();
                    done = done.then(imported.map(drop));
                    Some(id)
                }
                // an account that the shared pool did not take; the other entries go on
                Err(error) if is_of_pool(&error) => {
                    outcome = ImportStep::refused(String::new()).outcome.name().to_owned();
                    let hint = error.data.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                    message = error.message + &hint;
                    known_already
                }
                Err(error) => return Err(error),
            }
        };
        if let Some(place) = step.account
            && place >= ids.len()
        {
            ids.resize(place + 1, None);
            ids[place] = account;
        }
        let label = account.map(|id| {
            let state = &*daemon.state();
            AccountLabel::of(&state.pool, id)
        });
        rows.push(ImportedEntry { outcome, account: label, message });
    }
    Ok(done.map(|()| Answer::Imported(ImportInfo { entries: rows })))
}

/// Whether it is the shared pool that refused.
fn is_of_pool(error: &ErrorInfo) -> bool {
    matches!(error.data.kind, ErrorKind::NotAllowed | ErrorKind::PoolUnavailable | ErrorKind::NotInPool)
}

/// Whether only the tool of a login can refresh it, and writes the access tokens to a file that lessor can follow. A login
/// that rotates stays with its tool anyhow.
fn needs_its_tool(state: &State, entry: &DiscoveredAccount) -> bool {
    let credential = &entry.credential;
    credential.kind == CredentialKind::Oauth
        && !entry.rotates
        && !provider::logins_rotate(&entry.provider)
        && entry.file.is_some()
        && entry.tool != Tool::Lessor
        && !credential.access.expose().is_empty()
        && (credential.refresh.is_none() || !state.has_client_of(&entry.provider, credential))
}

/// The command that gives lessor what it lacks to refresh an imported login.
fn lacking(state: &State, entry: &DiscoveredAccount, step: &ImportStep, known: Option<AccountId>) -> Option<String> {
    let link = match &step.link_change {
        LinkChange::Set(link) => Some(link),
        LinkChange::Keep => known.and_then(|id| state.links.get(id)),
    };
    let news = step.takes_token || step.link_change != LinkChange::Keep;
    let by_tool = link.is_some_and(|link| link.mode == LinkMode::StartTool);
    let wanted = news && step.account.is_some() && may_refresh(&entry.credential, link) && !by_tool;
    let missing = state.missing_client(&entry.provider, &entry.credential).filter(|_| wanted)?;
    Some(missing.command_for(entry.tool.name()))
}

fn mode_of(name: Option<&str>) -> Result<Option<LinkMode>, ErrorInfo> {
    let unknown = |name| bad(format!("`mode` may be link, take-over, share or start-tool; not {name:?}"));
    name.map(|name| LinkMode::from_name(name).ok_or_else(|| unknown(name))).transpose()
}

/// Whether the login is in a home of lessor's: no other program is ever started.
fn has_home(daemon: &Daemon, entry: &DiscoveredAccount) -> bool {
    let place = entry.file.as_deref();
    place.is_some_and(|place| LoginHome::containing(&daemon.run.state_directory, place.as_ref()).is_some())
}

const NO_HOME: &str =
    "only the tool of a login in a home of lessor's is started to refresh it; make one: lessor login gemini|agy";

fn no_provider(name: &str) -> String {
    format!("there is no provider {name:?}; to use it, add a section [providers.{name:?}] to the configuration")
}

/// An account as the plan compares entries with it.
fn known(state: &State, now: Now, account: &Account) -> KnownAccount {
    let record = &account.record;
    let credential = state.credentials.get(record.id);
    let current = credential.map(|credential| state.credentials.fingerprints.of(credential));
    let limit = |limit: &Limit| DiscoveredLimit {
        scope: limit.scope,
        key: limit.key.clone(),
        reason: limit.reason,
        until: limit.until.wall(now),
    };
    let link = state.links.get(record.id);
    let over = |credential: &Credential| credential.expires_at.is_some_and(|end| end <= now.wall);
    let stuck = credential.is_none_or(|credential| over(credential) && !may_refresh(credential, link));
    let refused =
        matches!(&record.login_state, LoginState::NeedsLogin(problem) if *problem != LoginProblem::AccessTokenEnded);
    KnownAccount {
        name: state.account_name(record.id),
        provider: record.provider.clone(),
        kind: record.kind,
        registration: credential.and_then(Credential::registration).map(str::to_owned),
        owner: record.owner.clone(),
        email: record.email.clone(),
        label: record.label.clone(),
        tier: record.tier,
        project_id: record.project_id.clone(),
        current,
        prints: state.credentials.fingerprints.of_account(record.id),
        kept_at: current.and_then(|print| state.credentials.fingerprints.known_since(record.id, print)),
        expires_at: credential.and_then(|credential| credential.expires_at),
        ended: stuck || refused,
        rejected: matches!(&record.login_state, LoginState::NeedsLogin(LoginProblem::RejectedByProvider { .. })),
        login_remedy: login_remedy(state, account),
        other_remedy: other_remedy(state, account, now),
        is_on_trial: state.links.former(record.id).is_some_and(|former| former.is_on_trial(now.wall)),
        link: link.cloned(),
        limits: account.limits().iter().map(limit).collect(),
    }
}

/// Carries out one step of the plan; the account is on disk when this returns.
async fn carry_out(
    daemon: &Daemon,
    entry: DiscoveredAccount,
    step: ImportStep,
    known: Option<AccountId>,
    is_own: bool,
) -> Result<Unsaved<AccountId>, ErrorInfo> {
    let new_ids = new_ids()?;
    let (record, credential) = {
        let state = &*daemon.state();
        match known.and_then(|id| state.pool.account(id)) {
            Some(account) => {
                let known = state.credentials.get(account.record.id);
                let credential = step.takes_token.then(|| entry.credential.duplicate().with_refresh_of(known));
                (changed(&account.record, &entry, &step), credential)
            }
            None => new(state, &entry, &step, &new_ids)?,
        }
    };
    let link = match &step.link_change {
        LinkChange::Keep => None,
        LinkChange::Set(link) => Some(link.clone()),
    };
    // a login that another tool keeps is this host's: only this host can read it
    let is_own = known.is_none() && (is_own || link.is_some());
    let part = match credential.as_ref().filter(|_| !is_own) {
        Some(credential) => PoolPart::of(daemon, (&record, known.is_none()), credential, "lessor import").await?,
        None => PoolPart::Own,
    };
    write(daemon, (&record, part), credential.as_ref(), link.as_ref()).await?;
    put_in_use(daemon, (record, credential, link), entry, (step, known.is_some(), part))
}

/// Puts a saved account in use.
fn put_in_use(
    daemon: &Daemon,
    (record, credential, link): (AccountRecord, Option<Credential>, Option<Link>),
    entry: DiscoveredAccount,
    (step, is_known, part): (ImportStep, bool, PoolPart),
) -> Result<Unsaved<AccountId>, ErrorInfo> {
    let state = &mut *daemon.state();
    part.note(state, &record);
    let (now, id) = (clock::now(), record.id);
    if let Some(credential) = credential {
        if step.keeps_former {
            state.keep_former(now, id);
        } else if entry.is_new_login {
            state.forget_former(id);
        }
        state.keep_credential(id, credential);
    }
    if let Some(link) = link {
        state.links.insert(id, link);
    }
    let command = if state.pool.account(id).is_some() {
        Command::ChangeAccount(id, Box::new(change(&record, &step.update)))
    } else if let PoolPart::Added(pooled) = part {
        state.add_shared(now, record, pooled);
        Command::ChangeAccount(id, Box::default())
    } else {
        Command::AddAccount(Box::new(record))
    };
    let limits = if is_known { step.update.limits } else { entry.limits };
    let limits = limits.into_iter().map(|limit| Command::SetLimit(id, imported_limit(limit)));
    // the usage of a known account is newer than the entry
    let windows = if is_known { Vec::new() } else { entry.usage };
    let usage = (!windows.is_empty()).then_some(Command::SetUsage(id, Usage { windows, ..Usage::default() }));
    let mut done = Unsaved::nothing_to_save(id);
    for command in std::iter::once(command).chain(limits).chain(usage) {
        let applied = state.apply(now, command).into_result();
        let applied = applied.map_err(|refusal| refused(state, &refusal.no_answer(), now))?;
        done = done.then(applied.map(|_| id));
    }
    Ok(done)
}

/// Writes an account and its link, and waits until both are on disk.
async fn write(
    daemon: &Daemon,
    (record, part): (&AccountRecord, PoolPart),
    credential: Option<&Credential>,
    link: Option<&Link>,
) -> Result<(), ErrorInfo> {
    let account =
        Write::SaveAccount { record: Box::new(record.clone()), credential: credential.map(Credential::duplicate) };
    let account = part.with(record.id, account);
    let not_saved = |error| ErrorInfo::new(ErrorKind::Internal, format!("an account could not be saved: {error}"));
    // the store commits in order, and both together where it can
    let account = save(&daemon.store, account);
    let link = link.map(|link| save(&daemon.store, Write::SaveLink(record.id, Some(link.clone()))));
    account.await.map_err(not_saved)?;
    match link {
        Some(link) => link.await.map_err(not_saved),
        None => Ok(()),
    }
}

fn new(
    state: &State,
    entry: &DiscoveredAccount,
    step: &ImportStep,
    new_ids: &NewIds,
) -> Result<(AccountRecord, Option<Credential>), ErrorInfo> {
    let credential = entry.credential.duplicate();
    let allowed_agents = entry.allowed_agents.clone();
    let allowed_agents = allowed_agents.unwrap_or_else(|| {
        provider::default_agents(&entry.provider, credential.api_kind(), credential.access.expose())
    });
    let record = AccountRecord {
        id: new_id(state, new_ids)?,
        provider: entry.provider.clone(),
        label: step.update.label.clone(),
        email: entry.email.clone(),
        tier: entry.tier,
        kind: credential.kind,
        login_state: initial_login_state(entry),
        enabled: entry.disabled.is_none(),
        disabled_reason: entry.disabled.clone(),
        max_leases: entry.max_leases,
        priority: entry.priority.unwrap_or_default(),
        allowed_agents: Some(allowed_agents),
        reserve: entry.reserve,
        fallback_only: entry.fallback_only,
        project_id: entry.project_id.clone(),
        owner: entry.owner.clone(),
        created_at: clock::now().wall,
        last_used_at: entry.last_used_at,
    };
    Ok((record, Some(credential)))
}

fn initial_login_state(entry: &DiscoveredAccount) -> LoginState {
    match (&entry.verification, &entry.login_ended) {
        (Some(what), _) => LoginState::NeedsVerification(Verification::described(what.clone())),
        (None, Some(why)) => LoginState::NeedsLogin(LoginProblem::Described(why.clone())),
        (None, None) => login_state_of(&entry.credential),
    }
}

/// The changed record of a known account. Settings that the user made in lessor stay.
fn changed(known: &AccountRecord, entry: &DiscoveredAccount, step: &ImportStep) -> AccountRecord {
    let mut record = known.clone();
    let AccountUpdate { owner, email, label, tier, project_id, limits: _ } = step.update.clone();
    record.owner = owner.unwrap_or(record.owner);
    record.email = record.email.or(email);
    record.label = record.label.or(label);
    record.tier = tier.unwrap_or(record.tier);
    record.project_id = record.project_id.or(project_id);
    // a new token does not confirm the account to its provider
    let is_new = step.takes_token || step.tries_again;
    if is_new && !matches!(record.login_state, LoginState::NeedsVerification(_)) {
        record.login_state = initial_login_state(entry);
    }
    record
}

fn change(record: &AccountRecord, learnt: &AccountUpdate) -> AccountChange {
    AccountChange {
        label: learnt.label.clone(),
        email: learnt.email.clone(),
        tier: learnt.tier,
        project_id: learnt.project_id.clone(),
        owner: learnt.owner.clone(),
        login_state: Some(record.login_state.clone()),
        ..AccountChange::default()
    }
}

/// An entry of the call, checked.
fn entry_of(given: ImportEntry) -> Result<DiscoveredAccount, ErrorInfo> {
    check(&given)?;
    let tool = Tool::named(&given.tool).ok_or_else(|| {
        let names = Tool::ALL.map(Tool::name).join(", ");
        bad(format!("there is no tool {:?}; known are {names}", given.tool))
    })?;
    let mode = mode_of(given.mode.as_deref())?;
    let is_missing = given.secret.0.is_empty();
    let credential = Credential {
        refresh: given.refresh_token.map(secret),
        // a missing token counts as expired
        expires_at: if is_missing { Some(Wall(0)) } else { given.expires_at.map(Wall) },
        client_id: given.client_id,
        resource: given.resource,
        refresh_from: given.refresh_from.map(Wall),
        ..Credential::new(given.kind, secret(given.secret))
    };
    let limit = |limit: crate::protocol::ImportLimit| DiscoveredLimit {
        scope: limit.scope,
        key: limit.key,
        reason: limit.reason,
        until: Wall(limit.until),
    };
    let mut owner = AccountOwner {
        person: given.person_id,
        organization: given.organization_id,
        organization_name: given.organization,
    };
    learn_account_id(&given.provider, &mut owner, given.account_id);
    Ok(DiscoveredAccount {
        rotates: given.rotates,
        email: given.email,
        label: given.label,
        owner,
        project_id: given.project_id,
        tier: given.tier.unwrap_or_default(),
        limits: given.limits.into_iter().map(limit).collect(),
        usage: given.usage.into_iter().map(window).collect(),
        last_used_at: given.last_used_at.map(Wall),
        disabled: given.disabled,
        verification: given.verification,
        login_ended: given.login_ended,
        allowed_agents: given.allowed_agents,
        max_leases: given.max_leases,
        priority: given.priority,
        reserve: given.reserve,
        fallback_only: given.fallback_only,
        file: given.file,
        mode,
        as_of: given.as_of.map(Wall),
        ..DiscoveredAccount::new(tool, given.item, &given.provider, credential)
    })
}

fn window(given: ImportWindow) -> Window {
    Window {
        name: given.window,
        utilization: given.utilization.clamp(0.0, 1.0),
        resets_at: given.resets_at.map(Wall),
        as_of: Wall(given.as_of),
        key: given.key,
    }
}

fn check(given: &ImportEntry) -> Result<(), ErrorInfo> {
    check_account_texts(&[
        ("label", given.label.as_deref()),
        ("email", given.email.as_deref()),
        ("project_id", given.project_id.as_deref()),
        ("account_id", given.account_id.as_deref()),
        ("person_id", given.person_id.as_deref()),
        ("organization_id", given.organization_id.as_deref()),
        ("organization", given.organization.as_deref()),
        ("client_id", given.client_id.as_deref()),
        ("resource", given.resource.as_deref()),
        ("item", Some(&given.item)),
    ])?;
    let limits = given.limits.iter().map(|limit| ("limits", Some(limit.key.as_str())));
    let windows = given.usage.iter().flat_map(|window| [&window.window, &window.key]);
    let keys: Vec<_> = limits.chain(windows.map(|text| ("usage", Some(text.as_str())))).collect();
    check_account_texts(&keys)?;
    check_agents(given.allowed_agents.as_deref().unwrap_or_default())?;
    let prose = [&given.disabled, &given.verification, &given.login_ended];
    let bad_prose = |text: &String| text.len() > LONGEST_PROSE || text.chars().any(char::is_control);
    if prose.into_iter().flatten().any(bad_prose) {
        return Err(bad(format!("a reason is over {LONGEST_PROSE} bytes, or holds control characters")));
    }
    if given.file.as_ref().is_some_and(|path| path.is_empty() || path.len() > LONGEST_PATH || path.contains('\0')) {
        return Err(bad("`file` is not a path"));
    }
    check_resource(given.kind, given.resource.as_deref(), given.client_id.as_deref())?;
    check_max_leases(given.max_leases)?;
    check_reserve(Some(given.reserve))?;
    check_refresh_token(given.kind, given.refresh_token.as_ref())?;
    // a login without an access token is refreshed first
    if given.secret.0.is_empty() && given.refresh_token.is_some() { Ok(()) } else { check_secret(&given.secret.0) }
}
