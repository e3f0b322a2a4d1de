//! Invalid, oversized, incomplete and slow input: one error or a closed connection, no growth, no effect on others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use lessor::protocol::{Answer, Call, ErrorKind, FromServer, HelloParams, MAGIC, NoParams, ServerFrames, encode_call};
use serde_json::{Value, json};

use crate::support::{Client, Home, descriptors, resident, signal, wait_until};

/// Sends bytes on a new connection; returns what is received until it is closed.
fn send(home: &Home, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(home.socket()).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    // the daemon may close before everything is written
    let _closed_early = stream.write_all(bytes);
    let _closed_early = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    answer
}

fn error_kind(answer: &[u8]) -> String {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap();
    let answer: Value =
        serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(answer)));
    answer["error"]["data"]["kind"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn invalid_input_gets_one_error_and_closes_the_connection() {
    let mut home = Home::new("");
    home.start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xef\xbb\xbf{}", b"\0\0\0\0", b"[1]\n", b"hello\n"] {
        assert_eq!(error_kind(&send(&home, bytes)), "bad_request", "{bytes:?}");
    }
    assert_eq!(error_kind(&send(&home, b"LSR\x02")), "unsupported_version");
    for bytes in [&b"LSR\x01\xff\xff\xff\xff"[..], b"LSR\x01\x04\0\0\0\xff\xff\xff\xff", b"LSR\x01\0\0\0\0"] {
        let answer = send(&home, bytes);
        let mut frames = ServerFrames::default();
        frames.inbox().extend_from_slice(&answer);
        assert!(matches!(frames.take(), Ok(Some(FromServer::Refusal(_, _)))), "{bytes:?}: {answer:?}");
    }
    home.client().call("hello", json!({}));
}

#[test]
fn each_line_is_a_message_of_its_own() {
    let mut home = Home::new("");
    home.start();
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":{{\"x\":{}1{}}}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let mut client = home.client();
    for (line, code, id) in [
        ("{", -32700, json!(null)),
        ("{\"jsonrpc\":\"2.0\",\"id\":1}", -32600, json!(1)),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"hello\"}", -32600, json!(null)),
        ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}]", -32600, json!(null)),
        ("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"nonsense\"}", -32601, json!("a")),
        ("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"hello\",\"params\":[]}", -32602, json!(1.5)),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":9007199254740993,\"method\":\"status\",\"params\":{\"x\":1}}",
            -32602,
            json!(9_007_199_254_740_993_u64),
        ),
        (deep.as_str(), -32602, json!(1)),
    ] {
        // what follows on the same connection is served
        writeln!(client.stream, "{line}\r").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!((answer["error"]["code"].as_i64(), &answer["id"]), (Some(code), &id), "{line:.90}");
    }
    for (line, id) in [
        ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"hello\"}", json!(null)),
        ("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"hello\",\"params\":{}}", json!("x")),
        ("{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}\n{\"jsonrpc\":\"2.0\",\"id\":-7,\"method\":\"hello\"}", json!(-7)),
    ] {
        writeln!(client.stream, "{line}").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!((&answer["result"]["server"], &answer["id"]), (&json!("lessor"), &id), "{line}");
    }
    client.stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}\n").unwrap();
    assert_eq!(client.receive().unwrap()["error"]["code"], -32700);
    let whole = send(&home, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}");
    assert!(String::from_utf8_lossy(&whole).contains("\"server\":\"lessor\""), "no line's end is needed at the end");
}

#[test]
fn the_binary_codec_starts_with_hello_and_accepts_any_pieces() {
    let mut home = Home::new("");
    home.start();
    let mut bytes = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams::default()), &mut bytes).unwrap();
    encode_call(2, Call::Status(NoParams {}), &mut bytes).unwrap();
    let mut stream = UnixStream::connect(home.socket()).unwrap();
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut frames = ServerFrames::default();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0);
        frames.inbox().extend_from_slice(&buffer[..read]);
        while let Some(message) = frames.take().unwrap() {
            seen.push(message);
        }
    }
    assert!(
        matches!(&seen[0], FromServer::Answer(1, Answer::Hello(hello)) if hello.features.contains(&"enc:bincode2".into()))
    );
    assert!(matches!(&seen[1], FromServer::Answer(2, Answer::Status(_))));
    let mut bytes = MAGIC.to_vec();
    encode_call(1, Call::Status(NoParams {}), &mut bytes).unwrap();
    let mut frames = ServerFrames::default();
    frames.inbox().extend_from_slice(&send(&home, &bytes));
    assert!(matches!(frames.take(), Ok(Some(FromServer::Refusal(1, _)))), "hello comes first");
    let mut bytes = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams { client: "later".into(), protocol: (2, 9) }), &mut bytes).unwrap();
    let mut frames = ServerFrames::default();
    frames.inbox().extend_from_slice(&send(&home, &bytes));
    let refusal = frames.take().unwrap().unwrap();
    assert!(
        matches!(&refusal, FromServer::Refusal(1, error) if error.data.kind == ErrorKind::UnsupportedVersion),
        "{refusal:?}"
    );
}

#[test]
fn oversized_input_does_not_grow_the_daemon() {
    let mut home = Home::new("");
    home.start();
    home.client().call("status", json!({}));
    let before = resident(home.pid());
    for _ in 0..1000 {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        stream.write_all(b"LSR\x01\xff\xff\xff\x7f").unwrap();
    }
    let mut long = vec![b' '; 300 * 1024];
    long[0] = b'{';
    for _ in 0..20 {
        assert_eq!(error_kind(&send(&home, &long)), "too_large");
    }
    home.client().call("status", json!({}));
    let grown = resident(home.pid()).saturating_sub(before);
    assert!(grown < 3 << 20, "{grown} bytes");
}

#[test]
fn silent_clients_are_disconnected_and_delay_no_other() {
    let mut home = Home::with_accounts("", 1);
    let mut silent: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(home.socket()).unwrap()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        if number % 2 == 0 {
            stream.write_all(b"{\"jsonrpc\":").unwrap();
        }
    }
    let begun = Instant::now();
    let mut good = home.client();
    good.acquire();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for stream in &mut silent {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(10), "{took:?}");
    // after its first message a client may be silent
    good.call("lease.list", json!({}));
    assert_eq!(home.stop(), Some(0));
}

#[test]
fn a_client_that_reads_nothing_is_bounded_and_delays_no_other() {
    let home = Home::with_accounts("", 8);
    let before = resident(home.pid());
    let mut deaf = Client::connect(&home.socket());
    deaf.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while sent < 200_000 && deaf.send("account.list", &json!({})).is_ok() {
        sent += 1;
    }
    assert!(sent < 200_000, "the daemon goes on reading what it cannot answer");
    home.client().call("status", json!({}));
    let grown = resident(home.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes after {sent} calls");
}

#[test]
fn the_number_of_waiting_calls_is_limited() {
    let home = Home::with_accounts("[leases]\noverflow = \"wait\"\n", 1);
    let mut client = home.client();
    client.acquire();
    for _ in 0..65 {
        client.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    }
    let answer = client.receive().unwrap();
    assert_eq!(answer["error"]["data"]["kind"], "overloaded", "{answer}");
    home.client().wait_for_queue(64);
    drop(client);
    home.client().wait_for_queue(0);
}

#[test]
fn closed_connections_leave_no_descriptor() {
    let home = Home::with_accounts("", 1);
    let before = descriptors(home.pid());
    for _ in 0..2000 {
        drop(UnixStream::connect(home.socket()).unwrap());
    }
    let idle: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = home.client();
            client.call("hello", json!({}));
            client
        })
        .collect();
    let with_idle = resident(home.pid());
    drop(idle);
    wait_until("their descriptors are closed", || descriptors(home.pid()) <= before + 2);
    println!("500 idle connections: {} bytes resident", with_idle);
}

#[test]
fn with_few_descriptors_clients_are_served_without_busy_waiting() {
    let mut home = Home::new("");
    let mut command = Command::new("prlimit");
    command.args(["--nofile=96", env!("CARGO_BIN_EXE_lessor"), "daemon"]).env("LESSOR_HOME", home.path());
    home.start_as(command);
    let mut good = home.client();
    good.add("a");
    let crowd: Vec<UnixStream> = (0..200).filter_map(|_| UnixStream::connect(home.socket()).ok()).collect();
    let busy = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", home.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
        fields[0] + fields[1]
    };
    let before = busy();
    // measured by CPU time: half a second with many waiting clients
    std::thread::sleep(Duration::from_millis(500));
    assert!(busy() - before <= 5, "{} ticks of 10 ms in half a second", busy() - before);
    good.acquire();
    drop(crowd);
    home.client().call("hello", json!({}));
    home.client().acquire();
}

#[test]
fn a_client_of_another_user_is_disconnected_before_any_message() {
    if !rustix::process::geteuid().is_root() {
        return println!("not run: another user needs root");
    }
    use std::os::unix::fs::PermissionsExt;
    let mut home = Home::new("");
    home.start();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(home.path(), 0o755);
    open(&home.path().join("run"), 0o755);
    open(&home.socket(), 0o666);
    let program = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(program)
        .args(["--exact", "wire::speak", "--nocapture"])
        .env(SPEAK, home.socket())
        .output()
        .unwrap();
    let received = String::from_utf8_lossy(&output.stdout);
    assert!(received.contains("read 0 bytes"), "{received}{}", String::from_utf8_lossy(&output.stderr));
    home.client().call("hello", json!({}));
}

const SPEAK: &str = "LESSOR_TEST_SPEAK";

/// Not a test: another user runs this.
#[test]
fn speak() {
    let Some(socket) = std::env::var_os(SPEAK) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let _closed_already = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n");
    let mut received = Vec::new();
    let _reset = stream.read_to_end(&mut received);
    println!("read {} bytes", received.len());
}

#[test]
fn a_stopped_client_delays_no_other() {
    let home = Home::with_accounts("[leases]\noverflow = \"wait\"\n", 2);
    let holder = crate::support::Holder::start(&home);
    signal(holder.child.id(), rustix::process::Signal::STOP);
    let mut other = home.client();
    let lease = other.acquire();
    assert_ne!(crate::support::label(&lease), holder.label);
    signal(holder.child.id(), rustix::process::Signal::CONT);
}
