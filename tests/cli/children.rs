//! Agents that the command of `run` starts: each gets a lease and an environment of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::support::{Done, Home, PROGRAM, eventually, feed};

/// A home whose `bin` directory has stand-ins for agents.
struct Stage {
    home: Home,
}

/// Prints the agent's name and what decides which account it uses, and waits until it may end.
const AGENT: &str = r#"
name=${0##*/}
leases=$("$LESSOR" leases --json)
echo "$name $$ ${ANTHROPIC_AUTH_TOKEN:-$ANTHROPIC_API_KEY} $OPENAI_API_KEY $*" >>"$OUT/$name.$$"
while [ -e "$OUT/hold" ]; do sleep 0.02; done
"#;

impl Stage {
    fn new(accounts: &[(&str, &str)], config: &str) -> Self {
        let home = Home::new();
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        for (provider, label) in accounts {
            let key = format!("sk-canary-{label}");
            home.feed(&["account", "add", provider, "--api-key-stdin", "--label", label], &key).ok();
        }
        let stage = Self { home };
        std::fs::create_dir_all(stage.out()).unwrap();
        stage
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.home.path().join("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        path
    }

    fn with_agents(self, names: &[&str]) -> Self {
        for name in names {
            self.program(name, AGENT);
        }
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        let bin = self.home.path().join("bin");
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.env("OUT", self.out()).env("LESSOR", PROGRAM).env("HOME", self.home.path());
        for name in ["LESSOR_RUN", "CLAUDE_CODE_PROCESS_WRAPPER"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        feed(self.command(&[&["run"], args].concat()), "")
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(&[&["run"], args].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What stand-ins have written: name, process, keys of anthropic and openai, arguments.
    fn started(&self, name: &str) -> Vec<Vec<String>> {
        let files = std::fs::read_dir(self.out()).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|file| file.file_stem().is_some_and(|stem| stem == name));
        let read = |file: PathBuf| std::fs::read_to_string(file).unwrap();
        let mut started: Vec<_> =
            files.map(|file| read(file).trim_end().split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        started.retain(|line| line.len() > 3);
        started
    }

    fn hold(&self) {
        std::fs::write(self.out().join("hold"), "").unwrap();
    }

    fn let_go(&self) {
        std::fs::remove_file(self.out().join("hold")).unwrap();
    }

    /// The leases: provider, account, agent, holder.
    fn leases(&self) -> Vec<(String, String, String, u64)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |row: &Value| {
            let pid = row["holder"]["pid"].as_u64().unwrap_or_default();
            (text(&row["provider"]), text(&row["account"]["label"]), text(&row["agent"]), pid)
        };
        self.home.json(&["leases"]).as_array().unwrap().iter().map(row).collect()
    }
}

fn done(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn distinct(accounts: impl IntoIterator<Item = String>) -> usize {
    accounts.into_iter().collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn each_agent_of_a_script_leases_an_account_of_its_own_provider() {
    let accounts = [("anthropic", "a1"), ("anthropic", "a2"), ("anthropic", "a3"), ("openai", "o1")];
    let stage = Stage::new(&accounts, "").with_agents(&["claude", "codex", "opencode"]);
    let fleet =
        stage.program("fleet.sh", "claude -p one & claude -p two & opencode run three & codex exec four & wait");
    stage.hold();
    let child = stage.start(&["anthropic", "--label", "fleet", "--", fleet.to_str().unwrap()]);
    let names = ["claude", "claude", "opencode", "codex"];
    eventually("all agents have started", || {
        ["claude", "opencode", "codex"].iter().map(|name| stage.started(name).len()).sum::<usize>() == names.len()
    });
    let leases = stage.leases();
    let of = |provider: &str| leases.iter().filter(|lease| lease.0 == provider).collect::<Vec<_>>();
    assert_eq!(distinct(of("anthropic").iter().map(|lease| lease.1.clone())), 3, "{leases:?}");
    assert_eq!(of("openai").len(), 1, "{leases:?}");
    assert_eq!(leases.len(), 4, "one of the agents uses the script's lease: {leases:?}");
    let script = leases.iter().find(|lease| lease.2 == "fleet.sh").unwrap();
    assert_eq!(script.3, u64::from(child.id()), "the script keeps its own");
    let labels = stage.home.json(&["leases"]);
    assert!(labels.as_array().unwrap().iter().all(|lease| lease["label"] == "fleet"), "{labels}");
    let codex = &stage.started("codex")[0];
    assert!(codex[3].starts_with("lk_") && codex[4..].join(" ").contains("model_provider="), "{codex:?}");
    assert_eq!(
        distinct(["claude", "opencode"].iter().flat_map(|name| stage.started(name)).map(|line| line[2].clone())),
        3
    );
    stage.let_go();
    let ended = done(child);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "no variable of the outer run is named as a conflict");
    assert!(stage.leases().is_empty());
}

/// With one account that holds one lease, a script with two agents would wait for itself.
#[test]
fn agents_of_a_script_take_turns_on_its_lease_if_there_is_no_other_account() {
    let config = "[leases]\noverflow = \"wait\"\n";
    let stage = Stage::new(&[("anthropic", "only")], config).with_agents(&["claude"]);
    let fleet = stage.program("fleet.sh", "claude -p one & claude -p two & wait; claude -p three; echo over");
    let ended = stage.run(&["anthropic", "--", fleet.to_str().unwrap()]).ok();
    assert_eq!(ended.out, "over\n");
    let started = stage.started("claude");
    assert_eq!(started.len(), 3, "{started:?}");
    assert!(started.iter().all(|line| line[2].starts_with("lk_")), "{started:?}");
    // also with the credential itself
    std::fs::remove_dir_all(stage.out()).unwrap();
    std::fs::create_dir(stage.out()).unwrap();
    stage.run(&["anthropic", "--direct", "--", fleet.to_str().unwrap()]).ok();
    let started = stage.started("claude");
    assert!(started.len() == 3 && started.iter().all(|line| line[2] == "sk-canary-only"), "{started:?}");
}

/// While the first agent runs, a second one that finds no free account waits; it goes on as soon as the first has ended.
#[test]
fn the_second_agent_waits_for_the_first() {
    let config = "[leases]\noverflow = \"wait\"\n";
    let stage = Stage::new(&[("anthropic", "only")], config).with_agents(&["claude"]);
    let fleet = stage.program("fleet.sh", "claude -p one & claude -p two & wait");
    stage.hold();
    let child = stage.start(&["anthropic", "--", fleet.to_str().unwrap()]);
    eventually("one waits while the other runs", || {
        let queue = stage.home.json(&["status"])["queue"].as_array().map_or(0, Vec::len);
        queue == 1 && stage.started("claude").len() == 1
    });
    stage.let_go();
    done(child).ok();
    assert_eq!(stage.started("claude").len(), 2);
    assert!(stage.leases().is_empty() && stage.home.json(&["status"])["queue"] == serde_json::json!([]));
}

#[test]
fn an_agent_that_an_agent_starts_gets_an_account_and_never_waits_for_its_own_parent() {
    let config = "[leases]\noverflow = \"wait\"\n";
    let stage = Stage::new(&[("anthropic", "a1"), ("openai", "o1")], config).with_agents(&["codex"]);
    let parent = "[ \"$1\" = inner ] || { codex exec x; claude inner; }\necho \"claude $$ $ANTHROPIC_AUTH_TOKEN $*\"";
    stage.program("claude", parent);
    let ended = stage.run(&["claude", "--", "-p", "outer"]).ok();
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    let key = |line: &str| line.split(' ').nth(2).unwrap().to_owned();
    assert!(lines.iter().all(|line| key(line).starts_with("lk_")), "{ended:?}");
    assert!(stage.started("codex")[0][3].starts_with("lk_"));
    assert_eq!(ended.err, "");
    // with another account, it gets that one
    stage.home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", "a2"], "sk-canary-2").ok();
    stage.program("claude", "\"$LESSOR\" leases --json >$OUT/leases; [ \"$1\" = inner ] || claude inner");
    stage.run(&["claude", "--", "-p", "outer"]).ok();
    let leases: Value = serde_json::from_slice(&std::fs::read(stage.out().join("leases")).unwrap()).unwrap();
    let accounts = leases.as_array().unwrap().iter().map(|lease| lease["account"]["label"].to_string());
    assert_eq!(distinct(accounts), 2, "{leases}");
}

/// The script may hold no login; the agents that it starts may.
#[test]
fn a_script_whose_accounts_are_logins_goes_on_without_a_lease_of_its_own() {
    let stage = Stage::new(&[], "").with_agents(&["claude"]);
    let login = r#"{"access_token":"at-canary","refresh_token":"rt","expires_at":4070908800000}"#;
    stage.home.feed(&["account", "add", "claude", "--oauth-stdin", "--label", "plan"], login).ok();
    let fleet = stage.program("fleet.sh", "\"$LESSOR\" leases --json >$OUT/own; claude -p x");
    let ended = stage.run(&["claude", "--", fleet.to_str().unwrap()]).ok();
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    ended.complains("lessor: fleet.sh itself gets no account of anthropic");
    assert_eq!(std::fs::read_to_string(stage.out().join("own")).unwrap().trim(), "[]");
    assert_eq!(stage.started("claude").len(), 1);
    assert_eq!(stage.run(&["claude", "--quiet", "--", fleet.to_str().unwrap()]).ok().err, "");
    // an account that only the agent may use is preferred to the script's own
    stage.home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", "key"], "sk-canary-key").ok();
    stage.program("claude", "\"$LESSOR\" leases --json >$OUT/leases");
    stage.run(&["anthropic", "--", fleet.to_str().unwrap()]).ok();
    let leases = std::fs::read_to_string(stage.out().join("leases")).unwrap();
    assert!(leases.contains("\"plan\"") && leases.contains("\"key\""), "{leases}");
}

#[test]
fn a_variable_that_the_script_sets_is_named_and_one_of_the_outer_run_is_not() {
    let stage = Stage::new(&[("anthropic", "a1"), ("anthropic", "a2")], "").with_agents(&["claude", "opencode"]);
    let fleet = stage.program("fleet.sh", "opencode run x; ANTHROPIC_API_KEY=mine claude -p y");
    let ended = stage.run(&["anthropic", "--", fleet.to_str().unwrap()]).ok();
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!(lines.len(), 1, "{ended:?}");
    assert!(lines[0].contains("not passed on") && lines[0].ends_with(": ANTHROPIC_API_KEY"), "{ended:?}");
}

#[test]
fn a_program_that_is_not_there_is_reported_as_by_a_shell() {
    let stage = Stage::new(&[("anthropic", "a1"), ("openai", "o1")], "");
    stage.run(&["anthropic", "--", "sh", "-c", "codex exec x"]).exits(127).complains("codex: not found");
    stage.run(&["claude", "--", "-p", "x"]).exits(127).complains("claude: not found");
    assert!(stage.leases().is_empty());
}

#[test]
fn exit_status_and_signals_are_those_of_the_agent() {
    let stage = Stage::new(&[("anthropic", "a1")], "");
    let claude = stage.program("claude", "case $1 in kill) kill -TERM $$ ;; *) exit 7 ;; esac");
    stage.run(&["anthropic", "--", "sh", "-c", "claude -p; echo $?; claude kill; echo $?"]).ok().says("7\n143\n");
    stage.run(&["anthropic", "--", "sh", "-c", "exec claude kill"]).exits(143);
    stage.run(&["--", claude.to_str().unwrap(), "-p"]).exits(7);
    // the process of the shell becomes the agent
    stage.program("claude", "echo $$");
    let ended = stage.run(&["anthropic", "--", "sh", "-c", "echo $$; exec claude x"]).ok();
    let pids: Vec<&str> = ended.out.lines().collect();
    assert_eq!(pids[0], pids[1]);
}

/// A script of the user's with the agent's name that calls lessor is not started again by lessor.
#[test]
fn a_program_that_starts_lessor_is_not_started_by_it_again() {
    let stage = Stage::new(&[("anthropic", "a1")], "");
    stage.program("behind/claude", "echo real $*");
    stage.program("claude", "exec \"$LESSOR\" run claude -- \"$@\"");
    let mut command = stage.command(&["run", "claude", "--", "-p", "x"]);
    let bin = stage.home.path().join("bin");
    command.env("PATH", format!("{0}:{0}/behind:/usr/bin:/bin", bin.display()));
    let ended = feed(command, "").ok();
    assert_eq!(ended.out, "real -p x\n", "{ended:?}");
}

#[test]
fn several_providers_are_leased_together_and_served_by_one_key() {
    let accounts = [("anthropic", "a1"), ("openai", "o1")];
    let stage = Stage::new(&accounts, "").with_agents(&["codex", "claude"]);
    let script =
        "echo $ANTHROPIC_API_KEY $OPENAI_API_KEY $ANTHROPIC_BASE_URL $OPENAI_BASE_URL; \"$LESSOR\" leases --json";
    let ended = stage.run(&["-p", "openai,anthropic", "--", "sh", "-c", script]).ok();
    let (first, leases) = ended.out.split_once('\n').unwrap();
    let words: Vec<&str> = first.split(' ').collect();
    assert_eq!(words[0], words[1], "{first}");
    assert!(words[2].ends_with("/anthropic") && words[3].ends_with("/openai/v1"), "{first}");
    let leases: Value = serde_json::from_str(leases).unwrap();
    assert_eq!(leases.as_array().unwrap().len(), 2, "{leases}");
    assert!(stage.leases().is_empty());
    // all or nothing
    let ended = stage.run(&["-p", "anthropic,google", "--", "true"]).exits(5);
    ended.complains("google");
    assert!(stage.leases().is_empty());
    let variables = stage.home.json(&["env", "-p", "anthropic,openai", "--label", "x"]);
    assert_eq!(variables["leases"].as_array().unwrap().len(), 2, "{variables}");
    assert!(variables["set"]["OPENAI_API_KEY"].is_string() && variables["set"]["ANTHROPIC_API_KEY"].is_string());
    stage.run(&["-p", "anthropic,openai", "--profile", "--", "claude"]).exits(2).complains("one provider only");
}

#[test]
fn a_command_that_is_no_agent_takes_the_only_provider() {
    let stage = Stage::new(&[("openai", "o1")], "").with_agents(&["opencode"]);
    stage.run(&["--", "printenv", "OPENAI_BASE_URL"]).ok().says("/openai/v1");
    stage.run(&["--", "opencode", "run", "x"]).ok();
    assert_eq!(stage.started("opencode").len(), 1);
}

/// Claude Code calls it with its own command: the process gets a lease of its own, behind the user's launcher.
#[test]
fn processes_of_claude_code_lease_for_themselves() {
    let stage = Stage::new(&[("anthropic", "a1"), ("anthropic", "a2")], "");
    let mine = stage.program("mine", "shift; echo mine; exec \"$@\"");
    let claude = "case $1 in\n--child) echo \"child $ANTHROPIC_AUTH_TOKEN $$ $*\"; \"$LESSOR\" leases --json >$OUT/leases ;;\n\
         --bg-pty-host) echo \"host $$\" ;;\n\
         *) echo \"parent $ANTHROPIC_AUTH_TOKEN\"; echo \"$CLAUDE_CODE_PROCESS_WRAPPER\" >$OUT/launcher\n\
         $CLAUDE_CODE_PROCESS_WRAPPER \"$0\" --child 'a b'; $CLAUDE_CODE_PROCESS_WRAPPER \"$0\" --bg-pty-host x ;;\nesac";
    stage.program("claude", claude);
    let mut command = stage.command(&["run", "claude"]);
    command.env("CLAUDE_CODE_PROCESS_WRAPPER", format!("\"{}\" --flag", mine.display()));
    let ended = feed(command, "").ok();
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[1], "mine", "{ended:?}");
    let (parent, child) = (lines[0].split(' ').nth(1).unwrap(), lines[2].split(' ').nth(1).unwrap());
    assert!(parent.starts_with("lk_") && child.starts_with("lk_") && parent != child, "{ended:?}");
    assert!(lines[2].ends_with(" --child a b"), "{ended:?}");
    assert!(lines[4].starts_with("host "), "{ended:?}");
    let leases = std::fs::read_to_string(stage.out().join("leases")).unwrap();
    assert!(leases.contains("\"a1\"") && leases.contains("\"a2\""), "{leases}");
    // it outlives the run, and works without one
    let launcher = std::fs::read_to_string(stage.out().join("launcher")).unwrap().trim().to_owned();
    assert!(Path::new(&launcher).is_file());
    let mut command = Command::new(&launcher);
    let run = stage.command(&[]);
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.arg(stage.home.path().join("bin/claude")).args(["--child", "later"]);
    feed(command, "").ok().says("child lk_");
    // a spare process would be given the key of another program
    let mut command = stage.command(&["shim", "claude", "--process", "--", "claude", "--bg-pty-host", "s", "--"]);
    command.args([launcher.as_str(), "claude", "--bg-spare", "s"]);
    assert_eq!(feed(command, "").exits(1).out, "");
    assert!(stage.leases().is_empty());
}

/// Claude Code's settings name a launcher, too: in `env`, which overrides the environment, or as `processWrapper`.
#[test]
fn a_launcher_in_the_settings_is_called_behind_lessors() {
    let stage = Stage::new(&[("anthropic", "a1")], "");
    let mine = stage.program("mine", "echo mine; exec \"$@\"").display().to_string();
    // its settings override its environment, and it passes its --settings on
    let claude = "case \"$*\" in *--child*) echo \"child $ANTHROPIC_AUTH_TOKEN\"; exit ;; esac\n\
        [ \"$1\" != --settings ] || CLAUDE_CODE_PROCESS_WRAPPER=$(sed 's/.*_PROCESS_WRAPPER\":\"//; s/\".*//' \"$2\")\n\
        \"$CLAUDE_CODE_PROCESS_WRAPPER\" \"$0\" --child \"$@\"";
    stage.program("claude", claude);
    let settings = stage.home.path().join(".claude/settings.json");
    std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
    for text in [
        serde_json::json!({ "processWrapper": mine }),
        serde_json::json!({ "env": { "CLAUDE_CODE_PROCESS_WRAPPER": mine } }),
    ] {
        std::fs::write(&settings, text.to_string()).unwrap();
        let mut command = stage.command(&["run", "claude"]);
        command.env_remove("CLAUDE_CONFIG_DIR");
        let ended = feed(command, "").ok();
        let lines: Vec<&str> = ended.out.lines().collect();
        assert_eq!(lines.len(), 2, "{text}: {ended:?}");
        assert!(lines[0] == "mine" && lines[1].starts_with("child lk_"), "{text}: {ended:?}");
        assert_eq!(ended.err, "", "{text}");
    }
}

/// A run hands its options to what it starts, and not to the daemon that it starts.
#[cfg(target_os = "linux")]
#[test]
fn the_daemon_is_no_part_of_a_run() {
    let stage = Stage::new(&[("anthropic", "a1")], "");
    stage.home.run(&["stop"]).ok();
    let script = "printenv LESSOR_RUN >/dev/null || exit 1; \"$LESSOR\" stop --yes >/dev/null; \"$LESSOR\" ping --json";
    let ended = stage.run(&["anthropic", "--", "sh", "-c", script]).ok();
    let ping: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    let variables = std::fs::read(format!("/proc/{}/environ", ping["pid"])).unwrap();
    assert!(!String::from_utf8_lossy(&variables).contains("LESSOR_RUN="));
}
