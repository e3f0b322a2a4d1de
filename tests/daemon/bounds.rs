//! Bounds on what one client can make the daemon keep and write, without an effect on other clients.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use lessor::protocol::{
    Answer, Call, ErrorKind, FromServer, HelloParams, MAGIC, MAX_MESSAGE, NoParams, ServerFrames, encode_call,
};
use serde_json::{Value, json};

use crate::support::{Client, Home, Idler, PATIENCE, descriptors, fence, reference, resident, wait_until};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

fn acquire_line(id: usize) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"lease.acquire\",\"params\":{{\"provider\":\"anthropic\"}}}}\n"
    )
}

/// The next message of a binary connection; `None` after it was closed.
fn next_frame(stream: &mut UnixStream, frames: &mut ServerFrames) -> Option<FromServer<'static>> {
    loop {
        if let Some(message) = frames.take().unwrap() {
            return Some(message);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).unwrap() {
            0 => return None,
            read => frames.inbox().extend_from_slice(&buffer[..read]),
        }
    }
}

fn binary(home: &Home) -> UnixStream {
    let stream = UnixStream::connect(home.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn calls_that_wait_for_the_disk_do_not_change_the_count_of_waiting_calls() {
    let home = Home::with_accounts(WAIT, 1);
    let mut holder = home.client();
    let lease = holder.acquire();
    let mut client = home.client();
    for id in 0..64 {
        client.stream.write_all(acquire_line(1000 + id).as_bytes()).unwrap();
    }
    home.client().wait_for_queue(64);
    // each of these waits for the disk; the count must stay right
    for _ in 0..8 {
        client.ask("account.set", &json!({ "account": "a0", "tier": "pro" }));
    }
    client.stream.write_all(acquire_line(2000).as_bytes()).unwrap();
    let refused = client.receive().unwrap();
    assert_eq!((&refused["id"], &refused["error"]["data"]["kind"]), (&json!(2000), &json!("overloaded")), "{refused}");
    // after all answers there is room for as many calls again
    holder.call("lease.release", reference(&lease));
    for _ in 0..64 {
        let lease = client.receive().unwrap();
        client.send("lease.release", &reference(&lease["result"])).unwrap();
        assert!(client.receive().unwrap()["error"].is_null());
    }
    let held = holder.acquire();
    for id in 0..65 {
        client.stream.write_all(acquire_line(3000 + id).as_bytes()).unwrap();
    }
    let refused = client.receive().unwrap();
    assert_eq!(refused["id"], 3064, "{refused}");
    holder.call("lease.release", reference(&held));
}

#[test]
fn a_notification_is_carried_out_and_not_answered() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    for (method, params) in [
        ("account.disable", json!({ "account": "a0" })),
        ("account.add", json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary-b", "label": "b" })),
        ("account.add", json!({ "provider": "unknown", "kind": "api_key", "secret": "sk-canary-b" })),
        ("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl" })),
        ("gateway.key", json!({ "agent": "claude" })),
        ("lease.release", json!({ "lease": "nonsense" })),
        ("status", json!({})),
        ("nonsense", json!({})),
    ] {
        writeln!(client.stream, "{}", json!({ "jsonrpc": "2.0", "method": method, "params": params })).unwrap();
    }
    let mut other = home.client();
    wait_until("the account is added", || other.call("account.list", json!({})).as_array().unwrap().len() == 2);
    assert_eq!(client.ask("hello", &json!({}))["id"], 1, "the first answer is the first that was asked for");
    let accounts = other.call("account.list", json!({}));
    assert_eq!((&accounts[0]["enabled"], &accounts[1]["enabled"]), (&json!(false), &json!(true)));
    assert!(other.call("lease.list", json!({})).as_array().unwrap().is_empty(), "a notification grants no lease");
    let keys = other.call("gateway.keys", json!({}));
    assert!(!keys.to_string().contains("claude"), "a notification makes no key: {keys}");
}

#[test]
fn a_subscriber_that_reads_nothing_is_disconnected_with_bounded_memory() {
    let home = Home::with_accounts("", 1);
    let mut deaf = home.client();
    deaf.call("events.subscribe", json!({}));
    deaf.stream.set_nonblocking(true).unwrap();
    let mut busy = home.client();
    let before = resident(home.pid());
    // each lease causes two events of some 250 bytes
    let mut events = 0;
    wait_until("the subscriber is disconnected", || {
        for _ in 0..100 {
            let lease = busy.acquire();
            busy.call("lease.release", reference(&lease));
            events += 2;
        }
        // it reads nothing, so only a write shows the end
        deaf.stream.write_all(b"\n").is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    let grown = resident(home.pid()).saturating_sub(before);
    println!("closed after {events} events, {grown} bytes grown");
    assert!(grown < 4 << 20, "{grown} bytes");
    assert_eq!(busy.acquire()["account"]["label"], "a0");
}

#[test]
fn many_calls_in_one_write_use_bounded_memory_for_answers() {
    let home = Home::with_accounts("", 100);
    let size = home.client().ask("account.list", &json!({})).to_string().len();
    let before = resident(home.pid());
    let mut greedy = home.client();
    // a long message enlarges the read buffer
    writeln!(greedy.stream, "{{\"x\":\"{}\"}}", "y".repeat(MAX_MESSAGE - 100)).unwrap();
    greedy.receive().unwrap();
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"account.list\"}\n";
    let calls = 600;
    let mut sender = greedy.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(call.repeat(calls).as_bytes()).unwrap());
    let (mut peak, mut answers) = (0, 0);
    let mut bytes = vec![0; 64 * 1024];
    while answers < calls {
        let read = greedy.stream.read(&mut bytes).unwrap();
        assert!(read > 0, "closed after {answers} answers");
        answers += bytes[..read].iter().filter(|byte| **byte == b'\n').count();
        peak = peak.max(resident(home.pid()));
    }
    sending.join().unwrap();
    let grown = peak.saturating_sub(before);
    println!("{size} bytes an answer, {calls} calls, {grown} bytes grown");
    assert!(grown < 3 << 20, "{grown} bytes");
}

#[test]
fn descriptors_of_ended_holders_are_reused() {
    let mut home = Home::new("");
    let mut command = Command::new("prlimit");
    command.args(["--nofile=96", env!("CARGO_BIN_EXE_lessor"), "daemon"]).env("LESSOR_HOME", home.path());
    home.start_as(command);
    home.client().add("a");
    // processes that go on after the release of their leases
    let socket = home.socket();
    let idlers: Vec<Idler> = (0..120).map(|_| Idler::start(&socket)).collect();
    let mut client = home.client();
    // refused holders take no descriptor
    let held = client.call("lease.acquire", json!({ "provider": "anthropic", "exclusive": true }));
    for idler in &idlers {
        let ask = json!({ "provider": "anthropic", "bind": { "pid": idler.0.id() }, "wait_ms": 0 });
        // the daemon may not have closed the descriptors of the previous one yet
        let kind = client.refused("lease.acquire", ask);
        assert!(["no_capacity", "overloaded"].contains(&kind.as_str()), "{kind}");
    }
    client.call("lease.release", reference(&held));
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
    client.call("lease.release", reference(&lease));
    let many: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = home.client();
            client.acquire();
            client
        })
        .collect();
    assert!(descriptors(home.pid()) < 96);
    drop(many);
}

#[test]
fn a_client_that_only_writes_gets_an_error_before_it_is_disconnected() {
    let home = Home::with_accounts("", 0);
    for end in ["\n", ""] {
        let mut client = Client::connect(&home.socket());
        let params =
            json!({ "provider": "anthropic", "kind": "api_key", "secret": format!("sk-canary-{}", end.len()) });
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "account.add", "params": params });
        write!(client.stream, "{call}{end}").unwrap();
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = client.receive().expect("an answer");
        assert_eq!((&answer["id"], &answer["error"]), (&json!(7), &Value::Null), "{answer}");
        assert_eq!(client.read_to_end(), "", "then the connection ends");
    }
}

#[test]
fn an_incomplete_binary_message_gets_a_binary_error() {
    let mut home = Home::new("");
    home.start();
    let mut stream = binary(&home);
    stream.write_all(&MAGIC).unwrap();
    let begun = Instant::now();
    let mut frames = ServerFrames::default();
    let received = next_frame(&mut stream, &mut frames);
    assert!(matches!(received, Some(FromServer::Refusal(_, _))), "{received:?}");
    assert!(next_frame(&mut stream, &mut frames).is_none());
    assert!(begun.elapsed() > Duration::from_secs(4) && begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn frames_may_arrive_in_pieces_and_must_not_have_trailing_bytes() {
    let mut home = Home::new("");
    home.start();
    let mut whole = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams::default()), &mut whole).unwrap();
    encode_call(2, Call::Status(NoParams {}), &mut whole).unwrap();
    for cut in 1..whole.len() {
        let mut stream = binary(&home);
        stream.write_all(&whole[..cut]).unwrap();
        // the second part arrives after the daemon has answered another client
        home.client().call("hello", json!({}));
        stream.write_all(&whole[cut..]).unwrap();
        let mut frames = ServerFrames::default();
        let first = next_frame(&mut stream, &mut frames);
        assert!(matches!(first, Some(FromServer::Answer(1, Answer::Hello(_)))), "cut at {cut}: {first:?}");
        let second = next_frame(&mut stream, &mut frames);
        assert!(matches!(second, Some(FromServer::Answer(2, Answer::Status(_)))), "cut at {cut}: {second:?}");
    }
    let mut longer = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams::default()), &mut longer).unwrap();
    longer.push(0);
    longer[4] += 1;
    let mut stream = binary(&home);
    stream.write_all(&longer).unwrap();
    let mut frames = ServerFrames::default();
    let received = next_frame(&mut stream, &mut frames);
    assert!(
        matches!(&received, Some(FromServer::Refusal(_, error)) if error.message.contains("left over")),
        "{received:?}"
    );
    assert!(next_frame(&mut stream, &mut frames).is_none());
}

#[test]
fn the_message_size_limit_is_exact_in_both_codecs() {
    let mut home = Home::new("");
    home.start();
    let line = |length: usize| {
        let (head, tail) = ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nonsense\",\"params\":{\"x\":\"", "\"}}");
        format!("{head}{}{tail}\n", "y".repeat(length - head.len() - tail.len()))
    };
    let mut client = home.client();
    client.stream.write_all(line(MAX_MESSAGE).as_bytes()).unwrap();
    assert_eq!(client.receive().unwrap()["error"]["code"], -32601);
    client.stream.write_all(line(MAX_MESSAGE + 1).as_bytes()).unwrap();
    assert_eq!(client.receive().unwrap()["error"]["data"]["kind"], "too_large");
    assert_eq!(client.read_to_end(), "");
    for (length, kind) in [
        (MAX_MESSAGE as u32, ErrorKind::BadRequest),
        (MAX_MESSAGE as u32 + 1, ErrorKind::TooLarge),
        (u32::MAX, ErrorKind::TooLarge),
    ] {
        let mut stream = binary(&home);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        if kind == ErrorKind::BadRequest {
            bytes.extend(std::iter::repeat_n(0xff, length as usize));
        }
        stream.write_all(&bytes).unwrap();
        let received = next_frame(&mut stream, &mut ServerFrames::default());
        assert!(
            matches!(&received, Some(FromServer::Refusal(_, error)) if error.data.kind == kind),
            "{length}: {received:?}"
        );
    }
}

#[test]
fn idle_connections_release_their_buffers() {
    const CLIENTS: usize = 500;
    let mut home = Home::new("");
    home.start();
    let crowd = || {
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|_| {
                let mut client = home.client();
                client.call("status", json!({}));
                client
            })
            .collect();
        let size = resident(home.pid());
        drop(clients);
        size
    };
    let before = descriptors(home.pid());
    let sizes: Vec<u64> = (0..4)
        .map(|_| {
            let size = crowd();
            // parts of the daemon that begin after its greeting open some dozens
            wait_until("their descriptors are closed", || descriptors(home.pid()) <= before + CLIENTS / 4);
            size
        })
        .collect();
    // the first clients may enlarge the heap; later ones reuse it
    assert!(sizes[3] < sizes[0] + (1 << 20), "{sizes:?}");
}

#[test]
fn a_lease_id_with_a_changed_character_is_unknown() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    let lease = client.acquire();
    let id = lease["lease"].as_str().unwrap();
    for place in 0..id.len() {
        let mut changed = id.as_bytes().to_vec();
        changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        for method in ["lease.renew", "lease.release", "lease.resume", "lease.credential"] {
            let kind = client.refused(method, json!({ "lease": changed }));
            assert_eq!(kind, "unknown_lease", "{method} {changed}");
        }
    }
    let other = json!({ "lease": id, "fence": fence(&lease) + 1 });
    assert_eq!(client.refused("lease.release", other), "stale_lease");
    client.call("lease.release", reference(&lease));
}

#[test]
fn random_bytes_end_the_connection_and_not_the_daemon() {
    let home = Home::with_accounts("", 1);
    // xorshift: the same bytes in each run
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut hello = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams::default()), &mut hello).unwrap();
    for round in 0..600 {
        let mut stream = binary(&home);
        let start: &[u8] = [&b""[..], b"{", &MAGIC, &hello, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":"][round % 5];
        let mut bytes = start.to_vec();
        if round % 5 == 3 {
            // a valid length, so that the bytes reach the decoder
            let length = 1 + random() as u8 % 64;
            bytes.extend_from_slice(&u32::from(length).to_le_bytes());
        }
        bytes.extend((0..random() % 200).map(|_| random() as u8));
        let _closed_early = stream.write_all(&bytes);
        let _closed_early = stream.shutdown(std::net::Shutdown::Write);
        let mut received = Vec::new();
        let _reset = stream.read_to_end(&mut received);
    }
    home.client().acquire();
    assert!(!home.output().contains("panicked"), "{}", home.output());
}

#[test]
fn a_limit_that_is_too_low_is_named_at_the_start() {
    let home = Home::new("");
    let limits = |option: &str| {
        let mut command = Command::new("prlimit");
        command.args([option, env!("CARGO_BIN_EXE_lessor"), "daemon"]).env("LESSOR_HOME", home.path());
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().unwrap()
    };
    let too_low = [8, 9, 12, 16, 24, 32, 48, 63].map(|most| (format!("--nofile={most}"), "the limit on open files is"));
    let small = [256, 384, 512, 768, 1023];
    let small = small.map(|most: u64| (format!("--as={}", most << 20), "the limit on the address space is"));
    for (option, message) in too_low.into_iter().chain(small) {
        let output = limits(&option);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{option}: {output:?}");
        assert!(text.contains(message) && text.contains("raise it") && !text.contains("panicked"), "{option}: {text}");
    }
}

#[test]
fn the_lowest_limits_are_enough_to_serve() {
    for limits in [&["--nofile=96"][..], &["--as=1073741824"], &["--nofile=96", "--as=1073741824"]] {
        let mut home = Home::new("");
        let mut command = Command::new("prlimit");
        command.args(limits).args([env!("CARGO_BIN_EXE_lessor"), "daemon"]).env("LESSOR_HOME", home.path());
        home.start_as(command);
        home.client().add("a");
        // more clients than there are descriptors for: they wait, and others are served when some leave
        for _ in 0..3 {
            let crowd: Vec<_> = (0..100).map_while(|_| UnixStream::connect(home.socket()).ok()).collect();
            drop(crowd);
        }
        let mut client = home.client();
        let lease = client.acquire();
        client.call("lease.release", reference(&lease));
        let output = home.output();
        assert!(home.is_running() && !output.contains("panicked"), "{limits:?}: {output}");
    }
}
