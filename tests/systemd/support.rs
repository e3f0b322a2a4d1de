//! The user's systemd and home directory, emptied for each test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

/// No step takes longer, even on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The temporary user of the tests, and the directories.
pub struct TestUser {
    home: PathBuf,
    runtime: PathBuf,
    program: PathBuf,
    templates: PathBuf,
}

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Its standard output; panics if it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

pub fn run(mut command: Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl TestUser {
    /// Without the files and services of earlier tests.
    pub fn clean() -> Self {
        let variable = |name: &str| {
            let value = std::env::var_os(name);
            PathBuf::from(value.unwrap_or_else(|| panic!("{name} is not set: run these tests with .ci/systemd")))
        };
        let program = variable("LESSOR_BIN");
        let user = Self {
            home: variable("HOME"),
            runtime: variable("XDG_RUNTIME_DIR"),
            program,
            templates: variable("LESSOR_UNITS"),
        };
        user.wipe();
        user
    }

    /// As [`Self::clean`], with the service installed.
    pub fn installed() -> Self {
        let user = Self::clean();
        user.lessor(&["service", "install"]).ok();
        user
    }

    fn wipe(&self) {
        self.lessor(&["service", "uninstall"]).ok();
        self.lessor(&["stop"]).ok();
        for entry in std::fs::read_dir(&self.home).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        }
        self.systemctl(&["daemon-reload"]);
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn templates(&self) -> &Path {
        &self.templates
    }

    pub fn socket(&self) -> PathBuf {
        self.runtime.join("lessor/lessor.sock")
    }

    pub fn units(&self) -> PathBuf {
        self.home.join(".config/systemd/user")
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_remove("LESSOR_BIN").env_remove("LESSOR_UNITS");
        command
    }

    pub fn lessor(&self, arguments: &[&str]) -> Done {
        let mut command = self.command(&self.program);
        command.args(arguments);
        run(command)
    }

    pub fn systemctl(&self, arguments: &[&str]) -> String {
        let mut command = self.command("systemctl");
        command.arg("--user").args(arguments);
        run(command).ok()
    }

    /// A property of the service unit.
    pub fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "lessor.service", "--value", "--property", name]).trim().to_owned()
    }

    /// The matching entries of the user's journal.
    pub fn journal(&self, filters: &[&str]) -> Vec<Value> {
        let mut command = self.command("journalctl");
        command.args(["--quiet", "--output=json"]).args(filters);
        run(command).ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn drop_in(&self, name: &str, text: &str) {
        let directory = self.units().join("lessor.service.d");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), text).unwrap();
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.lessor(&["service", "status", "--json"]).ok()).unwrap()
    }

    /// The process id of the daemon that the client finds.
    pub fn ping(&self) -> u64 {
        let pong: Value = serde_json::from_str(&self.lessor(&["ping", "--json"]).ok()).unwrap();
        pong["pid"].as_u64().unwrap()
    }

    pub fn add(&self, label: &str) {
        self.ping();
        self.client().add(label);
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut command = self.command("systemctl");
            command.args(["--user", "--no-pager", "status", "lessor.socket", "lessor.service"]);
            eprintln!("{}", run(command).out);
        } else {
            self.wipe();
        }
    }
}

/// A connection that speaks JSON lines.
pub struct Client {
    pub stream: UnixStream,
    lines: BufReader<UnixStream>,
}

/// A call as a line of JSON.
pub fn ask(id: u32, method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { lines: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn send(&mut self, method: &str, params: &Value) {
        self.stream.write_all(ask(1, method, params).as_bytes()).unwrap();
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, &params);
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{method}: {error}: {line:?}"));
        assert!(answer["error"].is_null(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    pub fn pid(&mut self) -> u32 {
        self.call("hello", json!({}))["pid"].as_u64().unwrap().try_into().unwrap()
    }

    pub fn add(&mut self, label: &str) {
        let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary", "label": label });
        self.call("account.add", params);
    }

    /// Reads until the daemon closes the connection.
    pub fn read_to_end(&mut self) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|read| read > 0) {}
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Checks the condition until it holds; panics after [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
