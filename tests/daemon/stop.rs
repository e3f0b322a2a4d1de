//! How the daemon stops: signals, overlapping starts and stops, and events that must not stop it.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Client, Home, PATIENCE, signal, wait_until};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

/// A client with more unread answers than the socket holds: a stopping daemon waits for it.
fn deaf(home: &Home) -> Client {
    let mut deaf = home.client();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while deaf.send("config.get", &json!({})).is_ok() {}
    deaf
}

#[test]
fn a_closed_standard_error_does_not_end_the_daemon() {
    let home = Home::new("[daemon]\nlog = \"trace\"\n");
    let mut command = home.command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // before it has written anything
    drop(child.stderr.take());
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(home.socket()).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "it ended: {:?}", child.try_wait());
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    home.client().add("a");
    home.client().acquire();
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_daemon_that_is_stopped_while_the_gateway_and_the_workers_start_ends() {
    let home = Home::new("");
    for _ in 0..10 {
        let mut child = home.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the daemon serves", || match Client::try_connect(&home.socket()) {
            Ok(mut client) => client.send("daemon.stop", &json!({})).is_ok(),
            Err(_) => false,
        });
        wait_until("the daemon ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn sigint_stops_cleanly_and_sighup_does_not_stop() {
    let mut home = Home::with_accounts(WAIT, 1);
    let mut client = home.client();
    let lease = client.acquire();
    signal(home.pid(), Signal::HUP);
    assert_eq!(client.call("lease.list", json!({}))[0]["fence"], lease["fence"]);
    signal(home.pid(), Signal::PIPE);
    client.call("hello", json!({}));
    signal(home.pid(), Signal::INT);
    assert_eq!(home.wait(), Some(0));
    assert!(!home.socket().exists());
    home.start();
    home.client().call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
}

#[test]
fn a_second_signal_does_not_wait_for_clients_that_read_nothing() {
    let mut home = Home::with_accounts(WAIT, 1);
    let deaf = deaf(&home);
    let begun = Instant::now();
    signal(home.pid(), Signal::TERM);
    wait_until("the socket is removed", || !home.socket().exists());
    assert!(home.is_running(), "one signal waits for it");
    signal(home.pid(), Signal::TERM);
    assert_eq!(home.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(deaf);
    // saved changes survive the immediate stop
    home.start();
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), 1);
}

#[test]
fn a_daemon_started_while_another_ends_takes_over() {
    let mut home = Home::with_accounts(WAIT, 1);
    let deaf = deaf(&home);
    signal(home.pid(), Signal::TERM);
    wait_until("the socket is removed", || !home.socket().exists());
    let mut next = home.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // it has started and found the lock taken
    wait_until("the next one waits for the lock", || waits_for_lock(next.id()) || next.try_wait().unwrap().is_some());
    assert!(next.try_wait().unwrap().is_none(), "it must not take the stopping daemon for a serving one");
    drop(deaf);
    assert_eq!(home.wait(), Some(0));
    wait_until("the next one serves", || UnixStream::connect(home.socket()).is_ok());
    assert_eq!(home.client().call("hello", json!({}))["pid"], next.id());
    next.kill().unwrap();
    next.wait().unwrap();
}

/// Whether a process has the lock file open, so that it is about to wait for the lock.
fn waits_for_lock(pid: u32) -> bool {
    let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(files) => files,
        // just before, it hides its descriptors from all users but root
        Err(error) => return error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.ends_with("daemon.lock")))
}

#[test]
fn a_removed_or_replaced_socket_ends_the_daemon() {
    for replaced in [false, true] {
        // the path is checked once a minute, or twice per `idle_exit`, which is short enough for a test
        let mut home = Home::new("[daemon]\nidle_exit = \"2s\"\n");
        let mut command = home.command();
        command.arg("--detached");
        home.start_as(command);
        // a connected client keeps it from being idle
        let mut client = home.client();
        client.call("hello", json!({}));
        let begun = Instant::now();
        std::fs::remove_file(home.socket()).unwrap();
        let _other = replaced.then(|| std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
        client.read_to_end();
        assert_ne!(home.wait(), Some(0), "a service manager starts it again");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(home.socket().exists(), replaced, "a replaced socket is not removed");
    }
}

#[test]
fn a_configuration_that_changes_all_the_time_does_not_put_off_the_regular_check() {
    let setting = "[daemon]\nidle_exit = \"2s\"\n";
    let mut home = Home::new(setting);
    let mut command = home.command();
    command.arg("--detached");
    home.start_as(command);
    let mut client = home.client();
    client.call("hello", json!({}));
    std::fs::remove_file(home.socket()).unwrap();
    let begun = Instant::now();
    let mut is_changed = |number: u32| {
        std::fs::write(home.path().join("config.toml"), format!("{setting}[leases]\nper_account = {number}\n"))
            .unwrap();
        begun.elapsed() < PATIENCE && client.try_ask("config.reload", &json!({})).is_ok()
    };
    // until the check notices that the socket is gone
    let changes = (1..).take_while(|number| is_changed(number % 9 + 1)).count();
    assert!(begun.elapsed() < PATIENCE && changes > 10, "{changes} changes in {:?}", begun.elapsed());
    assert_ne!(home.wait(), Some(0));
}

#[test]
fn a_stop_keeps_answered_changes_and_answers_outstanding_calls() {
    for (round, end) in [Signal::TERM, Signal::KILL, Signal::TERM, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let mut home = Home::new("");
        home.start();
        let mut client = home.client();
        for number in 0..40 {
            let label = format!("a{number}");
            let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": label, "label": label });
            client.send("account.add", &params).unwrap();
        }
        // some calls are answered, some wait for the disk, some are not read yet
        let mut answered = BTreeSet::new();
        for _ in 0..3 * round {
            answered.insert(client.receive().unwrap()["result"]["label"].as_str().unwrap().to_owned());
        }
        signal(home.pid(), end);
        while let Ok(answer) = client.receive() {
            answered.extend(answer["result"]["label"].as_str().map(str::to_owned));
        }
        home.wait();
        home.start();
        let accounts = home.client().call("account.list", json!({}));
        let kept: BTreeSet<String> =
            accounts.as_array().unwrap().iter().map(|account| account["label"].as_str().unwrap().to_owned()).collect();
        assert!(answered.is_subset(&kept), "{end:?}: {answered:?} were answered, {kept:?} are kept");
        if end == Signal::TERM {
            assert_eq!(kept, answered, "exactly the answered accounts are saved");
        }
    }
}

#[test]
fn a_process_that_ended_while_no_daemon_ran_holds_no_lease() {
    let mut home = Home::with_accounts(WAIT, 1);
    let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let bound =
        home.client().call("lease.acquire", json!({ "provider": "anthropic", "bind": { "pid": process.id() } }));
    home.kill();
    process.kill().unwrap();
    process.wait().unwrap();
    home.start();
    let mut client = home.client();
    assert!(client.call("lease.list", json!({})).as_array().unwrap().is_empty());
    let report = json!({ "lease": bound["lease"], "reason": "quota_exhausted" });
    assert_eq!(client.refused("lease.report", report), "stale_lease");
    let lease = client.acquire();
    assert!(lease["fence"].as_u64() > bound["fence"].as_u64());
}

#[test]
fn an_idle_daemon_stops_and_one_with_leases_does_not() {
    let mut home = Home::new("[daemon]\nidle_exit = \"1s\"\n");
    let mut command = home.command();
    command.arg("--detached");
    home.start_as(command);
    let mut client = home.client();
    client.add("a");
    client.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl", "ttl_ms": 2500 }));
    let begun = Instant::now();
    drop(client);
    assert_eq!(home.wait(), Some(0));
    assert!(begun.elapsed() > Duration::from_millis(2500), "it held a lease: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(!home.socket().exists());
}

#[test]
fn a_client_that_connects_during_the_stop_does_not_delay_it() {
    let mut home = Home::new("");
    for _ in 0..20 {
        home.start();
        let clients: Vec<_> = (0..20).map(|_| UnixStream::connect(home.socket()).unwrap()).collect();
        let begun = Instant::now();
        signal(home.pid(), Signal::TERM);
        assert_eq!(home.wait(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(clients);
    }
}
