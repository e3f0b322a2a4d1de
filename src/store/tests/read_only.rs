//! File systems that are read-only or small: mounted in a separate namespace. Where namespaces are not allowed, the
//! test says so and passes.

use std::process::Command;

use super::*;

/// Set when the test runs again inside the namespace.
const INSIDE: &str = "LESSOR_TEST_MOUNT";

/// Runs the test of this name again, in a mount namespace in which `shell` has prepared the directory `$d`.
fn in_namespace(test: &str, directory: &Path, shell: &str) {
    let allowed =
        |args: &[&str]| Command::new("unshare").args(args).arg("true").output().is_ok_and(|o| o.status.success());
    let Some(args) = [&["-m"][..], &["-rm"]].into_iter().find(|args| allowed(args)) else {
        eprintln!("not run: this machine allows no mount namespaces");
        return;
    };
    let script = format!("d=$0; set -e; {shell}; exec \"$@\"");
    let output = Command::new("unshare")
        .args(args)
        .args(["sh", "-c", &script])
        .arg(directory)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn inside() -> Option<StorePaths> {
    std::env::var_os(INSIDE).map(|directory| paths_in(Path::new(&directory)))
}

const READ_ONLY: &str = "mount --bind \"$d\" \"$d\"; mount -o remount,bind,ro \"$d\"";

fn serves_without_writing(paths: &StorePaths, clean: bool) {
    let OpenedStore { store, loaded } = Store::open(paths, "boot-1").unwrap();
    assert!(loaded.read_only && loaded.same_boot && loaded.clean == clean);
    assert_eq!(loaded.credentials, [(AccountId::from_bits(1), credential("kept"))]);
    assert_eq!(loaded.fence, Fence(11));
    assert!(loaded.warnings.iter().any(|warning| warning.contains("cannot be written")), "{:?}", loaded.warnings);
    assert_eq!(store.health(), StoreHealth::ReadOnly);
    let error = store.done(Write::DropLease(Fence(1))).unwrap_err();
    assert!(error.to_string().contains("read-only"));
    assert_eq!(store.close(true), StoreHealth::ReadOnly);
}

#[test]
fn a_read_only_disk_after_a_clean_end_is_readable() {
    if let Some(paths) = inside() {
        return serves_without_writing(&paths, true);
    }
    let (home, store) = Home::with_store();
    store.write(account(1, "kept"), None);
    store.write(Write::ReserveFences(Fence(10)), None);
    store.close(true);
    in_namespace(
        "store::tests::read_only::a_read_only_disk_after_a_clean_end_is_readable",
        home.directory.path(),
        READ_ONLY,
    );
}

#[test]
fn a_read_only_disk_after_a_crash_still_shows_the_log() {
    if let Some(paths) = inside() {
        return serves_without_writing(&paths, false);
    }
    let (home, store) = Home::with_store();
    store.write(account(1, "kept"), None);
    store.done(Write::ReserveFences(Fence(10))).unwrap();
    let crashed = home.crashed();
    let name = "store::tests::read_only::a_read_only_disk_after_a_crash_still_shows_the_log";
    in_namespace(name, crashed.directory.path(), READ_ONLY);
    // the log is still complete for the next start
    assert_eq!(crashed.open().loaded.credentials.len(), 1);
}

#[test]
fn no_database_is_created_on_a_read_only_disk() {
    if let Some(paths) = inside() {
        let error = Store::open(&paths, "boot-1").unwrap_err().to_string();
        return assert!(error.contains("cannot create") && error.contains("Read-only"), "{error}");
    }
    let home = Home::new();
    in_namespace(
        "store::tests::read_only::no_database_is_created_on_a_read_only_disk",
        home.directory.path(),
        READ_ONLY,
    );
}

#[test]
fn a_small_disk_fills_up_and_is_freed() {
    let Some(paths) = inside() else {
        let home = Home::new();
        let mount = "mount -t tmpfs -o size=512k,mode=700 none \"$d\"";
        return in_namespace(
            "store::tests::read_only::a_small_disk_fills_up_and_is_freed",
            home.directory.path(),
            mount,
        );
    };
    let ballast = paths.key.with_file_name("ballast");
    let store = Store::open(&paths, "boot-1").unwrap().store;
    store.done(account(1, "first")).unwrap();
    let filled = std::fs::write(&ballast, vec![0; 1 << 20]);
    assert!(filled.is_err());
    let mut kept = 0;
    let error = loop {
        match store.done(account(2, &"x".repeat(2000 + kept))) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000);
    };
    assert!(error.is_disk(), "{error}");
    assert!(matches!(store.health(), StoreHealth::Failing(_)));
    drop(store);
    // it still opens and reports the problem
    let OpenedStore { store, loaded } = Store::open(&paths, "boot-1").unwrap();
    assert!(loaded.credentials.contains(&(AccountId::from_bits(1), credential("first"))));
    assert!(store.done(account(3, &"x".repeat(9000))).is_err());
    drop(store);
    std::fs::remove_file(&ballast).unwrap();
    let store = Store::open(&paths, "boot-1").unwrap().store;
    store.done(account(3, &"x".repeat(9000))).unwrap();
    assert_eq!(store.close(true), StoreHealth::Ok);
    assert!(Store::open(&paths, "boot-1").unwrap().loaded.clean);
}

#[test]
fn a_file_without_permission_to_write_is_opened_for_reading() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        eprintln!("not run: root may write everything");
        return;
    }
    let (home, store) = Home::with_store();
    store.write(account(1, "kept"), None);
    store.write(Write::ReserveFences(Fence(10)), None);
    store.close(true);
    let permit = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    permit(&home.paths.database, 0o400);
    serves_without_writing(&home.paths, true);
    permit(&home.paths.database, 0o600);
    permit(home.directory.path(), 0o500);
    serves_without_writing(&home.paths, true);
    permit(home.directory.path(), 0o700);
    assert!(!home.open().loaded.read_only);
}
