//! Acquire and release over the socket, against the limit: a bare server on the same kind of runtime, over the same kind
//! of socket, that answers the same bytes without deciding anything.
//!
//! `cargo bench --bench socket` (a minute); `-- 64` for the cells of 64 connections only. Rounds of both servers
//! alternate, so that a noisy machine disturbs both; what counts is the ratio of the medians.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lessor::client::Client;
use lessor::measure::socket::{Encoding, SocketLoad, serve_echo, socket_round};
use lessor::measure::{add_accounts, block_on, median};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1000);
const ACCOUNTS: usize = 10;

/// What is measured, and the ratio that is aimed at.
type Cell = (&'static str, SocketLoad, f64);

const fn load(connections: usize, encoding: Encoding, depth: usize) -> SocketLoad {
    SocketLoad { connections, encoding, depth }
}

const CELLS: [Cell; 6] = [
    ("1 connection, bincode", load(1, Encoding::Binary, 1), 0.85),
    ("8 connections, bincode", load(8, Encoding::Binary, 1), 0.80),
    ("64 connections, bincode", load(64, Encoding::Binary, 1), 0.80),
    ("512 connections, bincode", load(512, Encoding::Binary, 1), 0.80),
    ("64 connections, JSON", load(64, Encoding::Json, 1), 0.75),
    ("8 x 16 pipelined, bincode", load(8, Encoding::Binary, 16), 0.40),
];

pub fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let home = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(home.path());
    let echo = home.path().join("echo.sock");
    serve_echo(&echo).unwrap();
    println!("{:<28}{:>14}{:>14}{:>8}{:>8}  p50 / p99", "cell", "limit/s", "lessor/s", "ratio", "target");
    for (name, load, target) in
        CELLS.iter().filter(|cell| only.as_ref().is_none_or(|only| cell.0.contains(only.as_str())))
    {
        let (mut limits, mut ours) = (Vec::new(), Vec::new());
        let mut all = lessor::measure::Figures::default();
        for _ in 0..ROUNDS {
            limits.push(block_on(socket_round(*load, &echo, ROUND)).unwrap().rate);
            let figures = block_on(socket_round(*load, &daemon.socket, ROUND)).unwrap();
            ours.push(figures.rate);
            all.add(figures);
        }
        let (limit, ours) = (median(limits), median(ours));
        println!(
            "{name:<28}{limit:>14.0}{ours:>14.0}{:>8.2}{target:>8.2}  {:?} / {:?}",
            ours / limit,
            all.at(0.50),
            all.at(0.99)
        );
    }
}

/// The daemon, in a process of its own.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(home: &Path) -> Self {
        std::fs::write(home.join("config.toml"), "[daemon]\nlog = \"warn\"\n").unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lessor"))
            .arg("daemon")
            .env("LESSOR_HOME", home)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { child, socket: home.join("run/lessor.sock") };
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut client = loop {
            match Client::connect_at(&daemon.socket) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        add_accounts(&mut client, "anthropic", ACCOUNTS).unwrap();
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}
