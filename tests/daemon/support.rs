//! A throw-away home with a daemon in it, and the smallest client there can be: a socket and JSON.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lessor::store::{KeyBackend, OpenedStore, Store, StoreHealth, StorePaths};
use serde_json::{Value, json};

/// The longest wait, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// In memory where possible: a sync to a busy disk, and with it the end of a killed daemon, can take longer than a test
/// waits.
pub fn directory() -> tempfile::TempDir {
    let memory = tempfile::Builder::new().prefix("lessor-").tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// A home, and the daemon that runs in it.
pub struct Home {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    runs: usize,
}

impl Home {
    /// With a configuration, without a daemon.
    pub fn new(config: &str) -> Self {
        let directory = directory();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        Self { directory, daemon: None, runs: 0 }
    }

    /// With a daemon that has this many accounts.
    pub fn with_accounts(config: &str, count: usize) -> Self {
        let mut home = Self::new(config);
        home.start();
        let mut client = home.client();
        for number in 0..count {
            client.add(&format!("a{number}"));
        }
        home
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("run/lessor.sock")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
        for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG"] {
            command.env_remove(name);
        }
        command.arg("daemon").env("LESSOR_HOME", self.path()).stdin(Stdio::null());
        // nothing goes out, whatever is configured
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
        command
    }

    /// The file with the daemon's output, of all runs.
    pub fn log(&self) -> PathBuf {
        self.path().join("daemon.log")
    }

    /// The daemon's output so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    pub fn start(&mut self) {
        let command = self.command();
        self.start_as(command);
    }

    /// Starts the daemon by this command, and waits until it serves.
    pub fn start_as(&mut self, command: Command) {
        self.runs_at(&self.socket(), command);
    }

    /// Starts the daemon by this command, and waits until it serves at this socket.
    pub fn runs_at(&mut self, socket: &Path, mut command: Command) {
        self.runs += 1;
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let ready = |home: &Self| std::fs::read_to_string(home.log()).unwrap().matches("ready: ").count() >= home.runs;
        wait_until("the daemon serves", || ready(self) && UnixStream::connect(socket).is_ok());
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Changes what is stored while no daemon runs, as lessor itself writes it: rows that anything else changes count as
    /// damaged.
    pub fn edit_store(&self, work: impl FnOnce(&OpenedStore)) {
        let paths = StorePaths {
            database: self.path().join("data/lessor.db"),
            key: self.path().join("state/key"),
            key_backend: KeyBackend::File,
        };
        let opened = Store::open(&paths, "").unwrap();
        work(&opened);
        assert_eq!(opened.store.close(opened.loaded.clean), StoreHealth::Ok);
    }

    /// Sends SIGTERM; returns the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        signal(self.pid(), rustix::process::Signal::TERM);
        self.daemon.take().unwrap().wait().unwrap().code()
    }

    /// Waits for the daemon's end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let daemon = self.daemon.as_mut().unwrap();
        wait_until("the daemon ends", || daemon.try_wait().unwrap().is_some());
        self.daemon.take().unwrap().wait().unwrap().code()
    }

    pub fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_none())
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _already_dead = daemon.kill();
            let _already_dead = daemon.wait();
        }
    }
}

/// A connection that speaks JSON lines.
pub struct Client {
    pub stream: UnixStream,
    lines: BufReader<UnixStream>,
    next: u64,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        Self::try_connect(socket).unwrap()
    }

    pub fn try_connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { lines: BufReader::new(stream.try_clone()?), stream, next: 0 })
    }

    /// The complete answer.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.try_ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub fn try_ask(&mut self, method: &str, params: &Value) -> std::io::Result<Value> {
        self.send(method, params)?;
        self.receive()
    }

    pub fn send(&mut self, method: &str, params: &Value) -> std::io::Result<()> {
        self.next += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        // in one piece: `writeln!` would send a value bit by bit
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    pub fn receive(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// The result of a call that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, &params);
        assert!(answer["error"].is_null(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// Restarts the daemon, and waits until this connection is closed: connections from then on belong to the next run.
    /// Returns the answer.
    pub fn restart(mut self, drain_ms: u64) -> Value {
        let answer = self.call("daemon.restart", json!({ "drain_ms": drain_ms }));
        self.read_to_end();
        answer
    }

    /// The error kind of a call that must fail.
    pub fn refused(&mut self, method: &str, params: Value) -> String {
        let answer = self.ask(method, &params);
        answer["error"]["data"]["kind"].as_str().unwrap_or_else(|| panic!("{method} {params}: {answer}")).to_owned()
    }

    pub fn add(&mut self, label: &str) {
        let secret = format!("sk-canary-{label}");
        self.call(
            "account.add",
            json!({ "provider": "anthropic", "kind": "api_key", "secret": secret, "label": label }),
        );
    }

    pub fn acquire(&mut self) -> Value {
        self.call("lease.acquire", json!({ "provider": "anthropic" }))
    }

    /// Waits until this many requests are queued.
    pub fn wait_for_queue(&mut self, length: usize) {
        wait_until("the queue is as long", || {
            self.call("status", json!({}))["queue"].as_array().unwrap().len() == length
        });
    }

    /// Everything that is received until the connection is closed.
    pub fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        while self.lines.read_line(&mut text).is_ok_and(|read| read > 0) {}
        text
    }
}

/// A process that holds a lease until it is killed.
pub struct Holder {
    pub child: Child,
    pub label: String,
    /// The child that it started, if any.
    pub grandchild: Option<u32>,
}

const HOLD: &str = "LESSOR_TEST_HOLD";
const HEIR: &str = "LESSOR_TEST_HEIR";

impl Holder {
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, false)
    }

    /// In this directory.
    #[cfg(target_os = "linux")]
    pub fn start_in(home: &Home, directory: &Path) -> Self {
        Self::start_as(home, false, Some(directory))
    }

    /// With `heir`, a child inherits the holder's connection.
    pub fn start_with(home: &Home, heir: bool) -> Self {
        Self::start_as(home, heir, None)
    }

    fn start_as(home: &Home, heir: bool, directory: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "support::hold", "--nocapture"]).env(HOLD, home.socket());
        if heir {
            command.env(HEIR, "1");
        }
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let label = read_value(&mut lines, "label ");
        let grandchild = heir.then(|| read_value(&mut lines, "heir ").parse().unwrap());
        Self { child, label, grandchild }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _already_dead = self.child.wait();
        if let Some(pid) = self.grandchild {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A process that has released its lease and goes on.
pub struct Idler(pub Child);

const IDLE: &str = "LESSOR_TEST_IDLE";

impl Idler {
    pub fn start(socket: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "support::idle", "--nocapture"]).env(IDLE, socket);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        read_value(&mut BufReader::new(child.stdout.take().unwrap()), "idle ");
        Self(child)
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _already_dead = self.0.wait();
    }
}

/// Not a test: an idler runs this.
#[test]
fn idle() {
    let Some(socket) = std::env::var_os(IDLE) else { return };
    let mut client = Client::connect(Path::new(&socket));
    let lease = client.acquire();
    client.call("lease.release", reference(&lease));
    drop(client);
    println!("idle now");
    let _until_we_are_ended = std::io::stdin().read_line(&mut String::new());
}

fn read_value(lines: &mut BufReader<ChildStdout>, what: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the holder ended");
        // the test runner says things before us, without a line's end
        if let Some((_, rest)) = line.split_once(what) {
            return rest.trim().to_owned();
        }
    }
}

/// Not a test: a holder runs this.
#[test]
fn hold() {
    let Some(socket) = std::env::var_os(HOLD) else { return };
    let mut client = Client::connect(Path::new(&socket));
    let lease = client.acquire();
    println!("label {}", lease["account"]["label"].as_str().unwrap());
    if std::env::var_os(HEIR).is_some() {
        rustix::io::fcntl_setfd(&client.stream, rustix::io::FdFlags::empty()).unwrap();
        #[expect(clippy::zombie_processes, reason = "it is to outlive us")]
        let heir = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        println!("heir {}", heir.id());
    }
    // until this process is killed
    let mut client = client;
    client.stream.set_read_timeout(None).unwrap();
    let _the_daemon_is_gone = client.receive();
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let _already_dead = rustix::process::kill_process(pid, signal);
}

/// Waits until a condition holds, or fails.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn fence(lease: &Value) -> u64 {
    lease["fence"].as_u64().unwrap()
}

pub fn label(lease: &Value) -> String {
    lease["account"]["label"].as_str().unwrap().to_owned()
}

/// The reference to a lease.
pub fn reference(lease: &Value) -> Value {
    json!({ "lease": lease["lease"], "fence": lease["fence"] })
}

/// Resident memory of a process, in bytes, without the pages of its program that it has read meanwhile.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages = |field: usize| statm.split(' ').nth(field).unwrap().parse::<u64>().unwrap();
    pages(1).saturating_sub(pages(2)) * 4096
}

/// The number of a daemon's open descriptors; 0 where only root can see it.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
