//! The lasting keys of the gateway, of which only a hash is stored.

use std::sync::Arc;

use rusqlite::Connection;

use super::LoadedState;
use crate::pool::Wall;

/// What is known of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayKeyRecord {
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
    /// Tells the sessions of its client from those of others.
    pub client: u64,
    /// A label for people.
    pub label: Option<Arc<str>>,
    /// The agent that it is for.
    pub agent: Option<Arc<str>>,
    /// An earlier version made it: it is valid by its content, unless it is revoked.
    pub sealed: bool,
    /// When it was made; of a sealed key, when it was first seen.
    pub listed_at: Wall,
    /// When it ends.
    pub expires_at: Option<Wall>,
    /// How many leases it may have at the same time.
    pub max_leases: Option<u32>,
    /// The directory that its clients work in, as `[directories]` compares directories.
    pub directory: Option<Arc<str>>,
    /// When it was last used, as far as that is saved.
    pub last_used_at: Option<Wall>,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
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
