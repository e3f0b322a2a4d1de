//! `[notify]`: commands, webhooks and a desktop get what happened.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Client, Home, label, wait_until};
use crate::upstream::Upstream;

/// Has the daemon use this configuration from now on.
fn configure(home: &Home, config: &str) {
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    assert_eq!(home.client().call("config.reload", json!({}))["state"], "ok", "{config}");
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind(documents: &[Value], kind: &str) -> Vec<Value> {
    documents.iter().filter(|document| document["kind"] == kind).cloned().collect()
}

fn warnings(home: &Home) -> String {
    home.client().call("status", json!({}))["warnings"].to_string()
}

/// The lease moves to the other account, with a limit of this length on its own.
fn limit(holder: &mut Client, lease: &Value, ms: u64) -> Value {
    let ask = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": ms });
    holder.call("lease.report", ask)
}

/// Everything is limited: something to notify about.
fn limit_everything(home: &Home, ms: u64) {
    let mut holder = home.client();
    let lease = holder.acquire();
    assert_eq!(limit(&mut holder, &lease, ms)["action"], "wait");
}

#[test]
fn a_command_gets_what_happened_as_json_and_no_secrets() {
    let mut home = Home::new("");
    let (out, environment) = (home.path().join("out"), home.path().join("environment"));
    let mut daemon = home.command();
    daemon.env("ANTHROPIC_API_KEY", "sk-canary").env("LC_TEST", "passed");
    home.start_as(daemon);
    let mut holder = home.client();
    ["a0", "a1"].into_iter().for_each(|label| holder.add(label));
    let script = format!("env > {}; cat >> {}", environment.display(), out.display());
    configure(&home, &format!("[notify]\ncommand = [\"sh\", \"-c\", {script:?}]\n"));
    let lease = holder.acquire();
    let second = limit(&mut holder, &lease, 120_000)["lease"].clone();
    wait_until("the switch is said", || documents(&out).len() == 1);
    let said = &documents(&out)[0];
    assert_eq!((&said["kind"], &said["provider"]), (&json!("account_switched"), &json!("anthropic")));
    assert_eq!(said["from"]["label"], label(&lease));
    assert_eq!((&said["account"]["label"], &said["reason"]), (&json!(label(&second)), &json!("quota_exhausted")));
    assert!(said["until"].as_u64() > said["at"].as_u64(), "{said}");
    let text = said["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("{} is limited until ", label(&lease))), "{text}");
    let environment = std::fs::read_to_string(environment).unwrap();
    assert!(environment.contains("LC_TEST=passed") && environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("canary") && !environment.contains("LESSOR"), "{environment}");
    // a short limit on the other one: now everything is limited, for a moment
    limit(&mut holder, &second, 1_500);
    wait_until("both are said", || documents(&out).len() == 3);
    let all = of_kind(&documents(&out), "all_limited");
    assert_eq!((all.len(), &all[0]["account"]["label"]), (1, &json!(label(&second))));
    let free = of_kind(&documents(&out), "free_again");
    assert_eq!(free[0]["text"], "anthropic is free again");
    assert_eq!(warnings(&home), "[]");
}

#[test]
fn a_command_that_fails_is_named_and_no_longer_when_it_is_off() {
    let home = Home::with_accounts("[notify]\ncommand = \"sh -c 'exit 7'\"\n", 1);
    limit_everything(&home, 60_000);
    wait_until("status names it", || warnings(&home).contains("notify.command fails: sh ended with exit status: 7"));
    assert_eq!(home.output().matches("notify.command fails").count(), 1, "{}", home.output());
    configure(&home, "");
    wait_until("the warning is gone", || warnings(&home) == "[]");
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_what_it_has_started() {
    let home = Home::with_accounts("", 1);
    let pids = home.path().join("pids");
    let script = format!("sleep 1000 & echo $! $$ > {}; wait", pids.display());
    configure(&home, &format!("[notify]\ncommand = [\"sh\", \"-c\", {script:?}]\n"));
    limit_everything(&home, 60_000);
    wait_until("it is ended", || warnings(&home).contains("took longer than 10 s"));
    let pids = std::fs::read_to_string(pids).unwrap();
    for pid in pids.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        wait_until("the process is gone", || rustix::process::test_kill_process(pid).is_err());
    }
}

#[test]
fn a_webhook_is_tried_twice_and_gets_the_same_both_times() {
    let server = Upstream::new(|_, count| (if count == 1 { 503 } else { 200 }, "", String::new()));
    let home = Home::with_accounts(&format!("[notify]\nwebhook = \"{}/hook\"\n", server.url), 1);
    limit_everything(&home, 60_000);
    wait_until("it is sent again", || server.seen().len() == 2);
    let seen = server.seen();
    assert_eq!(seen[0].body, seen[1].body);
    assert!(seen[1].line.starts_with("POST /hook "), "{:?}", seen[1]);
    assert!(seen[1].headers.contains("content-type: application/json"), "{:?}", seen[1]);
    let document: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(document["kind"], "all_limited");
    assert_eq!(warnings(&home), "[]");
}

#[test]
fn a_webhook_that_redirects_or_refuses_is_asked_once() {
    for (status, headers, why) in
        [(302, "location: /elsewhere\r\n", "redirects are not followed"), (404, "", "status 404")]
    {
        let server = Upstream::new(move |_, _| (status, headers, String::new()));
        let home = Home::with_accounts(&format!("[notify]\nwebhook = \"{}/canary\"\n", server.url), 1);
        limit_everything(&home, 60_000);
        wait_until("status names it", || warnings(&home).contains(why));
        assert_eq!(server.seen().len(), 1);
        assert!(!home.output().contains("canary"), "the URL may be a secret: {}", home.output());
    }
}

#[test]
fn an_account_that_needs_a_login_is_said_with_the_remedy() {
    let home = Home::with_accounts("", 1);
    let out = home.path().join("out");
    configure(&home, &format!("[notify]\ncommand = [\"sh\", \"-c\", \"cat >> {}\"]\n", out.display()));
    let mut client = home.client();
    // an access token that has ended, and nothing to refresh it with
    client.call(
        "account.add",
        json!({
            "provider": "anthropic", "kind": "oauth", "secret": "at-canary", "expires_at": 1, "label": "mine"
        }),
    );
    wait_until("it is said", || !of_kind(&documents(&out), "login_needed").is_empty());
    let said = &of_kind(&documents(&out), "login_needed")[0];
    assert_eq!((&said["account"]["label"], &said["reason"]), (&json!("mine"), &json!("needs_login")));
    assert_eq!(said["text"], "mine needs a new login; lessor login anthropic");
}

#[cfg(target_os = "linux")]
mod desktop {
    use std::collections::HashMap;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex};

    use zbus::zvariant::OwnedValue;

    use super::{Home, configure, limit_everything, warnings};
    use crate::support::{directory, wait_until};

    type Shown = Arc<Mutex<Vec<(String, String)>>>;

    /// The notification service of a desktop.
    struct Service(Shown);

    #[zbus::interface(name = "org.freedesktop.Notifications")]
    impl Service {
        fn get_capabilities(&self) -> Vec<String> {
            vec!["body".into(), "body-markup".into()]
        }

        #[expect(clippy::too_many_arguments, reason = "the interface is that of the desktop")]
        fn notify(
            &self,
            _app: String,
            _replaces: u32,
            _icon: String,
            summary: String,
            body: String,
            _actions: Vec<String>,
            _hints: HashMap<String, OwnedValue>,
            _expires: i32,
        ) -> u32 {
            self.0.lock().unwrap().push((summary, body));
            1
        }
    }

    /// A D-Bus session, until it is dropped.
    struct Session {
        directory: tempfile::TempDir,
        bus: Child,
    }

    impl Session {
        /// `None` where dbus-daemon is not installed.
        fn begin() -> Option<Self> {
            let directory = directory();
            let socket = directory.path().join("bus");
            let mut bus = Command::new("dbus-daemon");
            bus.args(["--session", "--nofork", "--nopidfile", "--address", &format!("unix:path={}", socket.display())]);
            let bus = bus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let Ok(bus) = bus else {
                println!("no dbus-daemon here: not tested");
                return None;
            };
            let session = Self { directory, bus };
            wait_until("the bus is there", || socket.exists());
            Some(session)
        }

        fn address(&self) -> String {
            format!("unix:path={}", self.directory.path().join("bus").display())
        }

        /// Serves notifications until the test ends; what was shown.
        fn serve(&self) -> Shown {
            let (shown, address) = (Shown::default(), self.address());
            let service = Service(shown.clone());
            let (ready, is_ready) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let builder = zbus::connection::Builder::address(&*address).unwrap();
                    let builder = builder.name("org.freedesktop.Notifications").unwrap();
                    let builder = builder.serve_at("/org/freedesktop/Notifications", service).unwrap();
                    let _connection = builder.build().await.unwrap();
                    ready.send(()).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            is_ready.recv().unwrap();
            shown
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            let _already_dead = self.bus.kill();
            let _already_dead = self.bus.wait();
        }
    }

    #[test]
    fn the_desktop_shows_a_title_and_the_text_without_markup() {
        let Some(session) = Session::begin() else { return };
        let shown = session.serve();
        let mut home = Home::new("[notify]\ndesktop = true\n");
        let mut daemon = home.command();
        daemon.env("DBUS_SESSION_BUS_ADDRESS", session.address());
        home.start_as(daemon);
        home.client().add("a<b>&");
        limit_everything(&home, 60_000);
        wait_until("it is shown", || !shown.lock().unwrap().is_empty());
        let (summary, body) = shown.lock().unwrap()[0].clone();
        assert_eq!(summary, "lessor: everything limited");
        assert!(body.starts_with("every account of anthropic is limited until "), "{body}");
        assert!(body.ends_with("first free: a&lt;b&gt;&amp;"), "{body}");
        assert_eq!(warnings(&home), "[]");
    }

    #[test]
    fn a_missing_session_or_service_is_said_once() {
        let Some(session) = Session::begin() else { return };
        for (address, why) in [
            ("unix:path=/nowhere/bus".to_owned(), "there is no D-Bus session"),
            (session.address(), "the desktop shows no notifications"),
        ] {
            let mut home = Home::new("");
            let mut daemon = home.command();
            daemon.env("DBUS_SESSION_BUS_ADDRESS", address);
            home.start_as(daemon);
            home.client().add("one");
            configure(&home, "[notify]\ndesktop = true\ncommand = \"false\"\n");
            wait_until("status says so", || warnings(&home).contains(why));
            limit_everything(&home, 60_000);
            wait_until("it was tried again", || home.output().contains("notify.command fails"));
            configure(&home, "");
            wait_until("the warning is gone", || warnings(&home) == "[]");
            assert_eq!(home.output().matches("notify.desktop fails").count(), 1, "{}", home.output());
        }
    }
}
