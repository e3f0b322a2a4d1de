use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::daemon::state::LISTED_AFTER_END;
use crate::protocol::{LASTING_KEY_BYTES, lasting_key};
use crate::store::{KeyBackend, StorePaths};

const NOW: Wall = Wall(1_800_000_000_000);

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let paths = StorePaths {
        database: home.path().join("lessor.db"),
        key: home.path().join("key"),
        key_backend: KeyBackend::File,
    };
    let store = Store::open(&paths, "boot").unwrap().store;
    (home, store)
}

fn sealer() -> GatewayKeySealer {
    GatewayKeySealer::new([7; 16])
}

fn sealed(id: u64) -> String {
    sealer().seal(&GatewayKey::Client { id, agent: None, label: Some("old".into()) })
}

fn new_key(number: u8) -> (String, GatewayKeyRecord) {
    let text = lasting_key(&[number; LASTING_KEY_BYTES]);
    let record = GatewayKeyRecord {
        hash: key_hash(&text),
        client: number.into(),
        label: None,
        agent: None,
        sealed: false,
        listed_at: NOW,
        expires_at: None,
        max_leases: None,
        directory: None,
        last_used_at: None,
        revoked_at: None,
    };
    (text, record)
}

fn after(time: Duration) -> Wall {
    Wall(NOW.0 + crate::pool::millis(time))
}

fn is_valid(keys: &GatewayKeys, store: &Store, key: &str, now: Wall) -> bool {
    keys.check(store, key, now).is_ok()
}

fn revoke(keys: &GatewayKeys, store: &Store, key: &LastingKey) {
    let (done, outcome) = channel();
    keys.revoke(store, key, NOW, Box::new(move |result| done.send(result).unwrap()));
    outcome.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
}

#[test]
fn ended_keys_leave_the_list_and_a_sealed_one_never_becomes_valid_again() {
    let (_home, store) = store();
    let keys = GatewayKeys::new(sealer(), Vec::new(), true);
    let (text, record) = new_key(1);
    revoke(&keys, &store, &keys.add(record));
    let (expiring, record) = new_key(2);
    keys.add(GatewayKeyRecord { expires_at: Some(after(Duration::from_secs(1))), ..record });
    assert!(is_valid(&keys, &store, &sealed(3), NOW) && is_valid(&keys, &store, &expiring, NOW));
    revoke(&keys, &store, &keys.find("old", NOW).unwrap());
    let later = after(LISTED_AFTER_END + Duration::from_secs(2));
    for now in [NOW, later] {
        keys.tidy(&store, now);
        assert!(!is_valid(&keys, &store, &text, now) && !is_valid(&keys, &store, &sealed(3), now));
    }
    assert!(!is_valid(&keys, &store, &expiring, later));
    assert_eq!((keys.listed(NOW).len(), keys.listed(later).len()), (1, 0), "the sealed one stays, and is hidden");
}

#[test]
fn keys_that_have_ended_leave_room_for_new_ones() {
    let (_home, store) = store();
    let record = |number: u64| {
        let mut record = new_key(0).1;
        record.hash[..8].copy_from_slice(&number.to_le_bytes());
        GatewayKeyRecord { revoked_at: Some(Wall(NOW.0 - number)), ..record }
    };
    let keys = GatewayKeys::new(sealer(), (0..MOST_KEYS as u64).map(record).collect(), true);
    assert!(!keys.has_room());
    keys.tidy(&store, NOW);
    let mut left: Vec<_> = keys.listed(NOW).iter().map(|key| key.revoked_at().unwrap().0).collect();
    left.sort_unstable();
    assert_eq!((left.len(), left[0], keys.has_room()), (MOST_ENDED, NOW.0 - MOST_ENDED as u64 + 1, true));
}

#[test]
fn sealed_keys_are_listed_only_where_there_may_be_some_and_room_for_them() {
    let (_home, store) = store();
    let none = GatewayKeys::new(sealer(), Vec::new(), false);
    assert!(matches!(none.check(&store, &sealed(1), NOW), Err(InvalidKey::NotListed(_))));
    let other = GatewayKeys::new(GatewayKeySealer::new([8; 16]), Vec::new(), true);
    assert!(matches!(other.check(&store, &sealed(1), NOW), Err(InvalidKey::Unknown)));
    let many = (0..MOST_KEYS as u64).map(|number| {
        let mut record = new_key(0).1;
        record.hash[..8].copy_from_slice(&number.to_le_bytes());
        record
    });
    let full = GatewayKeys::new(sealer(), many.collect(), true);
    assert!(!full.has_room());
    assert!(matches!(full.check(&store, &sealed(1), NOW), Err(InvalidKey::NotListed(_))));
    assert!(full.find_sealed(&store, &sealed(1), NOW).is_some(), "it can be revoked all the same");
}

#[test]
fn the_name_of_a_valid_key_is_not_taken_for_an_ended_one() {
    let (_home, store) = store();
    let keys = GatewayKeys::new(sealer(), Vec::new(), true);
    let labelled = |number| GatewayKeyRecord { label: Some("editor".into()), ..new_key(number).1 };
    let (first, second) = (keys.add(labelled(1)), keys.add(labelled(2)));
    assert!(matches!(keys.find("editor", NOW), Err(NoSuchKey::Several(ids)) if ids.len() == 2));
    revoke(&keys, &store, &first);
    assert_eq!(keys.find("editor", NOW), Ok(second.clone()));
    assert_eq!(keys.find(&first.id(), NOW), Ok(first));
    assert_eq!(keys.find(&second.id()[..second.id().len() - 1], NOW), Ok(second));
    for name in ["", "gk_", "e", "EDITOR", "gk_0"] {
        assert_eq!(keys.find(name, NOW), Err(NoSuchKey::None), "{name}");
    }
}

#[test]
fn a_limited_key_lets_requests_in_as_others_end_and_none_once_it_is_revoked() {
    let (_home, store) = store();
    let keys = GatewayKeys::new(sealer(), Vec::new(), true);
    let key = keys.add(GatewayKeyRecord { max_leases: Some(2), ..new_key(1).1 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (first, _second) = (key.begin().await.unwrap(), key.begin().await.unwrap());
        let mut third = Box::pin(key.begin());
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut third).await.is_err());
        assert_eq!(key.in_use(), 2);
        drop(first);
        let third = third.await;
        assert!(third.is_some() && key.in_use() == 2);
        let waiting = key.begin();
        revoke(&keys, &store, &key);
        assert!(waiting.await.is_none() && key.begin().await.is_none());
        assert!(*key.revocation().borrow());
    });
    assert_eq!(key.in_use(), 0);
}

#[test]
fn requests_of_a_key_are_cut_by_its_revocation_and_so_are_later_ones() {
    let (_home, store) = store();
    let keys = GatewayKeys::new(sealer(), Vec::new(), true);
    let (used, unused) = (keys.add(new_key(1).1), keys.add(new_key(2).1));
    let requests = [used.revocation(), used.revocation()];
    assert!(requests.iter().all(|request| !*request.borrow()));
    for key in [&used, &unused] {
        revoke(&keys, &store, key);
        assert!(*key.revocation().borrow());
    }
    assert!(requests.iter().all(|request| *request.borrow()));
    let restored = GatewayKeys::new(sealer(), vec![used.current_record()], true).find(&used.id(), NOW).unwrap();
    assert!(*restored.revocation().borrow());
}

#[test]
fn one_reason_is_logged_once_in_a_while() {
    let pause = LogPause::default();
    assert!(pause.is_over(NOW) && !pause.is_over(NOW) && !pause.is_over(after(Duration::from_secs(59))));
    assert!(pause.is_over(after(Duration::from_secs(60))));
    assert!(pause.is_over(Wall(5)), "the clock was set back");
}
