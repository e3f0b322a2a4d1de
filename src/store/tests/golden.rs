//! Databases of earlier versions, stored as SQL: every later version must open them.

use super::*;
use crate::pool::{OtherQuota, TargetNames, Usage, Window};

/// Printed by `print_golden` below, each with the schema of its number; never changed.
const V1: &str = include_str!("golden/1.sql");
const V2: &str = include_str!("golden/2.sql");
const V3: &str = include_str!("golden/3.sql");
const V4: &str = include_str!("golden/4.sql");
const V5: &str = include_str!("golden/5.sql");
const V6: &str = include_str!("golden/6.sql");
const V7: &str = include_str!("golden/7.sql");
const V8: &str = include_str!("golden/8.sql");
const V9: &str = include_str!("golden/9.sql");
const V10: &str = include_str!("golden/10.sql");
const V11: &str = include_str!("golden/11.sql");
/// Accounts of schema 4 with ids of the provider, to be executed after `V4`.
const V4_OWNERS: &str = include_str!("golden/4-owners.sql");
/// Accounts of schema 3, whose login states were sentences, to be executed after `V3`.
const V3_LOGINS: &str = include_str!("golden/3-logins.sql");
const KEY: &str = "lessor-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

fn home() -> Home {
    let home = Home::new();
    std::fs::write(&home.paths.key, KEY).unwrap();
    home
}

#[test]
fn databases_of_all_schemas_open() {
    let of_schema_2 = Snapshot { usage: Vec::new(), ..sample() };
    let (limits, leases) = (vec![limit(1, "claude", 77)], vec![full_lease(8, 1)]);
    let of_schema_1 = Snapshot { limits, leases, ..of_schema_2.clone() };
    for (golden, sample) in [
        (V1, of_schema_1),
        (V2, of_schema_2),
        (V3, sample()),
        (V4, of_schema_4()),
        (V5, of_schema_5()),
        (V6, of_schema_5()),
        (V7, of_schema_5()),
        (V8, of_schema_5()),
        (V9, of_schema_9()),
        (V10, of_schema_9()),
        (V11, of_schema_9()),
    ] {
        opens(golden, &sample);
    }
    let home = home();
    home.raw().execute_batch(V5).unwrap();
    assert_eq!(home.open().loaded.formers, [(AccountId::from_bits(1), former("former"))]);
}

#[test]
fn the_oauth_clients_of_schema_8_open() {
    let home = home();
    home.raw().execute_batch(V8).unwrap();
    let loaded = home.open().loaded;
    assert_eq!(loaded.clients, [client("mine"), StoredClient { secret: None, ..client("public") }]);
}

#[test]
fn the_directories_of_gateway_keys_of_schema_9_open() {
    let home = home();
    home.raw().execute_batch(V9).unwrap();
    assert_eq!(home.open().loaded.gateway_keys, [gateway_key(1), key_of_a_directory()]);
}

#[test]
fn what_is_kept_of_a_shared_pool_of_schema_10_opens() {
    let home = home();
    home.raw().execute_batch(V10).unwrap();
    assert_eq!(pool_of(&home.open().loaded), kept_pool());
    let home = self::home();
    home.raw().execute_batch(V9).unwrap();
    assert_eq!(pool_of(&home.open().loaded), (None, None, vec![], vec![]));
}

#[test]
fn the_moved_leases_of_schema_11_open() {
    for (golden, expected) in [(V10, vec![]), (V11, vec![(Fence(7), "ls_golden".to_owned())])] {
        let home = home();
        home.raw().execute_batch(golden).unwrap();
        assert_eq!(home.open().loaded.moved_leases, expected);
    }
}

/// Schema 6 lists the keys of the gateway; those of earlier versions are valid by their content.
#[test]
fn only_a_database_of_an_earlier_version_accepts_sealed_gateway_keys() {
    for (golden, expected) in [(V1, true), (V5, true), (V6, false)] {
        let home = home();
        home.raw().execute_batch(golden).unwrap();
        assert_eq!(home.open().loaded.sealed_gateway_keys, expected);
        assert_eq!(home.open().loaded.sealed_gateway_keys, expected, "once migrated, it stays");
    }
    let home = home();
    home.raw().execute_batch(V6).unwrap();
    assert_eq!(home.open().loaded.gateway_keys, [gateway_key(1)]);
}

#[test]
fn while_a_stored_gateway_key_cannot_be_read_none_is_valid_by_its_content() {
    let home = home();
    home.raw().execute_batch(V5).unwrap();
    let opened = home.open();
    assert!(opened.loaded.sealed_gateway_keys);
    opened.store.done(Write::SaveGatewayKey(gateway_key(1))).unwrap();
    opened.store.close(true);
    home.raw().execute_batch("UPDATE gateway_key SET listed_at = 7").unwrap();
    let loaded = home.open().loaded;
    assert!(!loaded.sealed_gateway_keys && loaded.gateway_keys.is_empty());
    assert!(loaded.warnings.iter().any(|warning| warning.contains("gateway keys")), "{:?}", loaded.warnings);
}

/// Schema 4 replaced the sentences by data.
#[test]
fn sentences_of_earlier_versions_become_login_states() {
    let home = home();
    home.raw().execute_batch(V3).unwrap();
    home.raw().execute_batch(V3_LOGINS).unwrap();
    let described = |text: &str| LoginState::NeedsLogin(LoginProblem::Described(text.into()));
    let verification = |text: &str, link: Option<&str>| {
        LoginState::NeedsVerification(Verification { text: Some(text.into()), link: link.map(str::to_owned) })
    };
    let expected = [
        LoginState::Ready,
        LoginState::NeedsLogin(LoginProblem::AccessTokenEnded),
        LoginState::NeedsLogin(LoginProblem::AccessTokenEnded),
        described(
            "its login has ended (invalid_grant), after the answer to a refresh was lost 3 s ago: the server may have replaced it then; log in again: lessor login mine",
        ),
        described("the provider refused the credential"),
        described("its login was \"revoked\" (invalid_grant)"),
        described(""),
        verification("the provider wants the account confirmed", None),
        verification(
            "Verify (https://accounts.google.com/signin/continue?x=1). Now.",
            Some("https://accounts.google.com/signin/continue?x=1"),
        ),
        LoginState::NeedsVerification(Verification::default()),
        LoginState::Ready,
    ];
    let open = || {
        let OpenedStore { store, loaded } = home.open();
        store.close(true);
        assert!(loaded.warnings.iter().all(|warning| warning.contains("open to other users")), "{:?}", loaded.warnings);
        loaded.snapshot.accounts.into_iter().map(|account| account.login_state).collect::<Vec<_>>()
    };
    assert_eq!(open(), expected);
    assert_eq!(open(), expected, "once migrated, they stay");
}

/// Schema 5 separated persons and organisations; one id stood for either before.
#[test]
fn ids_of_earlier_versions_become_persons_and_workspaces() {
    let home = home();
    home.raw().execute_batch(V4).unwrap();
    home.raw().execute_batch(V4_OWNERS).unwrap();
    let OpenedStore { store, loaded } = home.open();
    store.close(true);
    let owners = loaded.snapshot.accounts.into_iter().skip(3).map(|account| account.owner);
    let id = |id: &str| Some(id.to_owned());
    let expected = [
        AccountOwner { person: id("uuid-1"), ..AccountOwner::default() },
        AccountOwner { organization: id("workspace-1"), ..AccountOwner::default() },
        AccountOwner { person: id("1098"), ..AccountOwner::default() },
        AccountOwner::default(),
    ];
    assert_eq!(owners.collect::<Vec<_>>(), expected);
}

fn opens(golden: &str, sample: &Snapshot) {
    let home = home();
    home.raw().execute_batch(golden).unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.snapshot, *sample);
    assert_eq!(loaded.credentials, [(AccountId::from_bits(1), credential("golden"))]);
    assert_eq!(loaded.refreshing, [(AccountId::from_bits(1), Wall(3))]);
    assert_eq!((loaded.fence, loaded.clean, loaded.same_boot), (Fence(65), true, true));
    // created with this test's umask, and closed to others at the start
    assert!(loaded.warnings.iter().all(|warning| warning.contains("open to other users")), "{:?}", loaded.warnings);
    assert_eq!(store.close(true), StoreHealth::Ok);
    assert_eq!(home.open().loaded.snapshot, *sample);
}

fn sample() -> Snapshot {
    Snapshot {
        accounts: vec![record(1)],
        limits: vec![full_limit()],
        sessions: vec![session("s", 1, 9)],
        usage: vec![(AccountId::from_bits(1), full_usage())],
        leases: vec![pooled_lease()],
        shared: Vec::new(),
    }
}

fn of_schema_4() -> Snapshot {
    let accounts = vec![record(1), login_ended(), to_be_verified()];
    Snapshot { accounts, ..sample() }
}

fn of_schema_5() -> Snapshot {
    let of_schema_4 = of_schema_4();
    Snapshot { accounts: [of_schema_4.accounts, vec![member_of_a_team()]].concat(), ..of_schema_4 }
}

fn of_schema_9() -> Snapshot {
    let of_schema_5 = of_schema_5();
    let accounts = [of_schema_5.accounts, vec![kept_account(5)]].concat();
    Snapshot { accounts, leases: vec![pooled_lease(), restricted_lease(9, 5)], ..of_schema_5 }
}

fn key_of_a_directory() -> GatewayKeyRecord {
    GatewayKeyRecord { directory: Some("/home/user/client-a".into()), ..gateway_key(2) }
}

fn member_of_a_team() -> AccountRecord {
    let owner = AccountOwner {
        person: Some("uuid-1".into()),
        organization: Some("org-1".into()),
        organization_name: Some("Team".into()),
    };
    AccountRecord { owner, ..record(4) }
}

fn login_ended() -> AccountRecord {
    let problem = LoginProblem::RefreshRejected { code: "invalid_grant".into(), answer_lost_at: Some(Wall(8)) };
    AccountRecord { login_state: LoginState::NeedsLogin(problem), ..record(2) }
}

fn to_be_verified() -> AccountRecord {
    let verification = Verification::described("confirm it: https://example.org".into());
    AccountRecord { login_state: LoginState::NeedsVerification(verification), ..record(3) }
}

fn full_limit() -> LimitRecord {
    LimitRecord {
        since: Some(Wall(70)),
        evidence: Some("resets_at".into()),
        link: Some("https://example.org/plan".into()),
        ..limit(1, "claude", 77)
    }
}

fn full_usage() -> Usage {
    let window = Window {
        name: "5h".into(),
        utilization: 0.25,
        resets_at: Some(Wall(80)),
        as_of: Wall(70),
        key: "claude".into(),
    };
    vec![window].into()
}

fn pooled_lease() -> Lease {
    let other =
        OtherQuota { key: "gemini-cli".into(), pool: "gemini-cli".into(), model: Some("m".into()), first: true };
    let names = TargetNames { billed: Some("b".into()), plain: None, other: Some(other) };
    let mut lease = full_lease(8, 1);
    Arc::make_mut(&mut lease.target).names = Some(Arc::new(names));
    lease
}

/// Prints a database as SQL for a new golden file: `cargo test print_golden -- --ignored --nocapture`.
#[test]
#[ignore = "makes a golden file; run by hand after a schema step"]
fn print_golden() {
    let home = home();
    let store = home.open().store;
    store.write(account(1, "golden"), None);
    for record in [login_ended(), to_be_verified(), member_of_a_team(), kept_account(5)] {
        store.write(Write::SaveAccount { record: Box::new(record), credential: None }, None);
    }
    store.write(Write::MarkRefresh(AccountId::from_bits(1), Some(Wall(3))), None);
    store.write(Write::SaveFormer(AccountId::from_bits(1), Some(former("former"))), None);
    store.write(Write::SaveLimit(full_limit()), None);
    store.write(Write::SaveSession(session("s", 1, 9)), None);
    store.write(Write::SaveUsage(AccountId::from_bits(1), full_usage()), None);
    store.write(Write::SaveLease(pooled_lease().into()), None);
    store.write(Write::SaveLease(restricted_lease(9, 5).into()), None);
    store.write(Write::SaveMovedLease(Fence(7), Some("ls_golden".into())), None);
    store.write(Write::ReserveFences(Fence(64)), None);
    store.write(Write::SaveGatewayKey(gateway_key(1)), None);
    store.write(Write::SaveGatewayKey(key_of_a_directory()), None);
    store.write(Write::SaveClient(client("mine")), None);
    store.write(Write::SaveClient(StoredClient { secret: None, ..client("public") }), None);
    for write in pool_writes() {
        store.write(write, None);
    }
    store.close(true);
    let database = home.raw();
    println!("PRAGMA application_id = {};", schema::APPLICATION);
    println!("PRAGMA user_version = {};", schema::version(&database).unwrap());
    let mut tables = database.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").unwrap();
    let mut rows = tables.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (name, sql): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        println!("{sql};");
        let mut columns = database.prepare(&format!("SELECT name FROM pragma_table_info('{name}')")).unwrap();
        let columns: Vec<String> = columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let quoted = columns.iter().map(|column| format!("quote({column})")).collect::<Vec<_>>().join(" || ', ' || ");
        let mut values = database.prepare(&format!("SELECT {quoted} FROM {name}")).unwrap();
        for values in values.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            println!("INSERT INTO {name} VALUES ({});", values.unwrap());
        }
    }
}
