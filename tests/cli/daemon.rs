//! `daemon`, `ping`, `stop`, and the start of a daemon by a command that needs one.

use serde_json::{Value, json};

use super::support::{Home, feed};
#[cfg(unix)]
use super::support::{PROGRAM, eventually};

#[test]
fn a_daemon_is_started_pinged_and_stopped() {
    let home = Home::new();
    home.run(&["stop"]).ok().says("no daemon is running");
    home.run(&["--no-start", "ping"]).exits(3).complains("no daemon at").complains("hint: start one: lessor daemon");
    home.run(&["ping"]).ok().says("answers in");
    let pong = home.json(&["ping"]);
    assert!(pong["round_trip_us"].is_u64() && pong["version"] == env!("CARGO_PKG_VERSION"), "{pong}");
    home.run(&["daemon"]).ok().complains("already running: pid");
    home.run(&["--no-start", "status"]).ok().says("no accounts yet: lessor import");
    let stopped = json!({"stopped": true, "pid": pong["pid"], "leases": [], "queued": 0});
    assert_eq!(home.json(&["stop"]), stopped);
    assert_eq!(home.json(&["stop"]), json!({"stopped": false, "pid": null, "leases": [], "queued": 0}));
    assert!(!home.places().socket.exists());
}

#[test]
fn the_environment_can_prevent_a_start() {
    let home = Home::new();
    let mut command = home.command(&["status"]);
    command.env("LESSOR_NO_START", "1");
    feed(command, "").exits(3);
    assert!(!home.places().state.exists());
}

#[test]
fn a_daemon_on_another_socket_is_found_by_its_lock() {
    let home = Home::new();
    let socket = match cfg!(windows) {
        true => format!("{}-other", home.places().socket.display()).into(),
        false => home.path().join("other.sock"),
    };
    let pong = home.json(&["--socket", socket.to_str().unwrap(), "ping"]);
    assert_eq!(home.json(&["--no-start", "ping"])["pid"], pong["pid"]);
    assert_eq!(home.json(&["status"])["socket"], socket.to_str().unwrap());
}

#[test]
fn fifty_clients_at_once_are_all_served_by_one_daemon() {
    let home = Home::new();
    let pids: Vec<Value> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| home.json(&["ping"])["pid"].clone())).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

/// A daemon greets before it has read its accounts. What it finds wrong with them is still the answer of the command that
/// starts it.
#[test]
fn a_database_that_cannot_be_read_is_named_by_the_command_that_starts_the_daemon() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["stop"]).ok();
    let database = rusqlite::Connection::open(home.places().database).unwrap();
    database.execute_batch("ALTER TABLE account RENAME COLUMN label TO other").unwrap();
    drop(database);
    for command in [&["ping"][..], &["status"], &["token", "anthropic"], &["restart"]] {
        home.run(command)
            .exits(3)
            .complains("is damaged (Invalid column name: label)")
            .complains("lessor restore FILE");
    }
}

/// A home with an agent and a lease without a process.
#[cfg(unix)]
fn in_use() -> (Home, std::process::Child) {
    let home = Home::with_keys(&[("anthropic", "work"), ("openai", "other")]);
    let agent = home.command(&["run", "-p", "anthropic", "--direct", "--", "sleep", "60"]).spawn().unwrap();
    eventually("the agent holds its lease", || home.json(&["leases"])[0]["holder"]["program"] == "sleep");
    home.run(&["acquire", "openai", "--ttl", "1h", "--label", "nightly"]).ok();
    (home, agent)
}

#[cfg(unix)]
#[test]
fn a_stop_names_what_it_cuts_and_asks_no_script() {
    let (home, mut agent) = in_use();
    let cut = format!("2 agents hold leases: sleep (pid {}, work), nightly (other); none is served", agent.id());
    for arguments in [&["stop"][..], &["stop", "--yes"], &["stop", "--json"]] {
        let done = home.run(arguments).ok();
        let message = done.err.replace('\n', " ");
        assert!(message.contains(&cut) && !message.contains("[y/N]"), "{done:?}");
        if arguments.contains(&"--json") {
            let stopped: Value = serde_json::from_str(&done.out).unwrap();
            assert_eq!((stopped["leases"].as_array().unwrap().len(), &stopped["queued"]), (2, &json!(0)));
        }
        // the leases are there again
        home.run(&["ping"]).ok();
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    eventually("one lease is left", || home.json(&["leases"]).as_array().unwrap().len() == 1);
    home.run(&["stop"]).ok().complains("1 agent holds a lease: nightly (other)");
}

/// `script` gives the command a terminal.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_a_stop_asks_first() {
    let (home, mut agent) = in_use();
    let on_a_terminal = |arguments: &str, answer: &str| {
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("{PROGRAM} {arguments}"), "/dev/null"]).env("LESSOR_HOME", home.path());
        feed(command, answer)
    };
    let is_running = || home.run(&["--no-start", "ping"]).code == 0;
    for answer in ["n\n", "\n"] {
        on_a_terminal("stop", answer).exits(1).says("2 agents hold leases").says("[y/N]").says("not stopped");
        assert!(is_running());
    }
    on_a_terminal("stop", "y\n").ok().says("stopped (pid");
    assert!(!is_running());
    home.run(&["ping"]).ok();
    let done = on_a_terminal("stop --yes", "").ok().says("2 agents hold leases");
    assert!(!done.out.contains("[y/N]"), "{done:?}");
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn clients_during_a_stop_are_served_by_the_next_daemon() {
    let home = Home::new();
    for _ in 0..5 {
        home.run(&["ping"]).ok();
        std::thread::scope(|scope| {
            scope.spawn(|| home.run(&["stop"]).ok());
            for _ in 0..4 {
                scope.spawn(|| home.run(&["ping"]).ok());
            }
        });
    }
}

#[test]
fn a_daemon_that_cannot_start_is_explained() {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "[daemon]\nlgo = 1\n").unwrap();
    home.run(&["status"]).exits(6).complains("config.toml:2:1").complains("lgo").complains("lessor config edit");
    home.run(&["daemon"]).exits(6).complains("config.toml:2");
    let error: Value = serde_json::from_str(&home.run(&["status", "--json"]).exits(6).err).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("lgo"), "{error}");
}

/// If the daemon kept a pipe of the caller open, this test would not end.
#[cfg(unix)]
#[test]
fn a_started_daemon_keeps_no_file_of_its_starter_open() {
    let home = Home::new();
    let mut shell = std::process::Command::new("sh");
    let script = format!("exec 7>&1; {PROGRAM} ping >/dev/null; exec 7>&-; echo done");
    shell.args(["-c", &script]).env("LESSOR_HOME", home.path());
    feed(shell, "").ok().says("done");
}

/// The variables of a service manager are for one process, not for a daemon that this process starts.
#[cfg(target_os = "linux")]
#[test]
fn a_started_daemon_inherits_no_variable_of_a_service_manager() {
    let home = Home::new();
    let ear = std::os::unix::net::UnixDatagram::bind(home.path().join("notify")).unwrap();
    ear.set_nonblocking(true).unwrap();
    let mut command = home.command(&["ping", "--json"]);
    command.env("NOTIFY_SOCKET", home.path().join("notify")).env("JOURNAL_STREAM", "1:2").env("INVOCATION_ID", "x");
    for name in lessor::client::SERVICE_MANAGER_VARIABLES.iter().skip(1) {
        command.env(name, "1");
    }
    let pong: Value = serde_json::from_str(&feed(command, "").ok().out).unwrap();
    // only root can read the environment of a daemon
    let Ok(environment) = std::fs::read(format!("/proc/{}/environ", pong["pid"])) else { return };
    let names: Vec<_> = environment
        .split(|byte| *byte == 0)
        .map(|line| String::from_utf8_lossy(line.split(|byte| *byte == b'=').next().unwrap()).into_owned())
        .collect();
    assert!(names.iter().any(|name| name == "LESSOR_HOME"), "{names:?}");
    for name in lessor::client::SERVICE_MANAGER_VARIABLES.iter().chain(&["JOURNAL_STREAM", "INVOCATION_ID"]) {
        assert!(!names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert_eq!(ear.recv(&mut [0; 512]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing was sent");
}
