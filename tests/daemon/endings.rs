//! Signals, ends that are hurried or overlap, and what must not end a daemon.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Client, Home, signal, wait_until};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

/// A client that asks for more than the socket holds and reads nothing: a daemon that ends has something to wait for.
fn deaf(home: &Home) -> Client {
    let mut deaf = home.client();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while deaf.send("config.get", &json!({})).is_ok() {}
    deaf
}

#[test]
fn a_reader_of_its_words_that_leaves_does_not_end_a_daemon() {
    let home = Home::new("[daemon]\nlog = \"trace\"\n");
    let mut command = home.command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // before it has said anything
    drop(child.stderr.take());
    let deadline = Instant::now() + crate::support::PATIENCE;
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
fn interrupt_ends_in_order_and_hangup_does_not_end() {
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
fn a_second_signal_does_not_wait_for_who_reads_nothing() {
    let mut home = Home::with_accounts(WAIT, 1);
    let deaf = deaf(&home);
    let begun = Instant::now();
    signal(home.pid(), Signal::TERM);
    wait_until("the door is closed", || !home.socket().exists());
    assert!(home.is_running(), "one signal waits for it");
    signal(home.pid(), Signal::TERM);
    assert_eq!(home.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(deaf);
    // what was written is not lost by the hurry
    home.start();
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), 1);
}

#[test]
fn a_daemon_started_while_another_ends_takes_over() {
    let mut home = Home::with_accounts(WAIT, 1);
    let deaf = deaf(&home);
    signal(home.pid(), Signal::TERM);
    wait_until("the door is closed", || !home.socket().exists());
    let mut next = home.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // it is there and has found the lock taken
    wait_until("the next one waits for the lock", || waits_for_lock(next.id()) || next.try_wait().unwrap().is_some());
    assert!(next.try_wait().unwrap().is_none(), "it took the ending one for one that serves");
    drop(deaf);
    assert_eq!(home.wait(), Some(0));
    wait_until("the next one serves", || UnixStream::connect(home.socket()).is_ok());
    assert_eq!(home.client().call("hello", json!({}))["pid"], next.id());
    next.kill().unwrap();
    next.wait().unwrap();
}

/// Whether a process has the lock file open: it has come as far as asking for the lock.
fn waits_for_lock(pid: u32) -> bool {
    let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(files) => files,
        // just before it asks it closes itself to everybody but root
        Err(error) => return error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.ends_with("daemon.lock")))
}

#[test]
fn a_socket_that_is_gone_or_replaced_ends_the_daemon_so_that_another_can_start() {
    for replaced in [false, true] {
        // the place is looked at once a minute, or twice in `idle_exit`: that is what a test can wait for
        let mut home = Home::new("[daemon]\nidle_exit = \"2s\"\n");
        let mut command = home.command();
        command.arg("--detached");
        home.start_as(command);
        // with somebody connected it is not idle
        let mut client = home.client();
        client.call("hello", json!({}));
        let begun = Instant::now();
        std::fs::remove_file(home.socket()).unwrap();
        let _other = replaced.then(|| std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
        client.read_to_end();
        assert_ne!(home.wait(), Some(0), "a service manager starts it again");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(home.socket().exists(), replaced, "another's socket is left alone");
    }
}

#[test]
fn what_was_answered_is_kept_and_what_a_stop_meets_halfway_is_answered() {
    for (round, end) in [Signal::TERM, Signal::KILL, Signal::TERM, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let mut home = Home::new("");
        home.start();
        let mut client = home.client();
        for number in 0..40 {
            let label = format!("a{number}");
            let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": label, "label": label });
            client.send("account.add", &params).unwrap();
        }
        // some are answered, some are on their way to the disk, some are not read yet
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
            assert_eq!(kept, answered, "nothing is kept that nobody was told of");
        }
    }
}

#[test]
fn a_process_that_died_while_nobody_looked_holds_nothing() {
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
fn a_daemon_that_is_of_no_use_ends_and_one_that_holds_something_stays() {
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
fn a_client_that_comes_in_the_moment_of_the_stop_does_not_delay_it() {
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
