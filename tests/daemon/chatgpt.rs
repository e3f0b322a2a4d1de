//! `lessor login openai --chatgpt`: from the page to the account, its requests and its refreshes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::chatgpt_server::{ChatgptServer, User};
use crate::support::{Home, wait_until};

const ANN: User = User { sub: "user-ann", workspace: "ws-1", email: "ann@example.org" };
const ANN_AT_WORK: User = User { sub: "user-ann", workspace: "ws-2", email: "ann@example.org" };
const BOB: User = User { sub: "user-bob", workspace: "ws-3", email: "bob@example.org" };
const HOUR: Duration = Duration::from_secs(3600);

fn home(server: &ChatgptServer) -> Home {
    let mut home = Home::new(&server.config());
    home.start();
    home
}

fn lessor(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
        command.env_remove(name);
    }
    command.args(args).env("LESSOR_HOME", home.path()).env("HTTPS_PROXY", "http://127.0.0.1:9");
    command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command; its output, or its errors.
fn run(home: &Home, args: &[&str]) -> Result<String, String> {
    let done = lessor(home, args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

fn document(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&run(home, &[args, &["--json"]].concat()).unwrap()).unwrap()
}

fn accounts(home: &Home) -> Vec<Value> {
    document(home, &["account", "list"]).as_array().unwrap().clone()
}

/// Logs in as the user at the browser: the account, and the messages; or the errors.
fn log_in(home: &Home, options: &[&str]) -> Result<(Value, String), String> {
    let arguments = [&["login", "openai", "--chatgpt", "--json"], options].concat();
    let mut child = lessor(home, &arguments).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut messages = String::new();
    loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).unwrap() == 0 {
            break;
        }
        messages.push_str(&line);
        let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) else { continue };
        let (status, back) = get(url);
        let Some(back) = back else {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("the page answered {status}"));
        };
        if options.contains(&"--paste") {
            writeln!(child.stdin.as_mut().unwrap(), "{back}").unwrap();
        } else {
            assert_eq!(get(&back).0, 200);
        }
    }
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let succeeded = child.wait().unwrap().success();
    if succeeded { Ok((serde_json::from_str(&out).unwrap(), messages)) } else { Err(messages) }
}

/// Acts as a browser: returns the status and the redirect.
fn get(url: &str) -> (u16, Option<String>) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (status, head, _) =
        exchange(host, &format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    (status, head.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned)))
}

/// Sends a request; the status, the head and the body of the answer.
fn exchange(host: &str, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = number.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, String::from_utf8(body).unwrap())
}

/// A request through the gateway, as any program sends it.
fn request(home: &Home, key: &str, path: &str) -> (u16, Value) {
    let url = run(home, &["gateway", "url"]).unwrap();
    let host = url.trim().strip_prefix("http://").unwrap().to_owned();
    let body = r#"{"model":"gpt-6","input":[],"store":false,"stream":true}"#;
    let length = body.len();
    let request = format!(
        "POST /openai{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nchatgpt-account-id: mine\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let (status, _, body) = exchange(&host, &request);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

fn gateway_key(home: &Home) -> String {
    document(home, &["gateway", "key"])["key"].as_str().unwrap().to_owned()
}

#[test]
fn any_program_uses_the_plan_at_the_public_api_over_three_expiries() {
    let server = ChatgptServer::start(Duration::from_secs(6));
    let mut home = home(&server);
    server.user(&ANN);
    let (account, messages) = log_in(&home, &[]).unwrap();
    assert_eq!((&account["kind"], &account["resource"]), (&json!("oauth"), &json!("https://api.openai.com/v1")));
    assert_eq!((&account["email"], &account["use"]), (&json!(ANN.email), &json!(["any"])));
    assert_eq!((&account["organization_id"], &account["client_id"]), (&json!("ws-1"), &json!("oaiapp_1")));
    assert!(messages.contains("experimental") && messages.contains("lessor run codex"), "{messages}");
    assert!(!messages.contains("canary"), "{messages}");
    let key = gateway_key(&home);
    assert_eq!(request(&home, &key, "/v1/responses").1["client"], "oaiapp_1");
    assert_eq!(request(&home, &key, "/responses").0, 200, "the path of Codex's own server, too");
    assert_ne!(request(&home, &key, "/v1/chat/completions").0, 200, "not served to this login");
    for expiry in 1..=3 {
        wait_until("the login is refreshed", || server.refreshes("oaiapp_1") >= expiry);
        if expiry == 2 {
            assert_eq!(home.stop(), Some(0));
            home.start();
        }
        let (status, answer) = request(&home, &key, "/v1/responses");
        assert_eq!(status, 200, "{answer}");
    }
    assert!(run(&home, &["account", "check", ANN.email]).unwrap().contains("accepts"));
    assert_eq!(accounts(&home)[0]["state"], "ready");
    assert_eq!(server.errors(), [""; 0]);
    assert!(server.served("oaiapp_1") >= 5);
    assert!(!home.output().contains("canary"));
}

#[test]
fn registrations_stay_apart_even_with_one_address() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    server.user(&ANN);
    let (first, _) = log_in(&home, &[]).unwrap();
    server.user(&ANN_AT_WORK);
    let (second, _) = log_in(&home, &["--paste"]).unwrap();
    server.user(&BOB);
    let (third, _) = log_in(&home, &["--label", "bob"]).unwrap();
    let ids = [&first, &second, &third].map(|account| account["client_id"].as_str().unwrap().to_owned());
    assert_eq!(ids, ["oaiapp_1", "oaiapp_2", "oaiapp_3"]);
    let shown = (&second["email"], &second["label"]);
    assert_eq!(
        shown,
        (&json!(format!("{} (ws-2)", ANN.email)), &json!("chatgpt")),
        "what is shown of them is distinct"
    );
    assert_eq!(accounts(&home).len(), 3);
    let hosts = server.hosts();
    assert!(hosts.iter().all(|host| *host == hosts[0]), "one installation: {hosts:?}");
    // the same account again: its own client, the same account
    let (again, _) = log_in(&home, &["--label", "bob"]).unwrap();
    assert_eq!((&again["id"], &again["client_id"]), (&third["id"], &third["client_id"]));
    assert_eq!(server.hints().last().unwrap(), BOB.email);
    assert_eq!((server.clients_of(&BOB).len(), accounts(&home).len()), (1, 3));
    // another login of the same person, by Codex's own client, is another account
    let login = json!({ "access_token": "at", "refresh_token": "rt", "expires_at": "2099-01-01T00:00:00Z",
        "email": ANN.email, "person_id": ANN.sub, "organization_id": ANN.workspace });
    let mut add = lessor(&home, &["account", "add", "openai", "--oauth-stdin"]).spawn().unwrap();
    add.stdin.take().unwrap().write_all(login.to_string().as_bytes()).unwrap();
    assert!(add.wait().unwrap().success());
    assert_eq!(accounts(&home).len(), 4);
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn a_login_as_another_person_changes_nothing() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    server.user(&ANN);
    log_in(&home, &["--label", "mine"]).unwrap();
    let before = accounts(&home);
    server.impersonate("oaiapp_1", &BOB);
    let error = log_in(&home, &["--label", "mine"]).unwrap_err();
    assert!(error.contains("another person"), "{error}");
    assert_eq!(accounts(&home)[0]["client_id"], before[0]["client_id"]);
    assert_eq!(accounts(&home)[0]["credential_expires_at"], before[0]["credential_expires_at"]);
}

#[test]
fn a_registration_whose_answer_was_lost_is_used_by_the_next_login() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    server.user(&ANN);
    server.lose_next_answer();
    let error = log_in(&home, &[]).unwrap_err();
    assert!(error.contains("invalid_grant") && error.contains("lessor login openai --chatgpt"), "{error}");
    assert_eq!(accounts(&home).len(), 0);
    let (account, _) = log_in(&home, &[]).unwrap();
    assert_eq!((&account["client_id"], server.clients_of(&ANN).len()), (&json!("oaiapp_1"), 1));
    // the next one registers again
    server.user(&BOB);
    assert_eq!(log_in(&home, &[]).unwrap().0["client_id"], "oaiapp_2");
}

#[test]
fn a_user_who_refuses_gets_no_account_and_the_next_step() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    server.user(&ANN);
    server.refuse(true);
    let error = log_in(&home, &[]).unwrap_err();
    assert!(error.contains("access_denied") && error.contains("lessor login openai --chatgpt"), "{error}");
    server.refuse(false);
    server.grant_no_plan();
    let error = log_in(&home, &[]).unwrap_err();
    assert!(error.contains("did not allow lessor to use the ChatGPT plan"), "{error}");
    assert_eq!(accounts(&home).len(), 0);
}

#[test]
fn an_ended_login_names_the_command_that_renews_it() {
    let server = ChatgptServer::start(Duration::from_secs(4));
    let home = home(&server);
    server.user(&ANN);
    log_in(&home, &["--label", "mine"]).unwrap();
    server.revoke("oaiapp_1");
    let needs_login = || accounts(&home)[0]["state"] == "needs_login";
    wait_until("the login has ended", needs_login);
    let account = accounts(&home)[0].clone();
    assert_eq!(account["remedy"], "lessor login openai --chatgpt --label mine", "{account}");
    let status = run(&home, &["status"]).unwrap();
    assert!(status.contains("lessor login openai --chatgpt --label mine"), "{status}");
}

#[test]
fn a_registration_that_is_gone_stops_its_own_login_only() {
    let server = ChatgptServer::start(Duration::from_secs(6));
    let home = home(&server);
    for (user, label) in [(&ANN, "gone"), (&BOB, "there")] {
        server.user(user);
        log_in(&home, &["--label", label]).unwrap();
    }
    server.forget("oaiapp_1");
    let remedy = "lessor account remove gone, then: lessor login openai --chatgpt";
    wait_until("the warning is shown", || run(&home, &["status"]).unwrap().replace("\n  ", " ").contains(remedy));
    wait_until("the other login is refreshed", || server.refreshes("oaiapp_2") >= 1);
}

#[test]
fn a_label_of_another_account_is_refused_before_the_login() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    let mut add = lessor(&home, &["account", "add", "openai", "--api-key-stdin", "--label", "work"]).spawn().unwrap();
    add.stdin.take().unwrap().write_all(b"sk-canary").unwrap();
    assert!(add.wait().unwrap().success());
    let error = run(&home, &["login", "openai", "--chatgpt", "--label", "work"]).unwrap_err();
    assert!(error.contains("belongs to another account"), "{error}");
    assert_eq!((error.lines().count(), server.hosts().len()), (2, 0), "{error}");
}

#[test]
fn an_export_keeps_what_the_login_is_for() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    for user in [&ANN, &ANN_AT_WORK] {
        server.user(user);
        log_in(&home, &[]).unwrap();
    }
    let exported = run(&home, &["export", "--secrets", "--yes"]).unwrap();
    let file = home.path().join("export.json");
    std::fs::write(&file, &exported).unwrap();
    let other = Home::new(&server.config());
    let imported = run(&other, &["import", file.to_str().unwrap()]).unwrap();
    let (before, after) = (accounts(&home), accounts(&other));
    assert_eq!(after.len(), 2, "{imported}");
    for (one, other) in before.iter().zip(&after) {
        for field in ["resource", "client_id", "use", "email", "credential_expires_at"] {
            assert_eq!(one[field], other[field], "{field}");
        }
    }
    let key = gateway_key(&other);
    assert_eq!(request(&other, &key, "/v1/responses").0, 200);
    run(&other, &["import", file.to_str().unwrap()]).unwrap();
    assert_eq!(accounts(&other).len(), 2, "again, nothing is added");
    run(&other, &["stop"]).unwrap();
}

#[test]
fn options_that_mean_nothing_here_are_refused() {
    let server = ChatgptServer::start(HOUR);
    let home = home(&server);
    for (options, part) in [
        (&["openai", "--chatgpt", "--device"][..], "cannot be used with"),
        (&["openai", "--chatgpt", "--client", "x"], "cannot be used with"),
        (&["claude", "--chatgpt"], "lessor login openai --chatgpt"),
    ] {
        let error = run(&home, &[&["login"], options].concat()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
