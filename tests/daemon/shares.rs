//! Further sockets, each with a policy of its own, which holds for what its clients have already, too.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Client, Home, label, reference, wait_until};

const WAIT: &str = "[leases]\nper_account = 1\noverflow = \"wait\"\n[selection]\nreuse_window = \"0s\"\n";

struct Shared {
    home: Home,
    owner: Client,
}

impl Shared {
    fn new(policy: &str) -> Self {
        let mut home = Home::new("");
        let config = Self::config(&home, policy);
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        home.start();
        let mut owner = home.client();
        (0..4).for_each(|number| owner.add(&format!("a{number}")));
        let shared = Self { home, owner };
        wait_until("the share is served", || Client::try_connect(&shared.socket()).is_ok());
        shared
    }

    fn config(home: &Home, policy: &str) -> String {
        format!("{WAIT}[share.box]\nsocket = \"{}/box/lessor.sock\"\n{policy}\n", home.path().display())
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("box/lessor.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Another policy is in the configuration from now on.
    fn set(&mut self, policy: &str) {
        std::fs::write(self.home.path().join("config.toml"), Self::config(&self.home, policy)).unwrap();
        self.owner.call("config.reload", json!({}));
    }

    /// The accounts of all leases.
    fn held(&mut self) -> Vec<String> {
        let rows = self.owner.call("lease.list", json!({}));
        let mut labels: Vec<String> = rows.as_array().unwrap().iter().map(label).collect();
        labels.sort_unstable();
        labels
    }
}

/// Of the user that runs this.
fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn acquire(client: &mut Client) -> Value {
    client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }))
}

#[test]
fn a_policy_that_changes_holds_at_once_and_connections_stay() {
    let uid = own_uid();
    let mut shared = Shared::new(&format!("uid = {uid}\nonly = [\"a0\", \"a1\", \"a2\"]\nmax_leases = 3"));
    let mut clients: Vec<Client> = (0..3).map(|_| shared.client()).collect();
    let leases: Vec<Value> = clients.iter_mut().map(acquire).collect();
    assert_eq!(shared.held(), ["a0", "a1", "a2"]);
    let mut more = shared.client();
    assert_eq!(more.refused("lease.acquire", json!({ "provider": "anthropic" })), "no_capacity");
    // an account less
    shared.set(&format!("uid = {uid}\nonly = [\"a0\", \"a1\"]\nmax_leases = 3"));
    wait_until("the lease on it has ended", || shared.held() == ["a0", "a1"]);
    // fewer leases: the older one stays
    shared.set(&format!("uid = {uid}\nonly = [\"a0\", \"a1\"]\nmax_leases = 1"));
    wait_until("one lease is left", || shared.held().len() == 1);
    let oldest = leases.iter().filter(|lease| label(lease) != "a2").min_by_key(|lease| lease["fence"].as_u64());
    assert_eq!(shared.held(), [label(oldest.unwrap())]);
    for (client, lease) in clients.iter_mut().zip(&leases) {
        let answer = client.ask("lease.renew", &reference(lease));
        assert_eq!(answer["error"].is_null(), Some(lease) == oldest, "{answer}");
    }
    // more again, on the same connections
    shared.set(&format!("uid = {uid}"));
    wait_until("there is room", || {
        clients[2].ask("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0 }))["error"].is_null()
    });
    let status = shared.owner.call("status", json!({}));
    assert_eq!(status["guests"][0]["max_leases"], Value::Null, "{status}");
}

/// The answer to a request on the socket, with a gateway key: its status, and whether it says that it is not for guests.
fn get(socket: &std::path::Path, path: &str, key: &str) -> (String, bool) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.lines().next().unwrap_or_default().to_owned(), answer.contains("not for guests"))
}

#[test]
fn the_key_of_a_lease_there_opens_no_view_of_all_accounts() {
    let shared = Shared::new(&format!("uid = {}", own_uid()));
    let key_of = |client: &mut Client| {
        let lease = acquire(client);
        client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned()
    };
    let mut client = shared.client();
    let key = key_of(&mut client);
    let status = |path: &str, key: &str| get(&shared.socket(), path, key);
    assert_eq!(status("/metrics", &key), ("HTTP/1.1 403 Forbidden".to_owned(), true));
    assert_eq!(status("/healthz", &key).0, "HTTP/1.1 200 OK");
    assert_eq!(status("/metrics", "none").0, "HTTP/1.1 401 Unauthorized");
    let mut owner = shared.home.client();
    let own = key_of(&mut owner);
    assert_eq!(status("/metrics", &own).0, "HTTP/1.1 200 OK");
}

#[test]
fn a_lease_cannot_be_moved_out_of_its_policy() {
    let mut shared = Shared::new(&format!("uid = {}\nonly = [\"a0\", \"a1\"]", own_uid()));
    let mut client = shared.client();
    let lease = acquire(&mut client);
    for mover in [&mut client, &mut shared.owner] {
        let answer = mover.ask("lease.move", &json!({ "lease": lease["lease"], "to": "a3" }));
        assert!(answer["error"].is_object(), "{answer}");
    }
    let other = if label(&lease) == "a0" { "a1" } else { "a0" };
    client.call("lease.move", json!({ "lease": lease["lease"], "to": other }));
}

#[test]
fn clients_of_a_user_that_is_not_served_any_more_are_disconnected_and_their_leases_end() {
    let uid = own_uid();
    let mut shared = Shared::new(&format!("uid = {uid}"));
    let mut client = shared.client();
    acquire(&mut client);
    assert_eq!(shared.held().len(), 1);
    shared.set(&format!("uid = {}", uid + 1));
    wait_until("its lease has ended", || shared.held().is_empty());
    assert_eq!(client.read_to_end(), "");
    let connections = || shared.home.client().call("status", json!({}))["connections"].clone();
    let before = connections();
    // the socket is there, and who is not served gets nothing
    wait_until("the socket is there again", || Client::try_connect(&shared.socket()).is_ok());
    let mut refused = shared.client();
    assert!(refused.try_ask("status", &json!({})).is_err());
    assert_eq!(connections(), before, "nothing is left of it");
}

#[test]
fn what_a_removed_share_has_ends() {
    let mut shared = Shared::new(&format!("uid = {}", own_uid()));
    let mut client = shared.client();
    acquire(&mut client);
    std::fs::write(shared.home.path().join("config.toml"), WAIT).unwrap();
    shared.owner.call("config.reload", json!({}));
    wait_until("its lease has ended", || shared.held().is_empty());
    assert_eq!(client.read_to_end(), "");
    wait_until("it is gone", || shared.owner.call("status", json!({}))["guests"] == json!([]));
    assert!(!shared.socket().exists());
}
