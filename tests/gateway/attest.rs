//! The agent that a client states is compared with the program behind its connection (`attest`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{TestGateway, messages};
use crate::support::{Client, wait_until};
use crate::upstream::Upstream;

const STRICT: &str = "[accounts.work]\nattest = \"strict\"\n";
const STAND_IN: &str = "LESSOR_TEST_STAND_IN";
/// Where packages of npm are.
const NATIVE: &str = "node_modules/@anthropic-ai/claude-code/bin/claude";
const SCRIPT: &str = "node_modules/@anthropic-ai/claude-code/cli.sh";
/// 2100.
const FAR: u64 = 4_102_444_800_000;

/// Not a test: a program of these tests runs this. It sends what it reads, to a port or a socket, and prints the answer.
#[test]
fn stand_in() {
    if std::env::var_os(STAND_IN).is_none() {
        return;
    }
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (place, text) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> = serde_json::from_str::<String>(text).unwrap().into_bytes();
        let answer = match place.parse::<u16>() {
            Ok(port) => exchange(TcpStream::connect(("127.0.0.1", port)).unwrap(), &bytes),
            Err(_) => exchange(UnixStream::connect(place).unwrap(), &bytes),
        };
        println!("\nanswer {}", json!(answer));
    }
}

/// Sends bytes, and reads one line of JSON, or an HTTP response of known length.
fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    if text.starts_with("HTTP/") {
        let mut length = 0;
        while !text.ends_with("\r\n\r\n") {
            let from = text.len();
            assert!(reader.read_line(&mut text).unwrap() > 0, "{text}");
            if let Some(stated) = text[from..].to_lowercase().strip_prefix("content-length:") {
                length = stated.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        text.push_str(&String::from_utf8(body).unwrap());
    }
    text
}

/// A running program, and the directory that it is installed in.
struct Program {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Program {
    /// This test's own executable, installed at a path.
    fn native(path: &str) -> Self {
        let (directory, path) = installed(path);
        Self::start(Command::new(&path), directory, path)
    }

    /// A script at a path, which runs the executable as its child.
    fn script(path: &str) -> Self {
        let (directory, native) = installed("tool");
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n'{}' \"$@\"\nexit 0\n", native.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new("sh");
        command.arg(&path);
        Self::start(command, directory, native)
    }

    fn start(mut command: Command, directory: tempfile::TempDir, path: PathBuf) -> Self {
        command.args(["--exact", "attest::stand_in", "--nocapture"]).env(STAND_IN, "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers, path: path.canonicalize().unwrap(), _directory: directory }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn send(&mut self, place: &str, bytes: &[u8]) -> String {
        let text = json!(std::str::from_utf8(bytes).unwrap());
        writeln!(self.child.stdin.as_mut().unwrap(), "{place} {text}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the program has ended");
            if let Some(answer) = line.strip_prefix("answer ") {
                return serde_json::from_str(answer).unwrap();
            }
        }
    }

    /// A messages request; returns the status and all of the answer.
    fn ask(&mut self, place: &str, key: &str) -> (u16, String) {
        let answer = self.send(place, &messages(key, r#"{"model":"claude-sonnet-4-5","messages":[]}"#));
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// A call on the lease socket.
    fn call(&mut self, gateway: &TestGateway, method: &str, params: &Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.send(gateway.home.socket().to_str().unwrap(), format!("{call}\n").as_bytes());
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// The executable of these tests at a path below a new directory, which is on the same disk.
fn installed(path: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let own = std::env::current_exe().unwrap();
    if std::fs::hard_link(&own, &path).is_err() {
        std::fs::copy(&own, &path).unwrap();
    }
    (directory, path)
}

/// A gateway with one login, `work`.
fn gateway(config: &str) -> TestGateway {
    let gateway = TestGateway::with(config, "", Upstream::by_key(|_| (200, "", "{}")));
    let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": "t-1", "refresh_token": "r-1",
        "expires_at": FAR, "label": "work" });
    gateway.home.client().call("account.add", account);
    gateway
}

/// The key of a lease that claims to be claude and belongs to this process.
fn key_of(client: &mut Client, pid: u32) -> String {
    let lease = client.call(
        "lease.acquire",
        json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": pid }, "credential": false, "wait_ms": 0 }),
    );
    client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned()
}

fn socket(gateway: &TestGateway) -> String {
    gateway.home.socket().with_file_name("gateway.sock").to_str().unwrap().to_owned()
}

fn refusal(program: &Path) -> String {
    let program = program.display();
    format!("the account work is for claude (attest = strict); the program behind the connection is {program}")
}

#[test]
fn a_strict_account_is_not_for_a_program_that_only_claims_to_be_the_agent() {
    let gateway = gateway(STRICT);
    let mut client = gateway.home.client();
    let mut program = Program::native("other/tool");
    let why = refusal(&program.path);
    let keys = [
        key_of(&mut client, program.pid()),
        client.call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned(),
    ];
    for key in keys {
        for place in [gateway.port.to_string(), socket(&gateway)] {
            let (status, answer) = program.ask(&place, &key);
            assert!(status >= 400 && answer.contains(&why), "{place}: {answer}");
        }
    }
    let acquire = json!({ "provider": "anthropic", "agent": "claude", "wait_ms": 0 });
    for bind in [json!("connection"), json!({ "pid": program.pid() })] {
        let mut acquire = acquire.clone();
        acquire["bind"] = bind;
        for method in ["lease.acquire", "lease.token"] {
            let answer = program.call(&gateway, method, &acquire);
            let is_bound = acquire["bind"].is_object();
            if method == "lease.token" && !is_bound {
                continue;
            }
            assert_eq!(answer["error"]["message"], why, "{method}: {answer}");
            assert_eq!(answer["error"]["data"]["kind"], "not_allowed", "{answer}");
        }
    }
    let explained = client.call("explain", json!({}));
    assert_eq!(explained["decided"]["message"], why, "{explained}");
    assert_eq!(explained["candidates"][0]["note"], why, "{explained}");
}

#[test]
fn a_lease_without_its_credential_is_checked_when_the_credential_is_asked_for() {
    let gateway = gateway(STRICT);
    let mut other = Program::native("other/tool");
    let mut genuine = Program::native(NATIVE);
    let mut client = gateway.home.client();
    let lease = client.call(
        "lease.acquire",
        json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": std::process::id() }, "credential": false }),
    );
    let reference = json!({ "lease": lease["lease"] });
    for _ in 0..2 {
        let refused = other.call(&gateway, "lease.credential", &reference);
        assert_eq!(refused["error"]["message"], refusal(&other.path), "{refused}");
        assert!(other.call(&gateway, "lease.renew", &reference)["result"]["credential"].is_null());
        let handed = genuine.call(&gateway, "lease.credential", &reference);
        assert_eq!(handed["result"]["secret"], "t-1", "{handed}");
        assert_eq!(genuine.call(&gateway, "lease.renew", &reference)["result"]["credential"]["secret"], "t-1");
    }
}

#[test]
fn the_agent_itself_and_what_it_starts_get_a_strict_account() {
    let gateway = gateway(STRICT);
    let mut client = gateway.home.client();
    let lasting = client.call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned();
    for (mut program, is_itself) in [(Program::native(NATIVE), true), (Program::script(SCRIPT), false)] {
        let key = key_of(&mut client, program.pid());
        for place in [gateway.port.to_string(), socket(&gateway)] {
            let (status, answer) = program.ask(&place, &key);
            assert_eq!(status, 200, "{answer}");
            assert!(answer.contains("x-lessor-account: work"), "{answer}");
            // without a lease, the program itself counts
            assert_eq!(program.ask(&place, &lasting).0 == 200, is_itself);
        }
        let acquire = json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": program.pid() } });
        let lease = program.call(&gateway, "lease.acquire", &acquire);
        assert_eq!(lease["result"]["credential"]["secret"], "t-1", "{lease}");
    }
}

#[test]
fn another_program_with_a_lease_s_key_does_not_take_the_lease_along() {
    let gateway = gateway(STRICT);
    let mut client = gateway.home.client();
    let mut genuine = Program::native(NATIVE);
    let key = key_of(&mut client, genuine.pid());
    let account = json!({ "provider": "anthropic", "kind": "api_key", "secret": "k-spare", "label": "spare" });
    client.call("account.add", account);
    let port = gateway.port.to_string();
    let mut other = Program::native("other/tool");
    for _ in 0..2 {
        assert!(genuine.ask(&port, &key).1.contains("x-lessor-account: work"));
        let (status, answer) = other.ask(&port, &key);
        assert!(status == 200 && answer.contains("x-lessor-account: spare"), "{answer}");
    }
    let leases = client.call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 1, "a request's own lease ends with it: {leases}");
}

#[test]
fn another_program_moves_a_lease_between_strict_accounts_but_gets_no_credential() {
    let gateway = gateway(&format!("{STRICT}[accounts.other]\nattest = \"strict\"\n"));
    let mut client = gateway.home.client();
    let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": "t-2", "refresh_token": "r-2",
        "expires_at": FAR, "label": "other" });
    client.call("account.add", account);
    let mut genuine = Program::native(NATIVE);
    // the lease of a program that starts agents
    let acquire = json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": std::process::id() },
        "credential": false });
    let lease = client.call("lease.acquire", acquire);
    let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 3_600_000 });
    let moved = client.call("lease.report", report);
    assert_eq!(moved["action"], "switch", "{moved}");
    assert_ne!(moved["lease"]["account"]["label"], lease["account"]["label"], "{moved}");
    assert!(moved["lease"]["credential"].is_null(), "{moved}");
    let reference = json!({ "lease": moved["lease"]["lease"] });
    assert!(genuine.call(&gateway, "lease.credential", &reference)["result"]["secret"].is_string());
}

#[test]
fn the_configuration_names_further_programs() {
    let mut program = Program::native("other/tool");
    let programs = json!([program.path]);
    let gateway = gateway(&format!("{STRICT}[agents.claude]\nprograms = {programs}\n"));
    let key = key_of(&mut gateway.home.client(), program.pid());
    let (status, answer) = program.ask(&gateway.port.to_string(), &key);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_declared_account_warns_once_for_each_program() {
    let gateway = gateway("");
    let mut client = gateway.home.client();
    let mut genuine = Program::native(NATIVE);
    let key = key_of(&mut client, genuine.pid());
    let port = gateway.port.to_string();
    assert_eq!(genuine.ask(&port, &key).0, 200);
    let mut other = Program::native("other/tool");
    let name = other.path.display().to_string();
    for place in [port.clone(), port, socket(&gateway)] {
        assert_eq!(other.ask(&place, &key).0, 200);
    }
    let acquire = json!({ "provider": "anthropic", "agent": "claude" });
    assert_eq!(other.call(&gateway, "lease.acquire", &acquire)["result"]["credential"]["secret"], "t-1");
    let warnings = |client: &mut Client| {
        let status = client.call("status", json!({}));
        let all = status["warnings"].as_array().unwrap().clone();
        all.into_iter().filter(|text| text.as_str().unwrap().contains("claims to be claude")).collect::<Vec<_>>()
    };
    wait_until("the difference is noted", || !warnings(&mut client).is_empty());
    let found = warnings(&mut client);
    assert!(found.len() == 1 && found[0].as_str().unwrap().contains(&name), "{found:?}");
    assert_eq!(gateway.home.output().matches("claims to be claude").count(), 1);
    let explained = client.call("explain", json!({ "what": "work" }));
    assert!(explained["candidates"][0]["note"].as_str().is_some_and(|note| note.contains(&name)), "{explained}");
}

/// Without a key, the program at the socket tells which agent it is.
#[test]
fn a_client_of_the_socket_without_a_key_is_the_agent_that_its_program_is() {
    let gateway = gateway("");
    let place = socket(&gateway);
    let request = |path: &str, host: &str| {
        let body = r#"{"model":"claude-sonnet-4-5","messages":[]}"#;
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let of_lessor = request("/anthropic/v1/messages", "x");
    let mut claude = Program::native(NATIVE);
    let answer = claude.send(&place, of_lessor.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-lessor-account: work"), "{answer}");
    // it connects in place of the vendor's host
    let answer = claude.send(&place, request("/v1/messages?beta=true", "api.anthropic.com").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = claude.send(&place, request("/v1/messages", "other.example").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let mut other = Program::native("other/tool");
    let answer = other.send(&place, of_lessor.as_bytes());
    let found = format!("the program at the socket is not recognised as an agent: {}", other.path.display());
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains(&found), "{answer}");
    assert!(answer.contains("lessor account set work use=any"), "{answer}");
    let mut codex = Program::native("node_modules/@openai/codex/bin/codex");
    let answer = codex.send(&place, of_lessor.as_bytes());
    assert!(answer.contains("the program at the socket is codex:"), "{answer}");
    // an account that any program may use
    let key = json!({ "provider": "anthropic", "kind": "api_key", "secret": "k-any", "label": "any" });
    gateway.home.client().call("account.add", key);
    let answer = other.send(&place, of_lessor.as_bytes());
    assert!(answer.contains("x-lessor-account: any"), "{answer}");
    // as every program that the configuration names for the account's agent
    let program = json!(other.path);
    let file = gateway.home.path().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = format!("[agents.claude]\nprograms = [{program}]\n[accounts.any]\nenabled = false\n");
    std::fs::write(&file, format!("{text}\n{more}")).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("the program is known as claude", || {
        other.send(&place, of_lessor.as_bytes()).contains("x-lessor-account: work")
    });
}
