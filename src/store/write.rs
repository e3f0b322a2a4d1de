//! The writes that the store accepts, and what each does to the tables.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::gateway_key::GatewayKeyRecord;
use super::key::seal::{SealKey, SealPurpose};
use super::statement::{ApplyError, run, upsert};
use super::{names, shared_pool};
use crate::credential::{Credential, Fingerprint, FormerCredential, Link, Secret, SecretBytes, oauth::StoredClient};
use crate::limits::Scope;
use crate::pool::{
    AccountId, AccountRecord, Bind, Fence, Lease, LimitRecord, Process, SessionRecord, Usage, Wall, millis,
};

/// The maximum number of sessions and of limits; the oldest are removed beyond it. The pool keeps no more sessions
/// either.
pub(super) const MOST_ROWS: usize = 10_000;

/// The maximum number of former credentials per account that are still recognised: months for a login that changes
/// three times a day.
pub(super) const MOST_FINGERPRINTS: i64 = 256;

/// Raises the lowest fence that was never reserved.
pub(super) const RAISE_FENCE: &str = "INSERT INTO meta (name, value) VALUES ('next_fence', ?1) \
                                      ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";

/// The tables with rows that belong to an account.
const TABLES_OF_AN_ACCOUNT: [&str; 10] = [
    "credential",
    "former_credential",
    "lease",
    "session",
    "limits",
    "fingerprint",
    "link",
    "usage",
    "shared_account",
    "pool_answer",
];

/// One change of the stored data.
#[derive(Debug)]
pub enum Write {
    /// Saves a record. With a credential, it is fsynced before its callback runs; without one, the stored credential
    /// stays.
    SaveAccount {
        /// The record.
        record: Box<AccountRecord>,
        /// The new credential, if it changed.
        credential: Option<Credential>,
    },
    /// Removes an account and everything that belongs to it; fsynced.
    DeleteAccount(AccountId),
    /// Records that a refresh of this account's login is about to be sent (with the time), or that it ended without a
    /// new credential (`None`); fsynced. Saving a new credential clears the mark as well.
    MarkRefresh(AccountId, Option<Wall>),
    /// Saves when the provider first accepted a credential, if the account still has it.
    MarkAccepted(AccountId, Fingerprint, Wall),
    /// Saves a lease, as it is now.
    SaveLease(Arc<Lease>),
    /// Removes a lease.
    DropLease(Fence),
    /// Saves the id of the lease that the holder of a connection-bound one has now, by the fence of the one that it was
    /// granted; or removes it.
    SaveMovedLease(Fence, Option<String>),
    /// Saves which account a session uses.
    SaveSession(SessionRecord),
    /// Saves a limit, replacing the one of the same account, scope and key.
    SaveLimit(LimitRecord),
    /// Saves an account's quota windows, replacing the stored ones.
    SaveUsage(AccountId, Usage),
    /// Removes an account's limits: all, or those of one scope and key.
    DropLimit(AccountId, Option<(Scope, String)>),
    /// Reserves the fences up to and including this one; fsynced.
    ReserveFences(Fence),
    /// Saves which tool's file an account's login is linked to, or removes the link; fsynced.
    SaveLink(AccountId, Option<Link>),
    /// Saves the other credential of an account that follows a file, or removes it; fsynced.
    SaveFormer(AccountId, Option<FormerCredential>),
    /// Saves the port that the gateway chose.
    GatewayPort(u16),
    /// Saves the port that the gateway chose for TLS.
    GatewayTlsPort(u16),
    /// Saves when accounts were last leased.
    LastUsed(Vec<(AccountId, Wall)>),
    /// Saves a lasting key of the gateway, as it was made, first seen or revoked; fsynced.
    SaveGatewayKey(GatewayKeyRecord),
    /// Saves when lasting keys of the gateway were last used, by their hashes.
    GatewayKeysUsed(Vec<([u8; 32], Wall)>),
    /// Removes a key of the gateway, by its hash.
    DropGatewayKey([u8; 32]),
    /// Saves an OAuth client with its secret; fsynced.
    SaveClient(StoredClient),
    /// Removes an OAuth client, by its name; fsynced.
    DropClient(String),
    /// Saves what this machine has as a host of a shared pool, which the store seals, or removes it with everything else
    /// that is kept of that pool, except its accounts; fsynced.
    SavePoolMembership(Option<SecretBytes>),
    /// Saves the term in which this machine holds seats of the pool, and the number of the process that has it; fsynced.
    SavePoolTerm(Option<(i64, u64)>),
    /// Saves that an account belongs to the pool, and of which generation its stored credential is; without a generation,
    /// the account is this machine's own. A later generation ends the mark of an answer. Fsynced.
    SaveSharedAccount(AccountId, Option<i64>),
    /// Saves that the stored credential of an account is an answer that the pool does not have yet, and the generation of
    /// the refresh token that was sent for it; or that the pool has it. Fsynced.
    SavePoolAnswer(AccountId, Option<i64>),
    /// Saves all of these or none of them.
    Together(Vec<Self>),
}

impl Write {
    /// Whether the write must survive a crash of the machine, not only of the daemon.
    #[must_use]
    pub(super) fn must_be_synced(&self) -> bool {
        match self {
            Self::SaveAccount { credential, .. } => credential.is_some(),
            Self::DeleteAccount(_)
            | Self::MarkRefresh(..)
            | Self::ReserveFences(_)
            | Self::SaveLink(..)
            | Self::SaveFormer(..)
            | Self::SaveGatewayKey(_)
            | Self::SaveClient(_)
            | Self::DropClient(_)
            | Self::SavePoolMembership(_)
            | Self::SavePoolTerm(_)
            | Self::SaveSharedAccount(..)
            | Self::SavePoolAnswer(..) => true,
            Self::Together(writes) => writes.iter().any(Self::must_be_synced),
            _ => false,
        }
    }

    pub(super) fn apply(&self, database: &Connection, key: &SealKey) -> Result<(), ApplyError> {
        match self {
            Self::SaveAccount { record, credential } => {
                save_account(database, record)?;
                credential.as_ref().map_or(Ok(()), |credential| save_credential(database, key, record.id, credential))
            }
            Self::DeleteAccount(id) => {
                for table in TABLES_OF_AN_ACCOUNT {
                    run(database, &format!("DELETE FROM {table} WHERE account = ?1"), [id.to_string()])?;
                }
                run(database, "DELETE FROM account WHERE id = ?1", [id.to_string()])
            }
            Self::MarkRefresh(id, at) => run(
                database,
                "UPDATE credential SET refresh_started_at = ?2 WHERE account = ?1",
                params![id.to_string(), at.map(|at| integer(at.0))],
            ),
            Self::MarkAccepted(id, print, at) => mark_accepted(database, key, *id, (*print, *at)),
            Self::SaveLease(lease) => save_lease(database, lease),
            Self::DropLease(fence) => run(database, "DELETE FROM lease WHERE fence = ?1", [integer(fence.0)]),
            Self::SaveMovedLease(first, None) => {
                run(database, "DELETE FROM moved_lease WHERE first = ?1", [integer(first.0)])
            }
            Self::SaveMovedLease(first, Some(lease)) => {
                upsert(database, "moved_lease", &[("first", &integer(first.0)), ("lease", lease)])
            }
            Self::SaveSession(session) => run(
                database,
                "INSERT OR REPLACE INTO session (provider, session, account, used_at) VALUES (?1, ?2, ?3, ?4)",
                params![session.provider, session.session, session.account.to_string(), integer(session.used_at.0)],
            ),
            Self::SaveLimit(limit) => save_limit(database, limit),
            Self::SaveUsage(id, usage) => save_usage(database, *id, usage),
            Self::DropLimit(id, None) => run(database, "DELETE FROM limits WHERE account = ?1", [id.to_string()]),
            Self::DropLimit(id, Some((scope, key))) => run(
                database,
                "DELETE FROM limits WHERE account = ?1 AND scope = ?2 AND key = ?3",
                params![id.to_string(), scope.name(), key],
            ),
            Self::ReserveFences(last) => run(database, RAISE_FENCE, [integer(last.0.saturating_add(1))]),
            Self::SaveLink(id, None) => run(database, "DELETE FROM link WHERE account = ?1", [id.to_string()]),
            Self::SaveLink(id, Some(link)) => run(
                database,
                "INSERT OR REPLACE INTO link (account, tool, path, item, mode) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![id.to_string(), link.tool, link.path, link.item, link.mode.name()],
            ),
            Self::SaveFormer(id, former) => save_former(database, key, *id, former.as_ref()),
            Self::GatewayPort(port) => {
                run(database, "INSERT OR REPLACE INTO meta (name, value) VALUES ('gateway_port', ?1)", params![port])
            }
            Self::GatewayTlsPort(port) => run(
                database,
                "INSERT OR REPLACE INTO meta (name, value) VALUES ('gateway_tls_port', ?1)",
                params![port],
            ),
            Self::LastUsed(times) => times.iter().try_for_each(|(id, at)| {
                run(
                    database,
                    "UPDATE account SET last_used_at = ?2 WHERE id = ?1",
                    params![id.to_string(), integer(at.0)],
                )
            }),
            Self::SaveGatewayKey(key) => save_gateway_key(database, key),
            Self::GatewayKeysUsed(times) => times.iter().try_for_each(|(hash, at)| {
                let statement = "UPDATE gateway_key SET last_used_at = ?2 WHERE hash = ?1";
                run(database, statement, params![hash, integer(at.0)])
            }),
            Self::DropGatewayKey(hash) => run(database, "DELETE FROM gateway_key WHERE hash = ?1", [hash]),
            Self::SaveClient(client) => save_client(database, key, client),
            Self::DropClient(name) => run(database, "DELETE FROM oauth_client WHERE name = ?1", [name]),
            Self::SavePoolMembership(membership) => shared_pool::save_membership(database, key, membership.as_ref()),
            Self::SavePoolTerm(term) => shared_pool::save_term(database, *term),
            Self::SaveSharedAccount(id, generation) => shared_pool::save_account(database, *id, *generation),
            Self::SavePoolAnswer(id, from) => shared_pool::save_answer(database, *id, *from),
            Self::Together(writes) => writes.iter().try_for_each(|write| write.apply(database, key)),
        }
    }
}

/// Removes the oldest sessions and limits beyond the maximum, and rows that belong to no account.
pub(super) fn prune(database: &Connection) -> rusqlite::Result<()> {
    // credentials are removed by DeleteAccount only
    for table in ["lease", "session", "limits", "usage"] {
        database.execute(&format!("DELETE FROM {table} WHERE account NOT IN (SELECT id FROM account)"), [])?;
    }
    prune_sessions(database)?;
    let statement = "DELETE FROM limits WHERE (account, scope, key) IN \
                     (SELECT account, scope, key FROM limits ORDER BY until DESC LIMIT -1 OFFSET ?1)";
    database.execute(statement, [MOST_ROWS as i64]).map(drop)
}

/// Removes the sessions beyond the maximum that were not used for the longest time.
pub(super) fn prune_sessions(database: &Connection) -> rusqlite::Result<()> {
    let statement = "DELETE FROM session WHERE (provider, session) IN \
                     (SELECT provider, session FROM session ORDER BY used_at DESC LIMIT -1 OFFSET ?1)";
    database.execute(statement, [MOST_ROWS as i64]).map(drop)
}

fn save_account(database: &Connection, record: &AccountRecord) -> Result<(), ApplyError> {
    let encoding = |error| ApplyError::Refused(format!("the account cannot be encoded: {error}"));
    let (login_state, detail) = names::login_state_columns(&record.login_state).map_err(encoding)?;
    let allowed_agents = record.allowed_agents.as_ref().map(serde_json::to_string).transpose().map_err(encoding)?;
    // a replaced row would lose its place
    upsert(
        database,
        "account",
        &[
            ("id", &record.id.to_string()),
            ("provider", &record.provider),
            ("label", &record.label),
            ("email", &record.email),
            ("tier", &names::name(record.tier).map_err(encoding)?),
            ("kind", &names::name(record.kind).map_err(encoding)?),
            ("login_state", &login_state),
            ("login_detail", &detail),
            ("enabled", &record.enabled),
            ("disabled_reason", &record.disabled_reason),
            ("max_leases", &record.max_leases),
            ("priority", &record.priority),
            ("uses", &allowed_agents),
            ("reserve", &Some(record.reserve).filter(|reserve| *reserve > 0.0)),
            ("fallback_only", &record.fallback_only.then_some(true)),
            ("project_id", &record.project_id),
            ("person", &record.owner.person),
            ("organization", &record.owner.organization),
            ("organization_name", &record.owner.organization_name),
            ("created_at", &integer(record.created_at.0)),
            ("last_used_at", &record.last_used_at.map(|at| integer(at.0))),
        ],
    )
}

fn save_credential(
    database: &Connection,
    key: &SealKey,
    id: AccountId,
    credential: &Credential,
) -> Result<(), ApplyError> {
    let sealed = key.seal_credential(id, credential).map_err(ApplyError::Refused)?;
    let statement = "INSERT OR REPLACE INTO credential (account, sealed) VALUES (?1, ?2)";
    run(database, statement, params![id.to_string(), sealed])?;
    let print = key.fingerprints().map_err(|why| ApplyError::Refused(why.to_owned()))?.of_credential(credential);
    save_fingerprint(database, print, id)
}

fn save_former(
    database: &Connection,
    key: &SealKey,
    id: AccountId,
    former: Option<&FormerCredential>,
) -> Result<(), ApplyError> {
    let Some(former) = former else {
        return run(database, "DELETE FROM former_credential WHERE account = ?1", [id.to_string()]);
    };
    let sealed = key.seal_credential(id, &former.credential).map_err(ApplyError::Refused)?;
    let statement = "INSERT OR REPLACE INTO former_credential (account, sealed, role, since) VALUES (?1, ?2, ?3, ?4)";
    run(database, statement, params![id.to_string(), sealed, former.role.name(), integer(former.since.0)])
}

fn mark_accepted(
    database: &Connection,
    key: &SealKey,
    id: AccountId,
    (print, at): (Fingerprint, Wall),
) -> Result<(), ApplyError> {
    let select = "SELECT sealed FROM credential WHERE account = ?1";
    let sealed = database.query_row(select, [id.to_string()], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    let prints = key.fingerprints().map_err(|why| ApplyError::Refused(why.to_owned()))?;
    let stored = sealed.and_then(|sealed| key.open_credential(id, &sealed));
    let Some(stored) = stored.filter(|stored| prints.of_credential(stored) == print) else { return Ok(()) };
    let accepted = Credential { accepted_at: Some(at), ..stored };
    let sealed = key.seal_credential(id, &accepted).map_err(ApplyError::Refused)?;
    run(database, "UPDATE credential SET sealed = ?2 WHERE account = ?1", params![id.to_string(), sealed])
}

/// Stores the fingerprint of a credential and removes the account's oldest ones beyond the maximum.
fn save_fingerprint(database: &Connection, print: Fingerprint, id: AccountId) -> Result<(), ApplyError> {
    let statement = "INSERT INTO fingerprint (print, account, kept_at) \
                     VALUES (?1, ?2, CAST(unixepoch('subsec') * 1000 AS INTEGER)) \
                     ON CONFLICT (print) DO UPDATE SET account = ?2, kept_at = excluded.kept_at WHERE account <> ?2";
    run(database, statement, params![print.0.to_be_bytes(), id.to_string()])?;
    let statement = "DELETE FROM fingerprint WHERE print IN \
                     (SELECT print FROM fingerprint WHERE account = ?1 ORDER BY kept_at DESC LIMIT -1 OFFSET ?2)";
    run(database, statement, params![id.to_string(), MOST_FINGERPRINTS])
}

fn save_lease(database: &Connection, lease: &Lease) -> Result<(), ApplyError> {
    let (bind, process) = match lease.bind {
        Bind::Process(process) => ("process", Some(process)),
        Bind::Ttl => ("ttl", None),
        Bind::Connection(_) => return Err(ApplyError::Refused("connection-bound leases are not stored".into())),
    };
    let holder = lease.holder.process;
    let names = lease.target.names.as_deref().map(serde_json::to_string).transpose();
    let names =
        names.map_err(|error| ApplyError::Refused(format!("the names of a lease cannot be encoded: {error}")))?;
    let only = lease.set().only.as_deref().map(serde_json::to_string).transpose();
    let only =
        only.map_err(|error| ApplyError::Refused(format!("the accounts of a lease cannot be encoded: {error}")))?;
    upsert(
        database,
        "lease",
        &[
            ("fence", &integer(lease.fence.0)),
            ("account", &lease.account.to_string()),
            ("provider", &&*lease.target.provider),
            ("family", &&*lease.target.family),
            ("key", &&*lease.target.key),
            ("pool", &lease.target.pool.as_deref()),
            ("model", &lease.target.model.as_deref()),
            ("session", &lease.session.as_deref()),
            ("label", &lease.label.as_deref()),
            ("agent", &lease.agent.as_deref()),
            ("bind", &bind),
            ("bind_pid", &process.map(|process| process.pid)),
            ("bind_start", &process.map(start)),
            ("holder_pid", &holder.map(|process| process.pid)),
            ("holder_start", &holder.map(start)),
            ("holder_program", &lease.holder.program.as_deref()),
            ("exclusive", &lease.exclusive),
            ("pinned", &lease.pinned),
            ("ttl", &lease.ttl.map(|ttl| integer(millis(ttl)))),
            ("expires", &lease.expires.map(|at| integer(at.0))),
            ("granted_at", &integer(lease.granted_at.0)),
            ("request_id", &lease.request_id.as_deref()),
            ("names", &names),
            ("only_accounts", &only),
            ("directory", &lease.set().directory.as_deref()),
        ],
    )
}

fn save_limit(database: &Connection, limit: &LimitRecord) -> Result<(), ApplyError> {
    upsert(
        database,
        "limits",
        &[
            ("account", &limit.account.to_string()),
            ("scope", &limit.scope.name()),
            ("key", &limit.key),
            ("reason", &limit.reason.name()),
            ("until", &integer(limit.until.0)),
            ("source", &limit.source.name()),
            ("since", &limit.since.map(|at| integer(at.0))),
            ("evidence", &limit.evidence.as_deref()),
            ("link", &limit.link.as_deref()),
        ],
    )
}

fn save_usage(database: &Connection, id: AccountId, usage: &Usage) -> Result<(), ApplyError> {
    let windows = serde_json::to_string(&usage.windows);
    let windows =
        windows.map_err(|error| ApplyError::Refused(format!("the windows of {id} cannot be encoded: {error}")))?;
    let statement = "INSERT OR REPLACE INTO usage (account, windows) VALUES (?1, ?2)";
    run(database, statement, params![id.to_string(), windows])
}

fn save_gateway_key(database: &Connection, key: &GatewayKeyRecord) -> Result<(), ApplyError> {
    upsert(
        database,
        "gateway_key",
        &[
            ("hash", &key.hash),
            ("client", &key.client.cast_signed()),
            ("label", &key.label.as_deref()),
            ("agent", &key.agent.as_deref()),
            ("sealed", &key.sealed),
            ("listed_at", &integer(key.listed_at.0)),
            ("expires_at", &key.expires_at.map(|at| integer(at.0))),
            ("max_leases", &key.max_leases),
            ("directory", &key.directory.as_deref()),
            ("last_used_at", &key.last_used_at.map(|at| integer(at.0))),
            ("revoked_at", &key.revoked_at.map(|at| integer(at.0))),
        ],
    )
}

fn save_client(database: &Connection, key: &SealKey, client: &StoredClient) -> Result<(), ApplyError> {
    let seal = |secret: &Arc<Secret>| key.seal(SealPurpose::ClientSecret(&client.name), secret.expose().as_bytes());
    let sealed = client.secret.as_ref().map(seal).transpose().map_err(ApplyError::Refused)?;
    upsert(
        database,
        "oauth_client",
        &[
            ("name", &client.name),
            ("provider", &client.provider),
            ("client_id", &client.client_id),
            ("sealed", &sealed),
            ("added_at", &integer(client.added_at.0)),
        ],
    )
}

/// SQLite's integers are signed; times and fences beyond that mean "never".
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Start times are only compared for equality, and use all 64 bits on some platforms.
fn start(process: Process) -> i64 {
    process.start.cast_signed()
}
