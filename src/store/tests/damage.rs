//! Damaged databases: nothing that was changed is used without a warning.

use super::*;
use crate::credential::{Link, LinkMode};
use crate::pool::{Usage, Window};

/// A directory in memory, where the system has one: these tests open thousands of databases.
pub(super) fn fast_home() -> Home {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let paths = paths_in(directory.path());
    Home { directory, paths }
}

/// A closed store with rows in all tables.
pub(super) fn filled() -> Home {
    let home = fast_home();
    let store = home.open().store;
    let id = AccountId::from_bits;
    for bits in 1..=3 {
        store.write(account(bits, &format!("secret-{bits}")), None);
    }
    let link = Link { tool: "codex".into(), path: "/home/me/auth.json".into(), item: "x".into(), mode: LinkMode::Link };
    store.write(Write::SaveLink(id(2), Some(link)), None);
    store.write(Write::SaveFormer(id(2), Some(former("before"))), None);
    store.write(Write::MarkRefresh(id(3), Some(Wall(70))), None);
    store.write(Write::SaveLease(restricted_lease(7, 1).into()), None);
    store.write(Write::SaveLease(lease(8, 2).into()), None);
    store.write(Write::SaveMovedLease(Fence(7), Some("ls_a".into())), None);
    store.write(Write::SaveMovedLease(Fence(8), Some("ls_b".into())), None);
    store.write(Write::SaveLimit(limit(1, "claude", 1_800_000_000_000)), None);
    store.write(Write::SaveLimit(limit(2, "claude", 1_800_000_000_001)), None);
    store.write(Write::SaveSession(session("a", 1, 5)), None);
    store.write(Write::SaveSession(session("b", 2, 6)), None);
    let window = Window { name: "5h".into(), utilization: 0.5, resets_at: None, as_of: Wall(5), key: "claude".into() };
    store.write(Write::SaveUsage(id(1), Usage::from(vec![window])), None);
    store.write(Write::GatewayPort(4711), None);
    store.write(Write::SaveGatewayKey(gateway_key(1)), None);
    store.write(Write::SaveClient(client("mine")), None);
    store.write(Write::SaveClient(client("other")), None);
    for write in pool_writes() {
        store.write(write, None);
    }
    store.write(Write::ReserveFences(Fence(64)), None);
    let (tell, told) = channel();
    store.rekey(move |outcome| tell.send(outcome.map(drop)).unwrap());
    told.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(store.close(true), StoreHealth::Ok);
    home
}

/// Everything that is used of a store, as text.
fn content(loaded: &LoadedState) -> String {
    let secrets: Vec<_> = loaded.credentials.iter().map(|(id, one)| (id, one.access.expose().to_owned())).collect();
    let key = loaded.fingerprint_key.of_credential(&credential("x"));
    format!(
        "{:?}\n{:?}\n{:?}\n{secrets:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?} {:?} {} {} {:?} {key:?}",
        loaded.snapshot,
        loaded.moved_leases,
        pool_of(loaded),
        (&loaded.gateway_keys, loaded.sealed_gateway_keys, clients(loaded)),
        loaded.refreshing,
        loaded.fingerprints,
        loaded.links,
        loaded
            .formers
            .iter()
            .map(|(id, former)| (id, former.credential.access.expose().to_owned(), former.since, former.role))
            .collect::<Vec<_>>(),
        loaded.fence,
        loaded.gateway_port,
        loaded.clean,
        loaded.same_boot,
        loaded.lease_key,
    )
}

/// The stored clients with their secrets.
pub(super) fn clients(loaded: &LoadedState) -> Vec<(&StoredClient, Option<&str>)> {
    loaded.clients.iter().map(|client| (client, client.secret.as_ref().map(|secret| secret.expose()))).collect()
}

/// A copy of `whole` at the database's path, opened.
fn opened_with(home: &Home, bytes: &[u8]) -> Result<OpenedStore, StoreError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        _ = std::fs::remove_file(file::beside(&home.paths.database, suffix));
    }
    std::fs::write(&home.paths.database, bytes).unwrap();
    std::fs::set_permissions(&home.paths.database, std::fs::metadata(&home.paths.key).unwrap().permissions()).unwrap();
    Store::open(&home.paths, "boot-1")
}

#[test]
fn a_flipped_bit_is_refused_or_reported_or_changes_nothing() {
    let home = filled();
    let whole = std::fs::read(&home.paths.database).unwrap();
    let original = content(&opened_with(&home, &whole).unwrap().loaded);
    // most of a small file is empty: mostly bits of what is written are flipped
    let written: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut random = fastrand(7);
    let (mut refused, mut reported, mut equal) = (0, 0, 0);
    for round in 0..2100 {
        let at = if round % 12 == 0 { random(whole.len()) } else { written[random(written.len())] };
        let bit = random(8);
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        match opened_with(&home, &damaged) {
            Err(_) => refused += 1,
            Ok(opened) if !opened.loaded.warnings.is_empty() => reported += 1,
            Ok(opened) => {
                assert_eq!(content(&opened.loaded), original, "bit {bit} of byte {at} is served changed");
                equal += 1;
            }
        }
    }
    assert!(refused > 50 && reported > 300 && equal > 50, "{refused} refused, {reported} reported, {equal} equal");
}

/// Numbers below a bound, always the same ones.
fn fastrand(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    }
}

/// Every value of every table, changed in the file: it is reported, and never used.
#[test]
fn a_changed_value_of_any_column_is_found() {
    let home = filled();
    let whole = std::fs::read(&home.paths.database).unwrap();
    let mut checked = 0;
    for (table, _) in row_tags::TABLES {
        let columns: Vec<String> = {
            let database = home.raw();
            let mut names = database.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
            names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        for column in columns.iter().filter(|column| !(*table == "meta" && *column == "name")) {
            std::fs::write(&home.paths.database, &whole).unwrap();
            let database = home.raw();
            let changed = format!(
                "UPDATE {table} SET \"{column}\" = CASE typeof(\"{column}\") WHEN 'integer' THEN \"{column}\" + 1000 \
                 WHEN 'text' THEN \"{column}\" || 'x' WHEN 'blob' THEN randomblob(length(\"{column}\")) \
                 ELSE NULL END"
            );
            let rows: i64 = database
                .query_row(&format!("SELECT count(*) FROM {table} WHERE \"{column}\" IS NOT NULL"), [], |row| {
                    row.get(0)
                })
                .unwrap();
            if rows == 0 {
                continue;
            }
            database.execute_batch(&changed).unwrap_or_else(|error| panic!("{table}.{column}: {error}"));
            drop(database);
            let bytes = std::fs::read(&home.paths.database).unwrap();
            let opened = match opened_with(&home, &bytes) {
                Ok(opened) => opened,
                Err(error) => {
                    assert!(*table == "meta", "{table}.{column}: {error}");
                    continue;
                }
            };
            assert!(!opened.loaded.warnings.is_empty(), "{table}.{column}");
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn rows_whose_tags_were_swapped_are_found() {
    let home = filled();
    for table in ["limits", "session", "lease", "moved_lease", "account", "credential"] {
        let whole = std::fs::read(&home.paths.database).unwrap();
        let swap = format!(
            "CREATE TEMP TABLE two AS SELECT tag FROM {table} LIMIT 2; \
             UPDATE {table} SET tag = (SELECT tag FROM two WHERE tag <> {table}.tag) \
             WHERE tag IN (SELECT tag FROM two)"
        );
        home.raw().execute_batch(&swap).unwrap();
        let bytes = std::fs::read(&home.paths.database).unwrap();
        let warnings = opened_with(&home, &bytes).unwrap().loaded.warnings;
        assert!(warnings.iter().any(|warning| warning.contains("damaged")), "{table}: {warnings:?}");
        opened_with(&home, &whole).unwrap().store.close(true);
    }
}

#[test]
fn a_damaged_account_is_disabled_until_the_user_enables_it() {
    let home = filled();
    home.raw().execute_batch("UPDATE account SET priority = 99 WHERE id LIKE '%1'").unwrap();
    for _ in 0..2 {
        let OpenedStore { store, loaded } = home.open();
        let damaged = &loaded.snapshot.accounts[0];
        let reason = damaged.disabled_reason.as_deref().unwrap();
        assert!(!damaged.enabled && reason.contains("lessor account enable ac_00000001"), "{reason}");
        assert!(loaded.snapshot.accounts[1..].iter().all(|account| account.enabled));
        assert_eq!(loaded.credentials[0], (AccountId::from_bits(1), credential("secret-1")), "its login is intact");
        // a change of one column does not make the rest of the row valid
        store.done(Write::LastUsed(vec![(AccountId::from_bits(1), Wall(5))])).unwrap();
        store.close(true);
    }
    let store = home.open().store;
    store.done(Write::SaveAccount { record: Box::new(record(1)), credential: None }).unwrap();
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!((&loaded.snapshot.accounts[0], &loaded.warnings[..]), (&record(1), &[][..]));
}

#[test]
fn an_account_whose_link_is_damaged_is_disabled() {
    let home = filled();
    home.raw().execute_batch("UPDATE link SET mode = 'share'").unwrap();
    let loaded = home.open().loaded;
    let account = &loaded.snapshot.accounts[1];
    assert!(!account.enabled && account.disabled_reason.as_ref().unwrap().contains("lessor import"), "{account:?}");
}

#[test]
fn a_damaged_oauth_client_is_removed_with_its_secret() {
    let home = filled();
    home.raw().execute_batch("UPDATE oauth_client SET provider = 'openai' WHERE name = 'mine'").unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.clients, [client("other")]);
    assert!(loaded.warnings[0].contains("the OAuth client \"mine\" is removed"), "{:?}", loaded.warnings);
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!((loaded.warnings, loaded.clients), (Vec::new(), vec![client("other")]));
}

#[test]
fn a_damaged_mark_of_a_refresh_is_reported_and_cleared() {
    let home = filled();
    home.raw().execute_batch("UPDATE credential SET refresh_started_at = 71 WHERE account LIKE '%3'").unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.refreshing, []);
    assert!(loaded.warnings[0].contains("ac_00000003"), "{:?}", loaded.warnings);
    assert_eq!(loaded.credentials.len(), 3);
    store.close(true);
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new());
}

#[test]
fn damaged_rows_are_removed_once_they_were_reported() {
    let home = filled();
    let spoil = "UPDATE limits SET until = 5 WHERE account LIKE '%1'; UPDATE session SET used_at = 1; \
                 UPDATE lease SET fence = 1 << 60 WHERE fence = 8; UPDATE meta SET value = 1 WHERE name = 'gateway_port'";
    home.raw().execute_batch(spoil).unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
    assert_eq!((loaded.snapshot.limits.len(), loaded.snapshot.sessions.len(), loaded.gateway_port), (1, 0, None));
    assert_eq!(loaded.fence, Fence(65), "a damaged fence raises nothing");
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!((loaded.warnings, loaded.fence), (Vec::new(), Fence(65)));
}

#[test]
fn a_damaged_check_of_the_key_is_not_taken_for_a_wrong_key() {
    let home = filled();
    home.raw().execute_batch("UPDATE meta SET value = x'00' WHERE name = 'key_check'").unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert!(loaded.warnings[0].contains("key_check"), "{:?}", loaded.warnings);
    assert_eq!(loaded.credentials.len(), 3);
    store.close(true);
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new());
}

#[test]
fn a_damaged_index_is_made_again() {
    let home = filled();
    let whole = std::fs::read(&home.paths.database).unwrap();
    // the id appears in the row and in the index; the last one is in the index
    let root: i64 = home
        .raw()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_account_1'", [], |row| row.get(0))
        .unwrap();
    let root = root.unsigned_abs() as usize;
    let page = &whole[(root - 1) * 4096..root * 4096];
    let at = (root - 1) * 4096 + page.windows(11).position(|bytes| bytes == b"ac_00000002").unwrap() + 10;
    let mut damaged = whole;
    damaged[at] ^= 0x40;
    let OpenedStore { store, loaded } = opened_with(&home, &damaged).unwrap();
    assert!(loaded.warnings[0].contains("made again"), "{:?}", loaded.warnings);
    assert_eq!(loaded.snapshot.accounts.len(), 3);
    store.close(true);
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new());
}

/// Its pages are checked beside reading the rows.
#[test]
fn any_damaged_page_of_a_large_database_is_refused() {
    let home = fast_home();
    let store = home.open().store;
    for bits in 1..=600 {
        store.write(account(bits, &format!("secret-{bits}")), None);
    }
    store.close(true);
    let whole = std::fs::read(&home.paths.database).unwrap();
    assert!(whole.len() > 300 << 10, "{}", whole.len());
    for page in (1..whole.len() / 4096).step_by(4) {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&home.paths.database, &damaged).unwrap();
        assert!(home.refusal().contains("damaged"), "page {page}");
        assert!(std::fs::read(&home.paths.database).unwrap() == damaged, "page {page}: the file has changed");
    }
    std::fs::write(&home.paths.database, &whole).unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!((loaded.credentials.len(), loaded.warnings), (600, Vec::new()));
    store.close(true);
}

#[test]
fn a_database_with_triggers_is_refused() {
    let home = filled();
    home.raw().execute_batch("CREATE TRIGGER t AFTER UPDATE ON meta BEGIN DELETE FROM account; END").unwrap();
    assert!(home.refusal().contains("triggers"));
}

#[test]
fn a_database_without_its_key_is_reported() {
    let home = filled();
    std::fs::remove_file(&home.paths.database).unwrap();
    let warnings = home.open().loaded.warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for word in ["lessor.db", "is missing", "lessor restore"] {
        assert!(warning.contains(word), "{warning}");
    }
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new());
}

#[test]
fn a_log_that_is_lost_or_damaged_is_reported() {
    let home = filled();
    let store = home.open().store;
    for n in 0..5 {
        store.done(account(4 + n, "only in the log")).unwrap();
    }
    let log = |home: &Home| file::beside(&home.paths.database, "-wal");
    let crashed = home.crashed();
    assert_eq!(crashed.open().loaded.warnings, Vec::<String>::new(), "a crash loses nothing");
    drop(crashed);
    let whole = std::fs::read(log(&home)).unwrap();
    let said = |change: &dyn Fn(&Path)| {
        let crashed = home.crashed();
        change(&log(&crashed));
        let OpenedStore { store, loaded } = crashed.open();
        store.close(true);
        assert_eq!(crashed.open().loaded.warnings, Vec::<String>::new());
        loaded.warnings.join("\n")
    };
    let missing = said(&|log| std::fs::remove_file(log).unwrap());
    assert!(missing.contains("lessor.db-wal is missing") && missing.contains("lessor login"), "{missing}");
    assert!(said(&|log| std::fs::write(log, "").unwrap()).contains("is missing"));
    for at in [0, 20, 40, 200, whole.len() / 2] {
        let damaged = said(&|log| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(log, bytes).unwrap();
        });
        assert!(damaged.contains("lessor.db-wal is damaged"), "{at}: {damaged}");
    }
    store.close(true);
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new(), "a clean end leaves no log");
}

#[test]
fn after_a_change_of_the_key_a_crash_does_not_look_like_a_lost_log() {
    let home = filled();
    let store = home.open().store;
    let (tell, told) = channel();
    store.rekey(move |outcome| tell.send(outcome.map(drop)).unwrap());
    told.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(home.crashed().open().loaded.warnings, Vec::<String>::new());
    drop(store);
    assert_eq!(home.open().loaded.warnings, Vec::<String>::new());
}

/// Prints what tags cost: `cargo test --release cost_of_tags -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement: see the command above"]
fn cost_of_tags() {
    let home = fast_home();
    let store = home.open().store;
    let begun = std::time::Instant::now();
    for n in 0..20_000 {
        store.write(Write::SaveSession(session(&(n % 5000).to_string(), 1, n)), None);
        if n % 1000 == 999 {
            store.touch(|_| {});
        }
    }
    store.touch(|_| {});
    println!("a session: {:?}", begun.elapsed() / 20_000);
    store.close(true);
    let begun = std::time::Instant::now();
    home.open().store.close(true);
    println!("a start and end with 5000 sessions: {:?}", begun.elapsed());
}

#[test]
fn a_credential_that_cannot_be_opened_is_reported_among_few_and_among_many() {
    for count in [2, 100] {
        let (home, store) = Home::with_store();
        for bits in 1..=count {
            store.write(account(bits, &format!("secret-{bits}")), None);
        }
        assert_eq!(store.done(account(1, "secret-1")), Ok(()));
        let (first, second) = (AccountId::from_bits(1).to_string(), AccountId::from_bits(2).to_string());
        // a write of lessor's connection, so that the row fits its tag
        store.touch(move |database| {
            let swap = "UPDATE credential SET sealed = (SELECT sealed FROM credential WHERE account = ?1), tag = NULL \
                        WHERE account = ?2";
            assert_eq!(database.execute(swap, [first, second]).unwrap(), 1);
        });
        assert_eq!(store.close(true), StoreHealth::Ok);
        let loaded = home.open().loaded;
        let mut secrets: Vec<_> = loaded.credentials.iter().map(|(id, of)| (*id, of.access.expose())).collect();
        secrets.sort_unstable();
        let expected: Vec<_> = (1..=count).filter(|bits| *bits != 2).map(|bits| format!("secret-{bits}")).collect();
        assert_eq!(secrets.len(), expected.len());
        for ((_, secret), expected) in secrets.iter().zip(&expected) {
            assert_eq!(secret, expected);
        }
        let id = AccountId::from_bits(2);
        let warning = format!("the credential of {id} cannot be decrypted; log in to that account again");
        assert!(loaded.warnings.iter().any(|said| said.contains(&warning)), "{:?}", loaded.warnings);
    }
}
