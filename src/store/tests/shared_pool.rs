//! What is kept of a pool that many machines share.

use super::damage::{fast_home, filled};
use super::*;

fn id(bits: u64) -> AccountId {
    AccountId::from_bits(bits)
}

#[test]
fn what_is_kept_of_a_pool_comes_back_and_can_be_removed() {
    let (home, store) = Home::with_store();
    assert_eq!(pool_of(&home.crashed().open().loaded), (None, None, vec![], vec![]));
    for bits in 1..=3 {
        store.write(account(bits, "a"), None);
    }
    for write in pool_writes() {
        assert!(write.must_be_synced());
        assert_eq!(store.done(write), Ok(()));
    }
    assert_eq!(pool_of(&home.crashed().open().loaded), kept_pool());
    // an account of which only the mark is there yet: a crash came between the two
    store.done(Write::SaveSharedAccount(id(9), Some(1))).unwrap();
    assert_eq!(pool_of(&home.crashed().open().loaded), kept_pool());
    let changes = [Write::SavePoolTerm(Some((8, 1))), Write::SaveSharedAccount(id(1), Some(5))];
    store.done(Write::Together(changes.into())).unwrap();
    store.done(Write::SavePoolAnswer(id(2), None)).unwrap();
    store.done(Write::SaveSharedAccount(id(2), None)).unwrap();
    let (membership, term, shared, answers) = pool_of(&home.crashed().open().loaded);
    assert_eq!((term, shared, answers), (Some((8, 1)), vec![(id(1), 5)], vec![]));
    assert!(membership.is_some());
    store.done(Write::SavePoolAnswer(id(1), Some(5))).unwrap();
    store.done(Write::DeleteAccount(id(1))).unwrap();
    let (_, _, shared, answers) = pool_of(&home.crashed().open().loaded);
    assert_eq!((shared, answers), (vec![], vec![]), "nothing is left of a removed account");
    store.done(Write::SavePoolMembership(None)).unwrap();
    store.close(true);
    assert_eq!(pool_of(&home.open().loaded), (None, None, vec![], vec![]));
}

#[test]
fn the_mark_of_an_answer_ends_with_a_later_generation() {
    let (home, store) = Home::with_store();
    store.done(account(1, "a")).unwrap();
    store.done(Write::SavePoolAnswer(id(1), Some(4))).unwrap();
    for (generation, answers) in [(3, vec![(id(1), 4)]), (4, vec![(id(1), 4)]), (5, vec![])] {
        store.done(Write::SaveSharedAccount(id(1), Some(generation))).unwrap();
        assert_eq!(home.crashed().open().loaded.pool_answers, answers, "{generation}");
    }
}

#[test]
fn writes_that_belong_together_are_saved_together_or_not_at_all() {
    let (home, store) = Home::with_store();
    store.done(account(1, "old")).unwrap();
    let invalid = Lease { bind: Bind::Connection(ConnectionId(1)), ..lease(1, 1) };
    let together = vec![account(1, "new"), Write::SavePoolAnswer(id(1), Some(3)), Write::SaveLease(invalid.into())];
    let together = Write::Together(together);
    assert!(together.must_be_synced());
    assert!(store.done(together).is_err());
    let loaded = home.crashed().open().loaded;
    assert_eq!((loaded.credentials, loaded.pool_answers), (vec![(id(1), credential("old"))], vec![]));
    store.done(Write::Together(vec![account(1, "new"), Write::SavePoolAnswer(id(1), Some(3))])).unwrap();
    let loaded = home.crashed().open().loaded;
    assert_eq!((loaded.credentials, loaded.pool_answers), (vec![(id(1), credential("new"))], vec![(id(1), 3)]));
}

#[test]
fn a_membership_is_sealed_and_is_sealed_again_with_a_new_key() {
    let (home, store) = Home::with_store();
    for write in pool_writes() {
        store.done(write).unwrap();
    }
    assert!(!home.bytes().windows(6).any(|window| window == b"canary"));
    let (tell, told) = channel();
    store.rekey(move |outcome| tell.send(outcome.map(drop)).unwrap());
    told.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!((pool_of(&loaded).0, loaded.warnings), (kept_pool().0, vec![]));
}

#[test]
fn a_restored_database_begins_a_term_of_its_own() {
    let home = filled();
    let to = home.directory.path().join("backup");
    back_up(&home.paths, &to, false).unwrap();
    assert_eq!(pool_of(&home.open().loaded), kept_pool(), "a backup changes nothing");
    restore(&home.paths, &to, None, true).unwrap();
    let (membership, term, shared, answers) = kept_pool();
    assert_eq!(term.map(|(term, _)| term), Some(7));
    assert_eq!(pool_of(&home.open().loaded), (membership, None, shared, answers));
}

/// A damaged row never makes an account of the pool one that this machine uses alone.
#[test]
fn an_account_whose_mark_is_damaged_stays_shared() {
    let home = fast_home();
    let store = home.open().store;
    for write in [account(1, "a"), account(2, "b")].into_iter().chain(pool_writes()) {
        store.done(write).unwrap();
    }
    store.close(true);
    home.raw().execute_batch("UPDATE shared_account SET generation = 99; UPDATE pool_term SET term = 9").unwrap();
    let OpenedStore { store, loaded } = home.open();
    assert_eq!((loaded.shared_accounts, loaded.pool_term), (vec![(id(1), 0), (id(2), 0)], None));
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    // the pool says which generation it is
    store.done(Write::SaveSharedAccount(id(1), Some(4))).unwrap();
    store.done(Write::SaveSharedAccount(id(2), Some(5))).unwrap();
    store.close(true);
    let loaded = home.open().loaded;
    assert_eq!((loaded.shared_accounts, loaded.warnings), (vec![(id(1), 4), (id(2), 5)], vec![]));
}

#[test]
fn a_damaged_membership_is_reported_with_what_mends_it() {
    let home = filled();
    home.raw().execute_batch("UPDATE pool_membership SET sealed = randomblob(80)").unwrap();
    let loaded = home.open().loaded;
    assert!(loaded.membership.is_none());
    assert!(loaded.warnings[0].contains("lessor pool join"), "{:?}", loaded.warnings);
}
