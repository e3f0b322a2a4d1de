//! Statements of writes, and why one could not be applied.

use std::path::Path;

use rusqlite::{Connection, ToSql};

use super::error::WriteError;

/// Why a write could not be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// The error of a write to the database at `path`.
    pub(super) fn at(self, path: &Path) -> WriteError {
        match self {
            Self::Database(error) => WriteError::from_sqlite(path, &error),
            Self::Refused(why) => WriteError::Refused(why),
        }
    }
}

/// Runs a statement, which is prepared once.
pub(super) fn run(database: &Connection, statement: &str, values: impl rusqlite::Params) -> Result<(), ApplyError> {
    database.prepare_cached(statement)?.execute(values)?;
    Ok(())
}

/// Inserts a row, or changes the one with the same primary key.
pub(super) fn upsert(database: &Connection, table: &str, columns: &[(&str, &dyn ToSql)]) -> Result<(), ApplyError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let places = vec!["?"; names.len()].join(", ");
    let set: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let (names, set) = (names.join(", "), set.join(", "));
    // all of the row is known, so that it gets a new tag even if the old row was damaged
    let statement =
        format!("INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT DO UPDATE SET {set}, tag = NULL");
    let values: Vec<&dyn ToSql> = columns.iter().map(|(_, value)| *value).collect();
    run(database, &statement, &values[..])
}
