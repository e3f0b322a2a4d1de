//! Real daemons that share a pool: what their holders see of seats, limits and the end of a host.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{address, server, superuser};
use crate::support::{Client, Home, PATIENCE, wait_until};

/// Short, so that a test does not wait for long.
const TTL: Duration = Duration::from_millis(4000);
const MARGIN: Duration = Duration::from_millis(1000);

/// A database for a pool, removed afterwards.
pub struct Database {
    pub name: String,
    pub server: tokio_postgres::Config,
    runtime: tokio::runtime::Runtime,
}

impl Database {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let name = format!("lessor_test_{}", lessor::shared_pool::new_pool_id().unwrap());
        let database = Self { name, server: server(), runtime };
        database.as_superuser("postgres", &format!("create database {}", database.name));
        database
    }

    pub fn as_superuser(&self, database: &str, statements: &str) {
        self.runtime.block_on(async {
            superuser(&self.server, database).await.batch_execute(statements).await.unwrap();
        });
    }

    /// Ends all connections, and lets in no others.
    pub fn cut_off(&self) {
        let name = &self.name;
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
        self.as_superuser("postgres", &format!("alter database {name} with allow_connections false; {end}"));
    }

    /// After [`Self::cut_off`].
    pub fn let_in(&self) {
        self.as_superuser("postgres", &format!("alter database {} with allow_connections true", self.name));
    }

    /// A number that a query answers.
    pub fn number(&self, query: &str) -> i64 {
        self.runtime
            .block_on(async { superuser(&self.server, &self.name).await.query_one(query, &[]).await.unwrap().get(0) })
    }

    /// A connection that stays open.
    pub fn connection(&self) -> tokio_postgres::Client {
        self.runtime.block_on(superuser(&self.server, &self.name))
    }

    /// Runs statements on such a connection.
    pub fn run(&self, connection: &tokio_postgres::Client, statements: &str) {
        self.runtime.block_on(connection.batch_execute(statements)).unwrap();
    }

    /// The URL that a configuration has: without a user.
    pub fn url(&self) -> String {
        address(&self.server, "x", &self.name, "").url.replace("x@", "")
    }

    pub fn password(&self) -> String {
        String::from_utf8(self.server.get_password().unwrap().to_vec()).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let pool = self.runtime.block_on(async {
            let root = superuser(&self.server, &self.name).await;
            let found = root.query_opt("select id from lessor.pool", &[]).await;
            found.ok().flatten().map(|row| row.get::<_, String>(0))
        });
        self.as_superuser("postgres", &format!("drop database {} with (force)", self.name));
        let Some(pool) = pool else { return };
        self.runtime.block_on(async {
            let root = superuser(&self.server, "postgres").await;
            let roles = format!("select rolname from pg_roles where rolname like 'lessor\\_{pool}\\_%'");
            for role in root.query(&roles, &[]).await.unwrap() {
                root.batch_execute(&format!("drop role {}", role.get::<_, &str>(0))).await.unwrap();
            }
        });
    }
}

const LEASES: &str = "[leases]\nper_account = 1\nmax_per_account = 1\noverflow = \"wait\"\ngrace = \"200ms\"\n";

/// The configuration of a host of the pool in this database, and more in its section `[pool]`.
pub fn configuration(database: &Database, more: &str) -> String {
    format!("{LEASES}[pool]\nurl = \"{}\"\nlinger = \"500ms\"\n{more}\n", database.url())
}

/// Makes a pool with this host in it, whose terms are short.
pub fn found(database: &Database, client: &mut Client, name: &str) {
    let owner = address(&database.server, "postgres", &database.name, "").url;
    client.call(
        "pool.init",
        json!({ "url": owner, "password": database.password(), "name": name, "per_account": 1, "max_per_account": 1,
                "overflow": "wait" }),
    );
    let (ttl, margin) = (TTL.as_millis(), MARGIN.as_millis());
    database.as_superuser(&database.name, &format!("update lessor.pool set ttl_ms = {ttl}, margin_ms = {margin}"));
}

/// Two hosts of one pool with accounts of one seat each.
pub struct Hosts {
    pub homes: [Home; 2],
    pub database: Database,
}

impl Hosts {
    pub fn with_accounts(number: usize) -> Self {
        Self::configured(number, "")
    }

    /// With more in the configuration of both.
    pub fn configured(number: usize, more: &str) -> Self {
        let database = Database::new();
        let config = format!("{LEASES}{more}\n");
        let mut first = Home::new(&config);
        first.start();
        let mut client = first.client();
        for number in 0..number {
            client.add(&format!("a{number}"));
        }
        found(&database, &mut client, "first");
        // in effect without a restart
        let url = database.url();
        let joined = format!("{config}[pool]\nurl = \"{url}\"\nlinger = \"500ms\"\n");
        std::fs::write(first.path().join("config.toml"), &joined).unwrap();
        wait_until("the first host is connected", || is_connected(&mut client));
        client.call("pool.migrate", json!({ "to": "pool" }));
        let token = client.call("pool.join_token", json!({ "name": "second" }))["token"].clone();
        let mut second = Home::new(&joined);
        second.start();
        let mut client = second.client();
        client.call("pool.join", json!({ "token": token }));
        wait_until("the second host has the accounts", || accounts(&mut client).len() == number);
        Self { homes: [first, second], database }
    }

    pub fn clients(&self) -> [Client; 2] {
        [self.homes[0].client(), self.homes[1].client()]
    }
}

pub fn is_connected(client: &mut Client) -> bool {
    client.call("pool.status", json!({}))["summary"]["state"] == "connected"
}

pub fn accounts(client: &mut Client) -> Vec<Value> {
    client.call("account.list", json!({})).as_array().unwrap().clone()
}

/// A lease without the credential: a token that was handed out would keep the seat.
pub fn acquire(client: &mut Client, wait: Duration) -> Value {
    let wait = u64::try_from(wait.as_millis()).unwrap();
    client.ask("lease.acquire", &json!({ "provider": "anthropic", "credential": false, "wait_ms": wait }))
}

pub fn account_of(lease: &Value) -> String {
    lease["result"]["account"]["id"].as_str().unwrap_or_else(|| panic!("{lease}")).to_owned()
}

#[test]
fn leases_of_two_hosts_are_on_different_accounts_and_there_are_never_more_than_seats() {
    let hosts = Hosts::with_accounts(4);
    let [mut first, mut second] = hosts.clients();
    let leases: Vec<Value> =
        (0..4).map(|at| acquire(if at % 2 == 0 { &mut first } else { &mut second }, PATIENCE)).collect();
    let mut used: Vec<String> = leases.iter().map(account_of).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 4, "{leases:?}");
    for client in [&mut first, &mut second] {
        let refused = acquire(client, Duration::ZERO);
        assert!(refused["error"]["data"]["kind"].is_string(), "{refused}");
    }
    // a seat that is free goes to the host that waits
    let waiting = std::thread::spawn({
        let mut client = hosts.homes[1].client();
        move || (acquire(&mut client, PATIENCE), client)
    });
    hosts.homes[1].client().wait_for_queue(1);
    first.call("lease.release", json!({ "lease": leases[0]["result"]["lease"] }));
    let (granted, _client) = waiting.join().unwrap();
    assert_eq!(account_of(&granted), account_of(&leases[0]));
    assert!(granted["result"]["fence"].as_u64() > leases[0]["result"]["fence"].as_u64());
}

#[test]
fn a_limit_that_one_host_learns_is_known_to_the_other_and_cleared_there_too() {
    let hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    let lease = acquire(&mut first, PATIENCE);
    let limited = account_of(&lease);
    assert!(!is_limited(&mut second, &limited));
    let began = Instant::now();
    report_limit(&mut first, &lease);
    wait_until("the other host knows the limit", || is_limited(&mut second, &limited));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    first.call("account.clear_limits", json!({ "account": limited }));
    let has_limit = |client: &mut Client| is_limited(client, &limited);
    wait_until("the limit is cleared on both", || !has_limit(&mut first) && !has_limit(&mut second));
}

fn report_limit(client: &mut Client, lease: &Value) {
    client.call(
        "lease.report",
        json!({ "lease": lease["result"]["lease"], "status": 429, "headers": { "retry-after": "900" },
                "body": "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"limit\"}}" }),
    );
}

fn is_limited(client: &mut Client, account: &str) -> bool {
    accounts(client).iter().any(|known| known["id"] == account && !known["limits"].as_array().unwrap().is_empty())
}

#[test]
fn a_limit_that_a_host_learns_without_the_database_is_known_to_others_also_if_its_daemon_ends_before() {
    let mut hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    let lease = acquire(&mut first, PATIENCE);
    hosts.database.cut_off();
    wait_until("the host knows that the database is away", || !is_connected_here(&mut first));
    report_limit(&mut first, &lease);
    hosts.homes[0].kill();
    hosts.database.let_in();
    hosts.homes[0].start();
    wait_until("the other host knows the limit", || is_limited(&mut second, &account_of(&lease)));
}

#[test]
fn the_seats_of_a_killed_host_come_free_and_a_restarted_one_goes_on_with_its_own() {
    let mut hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    let (own, lost) = (acquire(&mut first, PATIENCE), acquire(&mut second, PATIENCE));
    assert_ne!(account_of(&own), account_of(&lost));
    let killed = Instant::now();
    hosts.homes[1].kill();
    let taken = acquire(&mut first, PATIENCE);
    assert_eq!(account_of(&taken), account_of(&lost));
    assert!(killed.elapsed() > TTL, "before the other host could know that its seat was gone");
    assert!(taken["result"]["fence"].as_u64() > lost["result"]["fence"].as_u64());
    // it comes back, with a term of its own
    hosts.homes[1].start();
    let mut second = hosts.homes[1].client();
    let refused = acquire(&mut second, Duration::ZERO);
    assert!(refused["error"].is_object(), "{refused}");
    first.call("lease.release", json!({ "lease": own["result"]["lease"] }));
    let granted = acquire(&mut second, PATIENCE);
    assert_eq!(account_of(&granted), account_of(&own));
    drop(hosts.database);
}

#[test]
fn without_the_database_a_token_leaves_only_if_it_is_marked_and_leases_end_in_time() {
    let hosts = Hosts::with_accounts(2);
    let [mut first, _] = hosts.clients();
    let (marked, unmarked) = (acquire(&mut first, PATIENCE), acquire(&mut first, PATIENCE));
    let credential = |client: &mut Client, lease: &Value| {
        client.ask("lease.credential", &json!({ "lease": lease["result"]["lease"] }))
    };
    assert!(credential(&mut first, &marked)["error"].is_null());
    hosts.database.cut_off();
    wait_until("the host knows that the database is away", || !is_connected_here(&mut first));
    assert!(credential(&mut first, &marked)["error"].is_null(), "it was handed out before");
    let refused = credential(&mut first, &unmarked);
    assert_eq!(refused["error"]["data"]["kind"], "credential_unavailable", "{refused}");
    wait_until("the leases have ended", || first.call("lease.list", json!({})).as_array().unwrap().is_empty());
    hosts.database.let_in();
    // the account of the token that was handed out is taken until the token ends, the other one is not
    let granted = acquire(&mut first, PATIENCE);
    assert_eq!(account_of(&granted), account_of(&unmarked));
}

/// Without asking the database.
fn is_connected_here(client: &mut Client) -> bool {
    let warnings = client.call("status", json!({}))["warnings"].to_string();
    !warnings.contains("cannot be reached")
}
