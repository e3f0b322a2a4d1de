//! What the gateway holds for others is bounded: compressed refusals that expand to gigabytes, many large bodies at once,
//! clients that send a byte at a time or do not read.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::{HttpClient, TestGateway, messages};
use crate::support::{resident, wait_until};
use crate::upstream::{Upstream, respond_bytes};

/// The most memory that the daemon may have.
const MOST: u64 = 128 << 20;

fn assert_small(gateway: &TestGateway, what: &str) {
    let resident = resident(gateway.home.pid());
    assert!(resident <= MOST, "{what}: {} MiB", resident >> 20);
}

/// Many blanks, compressed, and the coding: 500 MiB, or what a test can make in time.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    use flate2::Compression;
    let piece = vec![b' '; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&piece).unwrap();
    // one member after the other
    let gzip = gzip.finish().unwrap().repeat(500);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    (0..32).for_each(|_| zlib.write_all(&piece).unwrap());
    // a window of 8 MiB, and blocks that repeat a blank 128 Ki times
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    for _ in 0..4000 {
        zstd.extend_from_slice(&(((128 * 1024) << 3 | 1 << 1) as u32).to_le_bytes()[..3]);
        zstd.push(b' ');
    }
    // a window of 16 MiB, and as long a block of which little comes
    let mut brotli = vec![0xcf, 0xff, 0xff, 0xff];
    brotli.resize(100_000, b' ');
    let twice = {
        let mut again = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        again.write_all(&gzip).unwrap();
        again.finish().unwrap()
    };
    vec![("gzip", gzip), ("deflate", zlib.finish().unwrap()), ("zstd", zstd), ("br", brotli), ("gzip, gzip", twice)]
}

#[test]
fn many_refusals_that_are_decompression_bombs_cost_little_memory() {
    let bombs = bombs();
    let names: Vec<&str> = bombs.iter().map(|(name, _)| *name).collect();
    let sent = bombs.clone();
    let upstream = Upstream::start(move |request, stream| {
        let coding = request.header("x-test-coding").unwrap();
        let bomb = &sent.iter().find(|(name, _)| *name == coding).unwrap().1;
        let status = request.header("x-test-status").unwrap().parse().unwrap();
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        respond_bytes(stream, status, &headers, bomb)
    });
    let gateway = TestGateway::new("a", upstream);
    for coding in names {
        // of a success, the tokens are read
        let statuses: &[&str] = if coding == "gzip" { &["400", "200"] } else { &["400"] };
        for status in statuses {
            let headers = format!("x-test-coding: {coding}\r\nx-test-status: {status}\r\n");
            let request = String::from_utf8(messages(&gateway.key, "{}")).unwrap();
            let request = request.replacen("content-length", &format!("{headers}content-length"), 1);
            let mut clients: Vec<HttpClient> = (0..64).map(|_| gateway.http_client()).collect();
            clients.iter_mut().for_each(|client| client.write(request.as_bytes()));
            for client in &mut clients {
                let answer = client.receive();
                assert_eq!(answer.status().to_string(), *status, "{coding}");
                let bomb = &bombs.iter().find(|(name, _)| *name == coding).unwrap().1;
                assert!(answer.complete && answer.body == *bomb, "{coding}: the bytes are forwarded unchanged");
            }
            assert_small(&gateway, coding);
        }
    }
}

#[test]
fn requests_that_are_decompression_bombs_are_forwarded_unchanged() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    for (coding, bomb) in bombs() {
        let head = format!(
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-encoding: {coding}\r\n\
             content-length: {}\r\n\r\n",
            gateway.key,
            bomb.len()
        );
        let request = [head.as_bytes(), &bomb].concat();
        let mut clients: Vec<HttpClient> = (0..3).map(|_| gateway.http_client()).collect();
        clients.iter_mut().for_each(|client| client.write(&request));
        for client in &mut clients {
            assert_eq!(client.receive().status(), 200, "{coding}");
        }
        assert!(gateway.upstream.received().pop().unwrap().body == bomb, "{coding}");
        assert_small(&gateway, coding);
    }
}

#[test]
fn many_large_bodies_at_once_cost_little_memory_and_are_all_forwarded() {
    const LARGE: usize = 30 << 20;
    // each is answered when all have come in part
    let upstream = Upstream::by_key(|_| (200, "", "{}"));
    let gateway = TestGateway::new("abcdefghijkl", upstream);
    let body = vec![b'x'; LARGE];
    let head = |key: &str| {
        format!(
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-length: {LARGE}\r\n\r\n"
        )
    };
    let mut clients: Vec<HttpClient> = (0..12).map(|_| gateway.http_client()).collect();
    let (first, rest) = body.split_at(LARGE / 2);
    std::thread::scope(|scope| {
        for client in &mut clients {
            let mut stream = client.stream.try_clone().unwrap();
            let head = head(&gateway.key);
            scope.spawn(move || {
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(first).unwrap();
                stream.write_all(rest).unwrap();
            });
        }
        for client in &mut clients {
            assert_eq!(client.receive().status(), 200);
            assert_small(&gateway, "large bodies");
        }
    });
    assert!(gateway.upstream.received().iter().all(|request| request.body.len() == LARGE));
}

#[test]
fn large_bodies_one_after_the_other_leave_nothing_behind() {
    const LARGE: usize = 30 << 20;
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let send = |length: usize| {
        let body = "x".repeat(length);
        let mut client = gateway.http_client();
        client.write(&messages(&gateway.key, &body));
        assert_eq!(client.receive().status(), 200);
    };
    send(1000);
    let before = resident(gateway.home.pid());
    for _ in 0..3 {
        send(LARGE);
    }
    // the answer may come before the body is freed
    wait_until("the bodies are given back", || resident(gateway.home.pid()) < before + (8 << 20));
}

#[test]
fn a_body_that_comes_byte_by_byte_costs_no_more_than_its_length() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        gateway.key
    );
    let mut clients: Vec<HttpClient> = (0..8).map(|_| gateway.http_client()).collect();
    clients.iter_mut().for_each(|client| client.write(head.as_bytes()));
    for _ in 0..2000 {
        for client in &mut clients {
            client.write(b"1\r\nx\r\n");
        }
    }
    assert_small(&gateway, "single bytes");
    for client in &mut clients {
        client.write(b"0\r\n\r\n");
        assert_eq!(client.receive().status(), 200);
    }
    assert!(gateway.upstream.received().iter().all(|request| request.body == [b'x'; 2000]));
}

#[test]
fn a_response_that_is_not_read_is_held_back_at_the_upstream() {
    let (sent, total) = channel::<usize>();
    let sent = Mutex::new(sent);
    let upstream = Upstream::start(move |_, stream: &mut TcpStream| {
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![b'x'; 64 * 1024];
        let mut all = 0;
        while stream.write_all(&piece).is_ok() {
            all += piece.len();
        }
        sent.lock().unwrap().send(all).unwrap();
        // the connection stays open until the gateway closes it
        stream.set_write_timeout(None).unwrap();
        let _closed = stream.write_all(&piece);
        false
    });
    let gateway = TestGateway::new("abcdefgh", upstream);
    let mut clients: Vec<HttpClient> = (0..8).map(|_| gateway.http_client()).collect();
    clients.iter_mut().for_each(|client| client.write(&messages(&gateway.key, "{}")));
    for _ in &clients {
        // what the buffers of two connections take
        let all = total.recv().unwrap();
        assert!(all < 32 << 20, "{all}");
    }
    assert_small(&gateway, "unread responses");
    assert_eq!(
        HttpClient::connect(gateway.port).send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").status(),
        200
    );
    drop(clients);
    wait_until("the requests have ended", || gateway.metrics().contains("lessor_requests_in_flight 0"));
}
