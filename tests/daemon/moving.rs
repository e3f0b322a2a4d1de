//! `lease.move`: leases whose holders have the credential themselves move when the holders call.

use serde_json::{Value, json};

use crate::support::{Client, Home, fence, label, reference};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

fn labels(client: &mut Client) -> Vec<String> {
    let leases = client.call("lease.list", json!({}));
    let mut labels: Vec<String> = leases.as_array().unwrap().iter().map(label).collect();
    labels.sort();
    labels
}

fn error(client: &mut Client, params: Value) -> (String, String) {
    let answer = client.ask("lease.move", &params);
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{params}: {answer}")).to_owned();
    (text(&answer["error"]["data"]["kind"]), text(&answer["error"]["message"]))
}

/// The label of the account that is not `label`, of two.
fn other_of(label: &str) -> &'static str {
    if label == "a0" { "a1" } else { "a0" }
}

fn two_accounts(config: &str) -> Home {
    let mut home = Home::new(config);
    home.start();
    let mut client = home.client();
    ["a0", "a1"].into_iter().for_each(|label| client.add(label));
    home
}

#[test]
fn a_holder_learns_of_its_new_lease_with_its_next_report() {
    let home = two_accounts(WAIT);
    let (mut holder, mut user) = (home.client(), home.client());
    let lease = holder.acquire();
    let before = label(&lease);
    let moved = user.call("lease.move", json!({ "lease": lease["lease"] }));
    assert_eq!((&moved["from"]["label"], &moved["to"]["label"]), (&json!(before), &json!(other_of(&before))));
    assert_eq!((&moved["lease"], &moved["at_next_request"]), (&lease["lease"], &json!(true)));
    assert_eq!(labels(&mut user), [before.as_str()], "it has the old credential still");
    let decision = holder.call("lease.report", json!({ "lease": lease["lease"], "ok": true }));
    assert_eq!(decision["action"], "switch");
    let new = &decision["lease"];
    assert_eq!(label(new), other_of(&before));
    assert!(fence(new) > fence(&lease) && !new["credential"].is_null());
    assert_eq!(labels(&mut user), [other_of(&before)]);
    for method in ["lease.renew", "lease.release"] {
        assert_eq!(holder.refused(method, reference(&lease)), "stale_lease", "{method} changes nothing");
    }
    let decision = holder.call("lease.report", json!({ "lease": new["lease"], "ok": true }));
    assert_eq!(decision["action"], "continue", "it moves once");
}

#[test]
fn a_holder_learns_of_its_new_lease_with_its_next_renewal() {
    let home = two_accounts(WAIT);
    let mut holder = home.client();
    let lease = holder.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl", "ttl_ms": 60_000 }));
    // the beginning of the id is enough, as in lists
    let prefix = &lease["lease"].as_str().unwrap()[..14];
    home.client().call("lease.move", json!({ "lease": prefix, "to": other_of(&label(&lease)) }));
    let renewed = holder.call("lease.renew", reference(&lease));
    assert_eq!(label(&renewed), other_of(&label(&lease)));
    assert!(fence(&renewed) > fence(&lease) && !renewed["expires_at"].is_null());
    assert_eq!(holder.call("lease.renew", reference(&renewed))["lease"], renewed["lease"]);
}

#[test]
fn a_refused_request_moves_to_the_account_that_the_user_has_named() {
    let home = Home::with_accounts(WAIT, 4);
    let (mut holder, mut user) = (home.client(), home.client());
    let lease = holder.acquire();
    let accounts = user.call("account.list", json!({}));
    let last = accounts.as_array().unwrap().iter().rfind(|one| one["id"] != lease["account"]["id"]).unwrap();
    user.call("lease.move", json!({ "lease": lease["lease"], "to": last["id"] }));
    let decision = holder.call("lease.report", json!({ "lease": lease["lease"], "status": 429 }));
    assert_eq!((&decision["action"], &decision["lease"]["account"]["id"]), (&json!("switch"), &last["id"]));
}

#[test]
fn a_session_stays_on_the_account_that_its_lease_has_moved_to() {
    let home = two_accounts("");
    let mut holder = home.client();
    let ask = json!({ "provider": "anthropic", "session": "s" });
    let lease = holder.call("lease.acquire", ask.clone());
    home.client().call("lease.move", json!({ "lease": lease["lease"] }));
    let new = holder.call("lease.report", json!({ "lease": lease["lease"], "ok": true }))["lease"].clone();
    holder.call("lease.release", reference(&new));
    assert_eq!(label(&holder.call("lease.acquire", ask)), label(&new));
}

#[test]
fn a_program_that_asks_for_its_token_again_gets_that_of_the_new_account() {
    let home = two_accounts(WAIT);
    let mut client = home.client();
    let ask = json!({ "provider": "anthropic", "bind": { "pid": std::process::id() } });
    let first = client.call("lease.token", ask.clone());
    let moved = client.call("lease.move", json!({ "pid": std::process::id() }));
    assert_eq!(moved["holder"]["pid"], std::process::id());
    let second = client.call("lease.token", ask.clone());
    assert_eq!(label(&second), other_of(&label(&first)));
    assert_ne!(second["credential"]["secret"], first["credential"]["secret"]);
    assert_eq!(client.call("lease.token", ask)["lease"], second["lease"]);
    assert_eq!(labels(&mut client), [label(&second)]);
}

#[test]
fn a_process_below_the_holder_names_its_lease_and_several_leases_are_listed() {
    let home = Home::with_accounts("", 3);
    let mut client = home.client();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let ask = json!({ "provider": "anthropic", "bind": { "pid": std::process::id() } });
    let lease = client.call("lease.acquire", ask.clone());
    let moved = client.call("lease.move", json!({ "pid": child.id() }));
    assert_eq!(moved["lease"], lease["lease"]);
    let second = client.call("lease.acquire", ask);
    let (kind, message) = error(&mut client, json!({ "pid": child.id() }));
    assert_eq!(kind, "bad_request");
    for lease in [&lease, &second] {
        assert!(message.contains(lease["lease"].as_str().unwrap()), "{message}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_move_without_effect_is_refused_with_the_reason() {
    let home = two_accounts("[leases]\noverflow = \"fail\"\n");
    let mut client = home.client();
    let lease = client.acquire();
    let (held, free) = (label(&lease), other_of(&label(&lease)));
    let to = |account: &str| json!({ "lease": lease["lease"], "to": account });
    let refused = |client: &mut Client, params: Value, kind: &str, part: &str| {
        let (found, message) = error(client, params);
        assert!(found == kind && message.contains(part), "{found}: {message}");
    };
    refused(&mut client, to(&held), "bad_request", "already");
    refused(&mut client, to("nothing"), "unknown_account", "nothing");
    refused(&mut client, json!({ "lease": "ls_nothing" }), "unknown_lease", "ls_nothing");
    refused(&mut client, json!({}), "bad_request", "one of");
    refused(&mut client, json!({ "pid": 1 }), "unknown_lease", "process 1");
    let mut other = home.client();
    let busy = other.acquire();
    refused(&mut client, to(free), "no_capacity", "1 of at most 1");
    refused(&mut client, json!({ "lease": lease["lease"] }), "no_capacity", "no other anthropic account");
    // the other account has a limit
    let decision = other
        .call("lease.report", json!({ "lease": busy["lease"], "reason": "quota_exhausted", "retry_after_ms": 90_000 }));
    assert_eq!(decision["action"], "wait");
    other.call("lease.release", reference(&busy));
    for params in [to(free), json!({ "lease": lease["lease"] })] {
        let answer = client.ask("lease.move", &params);
        assert_eq!(answer["error"]["data"]["kind"], "all_limited", "{answer}");
        assert!(answer["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 60_000, "{answer}");
    }
    client.call("account.disable", json!({ "account": free }));
    refused(&mut client, to(free), "no_account", "disabled");
    client.call("account.remove", json!({ "account": free }));
    refused(&mut client, json!({ "lease": lease["lease"] }), "no_account", "the only anthropic account");
    client.call("lease.release", reference(&lease));
    refused(&mut client, json!({ "lease": lease["lease"] }), "stale_lease", "ended");
}

#[test]
fn a_lease_whose_account_was_requested_by_name_stays() {
    let home = two_accounts("");
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "account": "a0" }));
    let (kind, message) = error(&mut client, json!({ "lease": lease["lease"], "to": "a1" }));
    assert!(kind == "not_allowed" && message.contains("by name"), "{kind}: {message}");
}
