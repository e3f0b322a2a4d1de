//! Copies of the database, and putting them in its place.

use zeroize::Zeroizing;

use super::damage::filled;
use super::*;

fn accounts(home: &Home) -> usize {
    let opened = home.open();
    let known: Vec<_> = opened.loaded.credentials.iter().map(|(id, _)| *id).collect();
    assert!(opened.loaded.snapshot.accounts.iter().all(|account| account.enabled && known.contains(&account.id)));
    opened.loaded.snapshot.accounts.len()
}

#[test]
fn a_backup_of_a_database_in_use_has_everything_that_was_saved() {
    let home = Home::new();
    let store = home.open().store;
    for n in 1..=40 {
        store.done(account(n, &format!("secret-{n}"))).unwrap();
        store.write(Write::SaveLease(lease(n, n).into()), None);
        if n % 8 == 0 {
            let to = home.directory.path().join(format!("backup-{n}"));
            let made = back_up(&home.paths, &to, false).unwrap();
            assert_eq!((made.accounts as u64, made.warnings.len()), (n, 0));
            let other = Home::new();
            std::fs::copy(&home.paths.key, &other.paths.key).unwrap();
            let restored = restore(&other.paths, &to, None, false).unwrap();
            assert_eq!((restored.backup.accounts as u64, restored.set_aside), (n, None));
            assert_eq!(accounts(&other) as u64, n);
        }
    }
}

#[test]
fn backups_made_during_writes_are_whole() {
    let home = Home::new();
    let writer = home.open().store;
    writer.done(account(1, "secret")).unwrap();
    let (stop, stopped) = channel::<()>();
    let writing = thread::spawn(move || {
        let mut n = 0;
        while stopped.try_recv().is_err() {
            n += 1;
            writer.done(Write::SaveSession(session(&(n % 50).to_string(), 1, n))).unwrap();
            writer.done(Write::SaveLimit(limit(1, "claude", n))).unwrap();
        }
    });
    let to = home.directory.path().join("backup");
    for _ in 0..20 {
        match back_up(&home.paths, &to, true) {
            Ok(made) => assert_eq!((made.accounts, made.warnings), (1, Vec::new())),
            Err(error) => assert!(matches!(error, StoreError::Changing { .. }), "{error}"),
        }
    }
    stop.send(()).unwrap();
    writing.join().unwrap();
}

#[test]
fn a_backup_is_private_replaces_nothing_and_reveals_no_secret() {
    let home = filled();
    let to = home.directory.path().join("backup");
    back_up(&home.paths, &to, false).unwrap();
    let names = || {
        std::fs::read_dir(home.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 3, "no other file is left: {:?}", names());
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&to).unwrap()) & 0o777, 0o600);
    let bytes = std::fs::read(&to).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"secret-"));
    assert!(matches!(back_up(&home.paths, &to, false), Err(StoreError::Exists { .. })));
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
    back_up(&home.paths, &to, true).unwrap();
    let key = home.directory.path().join("copy of the key");
    copy_key(&home.paths, &key).unwrap();
    assert_eq!(std::fs::read(&key).unwrap(), std::fs::read(&home.paths.key).unwrap());
    assert!(matches!(copy_key(&home.paths, &key), Err(StoreError::Exists { .. })));
}

#[test]
fn a_restore_replaces_accounts_only_when_that_is_said_and_sets_them_aside() {
    let home = filled();
    let to = home.directory.path().join("backup");
    back_up(&home.paths, &to, false).unwrap();
    let store = home.open().store;
    store.done(account(9, "later")).unwrap();
    store.close(true);
    let before = std::fs::read(&home.paths.database).unwrap();
    let error = restore(&home.paths, &to, None, false).unwrap_err();
    assert!(error.to_string().contains("has accounts (4)"), "{error}");
    assert_eq!(std::fs::read(&home.paths.database).unwrap(), before);
    let restored = restore(&home.paths, &to, None, true).unwrap();
    assert_eq!((restored.backup.accounts, restored.ended_leases), (3, 2));
    let aside = restored.set_aside.unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), before);
    let OpenedStore { store, loaded } = home.open();
    assert_eq!((loaded.snapshot.accounts.len(), loaded.snapshot.leases.len()), (3, 0));
    assert_eq!(loaded.clients, [client("mine"), client("other")]);
    assert!(loaded.fence >= Fence(65), "{:?}", loaded.fence);
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.contains("restored from a backup") && warning.contains("lessor login"), "{warning}");
    store.close(true);
    // and back
    restore(&home.paths, &aside, None, true).unwrap();
    assert_eq!(accounts(&home), 4);
}

#[test]
fn a_restore_with_another_key_keeps_the_present_one() {
    let (home, other) = (filled(), filled());
    let to = home.directory.path().join("backup");
    back_up(&home.paths, &to, false).unwrap();
    let files = |home: &Home| {
        let entries = std::fs::read_dir(home.directory.path()).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect::<Vec<_>>()
    };
    let before = files(&other);
    let error = restore(&other.paths, &to, None, true).unwrap_err();
    assert!(matches!(error, StoreError::KeyOfBackup { .. }), "{error}");
    let wrong = Zeroizing::new("1".repeat(64).into_bytes());
    assert!(restore(&other.paths, &to, Some(wrong), true).is_err());
    assert_eq!(files(&other), before);
    let present = std::fs::read(&other.paths.key).unwrap();
    let key = Zeroizing::new(std::fs::read(&home.paths.key).unwrap());
    let restored = restore(&other.paths, &to, Some(key.clone()), true).unwrap();
    assert_eq!(accounts(&other), 3);
    assert_eq!(std::fs::read(file::beside(&other.paths.key, ".old1")).unwrap(), present);
    assert!(restored.set_aside.unwrap().exists());
    // on a machine without lessor
    let fresh = Home::new();
    assert!(restore(&fresh.paths, &to, None, false).is_err());
    let digits = Zeroizing::new(key[13..].to_vec());
    restore(&fresh.paths, &to, Some(digits), false).unwrap();
    assert_eq!(accounts(&fresh), 3);
}

#[test]
fn what_is_no_backup_is_refused() {
    let home = filled();
    let file = home.directory.path().join("file");
    let before = std::fs::read(&home.paths.database).unwrap();
    let mut damaged = before.clone();
    damaged[5000..9000].fill(7);
    for bytes in [&b"x"[..], &[b'x'; 5000], &before[..before.len() / 2], &damaged] {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&home.paths, &file, None, true).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} cannot be restored: it is", file.display())), "{error}");
    }
    let missing = restore(&home.paths, &home.directory.path().join("none"), None, true).unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
    assert_eq!(std::fs::read(&home.paths.database).unwrap(), before);
    assert!(back_up(&Home::new().paths, &file, true).is_err());
    std::fs::write(&home.paths.database, damaged).unwrap();
    let error = back_up(&home.paths, &home.directory.path().join("backup"), false).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is damaged", home.paths.database.display())), "{error}");
}
