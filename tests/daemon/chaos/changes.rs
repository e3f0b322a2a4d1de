//! Kills under changes: what an answer says has happened is there after the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Chance, pass, rounds};
use crate::support::{Client, Home};

/// What is known about an account.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    priority: i64,
    enabled: bool,
    limited: bool,
    max_leases: u64,
}

type Accounts = BTreeMap<String, Known>;

/// One change: the call, and what it makes of the accounts.
struct Change {
    kind: &'static str,
    method: &'static str,
    params: Value,
    after: Accounts,
}

impl Change {
    fn check(&self, answer: &Value) {
        // a call that is to make an account usable has its effect, and says what else is in the way
        let is_repair = ["account.enable", "account.clear_limits"].contains(&self.method);
        let is_in_the_way = |kind: &Value| is_repair && ["no_account", "all_limited"].iter().any(|of| kind == of);
        let error = &answer["error"];
        assert!(error.is_null() || is_in_the_way(&error["data"]["kind"]), "{} {}: {answer}", self.method, self.params);
    }
}

#[test]
fn kills_under_changes_lose_nothing_that_was_acknowledged() {
    let rounds = rounds("LESSOR_CHAOS_CHANGES", 25);
    let mut chance = Chance::new("kills under changes");
    let mut home = Home::with_accounts("", 4);
    let mut known = stored(&mut home.client());
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for round in 0..rounds {
        let mut client = home.client();
        let mut in_flight = None;
        for last in (0..=chance.below(4)).rev() {
            let Some(change) = next(&mut chance, &mut client, &known, round) else { continue };
            client.send(change.method, &change.params).unwrap();
            if last == 0 {
                pass(chance.time(Duration::from_millis(3)));
                in_flight = Some(change);
                break;
            }
            change.check(&client.receive().unwrap());
            counts.entry(change.kind).or_default()[0] += 1;
            known = change.after;
        }
        home.kill();
        let mut possible = vec![known.clone()];
        if let Some(change) = in_flight {
            let count = counts.entry(change.kind).or_default();
            match client.receive() {
                Ok(answer) => {
                    change.check(&answer);
                    count[1] += 1;
                    possible = vec![change.after];
                }
                Err(_) => {
                    count[2] += 1;
                    possible.push(change.after);
                }
            }
        }
        home.start();
        let found = stored(&mut home.client());
        assert!(possible.contains(&found), "round {round}: found {found:#?}, possible: {possible:#?}");
        known = found;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(kind, [before, last, unanswered])| format!("{kind} {}+{last} ({unanswered} unanswered)", before))
        .collect();
    println!("| kills under changes | {rounds} | answered before + at the kill: {} | 0 lost |", counts.join(", "));
}

fn next(chance: &mut Chance, client: &mut Client, known: &Accounts, round: usize) -> Option<Change> {
    let labels: Vec<&String> = known.keys().collect();
    let label = (*chance.of(&labels)).clone();
    let mut after = known.clone();
    let account = after.get_mut(&label).unwrap();
    let on = json!({ "account": label });
    let (kind, method, params) = match chance.below(9) {
        0 => {
            let number = 1 + chance.below(9);
            account.priority = i64::try_from(number).unwrap();
            ("set", "account.set", json!({ "account": label, "priority": number }))
        }
        1 => {
            account.max_leases = 1 + chance.below(7) as u64;
            ("set", "account.set", json!({ "account": label, "max_leases": account.max_leases }))
        }
        2 => {
            account.enabled = !account.enabled;
            ("enable", if account.enabled { "account.enable" } else { "account.disable" }, on)
        }
        3 | 4 if account.limited => {
            account.limited = false;
            ("clear_limits", "account.clear_limits", on)
        }
        3..=6 if account.enabled && !account.limited => {
            let params = json!({ "provider": "anthropic", "account": label, "credential": false });
            let lease = client.ask("lease.acquire", &params)["result"].clone();
            if lease.is_null() {
                return None;
            }
            account.limited = true;
            let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 3_600_000 });
            ("report", "lease.report", report)
        }
        7 if known.len() < 9 => {
            let label = format!("n{round}-{}", chance.below(1000));
            after.insert(label.clone(), Known { priority: 0, enabled: true, limited: false, max_leases: 1 });
            let secret = format!("sk-canary-{label}");
            let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": secret, "label": label });
            ("add", "account.add", params)
        }
        8 if known.len() > 3 => {
            after.remove(&label);
            ("remove", "account.remove", on)
        }
        _ => return None,
    };
    Some(Change { kind, method, params, after })
}

fn stored(client: &mut Client) -> Accounts {
    let accounts = client.call("account.list", json!({}));
    let known = accounts.as_array().unwrap().iter().map(|account| {
        let known = Known {
            priority: account["priority"].as_i64().unwrap_or_default(),
            enabled: account["enabled"].as_bool().unwrap(),
            limited: account["limits"].as_array().is_some_and(|limits| !limits.is_empty()),
            max_leases: account["capacity"].as_u64().unwrap(),
        };
        (account["label"].as_str().unwrap().to_owned(), known)
    });
    known.collect()
}
