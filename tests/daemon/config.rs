//! Changes of the configuration while the daemon runs, for every way in which editors write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Home, reference, signal, wait_until};

/// From the edit to its effect, on a machine busy with other tests. A poll would take 20 s.
const LIVE: Duration = Duration::from_secs(5);

fn config(home: &Home) -> PathBuf {
    home.path().join("config.toml")
}

fn with_capacity(capacity: u64) -> String {
    format!("# by hand\n[leases]\nper_account = {capacity}\n")
}

/// The effective value of a key.
fn value(client: &mut Client, key: &str) -> Value {
    let document = client.call("config.get", json!({}));
    let settings = document["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting["key"] == key).unwrap()["value"].clone()
}

fn wait_for_capacity(client: &mut Client, capacity: u64, how: &str) {
    let edited = Instant::now();
    wait_until(how, || value(client, "leases.per_account") == capacity);
    assert!(edited.elapsed() < LIVE, "{how}: {:?}", edited.elapsed());
    assert_eq!(client.call("status", json!({}))["config"]["state"], "ok", "{how}");
}

fn state(client: &mut Client) -> Value {
    client.call("status", json!({}))["config"].clone()
}

/// Waits for the next event.
fn next_event(client: &mut Client) -> Value {
    client.receive().unwrap()["params"].clone()
}

#[test]
fn every_way_to_write_the_file_is_noticed() {
    type Write = fn(&Path, &str);
    let ways: [(&str, Write); 8] = [
        ("truncate and write", |path, text| fs::write(path, text).unwrap()),
        ("a new file over it", |path, text| {
            let new = path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        }),
        ("vim: backup, then a new file", |path, text| {
            let backup = path.with_extension("toml~");
            fs::rename(path, &backup).unwrap();
            fs::write(path, text).unwrap();
            fs::remove_file(backup).unwrap();
        }),
        ("vim: with a swap file beside it", |path, text| {
            let swap = path.with_file_name(".config.toml.swp");
            fs::write(&swap, "b0VIM").unwrap();
            fs::write(path, text).unwrap();
            fs::remove_file(swap).unwrap();
        }),
        ("emacs: lock link, backup copy, new file over it", |path, text| {
            let lock = path.with_file_name(".#config.toml");
            symlink("me@here.1", &lock).unwrap();
            fs::copy(path, path.with_file_name("config.toml~")).unwrap();
            let new = path.with_file_name("#config.toml#");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
            fs::remove_file(lock).unwrap();
        }),
        ("removed, then made again", |path, text| {
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("a link over it", |path, text| {
            let target = path.with_file_name("dotfile.toml");
            fs::write(&target, text).unwrap();
            let link = path.with_extension("link");
            symlink("dotfile.toml", &link).unwrap();
            fs::rename(link, path).unwrap();
        }),
        ("a write to the link's target", |path, text| {
            fs::write(path.with_file_name("dotfile.toml"), text).unwrap();
        }),
    ];
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut client = home.client();
    for (capacity, (how, write)) in (2..).zip(ways) {
        write(&config(&home), &with_capacity(capacity));
        wait_for_capacity(&mut client, capacity, how);
    }
}

#[test]
fn a_file_that_others_can_change_is_not_read_until_it_is_closed_to_them() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mut home = Home::new(&with_capacity(1));
    let elsewhere = crate::support::directory();
    let target = elsewhere.path().join("dotfile.toml");
    fs::rename(config(&home), &target).unwrap();
    symlink(&target, config(&home)).unwrap();
    home.start();
    let mut client = home.client();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let mut capacity = 1;
    let mut check = |open: &dyn Fn(), close: &dyn Fn(), words: &str| {
        open();
        fs::write(&target, with_capacity(capacity + 1)).unwrap();
        wait_until(words, || state(&mut client)["error"].as_str().is_some_and(|error| error.contains(words)));
        let rejected = client.call("config.reload", json!({}));
        assert_eq!(rejected["state"], "rejected", "{rejected}");
        assert_eq!(value(&mut client, "leases.per_account"), capacity, "the running configuration stays");
        close();
        capacity += 1;
        client.call("config.reload", json!({}));
        wait_for_capacity(&mut client, capacity, words);
    };
    let (file, directory) = (target.as_path(), elsewhere.path());
    let words = format!("{} is open for writing to others (mode 0602); run: chmod o-w ", file.display());
    check(&|| set(file, 0o602), &|| set(file, 0o600), &words);
    let words = format!("{} is open for writing to others (mode 0702); run: chmod o-w ", directory.display());
    check(&|| set(directory, 0o702), &|| set(directory, 0o700), &words);
    // the directory of the link counts, too
    let words = format!("{} is open for writing to others (mode 0703)", home.path().display());
    check(&|| set(home.path(), 0o703), &|| set(home.path(), 0o700), &words);
    if rustix::process::geteuid().is_root() {
        let words = format!("{} belongs to another user (12345); if it is yours, run: chown root ", file.display());
        check(&|| chown(file, Some(12345), None).unwrap(), &|| chown(file, Some(0), None).unwrap(), &words);
    } else {
        println!("not run: a foreign owner needs root");
    }
    // a daemon does not start with it, either
    home.stop();
    set(file, 0o666);
    let output = home.command().output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("because other users could change it"), "{message}");
}

#[test]
fn an_edit_with_sed_is_noticed() {
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut client = home.client();
    let edit = std::process::Command::new("sed").args(["-i", "s/= 1/= 7/"]).arg(config(&home)).status().unwrap();
    assert!(edit.success());
    wait_for_capacity(&mut client, 7, "sed -i");
}

/// A daemon with a separate configuration directory, as without `LESSOR_HOME`.
fn with_own_directory(home: &mut Home, directory: &Path) {
    let mut command = home.command();
    command.arg("--config").arg(directory.join("config.toml"));
    home.start_as(command);
}

#[test]
fn a_directory_replaced_behind_a_link_is_noticed() {
    let mut home = Home::new("");
    let root = home.path().join("mounted");
    for (version, capacity) in [("..1", 1), ("..2", 2)] {
        fs::create_dir_all(root.join(version)).unwrap();
        fs::write(root.join(version).join("config.toml"), with_capacity(capacity)).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/config.toml", root.join("config.toml")).unwrap();
    with_own_directory(&mut home, &root);
    let mut client = home.client();
    assert_eq!(value(&mut client, "leases.per_account"), 1);
    symlink("..2", root.join("..new")).unwrap();
    fs::rename(root.join("..new"), root.join("..data")).unwrap();
    wait_for_capacity(&mut client, 2, "the link's directory");
    fs::write(root.join("..2/config.toml"), with_capacity(3)).unwrap();
    wait_for_capacity(&mut client, 3, "a write behind the new link");
}

#[test]
fn a_replaced_directory_is_watched_and_a_missing_one_changes_nothing() {
    let mut home = Home::new("");
    let directory = home.path().join("etc");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("config.toml"), with_capacity(1)).unwrap();
    with_own_directory(&mut home, &directory);
    let mut client = home.client();
    fs::rename(&directory, home.path().join("old")).unwrap();
    wait_until("the loss is seen", || state(&mut client)["state"] == "rejected");
    assert_eq!(value(&mut client, "leases.per_account"), 1);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("config.toml"), with_capacity(2)).unwrap();
    wait_for_capacity(&mut client, 2, "a new directory");
    fs::write(directory.join("config.toml"), with_capacity(3)).unwrap();
    wait_for_capacity(&mut client, 3, "a write in the new directory");
}

#[test]
fn an_invalid_file_changes_nothing_and_is_reported_until_it_is_valid() {
    let home = Home::with_accounts(&with_capacity(1), 1);
    let (mut client, mut listener) = (home.client(), home.client());
    let lease = client.acquire();
    listener.call("events.subscribe", json!({ "kinds": ["config.reloaded", "config.rejected"] }));
    fs::write(config(&home), "[leases]\nper_account = 0\noverflow = \"shar\"\n").unwrap();
    let event = next_event(&mut listener);
    assert_eq!(event["kind"], "config.rejected");
    assert!(event["reason"].as_str().unwrap().contains("config.toml:2:15"), "{event}");
    let rejected = state(&mut client);
    assert_eq!(rejected["state"], "rejected");
    let error = rejected["error"].as_str().unwrap();
    for part in ["config.toml:2:15", "config.toml:3:12", "share"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(value(&mut client, "leases.per_account"), 1);
    assert!(home.output().contains("config.toml:3:12"), "{}", home.output());
    fs::write(config(&home), with_capacity(2)).unwrap();
    assert_eq!(next_event(&mut listener)["kind"], "config.reloaded");
    assert_eq!(state(&mut client), json!({ "path": config(&home), "state": "ok", "error": null }));
    // the holder keeps its lease
    client.call("lease.renew", reference(&lease));
    // going back to the rejected text and to the good one are both changes
    fs::write(config(&home), "[leases]\nper_account = 0\n").unwrap();
    assert_eq!(next_event(&mut listener)["kind"], "config.rejected");
    fs::write(config(&home), with_capacity(2)).unwrap();
    assert_eq!(next_event(&mut listener)["kind"], "config.reloaded");
    assert_eq!(state(&mut client)["state"], "ok");
}

#[test]
fn a_touch_or_a_write_beside_the_file_is_not_a_change() {
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut listener = home.client();
    listener.call("events.subscribe", json!({ "kinds": ["config.reloaded", "config.rejected"] }));
    fs::write(config(&home), with_capacity(1)).unwrap();
    fs::write(home.path().join("notes.toml"), "x").unwrap();
    // `config.reload` answers after all earlier changes
    let reloaded = home.client().call("config.reload", json!({}));
    assert_eq!(reloaded["changed"], false, "{reloaded}");
    fs::write(config(&home), with_capacity(2)).unwrap();
    let event = next_event(&mut listener);
    assert_eq!(event["kind"], "config.reloaded");
    assert_eq!(value(&mut home.client(), "leases.per_account"), 2);
}

#[test]
fn a_removed_or_empty_file_means_the_defaults() {
    let mut home = Home::new(&with_capacity(3));
    home.start();
    let mut client = home.client();
    fs::remove_file(config(&home)).unwrap();
    wait_until("the defaults hold", || state(&mut client)["state"] == "default");
    assert_eq!(value(&mut client, "leases.per_account"), 1);
    fs::write(config(&home), with_capacity(4)).unwrap();
    wait_for_capacity(&mut client, 4, "created again");
    fs::write(config(&home), "").unwrap();
    wait_for_capacity(&mut client, 1, "emptied");
}

#[test]
fn an_unreadable_file_changes_nothing() {
    let mut home = Home::new(&with_capacity(3));
    home.start();
    let mut client = home.client();
    let moved = config(&home).with_extension("away");
    let obstacles: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("nowhere", path).unwrap(),
        |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
    ];
    for obstacle in obstacles {
        fs::rename(config(&home), &moved).unwrap();
        obstacle(&config(&home));
        wait_until("it is seen", || state(&mut client)["state"] == "rejected");
        assert_eq!(value(&mut client, "leases.per_account"), 3);
        fs::rename(&moved, config(&home)).or_else(|_| fs::remove_dir(config(&home))).unwrap();
        if moved.exists() {
            fs::rename(&moved, config(&home)).unwrap();
        }
        wait_until("it is back", || state(&mut client)["state"] == "ok");
    }
}

#[test]
fn after_many_quick_edits_the_last_one_applies() {
    let home = Home::with_accounts(&with_capacity(1), 2);
    let mut client = home.client();
    let lease = client.acquire();
    for edit in 1..=100u64 {
        fs::write(config(&home), with_capacity(1 + edit % 16)).unwrap();
        // the load that this test is about
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for_capacity(&mut client, 5, "the last edit");
    client.call("lease.renew", reference(&lease));
}

#[test]
fn a_half_written_file_is_not_applied() {
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut listener = home.client();
    listener.call("events.subscribe", json!({ "kinds": ["config.reloaded", "config.rejected"] }));
    use std::io::Write as _;
    let mut file = fs::File::create(config(&home)).unwrap();
    file.write_all(b"[leases]\nper_acc").unwrap();
    std::thread::sleep(Duration::from_millis(60));
    file.write_all(b"ount = 5\n").unwrap();
    drop(file);
    assert_eq!(next_event(&mut listener)["kind"], "config.reloaded");
    assert_eq!(value(&mut home.client(), "leases.per_account"), 5);
}

#[test]
fn reload_reports_the_result() {
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut client = home.client();
    fs::write(config(&home), "[accounts.a]\nmax_leases = 99\n").unwrap();
    let reloaded = client.call("config.reload", json!({}));
    assert_eq!(reloaded["state"], "ok", "{reloaded}");
    assert!(reloaded["notes"][0].as_str().unwrap().contains("takes precedence"), "{reloaded}");
    fs::write(config(&home), "[notify]\ndesk = true\n").unwrap();
    let reloaded = client.call("config.reload", json!({}));
    assert_eq!(reloaded["state"], "rejected", "{reloaded}");
    assert!(reloaded["error"].as_str().unwrap().contains("desktop"), "{reloaded}");
    assert_eq!(client.call("config.reload", json!({}))["changed"], false);
}

#[test]
fn sighup_reloads_the_file() {
    let mut home = Home::new(&with_capacity(1));
    home.start();
    let mut client = home.client();
    let lease_home = fs::read_to_string(config(&home)).unwrap();
    fs::write(config(&home), lease_home.replace("= 1", "= 6")).unwrap();
    signal(home.pid(), rustix::process::Signal::HUP);
    wait_for_capacity(&mut client, 6, "SIGHUP");
}

#[test]
fn a_higher_capacity_serves_the_queue() {
    let home = Home::with_accounts("[leases]\nper_account = 1\noverflow = \"wait\"\n", 1);
    let (mut first, mut second) = (home.client(), home.client());
    first.acquire();
    second.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    first.wait_for_queue(1);
    fs::write(config(&home), "[leases]\nper_account = 2\noverflow = \"wait\"\n").unwrap();
    assert!(second.receive().unwrap()["result"]["lease"].is_string());
}

#[test]
fn a_lower_capacity_ends_no_lease() {
    let home = Home::with_accounts("[leases]\nper_account = 2\noverflow = \"fail\"\n", 1);
    let (mut first, mut second) = (home.client(), home.client());
    let leases = [first.acquire(), second.acquire()];
    fs::write(config(&home), "[leases]\nper_account = 1\noverflow = \"fail\"\n[accounts.a0]\nenabled = false\n")
        .unwrap();
    assert_eq!(first.call("config.reload", json!({}))["state"], "ok");
    first.call("lease.renew", reference(&leases[0]));
    second.call("lease.renew", reference(&leases[1]));
    first.call("lease.release", reference(&leases[0]));
    assert_eq!(first.refused("lease.acquire", json!({ "provider": "anthropic" })), "no_account");
}

#[test]
fn a_new_provider_can_be_used_immediately() {
    let mut home = Home::new("");
    home.start();
    let mut client = home.client();
    let account = json!({ "provider": "mistral", "kind": "api_key", "secret": "sk-canary-m", "label": "m" });
    assert_eq!(client.refused("account.add", account.clone()), "unknown_provider");
    fs::write(config(&home), "[providers.mistral]\nbase_url = \"https://api.mistral.ai\"\n").unwrap();
    client.call("config.reload", json!({}));
    client.call("account.add", account);
}

#[test]
fn a_refused_change_names_the_current_line_of_the_configuration() {
    let home = Home::with_accounts("[accounts.a0]\nmax_leases = 2\n", 1);
    let mut client = home.client();
    fs::write(config(&home), "# one line more\n[accounts.a0]\nmax_leases = 2\n").unwrap();
    client.call("config.reload", json!({}));
    let answer = client.ask("account.set", &json!({ "account": "a0", "max_leases": 3 }));
    assert!(answer["error"]["message"].as_str().unwrap().contains("config.toml:3"), "{answer}");
}

#[test]
fn a_new_idle_exit_applies_to_an_idle_daemon() {
    let mut home = Home::new("");
    let mut command = home.command();
    command.arg("--detached");
    home.start_as(command);
    fs::write(config(&home), "[daemon]\nidle_exit = \"200ms\"\n").unwrap();
    home.client().call("config.reload", json!({}));
    assert_eq!(home.wait(), Some(0));
}
