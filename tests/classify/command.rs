//! `lessor classify` as scripts use it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What the command did.
pub struct Done {
    pub code: i32,
    pub lines: Vec<Value>,
    pub err: String,
}

fn command(home: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_NO_START", "LESSOR_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("LESSOR_HOME", home).arg("classify").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn feed(mut command: Command, input: Vec<u8>) -> Done {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // a command that ends early need not read it all
    let _ended = feeding.join().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    Done {
        code: output.status.code().unwrap(),
        lines: out.lines().map(|line| serde_json::from_str(line).expect(line)).collect(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Feeds one document per line.
pub fn classify(args: &[&str], input: &[Value]) -> Done {
    let home = tempfile::tempdir().unwrap();
    let done =
        feed(command(home.path(), args), input.iter().map(|line| format!("{line}\n")).collect::<String>().into());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing is started or written");
    done
}

#[test]
fn a_line_has_six_keys() {
    let done = classify(&[], &[json!({"provider": "openai", "status": 429, "headers": {"retry-after": "7"}})]);
    let expected = json!({"reason": "unknown", "scope": "pool", "retry_after_ms": 7000, "source": "retry-after",
        "wait_ms": 7000, "action": "switch"});
    assert_eq!((done.code, done.lines), (0, vec![expected]));
}

#[test]
fn omitted_fields_have_defaults() {
    let done =
        classify(&[], &[json!({"status": 429}), json!({"status": "503", "headers": null, "body": null, "x": 1})]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.lines[0]["reason"], "unknown");
    assert_eq!(done.lines[1]["reason"], "model_capacity_exhausted");
}

#[test]
fn a_bad_line_gets_an_error_in_its_position() {
    let home = tempfile::tempdir().unwrap();
    let mut input = b"{\"status\":500}\nnot json\n{\"provider\":\"x\"}\n\n{\"status\":-1}\n[1]\n\xff\xfe\n".to_vec();
    input.extend(b"{\"status\":401,\"body\":\"\xff \\ud83d\"}");
    let done = feed(command(home.path(), &[]), input);
    assert_eq!(done.code, 1);
    let told: Vec<bool> = done.lines.iter().map(|line| line["error"].is_string()).collect();
    assert_eq!(told, [false, true, true, true, true, true, false]);
    assert_eq!(done.lines[6]["reason"], "auth_failed");
    for number in ["line 2:", "line 3:", "line 5:", "line 6:", "line 7:"] {
        assert!(done.err.contains(number), "{}", done.err);
    }
    assert_eq!(done.err.lines().count(), 5, "{}", done.err);
}

#[test]
fn an_endless_line_is_rejected_and_the_next_is_read() {
    let home = tempfile::tempdir().unwrap();
    let mut input = b"{\"status\":429,\"body\":\"".to_vec();
    input.resize(9 * 1024 * 1024, b'x');
    input.extend(b"\"}\n{\"status\":500}\n");
    let done = feed(command(home.path(), &[]), input);
    assert_eq!((done.code, done.lines.len()), (1, 2));
    assert!(done.lines[0]["error"].as_str().unwrap().contains("longer than"), "{}", done.lines[0]);
    assert_eq!(done.lines[1]["reason"], "server_error");
}

#[test]
fn each_line_is_answered_before_the_next_is_read() {
    let home = tempfile::tempdir().unwrap();
    let mut child = command(home.path(), &[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for status in [500, 401, 529] {
        writeln!(stdin, "{{\"status\":{status}}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("reason"), "{line}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_configuration_is_applied() {
    let home = tempfile::tempdir().unwrap();
    let config = "[limits]\nrate_limit_backoff = \"7s\"\nquota_backoff = [\"3m\"]\n";
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let input = b"{\"status\":429,\"body\":\"rate limit\"}\n{\"status\":429,\"body\":\"daily quota\"}\n".to_vec();
    let done = feed(command(home.path(), &[]), input.clone());
    let waits: Vec<_> = done.lines.iter().map(|line| line["wait_ms"].as_u64().unwrap()).collect();
    assert_eq!(waits, [7_000, 180_000]);

    std::fs::write(home.path().join("config.toml"), "[limits]\nswitch_on_first_rate_limit = false\n").unwrap();
    let done = feed(command(home.path(), &[]), input.clone());
    assert_eq!((&done.lines[0]["action"], &done.lines[0]["wait_ms"]), (&json!("retry"), &json!(1_000)));
    assert_eq!(done.lines[1]["action"], "switch");

    std::fs::write(home.path().join("config.toml"), "[limits]\nnonsense = 1\n").unwrap();
    let done = feed(command(home.path(), &[]), input);
    assert_eq!((done.code, done.lines.len()), (6, 0));
    assert!(done.err.contains("nonsense"), "{}", done.err);
}
