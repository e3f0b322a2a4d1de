//! `backup` and `restore`: a copy of the database, and its way into another home.

use super::support::Home;

fn path(home: &Home, name: &str) -> String {
    home.path().join(name).to_str().unwrap().to_owned()
}

fn labels(home: &Home) -> Vec<String> {
    let accounts = home.json(&["account", "list"]);
    accounts.as_array().unwrap().iter().map(|account| account["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_backup_is_made_while_the_daemon_runs_and_restored_when_it_has_ended() {
    let home = Home::with_keys(&[("openai", "one")]);
    let file = path(&home, "backup");
    let done = home.run(&["backup", &file]).ok();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", done.out);
    assert_eq!(lines[0], format!("1 account backed up to {file}"));
    assert!(lines[1].contains(&path(&home, "state/key")) && lines[2].contains("config.toml"), "{}", done.out);
    let again = home.run(&["backup", &file]);
    assert!(again.code == 1 && again.err.contains("exists already") && again.err.contains("--force"), "{again:?}");
    home.feed(&["account", "add", "openai", "--api-key-stdin", "--label", "two"], "sk-canary-two\n").ok();
    let running = home.run(&["restore", &file]);
    assert!(running.code == 1 && running.err.contains("lessor stop"), "{running:?}");
    home.run(&["stop"]).ok();
    let full = home.run(&["restore", &file]);
    assert!(full.code == 1 && full.err.contains("has accounts (2)"), "{full:?}");
    let done = home.run(&["restore", &file, "--force"]).ok();
    assert!(done.out.starts_with("1 account restored") && done.out.contains("lessor.db.old1"), "{}", done.out);
    assert_eq!(labels(&home), ["one"]);
}

#[test]
fn another_home_restores_a_backup_with_its_key_only() {
    let home = Home::with_keys(&[("openai", "one")]);
    let (file, key) = (path(&home, "backup"), path(&home, "key-of-backup"));
    home.run(&["backup", &file, "--key-file", &key]).ok();
    let empty = Home::new();
    let refused = empty.run(&["restore", &file]);
    assert!(refused.code == 1 && refused.err.contains("a key that is not here"), "{refused:?}");
    let other = Home::with_keys(&[]);
    other.run(&["ping"]).ok();
    other.run(&["stop"]).ok();
    let refused = other.run(&["restore", &file]);
    let own = path(&other, "state/key");
    assert!(refused.code == 1 && refused.err.contains(&format!("another key than {own};")), "{refused:?}");
    let refused = empty.run(&["restore", &file, "--key-file", &own]);
    assert!(refused.code == 1 && refused.err.contains("another key than the given one;"), "{refused:?}");
    for home in [&empty, &other] {
        home.run(&["restore", &file, "--key-file", &key]).ok();
        assert_eq!(labels(home), ["one"]);
    }
}
