//! The daemon's log: its content, its place, and how `logs` reads it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::support::{Home, PROGRAM, feed};

/// No step takes longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `lessor logs --follow`, line by line.
struct Follower {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let lines = self.lines.as_mut().unwrap();
        if lines.buffer().is_empty() {
            let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
            let come = poll(&mut [PollFd::new(lines.get_ref(), PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(come, 1, "no line comes");
        }
        // a line is written at once
        lines.lines().next().unwrap().unwrap()
    }

    fn code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn add(path: &Path, text: &str) {
    fs::File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_missing_log_is_reported_and_no_daemon_is_started() {
    let home = Home::new();
    let done = home.run(&["logs"]).ok().complains("no log yet").complains("lessor.log");
    assert_eq!(done.out, "");
    assert!(!home.places().state.exists());
    home.run(&["logs", "-n", "few"]).exits(2).complains("it must be a number or `all`");
}

#[test]
fn account_changes_are_logged_and_grants_are_not() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "spare")]);
    let lease = home.json(&["acquire", "anthropic", "--account", "work", "--ttl", "10m"]);
    home.run(&["account", "disable", "work"]).ok();
    home.run(&["account", "remove", "work"]).ok();
    // it needs no daemon
    home.run(&["stop"]).ok();
    let done = home.run(&["logs"]).ok();
    let id = lease["account"]["id"].as_str().unwrap();
    for part in [
        " INFO  lessor ",
        "work was added or changed  kind=account.changed",
        "work is disabled  kind=account.changed",
        &format!("{id} was removed  kind=account.changed account={id} state=removed"),
        "was revoked  kind=lease.revoked",
        "INFO  stopped",
    ] {
        assert!(done.out.contains(part), "no {part:?} in {}", done.out);
    }
    assert!(
        !done.out.contains("granted") && !done.out.contains('\u{1b}') && !done.out.contains("canary"),
        "{}",
        done.out
    );
    // a started daemon's standard error is the same file: each line appears once
    assert_eq!(done.out.matches("INFO  stopped").count(), 1, "{}", done.out);
    assert_eq!(home.run(&["logs", "-n", "1"]).ok().out.lines().count(), 1);
    assert_eq!(home.run(&["logs", "-n", "0"]).ok().out, "");
    assert_eq!(home.run(&["logs", "-n", "all"]).ok().out, fs::read_to_string(home.places().log).unwrap());
    let text = home.run(&["logs", "--json"]).ok().out;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let removed = lines.iter().find(|line| line["fields"]["state"] == "removed").unwrap();
    assert_eq!((&removed["level"], &removed["fields"]["account"]), (&json!("info"), &json!(id)));
    assert!(removed["at"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(fs::metadata(home.places().log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_environment_overrides_the_level_of_the_configuration() {
    for (environment, configured, expected) in
        [("", "warn", ""), ("", "debug", "INFO DEBUG"), ("debug", "error", "INFO DEBUG"), ("error", "trace", "")]
    {
        let home = Home::new();
        fs::write(home.path().join("config.toml"), format!("[daemon]\nlog = \"{configured}\"\n")).unwrap();
        let mut add = home.command(&["account", "add", "anthropic", "--api-key-stdin", "--label", "a"]);
        add.env("LESSOR_LOG", environment);
        assert_eq!(feed(add, "sk-canary\n").code, 0);
        home.run(&["acquire", "anthropic", "--ttl", "10m"]).ok();
        home.run(&["stop"]).ok();
        let log = home.run(&["logs", "-n", "all"]).ok().out;
        let said: Vec<&str> = ["INFO", "DEBUG"].into_iter().filter(|level| log.contains(level)).collect();
        assert_eq!(said.join(" "), expected, "{environment} {configured}: {log}");
        assert_eq!(log.contains("lease.granted"), expected.contains("DEBUG"), "{log}");
        assert!(!log.contains("canary"), "{log}");
    }
    let home = Home::new();
    let mut loud = home.command(&["daemon"]);
    loud.env("LESSOR_LOG", "loud");
    feed(loud, "").exits(1).complains("LESSOR_LOG is \"loud\"");
}

#[test]
fn the_level_can_change_while_the_daemon_runs() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let acquire = || drop(home.json(&["acquire", "anthropic", "--ttl", "10m"]));
    let granted = || home.run(&["logs", "-n", "all"]).ok().out.matches("kind=lease.granted").count();
    for (level, expected) in [("debug", 1), ("info", 1), ("trace", 2), ("error", 2)] {
        home.run(&["config", "set", "daemon.log", level]).ok();
        home.run(&["reload"]).ok();
        acquire();
        assert_eq!(granted(), expected, "{level}");
    }
    // one line, whatever the error contains
    fs::write(home.path().join("config.toml"), "[daemon]\nlgo = 1\nlog = 2\n").unwrap();
    home.run(&["reload"]);
    let log = home.run(&["logs"]).ok().out;
    let rejected: Vec<&str> = log.lines().filter(|line| line.contains("the last good one stays in force")).collect();
    assert!(
        rejected.len() == 1 && rejected[0].contains("config.toml:2:1") && rejected[0].contains("config.toml:3:7"),
        "{log}"
    );
}

#[test]
fn a_daemon_runs_although_its_log_cannot_be_written() {
    let home = Home::new();
    // a directory, because permissions do not stop root
    fs::create_dir_all(home.places().log.join("in the way")).unwrap();
    let mut daemon = home.command(&["daemon"]);
    let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while home.run(&["--no-start", "ping"]).code != 0 {
        assert!(Instant::now() < deadline);
    }
    home.run(&["stop"]).ok();
    let said = String::from_utf8(daemon.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("INFO  stopped") && said.contains("ready: pid"), "{said}");
}

#[test]
fn a_daemon_in_the_foreground_writes_both() {
    let home = Home::new();
    let mut daemon = home.command(&["daemon"]);
    // the variable of another stream: a terminal in a unit inherits it
    daemon.env("JOURNAL_STREAM", "1:2");
    let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while home.run(&["--no-start", "ping"]).code != 0 {
        assert!(Instant::now() < deadline);
    }
    home.run(&["stop"]).ok();
    let said = String::from_utf8(daemon.wait_with_output().unwrap().stderr).unwrap();
    let log = fs::read_to_string(home.places().log).unwrap();
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("ready: ")).collect();
    assert_eq!(said, log.lines().collect::<Vec<_>>());
    assert!(log.contains("serves at"), "{log}");
}

#[test]
fn following_continues_in_the_next_file_and_ends_with_its_reader() {
    let home = Home::new();
    let log = home.places().log;
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    add(&log, "one\ntwo\n");
    let mut follower = Follower::start(home.command(&["logs", "-f", "-n", "1"]));
    assert_eq!(follower.line(), "two");
    add(&log, "three\n");
    assert_eq!(follower.line(), "three");
    add(&log, "four\n");
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    add(&log, "five\n");
    assert_eq!((follower.line(), follower.line()), ("four".to_owned(), "five".to_owned()));
    fs::write(&log, "").unwrap();
    add(&log, "six\n");
    assert_eq!(follower.line(), "six");
    // it notices that without another line
    follower.lines = None;
    assert_eq!(follower.code(), Some(0));
}

#[test]
fn a_log_that_does_not_exist_yet_can_be_followed() {
    let home = Home::new();
    let mut follower = Follower::start(home.command(&["logs", "--follow"]));
    home.run(&["ping"]).ok();
    assert!(follower.line().contains("INFO"));
}

/// A `journalctl` that prints its arguments.
fn with_journal<'home>(home: &'home Home, script: &str) -> impl Fn(&[&str]) -> Command + use<'home> {
    let programs = home.path().join("bin");
    fs::create_dir_all(&programs).unwrap();
    let program = programs.join("journalctl");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    move |args| {
        let mut command = home.command(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
        command
    }
}

#[test]
fn the_journal_is_read_if_the_daemon_logs_there() {
    let home = Home::new();
    let log = home.places().log;
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    add(&log, "2026-03-04T05:06:07.089Z INFO  stopped\n");
    add(&log, "2026-03-04T05:06:08.089Z INFO  what follows is in the journal: journalctl --user-unit=lessor.service\n");
    let entry =
        r#"{"__REALTIME_TIMESTAMP":"1772600767089123","PRIORITY":"4","MESSAGE":"asked %s","LESSOR_ACCOUNT":"ac_1"}"#;
    let journal =
        with_journal(&home, &format!("printf '{entry}\\n' \"$*\"; case $* in *follow*) exec sleep 60;; esac"));
    let asked = "2026-03-04T05:06:07.089Z WARN  asked --quiet --all --output=json --user-unit=lessor.service";
    let done = feed(journal(&["logs", "-n", "7"]), "").ok();
    assert_eq!(done.out, format!("{asked} --lines=7  account=ac_1\n"));
    let done = feed(journal(&["logs", "-n", "all", "--json"]), "").ok();
    let line: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&line["level"], &line["fields"]), (&json!("warn"), &json!({"account": "ac_1"})));
    // it ends with its reader although the journal has no new entry
    let mut follower = Follower::start(journal(&["logs", "-f"]));
    assert_eq!(follower.line(), format!("{asked} --lines=100 --follow  account=ac_1"));
    follower.lines = None;
    assert_eq!(follower.code(), Some(0));
    // a later daemon logs to the file again
    add(&log, "2026-03-04T05:06:09.089Z INFO  later\n");
    feed(journal(&["logs"]), "").ok().says("INFO  later");
}

#[test]
fn a_journal_that_cannot_be_read_is_reported() {
    let home = Home::new();
    let log = home.places().log;
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    add(&log, "2026-03-04T05:06:08.089Z INFO  what follows is in the journal: journalctl --unit=lessor.service\n");
    let journal = with_journal(&home, "echo no journal >&2; exit 3");
    let done = feed(journal(&["logs"]), "").exits(1);
    done.complains("no journal").complains("exit status: 3").complains("hint: try it: journalctl --unit=lessor");
    let mut without = Command::new(PROGRAM);
    without.arg("logs").env("LESSOR_HOME", home.path()).env("PATH", home.path());
    feed(without, "").exits(1).complains("journalctl failed");
}
