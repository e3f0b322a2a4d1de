//! Requests that wait for an account while the daemon ends: they continue in the queue of the next daemon.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Done, Home, eventually};

const NOTE: &str = "lessor: the daemon has ended; the request continues in the queue of the next one";

/// A home whose only account is busy until the lease is released.
fn busy() -> (Home, String) {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let lease = home.json(&["acquire", "anthropic", "--ttl", "1h", "--exclusive"]);
    (home, lease["lease"].as_str().unwrap().to_owned())
}

fn start(home: &Home, args: &[&str]) -> Child {
    let mut command = home.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The queue of the running daemon; none is started.
fn queue(home: &Home) -> Option<Vec<Value>> {
    let done = home.run(&["status", "--json", "--no-start"]);
    let status: Value = serde_json::from_str(&done.out).ok()?;
    status["queue"].as_array().cloned()
}

fn wait_for_queue(home: &Home, length: usize) {
    eventually("the queue is as long", || queue(home).is_some_and(|queue| queue.len() == length));
}

fn kill(home: &Home) {
    let pid = home.json(&["ping", "--no-start"])["pid"].clone();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    eventually("it has died", || home.json(&["ping"])["pid"] != pid);
}

#[test]
fn every_command_that_waits_queues_again_when_the_daemon_is_killed() {
    let me = std::process::id().to_string();
    let commands: [&[&str]; 4] = [
        &["run", "claude", "--direct", "--wait", "60s", "--", "printenv", "ANTHROPIC_API_KEY"],
        &["acquire", "anthropic", "--pid", &me, "--json"],
        &["token", "anthropic", "--wait", "60s"],
        &["env", "claude", "--direct", "--wait", "60s"],
    ];
    for command in commands {
        let (home, held) = busy();
        let waiting = start(&home, command);
        wait_for_queue(&home, 1);
        for _ in 0..2 {
            kill(&home);
            wait_for_queue(&home, 1);
        }
        home.run(&["release", &held]).ok();
        let done = end(waiting).ok().says("sk-canary-work");
        assert_eq!(done.err.matches(NOTE).count(), 1, "{command:?}: {done:?}");
        let leases = home.json(&["leases"]);
        assert!(leases.as_array().unwrap().len() <= 1, "one request, one lease: {leases}");
    }
}

#[test]
fn a_request_that_queues_again_keeps_its_priority() {
    let (home, held) = busy();
    let me = std::process::id().to_string();
    let ask = |priority: &str, label: &str| {
        start(&home, &["acquire", "anthropic", "--pid", &me, "--exclusive", "--priority", priority, "--label", label])
    };
    let low = ask("-5", "low");
    wait_for_queue(&home, 1);
    let high = ask("5", "high");
    wait_for_queue(&home, 2);
    kill(&home);
    wait_for_queue(&home, 2);
    home.run(&["release", &held]).ok();
    end(high).ok();
    let leases = home.json(&["leases"]);
    assert_eq!((leases.as_array().unwrap().len(), &leases[0]["label"]), (1, &json!("high")));
    home.run(&["release", leases[0]["lease"].as_str().unwrap()]).ok();
    end(low).ok();
}

#[test]
fn a_request_that_queues_again_waits_for_the_rest_of_its_time_only() {
    for (wait, config) in [(Some("4s"), ""), (None, "[limits]\nmax_rate_limit_wait = \"4s\"\n")] {
        let (home, _held) = busy();
        // nothing is granted in the grace period: a request with less time left is refused at once
        let config = format!("[leases]\ngrace = \"100ms\"\n{config}");
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        home.run(&["reload"]).ok();
        let mut arguments = vec!["acquire", "anthropic", "--ttl", "1h"];
        arguments.extend(wait.into_iter().flat_map(|wait| ["--wait", wait]));
        let begun = Instant::now();
        let waiting = start(&home, &arguments);
        wait_for_queue(&home, 1);
        eventually("it has waited", || begun.elapsed() > Duration::from_secs(2));
        kill(&home);
        let killed = Instant::now();
        end(waiting).exits(4).complains(NOTE);
        assert!(begun.elapsed() > Duration::from_millis(3900), "{:?}", begun.elapsed());
        assert!(
            killed.elapsed() < Duration::from_millis(3900),
            "it waited again from the start: {:?}",
            killed.elapsed()
        );
    }
}

#[test]
fn a_request_survives_a_stop_that_is_followed_by_a_start() {
    let (home, held) = busy();
    let waiting = start(&home, &["acquire", "anthropic", "--ttl", "1h", "--wait", "60s"]);
    wait_for_queue(&home, 1);
    home.run(&["stop"]).ok();
    home.run(&["--no-start", "ping"]).exits(3);
    home.run(&["ping"]).ok();
    wait_for_queue(&home, 1);
    home.run(&["release", &held]).ok();
    end(waiting).ok().complains(NOTE);
}

/// Without the right to start a daemon, a client waits for the one that a supervisor starts.
#[test]
fn a_client_that_may_start_no_daemon_waits_for_the_next_one() {
    let (home, held) = busy();
    let waiting = start(&home, &["--no-start", "acquire", "anthropic", "--ttl", "1h", "--wait", "60s"]);
    wait_for_queue(&home, 1);
    kill(&home);
    wait_for_queue(&home, 1);
    home.run(&["release", &held]).ok();
    end(waiting).ok().complains(NOTE);
}
