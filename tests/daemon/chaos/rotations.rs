//! Kills around the rotation of refresh tokens, with a server that revokes a login whose token is used twice.
//!
//! A login is lost without a fault of the daemon only if the server rotated its token and the daemon was killed before
//! it could store the answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Chance, pass, rounds};
use crate::oauth_server::OauthServer;
use crate::support::{Client, Home, wait_until};

const LOGINS: usize = 6;
const HOUR_MS: u64 = 3_600_000;

#[derive(Default)]
struct Counts {
    refreshes: usize,
    /// The daemon was killed before the server rotated.
    not_rotated: usize,
    /// The new token was stored.
    kept: usize,
    /// The server rotated, and the daemon was killed before the answer was stored.
    lost: usize,
    most_lost_at_once: usize,
}

#[test]
fn kills_around_rotations_lose_no_login_that_can_be_kept() {
    let rounds = rounds("LESSOR_CHAOS_ROTATIONS", 8);
    let mut chance = Chance::new("kills around rotations");
    let server = OauthServer::start();
    let mut home = Home::new(&server.config("mine"));
    home.start();
    let mut logins: Vec<String> = (0..LOGINS).map(|number| format!("login{number}")).collect();
    for who in &logins {
        add(&mut home.client(), &server, who);
    }
    let mut counts = Counts::default();
    for round in 0..rounds {
        server.take(chance.time(Duration::from_millis(4)), chance.time(Duration::from_millis(4)));
        let rotations: Vec<usize> = logins.iter().map(|who| server.refreshes(who)).collect();
        let mut clients: Vec<Client> = logins.iter().map(|_| home.client()).collect();
        for (client, who) in clients.iter_mut().zip(&logins) {
            client.send("account.refresh", &json!({ "account": who })).unwrap();
        }
        pass(chance.time(Duration::from_millis(16)));
        home.kill();
        let acknowledged: Vec<bool> = clients.iter_mut().map(is_acknowledged).collect();
        wait_until("the server has ended its requests", || server.running() == 0);
        server.take(Duration::ZERO, Duration::ZERO);
        home.start();
        let mut client = home.client();
        let mut lost = 0;
        for (number, who) in logins.iter_mut().enumerate() {
            counts.refreshes += 1;
            let rotated = server.refreshes(who) > rotations[number];
            // the access token lives for an hour
            let shown = account(&mut client, who);
            assert_eq!(shown["state"], "ready", "round {round}, rotated: {rotated}: {shown}");
            let lease = client.call("lease.acquire", json!({ "provider": "mine", "account": who }));
            client.call("lease.release", json!({ "lease": lease["lease"] }));
            let answer = client.ask("account.refresh", &json!({ "account": who }));
            let shown = account(&mut client, who);
            if answer["error"].is_null() {
                assert_eq!(shown["state"], "ready", "{shown}");
                *if rotated { &mut counts.kept } else { &mut counts.not_rotated } += 1;
                continue;
            }
            let facts = format!("round {round}: rotated {rotated}, acknowledged {}: {shown}", acknowledged[number]);
            assert_eq!(shown["state"], "needs_login", "{facts}");
            assert!(rotated, "a login was lost that the server did not rotate: {facts}");
            assert!(!acknowledged[number], "a login was lost after it was acknowledged: {facts}");
            let why = shown["state_reason"].as_str().unwrap_or_default();
            assert!(why.contains("lost") || why.contains("interrupted"), "{facts}");
            lost += 1;
            client.call("account.remove", json!({ "account": who }));
            *who = format!("login{}-{round}", number);
            add(&mut client, &server, who);
        }
        counts.lost += lost;
        counts.most_lost_at_once = counts.most_lost_at_once.max(lost);
    }
    let Counts { refreshes, not_rotated, kept, lost, most_lost_at_once } = counts;
    println!(
        "| kills around rotations | {rounds} | {refreshes} refreshes: {kept} stored, {not_rotated} not rotated, {lost} \
         rotated and not stored (at most {most_lost_at_once} at once), each shown | 0 avoidable losses |"
    );
    assert!(kept > 0 && not_rotated > 0, "the kills were all at the same moment");
}

/// Whether the answer arrived before the kill.
fn is_acknowledged(client: &mut Client) -> bool {
    client.receive().is_ok_and(|answer| answer["error"].is_null())
}

fn add(client: &mut Client, server: &OauthServer, who: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires_at = u64::try_from(now.as_millis()).unwrap() + HOUR_MS;
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": format!("at-canary-{who}-0"),
            "refresh_token": server.login(who), "expires_at": expires_at, "label": who, "account_id": who }),
    );
}

fn account(client: &mut Client, label: &str) -> Value {
    let accounts = client.call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}
