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

use support::{Client, Here, ask, signal, wait_until};

#[test]
fn install_says_what_it_does_and_uninstall_leaves_nothing() {
    let here = Here::clean();
    let said = here.lessor(&["service", "status"]).ok();
    assert!(said.contains("no service is installed at systemd"), "{said}");
    let said = here.lessor(&["service", "install"]).ok();
    assert!(said.contains("written ") && said.contains("loginctl enable-linger"), "{said}");
    assert!(said.contains("lessor.sock and starts the daemon when a client connects"), "{said}");
    let again: Value = serde_json::from_str(&here.lessor(&["service", "install", "--json"]).ok()).unwrap();
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["change"] == "unchanged"), "{again}");
    let status = here.status();
    let wanted = json!({ "manager": "systemd", "installed": true, "enabled": true, "active": false, "pid": null,
        "listening": true, "linger": false, "outdated": false, "warnings": [], "restarts": 0,
        "state": "inactive (dead)", "socket": here.socket(), "program": here.program() });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(status[key], *value, "{key} of {status}");
    }
    let said = here.lessor(&["service", "uninstall"]).ok();
    assert!(said.contains("removed "), "{said}");
    assert!(!here.socket().exists());
    let left: Vec<_> = walk(&here.units());
    assert!(left.is_empty(), "{left:?}");
    assert!(here.lessor(&["service", "uninstall"]).ok().contains("no service is installed"));
    let refused = here.lessor(&["service", "start"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("hint: install it: lessor service install"), "{}", refused.err);
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_units_are_well_formed() {
    let here = Here::clean();
    here.lessor(&["service", "install"]).ok();
    let units = ["lessor.service", "lessor.socket"].map(|name| here.units().join(name));
    let verify = |what: &str| {
        let mut command = here.command("systemd-analyze");
        command.args(["verify", "--user"]).args(&units);
        let done = support::run(command);
        assert!(done.code == 0 && done.err.is_empty() && done.out.is_empty(), "{what}: {done:?}");
    };
    verify("as installed");
    here.drop_in("sandbox.conf", &std::fs::read_to_string(here.templates().join("sandbox.conf")).unwrap());
    verify("with the sandbox");
}

#[test]
fn the_first_client_starts_it_and_it_is_confined() {
    let here = Here::installed();
    assert_eq!(std::fs::metadata(here.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(here.socket().parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(here.property("ActiveState"), "inactive");
    let mut client = here.client();
    let pid = client.pid();
    assert_eq!(here.property("MainPID"), pid.to_string());
    wait_until("systemd knows that it serves", || here.property("ActiveState") == "active");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size        0 ")), "{limits}");
    client.add("a");
    let status = here.status();
    assert_eq!((&status["pid"], &status["active"]), (&json!(pid), &json!(true)), "{status}");
    let text = here.lessor(&["service", "status"]).ok();
    assert!(text.contains(&format!("active (running), pid {pid}")), "{text}");
}

#[test]
fn killing_it_refuses_nobody() {
    let here = Here::installed();
    let mut pid = here.client().pid();
    here.client().add("a");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // who never stops coming
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut served, mut cut) = (0, 0);
                    while !over.load(Ordering::Relaxed) {
                        let mut stream = UnixStream::connect(here.socket()).expect("nobody is refused");
                        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
                        // one that is being served as the daemon dies is cut off, as it must be
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
            let mut next = here.client();
            let new = next.pid();
            assert_ne!(new, pid);
            assert_eq!(next.call("account.list", json!({})).as_array().unwrap().len(), 1);
            pid = new;
        }
        over.store(true, Ordering::Relaxed);
        for visitor in visitors {
            let (served, cut) = visitor.join().unwrap();
            assert!(served > 0 && cut <= 8, "{served} served, {cut} cut off");
        }
    });
    assert_eq!(here.property("NRestarts"), "8");
}

#[test]
fn one_that_hangs_is_started_anew() {
    let here = Here::installed();
    here.drop_in("watchdog.conf", "[Service]\nWatchdogSec=1\n");
    here.systemctl(&["daemon-reload"]);
    let mut client = here.client();
    let pid = client.pid();
    wait_until("it has been up", || here.property("ActiveState") == "active");
    signal(pid, Signal::STOP);
    // who comes while it hangs waits, and is served by the next one
    let mut waiting = here.client();
    waiting.stream.set_read_timeout(Some(3 * support::PATIENCE)).unwrap();
    waiting.send("hello", &json!({}));
    client.read_to_end();
    let mut next = here.client();
    assert_ne!(next.pid(), pid);
    assert_eq!(here.property("NRestarts"), "1");
    drop(waiting);
}

#[test]
fn a_lease_survives_a_reload() {
    let here = Here::installed();
    let mut client = here.client();
    let pid = client.pid();
    client.add("a");
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic" }));
    wait_until("systemd knows that it serves", || here.property("ActiveState") == "active");
    std::fs::create_dir_all(here.home().join(".config/lessor")).unwrap();
    std::fs::write(here.home().join(".config/lessor/config.toml"), "[leases]\nper_account = 7\n").unwrap();
    here.systemctl(&["reload", "lessor.service"]);
    // systemd has waited until it had read it
    let settings = client.call("config.get", json!({}))["settings"].clone();
    let per_account = settings.as_array().unwrap().iter().find(|setting| setting["key"] == "leases.per_account");
    assert_eq!(per_account.unwrap()["value"], 7);
    wait_until("it serves again", || here.property("ActiveState") == "active");
    assert_eq!(client.call("lease.list", json!({}))[0]["fence"], lease["fence"]);
    assert_eq!(client.pid(), pid);
    assert_eq!(here.property("MainPID"), pid.to_string());
}

#[test]
fn systemd_is_told_how_it_is() {
    let here = Here::installed();
    here.drop_in("watchdog.conf", "[Service]\nWatchdogSec=1\n");
    here.systemctl(&["daemon-reload"]);
    let mut client = here.client();
    client.add("a");
    client.call("lease.acquire", json!({ "provider": "anthropic" }));
    wait_until("it says so", || here.property("StatusText") == "1 lease, 1 account (1 ready), queue 0");
    assert!(here.lessor(&["service", "status"]).ok().contains("1 lease, 1 account (1 ready), queue 0"));
}

#[test]
fn what_it_logs_is_in_the_journal_field_by_field() {
    let here = Here::installed();
    let mut client = here.client();
    client.add("a");
    client.call("lease.acquire", json!({ "provider": "anthropic" }));
    let account = client.call("account.list", json!({}))[0]["id"].as_str().unwrap().to_owned();
    let mine = format!("LESSOR_ACCOUNT={account}");
    // from here on and for this unit: as a person would ask
    let journal = |wanted: &str| here.journal(&["--user-unit", "lessor.service", &mine, wanted]);
    wait_until("the journal has it", || !journal("LESSOR_KIND=account.changed").is_empty());
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
    let lines = here.lessor(&["logs"]).ok();
    let line =
        lines.lines().find(|line| line.contains(&format!("account={account}"))).unwrap_or_else(|| panic!("{lines}"));
    assert!(line.contains(" INFO  a was added or changed  "), "{line}");
    let everything = here.journal(&["--user-unit", "lessor.service"]);
    assert!(everything.len() > 2 && !format!("{everything:?}").contains("sk-canary"), "{everything:?}");
}

#[test]
fn one_that_a_client_had_started_makes_way() {
    let here = Here::clean();
    here.add("a");
    let old = here.ping();
    let said = here.lessor(&["service", "install"]).ok();
    assert!(said.contains(&format!("stopped the daemon that a client had started (pid {old})")), "{said}");
    let new = here.ping();
    assert_ne!(new, old);
    assert_eq!(here.property("MainPID"), new.to_string());
    // a shell without XDG_RUNTIME_DIR finds the service by its lock, or starts one of its own
    let elsewhere = || {
        let mut command = here.command(here.program());
        command.args(["ping", "--json"]).env_remove("XDG_RUNTIME_DIR");
        serde_json::from_str::<Value>(&support::run(command).ok()).unwrap()["pid"].as_u64().unwrap()
    };
    assert_eq!(elsewhere(), new);
    assert!(here.lessor(&["stop"]).ok().contains(&new.to_string()));
    assert!(here.lessor(&["stop"]).ok().contains("no daemon is running"), "and none is started to be stopped");
    let other = elsewhere();
    wait_until("the service is down", || here.property("ActiveState") == "inactive");
    assert!(here.status()["warnings"].to_string().contains("started by a client"), "{}", here.status());
    // it makes way again for the service
    let newest = here.ping();
    assert_ne!(newest, other);
    assert_eq!(here.property("MainPID"), newest.to_string());
    assert_eq!(elsewhere(), newest);
    assert_eq!(here.lessor(&["account", "list", "--json"]).ok().matches("\"label\"").count(), 1);
}

#[test]
fn one_in_the_foreground_stays_and_serves_the_services_clients() {
    let here = Here::installed();
    let mut command = here.command(here.program());
    command.arg("daemon").env("LESSOR_SOCKET", here.home().join("mine.sock"));
    let mut mine = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it serves", || UnixStream::connect(here.home().join("mine.sock")).is_ok());
    for _ in 0..5 {
        assert_eq!(here.ping(), u64::from(mine.id()));
    }
    wait_until("the service has given way", || here.property("ActiveState") == "failed");
    assert_eq!(here.property("ExecMainStatus"), "75");
    assert_eq!(here.property("NRestarts"), "0", "it is not started again and again");
    let status = here.status();
    assert_eq!(status["listening"], true);
    assert!(status["warnings"].to_string().contains("started by the user"), "{status}");
    signal(mine.id(), Signal::TERM);
    assert!(mine.wait().unwrap().success());
    let pid = here.ping();
    assert_eq!(here.property("MainPID"), pid.to_string());
}

#[test]
fn a_bad_configuration_is_told_and_mended() {
    let here = Here::installed();
    std::fs::create_dir_all(here.home().join(".config/lessor")).unwrap();
    let config = here.home().join(".config/lessor/config.toml");
    std::fs::write(&config, "[daemon]\nlgo = 1\n").unwrap();
    let refused = here.lessor(&["ping"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("config.toml:2") && refused.err.contains("lgo"), "{}", refused.err);
    assert!(here.status()["listening"].as_bool().unwrap());
    std::fs::write(&config, "").unwrap();
    let pid = here.ping();
    assert_eq!(here.property("MainPID"), pid.to_string());
}

#[test]
fn start_stop_restart_and_settings_that_need_quotes() {
    let here = Here::clean();
    let program = here.home().join("100%h $HOME ${HOME} ü; #/lessor");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(here.program(), &program).unwrap();
    let home = here.home().join("a \"b\" 100%h $HOME 'c' \\d ü");
    let run = |arguments: &[&str]| {
        let mut command = here.command(&program);
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
    // another lessor asks, and its settings are written over these
    let status = here.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("is not that of the service") && warnings.contains("service start"), "{status}");
    let said = here.lessor(&["service", "install"]).ok();
    assert!(said.contains("replaced "), "{said}");
    here.ping();
    assert_eq!(here.status()["warnings"], json!([]));
    std::fs::write(here.units().join("lessor.service"), "[Service]\nExecStart=/bin/none daemon\n").unwrap();
    let warnings = here.status()["warnings"].to_string();
    assert!(
        warnings.contains("does not exist any more") && warnings.contains("not those of this version"),
        "{warnings}"
    );
}

#[test]
fn a_socket_that_moves_moves() {
    let here = Here::installed();
    let old = here.ping();
    let elsewhere = here.home().join("run/elsewhere.sock");
    let run = |arguments: &[&str]| {
        let mut command = here.command(here.program());
        command.args(["--socket", elsewhere.to_str().unwrap()]).args(arguments);
        support::run(command).ok()
    };
    let said = run(&["service", "install"]);
    assert!(said.contains(elsewhere.to_str().unwrap()), "{said}");
    let pong: Value = serde_json::from_str(&run(&["--no-start", "ping", "--json"])).unwrap();
    assert_ne!(pong["pid"].as_u64(), Some(old));
    assert_eq!(here.property("MainPID"), pong["pid"].to_string());
    assert_eq!(Client::connect(&elsewhere).pid().to_string(), pong["pid"].to_string());
    assert!(!here.socket().exists());
}

#[test]
fn without_a_systemd_it_says_what_to_do() {
    let here = Here::clean();
    let mut command = here.command(here.program());
    command.args(["service", "install"]).env("XDG_RUNTIME_DIR", here.home().join("nothing"));
    let refused = support::run(command);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("systemd cannot be reached") && refused.err.contains("enable-linger"), "{refused:?}");
    assert!(walk(&here.units()).is_empty());
    // where systemd does not look
    let mut command = here.command(here.program());
    command.args(["service", "install"]).env("XDG_CONFIG_HOME", here.home().join("other"));
    let refused = support::run(command);
    assert!(refused.code == 1 && refused.err.contains("XDG_CONFIG_HOME"), "{refused:?}");
    let mut command = here.command(here.program());
    command.args(["service", "uninstall"]).env("XDG_CONFIG_HOME", here.home().join("other"));
    support::run(command).ok();
}
