//! `run --direct`.

use serde_json::{Value, json};

use super::support::{Home, PROGRAM, feed};

#[test]
fn run_becomes_the_command() {
    let home = Home::with_keys(&[("anthropic", "work"), ("openai", "other")]);
    let direct = |args: &[&str]| home.run(&[&["run", "--direct"], args].concat());
    direct(&["claude", "--", "sh", "-c", "echo $ANTHROPIC_API_KEY; exit 7"]).exits(7).says("sk-canary-work");
    direct(&["-p", "openai", "--", "sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    direct(&["-p", "openai", "--", "printenv", "OPENAI_API_KEY"]).ok().says("sk-canary-other");
    direct(&["-p", "openai", "--", "/nonexistent"]).exits(127);
    direct(&["-p", "openai", "--", "/dev/null"]).exits(126);
    direct(&["--", "opencode"]).exits(2).complains("-p");
    direct(&["claude"]).exits(2).complains("after `--`");
    direct(&["google", "--", "true"]).exits(5);
    home.run(&["run", "claude", "--", "claude"]).exits(2).complains("--direct");
    assert_eq!(home.json(&["leases"]), json!([]), "all have ended with their commands");
}

#[test]
fn run_holds_its_lease_as_long_as_the_command_lives() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let script = format!("{PROGRAM} leases --json");
    let done = home.run(&["run", "claude", "--direct", "--label", "mine", "--", "sh", "-c", &script]).ok();
    let leases: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&leases[0]["label"], &leases[0]["bind"]), (&json!("mine"), &json!("pid")));
    assert_eq!(home.json(&["leases"]), json!([]));
}

/// The daemon that `run` starts must not become a child of the command.
#[test]
fn a_command_finds_no_stranger_among_its_children() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["stop"]).ok();
    let script = "cat /proc/$$/task/$$/children; echo .";
    let done = home.run(&["run", "claude", "--direct", "--", "sh", "-c", script]).ok();
    // only `cat` itself
    assert!(done.out.split_whitespace().count() <= 2, "{done:?}");
}

#[test]
fn variables_that_speak_against_the_lease_are_cleared_and_named() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let mut command = home.command(&["run", "claude", "--direct", "--", "printenv", "ANTHROPIC_AUTH_TOKEN"]);
    command.env("ANTHROPIC_AUTH_TOKEN", "mine").env("ANTHROPIC_API_KEY", "mine");
    let done = feed(command, "").exits(1).complains("ANTHROPIC_AUTH_TOKEN");
    assert_eq!((done.out.as_str(), done.err.lines().count()), ("", 1));
}

#[test]
fn a_named_agent_gets_the_login_that_is_kept_for_it() {
    let home = Home::new();
    let login = r#"{"access_token":"at-canary","refresh_token":"rt","expires_at":4070908800000}"#;
    home.feed(&["account", "add", "claude", "--oauth-stdin"], login).ok();
    let bin = home.path().join("claude");
    std::fs::write(&bin, "#!/bin/sh\nprintenv CLAUDE_CODE_OAUTH_TOKEN\n").unwrap();
    std::fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    home.run(&["run", "--direct", "--", bin.to_str().unwrap()]).ok().says("at-canary");
    home.run(&["run", "claude", "--direct", "--wait", "0s", "--", "python3"]).exits(1);
}

/// What a service manager says to an ancestor is not for the command, what it says to `run` is: they are one process.
#[cfg(target_os = "linux")]
#[test]
fn a_command_inherits_no_service_manager_and_no_descriptor_of_ours() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let script = "printenv NOTIFY_SOCKET LISTEN_FDS LISTEN_PID WATCHDOG_USEC; ls -l /proc/self/fd | wc -l";
    let alone = feed(
        {
            let mut sh = std::process::Command::new("sh");
            sh.args(["-c", script]);
            sh
        },
        "",
    )
    .ok();
    let run = ["run", "claude", "--direct", "--", "sh", "-c", script];
    let spoken_to = |mut command: std::process::Command| {
        for name in lessor::client::MANAGERS_WORDS {
            command.env(name, "1");
        }
        command
    };
    let done = feed(spoken_to(home.command(&run)), "").ok();
    assert_eq!(done.out, alone.out, "as many descriptors as without us, and no word");
    let mut shell = std::process::Command::new("sh");
    let start =
        format!("SYSTEMD_EXEC_PID=$$ exec {PROGRAM} run claude --direct -- printenv NOTIFY_SOCKET WATCHDOG_USEC");
    shell.args(["-c", &start]).env("LESSOR_HOME", home.path());
    assert_eq!(feed(spoken_to(shell), "").ok().out, "1\n1\n");
}
