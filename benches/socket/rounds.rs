//! Acquire and release over the socket, against the limit: a bare server on the same runtime, over the same kind of
//! socket, that answers the same bytes without deciding anything.
//!
//! `cargo bench --bench socket` (a minute); `-- 64` for the cells of 64 connections only. Rounds of both servers
//! alternate, so that a noisy machine disturbs both; what counts is the ratio of the medians.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lessor::protocol::{
    AcquireParams, Answer, Call, FromServer, HelloParams, LeaseRef, MAGIC, ServerFrames, encode_call,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1000);
const ACCOUNTS: usize = 10;
const ECHO: &str = "LESSOR_BENCH_ECHO";

#[derive(Clone, Copy, PartialEq)]
enum Codec {
    Binary,
    Json,
}

/// What one connection does over and over.
#[derive(Clone, Copy)]
struct Cell {
    name: &'static str,
    connections: usize,
    codec: Codec,
    /// Cycles under way at once on each connection.
    depth: usize,
    target: f64,
}

const CELLS: [Cell; 6] = [
    Cell { name: "1 connection, bincode", connections: 1, codec: Codec::Binary, depth: 1, target: 0.85 },
    Cell { name: "8 connections, bincode", connections: 8, codec: Codec::Binary, depth: 1, target: 0.80 },
    Cell { name: "64 connections, bincode", connections: 64, codec: Codec::Binary, depth: 1, target: 0.80 },
    Cell { name: "512 connections, bincode", connections: 512, codec: Codec::Binary, depth: 1, target: 0.80 },
    Cell { name: "64 connections, JSON", connections: 64, codec: Codec::Json, depth: 1, target: 0.75 },
    Cell { name: "8 x 16 pipelined, bincode", connections: 8, codec: Codec::Binary, depth: 16, target: 0.40 },
];

pub fn main() {
    if let Ok(path) = std::env::var(ECHO) {
        return runtime().block_on(echo(Path::new(&path)));
    }
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let home = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(home.path());
    let limit = Daemon::echo(home.path());
    println!("{:<28}{:>14}{:>14}{:>8}{:>8}  p50 / p99", "cell", "limit/s", "lessor/s", "ratio", "target");
    for cell in CELLS.iter().filter(|cell| only.as_ref().is_none_or(|only| cell.name.contains(only.as_str()))) {
        let (mut limits, mut ours) = (Vec::new(), Vec::new());
        let mut latencies = Vec::new();
        for _ in 0..ROUNDS {
            limits.push(runtime().block_on(round(cell, &limit.socket)).0);
            let (rate, mut seen) = runtime().block_on(round(cell, &daemon.socket));
            ours.push(rate);
            latencies.append(&mut seen);
        }
        latencies.sort_unstable();
        let (limit, ours) = (median(&mut limits), median(&mut ours));
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        println!(
            "{:<28}{limit:>14.0}{ours:>14.0}{:>8.2}{:>8.2}  {:?} / {:?}",
            cell.name,
            ours / limit,
            cell.target,
            at(0.50),
            at(0.99)
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a process of its own.
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
        daemon.wait();
        runtime().block_on(add_accounts(&daemon.socket));
        daemon
    }

    fn echo(home: &Path) -> Self {
        let socket = home.join("echo.sock");
        let child = Command::new(std::env::current_exe().unwrap()).env(ECHO, &socket).spawn().unwrap();
        let daemon = Self { child, socket };
        daemon.wait();
        daemon
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            assert!(Instant::now() < deadline, "no server at {}", self.socket.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

async fn add_accounts(socket: &Path) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    for number in 0..ACCOUNTS {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"account.add\",\"params\":{{\"provider\":\"anthropic\",\
             \"kind\":\"api_key\",\"secret\":\"sk-bench-{number:040}\",\"label\":\"account-{number}\"}}}}\n"
        );
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(String::from_utf8_lossy(&answer).contains("\"result\""), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Runs all connections of a cell for one round; answers cycles a second and how long cycles took.
async fn round(cell: &Cell, socket: &Path) -> (f64, Vec<Duration>) {
    let mut clients = Vec::new();
    for _ in 0..cell.connections {
        clients.push(Client::connect(cell, socket).await);
    }
    let start = Instant::now();
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run(start + ROUND))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await.unwrap());
    }
    (latencies.len() as f64 / start.elapsed().as_secs_f64(), latencies)
}

struct Client {
    stream: UnixStream,
    codec: Codec,
    depth: usize,
    frames: ServerFrames,
    line: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    async fn connect(cell: &Cell, socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let mut client = Self {
            stream,
            codec: cell.codec,
            depth: cell.depth,
            frames: ServerFrames::default(),
            line: Vec::new(),
            out: Vec::new(),
        };
        if cell.codec == Codec::Binary {
            client.out.extend_from_slice(&MAGIC);
            encode_call(0, Call::Hello(HelloParams::default()), &mut client.out).unwrap();
            client.flush().await;
            client.answer().await;
        }
        client
    }

    /// Cycles until `end`: with depth 1 one after the other, else that many acquires, then that many releases.
    async fn run(mut self, end: Instant) -> Vec<Duration> {
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            for _ in 0..self.depth {
                self.acquire();
            }
            self.flush().await;
            let mut leases = Vec::with_capacity(self.depth);
            for _ in 0..self.depth {
                leases.push(self.answer().await.expect("a lease"));
            }
            for lease in leases {
                self.release(lease);
            }
            self.flush().await;
            for _ in 0..self.depth {
                self.answer().await;
            }
            latencies.extend(std::iter::repeat_n(begun.elapsed(), self.depth));
        }
        latencies
    }

    fn acquire(&mut self) {
        match self.codec {
            Codec::Binary => {
                let call = AcquireParams {
                    provider: "anthropic".into(),
                    model: Some("claude-sonnet-4-5".into()),
                    credential: true,
                    ..AcquireParams::default()
                };
                encode_call(1, Call::Acquire(Box::new(call)), &mut self.out).unwrap();
            }
            Codec::Json => self.out.extend_from_slice(
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lease.acquire\",\"params\":\
                  {\"provider\":\"anthropic\",\"model\":\"claude-sonnet-4-5\"}}\n",
            ),
        }
    }

    fn release(&mut self, lease: String) {
        match self.codec {
            Codec::Binary => {
                encode_call(2, Call::Release(LeaseRef { lease, fence: None }), &mut self.out).unwrap();
            }
            Codec::Json => {
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"lease.release\",\"params\":{{\"lease\":\"{lease}\"}}}}\n"
                );
                self.out.extend_from_slice(line.as_bytes());
            }
        }
    }

    async fn flush(&mut self) {
        self.stream.write_all(&self.out).await.unwrap();
        self.out.clear();
    }

    /// The next answer; the lease, if it is one.
    async fn answer(&mut self) -> Option<String> {
        loop {
            match self.codec {
                Codec::Binary => {
                    if let Some(message) = self.frames.take().unwrap() {
                        return match message {
                            FromServer::Answer(_, Answer::Lease(lease)) => Some(lease.lease.into_owned()),
                            FromServer::Answer(..) => None,
                            other => panic!("{other:?}"),
                        };
                    }
                    assert!(self.stream.read_buf(self.frames.inbox()).await.unwrap() > 0);
                }
                Codec::Json => {
                    if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = self.line.drain(..=end).collect();
                        let text = str::from_utf8(&line).unwrap();
                        assert!(text.contains("\"result\""), "{text}");
                        return text
                            .split("\"lease\":\"")
                            .nth(1)
                            .map(|rest| rest.split('"').next().unwrap().to_owned());
                    }
                    assert!(self.stream.read_buf(&mut self.line).await.unwrap() > 0);
                }
            }
        }
    }
}

/// The limit: finds the messages, and answers each with bytes that a daemon would have answered.
async fn echo(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(echo_one(stream));
    }
}

async fn echo_one(mut stream: UnixStream) -> Option<()> {
    let mut inbox = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(4096);
    let mut first = true;
    loop {
        if stream.read_buf(&mut inbox).await.ok()? == 0 {
            return None;
        }
        if inbox.starts_with(b"{") {
            while let Some(end) = inbox.iter().position(|byte| *byte == b'\n') {
                let is_release = inbox[..end].len() > 140;
                out.extend_from_slice(if is_release { JSON_DONE } else { JSON_LEASE });
                inbox.drain(..=end);
            }
        } else {
            if first {
                inbox.drain(..MAGIC.len());
                first = false;
            }
            while let Some(length) = inbox.first_chunk::<4>().map(|header| u32::from_le_bytes(*header) as usize) {
                if inbox.len() < 4 + length {
                    break;
                }
                // the second byte of a body is the method: 0 hello, 1 acquire, 3 release
                out.extend_from_slice(if inbox[5] == 1 { &BINARY_LEASE } else { &BINARY_DONE });
                inbox.drain(..4 + length);
            }
        }
        stream.write_all(&out).await.ok()?;
        out.clear();
    }
}

const JSON_DONE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n";
const JSON_LEASE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"lease\":\"ls_2apeahsx0174qc7n8c1g000jcdp62xb4cmpq6vvedsjq8b9m5mtg0000n9qvfenp32mmc\",\"fence\":919147433905664,\"account\":{\"id\":\"ac_7n3ybb0j\",\"label\":\"account-0\",\"email\":null,\"tier\":\"unknown\"},\"provider\":\"anthropic\",\"pool\":null,\"model\":\"claude-sonnet-4-5\",\"quota_key\":\"claude\",\"shared_with\":6,\"expires_at\":null,\"credential\":{\"kind\":\"api_key\",\"secret\":\"sk-bench-0000000000000000000000000000000000000000\",\"expires_at\":null,\"header\":\"x-api-key\",\"scheme\":null},\"project_id\":null}}\n";
/// Length, `FromServer::Answer`, id 2, `Answer::Done`.
const BINARY_DONE: [u8; 7] = [3, 0, 0, 0, 0, 2, 2];
static BINARY_LEASE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
    use lessor::pool::{CredentialKind, Tier};
    use lessor::protocol::{AccountName, Codec, CredentialInfo, LeaseInfo, RequestId, SecretText};
    let lease = LeaseInfo {
        lease: "ls_2apeahsx0174qc7n8c1g000jcdp62xb4cmpq6vvedsjq8b9m5mtg0000n9qvfenp32mmc".into(),
        fence: 919_147_433_905_664,
        account: AccountName {
            id: "ac_7n3ybb0j".into(),
            label: Some("account-0".into()),
            email: None,
            tier: Tier::Unknown,
        },
        provider: "anthropic".into(),
        pool: None,
        model: Some("claude-sonnet-4-5".into()),
        quota_key: "claude".into(),
        shared_with: 6,
        expires_at: None,
        credential: Some(CredentialInfo {
            kind: CredentialKind::ApiKey,
            secret: SecretText("sk-bench-0000000000000000000000000000000000000000".into()),
            expires_at: None,
            header: "x-api-key".into(),
            scheme: None,
        }),
        project_id: None,
    };
    let mut out = Vec::new();
    Codec::Binary.answer(&RequestId::Number(1), &Answer::Lease(lease), &mut out);
    out
});
