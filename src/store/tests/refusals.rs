//! Whatever the reason for a refusal, every file stays as it was.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::damage::filled;
use super::*;

/// The content of a file, when it was changed, its kind and mode.
type FileState = (Vec<u8>, SystemTime, String);

/// Names, contents, lengths, times and modes of all files of a directory, and the time of the directory itself.
fn state(home: &Home) -> (SystemTime, BTreeMap<String, FileState>) {
    let directory = home.directory.path();
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap).map(|entry| {
        let facts = std::fs::symlink_metadata(entry.path()).unwrap();
        let bytes = if facts.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        let kind = format!("{:?} {:?}", facts.permissions(), facts.file_type());
        (entry.file_name().into_string().unwrap(), (bytes, facts.modified().unwrap(), kind))
    });
    (std::fs::metadata(directory).unwrap().modified().unwrap(), entries.collect())
}

type Change = fn(&Home) -> Option<Connection>;

/// What is wrong, how it comes about, and a word of the refusal. A change may return what is to stay open.
const REFUSALS: &[(&str, Change, &str)] = &[
    (
        "the key is of another database",
        |home| done(std::fs::copy(&filled().paths.key, &home.paths.key)),
        "does not fit",
    ),
    ("the key is missing", |home| done(std::fs::remove_file(&home.paths.key)), "is missing"),
    ("the key file is no key", |home| done(std::fs::write(&home.paths.key, "x")), "damaged"),
    ("the next key is no key", |home| done(std::fs::write(home.paths.key.with_file_name("key.next"), "x")), "damaged"),
    ("another application", |home| sql(home, "PRAGMA application_id = 5"), "another program"),
    ("a newer schema", |home| sql(home, "PRAGMA user_version = 99"), "newer lessor"),
    ("no schema", |home| sql(home, "PRAGMA user_version = 0"), "does not exist"),
    ("an older schema that is not there", |home| sql(home, "PRAGMA user_version = 2"), "damaged"),
    ("a table is missing", |home| sql(home, "DROP TABLE limits"), "damaged"),
    ("a column is missing", |home| sql(home, "ALTER TABLE limits DROP COLUMN link"), "damaged"),
    ("a tag is missing", |home| sql(home, "ALTER TABLE limits DROP COLUMN tag"), "damaged"),
    ("a value is missing", |home| sql(home, "DELETE FROM meta WHERE name = 'boot_id'"), "damaged"),
    ("a trigger", |home| sql(home, "CREATE TRIGGER t AFTER UPDATE ON meta BEGIN SELECT 1; END"), "triggers"),
    ("empty", |home| done(std::fs::write(&home.paths.database, "")), "empty"),
    ("too short", |home| done(std::fs::write(&home.paths.database, "SQLite format 3\0")), "too short"),
    ("no database", |home| done(std::fs::write(&home.paths.database, [b'x'; 9000])), "not a database"),
    (
        "half a database",
        |home| {
            let bytes = std::fs::read(&home.paths.database).unwrap();
            done(std::fs::write(&home.paths.database, &bytes[..bytes.len() / 2]))
        },
        "damaged",
    ),
    (
        "a page of noise",
        |home| {
            let mut bytes = std::fs::read(&home.paths.database).unwrap();
            bytes[8192..12_288].fill(0xa5);
            done(std::fs::write(&home.paths.database, bytes))
        },
        "damaged",
    ),
    (
        "another program writes",
        |home| {
            let other = home.raw();
            other.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").unwrap();
            Some(other)
        },
        "in use by another program",
    ),
    (
        "another program has it open with its log",
        |home| {
            let other = home.raw();
            other
                .execute_batch(
                    "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE meta SET value = 5 WHERE name = 'x'",
                )
                .unwrap();
            Some(other)
        },
        "in use by another program",
    ),
    (
        "a directory in its place",
        |home| {
            std::fs::remove_file(&home.paths.database).unwrap();
            done(std::fs::create_dir(&home.paths.database))
        },
        "is a directory",
    ),
    (
        "a directory in the place of its log",
        |home| {
            let log = file::beside(&home.paths.database, "-wal");
            _ = std::fs::remove_file(&log);
            done(std::fs::create_dir(log))
        },
        "is a directory",
    ),
];

fn done<T>(result: std::io::Result<T>) -> Option<Connection> {
    result.unwrap();
    None
}

fn sql(home: &Home, change: &str) -> Option<Connection> {
    home.raw().execute_batch(change).unwrap();
    None
}

/// Lets others read the files.
#[cfg(unix)]
fn expose(home: &Home) {
    use std::os::unix::fs::PermissionsExt;
    for path in [&home.paths.database, &home.paths.key].into_iter().filter(|path| path.exists()) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The system's rights are those of the directory.
#[cfg(not(unix))]
fn expose(_home: &Home) {}

#[test]
fn a_refusal_changes_nothing() {
    for (what, change, word) in REFUSALS {
        // after a clean end, after a crash, and with files that others may read
        for (when, with_log, exposed) in [("ended", false, false), ("crashed", true, false), ("exposed", false, true)] {
            let home = filled();
            let store = with_log.then(|| home.open().store);
            let home = if with_log { home.crashed() } else { home };
            drop(store);
            let open = change(&home);
            if exposed {
                expose(&home);
            }
            let before = state(&home);
            let said = match Store::open(&home.paths, "boot-1") {
                Err(error) => error.to_string(),
                Ok(opened) => panic!("{what}, {when}: it is opened, with {:?}", opened.loaded.warnings),
            };
            assert!(said.contains(word), "{what}, {when}: {said}");
            assert!(state(&home) == before, "{what}, {when}: a file has changed");
            drop(open);
        }
    }
}
