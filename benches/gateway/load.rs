//! The upstream, the client, and the rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::proxies::Proxy;

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// A small request and response, in bytes.
const REQUEST: usize = 2_000;
const RESPONSE: usize = 1_000;
/// Concurrent streams, and the bytes of a large request.
const STREAMS: usize = 1_000;
const LARGE: usize = 30 << 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends the same response to every request; `/stream` never ends.
fn upstream() -> u16 {
    let (ready, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream));
            }
        });
    });
    port.recv().unwrap()
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

fn request(proxy: &Proxy, path: &str, length: usize) -> Vec<u8> {
    let body = format!("{{\"model\":\"claude-sonnet-4-5\",\"x\":\"{}\"}}", "x".repeat(length));
    let (prefix, key, length) = (proxy.prefix, &proxy.key, body.len());
    format!(
        "POST {prefix}/v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends requests one after the other on one connection and records each time to the first byte.
async fn send_on(stream: &mut TcpStream, request: &[u8], end: Instant, taken: &mut Vec<Duration>) {
    let mut buffer = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(request).await.unwrap();
        let (_, length) = read_head(stream, &mut buffer).await.expect("a response");
        taken.push(start.elapsed());
        while buffer.len() < length {
            stream.read_buf(&mut buffer).await.unwrap();
        }
        buffer.drain(..length);
    }
}

/// One round with this many connections: requests per second, requests per second of CPU time, and the times taken.
fn round(proxy: &Proxy, connections: usize) -> (f64, f64, Vec<Duration>) {
    let (before, start) = (proxy.cpu(), Instant::now());
    let request = Arc::new(request(proxy, "messages", REQUEST));
    let port = proxy.port;
    let mut taken: Vec<Duration> = runtime().block_on(async move {
        let end = Instant::now() + ROUND;
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let request = request.clone();
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut taken = Vec::new();
                send_on(&mut stream, &request, end, &mut taken).await;
                taken
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    taken.sort_unstable();
    let (rate, cpu) = (taken.len() as f64 / start.elapsed().as_secs_f64(), (proxy.cpu() - before).as_secs_f64());
    (rate, if cpu > 0.0 { taken.len() as f64 / cpu } else { 0.0 }, taken)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn part(sorted: &[Duration], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

pub fn main() {
    let port = upstream();
    let mut proxies = vec![Proxy::none(port)];
    match Proxy::nginx(port) {
        Some(nginx) => proxies.push(nginx),
        None => println!("nginx is not installed: no comparison"),
    }
    proxies.push(Proxy::lessor(port));
    for connections in [1, 32] {
        println!("\n{connections} connections, {REQUEST} bytes in, {RESPONSE} bytes out");
        let mut results: Vec<Vec<(f64, f64, f64, f64)>> = vec![Vec::new(); proxies.len()];
        for _ in 0..ROUNDS {
            for (proxy, results) in proxies.iter().zip(&mut results) {
                let (rate, per_cpu, taken) = round(proxy, connections);
                results.push((rate, per_cpu, part(&taken, 0.5), part(&taken, 0.99)));
            }
        }
        for (proxy, results) in proxies.iter().zip(&results) {
            let of = |pick: fn(&(f64, f64, f64, f64)) -> f64| median(results.iter().map(pick).collect());
            println!(
                "{:>7}: {:>7.0} requests/s, {:>7.0} per second of CPU time, first byte p50 {:>5.0} µs, p99 {:>6.0} µs",
                proxy.name,
                of(|r| r.0),
                of(|r| r.1),
                of(|r| r.2),
                of(|r| r.3)
            );
        }
    }
    let lessor = proxies.pop().unwrap();
    steady(&lessor);
}

/// Memory with many streams, and with large requests.
fn steady(proxy: &Proxy) {
    println!("\nmemory of lessor: {:.1} MiB after that", proxy.resident());
    let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let request = Arc::new(request(proxy, "stream", REQUEST));
    let port = proxy.port;
    runtime().block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..STREAMS {
            let (request, stop, events) = (request.clone(), stop.clone(), events.clone());
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(&request).await.unwrap();
                let mut buffer = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    let read = stream.read(&mut buffer).await.unwrap();
                    assert!(read > 0, "a stream has ended");
                    events.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for second in 1..=3 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let seen = events.load(Ordering::Relaxed);
            println!("{STREAMS} streams, {} s: {:.1} MiB, {seen} pieces", second * 2, proxy.resident());
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
    });
    let large = self::request(proxy, "messages", LARGE);
    for number in 1..=5 {
        let mut taken = Vec::new();
        runtime().block_on(async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            send_on(&mut stream, &large, Instant::now() + Duration::from_millis(1), &mut taken).await;
        });
        let took = taken[0].as_secs_f64() * 1e3;
        println!("30 MiB request {number}: {took:.0} ms, {:.1} MiB afterwards", proxy.resident());
    }
}
