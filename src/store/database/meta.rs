//! The values of the `meta` table, of which each is stored once.

use std::{collections::HashMap, path::Path, time::Duration};

use rusqlite::Connection;
use rusqlite::types::{FromSql, Type, Value, ValueRef};

use super::row_tags::RowTags;
use super::write_ahead_log::LogState;
use crate::pool::{Wall, spoken};
use crate::store::{file::beside, health::wall_now};

/// How long after it was restored a database is said to have been.
const RESTORED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// All values that fit their tags.
pub(in crate::store) struct MetaValues {
    values: HashMap<String, Value>,
    /// The names of the rows that do not.
    pub(in crate::store) damaged: Vec<String>,
}

impl MetaValues {
    /// Reads the values.
    pub(in crate::store) fn read(database: &Connection, tags: &RowTags) -> rusqlite::Result<Self> {
        let mut statement = database.prepare("SELECT * FROM meta")?;
        let (name_at, value_at) = (statement.column_index("name")?, statement.column_index("value")?);
        let mut check = tags.check("meta", &statement)?;
        let mut rows = statement.query([])?;
        let mut found = Self { values: HashMap::new(), damaged: Vec::new() };
        while let Some(row) = rows.next()? {
            let name: String = row.get(name_at)?;
            if check.is_intact(row)? {
                found.values.insert(name, row.get(value_at)?);
            } else {
                found.damaged.push(name);
            }
        }
        Ok(found)
    }

    /// A value, if it is stored.
    pub(in crate::store) fn get<T: FromSql>(&self, name: &str) -> rusqlite::Result<Option<T>> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let invalid = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Null, Box::new(error));
        T::column_result(ValueRef::from(value)).map(Some).map_err(invalid)
    }

    /// A value that every database has. It may be missing only where damage explains that.
    pub(in crate::store) fn required<T: FromSql>(&self, name: &str) -> rusqlite::Result<Option<T>> {
        match self.get(name)? {
            None if self.damaged.is_empty() => Err(rusqlite::Error::QueryReturnedNoRows),
            value => Ok(value),
        }
    }

    /// What is lost, for the user.
    pub(in crate::store) fn warning(&self) -> Option<String> {
        let names: Vec<String> =
            self.damaged.iter().map(|name| format!("{:?}", name.chars().take(40).collect::<String>())).collect();
        let is_lost = |name| self.damaged.iter().any(|damaged| damaged == name);
        let consequence = match () {
            () if names.is_empty() => return None,
            () if is_lost("fingerprint_key") => {
                "; the gateway's keys are invalid now, so make new ones: lessor gateway key"
            }
            () if is_lost("sealed_gateway_keys") => {
                "; gateway keys of earlier versions are invalid now, so make new ones: lessor gateway key"
            }
            () if is_lost("boot_id") || is_lost("lease_key") => "; leases of the last run may have ended",
            () if is_lost("gateway_port") || is_lost("gateway_tls_port") => {
                "; the gateway may have another port now, see: lessor gateway url"
            }
            () => "",
        };
        Some(format!("the database was damaged: {} replaced by defaults{consequence}", names.join(", ")))
    }

    /// A log that the last run needs and that is not there, or not whole.
    pub(in crate::store) fn log_warning(&self, database: &Path, log: LogState) -> rusqlite::Result<Option<String>> {
        if self.get::<i64>("log_expected")? != Some(1) {
            return Ok(None);
        }
        let what = match log {
            LogState::Whole => return Ok(None),
            LogState::Missing => "is missing",
            LogState::Damaged => "is damaged",
        };
        Ok(Some(format!(
            "the database's log {} {what}, and the last run was not ended: its last changes are lost; an account whose \
             login was refreshed then may need: lessor login",
            beside(database, "-wal").display()
        )))
    }

    /// A database that was restored: tokens that were replaced after the backup was made are in no file.
    pub(in crate::store) fn restored_warning(&self) -> rusqlite::Result<Option<String>> {
        let time = |name| Ok::<_, rusqlite::Error>(self.get::<i64>(name)?.map(|at| Wall(at.unsigned_abs())));
        let Some(restored) = time("restored_at")? else { return Ok(None) };
        let since = wall_now().since(restored);
        if since > RESTORED_FOR {
            return Ok(None);
        }
        let age = match time("backup_made_at")? {
            Some(made) => format!("a backup that was {} old", spoken(restored.since(made))),
            None => "a copy of another database".to_owned(),
        };
        Ok(Some(format!(
            "the accounts were restored from {age}, {} ago: a login that was refreshed after the backup was made is \
             rejected at its next refresh, and then needs: lessor login",
            spoken(since)
        )))
    }
}
