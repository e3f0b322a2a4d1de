//! Kills around the rotation of refresh tokens, with a server that revokes a login whose token is used twice.
//!
//! A login is lost without a fault of the daemon only if the server rotated its token and the daemon was killed before
//! it could store the answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Chance, pass, rounds};
use crate::oauth_server::{Fail, OauthServer};
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

/// When the daemon is killed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kill {
    /// When the server has a request, and before it rotates any token.
    BeforeRotation,
    /// When every answer has arrived.
    Acknowledged,
    /// At a random moment, in half of the rounds counted from the moment when the server has a request.
    Anywhere,
}

#[test]
fn kills_around_rotations_lose_no_login_that_can_be_kept() {
    let rounds = rounds("LESSOR_CHAOS_ROTATIONS", 8);
    let mut scene = Scene::new();
    for (number, kill) in [Kill::BeforeRotation, Kill::Acknowledged].into_iter().enumerate() {
        scene.round(number, kill);
        let Counts { refreshes, not_rotated, kept, .. } = std::mem::take(&mut scene.counts);
        let expected = if kill == Kill::BeforeRotation { not_rotated } else { kept };
        assert_eq!((refreshes, expected), (LOGINS, LOGINS), "{kill:?}");
    }
    (2..rounds + 2).for_each(|number| scene.round(number, Kill::Anywhere));
    let Counts { refreshes, not_rotated, kept, lost, most_lost_at_once } = scene.counts;
    println!(
        "| kills around rotations | {rounds} | {refreshes} refreshes: {kept} stored, {not_rotated} not rotated, {lost} \
         rotated and not stored (at most {most_lost_at_once} at once), each shown | 0 avoidable losses |"
    );
    let is_long = rounds >= 100;
    assert!(!is_long || kept > 0 && not_rotated > 0 && lost > 0, "the kills were all at the same moment");
}

struct Scene {
    server: OauthServer,
    home: Home,
    logins: Vec<String>,
    chance: Chance,
    counts: Counts,
}

impl Scene {
    fn new() -> Self {
        let chance = Chance::new("kills around rotations");
        let server = OauthServer::start();
        let mut home = Home::new(&server.config("mine"));
        home.start();
        let logins: Vec<String> = (0..LOGINS).map(|number| format!("login{number}")).collect();
        for who in &logins {
            add(&mut home.client(), &server, who);
        }
        Self { server, home, logins, chance, counts: Counts::default() }
    }

    fn round(&mut self, round: usize, kill: Kill) {
        let rotations: Vec<usize> = self.logins.iter().map(|who| self.server.refreshes(who)).collect();
        let acknowledged = self.refresh_and_kill(kill);
        self.home.start();
        let mut client = self.home.client();
        let mut lost = 0;
        for number in 0..LOGINS {
            let who = self.logins[number].clone();
            self.counts.refreshes += 1;
            let rotated = self.server.refreshes(&who) > rotations[number];
            // the access token lives for an hour
            let shown = account(&mut client, &who);
            assert_eq!(shown["state"], "ready", "round {round}, rotated: {rotated}: {shown}");
            let lease = client.call("lease.acquire", json!({ "provider": "mine", "account": who }));
            client.call("lease.release", json!({ "lease": lease["lease"] }));
            let answer = client.ask("account.refresh", &json!({ "account": who }));
            let shown = account(&mut client, &who);
            if answer["error"].is_null() {
                assert_eq!(shown["state"], "ready", "{shown}");
                *if rotated { &mut self.counts.kept } else { &mut self.counts.not_rotated } += 1;
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
            self.logins[number] = format!("login{number}-{round}");
            add(&mut client, &self.server, &self.logins[number]);
        }
        self.counts.lost += lost;
        self.counts.most_lost_at_once = self.counts.most_lost_at_once.max(lost);
    }

    /// Refreshes every login and kills the daemon; which refreshes were acknowledged.
    fn refresh_and_kill(&mut self, kill: Kill) -> Vec<bool> {
        let Self { server, home, logins, chance, .. } = self;
        server.take(chance.time(Duration::from_millis(4)), chance.time(Duration::from_millis(4)));
        if kill == Kill::BeforeRotation {
            server.fail_always(Some(Fail::CloseBefore));
        }
        let requests = server.requests();
        let mut clients: Vec<Client> = logins.iter().map(|_| home.client()).collect();
        for (client, who) in clients.iter_mut().zip(&*logins) {
            client.send("account.refresh", &json!({ "account": who })).unwrap();
        }
        let mut acknowledged = None;
        match kill {
            Kill::BeforeRotation => wait_until("a request arrives", || server.requests() > requests),
            Kill::Acknowledged => acknowledged = Some(clients.iter_mut().map(is_acknowledged).collect()),
            Kill::Anywhere => {
                if chance.below(2) == 0 {
                    wait_until("a request arrives", || server.requests() > requests);
                }
                pass(chance.time(Duration::from_millis(16)));
            }
        }
        home.kill();
        let acknowledged = acknowledged.unwrap_or_else(|| clients.iter_mut().map(is_acknowledged).collect());
        wait_until("the server has ended its requests", || server.running() == 0);
        server.take(Duration::ZERO, Duration::ZERO);
        server.fail_always(None);
        acknowledged
    }
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
