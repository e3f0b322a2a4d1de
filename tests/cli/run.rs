//! `run`.

use serde_json::{Value, json};

use super::support::{Home, PROGRAM, eventually, feed};

#[test]
fn run_becomes_the_command() {
    let home = Home::with_keys(&[("anthropic", "work"), ("openai", "other")]);
    let direct = |args: &[&str]| home.run(&[&["run", "--direct"], args].concat());
    direct(&["claude", "--", "sh", "-c", "echo $ANTHROPIC_API_KEY; exit 7"]).exits(7).says("sk-canary-work");
    direct(&["-p", "openai", "--", "sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    direct(&["-p", "openai", "--", "printenv", "OPENAI_API_KEY"]).ok().says("sk-canary-other");
    direct(&["-p", "openai", "--", "/nonexistent"]).exits(127);
    direct(&["-p", "openai", "--", "/dev/null"]).exits(126);
    direct(&["--", "opencode"]).exits(2).complains("-p: anthropic, openai");
    direct(&["--", "printenv"]).exits(2).complains("\"printenv\" is not a known agent").complains("anthropic, openai");
    direct(&["anthropic"]).exits(2).complains("after `--`");
    let refused = direct(&["google", "--", "true"]).exits(5);
    refused.complains("lessor import").complains("lessor login google").complains("lessor account add google");
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
fn a_command_has_no_other_children() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["stop"]).ok();
    let script = "cat /proc/$$/task/$$/children; echo .";
    let done = home.run(&["run", "claude", "--direct", "--", "sh", "-c", script]).ok();
    // only `cat` itself
    assert!(done.out.split_whitespace().count() <= 2, "{done:?}");
}

#[test]
fn conflicting_variables_are_unset_and_named() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let mut command = home.command(&["run", "claude", "--direct", "--", "printenv", "ANTHROPIC_AUTH_TOKEN"]);
    command.env("ANTHROPIC_AUTH_TOKEN", "mine").env("ANTHROPIC_API_KEY", "mine");
    let done = feed(command, "").exits(1).complains("ANTHROPIC_AUTH_TOKEN");
    assert_eq!((done.out.as_str(), done.err.lines().count()), ("", 1));
}

#[test]
fn an_agent_gets_an_account_reserved_for_it() {
    let home = Home::new();
    let login = r#"{"access_token":"at-canary","refresh_token":"rt","expires_at":4070908800000}"#;
    home.feed(&["account", "add", "claude", "--oauth-stdin"], login).ok();
    let bin = home.path().join("claude");
    std::fs::write(&bin, "#!/bin/sh\nprintenv CLAUDE_CODE_OAUTH_TOKEN\n").unwrap();
    std::fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    home.run(&["run", "--direct", "--", bin.to_str().unwrap()]).ok().says("at-canary");
    home.run(&["run", "claude", "--direct", "--wait", "0s", "--", "python3"]).exits(5).complains("use=any");
}

/// Variables of a service manager for an ancestor are not passed on; those for `run` are, because the command replaces it.
#[cfg(target_os = "linux")]
#[test]
fn a_command_inherits_no_variable_of_a_manager_and_no_descriptor() {
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
        for name in lessor::client::SERVICE_MANAGER_VARIABLES {
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

#[test]
fn without_a_gateway_the_reason_is_named() {
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = used.local_addr().unwrap().to_string();
    for (setting, reason) in
        [("enabled = false".to_owned(), "gateway.enabled"), (format!("listen = \"{taken}\""), &taken)]
    {
        let home = Home::new();
        std::fs::write(home.path().join("config.toml"), format!("[gateway]\n{setting}\n")).unwrap();
        home.run(&["gateway", "url"]).exits(1).complains("the gateway does not listen").complains(reason);
    }
}

/// The command gets variables of the gateway, and none of the account.
#[test]
fn by_default_a_command_gets_the_gateway() {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "[providers.my-llm]\nbase_url = \"http://127.0.0.1:1\"\n").unwrap();
    for provider in ["anthropic", "my-llm"] {
        home.feed(&["account", "add", provider, "--api-key-stdin"], "sk-canary\n").ok();
    }
    let run = |args: &[&str]| home.run(&[&["run"], args].concat()).ok();
    let seen = run(&["claude", "--", "sh", "-c", "echo $ANTHROPIC_BASE_URL $ANTHROPIC_API_KEY"]).out;
    let url = home.json(&["gateway", "url"])["url"].as_str().unwrap().to_owned();
    assert!(seen.starts_with(&format!("{url}/anthropic lk_")), "{seen}");
    let seen = run(&["-p", "my-llm", "--", "sh", "-c", "echo $MY_LLM_BASE_URL $OPENAI_BASE_URL; env"]);
    assert!(seen.out.starts_with(&format!("{url}/my-llm {url}/my-llm\n")), "{seen:?}");
    assert!(!seen.out.contains("sk-canary"), "{seen:?}");
    assert_eq!(home.json(&["leases"]), json!([]));
}

#[test]
fn the_agent_is_the_default_command() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let bin = program(&home, "claude", "echo \"$ANTHROPIC_AUTH_TOKEN $*\"");
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for args in [&["run", "claude", "--", "claude", "-p", "x"][..], &["run", "claude", "--", "-p", "x"]] {
        let mut command = home.command(args);
        let done = feed(
            {
                command.env("PATH", &path);
                command
            },
            "",
        )
        .ok();
        assert!(done.out.starts_with("lk_") && done.out.ends_with(" -p x\n"), "{done:?}");
    }
}

/// Codex reads its address from arguments only, which a script that starts it does not pass.
#[test]
fn an_agent_in_a_script_gets_its_arguments_too() {
    let home = Home::with_keys(&[("openai", "work")]);
    let bin = program(&home, "codex", "printf '%s\\n' \"$@\"");
    let bins = bin.parent().unwrap().display().to_string();
    let path = format!("{bins}:/usr/bin:/bin");
    let run = |args: &[&str]| {
        let mut command = home.command(&[&["run", "codex", "--"], args].concat());
        command.env("PATH", &path);
        feed(command, "").ok()
    };
    let done = run(&["sh", "-c", "codex exec \"a b\"; echo $OPENAI_BASE_URL"]);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[..2], ["-c", "model_provider=\"lessor\""]);
    assert_eq!(lines[4..6], ["exec", "a b"], "{done:?}");
    assert!(lines[6].ends_with("/openai/v1"));
    // a launcher gets them last, and passes them on: they are not added twice
    let done = run(&["env", "codex", "exec"]);
    assert_eq!(done.out.matches("model_provider=").count(), 1, "{done:?}");
    // one that finds another codex than the one on the PATH
    let other = program(&home, "other/codex", "printf '%s\\n' \"$@\"");
    let done = run(&["env", other.to_str().unwrap(), "exec"]);
    assert!(done.out.starts_with("exec\n-c\n"), "{done:?}");
}

/// Claude Code's settings override the environment, unless other settings override them.
#[test]
fn conflicting_settings_of_the_user_are_overridden_for_this_run_only() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let config = home.path().join("claude-config");
    std::fs::create_dir(&config).unwrap();
    let theirs = r#"{"env":{"ANTHROPIC_BASE_URL":"http://elsewhere"}}"#;
    std::fs::write(config.join("settings.json"), theirs).unwrap();
    let bin = program(&home, "claude", "test \"$1\" = --settings && cat \"$2\" && echo && echo \"$2\"");
    let run = |args: &[&str]| {
        let mut command = home.command(&[&["run", "--", bin.to_str().unwrap()], args].concat());
        command.env("CLAUDE_CONFIG_DIR", &config);
        feed(command, "")
    };
    let done = run(&["-p", "x"]).ok().complains("ANTHROPIC_BASE_URL (in settings)");
    let (last, path) = done.out.trim_end().split_once('\n').unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert!(last["env"]["ANTHROPIC_BASE_URL"].as_str().unwrap().ends_with("/anthropic"), "{last}");
    eventually("the directory is removed", || !std::path::Path::new(path).exists());
    assert_eq!(std::fs::read_to_string(config.join("settings.json")).unwrap(), theirs);
    run(&["--settings", "mine.json"]).exits(2).complains("--settings");
    assert_eq!(home.json(&["leases"]), json!([]));
}

#[test]
fn a_profile_is_logged_in_as_the_account_and_removed_afterwards() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let script = "echo $CLAUDE_CONFIG_DIR; ls -ld $CLAUDE_CONFIG_DIR | cut -c1-10; cat $CLAUDE_CONFIG_DIR/.claude.json";
    let bin = program(&home, "claude", script);
    let done = home.run(&["run", "--profile", "--", bin.to_str().unwrap()]).ok();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[1], "drwx------");
    assert!(lines[2].contains(r#""primaryApiKey":"sk-canary-work""#), "{done:?}");
    eventually("the directory is removed", || !std::path::Path::new(lines[0]).exists());
    home.run(&["run", "-p", "anthropic", "--profile", "--", "true"]).exits(2).complains("claude, codex, gemini");
}

/// If the daemon dies while a command runs, a new one starts at once, with the same lease, gateway and key.
#[test]
fn a_command_outlives_its_daemon() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let go = home.path().join("go");
    // if the test fails, its home is removed, and the command ends
    let (at, home_at) = (go.display(), home.path().display());
    let script = format!("echo $ANTHROPIC_BASE_URL; while [ ! -e {at} ] && [ -d {home_at} ]; do sleep 0.02; done");
    let mut command = home.command(&["run", "claude", "--", "sh", "-c", &script]);
    let child = command.stdin(std::process::Stdio::null());
    let child = child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let leases = || serde_json::from_str::<Value>(&home.run(&["leases", "--json", "--no-start"]).out).ok();
    let held = || leases().filter(|leases| leases[0]["holder"]["program"] == "sh");
    eventually("the command holds its lease", || held().is_some());
    let before = held().unwrap();
    let daemon = home.json(&["ping"])["pid"].to_string();
    assert!(std::process::Command::new("kill").args(["-9", &daemon]).status().unwrap().success());
    eventually("there is a new daemon", || {
        let ping = home.run(&["ping", "--json", "--no-start"]);
        ping.code == 0 && !ping.out.contains(&format!("\"pid\":{daemon}"))
    });
    assert_eq!(leases().unwrap(), before, "the same lease");
    let url = home.json(&["gateway", "url"])["url"].as_str().unwrap().to_owned();
    std::fs::write(&go, "").unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out} {err}");
    assert_eq!(out, format!("{url}/anthropic\n"), "the same place");
    assert_eq!(err.lines().filter(|line| line.starts_with("lessor: the daemon")).count(), 1, "{err}");
}

/// The helper process has the pipe, too: it must end with the command, after it has printed the switch.
#[test]
fn a_pipe_ends_with_the_command_and_gets_a_line_for_a_switch_unless_it_is_quiet() {
    let home = Home::with_keys(&[("anthropic", "one"), ("anthropic", "two")]);
    let out = home.path().join("out");
    // if the test fails, its home is removed, and the command ends
    let until = format!("until grep -q \"$1\" {0} || [ ! -e {0} ]; do sleep 0.02; done", out.display());
    let script =
        format!("{PROGRAM} move $$ >/dev/null || exit 1\nset -- \"$WAIT_FOR\"\n[ -z \"$1\" ] || {until}\necho done");
    let agent = program(&home, "claude", &script);
    let run = |option: &str, wait_for: &str| {
        std::fs::write(&out, "").unwrap();
        let pipeline = format!("{PROGRAM} run {option} -- {} -p hi 2>&1 | cat >{}", agent.display(), out.display());
        let mut command = home.command(&[]);
        let environment: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(Into::into))).collect();
        command = std::process::Command::new("sh");
        for (name, value) in environment {
            let value: Option<std::ffi::OsString> = value;
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        assert!(command.args(["-c", &pipeline]).env("WAIT_FOR", wait_for).status().unwrap().success());
        std::fs::read_to_string(&out).unwrap()
    };
    let said = run("", "moved from");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.starts_with("lessor: moved from ") && said.ends_with("\ndone\n"), "{said}");
    assert_eq!(run("--quiet", ""), "done\n");
}

fn program(home: &Home, name: &str, script: &str) -> std::path::PathBuf {
    let path = home.path().join("bin").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    path
}
