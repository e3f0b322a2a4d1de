//! `alias`: scripts for daily use.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Done, Home, feed};

const SYSTEM: &str = "/usr/bin:/bin";

fn program(directory: &Path, name: &str, script: &str) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn run(home: &Home, path: &str, args: &[&str]) -> Done {
    let mut command = home.command(args);
    command.env("PATH", path).env("SHELL", "/bin/bash").env("HOME", home.path()).env_remove("LESSOR_RUN");
    feed(command, "")
}

/// Plain `claude …` in a shell with this `PATH`.
fn shell(home: &Home, path: &str, line: &str) -> Done {
    let given = home.command(&[]);
    let mut command = std::process::Command::new("/bin/sh");
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", path).env("HOME", home.path()).env_remove("LESSOR_RUN").args(["-c", line]);
    feed(command, "")
}

#[test]
fn plain_claude_runs_through_lessor_until_it_is_uninstalled() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let bin = home.path().join("bin");
    program(&bin, "claude", "echo \"claude $ANTHROPIC_AUTH_TOKEN $*\"; exit 3");
    let behind = format!("{}:{SYSTEM}", bin.display());
    let own = home.path().join("data/bin");
    let installed = run(&home, &behind, &["alias", "install"]).ok();
    let line = format!("export PATH='{}':\"$PATH\"", own.display());
    installed.says(&line).says("claude ").says("~/.bashrc");
    let path = format!("{}:{behind}", own.display());
    let done = shell(&home, &path, "claude -p 'a b'").exits(3);
    assert!(done.out.starts_with("claude lk_") && done.out.ends_with(" -p a b\n"), "{done:?}");
    // what sends no request needs no account
    assert_eq!(shell(&home, &path, "claude --version").exits(3).out, "claude  --version\n");
    // two directories of aliases in front of each other
    let other = home.path().join("other");
    run(&home, &behind, &["alias", "install", "claude", "--dir", other.to_str().unwrap()]).ok();
    let twice = format!("{}:{path}", other.display());
    assert!(shell(&home, &twice, "claude x").exits(3).out.starts_with("claude lk_"));
    assert!(run(&home, &twice, &["run", "claude", "--", "-x"]).exits(3).out.starts_with("claude lk_"));
    let listed: Value = serde_json::from_str(&run(&home, &path, &["alias", "list", "--json"]).ok().out).unwrap();
    let works: Vec<_> = listed["aliases"].as_array().unwrap().iter().map(|alias| alias["works"].clone()).collect();
    assert_eq!(works, [true, false], "{listed}");
    let theirs = program(&other, "codex", "echo mine");
    run(&home, &path, &["alias", "uninstall"]).ok().says("removed ");
    assert!(!own.exists() && !other.join("claude").exists() && theirs.exists());
    run(&home, &path, &["alias", "list"]).ok().says("no aliases");
    run(&home, &path, &["alias", "uninstall"]).ok().says("nothing to remove");
}

#[test]
fn no_file_of_another_program_is_replaced_or_removed() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let bin = home.path().join("bin");
    let theirs = program(&bin, "claude", "echo theirs");
    let path = format!("{}:{SYSTEM}", bin.display());
    let directory = bin.to_str().unwrap();
    run(&home, &path, &["alias", "install", "claude", "--dir", directory]).exits(1).complains("is not lessor's");
    run(&home, &path, &["alias", "uninstall", "--dir", directory]).ok().says("nothing to remove");
    assert!(std::fs::read_to_string(theirs).unwrap().contains("theirs"));
    run(&home, &path, &["alias", "install", "vim"]).exits(2).complains("claude, codex, gemini");
    run(&home, &path, &["alias", "uninstall", "vim"]).exits(2).complains("claude, codex, gemini");
    let with_provider = |agent, provider| run(&home, &path, &["alias", "install", agent, "--provider", provider]);
    with_provider("claude", "anthropic").exits(2).complains("for opencode only").complains("omit --provider");
    with_provider("opencode", "nowhere").exits(2).complains("there is no provider \"nowhere\"");
    run(&home, SYSTEM, &["alias", "install"]).exits(1).complains("no agent is installed");
}

#[test]
fn an_agent_starts_without_a_lessor_that_works() {
    let home = Home::with_keys(&[("anthropic", "work"), ("openai", "other")]);
    let bin = home.path().join("bin");
    for agent in ["claude", "gemini", "opencode", "agy"] {
        program(&bin, agent, "echo \"real $ANTHROPIC_AUTH_TOKEN $*\"");
    }
    let behind = format!("{}:{SYSTEM}", bin.display());
    run(&home, &behind, &["alias", "install", "opencode"]).exits(2).complains("--provider anthropic");
    run(&home, &behind, &["alias", "install"]).ok().complains("left out: opencode");
    run(&home, &behind, &["alias", "install", "opencode", "--provider", "openai"]).ok();
    let own = home.path().join("data/bin");
    let path = format!("{}:{behind}", own.display());
    // there is no account for it
    let done = shell(&home, &path, "gemini -p x").ok();
    assert_eq!((done.out.as_str(), done.err.lines().count()), ("real  -p x\n", 1), "{done:?}");
    done.complains("gemini runs without lessor");
    shell(&home, &path, "opencode run x").ok().says("real ");
    // the gateway does not serve https, which it needs
    let done = shell(&home, &path, "agy -p x").ok();
    done.says("real  -p x").complains("agy runs without lessor: lessor config set gateway.tls true");
    // a script from when there was one provider
    let file = own.join("opencode");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(" --provider openai", "")).unwrap();
    let done = shell(&home, &path, "opencode run x").ok();
    let done = done.says("real ").complains("lessor alias install opencode --provider PROVIDER");
    assert!(!done.err.contains("-p:"), "an option of `run`: {done:?}");
    // its daemon cannot start
    home.run(&["stop"]).ok();
    std::fs::write(home.path().join("config.toml"), "nonsense = 1\n").unwrap();
    let done = shell(&home, &path, "claude -p x").ok();
    assert_eq!((done.out.as_str(), done.err.lines().count()), ("real  -p x\n", 1), "{done:?}");
    std::fs::write(home.path().join("config.toml"), "").unwrap();
    // it is broken, or gone; `lessor` itself does not come first under the name of the agent
    for lessor in ["/nonexistent/lessor", "/bin/false"] {
        let file = own.join("claude");
        let text = std::fs::read_to_string(&file).unwrap();
        let changed: Vec<String> = text
            .lines()
            .map(|line| if line.starts_with("lessor=") { format!("lessor='{lessor}'") } else { line.to_owned() })
            .collect();
        std::fs::write(&file, changed.join("\n") + "\n").unwrap();
        let done = shell(&home, &format!("{0}:{path}", own.display()), "claude -p 'x y'").ok();
        assert_eq!((done.out.as_str(), done.err.lines().count()), ("real  -p x y\n", 1), "{done:?}");
        let broken = run(&home, &path, &["doctor", "--json"]);
        let findings: Value = serde_json::from_str(&broken.out).unwrap();
        let found = findings["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["about"] == "alias" && finding["subject"] == file.to_str().unwrap());
        assert!(found.is_some_and(|found| found["message"].as_str().unwrap().contains(lessor)), "{findings}");
    }
    run(&home, &path, &["alias", "install", "claude"]).ok();
    let said = |path: &str| run(&home, path, &["doctor"]).out;
    assert!(said(&path).contains("run through lessor (lessor alias): claude"), "{}", said(&path));
    let all = said(&behind);
    assert!(all.contains("is not in the PATH"), "{all}");
    assert_eq!(all.matches("not run through lessor").count(), 1, "one remedy for all of them: {all}");
    let later = format!("{behind}:{}", own.display());
    assert!(said(&later).contains("comes first in the PATH"), "{}", said(&later));
    std::fs::remove_file(bin.join("claude")).unwrap();
    assert!(said(&path).contains("claude is not installed"), "{}", said(&path));
    shell(&home, &path, "claude x").exits(127).complains("claude: not found");
}
