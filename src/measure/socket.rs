//! Acquire and release over the socket: the client, and a bare server that answers the same bytes without deciding
//! anything.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Figures, block_on};
use crate::protocol::{
    AcquireParams, Answer, Call, Codec, FromServer, HelloParams, LeaseRef, MAGIC, ServerFrames, encode_call,
};

/// An encoding of the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Binary frames, as lessor's own clients use them.
    Binary,
    /// JSON lines.
    Json,
}

/// What one connection does over and over.
#[derive(Clone, Copy, Debug)]
pub struct SocketLoad {
    /// Connections at the same time.
    pub connections: usize,
    /// How the messages are encoded.
    pub encoding: Encoding,
    /// Cycles under way at once on each connection.
    pub depth: usize,
    /// Cycles a second of all connections; as many as there can be without it. The time of a cycle counts from when it
    /// was to begin.
    pub rate: Option<u32>,
}

impl SocketLoad {
    /// As many cycles as there can be, one after the other on each connection.
    #[must_use]
    pub const fn closed(connections: usize, encoding: Encoding) -> Self {
        Self { connections, encoding, depth: 1, rate: None }
    }
}

/// Runs all connections for one round of acquire and release.
///
/// # Errors
/// When the server does not answer as it should.
pub async fn socket_round(load: SocketLoad, socket: &Path, time: Duration) -> anyhow::Result<Figures> {
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        clients.push(SocketClient::connect(load, socket).await?);
    }
    let start = Instant::now();
    // spread evenly over the time between two cycles of one connection
    let pause = load.rate.map(|rate| Duration::from_secs(1) * load.connections as u32 / rate);
    let first = |place: usize| start + pause.unwrap_or_default() * place as u32 / load.connections as u32;
    let run = |(place, client): (usize, SocketClient)| tokio::spawn(client.run(first(place), pause, start + time));
    let tasks: Vec<_> = clients.into_iter().enumerate().map(run).collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.append(&mut task.await??);
    }
    Ok(Figures::new(taken, start.elapsed()))
}

/// How many bytes a server answers in one acquire and release.
///
/// # Errors
/// When it does not answer as it should.
pub async fn bytes_of_cycle(encoding: Encoding, socket: &Path) -> anyhow::Result<usize> {
    let mut client = SocketClient::connect(SocketLoad::closed(1, encoding), socket).await?;
    let before = client.received;
    client.acquire()?;
    client.flush().await?;
    let lease = client.answer().await?.context("the answer is no lease")?;
    client.release(lease)?;
    client.flush().await?;
    client.answer().await?;
    Ok(client.received - before)
}

struct SocketClient {
    stream: UnixStream,
    /// The bytes that were received.
    received: usize,
    encoding: Encoding,
    depth: usize,
    frames: ServerFrames,
    lines: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    out: Vec<u8>,
}

impl SocketClient {
    async fn connect(load: SocketLoad, socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let mut client = Self {
            stream,
            received: 0,
            encoding: load.encoding,
            depth: load.depth,
            frames: ServerFrames::default(),
            lines: Vec::new(),
            start: 0,
            out: Vec::new(),
        };
        if load.encoding == Encoding::Binary {
            client.out.extend_from_slice(&MAGIC);
            encode_call(0, Call::Hello(HelloParams::default()), &mut client.out)?;
            client.flush().await?;
            client.answer().await?;
        }
        Ok(client)
    }

    /// Cycles until `end`: with depth 1 one after the other, else that many acquires, then that many releases. With a
    /// `pause`, one begins after each, however long it takes.
    async fn run(mut self, first: Instant, pause: Option<Duration>, end: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut next = first;
        while Instant::now() < end {
            let begun = match pause {
                Some(pause) => {
                    let begins = next;
                    next += pause;
                    tokio::time::sleep_until(begins.into()).await;
                    let now = Instant::now();
                    // a timer of the runtime is late by up to a step, which is not the server's fault
                    if now.duration_since(begins) <= TIMER_STEP { now } else { begins }
                }
                None => Instant::now(),
            };
            for _ in 0..self.depth {
                self.acquire()?;
            }
            self.flush().await?;
            let mut leases = Vec::with_capacity(self.depth);
            for _ in 0..self.depth {
                leases.push(self.answer().await?.context("the answer is no lease")?);
            }
            for lease in leases {
                self.release(lease)?;
            }
            self.flush().await?;
            for _ in 0..self.depth {
                self.answer().await?;
            }
            latencies.extend(std::iter::repeat_n(begun.elapsed(), self.depth));
        }
        Ok(latencies)
    }

    fn acquire(&mut self) -> anyhow::Result<()> {
        match self.encoding {
            Encoding::Binary => {
                let call = AcquireParams {
                    provider: "anthropic".into(),
                    model: Some("claude-sonnet-4-5".into()),
                    credential: true,
                    ..AcquireParams::default()
                };
                encode_call(1, Call::Acquire(Box::new(call)), &mut self.out)?;
            }
            Encoding::Json => self.out.extend_from_slice(
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lease.acquire\",\"params\":\
                  {\"provider\":\"anthropic\",\"model\":\"claude-sonnet-4-5\"}}\n",
            ),
        }
        Ok(())
    }

    fn release(&mut self, lease: String) -> anyhow::Result<()> {
        match self.encoding {
            Encoding::Binary => {
                encode_call(2, Call::Release(LeaseRef { lease, fence: None }), &mut self.out)?;
            }
            Encoding::Json => {
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"lease.release\",\"params\":{{\"lease\":\"{lease}\"}}}}\n"
                );
                self.out.extend_from_slice(line.as_bytes());
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// The next answer; the lease, if it is one.
    async fn answer(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            match self.encoding {
                Encoding::Binary => {
                    if let Some(message) = self.frames.take()? {
                        return match message {
                            FromServer::Answer(_, Answer::Lease(lease)) => Ok(Some(lease.lease.into_owned())),
                            FromServer::Answer(..) => Ok(None),
                            other => bail!("unexpected: {other:?}"),
                        };
                    }
                    let length = self.stream.read_buf(self.frames.inbox()).await?;
                    self.received += length;
                    ensure!(length > 0, CLOSED);
                }
                Encoding::Json => {
                    if let Some(length) = memchr::memchr(b'\n', &self.lines[self.start..]) {
                        let line = &self.lines[self.start..self.start + length];
                        self.start += length + 1;
                        return lease_in(line);
                    }
                    self.lines.drain(..self.start);
                    self.start = 0;
                    let length = self.stream.read_buf(&mut self.lines).await?;
                    self.received += length;
                    ensure!(length > 0, CLOSED);
                }
            }
        }
    }
}

const CLOSED: &str = "the server closed the connection";

/// The lease of an answer, if it is one with a lease.
fn lease_in(line: &[u8]) -> anyhow::Result<Option<String>> {
    // as in every answer of both servers
    let result = line.get(JSON_BEGINNING..).filter(|result| result.starts_with(b"\"result\":"));
    let result = result.with_context(|| format!("unexpected: {}", String::from_utf8_lossy(line)))?;
    let Some(rest) = result.strip_prefix(b"\"result\":{\"lease\":\"") else { return Ok(None) };
    let id = &rest[..memchr::memchr(b'"', rest).context("the id of the lease has no end")?];
    Ok(Some(str::from_utf8(id)?.to_owned()))
}

const JSON_BEGINNING: usize = "{\"jsonrpc\":\"2.0\",\"id\":1,".len();
/// How late a timer of the runtime is at most, with something to spare.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Serves the bare server at this path, on a thread that ends with the process.
///
/// # Errors
/// When it cannot listen.
pub fn serve_echo(path: &Path) -> anyhow::Result<()> {
    let path = path.to_owned();
    let (listening, bound) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
        let served = block_on(run_echo(&path, || _ = listening.send(())));
        if let Err(error) = served {
            eprintln!("the bare server: {error}");
        }
    })?;
    bound.recv().context("the bare server cannot listen")
}

/// Runs the bare server: it finds the messages, and answers each with bytes that a daemon would have answered. Calls
/// `listening` when clients can connect.
///
/// # Errors
/// When it cannot listen, or accept any more.
pub async fn run_echo(path: &Path, listening: impl FnOnce()) -> anyhow::Result<()> {
    let listener = UnixListener::bind(path)?;
    listening();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(mut stream: UnixStream) -> Option<()> {
    let mut inbox = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(4096);
    let mut is_new = true;
    loop {
        if stream.read_buf(&mut inbox).await.ok()? == 0 {
            return None;
        }
        let mut start = 0;
        if inbox.starts_with(b"{") {
            while let Some(length) = memchr::memchr(b'\n', &inbox[start..]) {
                let is_release = length > LONGEST_ACQUIRE;
                out.extend_from_slice(if is_release { JSON_DONE } else { &JSON_LEASE });
                start += length + 1;
            }
        } else {
            if std::mem::take(&mut is_new) {
                start = MAGIC.len();
            }
            while let Some(header) = inbox[start..].first_chunk::<4>() {
                let end = start + 4 + u32::from_le_bytes(*header) as usize;
                if inbox.len() < end {
                    break;
                }
                // the second byte of a body is the method: 0 hello, 1 acquire, 3 release
                out.extend_from_slice(if inbox[start + 5] == 1 { &BINARY_LEASE } else { &BINARY_DONE });
                start = end;
            }
        }
        inbox.drain(..start);
        stream.write_all(&out).await.ok()?;
        out.clear();
    }
}

/// The bytes of the line that acquires; one that releases is longer.
const LONGEST_ACQUIRE: usize = 140;
const JSON_DONE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n";
static JSON_LEASE: LazyLock<Vec<u8>> = LazyLock::new(|| lease_answer(Codec::Json));
/// Length, `FromServer::Answer`, id 2, `Answer::Done`.
const BINARY_DONE: [u8; 7] = [3, 0, 0, 0, 0, 2, 2];
static BINARY_LEASE: LazyLock<Vec<u8>> = LazyLock::new(|| lease_answer(Codec::Binary));

fn lease_answer(codec: Codec) -> Vec<u8> {
    use crate::pool::{CredentialKind, Tier};
    use crate::protocol::{AccountName, CredentialInfo, LeaseInfo, RequestId, SecretText};
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
            resource: None,
            account_id: None,
        }),
        project_id: None,
    };
    let mut out = Vec::new();
    codec.answer(&RequestId::Number(1), &Answer::Lease(lease), &mut out);
    out
}
