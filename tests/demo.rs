//! The demo succeeds, serves programs of one's own, and leaves no file or process behind.

#[cfg(unix)]
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn demo(temporary: &Path, seconds: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.args(["demo", "--agents", "6", "--accounts", "3", "--seconds", seconds]);
    command
        .env("TMPDIR", temporary)
        .env("TMP", temporary)
        .env("TEMP", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `demo --serve` with these arguments.
#[cfg(unix)]
fn serve(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.args(["demo", "--serve"]).args(arguments).env("TMPDIR", temporary).env("LESSOR_CONFIG", "/nowhere");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// Processes that work in `directory`.
#[cfg(target_os = "linux")]
fn processes_in(directory: &Path) -> usize {
    let wanted = format!("LESSOR_HOME={}", directory.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&wanted)
        })
        .count()
}

#[test]
fn a_short_demo_succeeds() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), "4").arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["most_agents_on_one_key"], 1);
    assert_eq!(found["idle_while_waited_ms"], 0);
    assert!(found["requests"].as_u64().unwrap() > 20, "{found}");
    // the provider refused requests of the agents, and the gateway absorbed all of that
    assert!(found["limits_met"].as_u64().unwrap() > 0, "{found}");
    assert_eq!((&found["limits_seen_by_agents"], &found["shared_accounts"]), (&0.into(), &0.into()), "{found}");
    assert!(found["quota_used"].as_f64().unwrap() <= 1.0, "{found}");
    assert_eq!(found["failures"], serde_json::json!([]));
    assert_eq!(found["by_account"].as_array().unwrap().len(), 3);
    assert!(found["agent_killed_ms"].as_f64().is_some(), "{found}");
    assert!(is_empty(temporary.path()), "the home is still there");
    #[cfg(target_os = "linux")]
    assert_eq!(processes_in(temporary.path()), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_demo_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path(), "60").spawn().unwrap();
    // its line, which it prints once a second, appears when the agents work
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("requests served")));
    // the others start later, and the daemon shows its own environment to root only
    assert!(processes_in(temporary.path()) >= 2, "the first two agents");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(is_empty(temporary.path()), "the home is still there");
    assert_eq!(processes_in(temporary.path()), 0);
}

#[cfg(unix)]
#[test]
fn accounts_are_served_until_the_input_ends() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = serve(temporary.path(), &["--accounts", "2", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let served: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(served["accounts"], serde_json::json!(["account-1", "account-2"]), "{served}");
    assert!(served["gateway"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{served}");
    let listed = Command::new(env!("CARGO_BIN_EXE_lessor"))
        .args(["account", "list", "--json", "--no-start"])
        .env("LESSOR_HOME", served["home"].as_str().unwrap())
        .env("LESSOR_SOCKET", served["socket"].as_str().unwrap())
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|account| account["provider"] == served["provider"]), "{listed}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(is_empty(temporary.path()), "the home is still there");
}

#[cfg(unix)]
#[test]
fn a_command_gets_the_variables_and_its_exit_code_is_the_demos() {
    let temporary = tempfile::tempdir().unwrap();
    // a daemon that was killed, and one that the next command starts, leave nothing either
    let script = "lessor token anthropic && kill -9 $(lessor ping --json | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/') && \
                  lessor ping >&2 && echo $LESSOR_CONFIG$ANTHROPIC_BASE_URL && exit 7";
    let output = serve(temporary.path(), &["--accounts", "1", "--", "sh", "-c", script]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{text}{errors}");
    assert!(text.starts_with("sim-key-00\nhttp://127.0.0.1:"), "{text}{errors}");
    assert!(is_empty(temporary.path()), "the home is still there");
    #[cfg(target_os = "linux")]
    assert_eq!(processes_in(temporary.path()), 0);
}

/// Runs an example from the directory of the source; `None` if a program that it needs is not installed.
#[cfg(unix)]
fn shell_example(temporary: &Path, options: &[&str], example: &[&str]) -> Option<(String, i32)> {
    for program in ["bash", "curl", "jq", "xargs"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: {program} is not installed");
            return None;
        }
    }
    let mut command = serve(temporary, &[options, &["--"], example].concat());
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(is_empty(temporary), "the home is still there");
    Some((text, output.status.code().unwrap()))
}

#[cfg(unix)]
#[test]
fn the_shell_example_of_a_lease_moves_on_at_a_limit() {
    let temporary = tempfile::tempdir().unwrap();
    let options = ["--accounts", "2", "--quota", "2,100", "--window", "600"];
    let ran = shell_example(temporary.path(), &options, &["examples/shell/lease.sh", "4"]);
    let Some((text, code)) = ran else { return };
    let lines: Vec<&str> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["1. account-1", "2. account-1", "a limit", "3. account-2", "4. account-2"], "{text}");
    assert_eq!(code, 0);
}

#[cfg(unix)]
#[test]
fn the_shell_orchestrator_finishes_all_tasks_through_limits() {
    let temporary = tempfile::tempdir().unwrap();
    let options = ["--accounts", "3", "--quota", "1,1,100", "--window", "600"];
    let ran = shell_example(temporary.path(), &options, &["examples/shell/orchestrator.sh", "6"]);
    let Some((text, code)) = ran else { return };
    let mut tasks: Vec<&str> = text.lines().filter(|line| line.ends_with("Hello from the demo.")).collect();
    tasks.sort_unstable();
    assert_eq!((tasks.len(), tasks[0], tasks[5], code), (6, "1. Hello from the demo.", "6. Hello from the demo.", 0));
    assert!(text.contains("3 agents\n"), "{text}");
}
