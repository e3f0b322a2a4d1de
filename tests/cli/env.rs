//! `env`: variables for the calling shell.

use std::process::Command;

use serde_json::json;

use super::support::{Done, Home, PROGRAM, feed};

/// Runs a script in a new shell, with `$lessor` set.
fn script(home: &Home, script: &str) -> Done {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -eu\n{script}\n:")]).env("LESSOR_HOME", home.path()).env("lessor", PROGRAM);
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"] {
        shell.env_remove(name);
    }
    feed(shell, "")
}

#[test]
fn a_shell_keeps_the_variables_and_the_lease_until_it_ends() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let done = script(
        &home,
        r#"
        export ANTHROPIC_API_KEY=mine
        eval "$($lessor env claude)"
        echo "$ANTHROPIC_BASE_URL ${ANTHROPIC_API_KEY:-none}"
        test -n "$ANTHROPIC_AUTH_TOKEN"
        # asked again, it is another lease in the place of the first
        eval "$($lessor env claude)"
        $lessor leases --json
        echo "$$"
        "#,
    )
    .ok()
    .complains("ANTHROPIC_API_KEY");
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("http://127.0.0.1:") && lines[0].ends_with("/anthropic none"), "{done:?}");
    let leases: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
    assert_eq!(leases[0]["holder"]["pid"].to_string(), lines[2]);
    assert_eq!(home.json(&["leases"]), json!([]), "it ended with its shell");
}

#[test]
fn an_agent_that_reads_no_variable_becomes_a_function() {
    let home = Home::with_keys(&[("openai", "work")]);
    let bin = home.path().join("codex");
    std::fs::write(&bin, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    std::fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let text = format!("PATH={}:$PATH\neval \"$($lessor env codex)\"\ncodex exec 'a b'", home.path().display());
    let done = script(&home, &text).ok().says("model_providers.lessor=").says("base_url=\"http://127.0.0.1:");
    assert!(done.out.ends_with("exec\na b\n"), "{done:?}");
    assert!(!done.out.contains("lk_"), "no secret is an argument: {done:?}");
}

#[test]
fn other_shells_get_their_own_syntax() {
    let home = Home::with_keys(&[("anthropic", "work"), ("google", "g")]);
    home.run(&["env", "anthropic", "--shell", "fish"]).ok().says("set -gx ANTHROPIC_API_KEY 'lk_");
    home.run(&["env", "anthropic", "--shell", "powershell"]).ok().says("$env:ANTHROPIC_API_KEY = 'lk_");
    home.run(&["env", "anthropic", "--direct"]).ok().says("export ANTHROPIC_API_KEY='sk-canary-work'");
    let document = home.json(&["env", "gemini"]);
    let settings = document["set"]["GEMINI_CLI_SYSTEM_SETTINGS_PATH"].as_str().unwrap();
    let settings: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(settings).unwrap()).unwrap();
    assert_eq!(settings["security"]["auth"]["selectedType"], "gemini-api-key");
    home.run(&["env", "opencode"]).exits(2).complains("-p");
    home.run(&["env", "python", "-p", "openai"]).exits(5);
    home.run(&["env", "anthropic", "--profile"]).exits(2).complains("claude, codex, gemini");
}
