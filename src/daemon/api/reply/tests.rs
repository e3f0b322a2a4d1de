//! No call is answered before what its answer depends on is written: the disk writer is held, or killed, in between.

use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::config::Config;
use crate::credential::{Credential, Secret};
use crate::daemon::api::dispatch::{dispatch_planned, is_planned};
use crate::daemon::api::session::{IssuedLeases, Session};
use crate::daemon::log::LogLevelHandle;
use crate::daemon::os::clock;
use crate::daemon::run::restore;
use crate::daemon::state::{ActiveConfig, RunInfo};
use crate::pool::{AccountId, AccountRecord, CredentialKind, LoginState, Process, Tier, Wall};
use crate::protocol::{Call, MessageDecoder};
use crate::store::{KeyBackend, Store, StorePaths};

/// Capacity 1, no sharing, and logins whose token cannot be refreshed in time.
const CONFIG: &str = r#"
[leases]
overflow = "wait"
[refresh]
wait = "10ms"
[providers.p]
base_url = "http://127.0.0.1:9"
[providers.p.oauth]
token_url = "http://127.0.0.1:9/token"
client_id = "client"
"#;

/// A daemon without workers, and one client.
pub struct TestDaemon {
    pub daemon: Arc<Daemon>,
    session: Session,
    next_id: u64,
    _ended: UnboundedReceiver<Process>,
    _home: tempfile::TempDir,
}

impl TestDaemon {
    pub fn new(accounts: &[(u64, Credential)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let paths = StorePaths {
            database: home.path().join("lessor.db"),
            key: home.path().join("key"),
            key_backend: KeyBackend::File,
        };
        let config_path = home.path().join("config.toml");
        let loaded = Config::from_text(Some(CONFIG), &config_path).unwrap();
        let run = RunInfo {
            started: clock::now(),
            socket: String::new(),
            state_directory: home.path().into(),
            warnings: Vec::new(),
            log_level: LogLevelHandle::new(),
            may_idle_exit: false,
            keyring: None,
            most_connections: 100,
            gateway_port: None,
            gateway_tls_port: None,
            may_resume: false,
        };
        let opened = Store::open(&paths, "boot").unwrap();
        let (daemon, ended) = restore(ActiveConfig::new(loaded, config_path), opened, run);
        for (id, credential) in accounts {
            add(&daemon, AccountId::from_bits(*id), credential);
        }
        let session = Session {
            connection: ConnectionId(1),
            pid: None,
            codec: Codec::Json,
            outbox: Arc::default(),
            holder: None,
            greeted: true,
            guest: None,
            issued: IssuedLeases::default(),
        };
        Self { daemon, session, next_id: 0, _ended: ended, _home: home }
    }

    /// Sends a call; answers what was answered on the spot.
    pub fn call(&mut self, method: &str, params: &Value) -> String {
        self.next_id += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(format!("{message}\n").as_bytes());
        let incoming = decoder.take().unwrap().unwrap();
        let call = incoming.call.unwrap();
        if is_planned(&call) {
            return self.plan(incoming.id, call);
        }
        let mut out = Vec::new();
        self.session.serve(&self.daemon, incoming.id, call, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Serves a planned call. What is not answered on the spot is sent when that is possible, as its connection does.
    fn plan(&self, id: Option<RequestId>, call: Call) -> String {
        let (daemon, responder) = (self.daemon.clone(), self.session.responder(id));
        let answer = PlannedAnswer::of(&daemon, &responder, |reply| dispatch_planned(&daemon, reply, call, None));
        let mut bytes = Box::pin(async move { answer.when_saved(&daemon).await });
        match bytes.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(bytes) => String::from_utf8(bytes).unwrap(),
            Poll::Pending => {
                tokio::spawn(async move {
                    let bytes = bytes.await;
                    responder.outbox.push(|out| out.extend_from_slice(&bytes));
                });
                String::new()
            }
        }
    }

    /// The answers that came later.
    fn later(&self) -> String {
        let mut out = Vec::new();
        self.session.outbox.drain_into(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Waits until `count` answers have come.
    async fn answers(&self, count: usize) -> String {
        let mut all = String::new();
        while all.matches('\n').count() < count {
            self.session.outbox.changed().await;
            all += &self.later();
        }
        all
    }

    /// Waits until everything so far is written.
    pub async fn written(&self) {
        self.daemon.saved(Unsaved::pending((), Pending::Lease)).await;
    }

    /// Holds the disk writer until the sender is dropped.
    fn hold_writer(&self) -> Sender<()> {
        let (hold, held) = channel();
        self.daemon.store.on_writer(move || assert!(held.recv().is_err()));
        hold
    }

    /// Lets other tasks run for as long as they have something to do.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// `call` must not be answered while the disk writer is held; once it is released, `answer` must be in the answer.
    async fn is_answered_when_saved(&mut self, calls: &[(&str, Value)], answer: &str) {
        self.written().await;
        let hold = self.hold_writer();
        for (method, params) in calls {
            assert_eq!(self.call(method, params), "", "{method} was answered on the spot");
        }
        self.settle().await;
        assert_eq!(self.later(), "", "answered before it was saved");
        drop(hold);
        let answers = self.answers(calls.len()).await;
        assert_eq!(answers.matches(answer).count(), calls.len(), "{answers}");
    }
}

/// Adds an account.
pub fn add(daemon: &Daemon, id: AccountId, credential: &Credential) {
    let state = &mut *daemon.state();
    state.keep_credential(id, credential.duplicate());
    let record = record(id, credential.kind);
    state.apply(clock::now(), Command::AddAccount(Box::new(record))).no_answer().unwrap();
}

pub fn key(secret: &str) -> Credential {
    Credential::new(CredentialKind::ApiKey, Secret::new(secret.into()))
}

/// A login whose token has to be refreshed before it is handed out.
fn login_about_to_end() -> Credential {
    let expires_at = Some(clock::now().wall.after(Duration::from_secs(20)));
    let (access, refresh) = (Secret::new("access".into()), Some(Secret::new("refresh".into())));
    Credential { refresh, expires_at, ..Credential::new(CredentialKind::Oauth, access) }
}

fn record(id: AccountId, kind: CredentialKind) -> AccountRecord {
    AccountRecord {
        id,
        provider: "p".into(),
        label: None,
        email: None,
        tier: Tier::Unknown,
        kind,
        login_state: LoginState::Ready,
        enabled: true,
        disabled_reason: None,
        max_leases: None,
        priority: if kind == CredentialKind::Oauth { 1 } else { 0 },
        allowed_agents: None,
        reserve: 0.0,
        fallback_only: false,
        project_id: None,
        owner: crate::pool::AccountOwner::default(),
        created_at: Wall(0),
        last_used_at: None,
    }
}

#[tokio::test]
async fn a_lease_bound_to_a_process_or_a_time_is_answered_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    let pid = json!({ "provider": "p", "bind": { "pid": std::process::id() } });
    daemon.is_answered_when_saved(&[("lease.acquire", pid)], r#""result":{"lease""#).await;
    let ttl = json!({ "provider": "p", "bind": "ttl" });
    daemon.is_answered_when_saved(&[("lease.acquire", ttl)], r#""result":{"lease""#).await;
}

#[tokio::test]
async fn a_lease_bound_to_a_connection_needs_no_disk() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    daemon.written().await;
    let _hold = daemon.hold_writer();
    assert!(daemon.call("lease.acquire", &json!({ "provider": "p" })).contains(r#""result":{"lease""#));
}

#[tokio::test]
async fn the_leases_that_a_client_got_last_need_no_check_of_their_ids() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    daemon.written().await;
    let lease: Value = serde_json::from_str(&daemon.call("lease.acquire", &json!({ "provider": "p" }))).unwrap();
    // refusals wait for everything that is not written yet
    daemon.written().await;
    let id = lease["result"]["lease"].as_str().unwrap().to_owned();
    let fence = lease["result"]["fence"].as_u64().unwrap();
    assert_eq!(daemon.session.issued.fence(&id), Some(Fence(fence)));
    let other_fence = daemon.call("lease.release", &json!({ "lease": id, "fence": fence + 1 }));
    assert!(other_fence.contains("stale_lease"), "{other_fence}");
    let forged = format!("{}{}", &id[..id.len() - 1], if id.ends_with('0') { '1' } else { '0' });
    let forged = daemon.call("lease.release", &json!({ "lease": forged }));
    assert!(forged.contains("unknown_lease"), "{forged}");
    assert!(daemon.call("lease.release", &json!({ "lease": id, "fence": fence })).contains(r#""result":{}"#));
    assert_eq!(daemon.session.issued.fence(&id), None);
    let ended = daemon.call("lease.release", &json!({ "lease": id }));
    assert!(ended.contains("stale_lease"), "{ended}");
}

#[tokio::test]
async fn a_lease_that_moved_after_a_late_refresh_is_answered_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, login_about_to_end()), (2, key("b"))]);
    daemon.written().await;
    let hold = daemon.hold_writer();
    assert_eq!(daemon.call("lease.acquire", &json!({ "provider": "p", "bind": "ttl" })), "");
    // the refresh is given up after `refresh.wait`, and the lease moves
    let id = AccountId::from_bits(2);
    while !daemon.daemon.state().pool.leases().any(|lease| lease.account == id) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    daemon.settle().await;
    assert_eq!(daemon.later(), "", "answered before it was saved");
    drop(hold);
    let answer = daemon.answers(1).await;
    assert!(answer.contains(&id.to_string()), "{answer}");
}

#[tokio::test]
async fn a_switch_by_report_is_answered_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    assert_eq!(daemon.call("lease.acquire", &json!({ "provider": "p", "bind": "ttl" })), "");
    let answer: Value = serde_json::from_str(&daemon.answers(1).await).unwrap();
    let report = json!({ "lease": answer["result"]["lease"], "reason": "quota_exhausted", "retry_after_ms": 60_000 });
    daemon.is_answered_when_saved(&[("lease.report", report)], r#""action":"switch""#).await;
}

#[tokio::test]
async fn a_queued_lease_with_two_responders_is_answered_to_both_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    daemon.written().await;
    let held: Value = serde_json::from_str(&daemon.call("lease.acquire", &json!({ "provider": "p" }))).unwrap();
    let request = json!({ "provider": "p", "bind": "ttl", "request_id": "same", "wait_ms": 60_000 });
    assert_eq!(daemon.call("lease.acquire", &request), "");
    assert_eq!(daemon.call("lease.acquire", &request), "");
    daemon.written().await;
    let hold = daemon.hold_writer();
    daemon.call("lease.release", &json!({ "lease": held["result"]["lease"] }));
    daemon.settle().await;
    assert_eq!(daemon.later(), "", "answered before it was saved");
    drop(hold);
    let answers = daemon.answers(2).await;
    assert_eq!(answers.matches(r#""result":{"lease""#).count(), 2, "{answers}");
}

#[tokio::test]
async fn changes_of_accounts_and_limits_are_answered_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    let id = AccountId::from_bits(1).to_string();
    let set = json!({ "account": id, "label": "work" });
    for (method, params) in [
        ("account.set", set),
        ("account.disable", json!({ "account": id })),
        ("account.enable", json!({ "account": id })),
        ("account.remove", json!({ "account": id })),
    ] {
        daemon.is_answered_when_saved(&[(method, params)], r#""result":{"id""#).await;
    }
}

#[tokio::test]
async fn a_release_of_a_saved_lease_is_answered_when_saved() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    assert_eq!(daemon.call("lease.acquire", &json!({ "provider": "p", "bind": "ttl" })), "");
    let answer: Value = serde_json::from_str(&daemon.answers(1).await).unwrap();
    let release = json!({ "lease": answer["result"]["lease"] });
    daemon.is_answered_when_saved(&[("lease.release", release)], r#""result":{}"#).await;
}

#[tokio::test]
async fn an_answer_waits_for_what_another_call_has_changed_before() {
    let id = |bits| AccountId::from_bits(bits).to_string();
    let mut daemon = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    let bound = json!({ "provider": "p", "bind": "ttl", "account": id(1) });
    assert_eq!(daemon.call("lease.acquire", &bound), "");
    let bound: Value = serde_json::from_str(&daemon.answers(1).await).unwrap();
    let of = |account| json!({ "provider": "p", "account": id(account) });
    // each first call writes something, each second one depends on it and writes nothing
    let lease = bound["result"]["lease"].clone();
    for calls in [
        [("lease.release", json!({ "lease": lease })), ("lease.acquire", of(1))],
        [("account.disable", json!({ "account": id(1) })), ("account.list", json!({}))],
        [("account.enable", json!({ "account": id(1) })), ("lease.list", json!({}))],
    ] {
        daemon.is_answered_when_saved(&calls, r#""result""#).await;
    }
    let report = json!({ "lease": lease, "ok": true });
    let disable = ("account.disable", json!({ "account": id(1) }));
    daemon.is_answered_when_saved(&[disable, ("lease.report", report)], r#""jsonrpc""#).await;
    // an answer about another account's lease does not wait
    daemon.written().await;
    let _hold = daemon.hold_writer();
    assert_eq!(daemon.call("account.enable", &json!({ "account": id(1) })), "");
    assert!(daemon.call("lease.acquire", &of(2)).contains(r#""result":{"lease""#));
    assert!(daemon.call("status", &json!({})).contains(r#""result""#));
}

#[tokio::test]
async fn each_view_waits_for_what_another_call_has_changed_before() {
    let mut daemon = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    let account = json!({ "account": AccountId::from_bits(1).to_string() });
    let mut changes = ["account.disable", "account.enable"].iter().cycle();
    for (view, params) in [
        ("account.list", json!({})),
        ("account.export", json!({})),
        ("lease.list", json!({})),
        ("explain", json!({ "what": AccountId::from_bits(1).to_string() })),
        ("forecast", json!({ "provider": "p" })),
        ("gateway.keys", json!({})),
        // a refusal, too
        ("explain", json!({ "what": "nothing" })),
    ] {
        let change = (*changes.next().unwrap(), account.clone());
        daemon.is_answered_when_saved(&[change, (view, params)], r#""jsonrpc""#).await;
    }
    // what says nothing of what calls have changed does not wait, nor does what says which writes wait
    daemon.written().await;
    let _hold = daemon.hold_writer();
    assert_eq!(daemon.call("account.disable", &account), "");
    for method in ["status", "config.get"] {
        assert!(daemon.call(method, &json!({})).contains(r#""result""#), "{method}");
    }
}

#[tokio::test]
async fn a_list_of_keys_waits_for_a_revocation() {
    let mut daemon = TestDaemon::new(&[]);
    assert_eq!(daemon.call("gateway.key", &json!({ "label": "laptop" })), "");
    let created = daemon.answers(1).await;
    assert!(created.contains(r#""result""#), "{created}");
    daemon.written().await;
    let hold = daemon.hold_writer();
    assert_eq!(daemon.call("gateway.revoke", &json!({ "key": "laptop" })), "");
    daemon.settle().await;
    assert_eq!(daemon.call("gateway.keys", &json!({})), "");
    daemon.settle().await;
    assert_eq!(daemon.later(), "", "answered before it was saved");
    drop(hold);
    assert_eq!(daemon.answers(2).await.matches("revoked_at").count(), 2);
}

#[tokio::test]
async fn a_view_does_not_wait_long_for_a_disk_that_hangs() {
    let mut daemon = TestDaemon::new(&[(1, key("a"))]);
    daemon.written().await;
    let _hold = daemon.hold_writer();
    let id = AccountId::from_bits(1).to_string();
    assert_eq!(daemon.call("account.disable", &json!({ "account": id })), "");
    assert_eq!(daemon.call("account.list", &json!({})), "");
    let answer = daemon.answers(1).await;
    assert!(answer.contains(r#""enabled":false"#), "{answer}");
}

#[tokio::test]
async fn when_the_disk_writer_is_killed_no_call_is_answered_as_done() {
    let mut daemon = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    daemon.written().await;
    let hold = daemon.hold_writer();
    assert_eq!(daemon.call("lease.acquire", &json!({ "provider": "p", "bind": "ttl" })), "");
    daemon.daemon.store.on_writer(|| panic!("the test kills the disk writer"));
    drop(hold);
    // what was handed over before the kill may be written or not: only an answer must not say so wrongly
    let id = AccountId::from_bits(2).to_string();
    daemon.call("account.disable", &json!({ "account": id }));
    let answers = daemon.answers(2).await;
    assert!(answers.lines().last().unwrap().contains(r#""error""#), "{answers}");
}
