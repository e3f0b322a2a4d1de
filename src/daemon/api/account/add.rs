//! `account.add`: adds an account. It is on disk before it is used; accounts are added one at a time.

use std::sync::Arc;

use crate::credential::{Credential, LabelSource, claims::LoginClaims, oauth::LoginIdentity};
use crate::daemon::api::pool::shared_account::PoolPart;
use crate::daemon::api::reply::UnsavedAnswer;
use crate::daemon::api::session::{bad, refused, secret, target};
use crate::daemon::state::{Daemon, State, Unsaved, save};
use crate::daemon::{os::clock, view};
use crate::pool::{
    AccountChange, AccountId, AccountOwner, AccountRecord, Command, CredentialKind, LoginCandidate, LoginProblem,
    LoginState, Tier, Wall,
};
use crate::protocol::{AddAccountParams, ErrorInfo, ErrorKind, SecretText};
use crate::{provider, provider::learn_account_id, store::Write};

/// The longest text of an account, in bytes.
const LONGEST_TEXT: usize = 256;
/// The most accounts.
const MOST_ACCOUNTS: usize = 4096;
/// The longest secret, in bytes.
const LONGEST_SECRET: usize = 64 * 1024;

/// Adds an account, or replaces the credential of a known one; answers when it is on disk.
pub async fn add(daemon: Arc<Daemon>, params: AddAccountParams) -> UnsavedAnswer {
    let _lock = daemon.account_writes.lock().await;
    check(&params)?;
    let new_ids = new_ids()?;
    let is_own = params.own;
    let (record, credential, is_new) = {
        let state = &*daemon.state();
        target(state, &params.provider, None, None)?;
        let (record, credential) = record_of(state, params, &new_ids)?;
        let is_new = state.pool.account(record.id).is_none();
        (record, credential, is_new)
    };
    let command = format!("lessor account add {}", record.provider);
    let part = match is_own && is_new {
        true => PoolPart::Own,
        false => PoolPart::of(&daemon, (&record, is_new), &credential, &command).await?,
    };
    let write = Write::SaveAccount { record: Box::new(record.clone()), credential: Some(credential.duplicate()) };
    let not_saved = |error| ErrorInfo::new(ErrorKind::Internal, format!("the account could not be saved: {error}"));
    save(&daemon.store, part.with(record.id, write)).await.map_err(not_saved)?;
    put_in_use(&daemon, record, credential, part)
}

/// Puts a saved account in use.
fn put_in_use(daemon: &Daemon, record: AccountRecord, credential: Credential, part: PoolPart) -> UnsavedAnswer {
    let state = &mut *daemon.state();
    part.note(state, &record);
    let (now, id) = (clock::now(), record.id);
    let prints = &state.credentials.fingerprints;
    let is_new = prints.known_since(id, prints.of(&credential)).is_none();
    if is_new {
        state.end_link(id);
    }
    state.keep_credential(id, credential);
    if let PoolPart::Added(pooled) = part {
        state.add_shared(now, record, pooled);
        return view::account_answer(state, now, id).map(Unsaved::nothing_to_save);
    }
    let command = if state.pool.account(id).is_some() {
        // the new credential of a known account is taken as valid
        let change = AccountChange {
            login_state: Some(record.login_state),
            owner: Some(record.owner),
            email: record.email,
            label: record.label,
            tier: Some(record.tier),
            project_id: record.project_id,
            ..AccountChange::default()
        };
        Command::ChangeAccount(id, Box::new(change))
    } else {
        Command::AddAccount(Box::new(record))
    };
    let changed = state.apply(now, command).into_result();
    let changed = changed.map_err(|refusal| refused(state, &refusal.no_answer(), now))?;
    let answer = view::account_answer(state, now, id)?;
    Ok(changed.map(|_| answer))
}

/// The record to save: that of the known account with this owner or credential, or a new one.
fn record_of(
    state: &State,
    mut params: AddAccountParams,
    new_ids: &NewIds,
) -> Result<(AccountRecord, Credential), ErrorInfo> {
    let given = state.oauth_given(&params.provider);
    let mut credential = Credential {
        refresh: params.refresh_token.take().map(secret),
        expires_at: params.expires_at.map(Wall),
        client_id: params
            .client_id
            .take()
            .map(|client| given.client_named(&client).map_or(client.clone(), str::to_owned)),
        resource: params.resource.take(),
        refresh_from: params.refresh_from.map(Wall),
        ..Credential::new(params.kind, secret(std::mem::replace(&mut params.secret, SecretText("".into()))))
    };
    let owner = owner_of(&mut params, &mut credential);
    if let Some(known) = find(state, &params, &credential, &owner)? {
        refuse_other_settings(state, known, &params)?;
        let mut record = known.clone();
        let is_ended = matches!(known.login_state, LoginState::NeedsLogin(LoginProblem::RefreshRejected { .. }));
        let before = state.credentials.get(known.id).filter(|_| !is_ended);
        let credential = credential.with_refresh_of(before);
        record.login_state = state.initial_login_state(&record.provider, &credential);
        record.kind = credential.kind;
        record.owner.learn(&owner);
        record.email = record.email.or(params.email);
        record.project_id = record.project_id.or(params.project_id);
        if record.tier == Tier::Unknown {
            record.tier = params.tier.unwrap_or_default();
        }
        return Ok((record, credential));
    }
    if let Some(label) = &params.label
        && let Some(other) = state.pool.accounts().iter().find(|account| account.record.label.as_ref() == Some(label))
    {
        return Err(bad(format!("the label {label:?} belongs to account {}", other.record.id))
            .hint("labels are unique: choose another, or remove that account first"));
    }
    let label = params.label.take().unwrap_or_else(|| {
        let organization = owner.organization_name.as_deref();
        let (provider, email) = (params.provider.as_str(), params.email.as_deref());
        let source = LabelSource { provider, tool: None, kind: credential.kind, email, organization };
        let is_taken =
            |label: &str| state.pool.accounts().iter().any(|account| account.record.label.as_deref() == Some(label));
        source.label(is_taken)
    });
    let allowed_agents = params.allowed_agents.unwrap_or_else(|| {
        provider::default_agents(&params.provider, credential.api_kind(), credential.access.expose())
    });
    let login_state = state.initial_login_state(&params.provider, &credential);
    let claims = LoginClaims::of(credential.access.expose(), None);
    let tier = params.tier.or_else(|| LoginIdentity::of_claims(&params.provider, &claims).tier).unwrap_or_default();
    let record = AccountRecord {
        id: new_id(state, new_ids)?,
        provider: params.provider,
        label: Some(label),
        email: params.email,
        tier,
        kind: credential.kind,
        login_state,
        enabled: true,
        disabled_reason: None,
        max_leases: params.max_leases,
        priority: params.priority.unwrap_or_default(),
        allowed_agents: Some(allowed_agents),
        reserve: 0.0,
        fallback_only: false,
        project_id: params.project_id,
        owner,
        created_at: clock::now().wall,
        last_used_at: None,
    };
    Ok((record, credential))
}

/// Who the account belongs to: what the call says, then what its token says.
fn owner_of(params: &mut AddAccountParams, credential: &mut Credential) -> AccountOwner {
    let mut owner = AccountOwner::default();
    learn_account_id(&params.provider, &mut owner, params.account_id.take());
    owner.learn(&AccountOwner {
        person: params.person_id.take(),
        organization: params.organization_id.take(),
        organization_name: params.organization.take(),
    });
    if credential.kind == CredentialKind::Oauth {
        let claims = LoginClaims::of(credential.access.expose(), None);
        owner.learn(&AccountOwner {
            person: claims.person,
            organization: claims.organisation,
            organization_name: None,
        });
        params.email = params.email.take().or(claims.email);
        credential.client_id = credential.client_id.take().or(claims.client_id);
    }
    owner
}

/// The known account that a credential belongs to: by its owner, then by the secret.
fn find<'s>(
    state: &'s State,
    params: &AddAccountParams,
    credential: &Credential,
    owner: &AccountOwner,
) -> Result<Option<&'s AccountRecord>, ErrorInfo> {
    let identity = owner.identity(&params.provider, params.email.as_deref());
    // a person may have several keys with one email address, but only one login in each organisation
    let is_login = credential.kind == CredentialKind::Oauth;
    let records: Vec<&AccountRecord> = state.pool.accounts().iter().map(|account| &account.record).collect();
    // a login for the public API belongs to its registration: another one may have the same address
    let is_comparable = |record: &AccountRecord| {
        let known = state.credentials.get(record.id).and_then(Credential::registration);
        known == credential.registration()
    };
    let has_token = |record: &AccountRecord| {
        record.provider == params.provider
            && is_comparable(record)
            && state.credentials.get(record.id).is_some_and(|known| {
                known.registration().is_some()
                    || known.access == credential.access
                    || known.refresh.as_ref().is_some_and(|known| Some(known) == credential.refresh.as_ref())
            })
    };
    let candidates = records.iter().map(|record| LoginCandidate {
        identity: record.login_identity().filter(|_| is_login && is_comparable(record)),
        has_token: has_token(record),
    });
    let found = identity.owner_among(candidates).map_err(|several| {
        let names: Vec<String> = several.iter().map(|place| state.account_name(records[*place].id)).collect();
        bad(format!("this login may be of several accounts: {}", names.join(", ")))
            .hint("say which organisation it is of (organization_id), or remove the account that is not needed")
    })?;
    Ok(found.map(|place| records[place]))
}

/// Only the credential of a known account is replaced; its other settings are not changed here.
fn refuse_other_settings(state: &State, known: &AccountRecord, params: &AddAccountParams) -> Result<(), ErrorInfo> {
    let given = [
        ("label", params.label.is_some() && params.label != known.label),
        ("tier", known.tier != Tier::Unknown && params.tier.is_some_and(|tier| tier != known.tier)),
        ("max_leases", params.max_leases.is_some() && params.max_leases != known.max_leases),
        ("priority", params.priority.is_some_and(|priority| priority != known.priority)),
        ("use", params.allowed_agents.is_some() && params.allowed_agents != known.allowed_agents),
        (
            "project_id",
            known.project_id.is_some() && params.project_id.is_some() && params.project_id != known.project_id,
        ),
    ];
    let Some((field, _)) = given.iter().find(|(_, differs)| *differs) else { return Ok(()) };
    let message = format!("this is account {} already, with another `{field}`", state.account_name(known.id));
    Err(bad(message)
        .hint(format!("change it with `lessor account set {} {field}=…`", state.account_reference(known.id))))
}

/// Ids to choose from; they are drawn before the state is locked.
pub type NewIds = [AccountId; 4];

/// Draws ids for a new account.
pub fn new_ids() -> Result<NewIds, ErrorInfo> {
    let mut ids = [AccountId::from_bits(0); 4];
    for id in &mut ids {
        let bits = getrandom::u64();
        let bits = bits
            .map_err(|error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}")));
        *id = AccountId::from_bits(bits?);
    }
    Ok(ids)
}

/// The first of the ids that no account has, unless there are too many accounts.
pub fn new_id(state: &State, ids: &NewIds) -> Result<AccountId, ErrorInfo> {
    if state.pool.accounts().len() >= MOST_ACCOUNTS {
        return Err(bad(format!("there are {MOST_ACCOUNTS} accounts, and no more are accepted"))
            .hint("remove those that are not needed: lessor account remove A"));
    }
    let free = ids.iter().copied().find(|id| state.pool.account(*id).is_none());
    free.ok_or_else(|| ErrorInfo::new(ErrorKind::Internal, "no unused account id was found; try again"))
}

fn check(params: &AddAccountParams) -> Result<(), ErrorInfo> {
    check_account_texts(&[
        ("label", params.label.as_deref()),
        ("email", params.email.as_deref()),
        ("project_id", params.project_id.as_deref()),
        ("account_id", params.account_id.as_deref()),
        ("person_id", params.person_id.as_deref()),
        ("organization_id", params.organization_id.as_deref()),
        ("organization", params.organization.as_deref()),
        ("client_id", params.client_id.as_deref()),
        ("resource", params.resource.as_deref()),
    ])?;
    check_resource(params.kind, params.resource.as_deref(), params.client_id.as_deref())?;
    check_agents(params.allowed_agents.as_deref().unwrap_or_default())?;
    check_max_leases(params.max_leases)?;
    check_secret(&params.secret.0)?;
    check_refresh_token(params.kind, params.refresh_token.as_ref())
}

/// A login for the public API has a client of its own.
pub fn check_resource(kind: CredentialKind, resource: Option<&str>, client_id: Option<&str>) -> Result<(), ErrorInfo> {
    match resource {
        None => Ok(()),
        Some(_) if kind != CredentialKind::Oauth => Err(bad("only a login has a `resource`")),
        Some(_) if client_id.is_none_or(str::is_empty) => {
            Err(bad("a login with a `resource` needs its `client_id`: each has a client of its own"))
        }
        Some(_) => Ok(()),
    }
}

pub fn check_max_leases(max_leases: Option<u32>) -> Result<(), ErrorInfo> {
    if max_leases != Some(0) {
        return Ok(());
    }
    let message = "`max_leases` is 0; at least 1 is needed, or leave it out";
    Err(bad(message).hint("an account that gets no lease is disabled: lessor account disable A"))
}

pub fn check_reserve(reserve: Option<f64>) -> Result<(), ErrorInfo> {
    match reserve {
        Some(part) if !(0.0..=1.0).contains(&part) => Err(bad(format!("`reserve` is {part}; it may be from 0 to 1"))),
        _ => Ok(()),
    }
}

pub fn check_refresh_token(kind: CredentialKind, token: Option<&SecretText<'_>>) -> Result<(), ErrorInfo> {
    match token {
        Some(_) if kind != CredentialKind::Oauth => Err(bad("only a login has a refresh token")),
        Some(SecretText(token)) => check_secret(token),
        None => Ok(()),
    }
}

pub fn check_secret(text: &str) -> Result<(), ErrorInfo> {
    if text.is_empty() || text.len() > LONGEST_SECRET || text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(bad("the secret is empty, too long, or holds blanks or line breaks"));
    }
    Ok(())
}

pub fn check_account_texts(texts: &[(&str, Option<&str>)]) -> Result<(), ErrorInfo> {
    let bad_text = |text: &str| text.len() > LONGEST_TEXT || text.chars().any(char::is_control);
    match texts.iter().find(|(_, text)| text.is_some_and(bad_text)) {
        Some((name, _)) => Err(bad(format!("`{name}` is over {LONGEST_TEXT} bytes or holds control characters"))),
        None => Ok(()),
    }
}

pub fn check_agents(allowed_agents: &[String]) -> Result<(), ErrorInfo> {
    let is_name = |name: &String| {
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match allowed_agents.iter().find(|name| !is_name(name)) {
        Some(name) => Err(bad(format!("`use` names agents, such as claude, or any; {name:?} is not a valid name"))),
        None => Ok(()),
    }
}
