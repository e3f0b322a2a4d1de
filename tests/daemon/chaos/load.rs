//! Holders of leases of each binding, and the record of what they have been answered.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Chance;
use crate::support::{Client, Home, fence, label, reference, wait_until};

/// What ends a holder's leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Binding {
    Connection,
    Process,
    Time,
}

/// The answers of the daemon, as the holders record them.
#[derive(Default)]
struct Ledger {
    /// Who holds an account.
    held: HashMap<String, usize>,
    /// The newest fence of an account.
    newest: HashMap<String, u64>,
    /// The leases whose release was acknowledged, and those whose process has ended.
    ended: HashSet<u64>,
    violations: Vec<String>,
}

/// What happened, in numbers.
#[derive(Default)]
pub struct Counts {
    pub granted: AtomicU64,
    pub released: AtomicU64,
    pub resumed: AtomicU64,
    pub found_again: AtomicU64,
    pub processes_ended: AtomicU64,
}

struct Shared {
    socket: PathBuf,
    ledger: Mutex<Ledger>,
    over: AtomicBool,
    counts: Counts,
}

/// Holders at work.
pub struct Load {
    shared: Arc<Shared>,
    holders: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `count` holders, each of which wants a whole account.
    pub fn start(home: &Home, count: usize) -> Self {
        let shared = Arc::new(Shared {
            socket: home.socket(),
            ledger: Mutex::default(),
            over: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let holders = (0..count).map(|who| {
            let shared = shared.clone();
            let binding = [Binding::Connection, Binding::Process, Binding::Time][who % 3];
            std::thread::spawn(move || Holder::new(who, binding, &shared).work())
        });
        Self { holders: holders.collect(), shared }
    }

    pub fn granted(&self) -> u64 {
        self.shared.counts.granted.load(Ordering::Relaxed)
    }

    /// Waits until a few more leases were granted than `before`.
    pub fn wait_for_grants(&self, before: u64) {
        wait_until("leases are granted", || self.granted() > before + 6 || self.has_failed());
        self.check();
    }

    /// Compares the daemon's leases with the record.
    pub fn compare(&self, home: &Home) {
        let ended = self.shared.ledger().ended.clone();
        let leases = home.client().call("lease.list", json!({}));
        for lease in leases.as_array().unwrap() {
            assert!(!ended.contains(&fence(lease)), "an ended lease is back: {lease}");
        }
        self.check();
    }

    fn has_failed(&self) -> bool {
        !self.shared.ledger().violations.is_empty() || self.holders.iter().any(JoinHandle::is_finished)
    }

    fn check(&self) {
        let violations = self.shared.ledger().violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(!self.holders.iter().any(JoinHandle::is_finished), "a holder failed");
    }

    /// Ends the holders' work; returns what happened.
    pub fn end(self) -> Counts {
        self.shared.over.store(true, Ordering::Relaxed);
        for holder in self.holders {
            holder.join().expect("a holder failed");
        }
        let shared = Arc::into_inner(self.shared).expect("all holders have ended");
        let violations = shared.ledger.into_inner().unwrap().violations;
        assert!(violations.is_empty(), "{violations:#?}");
        shared.counts
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}

impl Ledger {
    fn granted(&mut self, account: &str, fence: u64, who: usize) {
        if let Some(before) = self.held.insert(account.to_owned(), who) {
            self.violations.push(format!("{account} is held by {before} and was granted to {who}"));
        }
        let newest = self.newest.insert(account.to_owned(), fence).unwrap_or_default();
        if fence <= newest {
            self.violations.push(format!("{account} was granted with fence {fence} after {newest}"));
        }
    }
}

/// One holder.
struct Holder<'a> {
    who: usize,
    binding: Binding,
    shared: &'a Shared,
    client: Client,
    chance: Chance,
    requests: u64,
}

impl<'a> Holder<'a> {
    fn new(who: usize, binding: Binding, shared: &'a Shared) -> Self {
        Self { who, binding, shared, client: connect(shared), chance: Chance(who as u64), requests: 0 }
    }

    fn work(&mut self) {
        while !self.shared.over.load(Ordering::Relaxed) {
            let process = (self.binding == Binding::Process).then(Sleeper::start);
            let lease = self.acquire(process.as_ref());
            self.shared.ledger().granted(&label(&lease), fence(&lease), self.who);
            self.shared.counts.granted.fetch_add(1, Ordering::Relaxed);
            for _ in 0..1 + self.chance.below(6) {
                std::thread::sleep(Duration::from_millis(2));
                self.renew(&lease);
            }
            match process {
                Some(process) if self.chance.below(3) == 0 => self.end_process(&lease, process),
                _ => self.release(&lease),
            }
        }
    }

    /// Acquires, and repeats the request until it is answered.
    fn acquire(&mut self, process: Option<&Sleeper>) -> Value {
        self.requests += 1;
        let mut params = json!({ "provider": "anthropic", "wait_ms": 60_000 });
        match self.binding {
            // a lease that was granted without an answer ends with the connection
            Binding::Connection => {}
            Binding::Process => params["bind"] = json!({ "pid": process.unwrap().0.id() }),
            Binding::Time => params["bind"] = json!("ttl"),
        }
        if self.binding != Binding::Connection {
            params["request_id"] = json!(format!("{}-{}", self.who, self.requests));
        }
        loop {
            match self.client.try_ask("lease.acquire", &params) {
                Ok(answer) if answer["error"].is_null() => return answer["result"].clone(),
                Ok(answer) => assert_eq!(answer["error"]["data"]["kind"], "shutting_down", "{answer}"),
                Err(_) => self.client = connect(self.shared),
            }
        }
    }

    fn renew(&mut self, lease: &Value) {
        if self.client.try_ask("lease.renew", &reference(lease)).is_ok_and(|answer| answer["error"].is_null()) {
            return;
        }
        loop {
            self.client = connect(self.shared);
            let (method, count) = match self.binding {
                Binding::Connection => ("lease.resume", &self.shared.counts.resumed),
                Binding::Process | Binding::Time => ("lease.renew", &self.shared.counts.found_again),
            };
            let Ok(answer) = self.client.try_ask(method, &reference(lease)) else { continue };
            if answer["result"]["lease"] != lease["lease"] {
                let what = format!("{method} of a lease bound to {:?}: {answer}", self.binding);
                self.shared.ledger().violations.push(what);
            }
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }

    fn release(&mut self, lease: &Value) {
        // recorded first: after the release another holder may get the account
        self.shared.ledger().held.remove(&label(lease));
        loop {
            match self.client.try_ask("lease.release", &reference(lease)) {
                Ok(answer) => {
                    let kind = &answer["error"]["data"]["kind"];
                    assert!(kind.is_null() || kind == "stale_lease", "{answer}");
                    self.shared.ledger().ended.insert(fence(lease));
                    self.shared.counts.released.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(_) => self.client = connect(self.shared),
            }
            // without its connection it is gone, or the grace period ends it
            if self.binding == Binding::Connection {
                return;
            }
        }
    }

    fn end_process(&mut self, lease: &Value, process: Sleeper) {
        self.shared.ledger().held.remove(&label(lease));
        drop(process);
        self.shared.counts.processes_ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A process that a lease can be bound to.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _already_dead = self.0.wait();
    }
}

/// A connection to a daemon that answers, whenever there is one.
fn connect(shared: &Shared) -> Client {
    let mut client = None;
    wait_until("a daemon", || {
        client = Client::try_connect(&shared.socket).ok();
        client.as_mut().is_some_and(|client| client.try_ask("hello", &json!({})).is_ok())
    });
    client.unwrap()
}
