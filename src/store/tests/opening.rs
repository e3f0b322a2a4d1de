//! Which files are opened, which are refused, and that a refusal changes nothing.

#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

/// A closed store with one login.
fn used() -> Home {
    let (home, store) = Home::with_store();
    store.write(account(1, "kept"), None);
    store.close(true);
    home
}

/// The command that moves a file.
const MOVE: &str = if cfg!(windows) { "move \"" } else { "mv " };

/// Writes `bytes` to the database's path: opening it must fail with these words and leave the file unchanged.
fn refused(bytes: &[u8], words: &[&str]) {
    let home = used();
    std::fs::write(&home.paths.database, bytes).unwrap();
    let error = home.refusal();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(error.contains(home.paths.database.to_str().unwrap()));
    assert_eq!(std::fs::read(&home.paths.database).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(home.directory.path()).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn files_are_readable_by_their_owner_only() {
    let home = Home::new();
    let opened = home.open();
    opened.store.done(account(1, "a")).unwrap();
    let log = file::beside(&home.paths.database, "-wal");
    for path in [&home.paths.database, &home.paths.key, &log] {
        assert_eq!(mode(path), 0o600, "{path:?}");
    }
    assert!(opened.loaded.clean && opened.loaded.warnings.is_empty() && opened.loaded.fence == Fence(1));
    drop(opened);
    for path in [&home.paths.database, &home.paths.key] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let warnings = home.open().loaded.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("open to other users")));
    assert_eq!((mode(&home.paths.database), mode(&home.paths.key)), (0o600, 0o600));
}

#[test]
fn damaged_databases_are_refused_and_stay() {
    let whole = std::fs::read(used().paths.database).unwrap();
    refused(b"", &["is damaged", "empty", "nothing was changed", MOVE, ".damaged"]);
    refused(&whole[..50], &["is damaged", "too short"]);
    refused(&[b'x'; 5000], &["is damaged", "not a database"]);
    refused(&whole[..whole.len() / 2], &["is damaged"]);
    let mut scribbled = whole;
    let middle = scribbled.len() / 2;
    scribbled[middle..].fill(0xa5);
    refused(&scribbled, &["is damaged"]);
}

#[test]
fn a_gigabyte_is_refused_without_reading_it() {
    let whole = std::fs::read(used().paths.database).unwrap();
    for (begin, words) in [(&b"garbage"[..], "not a database"), (&whole[..100], "far more")] {
        let home = used();
        std::fs::write(&home.paths.database, begin).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&home.paths.database).unwrap();
        file.set_len(1 << 30).unwrap();
        let before = std::time::Instant::now();
        assert!(home.refusal().contains(words));
        assert!(before.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn foreign_and_newer_databases_are_refused_and_stay() {
    let home = used();
    std::fs::remove_file(&home.paths.database).unwrap();
    home.raw().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = home.refusal();
    assert!(error.contains("another program"), "{error}");

    let home = used();
    home.raw().execute_batch("PRAGMA user_version = 99").unwrap();
    let before = std::fs::read(&home.paths.database).unwrap();
    let error = home.refusal();
    let known = schema::known(schema::STEPS);
    assert!(error.contains(&format!("newer lessor (schema 99; this one knows up to {known})")), "{error}");
    assert_eq!(std::fs::read(&home.paths.database).unwrap(), before);

    let home = used();
    home.raw().execute_batch("DROP TABLE limits").unwrap();
    assert!(home.refusal().contains("is damaged"));
}

#[test]
fn a_refusal_keeps_the_log() {
    let (home, store) = Home::with_store();
    store.done(account(1, "only in the log")).unwrap();
    let crashed = home.crashed();
    let files = |home: &Home| {
        let log = std::fs::read(file::beside(&home.paths.database, "-wal")).unwrap();
        (std::fs::read(&home.paths.database).unwrap(), log)
    };
    std::fs::write(&crashed.paths.key, format!("lessor-key-1 {}\n", "0".repeat(64))).unwrap();
    let before = files(&crashed);
    assert!(crashed.refusal().contains("does not fit"));
    assert_eq!(files(&crashed), before);
}

#[cfg(unix)]
#[test]
fn only_regular_files_of_the_user_are_opened() {
    let home = used();
    let real = home.directory.path().join("real");
    std::fs::rename(&home.paths.database, &real).unwrap();
    symlink(&real, &home.paths.database).unwrap();
    assert!(home.refusal().contains("is a symbolic link"));
    std::fs::remove_file(&home.paths.database).unwrap();
    std::fs::create_dir(&home.paths.database).unwrap();
    assert!(home.refusal().contains("is a directory"));
    std::fs::remove_dir(&home.paths.database).unwrap();
    for path in [&home.paths.database, &home.paths.key] {
        _ = std::fs::remove_file(path);
        // rustix cannot create one on every system
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        assert!(home.refusal().contains("a pipe"));
        std::fs::remove_file(path).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        let home = used();
        std::os::unix::fs::chown(&home.paths.database, Some(12_345), None).unwrap();
        let error = home.refusal();
        assert!(error.contains("belongs to user 12345") && error.contains("chown 0"), "{error}");
    }
}

#[test]
fn a_missing_or_wrong_key_is_never_replaced() {
    let home = used();
    let key = std::fs::read(&home.paths.key).unwrap();
    std::fs::remove_file(&home.paths.key).unwrap();
    let error = home.refusal();
    assert!(error.contains("is missing") && error.contains(MOVE), "{error}");
    assert!(!home.paths.key.exists());
    std::fs::write(&home.paths.key, std::fs::read(used().paths.key).unwrap()).unwrap();
    assert!(home.refusal().contains("does not fit"));
    std::fs::write(&home.paths.key, "lessor-key-1 beef").unwrap();
    let error = home.refusal();
    assert!(error.contains("damaged") && !error.contains("beef"), "{error}");
    std::fs::write(&home.paths.key, key).unwrap();
    assert_eq!(home.open().loaded.credentials.len(), 1);
}

#[test]
fn the_remedy_works_with_a_leftover_log() {
    let (home, store) = Home::with_store();
    store.done(account(1, "old")).unwrap();
    let crashed = home.crashed();
    std::fs::rename(&crashed.paths.database, file::beside(&crashed.paths.database, ".damaged")).unwrap();
    let loaded = crashed.open().loaded;
    assert_eq!(loaded.snapshot, Snapshot::default());
    assert!(loaded.warnings[1].contains("-wal.old1"), "{:?}", loaded.warnings);
    assert!(file::beside(&crashed.paths.database, "-wal.old1").exists());
}

#[test]
fn an_interrupted_start_is_repeated() {
    let home = Home::new();
    std::fs::write(file::beside(&home.paths.database, ".new"), "half").unwrap();
    std::fs::write(file::beside(&home.paths.key, ".new"), "half").unwrap();
    assert!(home.open().loaded.warnings.is_empty());
    assert!(!file::beside(&home.paths.database, ".new").exists());
}

#[test]
fn two_stores_at_once_are_refused() {
    let home = Home::new();
    let first = home.open();
    first.store.done(account(1, "a")).unwrap();
    assert!(home.refusal().contains("in use by another program"));
}

#[test]
fn rows_of_a_newer_version_are_skipped_and_stay() {
    let home = used();
    let store = home.open().store;
    for write in [account(2, "b"), Write::SaveLimit(limit(1, "a", 5)), Write::SaveLease(lease(1, 1).into())] {
        store.write(write, None);
    }
    for n in 0..3 {
        store.write(Write::SaveLimit(limit(1, &n.to_string(), 5)), None);
    }
    let change = "UPDATE limits SET reason = 'phase_of_the_moon' WHERE key <> 'a'; UPDATE lease SET bind = 'star'; \
                  UPDATE account SET tier = 'galactic' WHERE email = '2@example.org'; \
                  INSERT INTO session VALUES ('anthropic', 'future', 'not an id', 1, NULL); \
                  UPDATE credential SET sealed = (SELECT sealed FROM credential ORDER BY account DESC LIMIT 1)";
    store.done(Write::LastUsed(Vec::new())).unwrap();
    store.touch(move |database| database.execute_batch(change).unwrap());
    store.close(true);
    let opened = home.open();
    let snapshot = &opened.loaded.snapshot;
    assert_eq!((&snapshot.accounts[..], &snapshot.limits[..]), (&[record(1)][..], &[limit(1, "a", 5)][..]));
    assert_eq!((snapshot.leases.len(), opened.loaded.credentials.len()), (0, 0));
    let all = opened.loaded.warnings.join("\n");
    for word in ["phase_of_the_moon", "and 2 more", "star", "galactic", "not an id", "log in to that account again"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    assert_eq!(opened.loaded.fence, Fence(2));
    drop(opened);
    let kept: i64 = home.raw().query_row("SELECT count(*) FROM account", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 2);
}
