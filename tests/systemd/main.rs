//! lessor as a service of a real systemd. Run by `.ci/systemd`, one test at a time: they share the user's systemd.

#![cfg(target_os = "linux")]

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use support::{Client, TestUser, ask, signal, wait_until};

#[test]
fn install_reports_its_changes_and_uninstall_removes_all_files() {
    let user = TestUser::clean();
    let out = user.lessor(&["service", "status"]).ok();
    assert!(out.contains("no service is installed at systemd"), "{out}");
    let out = user.lessor(&["service", "install"]).ok();
    assert!(out.contains("written ") && out.contains("loginctl enable-linger"), "{out}");
    assert!(out.contains("lessor.sock and starts the daemon when a client connects"), "{out}");
    let again: Value = serde_json::from_str(&user.lessor(&["service", "install", "--json"]).ok()).unwrap();
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["change"] == "unchanged"), "{again}");
    let status = user.status();
    let wanted = json!({ "manager": "systemd", "installed": true, "enabled": true, "active": false, "pid": null,
        "listening": true, "linger": false, "outdated": false, "warnings": [], "restarts": 0,
        "state": "inactive (dead)", "socket": user.socket(), "program": user.program() });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(status[key], *value, "{key} of {status}");
    }
    let out = user.lessor(&["service", "uninstall"]).ok();
    assert!(out.contains("removed "), "{out}");
    assert!(!user.socket().exists());
    let left: Vec<_> = walk(&user.units());
    assert!(left.is_empty(), "{left:?}");
    assert!(user.lessor(&["service", "uninstall"]).ok().contains("no service is installed"));
    let refused = user.lessor(&["service", "start"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("hint: install it: lessor service install"), "{}", refused.err);
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_units_pass_systemd_analyze_verify() {
    let user = TestUser::clean();
    user.lessor(&["service", "install"]).ok();
    let units = ["lessor.service", "lessor.socket"].map(|name| user.units().join(name));
    let verify = |what: &str| {
        let mut command = user.command("systemd-analyze");
        command.args(["verify", "--user"]).args(&units);
        let done = support::run(command);
        assert!(done.code == 0 && done.err.is_empty() && done.out.is_empty(), "{what}: {done:?}");
    };
    verify("as installed");
    user.drop_in("sandbox.conf", &std::fs::read_to_string(user.templates().join("sandbox.conf")).unwrap());
    verify("with the sandbox");
}

#[test]
fn the_first_client_starts_the_daemon_with_its_restrictions() {
    let user = TestUser::installed();
    assert_eq!(std::fs::metadata(user.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(user.socket().parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(user.property("ActiveState"), "inactive");
    let mut client = user.client();
    let pid = client.pid();
    assert_eq!(user.property("MainPID"), pid.to_string());
    wait_until("systemd has received the ready message", || user.property("ActiveState") == "active");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size        0 ")), "{limits}");
    client.add("a");
    let status = user.status();
    assert_eq!((&status["pid"], &status["active"]), (&json!(pid), &json!(true)), "{status}");
    let text = user.lessor(&["service", "status"]).ok();
    assert!(text.contains(&format!("active (running), pid {pid}")), "{text}");
}

#[test]
fn no_client_is_refused_while_the_daemon_is_killed_and_restarted() {
    let user = TestUser::installed();
    let mut pid = user.client().pid();
    user.client().add("a");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // clients that connect again and again
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut served, mut cut) = (0, 0);
                    while !over.load(Ordering::Relaxed) {
                        let mut stream = UnixStream::connect(user.socket()).expect("no client is refused");
                        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
                        // the connection of a client that is being served is cut when the daemon dies
                        let sent = stream.write_all(ask(1, "hello", &json!({})).as_bytes());
                        match sent.and_then(|()| stream.read(&mut [0; 4096])) {
                            Ok(length) if length > 0 => served += 1,
                            _ => cut += 1,
                        }
                    }
                    (served, cut)
                })
            })
            .collect();
        for _ in 0..8 {
            signal(pid, Signal::KILL);
            let mut next = user.client();
            let new = next.pid();
            assert_ne!(new, pid);
            assert_eq!(next.call("account.list", json!({})).as_array().unwrap().len(), 1);
            pid = new;
        }
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let (served, cut) = client.join().unwrap();
            assert!(served > 0 && cut <= 8, "{served} served, {cut} cut off");
        }
    });
    assert_eq!(user.property("NRestarts"), "8");
}

#[test]
fn a_daemon_that_hangs_is_restarted() {
    let user = TestUser::installed();
    user.drop_in("watchdog.conf", "[Service]\nWatchdogSec=1\n");
    user.systemctl(&["daemon-reload"]);
    let mut client = user.client();
    let pid = client.pid();
    wait_until("the daemon is ready", || user.property("ActiveState") == "active");
    signal(pid, Signal::STOP);
    // a client that connects while the daemon hangs waits for the next daemon
    let mut waiting = user.client();
    waiting.stream.set_read_timeout(Some(3 * support::PATIENCE)).unwrap();
    waiting.send("hello", &json!({}));
    client.read_to_end();
    let mut next = user.client();
    assert_ne!(next.pid(), pid);
    assert_eq!(user.property("NRestarts"), "1");
    drop(waiting);
}

#[test]
fn a_restart_keeps_process_socket_and_leases() {
    let user = TestUser::installed();
    let mut client = user.client();
    let pid = client.pid();
    client.add("a");
    let mut process = user.command("sleep");
    let mut process = process.arg("60").spawn().unwrap();
    let bound = json!({ "provider": "anthropic", "bind": { "pid": process.id() } });
    let lease = client.call("lease.acquire", bound);
    wait_until("systemd has received the ready message", || user.property("ActiveState") == "active");
    for _ in 0..3 {
        let restarted: Value = serde_json::from_str(&user.lessor(&["restart", "--json"]).ok()).unwrap();
        assert_eq!((&restarted["restarted"], &restarted["pid"]), (&json!(true), &json!(pid)), "{restarted}");
        let mut client = user.client();
        assert_eq!(client.call("lease.list", json!({}))[0]["fence"], lease["fence"]);
        wait_until("the restart is over", || user.property("ActiveState") == "active");
        assert_eq!((user.property("MainPID"), user.property("NRestarts")), (pid.to_string(), "0".to_owned()));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // the manager still sees a daemon that it can watch and stop
    signal(pid, Signal::KILL);
    assert_ne!(user.client().pid(), pid);
    assert_eq!(user.property("NRestarts"), "1");
}

#[test]
fn a_lease_survives_a_reload() {
    let user = TestUser::installed();
    let mut client = user.client();
    let pid = client.pid();
    client.add("a");
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic" }));
    wait_until("systemd has received the ready message", || user.property("ActiveState") == "active");
    std::fs::create_dir_all(user.home().join(".config/lessor")).unwrap();
    // systemctl returns when the daemon has read the file, every time
    for per_account in 2..=7 {
        let text = format!("[leases]\nper_account = {per_account}\n");
        std::fs::write(user.home().join(".config/lessor/config.toml"), text).unwrap();
        user.systemctl(&["reload", "lessor.service"]);
        let settings = client.call("config.get", json!({}))["settings"].clone();
        let set = settings.as_array().unwrap().iter().find(|setting| setting["key"] == "leases.per_account").cloned();
        assert_eq!(set.unwrap()["value"], per_account);
    }
    wait_until("the reload is over", || user.property("ActiveState") == "active");
    assert_eq!(client.call("lease.list", json!({}))[0]["fence"], lease["fence"]);
    assert_eq!(client.pid(), pid);
    assert_eq!(user.property("MainPID"), pid.to_string());
}

#[test]
fn the_status_text_counts_leases_accounts_and_queued_requests() {
    let user = TestUser::installed();
    user.drop_in("watchdog.conf", "[Service]\nWatchdogSec=1\n");
    user.systemctl(&["daemon-reload"]);
    let mut client = user.client();
    client.add("a");
    client.call("lease.acquire", json!({ "provider": "anthropic" }));
    wait_until("the status text is current", || user.property("StatusText") == "1 lease, 1 account (1 ready), queue 0");
    assert!(user.lessor(&["service", "status"]).ok().contains("1 lease, 1 account (1 ready), queue 0"));
}

#[test]
fn log_entries_have_fields_in_the_journal() {
    let user = TestUser::installed();
    let mut client = user.client();
    client.add("a");
    client.call("lease.acquire", json!({ "provider": "anthropic" }));
    let account = client.call("account.list", json!({}))[0]["id"].as_str().unwrap().to_owned();
    let of_account = format!("LESSOR_ACCOUNT={account}");
    // only this test's account and this unit
    let journal = |filter: &str| user.journal(&["--user-unit", "lessor.service", &of_account, filter]);
    wait_until("the entry is in the journal", || !journal("LESSOR_KIND=account.changed").is_empty());
    let entry = &journal("LESSOR_KIND=account.changed")[0];
    for (field, value) in [
        ("LESSOR_PROVIDER", "anthropic"),
        ("LESSOR_STATE", "ready"),
        ("SYSLOG_IDENTIFIER", "lessor"),
        ("PRIORITY", "6"),
        ("_SYSTEMD_USER_UNIT", "lessor.service"),
        ("_PID", &client.pid().to_string()),
    ] {
        assert_eq!(entry[field], value, "{field} of {entry}");
    }
    let lines = user.lessor(&["logs"]).ok();
    let line =
        lines.lines().find(|line| line.contains(&format!("account={account}"))).unwrap_or_else(|| panic!("{lines}"));
    assert!(line.contains(" INFO  a was added or changed  "), "{line}");
    let everything = user.journal(&["--user-unit", "lessor.service"]);
    assert!(everything.len() > 2 && !format!("{everything:?}").contains("sk-canary"), "{everything:?}");
}

#[test]
fn a_daemon_that_a_client_started_is_replaced() {
    let user = TestUser::clean();
    user.add("a");
    let old = user.ping();
    let out = user.lessor(&["service", "install"]).ok();
    assert!(out.contains(&format!("stopped the daemon that a client had started (pid {old})")), "{out}");
    let new = user.ping();
    assert_ne!(new, old);
    assert_eq!(user.property("MainPID"), new.to_string());
    // without XDG_RUNTIME_DIR, a client finds the service's daemon by the lock file, or starts a daemon
    let elsewhere = || {
        let mut command = user.command(user.program());
        command.args(["ping", "--json"]).env_remove("XDG_RUNTIME_DIR");
        serde_json::from_str::<Value>(&support::run(command).ok()).unwrap()["pid"].as_u64().unwrap()
    };
    assert_eq!(elsewhere(), new);
    assert!(user.lessor(&["stop"]).ok().contains(&new.to_string()));
    assert!(user.lessor(&["stop"]).ok().contains("no daemon is running"), "no daemon is started only to be stopped");
    let other = elsewhere();
    wait_until("the service is down", || user.property("ActiveState") == "inactive");
    assert!(user.status()["warnings"].to_string().contains("started by a client"), "{}", user.status());
    // the service replaces it again
    let newest = user.ping();
    assert_ne!(newest, other);
    assert_eq!(user.property("MainPID"), newest.to_string());
    assert_eq!(elsewhere(), newest);
    assert_eq!(user.lessor(&["account", "list", "--json"]).ok().matches("\"label\"").count(), 1);
}

#[test]
fn a_daemon_in_the_foreground_stays_and_serves_the_clients_of_the_service() {
    let user = TestUser::installed();
    let mut command = user.command(user.program());
    command.arg("daemon").env("LESSOR_SOCKET", user.home().join("mine.sock"));
    let mut mine = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the daemon listens", || UnixStream::connect(user.home().join("mine.sock")).is_ok());
    for _ in 0..5 {
        assert_eq!(user.ping(), u64::from(mine.id()));
    }
    wait_until("the service has stopped", || user.property("ActiveState") == "failed");
    assert_eq!(user.property("ExecMainStatus"), "75");
    assert_eq!(user.property("NRestarts"), "0", "systemd does not restart it");
    let status = user.status();
    assert_eq!(status["listening"], true);
    assert!(status["warnings"].to_string().contains("started by the user"), "{status}");
    signal(mine.id(), Signal::TERM);
    assert!(mine.wait().unwrap().success());
    let pid = user.ping();
    assert_eq!(user.property("MainPID"), pid.to_string());
}

#[test]
fn an_invalid_configuration_is_reported_until_it_is_fixed() {
    let user = TestUser::installed();
    std::fs::create_dir_all(user.home().join(".config/lessor")).unwrap();
    let config = user.home().join(".config/lessor/config.toml");
    std::fs::write(&config, "[daemon]\nlgo = 1\n").unwrap();
    let refused = user.lessor(&["ping"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.err.contains("config.toml:2") && refused.err.contains("lgo"), "{}", refused.err);
    assert!(user.status()["listening"].as_bool().unwrap());
    std::fs::write(&config, "").unwrap();
    let pid = user.ping();
    assert_eq!(user.property("MainPID"), pid.to_string());
}

#[test]
fn start_stop_and_restart_with_paths_that_need_quoting() {
    let user = TestUser::clean();
    let program = user.home().join("100%h $HOME ${HOME} ü; #/lessor");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(user.program(), &program).unwrap();
    let home = user.home().join("a \"b\" 100%h $HOME 'c' \\d ü");
    let run = |arguments: &[&str]| {
        let mut command = user.command(&program);
        command.args(arguments).env("LESSOR_HOME", &home);
        support::run(command)
    };
    run(&["service", "install"]).ok();
    let started = run(&["service", "start"]).ok();
    let pong: Value = serde_json::from_str(&run(&["ping", "--json"]).ok()).unwrap();
    assert_eq!(started, format!("started (pid {})\n", pong["pid"]));
    assert!(home.join("run/lessor.sock").exists() && home.join("data/lessor.db").exists());
    let status: Value = serde_json::from_str(&run(&["service", "status", "--json"]).ok()).unwrap();
    assert_eq!(status["program"], program.to_str().unwrap(), "{status}");
    assert_eq!((&status["warnings"], &status["pid"]), (&json!([]), &pong["pid"]), "{status}");
    run(&["service", "restart"]).ok();
    let again: Value = serde_json::from_str(&run(&["ping", "--json"]).ok()).unwrap();
    assert_ne!(again["pid"], pong["pid"]);
    run(&["service", "stop"]).ok();
    assert!(!home.join("run/lessor.sock").exists());
    let refused = run(&["--no-start", "ping"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    // a lessor with other settings warns, and its install replaces these settings
    let status = user.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("is not that of the service") && warnings.contains("service start"), "{status}");
    let out = user.lessor(&["service", "install"]).ok();
    assert!(out.contains("replaced "), "{out}");
    user.ping();
    assert_eq!(user.status()["warnings"], json!([]));
    std::fs::write(user.units().join("lessor.service"), "[Service]\nExecStart=/bin/none daemon\n").unwrap();
    let warnings = user.status()["warnings"].to_string();
    assert!(
        warnings.contains("does not exist any more") && warnings.contains("not those of this version"),
        "{warnings}"
    );
}

#[test]
fn install_with_another_socket_moves_the_service_to_it() {
    let user = TestUser::installed();
    let old = user.ping();
    let elsewhere = user.home().join("run/elsewhere.sock");
    let run = |arguments: &[&str]| {
        let mut command = user.command(user.program());
        command.args(["--socket", elsewhere.to_str().unwrap()]).args(arguments);
        support::run(command).ok()
    };
    let out = run(&["service", "install"]);
    assert!(out.contains(elsewhere.to_str().unwrap()), "{out}");
    let pong: Value = serde_json::from_str(&run(&["--no-start", "ping", "--json"])).unwrap();
    assert_ne!(pong["pid"].as_u64(), Some(old));
    assert_eq!(user.property("MainPID"), pong["pid"].to_string());
    assert_eq!(Client::connect(&elsewhere).pid().to_string(), pong["pid"].to_string());
    assert!(!user.socket().exists());
}

#[test]
fn without_systemd_the_error_names_the_fix() {
    let user = TestUser::clean();
    let mut command = user.command(user.program());
    command.args(["service", "install"]).env("XDG_RUNTIME_DIR", user.home().join("nothing"));
    let refused = support::run(command);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("systemd cannot be reached") && refused.err.contains("enable-linger"), "{refused:?}");
    assert!(walk(&user.units()).is_empty());
    // a directory that systemd does not read
    let mut command = user.command(user.program());
    command.args(["service", "install"]).env("XDG_CONFIG_HOME", user.home().join("other"));
    let refused = support::run(command);
    assert!(refused.code == 1 && refused.err.contains("XDG_CONFIG_HOME"), "{refused:?}");
    let mut command = user.command(user.program());
    command.args(["service", "uninstall"]).env("XDG_CONFIG_HOME", user.home().join("other"));
    support::run(command).ok();
}
