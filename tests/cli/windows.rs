//! What is specific to Windows: the pipe, the lock file, processes, and commands that `run` waits for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Home, PROGRAM, feed};

/// No step takes longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A minimal client: a pipe opened as a file, and JSON lines.
struct Pipe {
    lines: BufReader<File>,
    next: u64,
}

impl Pipe {
    fn open(name: &Path) -> Self {
        Self { lines: BufReader::new(File::options().read(true).write(true).open(name).unwrap()), next: 0 }
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }).to_string();
        self.say(&format!("{line}\n"));
        self.line()
    }

    fn say(&mut self, text: &str) {
        self.lines.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const HOLD: &str = "LESSOR_TEST_HOLD";

/// Not a test: the code of a holder process.
#[test]
fn hold() {
    let Some(name) = std::env::var_os(HOLD) else { return };
    let mut pipe = Pipe::open(Path::new(&name));
    println!("holds {}", pipe.ask("lease.acquire", &json!({ "provider": "anthropic" }))["result"]["lease"]);
    let _until_we_are_ended = std::io::stdin().read_line(&mut String::new());
}

/// A process that holds a lease with its connection.
fn holder(home: &Home) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "windows::hold", "--nocapture"]).env(HOLD, home.places().socket);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.into_iter().any(|line| line.contains("holds \"ls_")), "no lease was printed");
    child
}

#[test]
fn the_pipe_speaks_lines_of_json() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let name = home.places().socket;
    assert!(name.to_str().unwrap().starts_with(r"\\.\pipe\lessor-"), "{name:?}");
    let mut pipe = Pipe::open(&name);
    assert_eq!(pipe.ask("hello", &json!({ "client": "test", "protocol": [1, 1] }))["result"]["protocol"], 1);
    let lease = pipe.ask("lease.acquire", &json!({ "provider": "anthropic" }));
    assert_eq!(lease["result"]["credential"]["secret"], "sk-canary-work");
    assert_eq!(home.json(&["leases"])[0]["bind"], "connection");
    // the lease ends with the last connection
    drop(pipe);
    wait_until("the lease ends with the connection", || home.json(&["leases"]) == json!([]));
    let mut pipe = Pipe::open(&name);
    pipe.say(&format!("{}\n", "x".repeat(300 * 1024)));
    assert_eq!(pipe.line()["error"]["data"]["kind"], "bad_request");
    let mut rest = Vec::new();
    let _closed = pipe.lines.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn leases_end_with_the_process_that_holds_them() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let mut holder = holder(&home);
    assert_eq!(home.json(&["leases"])[0]["holder"]["pid"], holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the lease ends", || home.json(&["leases"]) == json!([]));
    // bound to a process without a connection
    let mut other =
        Command::new("cmd").args(["/c", "pause"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lease = home.json(&["acquire", "anthropic", "--pid", &other.id().to_string()]);
    assert_eq!(home.json(&["leases"])[0]["lease"], lease["lease"]);
    other.kill().unwrap();
    other.wait().unwrap();
    wait_until("the other lease ends", || home.json(&["leases"]) == json!([]));
    home.run(&["acquire", "anthropic", "--pid", &other.id().to_string()]).exits(1);
}

#[test]
fn the_lock_file_names_its_holder_and_is_released_with_it() {
    let home = Home::new();
    let pong = home.json(&["ping"]);
    let said: Value = serde_json::from_str(&std::fs::read_to_string(home.places().lock).unwrap()).unwrap();
    assert_eq!((&said["pid"], &said["socket"]), (&pong["pid"], &json!(home.places().socket)));
    let killed = Command::new("taskkill").args(["/F", "/PID", &pong["pid"].to_string()]).output().unwrap();
    assert!(killed.status.success(), "{killed:?}");
    wait_until("the pipe goes with its daemon", || home.run(&["--no-start", "ping"]).code == 3);
    let next = home.json(&["ping"]);
    assert_ne!(next["pid"], pong["pid"]);
}

#[test]
fn a_lease_bound_to_a_process_survives_the_daemon() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let lease = home.json(&["acquire", "anthropic", "--pid", &std::process::id().to_string()]);
    let timed = home.json(&["acquire", "anthropic", "--ttl", "10m"]);
    home.run(&["stop"]).ok();
    let held = home.json(&["leases"]);
    let held: Vec<&Value> = held.as_array().unwrap().iter().map(|row| &row["fence"]).collect();
    assert_eq!(held, [&lease["fence"], &timed["fence"]]);
}

#[test]
fn run_waits_for_the_command_and_returns_its_exit_code() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let direct = |args: &[&str]| home.run(&[&["run", "--direct"], args].concat());
    direct(&["claude", "--", "cmd", "/c", "echo %ANTHROPIC_API_KEY%& exit 77"]).exits(77).says("sk-canary-work");
    direct(&["claude", "--", "no-such-command"]).exits(127);
    // as npm installs them, recognised by its name
    let agent = home.path().join("claude.cmd");
    std::fs::write(&agent, "@echo key %ANTHROPIC_API_KEY% for %1\r\n").unwrap();
    direct(&["--", home.path().join("claude").to_str().unwrap(), "me"]).ok().says("key sk-canary-work for me");
    assert_eq!(home.json(&["leases"]), json!([]), "all have ended with their commands");
}

/// Without --pid, the lease is bound to the calling program: this test.
#[test]
fn a_lease_is_bound_to_the_calling_program() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let mut shell = Command::new("cmd");
    shell.args(["/c", PROGRAM, "acquire", "anthropic"]).env("LESSOR_HOME", home.path());
    feed(shell, "").ok().says("life     until cli-");
    assert_eq!(home.json(&["leases"])[0]["holder"]["pid"], std::process::id());
}

#[test]
fn an_invalid_pipe_name_is_refused_with_a_valid_one() {
    let home = Home::new();
    let done = home.run(&["--socket", r"C:\here\x.sock", "daemon"]).exits(1);
    done.complains("is not the name of a pipe").complains(r"\\.\pipe\x.sock");
}
