//! Sets of accounts: what a call lists, and what the configuration has for a directory.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Client, Home, label, reference};

fn error(client: &mut Client, params: &Value) -> Value {
    let answer = client.ask("lease.acquire", params);
    assert!(answer["result"].is_null(), "{params}: {answer}");
    answer["error"].clone()
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

/// The account that a request gets; the lease ends at once.
fn peek(client: &mut Client, params: Value) -> String {
    let lease = client.call("lease.acquire", params);
    client.call("lease.release", reference(&lease));
    label(&lease)
}

fn only(names: &[&str]) -> Value {
    json!({ "provider": "anthropic", "only": names, "wait_ms": 0 })
}

#[test]
fn names_of_a_list_are_found_or_refused_with_the_nearest_ones() {
    let home = Home::with_accounts("", 3);
    let mut client = home.client();
    let add = |client: &mut Client, provider: &str, label: &str| {
        let secret = format!("sk-canary-{label}");
        let account =
            json!({ "provider": provider, "kind": "api_key", "secret": secret, "label": label, "email": "me@x.y" });
        client.call("account.add", account)["id"].as_str().unwrap().to_owned()
    };
    let id = add(&mut client, "anthropic", "mail");
    add(&mut client, "openai", "other");
    for names in [vec!["a1"], vec!["me@x.y"], vec![&id[..]], vec![&id[..8]], vec!["mail", "mail"], vec!["a1", "other"]]
    {
        let expected = if names[0] == "a1" { "a1" } else { "mail" };
        assert_eq!(peek(&mut client, only(&names)), expected, "{names:?}");
    }
    let openai = json!({ "provider": "openai", "only": ["me@x.y"], "wait_ms": 0 });
    assert_eq!(peek(&mut client, openai), "other", "an address stands for an account of each provider");
    for (names, kind, text, hint) in [
        (json!(["mial"]), "unknown_account", "there is no account \"mial\", which `only` lists", "did you mean mail?"),
        (json!(["zzzzzzzz"]), "unknown_account", "there is no account \"zzzzzzzz\"", "the accounts are: a0, a1"),
        (json!(["ac_"]), "unknown_account", "\"ac_\", which `only` lists, matches several", "name one of them: a0"),
        (json!([""]), "unknown_account", "there is no account \"\"", "the accounts are: a0"),
        (json!([]), "bad_request", "`only` lists no account", ""),
        (json!(["other"]), "not_allowed", "no anthropic account is in the set of this request: other (only)", ""),
    ] {
        let error = error(&mut client, &json!({ "provider": "anthropic", "only": names, "wait_ms": 0 }));
        assert_eq!(error["data"]["kind"], kind, "{error}");
        assert!(message(&error).starts_with(text), "{error}");
        assert!(error["data"]["hint"].as_str().unwrap_or_default().contains(hint), "{error}");
    }
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    assert_eq!(client.refused("lease.acquire", json!({ "provider": "anthropic", "only": many })), "bad_request");
}

#[test]
fn a_lease_keeps_its_set_through_reports_restarts_and_resuming() {
    let mut home = Home::with_accounts("", 4);
    let mut client = home.client();
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    let bound = json!({ "provider": "anthropic", "only": ["a1", "a2"], "bind": { "pid": process.id() } });
    let durable = client.call("lease.acquire", bound);
    let held = client.call("lease.acquire", json!({ "provider": "anthropic", "only": ["a1", "a2"] }));
    let resume = reference(&held);
    home.stop();
    home.start();
    let mut client = home.client();
    client.call("lease.resume", resume);
    for lease in [&durable, &held] {
        let report =
            |seconds: u64| json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": seconds });
        let decision = client.call("lease.report", report(600_000));
        if decision["action"] == "switch" {
            assert!(["a1", "a2"].contains(&label(&decision["lease"]).as_str()), "{decision}");
        }
    }
    let refused = error(&mut client, &only(&["a1", "a2"]));
    assert_eq!(refused["data"]["kind"], "all_limited");
    assert!(message(&refused).contains("; the set: a1, a2 (only)"), "{refused}");
    assert!(refused["data"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 500_000), "{refused}");
    for row in client.call("lease.list", json!({})).as_array().unwrap() {
        assert!(["a1", "a2"].contains(&row["account"]["label"].as_str().unwrap()), "{row}");
    }
    let explained = client.call("explain", json!({ "what": "LAST" }));
    assert_eq!(explained["request"]["set"], "a1, a2 (only)", "{explained}");
    let whys: Vec<_> = explained["candidates"].as_array().unwrap().iter().map(|one| one["why"].as_str()).collect();
    assert_eq!(whys.iter().filter(|why| **why == Some("not_in_set")).count(), 2, "{explained}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_directory_has_its_own_accounts_through_links_and_the_innermost_counts() {
    let root = crate::support::directory();
    let base = root.path().canonicalize().unwrap();
    std::fs::create_dir_all(base.join("real/inner/deep")).unwrap();
    std::fs::create_dir_all(base.join("really")).unwrap();
    symlink(base.join("real"), base.join("link")).unwrap();
    let section = |path: &str, account: &str| {
        format!("[directories.{:?}]\naccounts = [{account:?}]\n", base.join(path).display().to_string())
    };
    let config = section("link", "a1") + &section("real/inner", "a2");
    let home = Home::with_accounts(&config, 3);
    let mut client = home.client();
    let from = |path: &str| json!({ "provider": "anthropic", "directory": base.join(path), "wait_ms": 0 });
    for (path, expected) in [
        ("real", "a1"),
        ("link", "a1"),
        ("link/", "a1"),
        ("real/other", "a1"),
        ("really/../real", "a1"),
        ("real/inner", "a2"),
        ("link/inner/deep", "a2"),
    ] {
        assert_eq!(peek(&mut client, from(path)), expected, "{path}");
    }
    let elsewhere: Vec<Value> = (0..3).map(|_| client.call("lease.acquire", from("really"))).collect();
    assert_eq!(elsewhere.iter().map(label).collect::<std::collections::BTreeSet<_>>().len(), 3, "no set applies");
    let both = json!({ "provider": "anthropic", "directory": base.join("real"), "only": ["a0"], "wait_ms": 0 });
    let refused = error(&mut client, &both);
    assert_eq!(refused["data"]["kind"], "not_allowed");
    let named = format!("a0 (only) and a1 ([directories.{:?}])", base.join("link").display().to_string());
    assert!(message(&refused).ends_with(&named), "{refused}");
    assert_eq!(
        error(&mut client, &json!({ "provider": "anthropic", "directory": "x/y" }))["data"]["kind"],
        "bad_request"
    );
}

#[test]
fn a_reserve_and_a_fallback_are_set_stored_exported_and_decided_by_the_configuration() {
    let mut home = Home::with_accounts("", 2);
    let mut client = home.client();
    client.call("account.set", json!({ "account": "a0", "reserve": 0.25, "fallback_only": true }));
    assert_eq!(client.refused("account.set", json!({ "account": "a0", "reserve": 1.5 })), "bad_request");
    assert!((0..4).all(|_| peek(&mut client, only(&["a0", "a1"])) == "a1"), "the other one comes first");
    assert_eq!(peek(&mut client, only(&["a0"])), "a0");
    let exported = client.call("account.export", json!({ "secrets": false }));
    assert_eq!(
        (&exported["accounts"][0]["reserve"], &exported["accounts"][0]["fallback_only"]),
        (&json!(0.25), &json!(true))
    );
    home.stop();
    let config = "[accounts.a1]\nreserve = 0.5\n";
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    home.start();
    let mut client = home.client();
    let accounts = client.call("account.list", json!({}));
    assert_eq!((&accounts[0]["reserve"], &accounts[0]["fallback_only"]), (&json!(0.25), &json!(true)));
    assert_eq!((&accounts[1]["reserve"], &accounts[1]["fallback_only"]), (&json!(0.5), &json!(false)));
    let answer = client.ask("account.set", &json!({ "account": "a1", "reserve": 0.1 }));
    assert!(answer["error"]["message"].as_str().unwrap().ends_with("config.toml:2"), "{answer}");
    client.call("account.set", json!({ "account": "a1", "fallback_only": true }));
    // a window of which less is left than the reserve
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "account": "a1" }));
    let usage = json!({ "window": "5h", "utilization": 0.6, "resets_at": null });
    client.call("lease.report", json!({ "lease": lease["lease"], "ok": true, "usage": usage }));
    client.call("lease.release", reference(&lease));
    client.call("account.disable", json!({ "account": "a0" }));
    let refused = error(&mut client, &json!({ "provider": "anthropic", "wait_ms": 0 }));
    assert_eq!(refused["data"]["accounts"][1]["why"], "reserved", "{refused}");
    assert_eq!(refused["data"]["hint"], "to use what an account keeps in reserve, name it: --account a1");
    assert_eq!(peek(&mut client, json!({ "provider": "anthropic", "account": "a1" })), "a1");
}

/// Where the directory of a process can be read.
#[cfg(target_os = "linux")]
mod of_processes {
    use super::*;
    use crate::support::{Holder, wait_until};

    fn limit(client: &mut Client, account: &str, seconds: u64) {
        let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "account": account }));
        let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": seconds * 1000 });
        client.call("lease.report", report);
        client.call("lease.release", reference(&lease));
    }

    #[test]
    fn a_client_that_states_no_directory_has_that_of_its_process_and_a_reload_counts_at_once() {
        let root = crate::support::directory();
        let base = root.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("client-a")).unwrap();
        let home = Home::with_accounts("", 3);
        let mut client = home.client();
        for n in 0..3 {
            limit(&mut client, &format!("a{n}"), 1);
        }
        let path = base.join("client-a");
        let rule = |account: &str| {
            let text = format!("[directories.{:?}]\naccounts = [{account:?}]\n", path.display().to_string());
            std::fs::write(home.path().join("config.toml"), text).unwrap();
            let reloaded = home.client().call("config.reload", json!({}));
            assert_eq!(reloaded["state"], "ok", "{reloaded}");
            reloaded
        };
        wait_until("the limits have ended", || {
            client.call("forecast", json!({ "provider": "anthropic" }))["grantable"].as_u64() >= Some(3)
        });
        for account in ["a2", "a0"] {
            rule(account);
            assert_eq!(Holder::start_in(&home, &path).label, account);
        }
        // a lease from before follows at its next report
        let stated = json!({ "provider": "anthropic", "directory": path });
        let lease = client.call("lease.acquire", stated.clone());
        assert_eq!(label(&lease), "a0");
        let forecast = client.call("forecast", json!({ "provider": "anthropic", "directory": path }));
        assert!(forecast["set"].as_str().unwrap().starts_with("a0 ([directories."), "{forecast}");
        rule("a1");
        let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 60_000 });
        assert_eq!(label(&client.call("lease.report", report)["lease"]), "a1");
        let noted = rule("not-there");
        assert!(noted["notes"].to_string().contains("not-there"), "{noted}");
        assert_eq!(client.refused("lease.acquire", stated), "not_allowed", "a set without an account is not left");
    }
}
