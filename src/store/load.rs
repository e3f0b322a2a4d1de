//! Loading: converts the tables' rows into the pool's types. A row that this version cannot read is skipped and stays
//! in the table.

use std::{collections::HashSet, sync::Arc, thread, time::Duration};

use rusqlite::Connection;

use super::LoadedState;
use super::database::meta::MetaValues;
use super::database::row_tags::RowTags;
use super::gateway_key::GatewayKeyRecord;
use super::key::seal::{SealKey, SealPurpose};
use super::names::{self, UnknownText};
use super::rows::{Read, Repairs, RowError, StoredRow, Tables, id, number, optional_number, skipped, text};
use super::shared_pool;
use crate::credential::{
    Credential, Fingerprint, FormerCredential, FormerRole, Link, LinkMode, Secret, oauth::StoredClient,
};
use crate::pool::{
    AccountId, AccountOwner, AccountRecord, AccountSet, Bind, ChosenBy, Fence, Holder, Lease, LimitRecord, Mono,
    Process, SessionRecord, Snapshot, Target, Usage, Wall, Window,
};

/// Above this number, credentials are opened beside reading the other tables: that takes longer than starting a thread.
const OPENED_AT_ONCE: usize = 64;

/// A credential as it is stored.
struct SealedCredentialRow {
    account: AccountId,
    blob: Vec<u8>,
    /// When a refresh was started whose outcome is not known.
    started: Option<Wall>,
    is_intact: bool,
}

/// Reads all tables into `loaded`: leases only if their holders can still be alive, secrets only with a key. Without a
/// key nothing can be verified.
pub(super) fn load(
    database: &Connection,
    unlocked: Option<(&SealKey, &RowTags)>,
    loaded: &mut LoadedState,
) -> rusqlite::Result<Repairs> {
    let (key, tags) = unlocked.unzip();
    let mut tables = Tables { database, tags, warnings: Vec::new(), repairs: Repairs::default() };
    let accounts = tables.rows("account", "ORDER BY place", |row, intact| account(row).map(|one| (one, intact)))?;
    let accounts = with_damaged_disabled(accounts, &mut tables.warnings);
    // secrets of skipped accounts are not decrypted
    let known: HashSet<AccountId> = accounts.iter().map(|account| account.id).collect();
    let leases = if loaded.same_boot { "ORDER BY fence" } else { "WHERE false" };
    loaded.snapshot = Snapshot {
        accounts,
        limits: tables.intact("limits", "", limit)?,
        sessions: tables.intact("session", "ORDER BY used_at", session)?,
        usage: tables.intact("usage", "ORDER BY account", usage)?,
        leases: tables.intact("lease", leases, lease)?,
        shared: Vec::new(),
    };
    let moved = if loaded.same_boot { "ORDER BY first" } else { "WHERE false" };
    loaded.moved_leases =
        tables.intact("moved_lease", moved, |row| Ok((Fence(number(row, "first")?), text(row, "lease")?)))?;
    let sealed = tables.rows("credential", "", |row, is_intact| {
        let account = id(row, "account")?;
        if !known.contains(&account) && !is_intact {
            return Err(RowError::Damaged);
        }
        if key.is_none() || !known.contains(&account) {
            return Ok(None);
        }
        let blob = row.get("sealed")?;
        let started = if is_intact { optional_number(row, "refresh_started_at")?.map(Wall) } else { None };
        Ok(Some(SealedCredentialRow { account, blob, started, is_intact }))
    })?;
    let sealed: Vec<SealedCredentialRow> = sealed.into_iter().flatten().collect();
    let opened = thread::scope(|scope| -> rusqlite::Result<Vec<Option<Credential>>> {
        let open = || sealed.iter().map(|one| key?.open_credential(one.account, &one.blob)).collect();
        let beside = (sealed.len() > OPENED_AT_ONCE).then(|| thread::Builder::new().spawn_scoped(scope, open).ok());
        load_others(&mut tables, key, &known, loaded)?;
        // without a thread, here
        Ok(match beside.flatten() {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => open(),
        })
    })?;
    let mut unopened = Vec::new();
    for (SealedCredentialRow { account, started, is_intact, .. }, credential) in sealed.into_iter().zip(opened) {
        let Some(credential) = credential else {
            unopened.push(account);
            continue;
        };
        if !is_intact {
            tables.warnings.push(format!(
                "the database was damaged: whether a refresh of the login of {account} was under way is not known any more"
            ));
            tables.repairs.credentials.push(account);
        }
        loaded.credentials.push((account, credential));
        loaded.refreshing.extend(started.map(|at| (account, at)));
    }
    if let Some((first, more)) = unopened.split_first() {
        tables.warnings.push(skipped("credential", &RowError::Sealed(*first), more.len()));
    }
    loaded.warnings.append(&mut tables.warnings);
    Ok(tables.repairs)
}

/// Reads the tables beside those of the pool and its credentials.
fn load_others(
    tables: &mut Tables<'_>,
    key: Option<&SealKey>,
    known: &HashSet<AccountId>,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    loaded.fingerprints = tables.intact("fingerprint", "", fingerprint)?;
    loaded.fingerprints.retain(|(_, id, _)| known.contains(id));
    let links = tables.rows("link", "", |row, intact| {
        let account = id(row, "account")?;
        Ok((account, link(row), intact))
    })?;
    for (id, link, intact) in links {
        if !intact {
            disable_unlinked(&mut loaded.snapshot.accounts, id, &mut tables.warnings);
        }
        match link {
            Ok(link) if known.contains(&id) => loaded.links.push((id, link)),
            Ok(_) => {}
            Err(error) => tables.warnings.push(skipped("link", &error, 0)),
        }
    }
    let formers = tables.rows("former_credential", "", |row, intact| {
        let id = id(row, "account")?;
        if !intact {
            return Err(RowError::Damaged);
        }
        let Some(key) = key.filter(|_| known.contains(&id)) else { return Ok(None) };
        former(row, id, key).map(|former| Some((id, former)))
    })?;
    loaded.formers = formers.into_iter().flatten().collect();
    load_clients(tables, key, &mut loaded.clients)?;
    let read_key = |row: &StoredRow<'_>, intact| if intact { gateway_key(row) } else { Err(RowError::Damaged) };
    loaded.gateway_keys = tables.rows("gateway_key", "", read_key)?;
    shared_pool::load(tables, key, known, loaded)
}

/// A damaged client is removed: with another id or provider, its secret would be sent to the wrong server.
fn load_clients(
    tables: &mut Tables<'_>,
    key: Option<&SealKey>,
    clients: &mut Vec<StoredClient>,
) -> rusqlite::Result<()> {
    let rows = tables.rows("oauth_client", "ORDER BY name", |row, intact| {
        let name = text(row, "name")?;
        if !intact {
            return Ok(Err(name));
        }
        let Some(key) = key else { return Ok(Ok(None)) };
        let sealed: Option<Vec<u8>> = row.get("sealed")?;
        let open = |sealed: Vec<u8>| {
            let plain = key.open(SealPurpose::ClientSecret(&name), &sealed);
            let plain = plain.and_then(|plain| str::from_utf8(&plain).map(str::to_owned).ok());
            plain.map(|plain| Arc::new(Secret::new(plain))).ok_or_else(|| RowError::SealedClient(name.clone()))
        };
        let secret = sealed.map(open).transpose()?;
        let (provider, client_id) = (row.get("provider")?, row.get("client_id")?);
        let added_at = Wall(number(row, "added_at")?);
        Ok(Ok(Some(StoredClient { name, provider, client_id, secret, added_at })))
    })?;
    for row in rows {
        match row {
            Ok(client) => clients.extend(client),
            Err(name) => {
                tables.repairs.rows = true;
                tables.warnings.push(format!(
                    "the database was damaged: the secret of the OAuth client {name:?} is removed; store it again: lessor \
                     secrets set NAME"
                ));
            }
        }
    }
    Ok(())
}

/// What a damaged account's `disabled_reason` says.
const DAMAGED_ACCOUNT: &str = "its stored record is damaged: compare it with what you know of it, correct it with \
                               `lessor account set`, then: lessor account enable ID";

/// The accounts, of which each id is one. Those whose record is damaged are not used until the user enables them.
fn with_damaged_disabled(rows: Vec<(AccountRecord, bool)>, warnings: &mut Vec<String>) -> Vec<AccountRecord> {
    let intact: HashSet<AccountId> = rows.iter().filter(|(_, intact)| *intact).map(|(account, _)| account.id).collect();
    let mut seen = HashSet::new();
    let mut accounts = Vec::new();
    for (mut account, is_intact) in rows {
        if !is_intact {
            let id = account.id;
            let reason = DAMAGED_ACCOUNT.replace("ID", &id.to_string());
            warnings.push(format!("the account {id} is disabled: {reason}; or restore a backup: lessor restore FILE"));
            if intact.contains(&id) || seen.contains(&id) {
                continue;
            }
            (account.enabled, account.disabled_reason) = (false, Some(reason));
        }
        seen.insert(account.id);
        accounts.push(account);
    }
    accounts
}

/// An account whose link is damaged may belong to a tool that refreshes its login: lessor must not use it.
fn disable_unlinked(accounts: &mut [AccountRecord], id: AccountId, warnings: &mut Vec<String>) {
    let reason = format!(
        "its stored link to a tool's file is damaged: remove it and import it again: lessor account remove {id}; lessor \
         import"
    );
    match accounts.iter_mut().find(|account| account.id == id) {
        Some(account) => {
            warnings.push(format!("the account {id} is disabled: {reason}"));
            (account.enabled, account.disabled_reason) = (false, Some(reason));
        }
        None => warnings.push(format!(
            "the link of an account to a tool's file is damaged, and which account it was is not known; before the agents \
             start, import all logins again: lessor import ({id} has no such account)"
        )),
    }
}

/// The lowest fence that was never granted.
pub(super) fn next_fence(database: &Connection, meta: &MetaValues, tags: &RowTags) -> rusqlite::Result<Fence> {
    let mut next: i64 = meta.required("next_fence")?.unwrap_or(1).max(1);
    let mut statement = database.prepare("SELECT * FROM lease")?;
    let fence_at = statement.column_index("fence")?;
    let mut check = tags.check("lease", &statement)?;
    let mut leases = statement.query([])?;
    while let Some(row) = leases.next()? {
        // no lease should have a fence above the reservation; if one has, its fence is not used again
        if check.is_intact(row)? {
            next = next.max(row.get::<_, i64>(fence_at)?.saturating_add(1));
        }
    }
    Ok(Fence(next.unsigned_abs()))
}

fn account(row: &StoredRow<'_>) -> Read<AccountRecord> {
    let allowed_agents: Option<String> = row.get("uses")?;
    let allowed_agents = allowed_agents
        .map(|text| serde_json::from_str(&text).map_err(|_| UnknownText::new("list of allowed agents", &text)));
    let detail: Option<String> = row.get("login_detail")?;
    Ok(AccountRecord {
        id: id(row, "id")?,
        provider: row.get("provider")?,
        label: row.get("label")?,
        email: row.get("email")?,
        tier: names::named("tier", &text(row, "tier")?)?,
        kind: names::named("credential kind", &text(row, "kind")?)?,
        login_state: names::login_state(&text(row, "login_state")?, detail.as_deref())?,
        enabled: row.get("enabled")?,
        disabled_reason: row.get("disabled_reason")?,
        max_leases: row.get("max_leases")?,
        priority: row.get("priority")?,
        allowed_agents: allowed_agents.transpose()?,
        reserve: row.get::<Option<f64>>("reserve")?.unwrap_or(0.0),
        fallback_only: row.get::<Option<bool>>("fallback_only")?.unwrap_or(false),
        project_id: row.get("project_id")?,
        owner: AccountOwner {
            person: row.get("person")?,
            organization: row.get("organization")?,
            organization_name: row.get("organization_name")?,
        },
        created_at: Wall(number(row, "created_at")?),
        last_used_at: optional_number(row, "last_used_at")?.map(Wall),
    })
}

fn lease(row: &StoredRow<'_>) -> Read<Lease> {
    let bind = match text(row, "bind")?.as_str() {
        "process" => Bind::Process(process(row, "bind_pid", "bind_start")?.ok_or(RowError::Range("bind_pid"))?),
        "ttl" => Bind::Ttl,
        other => return Err(UnknownText::new("bind", other).into()),
    };
    let names: Option<String> = row.get("names")?;
    let names = names.map(|text| serde_json::from_str(&text).map_err(|_| UnknownText::new("names of a lease", &text)));
    let only: Option<String> = row.get("only_accounts")?;
    let only = only.map(|text| {
        let read = serde_json::from_str::<Vec<AccountId>>(&text).map(Arc::from);
        read.map_err(|_| UnknownText::new("accounts of a lease", &text))
    });
    Ok(Lease {
        fence: Fence(number(row, "fence")?),
        account: id(row, "account")?,
        target: Arc::new(Target {
            provider: row.get("provider")?,
            family: row.get("family")?,
            key: row.get("key")?,
            pool: row.get("pool")?,
            model: row.get("model")?,
            names: names.transpose()?.map(Arc::new),
        }),
        session: row.get("session")?,
        label: row.get("label")?,
        agent: row.get("agent")?,
        bind,
        holder: Holder {
            process: process(row, "holder_pid", "holder_start")?,
            program: row.get("holder_program")?,
            ..Holder::default()
        },
        exclusive: row.get("exclusive")?,
        pinned: row.get("pinned")?,
        set: AccountSet { only: only.transpose()?, directory: row.get("directory")? }.of_lease(),
        by: ChosenBy::Resumed,
        ttl: optional_number(row, "ttl")?.map(Duration::from_millis),
        expires: optional_number(row, "expires")?.map(Mono),
        granted_at: Wall(number(row, "granted_at")?),
        request_id: row.get("request_id")?,
        subagent: None,
    })
}

fn session(row: &StoredRow<'_>) -> Read<SessionRecord> {
    Ok(SessionRecord {
        provider: row.get("provider")?,
        session: row.get("session")?,
        account: id(row, "account")?,
        used_at: Wall(number(row, "used_at")?),
    })
}

fn limit(row: &StoredRow<'_>) -> Read<LimitRecord> {
    Ok(LimitRecord {
        account: id(row, "account")?,
        key: row.get("key")?,
        scope: names::named("scope", &text(row, "scope")?)?,
        reason: names::named("reason", &text(row, "reason")?)?,
        until: Wall(number(row, "until")?),
        source: names::source(&text(row, "source")?)?,
        since: optional_number(row, "since")?.map(Wall),
        evidence: row.get("evidence")?,
        link: row.get("link")?,
    })
}

fn usage(row: &StoredRow<'_>) -> Read<(AccountId, Usage)> {
    let windows = text(row, "windows")?;
    let windows: Vec<Window> =
        serde_json::from_str(&windows).map_err(|_| UnknownText::new("list of windows", &windows))?;
    Ok((id(row, "account")?, windows.into()))
}

fn fingerprint(row: &StoredRow<'_>) -> Read<(Fingerprint, AccountId, Wall)> {
    let print = Fingerprint(u128::from_be_bytes(row.get("print")?));
    Ok((print, id(row, "account")?, Wall(number(row, "kept_at")?)))
}

fn link(row: &StoredRow<'_>) -> Read<Link> {
    let mode = text(row, "mode")?;
    let mode = LinkMode::from_name(&mode).ok_or_else(|| UnknownText::new("mode of a link", &mode))?;
    Ok(Link { tool: text(row, "tool")?, path: text(row, "path")?, item: text(row, "item")?, mode })
}

fn former(row: &StoredRow<'_>, id: AccountId, key: &SealKey) -> Read<FormerCredential> {
    let role = text(row, "role")?;
    let role = FormerRole::from_name(&role).ok_or_else(|| UnknownText::new("role of a credential", &role))?;
    let blob: Vec<u8> = row.get("sealed")?;
    let credential = key.open_credential(id, &blob).ok_or(RowError::Sealed(id))?;
    Ok(FormerCredential { credential, role, since: Wall(number(row, "since")?) })
}

fn process(row: &StoredRow<'_>, pid: &str, start: &str) -> Read<Option<Process>> {
    let (pid, start): (Option<u32>, Option<i64>) = (row.get(pid)?, row.get(start)?);
    Ok(pid.zip(start).map(|(pid, start)| Process { pid, start: start.cast_unsigned() }))
}

fn gateway_key(row: &StoredRow<'_>) -> Read<GatewayKeyRecord> {
    let client: i64 = row.get("client")?;
    Ok(GatewayKeyRecord {
        hash: row.get("hash")?,
        client: client.cast_unsigned(),
        label: row.get("label")?,
        agent: row.get("agent")?,
        sealed: row.get("sealed")?,
        listed_at: Wall(number(row, "listed_at")?),
        expires_at: optional_number(row, "expires_at")?.map(Wall),
        max_leases: row.get("max_leases")?,
        directory: row.get("directory")?,
        last_used_at: optional_number(row, "last_used_at")?.map(Wall),
        revoked_at: optional_number(row, "revoked_at")?.map(Wall),
    })
}
