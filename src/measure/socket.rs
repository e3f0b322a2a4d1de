//! Acquire and release over the socket: the client, and a bare server that answers the same bytes without deciding
//! anything.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::Figures;
use crate::protocol::{
    AcquireParams, Answer, Call, FromServer, HelloParams, LeaseRef, MAGIC, ServerFrames, encode_call,
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
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run(start + time))).collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.append(&mut task.await??);
    }
    Ok(Figures::new(taken, start.elapsed()))
}

struct SocketClient {
    stream: UnixStream,
    encoding: Encoding,
    depth: usize,
    frames: ServerFrames,
    line: Vec<u8>,
    out: Vec<u8>,
}

impl SocketClient {
    async fn connect(load: SocketLoad, socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let mut client = Self {
            stream,
            encoding: load.encoding,
            depth: load.depth,
            frames: ServerFrames::default(),
            line: Vec::new(),
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

    /// Cycles until `end`: with depth 1 one after the other, else that many acquires, then that many releases.
    async fn run(mut self, end: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
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
                    ensure!(self.stream.read_buf(self.frames.inbox()).await? > 0, "the server closed the connection");
                }
                Encoding::Json => {
                    if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = self.line.drain(..=end).collect();
                        let text = str::from_utf8(&line)?;
                        ensure!(text.contains("\"result\""), "unexpected: {text}");
                        let lease = text.split("\"lease\":\"").nth(1).and_then(|rest| rest.split('"').next());
                        return Ok(lease.map(str::to_owned));
                    }
                    ensure!(self.stream.read_buf(&mut self.line).await? > 0, "the server closed the connection");
                }
            }
        }
    }
}

/// Serves the bare server at this path, on a thread that ends with the process: it finds the messages, and answers each
/// with bytes that a daemon would have answered.
///
/// # Errors
/// When it cannot listen.
pub fn serve_echo(path: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _in_runtime = runtime.enter();
        UnixListener::bind(path)?
    };
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    };
    std::thread::Builder::new().name("echo".to_owned()).spawn(move || runtime.block_on(serving))?;
    Ok(())
}

async fn echo(mut stream: UnixStream) -> Option<()> {
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
static BINARY_LEASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    use crate::pool::{CredentialKind, Tier};
    use crate::protocol::{AccountName, Codec, CredentialInfo, LeaseInfo, RequestId, SecretText};
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
    Codec::Binary.answer(&RequestId::Number(1), &Answer::Lease(lease), &mut out);
    out
});
