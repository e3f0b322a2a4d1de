//! Tags of rows. Each row has a code that is made with the key, over the table's name, the columns' names and the
//! values. A row that a disk has damaged, or that another program has changed, does not fit its tag. That a row is
//! missing, or has been replaced by an earlier version of itself, is not detected.
//!
//! Triggers of the connection renew the tags, so that every write does, however it is written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::hmac;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, ffi};

use crate::store::key::seal::SealKey;

/// What happens to a row that does not fit its tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum OnDamage {
    /// It is removed at the next start that can write, and a warning says so.
    Drop,
    /// It stays until it is replaced; how it is read is decided in `load`.
    Keep,
}

/// The tables whose rows have tags.
pub(in crate::store) const TABLES: &[(&str, OnDamage)] = &[
    ("meta", OnDamage::Drop),
    ("account", OnDamage::Keep),
    ("credential", OnDamage::Keep),
    ("former_credential", OnDamage::Keep),
    ("link", OnDamage::Keep),
    ("lease", OnDamage::Drop),
    ("moved_lease", OnDamage::Drop),
    ("session", OnDamage::Drop),
    ("limits", OnDamage::Drop),
    ("usage", OnDamage::Drop),
    ("fingerprint", OnDamage::Drop),
    // it may revoke a key that an earlier version made
    ("gateway_key", OnDamage::Keep),
    ("oauth_client", OnDamage::Drop),
    // the only copy of the host's keys; the seal shows whether it is whole
    ("pool_membership", OnDamage::Keep),
    // a daemon that has lost it begins a new term
    ("pool_term", OnDamage::Drop),
    // without it, the account would be taken for one that no other machine uses
    ("shared_account", OnDamage::Keep),
    // without it, the pool would keep a refresh token that is void
    ("pool_answer", OnDamage::Keep),
];

/// The column of the tag.
const TAG: &str = "tag";
/// The length of a tag, in bytes.
const LENGTH: usize = 16;

/// Makes the tags. Clones share the key.
#[derive(Clone)]
pub(in crate::store) struct RowTags(Arc<Mutex<hmac::Key>>);

impl RowTags {
    pub(in crate::store) fn new(key: &SealKey) -> rusqlite::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(hmac_key(key)?))))
    }

    /// Defines `row_tag` on this connection, for statements that write.
    pub(in crate::store) fn define(&self, database: &Connection) -> rusqlite::Result<()> {
        let tags = self.clone();
        // a database with triggers or views of its own is refused, so that nothing in it can call this
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        database
            .create_scalar_function("row_tag", -1, flags, move |values| Ok(tag_of_call(&tags.key(), values).to_vec()))
    }

    /// Checks the rows of this statement, which reads all columns of the table.
    pub(in crate::store) fn check(&self, table: &str, statement: &Statement<'_>) -> rusqlite::Result<RowCheck> {
        // a table that has lost it is refused, unlike a row
        statement.column_index(TAG)?;
        Ok(RowCheck::new(self.key().clone(), table, statement))
    }

    /// Makes tags with this key from now on.
    pub(in crate::store) fn set_key(&self, key: &SealKey) -> rusqlite::Result<()> {
        *self.key() = hmac_key(key)?;
        Ok(())
    }

    fn key(&self) -> MutexGuard<'_, hmac::Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hmac_key(key: &SealKey) -> rusqlite::Result<hmac::Key> {
    let bytes = key.row_tags().map_err(|why| rusqlite::Error::UserFunctionError(why.into()))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &*bytes))
}

/// The tag of a table's name and pairs of a column's name and its value. A column without a value is left out, so that
/// a column that a later schema adds changes no tag.
fn tag_of_call(key: &hmac::Key, values: &Context<'_>) -> [u8; LENGTH] {
    // as one text: the code of many pieces would take longer
    let mut code = Vec::with_capacity(USUAL_ROW);
    add(&mut code, values.get_raw(0));
    for place in (1..values.len()).step_by(2) {
        if values.get_raw(place + 1) != ValueRef::Null {
            add(&mut code, values.get_raw(place));
            add(&mut code, values.get_raw(place + 1));
        }
    }
    tag_of_code(key, &code)
}

fn tag_of_code(key: &hmac::Key, code: &[u8]) -> [u8; LENGTH] {
    let mut tag = [0; LENGTH];
    tag.copy_from_slice(&hmac::sign(key, code).as_ref()[..LENGTH]);
    tag
}

/// Checks rows while they are read. That SQLite calls `row_tag` for each row instead, with all of its columns, takes
/// several times as long, of which most is for preparing the statement.
pub(in crate::store) struct RowCheck {
    key: hmac::Key,
    /// The table's name, as the code begins with it.
    table: Vec<u8>,
    /// The names of the columns, as they stand in the code; none for the tag.
    columns: Vec<Option<Vec<u8>>>,
    code: Vec<u8>,
}

impl RowCheck {
    fn new(key: hmac::Key, table: &str, statement: &Statement<'_>) -> Self {
        let encoded = |name: &str| {
            let mut bytes = Vec::with_capacity(32);
            add(&mut bytes, ValueRef::Text(name.as_bytes()));
            bytes
        };
        let columns = statement.column_names().map(|name| (name != TAG).then(|| encoded(name))).collect();
        Self { key, table: encoded(table), columns, code: Vec::with_capacity(USUAL_ROW) }
    }

    /// Whether a row fits its tag.
    pub(in crate::store) fn is_intact(&mut self, row: &Row<'_>) -> rusqlite::Result<bool> {
        self.code.clear();
        self.code.extend_from_slice(&self.table);
        let mut tag = ValueRef::Null;
        for (place, column) in self.columns.iter().enumerate() {
            match (column, row.get_ref(place)?) {
                (None, stored) => tag = stored,
                (Some(_), ValueRef::Null) => {}
                (Some(name), value) => {
                    self.code.extend_from_slice(name);
                    add(&mut self.code, value);
                }
            }
        }
        Ok(tag == ValueRef::Blob(&tag_of_code(&self.key, &self.code)))
    }
}

/// The bytes of most rows.
const USUAL_ROW: usize = 1024;

/// Adds a value with its type and length, so that different rows never give the same bytes.
fn add(code: &mut Vec<u8>, value: ValueRef<'_>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_be_bytes()),
        ValueRef::Real(number) => (2, &number.to_bits().to_be_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    code.push(kind);
    code.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    code.extend_from_slice(bytes);
}

/// A table's columns without the tag, and which of them are its primary key.
struct Columns {
    all: Vec<String>,
    primary: Vec<String>,
}

impl Columns {
    fn of(database: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut statement =
            database.prepare_cached("SELECT name, pk FROM pragma_table_info(?1) WHERE name <> 'tag'")?;
        let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(String, i64)> = rows.collect::<rusqlite::Result<_>>()?;
        if rows.is_empty() {
            let no_table = ffi::Error::new(ffi::SQLITE_ERROR);
            return Err(rusqlite::Error::SqliteFailure(no_table, Some(format!("no such table: {table}"))));
        }
        let primary = rows.iter().filter(|(_, place)| *place > 0).map(|(name, _)| name.clone()).collect();
        Ok(Self { all: rows.into_iter().map(|(name, _)| name).collect(), primary })
    }

    /// The call that makes the tag of a row; `row` is empty, `NEW.` or `OLD.`.
    fn call(&self, table: &str, row: &str) -> String {
        let pairs: Vec<String> = self.all.iter().map(|name| format!("'{name}', {row}\"{name}\"")).collect();
        format!("row_tag('{table}', {})", pairs.join(", "))
    }
}

/// An expression: whether a row of this table fits its tag.
pub(in crate::store) fn is_intact(database: &Connection, table: &str) -> rusqlite::Result<String> {
    Ok(format!("(tag IS {})", Columns::of(database, table)?.call(table, "")))
}

/// Keeps the tags up to date from now on. A row that does not fit its tag gets a new one only when all of it is
/// replaced, which `tag = NULL` says: a change of one column must not hide the damage of another.
pub(in crate::store) fn renew_with_writes(database: &Connection) -> rusqlite::Result<()> {
    for (table, _) in TABLES {
        let columns = Columns::of(database, table)?;
        let same_row: Vec<String> = columns.primary.iter().map(|name| format!("\"{name}\" = NEW.\"{name}\"")).collect();
        let renew = format!(
            "BEGIN UPDATE {table} SET tag = {} WHERE {}; END",
            columns.call(table, "NEW."),
            same_row.join(" AND ")
        );
        let list: Vec<String> = columns.all.iter().map(|name| format!("\"{name}\"")).collect();
        let (list, old) = (list.join(", "), columns.call(table, "OLD."));
        database.execute_batch(&format!(
            "CREATE TEMP TRIGGER IF NOT EXISTS tag_new_{table} AFTER INSERT ON main.{table} {renew}; \
             CREATE TEMP TRIGGER IF NOT EXISTS tag_changed_{table} AFTER UPDATE OF {list} ON main.{table} \
             WHEN NEW.tag IS NULL OR OLD.tag IS {old} {renew};"
        ))?;
    }
    Ok(())
}

/// Tags every row, when the tables have just got their tags. Tables of later schemas do not exist yet.
pub(in crate::store) fn tag_all(database: &Connection) -> rusqlite::Result<()> {
    for (table, _) in TABLES {
        if !database.table_exists(None, *table)? {
            continue;
        }
        let call = Columns::of(database, table)?.call(table, "");
        database.execute(&format!("UPDATE {table} SET tag = {call}"), [])?;
    }
    Ok(())
}

/// Tags every row again with another key. A row that did not fit its tag gets none.
pub(in crate::store) fn tag_again(database: &Connection, tags: &RowTags, new: &SealKey) -> rusqlite::Result<()> {
    for (table, _) in TABLES {
        let intact = is_intact(database, table)?;
        database.execute(&format!("UPDATE {table} SET tag = NULL WHERE NOT {intact}"), [])?;
    }
    tags.set_key(new)?;
    for (table, _) in TABLES {
        let call = Columns::of(database, table)?.call(table, "");
        database.execute(&format!("UPDATE {table} SET tag = {call} WHERE tag IS NOT NULL"), [])?;
    }
    Ok(())
}

/// Removes the damaged rows of the tables that are not read then.
pub(in crate::store) fn drop_damaged(database: &Connection) -> rusqlite::Result<()> {
    for (table, _) in TABLES.iter().filter(|(_, on_damage)| *on_damage == OnDamage::Drop) {
        let intact = is_intact(database, table)?;
        database.execute(&format!("DELETE FROM {table} WHERE NOT {intact}"), [])?;
    }
    Ok(())
}

/// Whether any value of `meta` was tagged with this key.
pub(in crate::store) fn any_fits(database: &Connection, tags: &RowTags) -> rusqlite::Result<bool> {
    let mut statement = database.prepare("SELECT * FROM meta")?;
    let mut check = tags.check("meta", &statement)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if check.is_intact(row)? {
            return Ok(true);
        }
    }
    Ok(false)
}
