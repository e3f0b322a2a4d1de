//! The values of the `meta` table, of which each is stored once.

use std::collections::HashMap;

use rusqlite::Connection;
use rusqlite::types::{FromSql, Type, Value, ValueRef};

use super::row_tags::RowTags;

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
}
