//! What the daemon keeps in memory does not grow while accounts, leases and keys come and go.

use serde_json::json;

use crate::daemon::api::reply::tests::{TestDaemon, add, key};
use crate::daemon::os::clock;
use crate::pool::{AccountId, Command, ConnectionId};
use crate::protocol::key_hash;
use crate::store::GatewayKeyRecord;

/// An account comes, is leased and goes; so does a key of the gateway.
fn come_and_go(test: &mut TestDaemon, number: u64) {
    let (daemon, now) = (test.daemon.clone(), clock::now());
    // the ids of accounts have the same number of digits
    let id = AccountId::from_bits(1 << 60 | number);
    add(&daemon, id, &key("k"));
    let session = format!("s{}", number % 7);
    test.call("lease.acquire", &json!({ "provider": "p", "account": id.to_string(), "session": session }));
    daemon.save_last_uses();
    daemon.state().apply(now, Command::RemoveAccount(id)).no_answer().unwrap();
    let record = GatewayKeyRecord {
        hash: key_hash(&number.to_string()),
        client: number,
        label: Some("editor".into()),
        agent: None,
        sealed: false,
        listed_at: now.wall,
        expires_at: None,
        max_leases: None,
        directory: None,
        last_used_at: None,
        revoked_at: None,
    };
    let key = daemon.gateway_keys.add(record);
    let _revoked_later = daemon.gateway_keys.revoke(&daemon.store, &key, now.wall, Box::new(drop));
}

#[tokio::test]
async fn what_the_state_keeps_does_not_grow_while_accounts_leases_and_keys_come_and_go() {
    let mut test = TestDaemon::new(&[(1, key("a"))]);
    let (mut number, mut sizes) = (1000, Vec::new());
    // first what is kept up to a bound is filled: events and ended keys
    for most in [1100, 300, 300] {
        for _ in 0..most {
            number += 1;
            come_and_go(&mut test, number);
            if number % 50 == 0 {
                test.written().await;
            }
        }
        test.daemon.save_last_uses();
        test.written().await;
        // a lease of an account that is written leaves no note of those that were not
        test.call("lease.acquire", &json!({ "provider": "p" }));
        test.daemon.state().apply(clock::now(), Command::ConnectionClosed(ConnectionId(1))).no_answer().unwrap();
        assert!(test.daemon.state().pool.leases().next().is_none());
        // whatever table there is, each of its entries is some of these words
        let state = format!("{:?}{:?}", *test.daemon.state(), test.daemon.gateway_keys);
        sizes.push(state.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).count());
    }
    let [_, before, after] = sizes[..] else { unreachable!("three rounds") };
    assert!(after < before + 300, "{before} → {after}");
}
