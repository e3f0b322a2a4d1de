//! Requests to an upstream on loopback, directly or through the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Figures;

/// A small request and response, in bytes.
pub const REQUEST: usize = 2_000;
/// The length of a response, in bytes.
pub const RESPONSE: usize = 1_000;

/// Serves an upstream on loopback, on a thread that ends with the process; returns its port. It sends the same response
/// to every request; `/stream` never ends.
///
/// # Errors
/// When it cannot listen.
pub fn serve_upstream() -> anyhow::Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let port = listener.local_addr()?.port();
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _slower = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    };
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || runtime.block_on(serving))?;
    Ok(port)
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let response = format!("{head}content-length: {RESPONSE}\r\n\r\n{{\"x\":\"{}\"}}", "x".repeat(RESPONSE - 8));
    let mut buffer = Vec::new();
    loop {
        let (path, body) = read_head(&mut stream, &mut buffer).await?;
        let mut left = body.saturating_sub(buffer.len());
        buffer.drain(..body.min(buffer.len()));
        let mut sink = vec![0; 65536];
        while left > 0 {
            let most = left.min(sink.len());
            let read = stream.read(&mut sink[..most]).await.ok().filter(|read| *read > 0)?;
            left -= read;
        }
        if path.contains("/stream") {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            let event = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"hello\"}}\n\n";
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            loop {
                stream.write_all(chunk.as_bytes()).await.ok()?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        stream.write_all(response.as_bytes()).await.ok()?;
    }
}

/// Reads a head: its first line and the length of the body, whose first bytes stay in the buffer.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, usize)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            buffer.drain(..end + 4);
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            return Some((head.lines().next()?.to_owned(), length));
        }
        stream.read_buf(buffer).await.ok().filter(|read| *read > 0)?;
    }
}

/// Where requests go: the upstream itself, or a proxy before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The port on loopback.
    pub port: u16,
    /// The prefix of paths.
    pub prefix: &'static str,
    /// What the client authenticates with.
    pub key: String,
}

impl Endpoint {
    /// A request with a body of this length.
    #[must_use]
    pub fn request(&self, path: &str, length: usize) -> Vec<u8> {
        let body = format!("{{\"model\":\"claude-sonnet-4-5\",\"x\":\"{}\"}}", "x".repeat(length));
        let (prefix, key, length) = (self.prefix, &self.key, body.len());
        format!(
            "POST {prefix}/v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\nanthropic-version: 2023-06-01\r\n\
             content-type: application/json\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Sends requests one after the other on each connection, for one round; the times are those to the first byte.
///
/// # Errors
/// When a connection ends.
pub async fn gateway_round(endpoint: &Endpoint, connections: usize, time: Duration) -> anyhow::Result<Figures> {
    let request = Arc::new(endpoint.request("messages", REQUEST));
    let port = endpoint.port;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let request = request.clone();
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            send_on(&mut stream, &request, start + time).await
        }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    Ok(Figures::new(taken, start.elapsed()))
}

/// Sends requests one after the other on one connection; answers each time to the first byte.
///
/// # Errors
/// When the connection ends, or a request is refused.
pub async fn send_on(stream: &mut TcpStream, request: &[u8], end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut taken = Vec::new();
    let mut buffer = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(request).await?;
        let (first, length) = read_head(stream, &mut buffer).await.context("the connection has ended")?;
        ensure!(first.contains(" 200"), "the answer is {first}");
        taken.push(start.elapsed());
        while buffer.len() < length {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection has ended");
        }
        buffer.drain(..length);
    }
    Ok(taken)
}
