//! The rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lessor::measure::gateway::{REQUEST, RESPONSE, gateway_round, send_on, serve_upstream};
use lessor::measure::{Figures, block_on, median};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bare;
use crate::proxies::{BARE, Proxy};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// Concurrent streams, and the bytes of a large request.
const STREAMS: usize = 1_000;
const LARGE: usize = 30 << 20;
/// Within this time after many streams or large requests, memory is given back.
const SETTLED: Duration = Duration::from_secs(5);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One round with this many connections: requests per second of CPU time, and the figures.
fn round(proxy: &Proxy, connections: usize) -> (f64, Figures) {
    let before = proxy.cpu();
    let figures = block_on(gateway_round(&proxy.endpoint, connections, ROUND)).unwrap();
    let cpu = (proxy.cpu() - before).as_secs_f64();
    (if cpu > 0.0 { figures.count() as f64 / cpu } else { 0.0 }, figures)
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, first, port, upstream] = arguments.as_slice()
        && first == BARE
    {
        return runtime().block_on(bare::serve(port.parse().unwrap(), upstream.parse().unwrap())).unwrap();
    }
    let port = serve_upstream().unwrap();
    let mut proxies = vec![Proxy::none(port)];
    match Proxy::nginx(port) {
        Some(nginx) => proxies.push(nginx),
        None => println!("nginx is not installed: no comparison"),
    }
    proxies.push(Proxy::bare(port));
    proxies.push(Proxy::lessor(port, false));
    proxies.push(Proxy::lessor(port, true));
    for connections in [1, 32] {
        println!("\n{connections} connections, {REQUEST} bytes in, {RESPONSE} bytes out");
        let mut results: Vec<Vec<(f64, f64, f64, f64)>> = vec![Vec::new(); proxies.len()];
        for _ in 0..ROUNDS {
            for (proxy, results) in proxies.iter().zip(&mut results) {
                let (per_cpu, figures) = round(proxy, connections);
                let micros = |share| figures.at(share).as_secs_f64() * 1e6;
                results.push((figures.rate, per_cpu, micros(0.5), micros(0.99)));
            }
        }
        for (proxy, results) in proxies.iter().zip(&results) {
            let of = |pick: fn(&(f64, f64, f64, f64)) -> f64| median(results.iter().map(pick).collect());
            println!(
                "{:>10}: {:>7.0} requests/s, {:>7.0} per second of CPU time, first byte p50 {:>5.0} µs, p99 {:>6.0} µs",
                proxy.name,
                of(|r| r.0),
                of(|r| r.1),
                of(|r| r.2),
                of(|r| r.3)
            );
        }
        let [.., without, with] = results.as_slice() else { continue };
        let ratios = with.iter().zip(without).map(|(with, without)| with.1 / without.1);
        println!("with a history: {:.3} of the requests per second of CPU time", median(ratios.collect()));
    }
    let lessor = proxies.pop().unwrap();
    steady(&lessor);
}

/// Memory with many streams, and with large requests.
fn steady(proxy: &Proxy) {
    println!("\nmemory of lessor: {:.1} MiB after that", proxy.resident());
    let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let request = Arc::new(proxy.endpoint.request("stream", REQUEST));
    let port = proxy.endpoint.port;
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
    std::thread::sleep(SETTLED);
    println!("{} s after the streams: {:.1} MiB", SETTLED.as_secs(), proxy.resident());
    let large = proxy.endpoint.request("messages", LARGE);
    for number in 1..=5 {
        let taken = runtime().block_on(async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            send_on(&mut stream, &large, Instant::now() + Duration::from_millis(1)).await.unwrap()
        });
        let took = taken[0].as_secs_f64() * 1e3;
        println!("30 MiB request {number}: {took:.0} ms, {:.1} MiB afterwards", proxy.resident());
    }
    std::thread::sleep(SETTLED);
    println!("{} s after them: {:.1} MiB", SETTLED.as_secs(), proxy.resident());
}
