//! Secrets reach their holders only.

use serde_json::json;

use crate::support::{Home, fence, reference, wait_until};
use crate::upstream::Upstream;

#[test]
fn a_secret_reaches_only_its_holder() {
    // a provider that echoes what it receives
    let upstream = Upstream::new(|request, _| {
        let sent = request.headers.lines().find(|line| line.starts_with("authorization")).unwrap_or_default();
        (403, "x-said: no\r\n", json!({ "error": { "message": sent, "status": sent, "code": 403 } }).to_string())
    });
    let url = &upstream.url;
    let mut home = Home::new(&format!("[daemon]\nlog = \"trace\"\n[providers.google]\nusage_url = \"{url}\"\n"));
    home.start();
    let mut client = home.client();
    client.add("one");
    client.call(
        "account.add",
        json!({ "provider": "google", "kind": "oauth", "secret": "ya29.canary", "refresh_token": "1//canary" }),
    );
    let lease = client.acquire();
    assert_eq!(lease["credential"]["secret"], "sk-canary-one");
    let mut received = String::new();
    let me = json!({ "pid": std::process::id() });
    let token = client.call("lease.token", json!({ "provider": "anthropic", "bind": me }));
    assert_eq!(token["credential"]["secret"], "sk-canary-one");
    let google = client.call("account.list", json!({ "provider": "google" }))[0]["id"].clone();
    wait_until("the provider was asked", || upstream.seen().iter().any(|request| request.headers.contains("canary")));
    for method in ["account.usage", "account.verify"] {
        received += &client.ask(method, &json!({ "account": google })).to_string();
    }
    received += &client.ask("secrets.rekey", &json!({})).to_string();
    // the environment is not searched, because it holds the name of this test
    let arguments = std::fs::read(format!("/proc/{}/cmdline", home.pid())).unwrap_or_default();
    received += &String::from_utf8_lossy(&arguments);
    for method in ["account.export", "explain", "account.list", "lease.list", "status", "config.get"] {
        received += &client.ask(method, &json!({})).to_string();
    }
    for wrong in [
        json!({ "provider": "anthropic", "kind": "nonsense", "secret": "sk-canary-two" }),
        json!({ "provider": "anthropic", "kind": "api_key", "secret": ["sk-canary-three"] }),
        json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary-one", "label": "other" }),
        json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary four" }),
    ] {
        let refusal = client.ask("account.add", &wrong);
        assert!(!refusal["error"].is_null(), "{refusal}");
        received += &refusal.to_string();
    }
    client.call("lease.report", json!({ "lease": lease["lease"], "reason": "auth_failed" }));
    client.ask("lease.release", &reference(&lease));
    client.call("events.subscribe", json!({ "recent": true }));
    loop {
        let event = client.receive().unwrap();
        received += &event.to_string();
        if event["params"]["kind"] == "replay.end" {
            break;
        }
    }
    assert!(received.contains(&fence(&lease).to_string()), "the events are there");
    assert_eq!(home.stop(), Some(0));
    assert!(!received.contains("canary"), "{received}");
    // it is in no file, including the log at level trace
    let mut directories = vec![home.path().to_owned()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
                continue;
            }
            files += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(b"canary".len()).any(|window| window == b"canary");
            assert!(!found, "{}", entry.path().display());
        }
    }
    assert!(files >= 4, "{files}");
}

/// The limits and `/proc` show that other processes cannot read its memory.
#[cfg(target_os = "linux")]
#[test]
fn the_daemon_cannot_be_dumped_or_traced() {
    let mut home = Home::new("");
    home.start();
    home.client().add("one");
    let proc = format!("/proc/{}", home.pid());
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // root owns the /proc folder of a process that cannot be traced; as root, test it with the signal for a core dump
    if !rustix::process::geteuid().is_root() {
        assert!(std::fs::read(format!("{proc}/mem")).is_err());
        assert!(std::fs::read_dir(format!("{proc}/fd")).is_err());
    }
}
