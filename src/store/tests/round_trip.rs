//! Reading back what was written.

use super::*;

#[test]
fn every_record_comes_back_as_it_was() {
    let (home, store) = Home::with_store();
    let full = AccountRecord {
        label: Some("work".into()),
        tier: Tier::Ultra,
        kind: CredentialKind::ApiKey,
        login_state: LoginState::NeedsLogin(LoginProblem::RefreshRejected {
            code: "invalid_grant".into(),
            answer_lost_at: Some(Wall(8)),
        }),
        enabled: false,
        disabled_reason: Some("holiday".into()),
        max_leases: Some(7),
        priority: -3,
        allowed_agents: Some(vec!["claude-code".into(), "a \"quoted\" one".into()]),
        reserve: 0.125,
        fallback_only: true,
        project_id: Some("p-1".into()),
        owner: AccountOwner {
            person: Some("v-1".into()),
            organization: Some("o-1".into()),
            organization_name: Some("Team".into()),
        },
        last_used_at: Some(Wall(99)),
        ..record(2)
    };
    let verify =
        AccountRecord { login_state: LoginState::NeedsVerification(Verification::at(Some("https://x"))), ..record(1) };
    store.write(Write::SaveAccount { record: Box::new(full.clone()), credential: Some(credential("two")) }, None);
    store.write(Write::SaveAccount { record: Box::new(verify.clone()), credential: None }, None);
    for lease in [full_lease(8, 2), lease(9, 1), restricted_lease(10, 1)] {
        store.write(Write::SaveLease(lease.into()), None);
    }
    for scope in [Scope::Request, Scope::Model, Scope::Pool, Scope::Account, Scope::Service] {
        for (reason, source) in
            Reason::ALL.into_iter().zip([LimitSource::Table, LimitSource::Report, LimitSource::Server].repeat(4))
        {
            let key = format!("claude:{}", reason.name());
            store.write(Write::SaveLimit(LimitRecord { scope, reason, source, key, ..limit(1, "", 77) }), None);
        }
    }
    store.write(Write::SaveSession(session("s", 1, 4)), None);
    store.write(Write::SaveSession(session("s", 2, 5)), None);
    let public = StoredClient { provider: None, secret: None, ..client("public") };
    let only_named = StoredClient { provider: None, client_id: None, ..client("named") };
    for client in [client("b"), public.clone(), only_named.clone(), client("removed")] {
        store.write(Write::SaveClient(client), None);
    }
    let replaced = StoredClient { secret: Some(Arc::new(Secret::new("new".into()))), ..client("b") };
    store.write(Write::SaveClient(replaced.clone()), None);
    store.write(Write::DropClient("removed".into()), None);
    assert_eq!(store.done(Write::ReserveFences(Fence(64))), Ok(()));
    assert_eq!(store.close(true), StoreHealth::Ok);

    let OpenedStore { loaded, .. } = home.open();
    assert_eq!(loaded.snapshot.accounts, [full.clone(), verify]);
    assert_eq!(loaded.snapshot.leases, [full_lease(8, 2), lease(9, 1), restricted_lease(10, 1)]);
    assert_eq!(loaded.snapshot.limits.len(), 50);
    assert!(loaded.snapshot.limits.iter().all(|limit| limit.key == format!("claude:{}", limit.reason.name())));
    assert_eq!(loaded.snapshot.sessions, [session("s", 2, 5)]);
    assert_eq!(loaded.credentials, [(full.id, credential("two"))]);
    assert_eq!(loaded.clients, [replaced, only_named, public]);
    assert_eq!(loaded.fence, Fence(65));
    assert!(loaded.clean && loaded.same_boot && !loaded.read_only, "{loaded:?}");
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn every_login_state_comes_back_as_it_was() {
    let (home, store) = Home::with_store();
    let problems = [
        LoginProblem::AccessTokenEnded,
        LoginProblem::RefreshRejected { code: "invalid_grant".into(), answer_lost_at: None },
        LoginProblem::RejectedByProvider { link: None },
        LoginProblem::RejectedByProvider { link: Some("https://x".into()) },
        LoginProblem::Described("the login was \"revoked\"".into()),
    ];
    let verifications = [Verification::default(), Verification::described("confirm it: https://x.".into())];
    let problems = problems.into_iter().map(LoginState::NeedsLogin);
    let states = problems.chain(verifications.into_iter().map(LoginState::NeedsVerification)).zip(1..);
    let accounts: Vec<_> = states.map(|(login_state, bits)| AccountRecord { login_state, ..record(bits) }).collect();
    for record in &accounts {
        store.write(Write::SaveAccount { record: Box::new(record.clone()), credential: None }, None);
    }
    store.close(true);
    assert_eq!(home.open().loaded.snapshot.accounts, accounts);
}

#[test]
fn changes_and_removals_are_saved() {
    let (home, store) = Home::with_store();
    for bits in [1, 2, 3] {
        store.write(account(bits, "old"), None);
        store.write(Write::SaveLease(lease(bits, bits).into()), None);
        store.write(Write::SaveSession(session(&bits.to_string(), bits, 1)), None);
        store.write(Write::SaveLimit(limit(bits, "a", 1)), None);
        store.write(Write::SaveLimit(limit(bits, "b", 2)), None);
    }
    let changed = AccountRecord { label: Some("changed".into()), ..record(1) };
    store.write(Write::SaveAccount { record: Box::new(changed.clone()), credential: None }, None);
    store.write(account(3, "new"), None);
    store.write(Write::DeleteAccount(AccountId::from_bits(2)), None);
    store.write(Write::DropLease(Fence(3)), None);
    store.write(Write::DropLimit(AccountId::from_bits(1), Some((Scope::Pool, "a".into()))), None);
    store.write(Write::DropLimit(AccountId::from_bits(3), None), None);
    store.write(Write::LastUsed(vec![(AccountId::from_bits(3), Wall(42))]), None);
    store.write(Write::ReserveFences(Fence(100)), None);
    store.write(Write::ReserveFences(Fence(50)), None);
    store.close(true);

    let loaded = home.open().loaded;
    assert_eq!(loaded.snapshot.accounts, [changed, AccountRecord { last_used_at: Some(Wall(42)), ..record(3) }]);
    let secrets = [(AccountId::from_bits(1), credential("old")), (AccountId::from_bits(3), credential("new"))];
    assert_eq!(loaded.credentials, secrets);
    assert_eq!(loaded.snapshot.leases, [lease(1, 1)]);
    assert_eq!(loaded.snapshot.limits, [limit(1, "b", 2)]);
    assert_eq!(loaded.snapshot.sessions.len(), 2);
    assert_eq!(loaded.fence, Fence(101));
}

#[test]
fn the_other_credential_of_an_account_is_kept_until_it_is_removed() {
    let (home, store) = Home::with_store();
    let id = |bits| AccountId::from_bits(bits);
    for bits in [1, 2, 3] {
        store.write(account(bits, "now"), None);
        store.write(Write::SaveFormer(id(bits), Some(former("before"))), None);
    }
    store.write(Write::SaveFormer(id(2), None), None);
    store.write(Write::DeleteAccount(id(3)), None);
    store.close(true);
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.formers, [(id(1), former("before"))]);
    assert_eq!(loaded.credentials, [(id(1), credential("now")), (id(2), credential("now"))]);
    let (sender, receiver) = channel();
    store.rekey(move |result| sender.send(result.map(drop)).unwrap());
    receiver.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    store.close(true);
    assert_eq!(home.open().loaded.formers, [(id(1), former("before"))], "also under another key");
}

#[test]
fn a_started_refresh_is_recorded_until_it_ends() {
    let (home, store) = Home::with_store();
    let id = AccountId::from_bits(1);
    store.write(account(1, "old"), None);
    store.done(Write::MarkRefresh(id, Some(Wall(7)))).unwrap();
    let crashed = home.crashed();
    assert_eq!(crashed.open().loaded.refreshing, [(id, Wall(7))]);
    store.write(account(1, "new"), None);
    store.close(true);
    assert_eq!(home.open().loaded.refreshing, []);
}

#[test]
fn a_copied_database_reveals_no_secret() {
    let (home, store) = Home::with_store();
    store.done(account(1, "sk-canary-4711")).unwrap();
    let key = std::fs::read(&home.paths.key).unwrap();
    let shows = |needle: &[u8], bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for bytes in [home.bytes(), {
        drop(store);
        home.bytes()
    }] {
        assert!(shows(b"1@example.org", &bytes));
        assert!(!shows(b"canary", &bytes));
        assert!(!shows(&key[13..40], &bytes));
    }
}

#[test]
fn a_crash_after_any_commit_keeps_what_was_committed() {
    let (home, store) = Home::with_store();
    for n in 1..=30 {
        store.done(account(n, &format!("token-{n}"))).unwrap();
        store.done(Write::ReserveFences(Fence(n * 10))).unwrap();
        store.done(Write::SaveLease(lease(n, n).into())).unwrap();
        let crashed = home.crashed();
        let loaded = crashed.open().loaded;
        assert_eq!(loaded.credentials.len() as u64, n);
        assert_eq!(loaded.snapshot.leases.len() as u64, n);
        assert_eq!(loaded.fence, Fence(n * 10 + 1));
        assert!(!loaded.clean && loaded.same_boot);
    }
}

#[test]
fn a_torn_log_loses_only_its_end() {
    let (home, store) = Home::with_store();
    store.done(account(1, "first")).unwrap();
    store.touch(|database| database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap());
    store.done(account(2, "second")).unwrap();
    let log = file::beside(&home.paths.database, "-wal");
    let whole = std::fs::read(&log).unwrap();
    for length in [0, 1, 31, 32, 33, whole.len() / 2, whole.len() - 1, whole.len()] {
        let crashed = home.crashed();
        std::fs::write(file::beside(&crashed.paths.database, "-wal"), &whole[..length]).unwrap();
        let loaded = crashed.open().loaded;
        let expected = if length == whole.len() { 2 } else { 1 };
        assert_eq!(loaded.credentials.len(), expected, "{length} of {}", whole.len());
    }
}

#[test]
fn another_boot_ends_leases_and_keeps_fences() {
    let home = Home::new();
    let first = home.open();
    first.store.write(account(1, "a"), None);
    first.store.write(Write::SaveLease(lease(700, 1).into()), None);
    for fence in [1, 2] {
        first.store.write(Write::SaveMovedLease(Fence(fence), Some("ls_before".into())), None);
        first.store.write(Write::SaveMovedLease(Fence(fence), Some(format!("ls_{fence}"))), None);
    }
    first.store.write(Write::SaveMovedLease(Fence(1), None), None);
    drop(first.store);
    let again = home.open();
    assert_eq!(again.loaded.lease_key, first.loaded.lease_key);
    assert!(again.loaded.same_boot && !again.loaded.clean);
    assert_eq!(again.loaded.snapshot.leases.len(), 1);
    assert_eq!(again.loaded.moved_leases, [(Fence(2), "ls_2".to_owned())]);
    assert_eq!(again.loaded.fence, Fence(701));
    again.store.close(true);
    let rebooted = home.open_in("boot-2");
    assert_ne!(rebooted.loaded.lease_key, first.loaded.lease_key);
    assert!(!rebooted.loaded.same_boot && rebooted.loaded.clean);
    assert!(rebooted.loaded.snapshot.leases.is_empty() && rebooted.loaded.moved_leases.is_empty());
    rebooted.store.close(true);
    let last = home.open_in("boot-2");
    assert_eq!(last.loaded.lease_key, rebooted.loaded.lease_key);
    assert_eq!(last.loaded.moved_leases, [], "they are removed");
    assert_eq!(last.loaded.fence, Fence(701));
}

#[test]
fn sessions_and_limits_are_bounded() {
    let (home, store) = Home::with_store();
    store.write(account(1, "a"), None);
    for n in 0..write::MOST_ROWS as u64 + 500 {
        store.put(Write::SaveSession(session(&n.to_string(), 1, n)));
        if n % 1000 == 0 {
            store.done(Write::SaveLimit(limit(1, "k", n))).unwrap();
        }
    }
    store.close(true);
    let loaded = home.open().loaded;
    assert!(loaded.snapshot.sessions.len() <= write::MOST_ROWS + write::MOST_ROWS / 10);
    drop(loaded);
    let loaded = home.open().loaded;
    assert_eq!(loaded.snapshot.sessions.len(), write::MOST_ROWS);
    assert_eq!(loaded.snapshot.sessions[0].session, "500");
}

#[test]
fn an_accepted_credential_is_marked_unless_it_was_replaced() {
    let home = Home::new();
    let id = AccountId::from_bits(1);
    let OpenedStore { store, loaded } = home.open();
    let prints = loaded.fingerprint_key;
    let (key, other) = (credential("one"), credential("two"));
    store.done(account(1, "one")).unwrap();
    store.done(Write::MarkRefresh(id, Some(Wall(3)))).unwrap();
    store.done(Write::MarkAccepted(id, prints.of_credential(&other), Wall(5))).unwrap();
    store.done(Write::MarkAccepted(AccountId::from_bits(2), prints.of_credential(&key), Wall(5))).unwrap();
    store.close(true);
    let OpenedStore { store, loaded } = home.open();
    assert_eq!(loaded.credentials, [(id, credential("one"))]);
    store.done(Write::MarkAccepted(id, prints.of_credential(&key), Wall(5))).unwrap();
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!(loaded.credentials, [(id, Credential { accepted_at: Some(Wall(5)), ..credential("one") })]);
    assert_eq!(loaded.refreshing, [(id, Wall(3))], "the mark of a refresh stays");
}

#[test]
fn gateway_keys_come_back_as_they_were_and_their_last_use_changes_nothing_else() {
    let (home, store) = Home::with_store();
    let plain = GatewayKeyRecord {
        label: None,
        agent: None,
        sealed: false,
        expires_at: None,
        max_leases: None,
        last_used_at: None,
        revoked_at: None,
        ..gateway_key(2)
    };
    let placed = GatewayKeyRecord { directory: Some("/home/user/client-a".into()), ..gateway_key(4) };
    for key in [gateway_key(1), plain.clone(), gateway_key(3), placed.clone()] {
        assert_eq!(store.done(Write::SaveGatewayKey(key)), Ok(()));
    }
    let uses = vec![([1; 32], Wall(7)), ([2; 32], Wall(8)), ([9; 32], Wall(9))];
    store.write(Write::GatewayKeysUsed(uses), None);
    store.write(Write::DropGatewayKey([3; 32]), None);
    store.close(true);
    let used = |key, at| GatewayKeyRecord { last_used_at: Some(Wall(at)), ..key };
    assert_eq!(home.open().loaded.gateway_keys, [used(gateway_key(1), 7), used(plain, 8), placed]);
}
