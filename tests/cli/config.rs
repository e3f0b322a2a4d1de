//! `config …` and `reload`, with real files and an editor that is a script.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Done, Home, feed};

impl Home {
    fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    fn read(&self) -> String {
        fs::read_to_string(self.config()).unwrap()
    }

    /// `config edit` with an editor that is a script; `$1` is the file.
    fn edit(&self, script: &str) -> Done {
        self.edit_with(&["config", "edit"], script)
    }

    fn edit_with(&self, args: &[&str], script: &str) -> Done {
        let editor = self.path().join("an editor");
        fs::write(&editor, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        let mut command = self.command(args);
        command.env_remove("VISUAL").env("EDITOR", format!("sh '{}'", editor.display())).env("TMPDIR", self.tmp());
        feed(command, "")
    }

    /// Where the copies are created.
    fn tmp(&self) -> PathBuf {
        let tmp = self.path().join("tmp");
        fs::create_dir_all(&tmp).unwrap();
        tmp
    }

    fn copies(&self) -> Vec<PathBuf> {
        let directories = fs::read_dir(self.tmp()).unwrap().map(|entry| entry.unwrap().path());
        directories.map(|directory| directory.join("config.toml")).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_path_of_the_file_is_printed() {
    let home = Home::new();
    let path = home.config();
    home.run(&["config", "path"]).ok().says(path.to_str().unwrap());
    assert_eq!(home.json(&["config", "path"]), json!({"path": path, "exists": false, "source": "LESSOR_HOME"}));
    home.write("");
    let other = home.path().join("other.toml");
    let place = home.json(&["--config", other.to_str().unwrap(), "config", "path"]);
    assert_eq!(place, json!({"path": other, "exists": false, "source": "--config"}));
    let mut command = home.command(&["config", "path", "--json"]);
    command.env("LESSOR_CONFIG", &path);
    let place: Value = serde_json::from_str(&feed(command, "").ok().out).unwrap();
    assert_eq!(place, json!({"path": path, "exists": true, "source": "LESSOR_CONFIG"}));
}

#[test]
fn every_value_is_shown_with_its_source() {
    let home = Home::new();
    home.run(&["config", "show"]).ok().says("does not exist").says("ttl = \"10m\"").says("webhook = \"\"");
    home.write("[leases]\nttl = \"90s\"\n[accounts.\"a@b.c\"]\nuse = [\"claude\"]\n[notify]\ndesktop = true\n");
    let shown = home.run(&["config", "show"]).ok().says("[accounts.\"a@b.c\"]").says("# config.toml:6");
    assert!(shown.out.lines().all(|line| line.chars().count() <= 80), "{}", shown.out);
    // the listing is a file with the same meaning
    home.feed(&["config", "check", "-"], &shown.out).ok();
    let mut command = home.command(&["config", "show", "--json"]);
    command.env("LESSOR_LOG", "debug");
    let shown: Value = serde_json::from_str(&feed(command, "").ok().out).unwrap();
    assert_eq!((&shown["path"], &shown["state"]), (&json!(home.config()), &json!("ok")));
    let row = |key: &str| shown["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!((&row("daemon.log")["value"], &row("daemon.log")["source"]), (&json!("debug"), &json!("LESSOR_LOG")));
    assert_eq!(row("leases.ttl")["source"], format!("{}:2", home.config().display()));
    assert_eq!((&row("leases.ttl")["value"], &row("leases.ttl")["default"]), (&json!("90s"), &json!("10m")));
    assert_eq!(row("leases.grace")["source"], "default");
    assert_eq!(row("accounts.\"a@b.c\".use")["value"], json!(["claude"]));
    home.write("leases.ttl = 1\n");
    home.run(&["config", "show"]).exits(6).complains("config.toml:1:14").complains("write 1s or 1m");
    assert!(!home.places().state.exists(), "no daemon was started");
}

#[test]
fn one_value_is_printed_for_scripts() {
    let home = Home::new();
    let words = "[limits]\nretry_delay = '120s'\n[quota]\nsoft_threshold = 0.80\n";
    home.write(&format!("{words}[leases]\nttl = \"90s\"\n[accounts.\"a@b.c\"]\nuse = [\"claude\", \"codex\"]\n"));
    for (key, value) in [
        ("leases.ttl", "90s\n"),
        ("leases.per_account", "1\n"),
        ("selection.max_cache_wait", "60s\n"),
        ("limits.retry_delay", "120s\n"),
        ("quota.soft_threshold", "0.80\n"),
        ("selection.tier_first", "false\n"),
        ("selection.preferred_account", "\n"),
        ("limits.quota_backoff", "[\"1m\", \"5m\", \"30m\", \"2h\"]\n"),
        ("accounts.\"a@b.c\".use", "[\"claude\", \"codex\"]\n"),
        ("accounts.b.max_leases", "\n"),
    ] {
        assert_eq!(home.run(&["config", "get", key]).ok().out, value, "{key}");
    }
    let got = home.json(&["config", "get", "accounts.\"a@b.c\".use"]);
    assert_eq!((&got["key"], &got["value"]), (&json!("accounts.\"a@b.c\".use"), &json!(["claude", "codex"])));
    assert_eq!(home.json(&["config", "get", "accounts.b.max_leases"])["value"], Value::Null);
    home.run(&["config", "get", "leases.tll"]).exits(2).complains("did you mean `ttl`?");
    home.run(&["config", "get", "leases"]).exits(2).complains("its keys: per_account");
    home.run(&["config", "get", "accounts.a@b.c.use"]).exits(2).complains("quoted");
    home.write("leases.ttl = 1\n");
    home.run(&["config", "get", "leases.ttl"]).exits(6);
}

#[test]
fn setting_a_key_creates_the_file_and_keeps_its_content() {
    let home = Home::new();
    let deep = home.path().join("a/b/c.toml");
    home.run(&["--config", deep.to_str().unwrap(), "config", "set", "leases.ttl", "2m"])
        .ok()
        .says("leases.ttl = \"2m\"");
    assert_eq!(fs::read_to_string(&deep).unwrap(), "[leases]\nttl = \"2m\"\n");
    assert_eq!((mode(&deep), mode(deep.parent().unwrap())), (0o600, 0o700));

    let before = "\u{feff}# mine\r\n[leases]\r\n  ttl = \"1m\" # short\r\n\r\n[daemon] # d\r\nlog = 'warn'\r\n";
    home.write(before);
    fs::set_permissions(home.config(), fs::Permissions::from_mode(0o640)).unwrap();
    home.run(&["config", "set", "leases.ttl", "3m"])
        .ok()
        .says("no daemon is running; it takes effect at the next start");
    home.run(&["config", "set", "leases.grace", "1s"]).ok();
    home.run(&["config", "set", "accounts.work.max_leases", "2"]).ok();
    home.run(&["config", "set", "accounts.\"a@b.c\".use", "[\"claude\"]"]).ok();
    home.run(&["config", "set", "accounts.work.use", "claude,codex"]).ok();
    home.run(&["config", "set", "selection.health.failure", "-7.5"]).ok();
    let after = "\u{feff}# mine\r\n[leases]\r\n  ttl = \"3m\" # short\r\n  grace = \"1s\"\r\n\r\n[daemon] # d\r\nlog = 'warn'\r\n\
        \r\n[accounts.work]\r\nmax_leases = 2\r\nuse = [\"claude\", \"codex\"]\r\n\
        \r\n[accounts.\"a@b.c\"]\r\nuse = [\"claude\"]\r\n\r\n[selection.health]\r\nfailure = -7.5\r\n";
    assert_eq!(home.read(), after);
    assert_eq!(mode(&home.config()), 0o640);
    home.run(&["config", "set", "leases.ttl", "3m"]).ok().says("(unchanged)");
    assert_eq!(home.read(), after);
    for key in [
        "leases.grace",
        "accounts.work.max_leases",
        "accounts.work.use",
        "accounts.\"a@b.c\".use",
        "selection.health.failure",
    ] {
        home.run(&["config", "unset", key]).ok();
    }
    home.run(&["config", "unset", "leases.grace"]).ok().says("leases.grace = \"2s\" (default, unchanged)");
    home.run(&["config", "set", "leases.ttl", "1m"]).ok();
    assert_eq!(home.read(), before);
    let set = home.json(&["config", "set", "quota.poll", "off"]);
    assert_eq!((&set["key"], &set["value"], &set["changed"]), (&json!("quota.poll"), &json!("off"), &json!(true)));
    assert_eq!(set["daemon"]["state"], "no_daemon");
    assert!(!home.places().state.exists(), "no daemon was started");
    // only the file is left
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
}

#[test]
fn an_invalid_value_changes_nothing() {
    let home = Home::new();
    home.run(&["config", "set", "leases.ttl", "2"]).exits(2).complains("write 2s or 2m");
    home.run(&["config", "set", "leases.tll", "2m"]).exits(2).complains("did you mean `ttl`?");
    home.run(&["config", "unset", "leases.tll"]).exits(2);
    home.run(&["config", "unset", "leases.ttl"]).ok();
    home.run(&["config", "set", "leases.per_account", "99"]).exits(2).complains("must not be above");
    home.run(&["config", "set", "leases.ttl"]).exits(2);
    assert!(!home.config().exists());
    for broken in ["[leases]\nttl = 1\n", "x", "\u{0}"] {
        home.write(broken);
        home.run(&["config", "set", "leases.grace", "1s"]).exits(6).complains("config.toml:").complains("config edit");
        home.run(&["config", "unset", "leases.grace"]).exits(6);
        assert_eq!(home.read(), broken);
    }
    let error = home.run(&["config", "set", "leases.grace", "1s", "--json"]).exits(6).err;
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["data"]["kind"], "config_invalid");
}

#[test]
fn a_link_of_a_dotfile_manager_stays_a_link() {
    let home = Home::new();
    let dotfiles = home.path().join("dotfiles");
    fs::create_dir(&dotfiles).unwrap();
    fs::write(dotfiles.join("lessor.toml"), "[leases]\nttl = \"1m\"\n").unwrap();
    symlink("dotfiles/lessor.toml", home.config()).unwrap();
    home.run(&["config", "set", "leases.ttl", "2m"]).ok();
    home.edit("sed -i s/2m/3m/ \"$1\"").ok();
    assert_eq!(fs::read_link(home.config()).unwrap(), Path::new("dotfiles/lessor.toml"));
    assert_eq!(fs::read_to_string(dotfiles.join("lessor.toml")).unwrap(), "[leases]\nttl = \"3m\"\n");
    assert_eq!(fs::read_dir(&dotfiles).unwrap().count(), 1);
    fs::remove_file(dotfiles.join("lessor.toml")).unwrap();
    home.run(&["config", "set", "leases.ttl", "2m"]).exits(6).complains("is a link to a file that does not exist");
}

#[test]
fn concurrent_changes_are_not_lost() {
    let home = Home::new();
    let names: Vec<String> = (0..12).map(|number| format!("accounts.n{number}.priority")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| home.run(&["config", "set", name, "5"]).ok());
        }
    });
    for name in &names {
        assert_eq!(home.run(&["config", "get", name]).ok().out, "5\n", "{name}");
    }
}

#[test]
fn an_edit_takes_effect_only_if_it_is_valid() {
    let home = Home::new();
    // a new file begins with the template
    home.edit("grep -q '^#ttl = \"10m\"' \"$1\"; sed -i 's/^#ttl = \"10m\"/ttl = \"11m\"/' \"$1\"").ok().says("saved");
    assert_eq!(home.run(&["config", "get", "leases.ttl"]).ok().out, "11m\n");
    assert_eq!((mode(&home.config()), home.read().contains("#per_account = 1")), (0o600, true));
    let before = home.read();
    home.edit("true").ok().says("unchanged");
    home.edit("echo 'x = 1' >> \"$1\"; exit 3").exits(1).complains("exit status: 3").complains("nothing was changed");
    home.edit("rm \"$1\"").exits(1).complains("cannot be read");
    let refused = home.edit("printf 'a = 1\\n[leases]\\nttl = 5\\n' > \"$1\"").exits(6);
    refused
        .complains("config.toml:1:1: unknown key `a`")
        .complains("config.toml:3:7")
        .complains("your edit is kept in");
    assert_eq!(home.read(), before);
    let copies = home.copies();
    let kept = copies.iter().filter(|copy| copy.exists()).map(|copy| fs::read_to_string(copy).unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), ["a = 1\n[leases]\nttl = 5\n"]);
    assert_eq!((copies.len(), mode(&copies[0]), mode(copies[0].parent().unwrap())), (1, 0o600, 0o700));

    fs::set_permissions(home.config(), fs::Permissions::from_mode(0o644)).unwrap();
    let edit = "test \"$(stat -c %a \"$1\")\" = 600; printf '[accounts.a]\\nmax_leases = 99\\n' > \"$1\"";
    home.edit(edit).ok().complains("`accounts.a.max_leases` is above").says("no daemon is running");
    assert_eq!((home.read().as_str(), mode(&home.config())), ("[accounts.a]\nmax_leases = 99\n", 0o644));
    let edited = home.edit_with(&["config", "edit", "--json"], "printf '' > \"$1\"").ok();
    let edited: Value = serde_json::from_str(&edited.out).unwrap();
    assert_eq!((&edited["changed"], &edited["daemon"]["state"]), (&json!(true), &json!("no_daemon")));
    assert!(!home.places().state.exists(), "no daemon was started");
}

#[test]
fn an_edit_does_not_undo_a_concurrent_change() {
    let home = Home::new();
    home.write("leases.ttl = \"1m\"\n");
    let real = home.config();
    let script = format!("echo 'leases.ttl = \"2m\"' > \"$1\"; echo 'leases.ttl = \"3m\"' > '{}'", real.display());
    home.edit(&script).exits(1).complains("was changed by another program").complains("your edit is kept in");
    assert_eq!(home.read(), "leases.ttl = \"3m\"\n");
    assert_eq!(fs::read_to_string(&home.copies()[0]).unwrap(), "leases.ttl = \"2m\"\n");
}

#[test]
fn an_invalid_file_can_be_edited_and_a_missing_editor_is_reported() {
    let home = Home::new();
    fs::write(home.config(), b"leases.ttl = \"\xff\"\n").unwrap();
    home.run(&["config", "check"]).exits(6).complains("not UTF-8");
    home.edit("echo 'leases.ttl = \"1m\"' > \"$1\"").ok();
    assert_eq!(home.read(), "leases.ttl = \"1m\"\n");
    let mut command = home.command(&["config", "edit"]);
    command.env("VISUAL", "/nonexistent/editor --wait").env("EDITOR", "true");
    feed(command, "").exits(1).complains("/nonexistent/editor").complains("name another");
    let mut command = home.command(&["config", "edit"]);
    command.env("VISUAL", " ").env("EDITOR", "f() { echo 'leases.ttl = \"7m\"' > \"$2\"; }; f --wait");
    feed(command, "").ok();
    assert_eq!(home.read(), "leases.ttl = \"7m\"\n");
}

#[test]
fn a_check_reports_every_error() {
    let home = Home::new();
    home.run(&["config", "check"]).ok().says("the defaults apply");
    home.write("[leases]\nttl = 5\n[quota]\npol = 1\n");
    let checked = home.run(&["config", "check"]).exits(6);
    assert_eq!(checked.out, "");
    checked
        .complains("config.toml:2:7")
        .complains("config.toml:4:1")
        .complains("did you mean `poll`?")
        .complains("2 errors");
    let done = home.run(&["config", "check", "--json"]).exits(6);
    let checked: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&checked["ok"], done.err.as_str()), (&json!(false), ""));
    let (first, second) = (&checked["errors"][0], &checked["errors"][1]);
    assert_eq!((&first["line"], &first["column"], &first["key"]), (&json!(2), &json!(7), &json!("leases.ttl")));
    assert_eq!((&second["line"], &second["key"]), (&json!(4), &json!("quota.pol")));

    home.feed(&["config", "check", "-"], "[accounts.a]\nmax_leases = 99\n")
        .ok()
        .says("warning: standard input:2:1")
        .says("takes precedence");
    let checked: Value =
        serde_json::from_str(&home.feed(&["config", "check", "-", "--json"], "accounts.a.max_leases = 99").ok().out)
            .unwrap();
    assert_eq!((&checked["ok"], &checked["warnings"][0]["key"]), (&json!(true), &json!("accounts.a.max_leases")));
    home.feed(&["config", "check", "-"], "x = 1").exits(6).complains("standard input:1:1");
    let other = home.path().join("other.toml");
    home.run(&["config", "check", other.to_str().unwrap()]).exits(6).complains("the file does not exist");
    fs::write(&other, "").unwrap();
    home.run(&["config", "check", other.to_str().unwrap()]).ok().says("ok: ");
    home.run(&["config", "check", home.path().to_str().unwrap()]).exits(6).complains("is a directory");
}

#[test]
fn the_schema_of_the_file_is_printed() {
    let home = Home::new();
    let schema: Value = serde_json::from_str(&home.run(&["config", "schema"]).ok().out).unwrap();
    assert_eq!(schema["properties"]["leases"]["properties"]["ttl"]["default"], "10m");
    for command in [
        "config check",
        "config edit",
        "config get",
        "config path",
        "config set",
        "config show",
        "config unset",
        "reload",
    ] {
        home.run(&["schema", command]).ok();
    }
}

#[test]
fn the_result_of_a_running_daemon_is_printed() {
    let home = Home::new();
    home.run(&["reload"]).exits(3).complains("no daemon");
    assert!(!home.places().state.exists(), "no daemon was started");
    let pid = home.json(&["ping"])["pid"].clone();
    let live = format!("live: the daemon (pid {pid}) uses it");
    home.run(&["config", "set", "leases.per_account", "3"]).ok().says(&live);
    let held = |home: &Home| home.run(&["config", "show"]).ok().err;
    assert_eq!(held(&home), "");
    home.edit("sed -i s/3/4/ \"$1\"").ok().says(&live);
    assert_eq!(home.json(&["config", "unset", "leases.per_account"])["daemon"]["state"], "live");
    home.run(&["reload"]).ok().says("already uses it");
    assert_eq!(home.json(&["reload"])["state"], "ok");

    home.write("[leases]\nper_account = 0\n");
    home.run(&["reload"])
        .exits(6)
        .complains("rejected the configuration")
        .complains("config.toml:2:15")
        .complains("config edit");
    let done = home.run(&["reload", "--json"]).exits(6);
    let reload: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(reload["state"], "rejected");
    assert!(reload["error"].as_str().unwrap().contains("config.toml:2:15"), "{reload}");
    home.run(&["config", "show"]).exits(6).complains("keeps the last valid configuration");

    home.write("[leases]\nper_account = 5\n");
    home.run(&["reload"]).ok();
    let other = home.path().join("other.toml");
    let done = home.run(&["--config", other.to_str().unwrap(), "config", "set", "leases.ttl", "1m"]).ok();
    done.says("reads another file").says("config.toml");
    home.run(&["--config", other.to_str().unwrap(), "config", "show"]).ok().complains("reads another file");
}
