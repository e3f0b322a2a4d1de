//! A daemon that uses the accounts of another one over a link: what its programs and its host's user see.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host_links::{HOST, HostLink, is_up};
use crate::support::{Client, Home, label, reference, wait_until};

const WAIT: &str = "[leases]\nper_account = 1\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";
/// Longer than a test.
const LONG: u64 = 600_000;

fn leases(client: &mut Client) -> Vec<Value> {
    client.call("lease.list", json!({})).as_array().unwrap().clone()
}

fn guests(client: &mut Client) -> Vec<Value> {
    client.call("status", json!({}))["guests"].as_array().unwrap().clone()
}

fn waiting() -> Value {
    json!({ "provider": "anthropic", "wait_ms": 60_000 })
}

#[test]
fn status_leases_and_history_name_guest_and_host_on_both_sides() {
    let host = Home::with_accounts(WAIT, 2);
    let link = HostLink::to(&host, None);
    let guest = link.guest(LONG);
    let (mut at_host, mut at_guest) = (host.client(), guest.client());
    let mut agent = guest.client();
    let lease = agent.acquire();
    let own = leases(&mut at_guest);
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(own[0]["fence"], lease["fence"]);
    let [known] = &guests(&mut at_host)[..] else { panic!("no guest") };
    let name = known["name"].as_str().unwrap();
    assert!(name.contains('@') && known["state"] == "up" && known["leases"] == 1, "{known}");
    let [row] = &leases(&mut at_host)[..] else { panic!("no lease") };
    let program = row["holder"]["program"].as_str().unwrap();
    assert!(program.starts_with(&format!("{name}: ")), "{program}");
    let status = at_guest.call("status", json!({}));
    assert_eq!((&status["host"]["name"], &status["host"]["state"]), (&json!(HOST), &json!("up")), "{status}");
    // its connection is what the lease belongs to
    drop(agent);
    wait_until("the account is free at the host", || leases(&mut at_host).is_empty());
    let past = json!({ "of": "leases", "limit": 10 });
    let mut of_host = Value::Null;
    wait_until("the lease is in the history", || {
        of_host = at_host.call("history.query", past.clone());
        of_host.to_string().contains(&format!("{name}: "))
    });
    assert_eq!(of_host["guest_of"], Value::Null, "{of_host}");
    let of_guest = at_guest.call("history.query", past);
    assert_eq!(of_guest["guest_of"], HOST, "{of_guest}");
    assert!(of_guest.to_string().contains(&format!("{name}: ")), "{of_guest}");
}

#[test]
fn a_call_whose_link_ends_is_answered_over_the_next_one_and_once() {
    let host = Home::with_accounts(WAIT, 1);
    let link = HostLink::to(&host, None);
    let guest = link.guest(LONG);
    let (mut owner, mut agent) = (host.client(), guest.client());
    let held = owner.acquire();
    agent.send("lease.acquire", &waiting()).unwrap();
    owner.wait_for_queue(1);
    for _ in 0..2 {
        link.end();
        // it leaves the queue with its channel, and is sent again
        wait_until("the link is back", || guests(&mut owner).iter().any(|guest| guest["state"] == "up"));
        owner.wait_for_queue(1);
    }
    owner.call("lease.release", reference(&held));
    let granted = agent.receive().unwrap();
    assert_eq!(label(&granted["result"]), "a0", "{granted}");
    let rows = leases(&mut owner);
    assert_eq!(rows.len(), 1, "{rows:?}");
    // the lease that it got is the one that the host has
    agent.call("lease.renew", reference(&granted["result"]));
    agent.call("lease.release", reference(&granted["result"]));
    assert!(leases(&mut owner).is_empty());
}

#[test]
fn a_subscription_goes_on_over_the_next_link() {
    let host = Home::with_accounts(WAIT, 1);
    let link = HostLink::to(&host, None);
    let guest = link.guest(LONG);
    let mut subscriber = guest.client();
    subscriber.call("events.subscribe", json!({ "kinds": ["lease.granted"] }));
    let mut agent = guest.client();
    let before = agent.acquire();
    let event = subscriber.receive().unwrap();
    assert_eq!((&event["params"]["kind"], &event["params"]["fence"]), (&json!("lease.granted"), &before["fence"]));
    agent.call("lease.release", reference(&before));
    link.end();
    // what happens before the subscription is on the next link is not seen
    subscriber.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    wait_until("an event arrives over the next link", || {
        // calls wait for the link
        let after = agent.acquire();
        agent.call("lease.release", reference(&after));
        subscriber.receive().is_ok_and(|event| event["params"]["fence"] == after["fence"])
    });
}

#[test]
fn a_link_that_stays_down_ends_the_leases_at_both_ends_and_says_why() {
    let host = Home::with_accounts(WAIT, 1);
    let link = HostLink::to(&host, None);
    let guest = link.guest(1500);
    let (mut owner, mut agent) = (host.client(), guest.client());
    let lease = agent.acquire();
    link.cut();
    wait_until("the lease ends at the host", || leases(&mut owner).is_empty());
    let refused = agent.ask("lease.acquire", &waiting());
    assert_eq!(refused["error"]["data"]["kind"], "host_unreachable", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("the way is cut"), "{refused}");
    let status = agent.call("status", json!({}));
    assert_eq!(status["host"]["state"], "down", "{status}");
    link.mend();
    wait_until("the link is back", || is_up(&mut guest.client()));
    assert_eq!(agent.refused("lease.renew", reference(&lease)), "stale_lease");
    agent.acquire();
}

#[test]
fn a_call_of_another_client_is_not_held_up_by_one_that_waits() {
    let host = Home::with_accounts(WAIT, 1);
    let link = HostLink::to(&host, None);
    let guest = link.guest(LONG);
    let (mut first, mut second) = (guest.client(), guest.client());
    let held = first.acquire();
    second.send("lease.acquire", &waiting()).unwrap();
    host.client().wait_for_queue(1);
    // on the same connection, too: answers come in the order in which they are ready
    second.send("account.list", &json!({})).unwrap();
    let answer = second.receive().unwrap();
    assert!(answer["result"].is_array(), "{answer}");
    first.call("lease.release", reference(&held));
    assert!(second.receive().unwrap()["result"]["fence"].is_u64());
}

#[test]
fn what_the_host_has_decided_for_a_guest_holds_whatever_the_guest_does() {
    let host = Home::with_accounts(WAIT, 4);
    let forced = "share --stdio --name build --only a0,a1 --max-leases 2";
    let link = HostLink::to(&host, Some(forced));
    let (one, two) = (link.guest(LONG), HostLink::to(&host, Some(forced)).guest(LONG));
    let (mut first, mut second) = (one.client(), two.client());
    let mut owner = host.client();
    let names: Vec<Value> = guests(&mut owner).iter().map(|guest| guest["name"].clone()).collect();
    assert_eq!(names, ["build", "build"]);
    let leases_of_both = [first.acquire(), second.acquire()];
    let mut labels = leases_of_both.each_ref().map(label);
    labels.sort_unstable();
    assert_eq!(labels, ["a0", "a1"]);
    for client in [&mut first, &mut second] {
        assert_eq!(client.refused("lease.acquire", waiting()), "no_capacity", "both links count together");
    }
    // nothing is said of the other accounts, whatever is named
    first.call("lease.release", reference(&leases_of_both[0]));
    for params in [
        json!({ "only": ["a2"] }),
        json!({ "only": ["zzz"] }),
        json!({ "exclude": ["zzz"] }),
        json!({ "account": "a3" }),
    ] {
        let mut request = json!({ "provider": "anthropic", "wait_ms": 0 });
        request.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let answer = first.ask("lease.acquire", &request);
        let text = answer["error"].to_string();
        assert!(!text.contains("a2") && !text.contains("a3") && answer["result"].is_null(), "{request}: {answer}");
    }
    let accounts = first.call("account.list", json!({}));
    assert_eq!(accounts.as_array().unwrap().len(), 2, "{accounts}");
    // a name that moves to another account takes the guest's lease with it
    let on = label(&leases_of_both[1]);
    owner.call("account.set", json!({ "account": on, "label": "private" }));
    wait_until("the lease on it has ended", || leases(&mut owner).is_empty());
    assert_eq!(second.refused("lease.renew", reference(&leases_of_both[1])), "stale_lease");
}
