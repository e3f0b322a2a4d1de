//! Rows of the tables as they are read: each is compared with its tag, and what cannot be used is reported.

use std::cell::Cell;

use rusqlite::{Connection, Row, types::FromSql};

use super::database::row_tags::RowTags;
use super::names::UnknownText;
use crate::pool::AccountId;

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
    #[error("the secret of the OAuth client {0:?} cannot be decrypted; store it again: lessor secrets set NAME")]
    SealedClient(String),
    #[error("it cannot be decrypted; join the pool again: lessor pool join")]
    SealedMembership,
    #[error("it was damaged or changed by another program")]
    Damaged,
}

pub(super) type Read<T> = Result<T, RowError>;

/// What has to be corrected in the database, as soon as it can be written.
#[derive(Default)]
pub(super) struct Repairs {
    /// Damaged rows are to be removed.
    pub(super) rows: bool,
    /// Accounts whose credential is intact, but not the rest of its row.
    pub(super) credentials: Vec<AccountId>,
}

/// What a row that is skipped is reported as; `more` others have the same fate.
pub(super) fn skipped(what: &str, error: &RowError, more: usize) -> String {
    let others = if more > 0 { format!(" (and {more} more like it)") } else { String::new() };
    format!("a stored {what} is skipped and stays unchanged: {error}{others}")
}

/// What a row of a table is called.
fn row_name(table: &str) -> &str {
    match table {
        "limits" => "limit",
        "moved_lease" => "move of a lease",
        "usage" => "list of windows",
        "former_credential" => "former credential",
        "gateway_key" => "gateway key",
        "oauth_client" => "OAuth client",
        "pool_membership" => "membership in a shared pool",
        "pool_term" => "term of the shared pool",
        "shared_account" => "mark of a shared account",
        "pool_answer" => "mark of an answer for the shared pool",
        _ => table,
    }
}

/// Reads tables, and collects what has to be reported and corrected.
pub(super) struct Tables<'a> {
    pub(super) database: &'a Connection,
    /// Without them, no row can be verified.
    pub(super) tags: Option<&'a RowTags>,
    pub(super) warnings: Vec<String>,
    pub(super) repairs: Repairs,
}

impl Tables<'_> {
    /// The rows that fit their tags; the others are reported, to be removed.
    pub(super) fn intact<T>(
        &mut self,
        table: &str,
        rest: &str,
        read: impl Fn(&StoredRow<'_>) -> Read<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let rows = self.rows(
            table,
            rest,
            |row, intact| {
                if intact { read(row).map(Ok) } else { Ok(Err(id(row, "account").ok())) }
            },
        )?;
        let mut of: Vec<String> = Vec::new();
        let mut damaged = 0;
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok(value) => values.push(value),
                Err(account) => {
                    damaged += 1;
                    of.extend(account.map(|id| id.to_string()));
                }
            }
        }
        if damaged > 0 {
            of.sort_unstable();
            of.dedup();
            of.truncate(3);
            let of = if of.is_empty() { String::new() } else { format!(" of {}", of.join(", ")) };
            let what = row_name(table);
            self.warnings.push(format!("the database was damaged: rows that were not used: {damaged} ({what}{of})"));
            self.repairs.rows = true;
        }
        Ok(values)
    }

    /// The rows, each read with whether it fits its tag.
    pub(super) fn rows<T>(
        &mut self,
        table: &str,
        rest: &str,
        read: impl Fn(&StoredRow<'_>, bool) -> Read<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.database.prepare(&format!("SELECT * FROM {table} {rest}"))?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut check = self.tags.map(|tags| tags.check(table, &statement)).transpose()?;
        let mut found = statement.query([])?;
        let (mut values, mut first, mut more) = (Vec::new(), None, 0);
        while let Some(row) = found.next()? {
            let is_intact = check.as_mut().map_or(Ok(true), |check| check.is_intact(row))?;
            match read(&StoredRow { row, names: &names, next: Cell::new(0) }, is_intact) {
                Ok(value) => values.push(value),
                // the table is at fault, not this row
                Err(RowError::Column(error @ rusqlite::Error::InvalidColumnName(_))) => return Err(error),
                Err(error) if first.is_none() => first = Some(error),
                Err(_) => more += 1,
            }
        }
        if let Some(error) = first {
            self.warnings.push(skipped(row_name(table), &error, more));
        }
        Ok(values)
    }
}

/// A row, and the names of its columns: SQLite would be asked for each of them for each value.
pub(super) struct StoredRow<'a> {
    row: &'a Row<'a>,
    names: &'a [String],
    /// The column after the last one that was read: most are read in their order.
    next: Cell<usize>,
}

impl StoredRow<'_> {
    pub(super) fn get<T: FromSql>(&self, name: &str) -> rusqlite::Result<T> {
        let is_next = self.names.get(self.next.get()).is_some_and(|column| column == name);
        let place = if is_next { Some(self.next.get()) } else { self.names.iter().position(|column| column == name) };
        let place = place.ok_or_else(|| rusqlite::Error::InvalidColumnName(name.to_owned()))?;
        self.next.set(place + 1);
        self.row.get(place)
    }
}

pub(super) fn text(row: &StoredRow<'_>, column: &str) -> Read<String> {
    Ok(row.get(column)?)
}

pub(super) fn id(row: &StoredRow<'_>, column: &str) -> Read<AccountId> {
    let text = text(row, column)?;
    Ok(text.parse().map_err(|_| UnknownText::new("account id", &text))?)
}

pub(super) fn number(row: &StoredRow<'_>, column: &'static str) -> Read<u64> {
    optional_number(row, column)?.ok_or(RowError::Range(column))
}

pub(super) fn optional_number(row: &StoredRow<'_>, column: &'static str) -> Read<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|value| u64::try_from(value).map_err(|_| RowError::Range(column))).transpose()
}
