//! The database in which opencode 2 keeps its logins: opened read-only, and never modified.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Map, Value, json};

use super::super::{FileContent, FileFormat, MOST_ENTRIES, ParsedFile, tools, wipe};
use super::paths::DATABASE;
use crate::pool::Wall;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long to wait while opencode has it locked.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest value that is read, in bytes.
const LONGEST: usize = 256 * 1024;

/// Whether a file is a database.
pub(super) fn is_database(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file());
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// Why the `auth.json` at `path` is no longer read: opencode keeps its logins in a database beside it.
pub(super) fn replaces(path: &Path) -> Option<String> {
    let database = path.with_file_name(DATABASE);
    if path.file_name()? != "auth.json" || !is_database(&database) {
        return None;
    }
    let place = database.display();
    match open(&database).and_then(|connection| connection.table_exists(None, "credential")) {
        Ok(false) => None,
        Ok(true) => Some(format!("opencode 2 keeps its logins in {place}; this file is out of date and is left out")),
        Err(error) => Some(format!(
            "this file is left out: opencode 2 may keep its logins in {place}, which cannot be read: {}",
            in_words(&error)
        )),
    }
}

/// Reads the logins in a database.
pub(super) fn read(path: &Path, now: Wall) -> io::Result<(FileFormat, ParsedFile)> {
    let mut document = rows(path).map_err(|error| io::Error::other(in_words(&error)))?;
    let content = FileContent { bytes: &[], beside: None, written: None, now };
    let parsed = tools::read(FileFormat::OpencodeDatabase, &document, None, &content);
    wipe(&mut document);
    Ok((FileFormat::OpencodeDatabase, parsed))
}

/// The rows by their ids, as a document.
fn rows(path: &Path) -> rusqlite::Result<Value> {
    let connection = open(path)?;
    let mut document = Map::new();
    // earlier versions of opencode keep their sessions here, but no logins
    if !connection.table_exists(None, "credential")? {
        return Ok(Value::Object(document));
    }
    let mut query = connection.prepare(
        "SELECT id, integration_id, label, value, time_updated FROM credential ORDER BY time_created, id LIMIT ?1",
    )?;
    let mut rows = query.query([i64::try_from(MOST_ENTRIES).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let (id, value): (String, String) = (row.get(0)?, row.get(3)?);
        let value = Some(value).filter(|value| value.len() <= LONGEST);
        let value: Value = value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default();
        let (integration, label): (String, String) = (row.get(1)?, row.get(2)?);
        let updated: i64 = row.get(4)?;
        document.insert(id, json!({ "integration": integration, "label": label, "value": value, "updated": updated }));
    }
    Ok(Value::Object(document))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let is_used = |suffix| std::fs::metadata(with_suffix(path, suffix)).is_ok_and(|about| about.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if is_used("-wal") || is_used("-journal") {
        // its latest changes are in a file beside it, which is read too
        Connection::open_with_flags(path, flags)?
    } else {
        // without changes beside it nothing needs to be locked, and no file is created
        let address = format!("{}?immutable=1", address(path));
        Connection::open_with_flags(address, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// The files that are read with the database.
pub(super) fn files(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix))
}

/// A path as an address for SQLite.
fn address(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    url::Url::from_file_path(&absolute).map_or_else(|()| format!("file:{}", absolute.display()), Into::into)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// An error of the database, for people. SQLite's messages quote names of tables and columns, and no values.
fn in_words(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "opencode has it locked at the moment; try again".to_owned()
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!("it is damaged: {error}"),
        Some(ErrorCode::Unknown) | None => {
            format!(
                "its table `credential` has a form that this version of lessor does not know ({error}); update lessor"
            )
        }
        Some(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::paths::log_of;
    use super::*;
    use crate::credential::import::DiscoveredAccount;
    use crate::pool::CredentialKind;

    const TABLE: &str = "CREATE TABLE credential (id TEXT PRIMARY KEY, integration_id TEXT NOT NULL, label TEXT NOT NULL, \
        value TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL)";

    struct Place {
        _directory: tempfile::TempDir,
        database: PathBuf,
    }

    fn place(statements: &[&str]) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join(DATABASE);
        let connection = Connection::open(&database).unwrap();
        for statement in statements {
            connection.execute_batch(statement).unwrap();
        }
        Place { _directory: directory, database }
    }

    fn insert(id: &str, integration: &str, label: &str, value: &Value) -> String {
        format!("INSERT INTO credential VALUES ('{id}', '{integration}', '{label}', '{value}', 1, 1790000000000)")
    }

    fn entries(database: &Path) -> Vec<DiscoveredAccount> {
        read(database, Wall(1)).unwrap().1.entries
    }

    #[test]
    fn logins_and_keys_are_read_and_nothing_is_written() {
        let login = json!({ "type": "oauth", "methodID": "chatgpt-browser", "refresh": "rt-FAKE", "access": "at-FAKE",
            "expires": 4_102_444_800_000_u64, "metadata": { "accountID": "acc-9" } });
        let key = json!({ "type": "key", "key": "sk-ant-api03-FAKE" });
        let place = place(&[
            TABLE,
            &insert("c1", "openai", "default", &login),
            &insert("c2", "anthropic", "work", &key),
            &insert("c3", "github-copilot", "default", &login),
            &insert("c4", "openai", "default", &json!("no object")),
        ]);
        let before = std::fs::read(&place.database).unwrap();
        let (format, parsed) = read(&place.database, Wall(1)).unwrap();
        assert_eq!(format, FileFormat::OpencodeDatabase);
        let [login, key] = &parsed.entries[..] else { panic!("{parsed:?}") };
        assert_eq!((login.item.as_str(), login.provider.as_str(), login.label.as_deref()), ("c1", "openai", None));
        assert_eq!((login.owner.organization.as_deref(), login.rotates), (Some("acc-9"), true));
        assert_eq!(
            (login.credential.expires_at, login.as_of),
            (Some(Wall(4_102_444_800_000)), Some(Wall(1_790_000_000_000)))
        );
        assert_eq!((key.credential.kind, key.label.as_deref()), (CredentialKind::ApiKey, Some("work")));
        assert_eq!(parsed.problems.len(), 2, "{:?}", parsed.problems);
        assert_eq!(std::fs::read(&place.database).unwrap(), before);
        let files = std::fs::read_dir(place.database.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "no other file is created");
    }

    #[test]
    fn changes_in_the_log_are_seen_while_opencode_runs() {
        let place = place(&[TABLE]);
        let opencode = Connection::open(&place.database).unwrap();
        opencode.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        let key = json!({ "type": "key", "key": "sk-FAKE" });
        opencode.execute_batch(&insert("c1", "openai", "default", &key)).unwrap();
        assert!(std::fs::metadata(log_of(&place.database)).unwrap().len() > 0);
        assert_eq!(entries(&place.database).len(), 1);
        // also while a change is being made
        opencode.execute_batch("BEGIN IMMEDIATE; DELETE FROM credential").unwrap();
        assert_eq!(entries(&place.database).len(), 1);
        opencode.execute_batch("COMMIT").unwrap();
        assert_eq!(entries(&place.database).len(), 0);
    }

    #[test]
    fn a_file_that_the_database_has_replaced_is_named() {
        let place = place(&[TABLE]);
        let file = place.database.with_file_name("auth.json");
        assert!(replaces(&file).unwrap().contains("opencode.db"));
        assert_eq!(replaces(&place.database.with_file_name("other.json")), None);
        let earlier = self::place(&["CREATE TABLE session (id TEXT)"]);
        assert_eq!(replaces(&earlier.database.with_file_name("auth.json")), None, "version 1 keeps its sessions there");
        assert_eq!(entries(&earlier.database).len(), 0);
    }

    #[test]
    fn an_unknown_form_and_damage_are_explained() {
        let newer = place(&["CREATE TABLE credential (id TEXT PRIMARY KEY, sealed BLOB)"]);
        let why = read(&newer.database, Wall(1)).unwrap_err().to_string();
        assert!(why.contains("update lessor"), "{why}");
        let damaged = place(&[TABLE]);
        let mut bytes = std::fs::read(&damaged.database).unwrap();
        bytes[100..200].fill(0xff);
        std::fs::write(&damaged.database, &bytes).unwrap();
        let why = read(&damaged.database, Wall(1)).unwrap_err().to_string();
        assert!(why.contains("damaged"), "{why}");
        assert!(replaces(&damaged.database.with_file_name("auth.json")).unwrap().contains("cannot be read"));
        let locked = place(&[TABLE]);
        let opencode = Connection::open(&locked.database).unwrap();
        opencode
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = PERSIST; BEGIN EXCLUSIVE; \
            CREATE TABLE t (x); INSERT INTO credential VALUES ('a','b','c','d',1,1)",
            )
            .unwrap();
        let why = read(&locked.database, Wall(1)).unwrap_err().to_string();
        assert!(why.contains("locked"), "{why}");
    }
}
