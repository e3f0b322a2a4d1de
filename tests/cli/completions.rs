//! `completions`: what bash inserts, with the names of the accounts and leases of now.

use std::process::Command;

use super::support::{Home, PROGRAM, feed};

/// What the script for bash offers at the end of a line; `replaced` is the part that bash would replace.
fn offered(home: &Home, line: &str, replaced: &str) -> Vec<String> {
    let script = "eval \"$(lessor completions bash)\"; COMP_LINE=$1 COMP_POINT=${#1}; _lessor lessor \"$2\" x; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash", line, replaced]).env("LESSOR_HOME", home.path());
    let directory = std::path::Path::new(PROGRAM).parent().unwrap();
    command.env("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()));
    command.env_remove("LESSOR_SOCKET").env_remove("LESSOR_CONFIG");
    let done = feed(command, "").ok();
    assert_eq!(done.err, "", "{line}");
    done.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_accounts_leases_and_keys_and_quotes_them() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    for (provider, label) in [("anthropic", "it's $HOME"), ("openai", "a@b.c")] {
        home.feed(&["account", "add", provider, "--api-key-stdin", "--label", label], "sk-canary-key\n").ok();
    }
    let id = home.run(&["acquire", "anthropic", "--ttl", "10m"]).ok().says("work").out;
    let id = id.lines().find_map(|line| line.strip_prefix("lease")).unwrap().trim();
    assert_eq!(offered(&home, "lessor account show ", ""), ["work", r"it\'s\ \$HOME", "a@b.c"]);
    assert_eq!(offered(&home, "lessor account show 'it", "it"), [r"it'\''s $HOME"]);
    // bash splits at `@`
    assert_eq!(offered(&home, "lessor run --account a@b", "b"), ["b.c"]);
    assert_eq!(offered(&home, "lessor acquire anthropic --exclude=wo", "wo"), ["work"]);
    let leases = offered(&home, "lessor release ", "");
    assert!(leases.len() == 1 && id.starts_with(&leases[0]), "{leases:?} {id}");
    home.run(&["release", &leases[0]]).ok();
    assert_eq!(offered(&home, "lessor config get leases.per_", "leases.per_"), ["leases.per_account"]);
    assert!(
        offered(&home, "lessor config set accounts.work.", "accounts.work.").contains(&"accounts.work.use".to_owned())
    );
    assert_eq!(offered(&home, "lessor config set selection.strategy stic", "stic"), ["sticky"]);
    assert_eq!(offered(&home, "lessor man account cl", "cl"), ["clear-limits"]);
    assert!(offered(&home, "lessor acquire ", "").contains(&"google".to_owned()));
    assert_eq!(offered(&home, "lessor alias install ag", "ag"), ["agy"]);
    // no secret is offered anywhere
    assert!(offered(&home, "lessor account set work sk-", "sk-").is_empty());
}

#[test]
fn without_a_daemon_nothing_is_named_and_none_is_started() {
    let home = Home::new();
    assert!(offered(&home, "lessor account show w", "w").is_empty());
    assert_eq!(offered(&home, "lessor stat", "stat"), ["status", "statusline"]);
    assert!(!home.places().lock.exists() && !home.places().state.exists());
}

/// A command that would leave a trace, were a shell to run it.
const HOSTILE: &str = "a $(touch traced) `touch traced` \"b\" 'c'; touch traced";

/// A home with an account of this label, and a directory in which a shell runs.
fn hostile_home() -> (Home, tempfile::TempDir) {
    let home = Home::new();
    home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", HOSTILE], "sk-canary-key\n").ok();
    (home, tempfile::tempdir().unwrap())
}

/// Runs a shell's script with the program in its path; `None` if the shell is not installed.
fn in_shell(home: &Home, directory: &std::path::Path, shell: &[&str]) -> Option<String> {
    let mut command = Command::new(shell[0]);
    let program = std::path::Path::new(PROGRAM).parent().unwrap();
    command.args(&shell[1..]).current_dir(directory).env("LESSOR_HOME", home.path()).env("HOME", directory);
    command.env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()));
    command.env_remove("LESSOR_SOCKET").env_remove("LESSOR_CONFIG").stdin(std::process::Stdio::null());
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => Some(String::from_utf8(output.unwrap().stdout).unwrap()),
    }
}

#[test]
fn no_shell_runs_a_label_that_it_completes() {
    let (home, directory) = hostile_home();
    let bash = "eval \"$(lessor completions bash)\"; COMP_LINE='lessor account show a' COMP_POINT=21; \
                _lessor lessor a show; eval \"set -- ${COMPREPLY[0]}\"; printf %s \"$#:$1\"";
    // the first is the label, another the id of the account
    let fish = "lessor completions fish | source; complete -C 'lessor account show a' | string split -f 1 \\t | head -n 1; \
                eval set -l word (complete --escape -C 'lessor account show a' | string split -f 1 \\t | head -n 1); \
                echo (count $word):$word";
    if let Some(found) = in_shell(&home, directory.path(), &["bash", "--norc", "-c", bash]) {
        assert_eq!(found, format!("1:{HOSTILE}"));
    }
    if let Some(found) = in_shell(&home, directory.path(), &["fish", "--no-config", "-c", fish]) {
        assert_eq!(found, format!("{HOSTILE}\n1:{HOSTILE}\n"));
    }
    // zsh quotes what `_describe` is given when it inserts it
    let zsh = "autoload -Uz compinit && compinit -u -d ./dump; eval \"$(lessor completions zsh)\"; \
               _describe() { local name; for name in \"${@:3:1}\"; do print -r -- \"${(P@)name}\"; done; }; \
               words=(lessor account show a) CURRENT=4 PREFIX=a; _lessor";
    if let Some(found) = in_shell(&home, directory.path(), &["zsh", "-f", "-c", zsh]) {
        assert!(found.starts_with(HOSTILE), "{found}");
    }
    let traced: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!traced.iter().any(|name| name == "traced"), "{traced:?}");
}
