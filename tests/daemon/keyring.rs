//! The key in a real keyring: GNOME Keyring on a D-Bus session of the test, where both are installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Home, directory, wait_until};

const KEYRING: &str = "[secrets]\nkey = \"keyring\"\n";

/// A session with a keyring, until it is dropped.
struct Session {
    directory: tempfile::TempDir,
    bus: Child,
    keyring: Option<Child>,
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|place| place.join(program).exists()))
}

impl Session {
    /// `None` where the programs are not installed.
    fn begin() -> Option<Self> {
        if !installed("dbus-daemon") || !installed("gnome-keyring-daemon") {
            println!("no dbus-daemon or gnome-keyring-daemon here: not tested");
            return None;
        }
        let directory = directory();
        let socket = directory.path().join("bus");
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--address", &format!("unix:path={}", socket.display())]);
        let bus = bus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let session = Self { directory, bus, keyring: None };
        wait_until("the bus is there", || socket.exists());
        Some(session)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.path().join("bus").display())
    }

    /// Starts the keyring, unlocked by this password, or locked.
    fn keyring(&mut self, password: Option<&str>) {
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets"]);
        command.args(password.map(|_| "--unlock"));
        command.env("DBUS_SESSION_BUS_ADDRESS", self.address()).env("HOME", self.path());
        command.env("XDG_RUNTIME_DIR", self.path()).env("XDG_DATA_HOME", self.path().join("data"));
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, password.unwrap_or_default().as_bytes()).unwrap();
        drop(input);
        self.keyring = Some(child);
    }

    fn end_keyring(&mut self) {
        let mut keyring = self.keyring.take().unwrap();
        keyring.kill().unwrap();
        keyring.wait().unwrap();
    }

    fn daemon(&self, home: &Home) -> Command {
        let mut command = home.command();
        command.env("DBUS_SESSION_BUS_ADDRESS", self.address());
        command
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in self.keyring.iter_mut().chain([&mut self.bus]) {
            let _already_dead = child.kill();
            let _already_dead = child.wait();
        }
    }
}

fn key(home: &Home) -> PathBuf {
    home.path().join("state/key")
}

fn key_text(home: &Home) -> String {
    std::fs::read_to_string(key(home)).unwrap()
}

fn warnings(home: &Home) -> String {
    home.client().call("status", json!({}))["warnings"].to_string()
}

fn secret_of_a_lease(home: &Home) -> Value {
    let mut client = home.client();
    client.acquire()["credential"]["secret"].clone()
}

#[test]
fn the_key_moves_to_the_keyring_and_back_and_can_be_replaced_there() {
    let Some(mut session) = Session::begin() else { return };
    session.keyring(Some("pw"));
    let mut home = Home::new("");
    home.start_as(session.daemon(&home));
    home.client().add("one");
    assert!(key_text(&home).starts_with("lessor-key-1 "));
    // while the daemon runs
    std::fs::write(home.path().join("config.toml"), KEYRING).unwrap();
    home.client().call("config.reload", json!({}));
    wait_until("it is in the keyring", || key_text(&home) == "lessor-key-in-keyring\n");
    assert_eq!(secret_of_a_lease(&home), "sk-canary-one");
    let rekeyed = home.client().call("secrets.rekey", json!({}));
    assert_eq!((&rekeyed["key"], &rekeyed["accounts"]), (&json!("keyring"), &json!(1)));
    home.kill();
    home.start_as(session.daemon(&home));
    assert_eq!(secret_of_a_lease(&home), "sk-canary-one");
    std::fs::write(home.path().join("config.toml"), "").unwrap();
    home.client().call("config.reload", json!({}));
    wait_until("it is in its file", || key_text(&home).starts_with("lessor-key-1 "));
    assert_eq!(home.stop(), Some(0));
    // the keyring is no longer needed
    session.end_keyring();
    home.start_as(session.daemon(&home));
    assert_eq!(secret_of_a_lease(&home), "sk-canary-one");
    assert_eq!(warnings(&home), "[]");
}

#[test]
fn the_daemon_waits_for_a_locked_keyring() {
    let Some(mut session) = Session::begin() else { return };
    session.keyring(Some("pw"));
    let mut home = Home::new(KEYRING);
    home.start_as(session.daemon(&home));
    // the keyring may not have started yet
    wait_until("it serves", || warnings(&home) == "[]");
    home.client().add("one");
    assert_eq!(key_text(&home), "lessor-key-in-keyring\n", "it was never in a file");
    assert_eq!(home.stop(), Some(0));
    session.end_keyring();
    session.keyring(None);
    home.start_as(session.daemon(&home));
    let mut client = home.client();
    wait_until("the warning names the keyring", || warnings(&home).contains("the keyring is locked"));
    // calls that need no secret are served
    assert_eq!(client.call("account.list", json!({}))[0]["label"], "one");
    assert!(client.call("config.get", json!({}))["settings"].is_array());
    assert_eq!(client.refused("lease.acquire", json!({ "provider": "anthropic" })), "credential_unavailable");
    assert_eq!(
        client.refused("account.set", json!({ "account": "one", "priority": 1 })),
        "credential_unavailable",
        "it would not be kept"
    );
    // the user logs in
    session.end_keyring();
    session.keyring(Some("pw"));
    wait_until("it serves", || {
        home.client().ask("lease.acquire", &json!({ "provider": "anthropic" }))["error"].is_null()
    });
    assert_eq!(secret_of_a_lease(&home), "sk-canary-one");
    assert_eq!(warnings(&home), "[]");
    assert_eq!(home.stop(), Some(0));
    // a daemon that waits for the keyring can be stopped
    session.end_keyring();
    home.start_as(session.daemon(&home));
    wait_until("the warning names the keyring", || warnings(&home).contains("keyring"));
    assert_eq!(home.stop(), Some(0));
}

#[test]
fn a_key_that_cannot_move_to_the_keyring_stays_usable() {
    let mut home = Home::new("");
    let nowhere = |home: &Home| {
        let mut command = home.command();
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
        command
    };
    home.start_as(nowhere(&home));
    home.client().add("one");
    std::fs::write(home.path().join("config.toml"), KEYRING).unwrap();
    home.client().call("config.reload", json!({}));
    wait_until("the warning is shown", || warnings(&home).contains("the key stays in"));
    assert!(key_text(&home).starts_with("lessor-key-1 "));
    home.kill();
    home.start_as(nowhere(&home));
    assert_eq!(secret_of_a_lease(&home), "sk-canary-one");
    assert_eq!(home.client().call("secrets.rekey", json!({}))["key"], "file");
}
