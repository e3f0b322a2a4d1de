//! `account reset`: it shows what it would reset, asks, and uses a banked limit reset only if that is wanted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::Home;

/// A ChatGPT plan with one banked reset; counts its uses.
fn plan() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let uses = Arc::new(AtomicUsize::new(0));
    let counted = uses.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).unwrap();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                let header = header.trim().to_ascii_lowercase();
                length = header.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
                if header.is_empty() {
                    break;
                }
            }
            reader.take(length).read_to_end(&mut Vec::new()).unwrap();
            let is_used = counted.load(Ordering::Relaxed) > 0;
            let body = if line.starts_with("POST") {
                counted.fetch_add(1, Ordering::Relaxed);
                r#"{"code":"reset","windows_reset":2}"#.to_owned()
            } else if line.contains("/usage") {
                let percent = if is_used { 0 } else { 97 };
                let window =
                    format!(r#"{{"used_percent":{percent},"limit_window_seconds":18000,"reset_after_seconds":9000}}"#);
                format!(r#"{{"plan_type":"plus","rate_limit":{{"primary_window":{window}}}}}"#)
            } else {
                let status = if is_used { "redeemed" } else { "available" };
                format!(r#"{{"credits":[{{"id":"one","status":"{status}","expires_at":"2099-01-01T00:00:00Z"}}]}}"#)
            };
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _gone = stream.write_all((head + &body).as_bytes());
        }
    });
    (url, uses)
}

fn home_with_plan() -> (Home, Arc<AtomicUsize>) {
    let (url, uses) = plan();
    let home = Home::new();
    let config = format!("[quota]\npoll = \"off\"\n[providers.openai]\nusage_url = \"{url}\"\n");
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let login = r#"{"access_token":"at","refresh_token":"rt","expires_at":"2099-01-01T00:00:00Z","account_id":"w"}"#;
    home.feed(&["account", "add", "openai", "--oauth-stdin", "--label", "work"], login).ok();
    (home, uses)
}

#[test]
fn a_reset_is_shown_and_used_with_yes_only() {
    let (home, uses) = home_with_plan();
    home.run(&["account", "usage", "work"]).ok().says("1 limit reset banked").says("lessor account reset work");
    home.run(&["account", "show", "work"]).ok().says("limit resets").says("it expires");
    for command in [&["account", "reset", "work"][..], &["account", "reset", "work", "--json"]] {
        home.run(command).exits(2).complains("cannot be undone").complains("--yes");
    }
    assert_eq!(uses.load(Ordering::Relaxed), 0);
    let used = home.run(&["account", "reset", "work", "--yes"]).ok();
    let used = used.complains("97 %").complains("cannot be undone").says("used a limit reset of work: 2 windows reset");
    assert!(
        used.out.contains("nothing used of 5h") && used.out.lines().all(|line| line.chars().count() <= 80),
        "{used:?}"
    );
    assert_eq!(uses.load(Ordering::Relaxed), 1);
    assert_eq!(home.json(&["account", "list"])[0]["resets"]["available"], 0);
    home.run(&["account", "reset", "work", "--yes"]).exits(1).complains("work has no limit reset left");
    home.run(&["events"]).ok().says("account.reset");
    let key = home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", "key"], "sk-canary").ok();
    drop(key);
    for command in [&["account", "reset", "key", "--yes"][..], &["account", "reset", "key"]] {
        home.run(command).exits(1).complains("an account of anthropic, which has no limit resets");
    }
    home.run(&["account", "reset", "work"]).exits(1).complains("work has no limit reset left");
}

/// Only a terminal is asked.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_a_reset_is_used_only_after_a_yes() {
    let (home, uses) = home_with_plan();
    let lessor = home.command(&[]).get_program().to_string_lossy().into_owned();
    let reset = |answer: &str| {
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("'{lessor}' account reset work"), "/dev/null"]);
        let like = home.command(&[]);
        for (name, value) in like.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        super::support::feed(command, answer)
    };
    reset("\n").ok().says("Use one now? [y/N]").says("no reset was used");
    assert_eq!(uses.load(Ordering::Relaxed), 0);
    reset("y\n").ok().says("used a limit reset of work");
    assert_eq!(uses.load(Ordering::Relaxed), 1);
}
