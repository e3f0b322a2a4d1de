//! Loading: converts the tables' rows into the pool's types. A row that this version cannot read is skipped and stays
//! in the table.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rusqlite::types::FromSql;
use rusqlite::{Connection, Row};

use super::names::{self, UnknownText};
use super::{LoadedState, seal::SealKey};
use crate::credential::{Fingerprint, FormerCredential, FormerRole, Link, LinkMode};
use crate::pool::{
    AccountId, AccountOwner, AccountRecord, Bind, ChosenBy, Fence, Holder, Lease, LimitRecord, Mono, Process,
    SessionRecord, Snapshot, Target, Usage, Wall, Window,
};

/// Why a row is skipped.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("{0}")]
    Column(#[from] rusqlite::Error),
    #[error("{0}")]
    Text(#[from] UnknownText),
    #[error("{0} is out of range")]
    Range(&'static str),
    #[error("the credential of {0} cannot be decrypted; log in to that account again")]
    Sealed(AccountId),
}

pub(super) type Read<T> = Result<T, RowError>;

/// Reads all tables into `loaded`: leases only if their holders can still be alive, secrets only with a key.
pub(super) fn load(database: &Connection, key: Option<&SealKey>, loaded: &mut LoadedState) -> rusqlite::Result<()> {
    let warnings = &mut loaded.warnings;
    let leases =
        if loaded.same_boot { "SELECT * FROM lease ORDER BY fence" } else { "SELECT * FROM lease WHERE false" };
    loaded.snapshot = Snapshot {
        accounts: rows(database, "SELECT * FROM account ORDER BY place", "account", warnings, account)?,
        limits: rows(database, "SELECT * FROM limits", "limit", warnings, limit)?,
        sessions: rows(database, "SELECT * FROM session ORDER BY used_at", "session", warnings, session)?,
        usage: rows(database, "SELECT * FROM usage ORDER BY account", "list of windows", warnings, usage)?,
        leases: rows(database, leases, "lease", warnings, lease)?,
    };
    // secrets of skipped accounts are not decrypted
    let known: HashSet<AccountId> = loaded.snapshot.accounts.iter().map(|account| account.id).collect();
    let sealed = rows(database, "SELECT * FROM credential", "credential", warnings, |row| {
        let id = id(row, "account")?;
        let Some(key) = key.filter(|_| known.contains(&id)) else { return Ok(None) };
        let blob: Vec<u8> = row.get("sealed")?;
        let credential = key.open_credential(id, &blob).ok_or(RowError::Sealed(id))?;
        Ok(Some((id, credential, optional_number(row, "refresh_started_at")?.map(Wall))))
    })?;
    loaded.fingerprints = rows(database, "SELECT * FROM fingerprint", "fingerprint", warnings, fingerprint)?;
    loaded.fingerprints.retain(|(_, id, _)| known.contains(id));
    loaded.links = rows(database, "SELECT * FROM link", "link", warnings, link)?;
    loaded.links.retain(|(id, _)| known.contains(id));
    let formers = rows(database, "SELECT * FROM former_credential", "former credential", warnings, |row| {
        let id = id(row, "account")?;
        let Some(key) = key.filter(|_| known.contains(&id)) else { return Ok(None) };
        former(row, id, key).map(|former| Some((id, former)))
    })?;
    loaded.formers = formers.into_iter().flatten().collect();
    for (id, credential, started) in sealed.into_iter().flatten() {
        loaded.credentials.push((id, credential));
        loaded.refreshing.extend(started.map(|at| (id, at)));
    }
    Ok(())
}

/// A value of the `meta` table.
pub(super) fn meta<T: FromSql>(database: &Connection, name: &str) -> rusqlite::Result<T> {
    database.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

/// The port that the gateway chose, if any.
pub(super) fn gateway_port(database: &Connection) -> rusqlite::Result<Option<u16>> {
    match meta(database, "gateway_port") {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        port => port.map(Some),
    }
}

/// The lowest fence that was never granted.
pub(super) fn next_fence(database: &Connection) -> rusqlite::Result<Fence> {
    let reserved: i64 = meta(database, "next_fence")?;
    let granted: Option<i64> = database.query_row("SELECT max(fence) FROM lease", [], |row| row.get(0))?;
    // no lease should have a fence above the reservation; if one has, its fence is not used again
    let next = reserved.max(granted.map_or(0, |fence| fence.saturating_add(1))).max(1);
    Ok(Fence(next.unsigned_abs()))
}

pub(super) fn rows<T>(
    database: &Connection,
    query: &str,
    what: &str,
    warnings: &mut Vec<String>,
    read: impl Fn(&Row<'_>) -> Read<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = database.prepare(query)?;
    let mut found = statement.query([])?;
    let (mut values, mut first, mut more) = (Vec::new(), None, 0);
    while let Some(row) = found.next()? {
        match read(row) {
            Ok(value) => values.push(value),
            // the table is at fault, not this row
            Err(RowError::Column(error @ rusqlite::Error::InvalidColumnName(_))) => return Err(error),
            Err(error) if first.is_none() => first = Some(error),
            Err(_) => more += 1,
        }
    }
    if let Some(error) = first {
        let others = if more > 0 { format!(" (and {more} more like it)") } else { String::new() };
        warnings.push(format!("a stored {what} is skipped and stays unchanged: {error}{others}"));
    }
    Ok(values)
}

fn account(row: &Row<'_>) -> Read<AccountRecord> {
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

fn lease(row: &Row<'_>) -> Read<Lease> {
    let bind = match text(row, "bind")?.as_str() {
        "process" => Bind::Process(process(row, "bind_pid", "bind_start")?.ok_or(RowError::Range("bind_pid"))?),
        "ttl" => Bind::Ttl,
        other => return Err(UnknownText::new("bind", other).into()),
    };
    let names: Option<String> = row.get("names")?;
    let names = names.map(|text| serde_json::from_str(&text).map_err(|_| UnknownText::new("names of a lease", &text)));
    Ok(Lease {
        fence: Fence(number(row, "fence")?),
        account: id(row, "account")?,
        target: Target {
            provider: row.get("provider")?,
            family: row.get("family")?,
            key: row.get("key")?,
            pool: row.get("pool")?,
            model: row.get("model")?,
            names: names.transpose()?.map(Arc::new),
        },
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
        by: ChosenBy::Resumed,
        ttl: optional_number(row, "ttl")?.map(Duration::from_millis),
        expires: optional_number(row, "expires")?.map(Mono),
        granted_at: Wall(number(row, "granted_at")?),
        request_id: row.get("request_id")?,
    })
}

fn session(row: &Row<'_>) -> Read<SessionRecord> {
    Ok(SessionRecord {
        provider: row.get("provider")?,
        session: row.get("session")?,
        account: id(row, "account")?,
        used_at: Wall(number(row, "used_at")?),
    })
}

fn limit(row: &Row<'_>) -> Read<LimitRecord> {
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

fn usage(row: &Row<'_>) -> Read<(AccountId, Usage)> {
    let windows = text(row, "windows")?;
    let windows: Vec<Window> =
        serde_json::from_str(&windows).map_err(|_| UnknownText::new("list of windows", &windows))?;
    Ok((id(row, "account")?, windows.into()))
}

fn fingerprint(row: &Row<'_>) -> Read<(Fingerprint, AccountId, Wall)> {
    let print = Fingerprint(u128::from_be_bytes(row.get("print")?));
    Ok((print, id(row, "account")?, Wall(number(row, "kept_at")?)))
}

fn link(row: &Row<'_>) -> Read<(AccountId, Link)> {
    let mode = text(row, "mode")?;
    let mode = LinkMode::from_name(&mode).ok_or_else(|| UnknownText::new("mode of a link", &mode))?;
    let link = Link { tool: text(row, "tool")?, path: text(row, "path")?, item: text(row, "item")?, mode };
    Ok((id(row, "account")?, link))
}

fn former(row: &Row<'_>, id: AccountId, key: &SealKey) -> Read<FormerCredential> {
    let role = text(row, "role")?;
    let role = FormerRole::from_name(&role).ok_or_else(|| UnknownText::new("role of a credential", &role))?;
    let blob: Vec<u8> = row.get("sealed")?;
    let credential = key.open_credential(id, &blob).ok_or(RowError::Sealed(id))?;
    Ok(FormerCredential { credential, role, since: Wall(number(row, "since")?) })
}

fn text(row: &Row<'_>, column: &str) -> Read<String> {
    Ok(row.get(column)?)
}

fn id(row: &Row<'_>, column: &str) -> Read<AccountId> {
    let text = text(row, column)?;
    Ok(text.parse().map_err(|_| UnknownText::new("account id", &text))?)
}

pub(super) fn number(row: &Row<'_>, column: &'static str) -> Read<u64> {
    optional_number(row, column)?.ok_or(RowError::Range(column))
}

pub(super) fn optional_number(row: &Row<'_>, column: &'static str) -> Read<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|value| u64::try_from(value).map_err(|_| RowError::Range(column))).transpose()
}

fn process(row: &Row<'_>, pid: &str, start: &str) -> Read<Option<Process>> {
    let (pid, start): (Option<u32>, Option<i64>) = (row.get(pid)?, row.get(start)?);
    Ok(pid.zip(start).map(|(pid, start)| Process { pid, start: start.cast_unsigned() }))
}
