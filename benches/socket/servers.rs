//! The two servers, each in a process of its own: the daemon and the bare one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lessor::client::Client;
use lessor::measure::socket::run_echo;
use lessor::measure::{add_accounts, block_on};
use tempfile::TempDir;

/// The word that makes this program the bare server.
pub const ECHO: &str = "echo-server";
const START: Duration = Duration::from_secs(30);

/// Serves until it is killed.
pub fn echo(socket: &Path) {
    block_on(run_echo(socket, || {})).unwrap();
}

/// A running server.
pub struct Server {
    child: Child,
    is_daemon: bool,
    pub socket: PathBuf,
    /// The directory of its socket.
    pub home: PathBuf,
}

impl Server {
    /// The bare server.
    pub fn echo(home: &Path) -> Self {
        let socket = home.join("echo.sock");
        let _old = std::fs::remove_file(&socket);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ECHO).arg(&socket);
        Self::start((command, false), socket, home)
    }

    /// The daemon of this home.
    pub fn daemon(home: &Path) -> Self {
        let mut command = lessor(home);
        command.arg("daemon");
        Self::start((command, true), home.join("run/lessor.sock"), home)
    }

    fn start((mut command, is_daemon): (Command, bool), socket: PathBuf, home: &Path) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, is_daemon, socket, home: home.to_owned() }
    }

    /// Connects as soon as it serves.
    pub fn connect(&self) -> std::os::unix::net::UnixStream {
        let deadline = Instant::now() + START;
        loop {
            match std::os::unix::net::UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Ends it: the daemon stops as its user would stop it, the bare server is killed.
    pub fn end(mut self) {
        if self.is_daemon
            && let Ok(client) = Client::connect_at(&self.socket)
            && client.stop(START).is_ok()
        {
            let _ended = self.child.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processor time that it has used, where the system tells.
    pub fn processor_time(&self) -> Option<Duration> {
        // after the name, which may have spaces: user and system time are the 12th and 13th, in hundredths of a second
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let rest = stat.rsplit_once(')')?.1;
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Some(Duration::from_millis(10 * ticks))
    }

    /// A line of its status, in KiB.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

/// A command of lessor with this home.
pub fn lessor(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.env("LESSOR_HOME", home);
    command
}

/// A home with so many accounts.
pub fn home(accounts: usize) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "[daemon]\nlog = \"warn\"\n").unwrap();
    let daemon = Server::daemon(home.path());
    drop(daemon.connect());
    let mut client = Client::connect_at(&daemon.socket).unwrap();
    add_accounts(&mut client, "anthropic", accounts).unwrap();
    drop(client);
    daemon.end();
    home
}
