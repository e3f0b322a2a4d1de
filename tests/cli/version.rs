//! A daemon of another version, played by a server that answers the greeting only.

use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};

use lessor::protocol::{Answer, Codec, HelloInfo, MessageDecoder};

use super::support::{Home, PROGRAM, feed};

/// Answers every call with a greeting.
fn serve(home: &Home, version: &'static str, protocol: u32) {
    serve_and_end(home, version, protocol, "");
}

/// Does the same, and answers a call in JSON with this line before it closes the connection; answers these calls.
fn serve_and_end(home: &Home, version: &'static str, protocol: u32, answer: &'static str) -> Receiver<String> {
    let (heard, calls) = channel();
    let places = home.places();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(places.socket.parent().unwrap()).unwrap();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&places.state).unwrap();
    let listener = UnixListener::bind(&places.socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let heard = heard.clone();
            std::thread::spawn(move || {
                let (mut decoder, mut chunk) = (MessageDecoder::default(), [0; 1024]);
                while let Ok(length @ 1..) = stream.read(&mut chunk) {
                    if chunk[0] == b'{' {
                        heard.send(String::from_utf8_lossy(&chunk[..length]).into_owned()).unwrap();
                        return stream.write_all(answer.as_bytes()).unwrap();
                    }
                    decoder.inbox().extend_from_slice(&chunk[..length]);
                    while let Ok(Some(call)) = decoder.take() {
                        let hello = HelloInfo { version: version.into(), protocol, pid: 4711, ..HelloInfo::default() };
                        let mut out = Vec::new();
                        Codec::Binary.answer(&call.id.unwrap(), &Answer::Hello(hello), &mut out);
                        stream.write_all(&out).unwrap();
                    }
                }
            });
        }
    });
    calls
}

/// Runs a command with standard error on a terminal, and answers what it wrote there and to standard output.
fn on_a_terminal(home: &Home, arguments: &str) -> String {
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{PROGRAM} {arguments}"), "/dev/null"]);
    command.env("LESSOR_HOME", home.path()).env("LESSOR_NO_START", "1").env("COLUMNS", "200");
    command.env_remove("LESSOR_SOCKET").env_remove("LESSOR_CONFIG");
    feed(command, "").out
}

#[test]
fn another_version_is_said_once_and_only_to_a_person() {
    let home = Home::new();
    serve(&home, "9.8.7", lessor::protocol::PROTOCOL);
    // not where a program reads
    let quiet = home.run(&["ping", "--no-start"]).ok();
    assert_eq!(quiet.err, "");
    if cfg!(target_os = "linux") {
        assert!(!on_a_terminal(&home, "ping --json").contains("lessor restart"));
        assert!(!on_a_terminal(&home, "token anthropic").contains("lessor restart"));
        let first = on_a_terminal(&home, "ping");
        assert!(first.contains("the daemon is lessor 9.8.7") && first.contains("lessor restart"), "{first}");
        assert!(!on_a_terminal(&home, "ping").contains("lessor restart"), "it is said once for each run of the daemon");
    }
    std::fs::remove_file(home.places().socket).unwrap();
}

#[test]
fn a_protocol_that_is_not_spoken_names_both_versions_and_the_remedy() {
    let home = Home::new();
    serve(&home, "0.0.9", lessor::protocol::PROTOCOL - 1);
    home.run(&["status", "--no-start"]).exits(1).complains("0.0.9").complains("lessor restart");
    let done = home.run(&["status", "--no-start", "--json"]).exits(1).complains("unsupported_version");
    assert!(done.out.is_empty(), "{done:?}");
    std::fs::remove_file(home.places().socket).unwrap();
}

#[test]
fn a_daemon_of_another_protocol_is_stopped_and_restarted_all_the_same() {
    let home = Home::new();
    let other = lessor::protocol::PROTOCOL + 1;
    let done = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n";
    let calls = serve_and_end(&home, "9.8.7", other, done);
    let socket = home.places().socket.display().to_string();
    home.run(&["stop", "--socket", &socket]).ok().says("stopped").complains("9.8.7");
    assert!(calls.recv().unwrap().contains("\"daemon.stop\""));
    // the stub does not become another version
    let done = home.run(&["restart", "--no-start", "--socket", &socket]).exits(1).complains("9.8.7");
    assert!(calls.recv().unwrap().contains("\"daemon.restart\""));
    done.complains("lessor stop");
    std::fs::remove_file(home.places().socket).unwrap();
}

#[test]
fn a_daemon_of_another_protocol_that_refuses_to_end_is_named_by_its_process() {
    let home = Home::new();
    let refused = "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"no such call\"}}\n";
    let calls = serve_and_end(&home, "9.8.7", lessor::protocol::PROTOCOL + 1, refused);
    let (socket, lock) = (home.places().socket.display().to_string(), home.places().lock);
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, format!("{{\"pid\":4711,\"socket\":\"{socket}\"}}")).unwrap();
    for command in ["stop", "restart"] {
        let done = home.run(&[command, "--no-start", "--socket", &socket]).exits(1);
        done.complains("9.8.7").complains("no such call").complains("kill 4711");
        assert!(calls.recv().unwrap().contains(command));
    }
    std::fs::remove_file(home.places().socket).unwrap();
}
