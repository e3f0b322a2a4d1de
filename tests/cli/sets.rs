//! Sets of accounts on the command line, `forecast`, and the line of a status bar.

use serde_json::{Value, json};

use super::support::{Home, PROGRAM, feed};

const KEYS: [(&str, &str); 3] = [("anthropic", "work"), ("anthropic", "spare"), ("anthropic", "third")];

fn limit(home: &Home, label: &str, wait: &str) {
    let lease = home.json(&["acquire", "anthropic", "--account", label, "--ttl", "1m"]);
    let id = lease["lease"].as_str().unwrap();
    home.run(&["report", id, "--reason", "quota_exhausted", "--retry-after", wait]).ok();
    let left = home.json(&["leases"]);
    for row in left.as_array().unwrap() {
        home.run(&["release", row["lease"].as_str().unwrap()]).ok();
    }
}

#[test]
fn run_env_token_and_acquire_use_only_the_listed_accounts() {
    let home = Home::with_keys(&KEYS);
    for _ in 0..3 {
        let run = ["run", "claude", "--direct", "--only", "spare,third", "--", "printenv", "ANTHROPIC_API_KEY"];
        let out = home.run(&run).ok().out;
        assert!(["sk-canary-spare\n", "sk-canary-third\n"].contains(&out.as_str()), "{out}");
    }
    assert_eq!(home.run(&["token", "anthropic", "--only", "third"]).ok().out, "sk-canary-third\n");
    let lease = home.json(&["acquire", "anthropic", "--ttl", "1m", "--only", "work", "--only", "work"]);
    assert_eq!(lease["account"]["label"], "work");
    let refused = home.run(&["acquire", "anthropic", "--ttl", "1m", "--only", "wrok"]).exits(1);
    refused.complains("there is no account \"wrok\"").complains("did you mean work?");
    let both = ["acquire", "anthropic", "--ttl", "1m", "--only", "work", "--account", "third"];
    home.run(&both).exits(5).complains("the account third is not in the set of this request: work (only)");
    home.run(&["explain", "--only", "work"]).exits(2).complains("lessor explain A --only A,B");
    home.run(&["explain", "third", "--only", "work"]).ok().says("not in the set").says("the set: work (only)");
}

#[test]
fn runs_inside_a_run_keep_its_set() {
    let home = Home::with_keys(&KEYS);
    let inner = |options: &str| format!("{PROGRAM} run -p anthropic --direct {options} -- printenv ANTHROPIC_API_KEY");
    let outer = |script: &str| {
        home.run(&["run", "-p", "anthropic", "--direct", "--only", "third", "--", "sh", "-c", script]).ok().out
    };
    assert_eq!(outer(&inner("")), "sk-canary-third\n");
    assert_eq!(outer(&inner("--only work")), "sk-canary-work\n", "one of its own counts first");
}

#[test]
fn what_is_started_in_a_directory_uses_its_accounts() {
    let home = Home::with_keys(&KEYS);
    let inside = home.path().join("client-a/src");
    std::fs::create_dir_all(&inside).unwrap();
    // relative to the file
    let key = "directories.\"./client-a\".accounts";
    home.run(&["config", "set", key, "[\"third\"]"]).ok();
    let printed = |directory: &std::path::Path, args: &[&str]| {
        let mut command = home.command(args);
        command.current_dir(directory);
        feed(command, "").ok().out
    };
    let run = ["run", "claude", "--direct", "--", "printenv", "ANTHROPIC_API_KEY"];
    for _ in 0..2 {
        assert_eq!(printed(&inside, &run), "sk-canary-third\n");
    }
    assert_eq!(printed(&inside, &["token", "anthropic"]), "sk-canary-third\n");
    assert!(printed(&inside, &["forecast"]).contains("only third ([directories.\"./client-a\"])"));
    assert!(!printed(home.path(), &["forecast"]).contains("directories"));
    let mut refused = home.command(&["run", "claude", "--only", "work", "--wait", "0s", "--", "true"]);
    refused.current_dir(&inside);
    let both = feed(refused, "").exits(5);
    let text = both.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("work (only) and third ([directories.\"./client-a\"])"), "{text}");
    home.run(&["config", "set", key, "[\"thirds\"]"]).ok();
    home.run(&["reload"]).ok().says("no account has the name \"thirds\", which [directories.\"./client-a\"] lists");
    home.run(&["config", "set", "directories.\"~other/x\".accounts", "[\"work\"]"]).exits(2).complains("absolute path");
}

#[test]
fn forecast_counts_what_can_start_and_exits_4_if_nothing_can() {
    let home = Home::with_keys(&KEYS);
    home.run(&["config", "set", "leases.overflow", "wait"]).ok();
    home.run(&["reload"]).ok();
    home.run(&["forecast"]).ok().says("claude: 3 agents can start now").says("third");
    home.run(&["forecast", "claude", "--count", "2"]).ok().says("3 agents can start now");
    limit(&home, "work", "10m");
    home.run(&["forecast", "claude", "--count", "3"]).ok().says("2 of 3 agents can start now; all 3 can at");
    home.run(&["forecast", "claude", "--only", "work"]).exits(4).says("no agent can start now; the first can at");
    let found = home.json(&["forecast", "anthropic", "--only", "work,spare"]);
    assert_eq!((&found["grantable"], &found["providers"][0]["provider"]), (&json!(1), &json!("anthropic")));
    assert_eq!(found["providers"][0]["set"], "spare, work (only)");
    let whys: Vec<&Value> =
        found["providers"][0]["accounts"].as_array().unwrap().iter().map(|one| &one["why"]).collect();
    assert_eq!(whys, [&json!("limited"), &Value::Null, &json!("not_in_set")]);
    limit(&home, "spare", "20m");
    limit(&home, "third", "20m");
    home.run(&["forecast"]).exits(4).says("no agent can start now; the first can at");
    assert_eq!(home.run(&["forecast", "--json"]).exits(4).out.lines().count(), 1);
    home.run(&["forecast", "codex"]).exits(5).complains("there is no openai account").complains("lessor login codex");
    home.run(&["forecast", "nowhere"]).exits(1).complains("nowhere");
}

#[test]
fn the_line_of_a_status_bar_has_placeholders_and_starts_nothing() {
    let home = Home::with_keys(&KEYS);
    limit(&home, "work", "10m");
    let line = |format: &str| home.run(&["status", "--oneline", "--format", format]).ok().out;
    assert_eq!(line("{ready}/{total} {limited} {leases} {queue} {{}}"), "2/3 1 0 0 {}\n");
    assert_eq!(line("{line}"), "claude 2/3\n");
    assert!(line("{reset}").trim().contains(':'), "{}", line("{reset}"));
    home.run(&["status", "--oneline", "--format", "{nothing}"]).exits(2).complains("{ready}");
    home.run(&["status", "--format", "{line}"]).exits(2);
    home.run(&["stop"]).ok();
    assert_eq!(line("{ready}"), "lessor: no daemon\n");
    assert!(!home.places().socket.exists(), "no daemon was started");
}

#[test]
fn a_reserve_and_a_fallback_are_shown_and_survive_an_export() {
    let home = Home::with_keys(&KEYS[..2]);
    home.run(&["account", "set", "spare", "reserve=0.2", "fallback_only=true"]).ok();
    let shown = home.run(&["account", "show", "spare"]).ok();
    shown.says("20 % of its windows, for requests that name it").says("serves only while no other account can");
    home.run(&["explain", "work"]).ok().says("fallback_only");
    home.run(&["account", "set", "spare", "reserve=2"]).exits(2).complains("from 0 to 1");
    let document = home.run(&["export", "--secrets", "--yes"]).ok().out;
    let other = Home::new();
    let file = other.path().join("accounts.json");
    std::fs::write(&file, document).unwrap();
    other.run(&["import", file.to_str().unwrap()]).ok();
    let accounts = other.json(&["account", "list"]);
    let spare = accounts.as_array().unwrap().iter().find(|one| one["label"] == "spare").unwrap().clone();
    assert_eq!((&spare["reserve"], &spare["fallback_only"]), (&json!(0.2), &json!(true)), "{spare}");
}
