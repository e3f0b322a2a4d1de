//! What is kept of a pool that many machines share: the membership of this machine, its last term, which accounts are the
//! pool's, and answers of servers that the pool does not have yet.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::LoadedState;
use super::key::seal::{SealKey, SealPurpose};
use super::rows::{RowError, StoredRow, Tables, id};
use super::statement::{ApplyError, run, upsert};
use crate::credential::SecretBytes;
use crate::pool::AccountId;

pub(super) fn save_membership(
    database: &Connection,
    key: &SealKey,
    membership: Option<&SecretBytes>,
) -> Result<(), ApplyError> {
    let Some(membership) = membership else {
        run(database, "DELETE FROM pool_term", [])?;
        run(database, "DELETE FROM pool_answer", [])?;
        return run(database, "DELETE FROM pool_membership", []);
    };
    let sealed = key.seal(SealPurpose::PoolMembership, membership.expose()).map_err(ApplyError::Refused)?;
    upsert(database, "pool_membership", &[("one", &1), ("sealed", &sealed)])
}

pub(super) fn save_term(database: &Connection, term: Option<(i64, u64)>) -> Result<(), ApplyError> {
    match term {
        None => run(database, "DELETE FROM pool_term", []),
        Some((term, life)) => {
            upsert(database, "pool_term", &[("one", &1), ("term", &term), ("life", &life.cast_signed())])
        }
    }
}

pub(super) fn save_account(database: &Connection, id: AccountId, generation: Option<i64>) -> Result<(), ApplyError> {
    match generation {
        None => run(database, "DELETE FROM shared_account WHERE account = ?1", [id.to_string()]),
        Some(generation) => {
            // the pool has it, or something newer
            let statement = "DELETE FROM pool_answer WHERE account = ?1 AND from_generation < ?2";
            run(database, statement, params![id.to_string(), generation])?;
            upsert(database, "shared_account", &[("account", &id.to_string()), ("generation", &generation)])
        }
    }
}

pub(super) fn save_answer(database: &Connection, id: AccountId, from: Option<i64>) -> Result<(), ApplyError> {
    match from {
        None => run(database, "DELETE FROM pool_answer WHERE account = ?1", [id.to_string()]),
        Some(from) => upsert(database, "pool_answer", &[("account", &id.to_string()), ("from_generation", &from)]),
    }
}

/// Seals the membership again with `new`. One that does not open stays as it is: the machine can only join again, which
/// does not keep the other secrets from being sealed.
pub(super) fn reseal_membership(database: &Connection, old: &SealKey, new: &SealKey) -> Result<(), ApplyError> {
    let mut rows = database.prepare("SELECT sealed FROM pool_membership")?;
    let rows = rows.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    let rows: Vec<Vec<u8>> = rows.collect::<rusqlite::Result<_>>()?;
    for sealed in rows {
        if let Some(plain) = old.open(SealPurpose::PoolMembership, &sealed) {
            let sealed = new.seal(SealPurpose::PoolMembership, &plain).map_err(ApplyError::Refused)?;
            database.execute("UPDATE pool_membership SET sealed = ?1", params![sealed])?;
        }
    }
    Ok(())
}

/// A restored database is another life of this host, maybe on another machine: it begins a term of its own, and the seats
/// of the last one are freed by the rules of the pool. The membership stays, because it may be the only copy of the keys.
pub(super) fn forget_term(database: &Connection) -> rusqlite::Result<()> {
    database.execute("DELETE FROM pool_term", []).map(drop)
}

/// Reads these tables. Of a damaged row, as much is used as is safe: an account whose row is damaged is still the pool's.
pub(super) fn load(
    tables: &mut Tables<'_>,
    key: Option<&SealKey>,
    known: &HashSet<AccountId>,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    let memberships = tables.rows("pool_membership", "", |row, is_intact| {
        let sealed: Vec<u8> = row.get("sealed")?;
        let Some(key) = key else { return Ok(None) };
        let plain = key.open(SealPurpose::PoolMembership, &sealed).ok_or(RowError::SealedMembership)?;
        Ok(Some((SecretBytes::new(plain), is_intact)))
    })?;
    for (membership, is_intact) in memberships.into_iter().flatten() {
        if !is_intact {
            let said = "the database was damaged beside the membership in a shared pool, which is whole";
            tables.warnings.push(said.to_owned());
        }
        loaded.membership = Some(membership);
    }
    let terms = tables.intact("pool_term", "", |row| {
        let (term, life): (i64, i64) = (row.get("term")?, row.get("life")?);
        Ok((term, life.cast_unsigned()))
    })?;
    loaded.pool_term = terms.into_iter().next();
    let of_account = |column: &'static str| {
        move |row: &StoredRow<'_>, is_intact: bool| {
            let account = id(row, "account")?;
            let generation: i64 = row.get(column)?;
            Ok((account, generation, is_intact))
        }
    };
    let shared = tables.rows("shared_account", "", of_account("generation"))?;
    for (account, generation, is_intact) in shared {
        if !known.contains(&account) {
            if !is_intact {
                tables.warnings.push(format!(
                    "the database was damaged: that an account belongs to the shared pool is not known any more, and which \
                     one it was neither ({account} is none); do not start agents before: lessor pool status says that this \
                     host is connected"
                ));
            }
            continue;
        }
        if !is_intact {
            tables.warnings.push(format!(
                "the database was damaged: which generation of its credential the account {account} of the shared pool has \
                 is not known any more; lessor gets it from the pool"
            ));
        }
        loaded.shared_accounts.push((account, if is_intact { generation } else { 0 }));
    }
    let answers = tables.rows("pool_answer", "", of_account("from_generation"))?;
    for (account, from, is_intact) in answers {
        if !is_intact {
            tables.warnings.push(format!(
                "the database was damaged: the pool may not get the newest login of {account}; if it cannot be refreshed \
                 any more, log in to it again: lessor login"
            ));
        }
        if known.contains(&account) {
            loaded.pool_answers.push((account, from));
        }
    }
    Ok(())
}
