//! One daemon per data directory, with a socket that only its user can reach, from start to stop.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Home, signal, wait_until};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a daemon that must not serve; returns its output.
fn refusal(mut command: Command) -> String {
    let output: Output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

#[test]
fn of_thirty_daemons_one_serves_and_the_others_name_it() {
    for stale_socket in [false, true] {
        let mut home = Home::new("");
        if stale_socket {
            home.start();
            home.kill();
            assert!(home.socket().exists());
        }
        let starting: Vec<_> =
            (0..30).map(|_| home.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()).collect();
        wait_until("one serves", || std::os::unix::net::UnixStream::connect(home.socket()).is_ok());
        let served_by = home.client().call("hello", json!({}))["pid"].as_u64().unwrap();
        let mut serving = None;
        for child in starting {
            if u64::from(child.id()) == served_by {
                serving = Some(child);
                continue;
            }
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(0), "{text}");
            assert!(text.contains("already running") && text.contains(&served_by.to_string()), "{text}");
            assert!(text.contains(home.socket().to_str().unwrap()), "{text}");
        }
        let mut serving = serving.unwrap();
        serving.kill().unwrap();
        serving.wait().unwrap();
    }
}

#[test]
fn another_file_at_the_socket_path_is_not_removed() {
    let elsewhere = crate::support::directory();
    let living = UnixListener::bind(elsewhere.path().join("living")).unwrap();
    type Make = fn(&Path, &Path);
    let make: [(&str, Make); 5] = [
        ("not a socket", |path, _| std::fs::write(path, "precious").unwrap()),
        ("not a socket", |path, _| std::fs::create_dir(path).unwrap()),
        ("symbolic link", |path, elsewhere| symlink(elsewhere.join("nothing"), path).unwrap()),
        ("symbolic link", |path, elsewhere| symlink(elsewhere.join("living"), path).unwrap()),
        ("in use", |path, elsewhere| std::fs::hard_link(elsewhere.join("living"), path).unwrap()),
    ];
    for (words, make) in make {
        let home = Home::new("");
        std::fs::create_dir(home.path().join("run")).unwrap();
        chmod(&home.path().join("run"), 0o700);
        make(&home.socket(), elsewhere.path());
        let before = std::fs::symlink_metadata(home.socket()).unwrap().ino();
        let message = refusal(home.command());
        assert!(message.contains(words) && message.contains("lessor.sock"), "{message}");
        assert_eq!(std::fs::symlink_metadata(home.socket()).unwrap().ino(), before);
    }
    drop(living);
}

#[test]
fn an_unsafe_directory_is_refused_with_a_remedy() {
    let elsewhere = crate::support::directory();
    let home = Home::new("");
    // a link is followed, and what it leads to counts
    let targets = ["run", "data", "state"].map(|name| elsewhere.path().join(name));
    for (target, name) in targets.iter().zip(["run", "data", "state"]) {
        std::fs::create_dir(target).unwrap();
        symlink(target, home.path().join(name)).unwrap();
    }
    for target in &targets {
        chmod(target, 0o707);
        let message = refusal(home.command());
        let remedy = format!("{} is open for writing to others (mode 0707); run: chmod o-w ", target.display());
        assert!(message.contains(&remedy), "{message}");
        chmod(target, 0o755);
        chmod(elsewhere.path(), 0o777);
        // where root's group has members, the group is named too
        let message = refusal(home.command());
        let remedy = format!("o-w {}", elsewhere.path().display());
        assert!(message.contains(&remedy), "{message}");
        chmod(elsewhere.path(), 0o700);
    }
    if !rustix::process::geteuid().is_root() {
        println!("not run: a foreign owner needs root");
        return;
    }
    let run = elsewhere.path().join("run");
    std::os::unix::fs::chown(&run, Some(65534), None).unwrap();
    assert!(refusal(home.command()).contains("another user"));
    std::os::unix::fs::chown(&run, Some(0), None).unwrap();
    for name in ["data/lessor.db", "data/lessor.db-wal", "data/daemon.lock", "state/key", "state/lessor.log"] {
        let file = home.path().join(name);
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        let message = refusal(home.command());
        let part = format!(
            "{} belongs to another user (nobody); if it is yours, run: chown root",
            elsewhere.path().join(name).display()
        );
        assert!(message.contains(&part), "{name}: {message}");
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn directories_of_the_umask_002_and_links_to_safe_places_are_used() {
    let elsewhere = crate::support::directory();
    let mut home = Home::new("");
    for name in ["run", "data", "state"] {
        let target = elsewhere.path().join(name);
        std::fs::create_dir(&target).unwrap();
        chmod(&target, 0o755);
        symlink(&target, home.path().join(name)).unwrap();
    }
    home.start();
    for name in ["run", "data", "state"] {
        let mode = std::fs::metadata(elsewhere.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name} is closed to others");
    }
    home.client().call("status", json!({}));
}

#[test]
fn file_modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077", "777"] {
        let mut home = Home::new("");
        let mut command = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" daemon");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_lessor")]).env_clear().env("LESSOR_HOME", home.path());
        home.start_as(command);
        home.client().add("a");
        for directory in ["data", "state", "run"] {
            assert_eq!(mode(&home.path().join(directory)), 0o700, "{directory} under umask {umask}");
        }
        for file in ["data/lessor.db", "data/daemon.lock", "state/key", "run/lessor.sock"] {
            assert_eq!(mode(&home.path().join(file)), 0o600, "{file} under umask {umask}");
        }
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_an_error() {
    let home = Home::new("");
    let mut command = home.command();
    command.env("LESSOR_SOCKET", home.path().join("x".repeat(120)));
    assert!(refusal(command).contains("LESSOR_SOCKET to a shorter one"));
}

#[test]
fn the_daemon_starts_without_directories_or_a_terminal() {
    let mut home = Home::new("");
    let gone = crate::support::directory();
    let mut command = Command::new("sh");
    let script = "cd \"$1\" && rmdir \"$1\" && exec \"$0\" daemon <&- >&-";
    command.args(["-c", script, env!("CARGO_BIN_EXE_lessor")]).arg(gone.path());
    command.env_clear().env("LESSOR_HOME", home.path()).env("PATH", "/usr/bin:/bin");
    home.start_as(command);
    home.client().call("hello", json!({}));
    // standard error, too
    let mut home = Home::new("");
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" daemon <&- >&- 2>&-", env!("CARGO_BIN_EXE_lessor")])
        .env("LESSOR_HOME", home.path())
        .spawn()
        .unwrap();
    wait_until("it serves", || std::os::unix::net::UnixStream::connect(home.socket()).is_ok());
    home.client().add("a");
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    home.start();
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), 1);
}

#[test]
fn a_stop_answers_waiting_clients() {
    let mut home = Home::with_accounts("[leases]\noverflow = \"wait\"\n", 1);
    let mut holder = home.client();
    holder.acquire();
    let mut waiter = home.client();
    waiter.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    home.client().wait_for_queue(1);
    assert_eq!(home.stop(), Some(0));
    assert_eq!(waiter.receive().unwrap()["error"]["data"]["kind"], "shutting_down");
    assert_eq!(holder.read_to_end(), "");
    assert!(!home.socket().exists());
}

#[test]
fn an_ending_daemon_does_not_remove_the_socket_of_a_new_one() {
    let mut old = Home::new("");
    old.start();
    let socket = old.socket();
    std::fs::remove_file(&socket).unwrap();
    let mut new = Home::new("");
    let mut command = new.command();
    command.env("LESSOR_SOCKET", &socket).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    wait_until("the new one serves", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert_eq!(old.stop(), Some(0));
    assert!(socket.exists());
    assert_eq!(crate::support::Client::connect(&socket).call("hello", json!({}))["pid"], child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    new.start();
}

#[test]
fn an_unused_daemon_that_a_client_started_stops() {
    let mut home = Home::with_accounts("[daemon]\nidle_exit = \"200ms\"\n", 1);
    // a foreground daemon does not stop
    let mut client = home.client();
    client.call("hello", json!({}));
    assert_eq!(home.stop(), Some(0));
    let mut command = home.command();
    command.arg("--detached");
    home.start_as(command);
    let lease = home.client().call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl", "ttl_ms": 600 }));
    wait_until("the lease is over and the daemon has ended", || !home.socket().exists());
    home.kill();
    home.start();
    let next = home.client().acquire();
    assert!(crate::support::fence(&next) > crate::support::fence(&lease));
}

#[test]
fn an_invalid_configuration_is_reported_with_its_lines() {
    let home = Home::new("[leases]\nper_acount = 1\noverflow = \"shared\"\n");
    let output = home.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{text}");
    for words in ["config.toml:2:1", "per_account", "config.toml:3:", "share"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!home.path().join("data/lessor.db").exists());
}

#[test]
fn the_configuration_overrides_account_settings() {
    let config = "[accounts.\"a0\"]\nmax_leases = 3\nuse = [\"codex\"]\nenabled = true\n[accounts.\"nobody\"]\n";
    let home = Home::with_accounts(config, 1);
    let mut client = home.client();
    let account = client.call("account.list", json!({}))[0].clone();
    assert_eq!((&account["capacity"], &account["use"]), (&json!(3), &json!(["codex"])));
    let refused = client.ask("account.set", &json!({ "account": "a0", "max_leases": 5 }));
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("config.toml:2"), "{message}");
    client.call("account.set", json!({ "account": "a0", "tier": "ultra" }));
    let warnings = client.call("status", json!({}))["warnings"].to_string();
    assert!(warnings.contains("nobody"), "{warnings}");
}
