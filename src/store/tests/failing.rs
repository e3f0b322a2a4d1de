//! Failing writes.

use super::*;

/// Stops the database from growing; SQLite then reports a full disk.
fn fill_disk(store: &Store) {
    store.touch(|database| {
        database.execute_batch("PRAGMA max_page_count = 1").unwrap();
    });
}

fn free_disk(store: &Store) {
    store.touch(|database| database.execute_batch("PRAGMA max_page_count = 1000000").unwrap());
}

fn long_session(n: u64) -> Write {
    Write::SaveSession(session(&format!("{n}-{}", "x".repeat(9000)), 1, n))
}

#[test]
fn a_full_disk_is_reported_and_writes_without_a_callback_are_done_later() {
    let (home, store) = Home::with_store();
    store.done(account(1, "first")).unwrap();
    fill_disk(&store);
    store.write(long_session(1), None);
    store.write(long_session(2), None);
    let error = store.done(long_session(3)).unwrap_err();
    assert!(error.is_disk() && error.to_string().contains("free some space"), "{error}");
    assert!(error.to_string().contains("lessor.db"));
    let StoreHealth::Failing(failure) = store.health() else { panic!("{:?}", store.health()) };
    assert_eq!((failure.waiting, failure.dropped), (2, 0));
    assert!(failure.since > Wall(0) && failure.message == error.to_string());
    // a token that was not saved must not be handed out
    assert!(store.done(Write::ReserveFences(Fence(10))).is_err());

    free_disk(&store);
    store.done(Write::LastUsed(Vec::new())).unwrap();
    assert_eq!(store.health(), StoreHealth::Ok);
    store.close(true);
    let loaded = home.open().loaded;
    let used: Vec<u64> = loaded.snapshot.sessions.iter().map(|session| session.used_at.0).collect();
    assert_eq!(used, [1, 2]);
    assert_eq!(loaded.fence, Fence(1));
    assert!(loaded.clean);
}

#[test]
fn no_write_overtakes_a_waiting_one() {
    let (home, store) = Home::with_store();
    fill_disk(&store);
    let old = AccountRecord { disabled_reason: Some("x".repeat(20_000)), ..record(1) };
    store.write(Write::SaveAccount { record: Box::new(old), credential: None }, None);
    assert!(store.done(Write::SaveAccount { record: Box::new(record(1)), credential: None }).is_err());
    free_disk(&store);
    store.done(Write::SaveAccount { record: Box::new(record(1)), credential: None }).unwrap();
    store.close(true);
    assert_eq!(home.open().loaded.snapshot.accounts, [record(1)]);
}

#[test]
fn a_run_that_lost_writes_did_not_end_cleanly() {
    let (home, store) = Home::with_store();
    fill_disk(&store);
    store.write(long_session(1), None);
    assert!(matches!(store.close(true), StoreHealth::Failing(_)));
    assert!(!home.open().loaded.clean);
}

#[test]
fn waiting_writes_are_bounded_and_logins_are_dropped_last() {
    let (home, store) = Home::with_store();
    fill_disk(&store);
    store.write(
        Write::SaveAccount {
            record: Box::new(AccountRecord { email: Some("x".repeat(20_000)), ..record(1) }),
            credential: Some(credential("a")),
        },
        None,
    );
    for n in 0..MOST_WAITING as u64 + 50 {
        store.write(Write::DropLease(Fence(n)), None);
        if n % 500 == 0 {
            store.touch(|_| {});
        }
    }
    store.touch(|_| {});
    assert!(store.done(Write::LastUsed(Vec::new())).is_err());
    let StoreHealth::Failing(failure) = store.health() else { panic!() };
    assert_eq!(failure.waiting, MOST_WAITING);
    assert_eq!(failure.dropped, 51);
    free_disk(&store);
    store.done(Write::LastUsed(Vec::new())).unwrap();
    drop(store);
    assert_eq!(home.open().loaded.credentials, [(AccountId::from_bits(1), credential("a"))]);
}

#[test]
fn an_invalid_write_does_not_make_others_fail() {
    let (home, store) = Home::with_store();
    let (hold, held) = channel::<()>();
    store.inbox.send(WriterMessage::Touch(Box::new(move |_| held.recv().unwrap()))).unwrap();
    let bound = Arc::new(Lease { bind: Bind::Connection(ConnectionId(1)), ..lease(1, 1) });
    let told = [account(1, "a"), Write::SaveLease(bound.clone()), Write::SaveLease(lease(2, 1).into())]
        .map(|write| store.put(write));
    store.write(Write::SaveLease(bound), None);
    hold.send(()).unwrap();
    let [first, bad, last] = told.map(|told| told.recv_timeout(Duration::from_secs(60)).unwrap());
    assert_eq!((first, last), (Ok(()), Ok(())));
    assert!(bad.unwrap_err().to_string().contains("connection"));
    assert_eq!(store.health(), StoreHealth::Ok);
    drop(store);
    assert_eq!(home.open().loaded.snapshot.leases, [lease(2, 1)]);
}

#[test]
fn callbacks_run_in_order_and_after_the_commit() {
    let (_home, store) = Home::with_store();
    let (tell, told) = channel();
    for n in 0..200 {
        let tell = tell.clone();
        let done: WriteCallback = Box::new(move |result| tell.send((n, result)).unwrap());
        store.write(Write::SaveLease(lease(n, 1).into()), Some(done));
    }
    for n in 0..200 {
        assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), (n, Ok(())));
    }
    store.close(true);
    assert_eq!(store.done(Write::DropLease(Fence(1))), Err(WriteError::Closed));
}

#[test]
fn a_panicking_callback_does_not_stop_the_thread() {
    let (home, store) = Home::with_store();
    store.write(account(1, "a"), Some(Box::new(|_| panic!("on purpose"))));
    assert_eq!(store.done(account(2, "b")), Ok(()));
    drop(store);
    assert_eq!(home.open().loaded.credentials.len(), 2);
}
