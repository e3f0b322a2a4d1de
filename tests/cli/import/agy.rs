//! The keyring is only read, and never waited for.

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::support::feed;
use super::machine::{FAR, Machine};

/// Imports with this session bus; returns what was printed.
fn import(machine: &Machine, bus: &str) -> String {
    let mut command = machine.command(&["import", "--from", "agy"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    let done = feed(command, "");
    format!("{}{}", done.out, done.err)
}

#[test]
fn a_keyring_that_does_not_answer_delays_an_import_by_seconds_only() {
    let machine = Machine::new();
    machine.place(
        &[("antigravity-cli/antigravity-oauth-token.json", ".gemini/antigravity-cli/antigravity-oauth-token")],
        FAR,
    );
    // connections are accepted by the system, and never answered
    let silent = machine.path("silent");
    let _listener = UnixListener::bind(&silent).unwrap();
    let start = Instant::now();
    let said = import(&machine, &format!("unix:path={}", silent.display()));
    assert!(said.contains("gemini-agy") && said.contains("did not answer within 3 s"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_machine_without_a_keyring_has_nothing_to_report() {
    let machine = Machine::new();
    machine.place(
        &[("antigravity-cli/antigravity-oauth-token.json", ".gemini/antigravity-cli/antigravity-oauth-token")],
        FAR,
    );
    let said = import(&machine, &format!("unix:path={}", machine.path("none").display()));
    assert!(said.contains("gemini-agy") && !said.contains("keyring"), "{said}");
    // a bus on which no keyring is
    let socket = machine.path("bus");
    let mut bus = Command::new("dbus-daemon");
    bus.args(["--session", "--nofork", "--nopidfile", "--address", &format!("unix:path={}", socket.display())]);
    let Ok(mut bus) = bus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        println!("no dbus-daemon here: not tested");
        return;
    };
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "the bus is there");
        std::thread::yield_now();
    }
    let said = import(&machine, &format!("unix:path={}", socket.display()));
    let _already_dead = bus.kill();
    let _already_dead = bus.wait();
    assert!(!said.contains("keyring"), "{said}");
}
