//! Connections over real sockets: the order of answers, and the memory that hostile clients take.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use interprocess::os::unix::uds_local_socket::tokio::Stream as UnixSocket;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::planner::PlannerThread;
use super::*;
use crate::daemon::api::reply::tests::{TestDaemon, key};
use crate::protocol::MAX_MESSAGE;

/// A daemon that serves connections, without a socket of its own.
struct TestServer {
    test: TestDaemon,
    limits: Arc<SharedLimits>,
    next: u64,
    planner: PlannerThread,
}

impl TestServer {
    fn new() -> Self {
        let test = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
        let planner = PlannerThread::start().unwrap();
        Self { limits: SharedLimits::new(planner.planner()), test, next: 0, planner }
    }

    /// A client, and the task that serves it.
    fn connect(&mut self) -> (UnixStream, JoinHandle<()>) {
        let (theirs, stream) = pair();
        self.next += 1;
        let (id, outbox) = (ConnectionId(self.next), self.limits.outbox());
        self.test.daemon.state().connections.insert(id, outbox.clone());
        let served = serve(self.test.daemon.clone(), self.limits.clone(), stream, (id, None), outbox);
        (theirs, tokio::spawn(served))
    }
}

/// Both ends of a connection, the client's first.
fn pair() -> (UnixStream, Stream) {
    let (theirs, ours) = StdStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = Stream::UdSocket(UnixSocket::try_from(OwnedFd::from(ours)).unwrap());
    (UnixStream::from_std(theirs).unwrap(), ours)
}

fn line(id: usize, method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

#[tokio::test]
async fn calls_and_planned_calls_of_one_connection_are_all_answered_and_served_in_order() {
    let mut server = TestServer::new();
    // an answer that waits for a write may come later than the next one
    server.test.written().await;
    let (mut client, served) = server.connect();
    // more than the planner has places for, and than one turn serves
    let rounds = 400;
    let methods = ["lease.acquire", "config.get", "account.list", "hello", "lease.list"];
    let mut sent = String::new();
    for round in 0..rounds {
        for (place, method) in methods.iter().enumerate() {
            let params = if *method == "lease.acquire" { json!({ "provider": "p", "wait_ms": 0 }) } else { json!({}) };
            sent += &line(round * methods.len() + place, method, &params);
        }
    }
    let stop = line(rounds * methods.len(), "daemon.stop", &json!({}));
    let (mut reads, mut writes) = client.split();
    let write = async {
        writes.write_all(sent.as_bytes()).await.unwrap();
        writes.write_all(stop.as_bytes()).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let mut received = String::new();
    let (_, read) = tokio::join!(write, reads.read_to_string(&mut received));
    read.unwrap();
    served.await.unwrap();
    let ids = ids_in(received.as_bytes());
    let all: Vec<u64> = (0..=(rounds * methods.len()) as u64).collect();
    assert_eq!(ids, all);
    assert!(*server.test.daemon.stop.borrow());
    server.planner.end();
}

#[tokio::test]
async fn clients_that_come_before_the_state_is_restored_are_greeted_at_once_and_served_after_that() {
    let mut server = TestServer::new();
    let (hello, list) = (line(1, "hello", &json!({})), line(2, "account.list", &json!({})));
    let refused = line(1, "hello", &json!({ "protocol": [90, 91] }));
    let restored = watch::Sender::new(None);
    // what they send, and the ids that are answered before the state is restored, and in all
    for (sent, early, all) in [
        (hello.clone(), vec![1], vec![1]),
        (hello.clone() + &list, vec![1], vec![1, 2]),
        (list.clone() + &hello, vec![], vec![2, 1]),
        (hello.clone() + &hello, vec![1], vec![1, 1]),
        (refused + &list, vec![], vec![1, 2]),
        ("{\"x\":".to_owned(), vec![], vec![]),
        (String::new(), vec![], vec![]),
    ] {
        restored.send_replace(None);
        let (mut client, stream) = pair();
        server.next += 1;
        let (id, outbox) = (ConnectionId(server.next), server.limits.outbox());
        let served = serve_early(restored.subscribe(), server.limits.clone(), stream, (id, None), outbox.clone());
        let served = tokio::spawn(served);
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while received.iter().filter(|byte| **byte == b'\n').count() < early.len() {
            assert!(client.read_buf(&mut received).await.unwrap() > 0, "{sent}");
        }
        assert_eq!(ids_in(&received), early, "{sent}");
        server.test.daemon.state().connections.insert(id, outbox);
        restored.send_replace(Some(server.test.daemon.clone()));
        client.shutdown().await.unwrap();
        client.read_to_end(&mut received).await.unwrap();
        served.await.unwrap();
        assert_eq!(ids_in(&received), all, "{sent}");
        assert!(!server.test.daemon.state().connections.contains_key(&id), "{sent}");
    }
    server.planner.end();
}

#[tokio::test]
async fn clients_of_a_state_that_cannot_be_restored_are_disconnected() {
    let server = TestServer::new();
    let restored = watch::Sender::new(None);
    let (mut client, stream) = pair();
    let served = serve_early(
        restored.subscribe(),
        server.limits.clone(),
        stream,
        (ConnectionId(1), None),
        server.limits.outbox(),
    );
    let served = tokio::spawn(served);
    client.write_all(line(1, "hello", &json!({})).as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\n") {
        assert!(client.read_buf(&mut received).await.unwrap() > 0);
    }
    assert_eq!(ids_in(&received), [1]);
    drop(restored);
    assert_eq!(client.read_to_end(&mut received).await.unwrap(), 0);
    served.await.unwrap();
    server.planner.end();
}

/// The ids of the answers that were received.
fn ids_in(received: &[u8]) -> Vec<u64> {
    let lines = str::from_utf8(received).unwrap().lines();
    lines.filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64()).collect()
}

#[tokio::test]
async fn all_memory_is_returned_after_hostile_loads() {
    let mut server = TestServer::new();
    let entry = json!({ "tool": "claude", "provider": "p", "kind": "api_key", "secret": "sk-canary-1234567890" });
    let import = line(1, "account.import", &json!({ "dry_run": true, "entries": vec![entry; 200] }));
    let report = json!({ "lease": "nonsense", "status": 429, "body": "y".repeat(MAX_MESSAGE - 500) });
    let large_call = line(1, "lease.report", &report);
    let loads = [
        line(1, "account.list", &json!({})).repeat(2000),
        line(1, "events.subscribe", &json!({ "recent": true })).repeat(500),
        line(1, "account.disable", &json!({ "account": "nothing" })).repeat(500),
        import.repeat(3),
        large_call.clone(),
        large_call[..large_call.len() / 2].to_owned(),
        format!("{{\"x\":[{}[]]}}\n", "[1],".repeat(60_000)),
        "y".repeat(2 * MAX_MESSAGE),
        format!("{{{}", "y".repeat(2 * MAX_MESSAGE)),
    ];
    for reads in [true, false] {
        let mut all = Vec::new();
        for load in &loads {
            for _ in 0..4 {
                let (mut client, served) = server.connect();
                let load = load.clone();
                let client = tokio::spawn(async move {
                    let (mut input, mut output) = client.split();
                    let write = timeout(Duration::from_millis(300), output.write_all(load.as_bytes()));
                    let mut received = Vec::new();
                    let read = async {
                        if reads {
                            let _ended_or_idle =
                                timeout(Duration::from_millis(300), input.read_to_end(&mut received)).await;
                        }
                    };
                    let _refused_or_full = tokio::join!(write, read);
                });
                all.push((client, served));
            }
        }
        for (client, served) in all {
            client.await.unwrap();
            served.await.unwrap();
        }
        // work that continues after its call keeps its share until it is over
        let all_returned = async {
            while server.limits.calls.used() + server.limits.answers.used() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = timeout(Duration::from_secs(30), all_returned).await;
        assert!(in_time.is_ok(), "{:?} {:?}", server.limits.calls, server.limits.answers);
        assert!(server.limits.planner.is_unused());
    }
    server.planner.end();
}
