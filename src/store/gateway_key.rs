//! The lasting keys of the gateway, of which only a hash is stored.

use rusqlite::{Connection, Row};

use super::LoadedState;
use super::load::{self, Read};
use super::write::{ApplyError, integer, upsert};
use crate::pool::Wall;

/// What is known of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayKeyRecord {
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
    /// Tells the sessions of its client from those of others.
    pub client: u64,
    /// A label for people.
    pub label: Option<Box<str>>,
    /// The agent that it is for.
    pub agent: Option<Box<str>>,
    /// An earlier version made it: it is valid by its content, unless it is revoked.
    pub sealed: bool,
    /// When it was made; of a sealed key, when it was first seen.
    pub listed_at: Wall,
    /// When it ends.
    pub expires_at: Option<Wall>,
    /// How many leases it may have at the same time.
    pub max_leases: Option<u32>,
    /// When it was last used, as far as that is saved.
    pub last_used_at: Option<Wall>,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
}

/// Inserts or replaces a key. The only code that writes the columns of a row.
pub(super) fn save(database: &Connection, key: &GatewayKeyRecord) -> Result<(), ApplyError> {
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
            ("last_used_at", &key.last_used_at.map(|at| integer(at.0))),
            ("revoked_at", &key.revoked_at.map(|at| integer(at.0))),
        ],
    )
}

/// Decides whether keys that earlier versions made are valid: not while a row cannot be read, because it may be the one
/// that revokes such a key.
pub(super) fn accept_sealed(database: &Connection, had_sealed: bool, loaded: &mut LoadedState) -> rusqlite::Result<()> {
    let stored: i64 = database.query_row("SELECT count(*) FROM gateway_key", [], |row| row.get(0))?;
    let all_are_read = i64::try_from(loaded.gateway_keys.len()) == Ok(stored);
    if had_sealed && !all_are_read {
        let warning = "gateway keys that earlier versions made are refused: one of them may be revoked";
        loaded.warnings.push(warning.to_owned());
    }
    loaded.sealed_gateway_keys = had_sealed && all_are_read;
    Ok(())
}

pub(super) fn record(row: &Row<'_>) -> Read<GatewayKeyRecord> {
    let client: i64 = row.get("client")?;
    Ok(GatewayKeyRecord {
        hash: row.get("hash")?,
        client: client.cast_unsigned(),
        label: row.get("label")?,
        agent: row.get("agent")?,
        sealed: row.get("sealed")?,
        listed_at: Wall(load::number(row, "listed_at")?),
        expires_at: load::optional_number(row, "expires_at")?.map(Wall),
        max_leases: row.get("max_leases")?,
        last_used_at: load::optional_number(row, "last_used_at")?.map(Wall),
        revoked_at: load::optional_number(row, "revoked_at")?.map(Wall),
    })
}
