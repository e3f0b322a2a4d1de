//! Real daemons and one account whose limit is over: what the provider sees of its recovery.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use serde_json::json;

use crate::daemons::{Database, accounts, is_connected};
use crate::harness::address;
use crate::support::{Client, Home, PATIENCE, wait_until};

const HOSTS: usize = 3;

/// A provider that answers each request when it may, and counts those that come.
struct Provider {
    url: String,
    seen: Arc<AtomicUsize>,
    may_answer: Arc<(Mutex<bool>, Condvar)>,
}

impl Provider {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::<(Mutex<bool>, Condvar)>::default());
        let (counted, gate) = (seen.clone(), may_answer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, gate) = (counted.clone(), gate.clone());
                std::thread::spawn(move || answer(stream, &counted, &gate));
            }
        });
        Self { url, seen, may_answer }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    fn answer_all(&self) {
        *self.may_answer.0.lock().unwrap() = true;
        self.may_answer.1.notify_all();
    }
}

fn answer(mut stream: TcpStream, seen: &AtomicUsize, (may_answer, changed): &(Mutex<bool>, Condvar)) {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.ends_with("[]}") {
        let Ok(1..) = stream.read(&mut bytes).inspect(|read| text += &String::from_utf8_lossy(&bytes[..*read])) else {
            return;
        };
    }
    seen.fetch_add(1, Ordering::SeqCst);
    drop(changed.wait_while(may_answer.lock().unwrap(), |may| !*may).unwrap());
    let body = r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
    let _gone = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
}

/// Sends a request through the gateway of a host; the first line of the answer comes at last.
fn request(home: &Home) -> JoinHandle<String> {
    let socket = home.path().join("run/gateway.sock");
    wait_until("the gateway listens", || UnixStream::connect(&socket).is_ok());
    std::thread::spawn(move || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = r#"{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[]}"#;
        let head = "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        while !text.contains("\r\n") {
            match stream.read(&mut bytes) {
                Ok(read @ 1..) => text += &String::from_utf8_lossy(&bytes[..read]),
                end => return format!("{end:?}"),
            }
        }
        text.lines().next().unwrap_or_default().to_owned()
    })
}

/// Hosts that share one account with a seat for each of them, and a limit of it that is over in a moment.
struct Recovering {
    homes: Vec<Home>,
    database: Database,
    provider: Provider,
}

impl Recovering {
    fn new() -> Self {
        let (database, provider) = (Database::new(), Provider::new());
        let config = format!(
            "[leases]\nper_account = {HOSTS}\nmax_per_account = {HOSTS}\noverflow = \"wait\"\n\
             [providers.anthropic]\nbase_url = \"{}\"\n[pool]\nurl = \"{}\"\n",
            provider.url,
            database.url()
        );
        let mut homes: Vec<Home> = (0..HOSTS).map(|_| Home::new(&config)).collect();
        homes.iter_mut().for_each(Home::start);
        let mut first = homes[0].client();
        let owner = address(&database.server, "postgres", &database.name, "").url;
        first.call(
            "pool.init",
            json!({ "url": owner, "password": database.password(), "name": "0", "per_account": HOSTS,
                    "max_per_account": HOSTS, "overflow": "wait" }),
        );
        let times = "update lessor.pool set ttl_ms = 12000, margin_ms = 3000";
        database.as_superuser(&database.name, times);
        wait_until("the first host is connected", || is_connected(&mut first));
        first.add("shared");
        for (number, home) in homes.iter().enumerate().skip(1) {
            let token = first.call("pool.join_token", json!({ "name": number.to_string() }))["token"].clone();
            home.client().call("pool.join", json!({ "token": token }));
        }
        let recovering = Self { homes, database, provider };
        recovering.wait_for_all("has the account", |client| accounts(client).len() == 1);
        recovering.database.as_superuser(
            &recovering.database.name,
            "insert into lessor.account_limit (account, scope, key, reason, until, source, since)
               select id, 'account', '', 'quota_exhausted', lessor.now_ms() + 8000, 'server', lessor.now_ms() - 400000
               from lessor.account;
             select lessor.wake('l', id) from lessor.account",
        );
        recovering.wait_for_all("knows the limit", |client| {
            accounts(client).iter().all(|account| !account["limits"].as_array().unwrap().is_empty())
        });
        recovering
    }

    fn wait_for_all(&self, what: &str, is_so: impl Fn(&mut Client) -> bool) {
        for (number, home) in self.homes.iter().enumerate() {
            let mut client = home.client();
            wait_until(&format!("host {number} {what}"), || is_so(&mut client));
        }
    }

    /// Which host has the duty to probe.
    fn prober(&self) -> Option<usize> {
        let host = "select coalesce(max(h.name), '-1')::bigint from lessor.duty d join lessor.host h on h.id = d.host
                    where d.kind = 'probe' and d.until > lessor.now_ms()
                      and exists (select from lessor.term t where t.id = d.term and t.ended_at is null)";
        usize::try_from(self.database.number(host)).ok()
    }

    fn waiting(&self) -> usize {
        let waiting = |home: &Home| home.client().call("status", json!({}))["queue"].as_array().unwrap().len();
        self.homes.iter().map(waiting).sum()
    }
}

#[test]
fn the_provider_sees_one_probe_of_all_hosts_and_its_success_frees_the_account_on_each_of_them() {
    let hosts = Recovering::new();
    let requests: Vec<_> = hosts.homes.iter().chain(&hosts.homes).map(request).collect();
    wait_until("one probe is sent", || hosts.provider.seen() > 0);
    wait_until("the others wait", || hosts.waiting() == 2 * HOSTS - 1);
    // while the probe is under way, each of the others asks again: a heartbeat comes every 3 s
    let beats = || hosts.database.number("select min(beat) from lessor.term where ended_at is null");
    let before = beats();
    wait_until("some seconds pass", || beats() > before + 2);
    assert_eq!(hosts.provider.seen(), 1);
    assert!(hosts.prober().is_some());
    hosts.provider.answer_all();
    for request in requests {
        assert_eq!(request.join().unwrap(), "HTTP/1.1 200 OK");
    }
    assert_eq!(hosts.provider.seen(), 2 * HOSTS);
    hosts.wait_for_all("has no limit", |client| {
        accounts(client).iter().all(|account| account["limits"].as_array().unwrap().is_empty())
    });
    wait_until("the duty is given up", || hosts.prober().is_none());
}

#[test]
fn another_host_probes_when_the_prober_dies() {
    let mut hosts = Recovering::new();
    let requests: Vec<_> = hosts.homes.iter().map(request).collect();
    wait_until("one probe is sent", || hosts.provider.seen() == 1);
    let dead = hosts.prober().expect("it has the duty");
    hosts.homes[dead].kill();
    wait_until("another host probes", || hosts.provider.seen() > 1);
    assert_ne!(hosts.prober(), Some(dead));
    assert_eq!(hosts.provider.seen(), 2);
    hosts.provider.answer_all();
    let answers: Vec<String> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "HTTP/1.1 200 OK").count(), HOSTS - 1, "{answers:?}");
}
