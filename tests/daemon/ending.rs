//! The end of a daemon while a refresh is under way: the server has replaced the refresh token, and the new one is in the
//! answer.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::oauth_server::{Fail, OauthServer};
use crate::support::{Client, Home, signal, wait_until};

/// The time of day, epoch ms.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn home(server: &OauthServer) -> Home {
    let mut home = Home::new(&format!("[leases]\ngrace = \"0s\"\n{}", server.config("mine")));
    home.start();
    home
}

/// Adds a login of `who` whose access token ends after this time.
fn add(client: &mut Client, server: &OauthServer, who: &str, left: Duration) {
    let refresh = server.login(who);
    let expires_at = now() + u64::try_from(left.as_millis()).unwrap();
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": format!("at-canary-{who}-0"), "refresh_token": refresh,
            "expires_at": expires_at, "label": who, "account_id": who }),
    );
}

const HOUR: Duration = Duration::from_secs(3600);

/// A daemon with a login whose refresh has reached the server and is not answered.
fn refreshing(server: &OauthServer, how: Fail, left: Duration) -> Home {
    server.fail(how);
    let home = home(server);
    add(&mut home.client(), server, "work", left);
    home.client().send("account.refresh", &json!({ "account": "work" })).unwrap();
    wait_until("the request has come", || server.held() == 1);
    home
}

fn account(home: &Home, label: &str) -> Value {
    let accounts = home.client().call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}

fn reason(account: &Value) -> &str {
    account["state_reason"].as_str().unwrap_or_default()
}

fn lessor(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG"] {
        command.env_remove(name);
    }
    command.args(args).env("LESSOR_HOME", home.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command says first, while it runs.
fn first_line(command: &mut Child) -> String {
    let mut stderr = BufReader::new(command.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    // open until the command has ended
    command.stderr = Some(stderr.into_inner());
    line
}

fn waits(home: &Home) -> bool {
    let status = Client::try_connect(&home.socket()).and_then(|mut client| client.try_ask("status", &json!({})));
    let warnings = status.map(|status| status["result"]["warnings"].to_string()).unwrap_or_default();
    warnings.contains("stopping: waiting for the refresh of work, at most ")
}

/// The daemon must be waiting; then its answer comes, and the next daemon has the new login.
fn ends_with_the_new_login(server: &OauthServer, mut home: Home) {
    wait_until("the daemon waits for the answer", || waits(&home));
    let begun = Instant::now();
    let mut client = home.client();
    assert_eq!(client.refused("lease.acquire", json!({ "provider": "mine" })), "shutting_down");
    assert_eq!(client.refused("account.refresh", json!({ "account": "work" })), "shutting_down");
    assert!(begun.elapsed() < Duration::from_secs(2), "a refusal is immediate: {:?}", begun.elapsed());
    // no other daemon begins meanwhile
    let other = lessor(&home, &["daemon"]).output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("already running: pid"), "{said}");
    assert!(home.is_running());
    server.let_go();
    assert_eq!(home.wait(), Some(0));
    home.start();
    let known = account(&home, "work");
    assert_eq!((&known["state"], reason(&known)), (&json!("ready"), ""), "{known}");
    let lease = home.client().call("lease.acquire", json!({ "provider": "mine" }));
    assert_eq!(lease["credential"]["secret"], "at-canary-work-1");
    home.client().call("account.refresh", json!({ "account": "work" }));
    assert_eq!((server.refreshes("work"), server.reuses()), (2, 0));
}

#[test]
fn each_signal_that_stops_waits_for_the_answer_of_a_refresh() {
    for stop in [Signal::TERM, Signal::INT] {
        let server = OauthServer::start();
        let home = refreshing(&server, Fail::HoldAfter, HOUR);
        signal(home.pid(), stop);
        ends_with_the_new_login(&server, home);
    }
}

#[test]
fn a_stop_waits_for_the_answer_of_a_refresh_and_says_so() {
    let server = OauthServer::start();
    let home = refreshing(&server, Fail::HoldAfter, HOUR);
    let mut stop = lessor(&home, &["stop", "--yes"]).spawn().unwrap();
    let said = first_line(&mut stop);
    ends_with_the_new_login(&server, home);
    let output = stop.wait_with_output().unwrap();
    assert!(output.status.success() && said.contains("lessor: waiting for the refresh of work, at most "), "{said}");
}

#[test]
fn a_restart_waits_for_the_answer_of_a_refresh_and_serves_meanwhile() {
    let server = OauthServer::start();
    let home = refreshing(&server, Fail::HoldAfter, HOUR);
    let mut restart = lessor(&home, &["restart"]).spawn().unwrap();
    let said = first_line(&mut restart);
    assert!(waits(&home));
    let lease = home.client().call("lease.acquire", json!({ "provider": "mine" }));
    assert_eq!(lease["credential"]["secret"], "at-canary-work-0");
    server.let_go();
    let output = restart.wait_with_output().unwrap();
    assert!(output.status.success() && said.contains("lessor: waiting for the refresh of work, at most "), "{said}");
    let lease = home.client().call("lease.acquire", json!({ "provider": "mine" }));
    assert_eq!((&lease["credential"]["secret"], server.reuses()), (&json!("at-canary-work-1"), 0));
}

#[test]
fn a_second_signal_forces_the_end_and_the_next_daemon_says_what_happened() {
    let server = OauthServer::start();
    let mut home = refreshing(&server, Fail::HoldAfter, HOUR);
    signal(home.pid(), Signal::TERM);
    wait_until("the daemon waits for the answer", || waits(&home));
    let begun = Instant::now();
    signal(home.pid(), Signal::TERM);
    assert_eq!(home.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let said = home.output();
    assert!(said.contains("stopping immediately: the refresh of work was sent and its answer is given up"), "{said}");
    home.start();
    is_interrupted(&server, &home);
}

/// The token that the daemon still has is served, and the refresh is not repeated before it is refused.
fn is_interrupted(server: &OauthServer, home: &Home) {
    let requests = server.requests();
    let known = account(home, "work");
    let why = reason(&known);
    assert_eq!(known["state"], "ready");
    assert!(why.contains("its refresh was interrupted") && why.contains("its token serves for"), "{why}");
    let shown = lessor(home, &["status"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("interrupted"), "{shown}");
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "mine" }));
    assert_eq!(lease["credential"]["secret"], "at-canary-work-0");
    assert_eq!(server.requests(), requests, "the old refresh token is not sent while the access token serves");
    client.call("lease.report", json!({ "lease": lease["lease"], "reason": "auth_failed" }));
    wait_until("the login has ended", || account(home, "work")["state"] == "needs_login");
    let known = account(home, "work");
    let why = reason(&known);
    assert!(why.contains("the answer to a refresh was lost") && why.contains("lessor login mine"), "{why}");
    for command in [&["status"][..], &["account", "list"], &["doctor"]] {
        let shown = lessor(home, command).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).replace('\n', " ");
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("the answer to a refresh was lost"), "{command:?}: {shown}");
        assert!(words.contains("lessor login mine"), "{command:?}: {shown}");
    }
}

#[test]
fn after_a_kill_a_living_token_is_served_before_its_refresh_is_repeated() {
    let server = OauthServer::start();
    let mut home = refreshing(&server, Fail::HoldAfter, HOUR);
    home.kill();
    server.let_go();
    home.start();
    is_interrupted(&server, &home);
}

#[test]
fn after_a_kill_a_refresh_is_repeated_at_the_end_of_the_token() {
    let server = OauthServer::lenient();
    let left = Duration::from_secs(4);
    let begun = Instant::now();
    let mut home = refreshing(&server, Fail::HoldBefore, left);
    home.kill();
    server.let_go();
    wait_until("the server has dropped the request", || server.held() == 0);
    home.start();
    let before = server.requests();
    wait_until("the refresh is repeated", || server.requests() > before);
    assert!(begun.elapsed() >= left - Duration::from_millis(200), "{:?}", begun.elapsed());
    wait_until("the account is ready", || {
        let known = account(&home, "work");
        known["state"] == "ready" && reason(&known).is_empty()
    });
    assert_eq!(server.reuses(), 0);
}

#[test]
fn a_refresh_that_was_not_sent_before_the_stop_is_not_sent() {
    let server = OauthServer::start();
    let mut home = refreshing(&server, Fail::HoldAfter, HOUR);
    // one request at a time for each OAuth client
    let mut client = home.client();
    add(&mut client, &server, "home", HOUR);
    client.send("account.refresh", &json!({ "account": "home" })).unwrap();
    client.call("hello", json!({}));
    signal(home.pid(), Signal::TERM);
    wait_until("the daemon waits for the answer", || waits(&home));
    server.let_go();
    assert_eq!(home.wait(), Some(0));
    assert_eq!((server.refreshes("work"), server.refreshes("home")), (1, 0));
    home.start();
    home.client().call("account.refresh", json!({ "account": "home" }));
    assert_eq!((server.refreshes("home"), server.reuses()), (1, 0));
}
