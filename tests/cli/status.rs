//! `status`, `status --oneline` and `lessor` without a command.

use super::support::Home;

#[test]
fn lessor_alone_shows_the_first_steps_then_the_status_and_starts_no_daemon() {
    let home = Home::new();
    let first = home.run(&[]).ok().says("lessor has no accounts yet").says("lessor import").says("lessor doctor");
    assert_eq!(first.out.matches("\n  lessor ").count(), 5, "{first:?}");
    home.run(&["status", "--oneline"]).ok().says("lessor: no daemon");
    assert!(!home.places().socket.exists(), "no daemon was started");

    home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", "work"], "sk-canary").ok();
    let text = home.run(&[]).ok().says("claude: 1 of 1 account can serve now; next: work").says("lessor run claude");
    assert!(text.out.lines().all(|line| line.chars().count() <= 80), "{text:?}");
    assert_eq!(home.run(&["status", "--oneline"]).ok().out, "claude 1/1\n");
    home.run(&["status", "--oneline", "--json"]).exits(2).complains("lessor status --json");
    assert_eq!(home.json(&[])["providers"][0]["next"]["label"], "work");

    home.run(&["stop"]).ok();
    home.run(&[]).ok().says("no daemon is running").says("lessor run claude");
    home.run(&["--help"]).ok().says("Everyday");
}

#[test]
fn what_an_account_needs_is_one_command_below_the_table() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let login =
        r#"{"access_token":"at","refresh_token":"rt","expires_at":"2001-01-01T00:00:00Z","email":"old@example.org"}"#;
    home.feed(&["account", "add", "claude", "--oauth-stdin"], login).ok();
    for command in [&["status"][..], &["account", "list"]] {
        home.run(command).ok().says("\nclaude-old cannot renew:\n  lessor config set providers.anthropic.oauth.");
    }
    home.run(&["account", "disable", "work", "--reason", "holiday"]).ok();
    home.run(&["status"]).ok().says("claude: no account can serve now (1 cannot renew, 1 disabled)").says("holiday");
    home.run(&["account", "show", "work"]).ok().says("lessor account enable work");
}

/// Only a terminal is asked.
#[cfg(target_os = "linux")]
#[test]
fn removing_an_account_on_a_terminal_asks_first() {
    let home = Home::with_keys(&[("anthropic", "work"), ("openai", "other")]);
    let lessor = home.command(&[]).get_program().to_string_lossy().into_owned();
    let remove = |answer: &str, name: &str| {
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("'{lessor}' account remove {name}"), "/dev/null"]);
        let like = home.command(&[]);
        for (name, value) in like.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        super::support::feed(command, answer)
    };
    remove("n\n", "work").ok().says("is removed with its API key").says("nothing was removed");
    assert_eq!(home.json(&["account", "list"]).as_array().unwrap().len(), 2);
    remove("y\n", "work").ok().says("removed work");
    assert_eq!(home.json(&["account", "list"]).as_array().unwrap().len(), 1);
}
