//! OAuth clients whose secrets are stored: from their file or `secrets set` to logins and refreshes.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::login::Login;
use crate::oauth_server::{Fail, OauthServer};
use crate::support::{Home, wait_until};

/// A home whose provider has a server, and no client but those that the lines name.
fn home(server: &OauthServer, lines: &str) -> Home {
    let mut home = Home::new(&format!("[providers.mine.oauth]\nissuer = \"{}\"\n{lines}", server.url));
    home.start();
    home
}

fn client_file(home: &Home, secret: &str) -> String {
    let file = home.path().join("client.json");
    std::fs::write(&file, json!({ "client_id": "test-client", "client_secret": secret, "name": "own" }).to_string())
        .unwrap();
    file.to_str().unwrap().to_owned()
}

fn run(home: &Home, args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG"] {
        command.env_remove(name);
    }
    command.args(args).env("LESSOR_HOME", home.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_client_from_a_file_logs_in_refreshes_and_outlives_the_daemon() {
    let server = OauthServer::start();
    let mut home = home(&server, "");
    let file = client_file(&home, "client-canary");
    let mut login = Login::start(&home, &["--paste", "--client", &file]);
    login.log_in();
    let account = login.end().unwrap();
    assert_eq!(server.form("client_secret"), "client-canary");
    std::fs::remove_file(&file).unwrap();
    // from now on without naming it, and by its name
    for args in [&["--paste"][..], &["--paste", "--client", "own"]] {
        let mut login = Login::start(&home, args);
        login.log_in();
        assert_eq!(
            (&login.end().unwrap()["id"], server.form("client_secret").as_str()),
            (&account["id"], "client-canary")
        );
    }
    let refresh = |home: &Home| home.client().call("account.refresh", json!({ "account": account["id"] }));
    refresh(&home);
    home.kill();
    home.start();
    refresh(&home);
    assert_eq!(
        (server.form("grant_type"), server.form("client_secret")),
        ("refresh_token".into(), "client-canary".into())
    );
    // a new key seals it again
    home.client().call("secrets.rekey", json!({}));
    home.kill();
    home.start();
    refresh(&home);
    assert_eq!(server.form("client_secret"), "client-canary");
    let mut client = home.client();
    let listed = client.call("secrets.list", json!({}));
    assert_eq!(
        (&listed[0]["name"], &listed[0]["client_id"], &listed[0]["provider"], &listed[0]["used_by"][0]["id"]),
        (&json!("own"), &json!("test-client"), &json!("mine"), &account["id"])
    );
    assert_eq!(client.call("secrets.list", json!({ "secrets": true }))[0]["secret"], "client-canary");
    for (method, params) in
        [("secrets.list", json!({})), ("status", json!({})), ("config.get", json!({})), ("account.list", json!({}))]
    {
        assert!(!client.call(method, params).to_string().contains("canary"), "{method}");
    }
    assert!(!home.output().contains("canary"));
}

#[test]
fn a_stored_secret_is_that_of_the_configured_client_of_its_name_and_changes_at_once() {
    let server = OauthServer::start();
    let home = home(&server, "clients.second = { client_id = \"test-client\" }\n");
    let set = |secret: &str| run(&home, &["secrets", "set", "second"], &format!("{secret}\n"));
    let done = set("first-canary");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).starts_with("stored the secret of the OAuth client second"), "{}", text(&done.stdout));
    let mut client = home.client();
    let add = json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary", "refresh_token": server.login("p"),
        "client_id": "second", "label": "work" });
    let account = client.call("account.add", add);
    client.call("account.refresh", json!({ "account": account["id"] }));
    assert_eq!(server.form("client_secret"), "first-canary");
    let again = set("second-canary");
    let said = text(&again.stdout);
    assert!(said.contains("the logins of 1 account are refreshed with it") && said.starts_with("replaced"), "{said}");
    client.call("account.refresh", json!({ "account": account["id"] }));
    assert_eq!(server.form("client_secret"), "second-canary");
    let listed = run(&home, &["secrets", "list"], "");
    for (output, part) in [(&listed, "work"), (&done, "second"), (&again, "second")] {
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains(part) && !all.contains("canary"), "{all}");
    }
    // an account needs it
    let refused = run(&home, &["secrets", "remove", "second"], "");
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("the logins of work are refreshed"), "{said}");
    assert!(said.contains("lessor secrets remove second --yes"), "{said}");
    let removed = run(&home, &["secrets", "remove", "second", "--yes"], "");
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(client.call("secrets.list", json!({})), json!([]));
    let unknown = run(&home, &["secrets", "remove", "second"], "");
    assert!(text(&unknown.stderr).contains("lessor secrets list"), "{}", text(&unknown.stderr));
}

#[test]
fn a_refused_client_is_named_as_it_is_stored_and_a_new_secret_ends_the_pause() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    let set = json!({ "name": "own", "provider": "mine", "client_id": "test-client", "secret": "s" });
    client.call("secrets.set", set.clone());
    let add = json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary", "refresh_token": server.login("p"),
        "client_id": "test-client", "expires_at": 1, "label": "work" });
    server.fail_always(Some(Fail::Status(401, "invalid_client", None)));
    client.call("account.add", add);
    let warnings = |client: &mut crate::support::Client| client.call("status", json!({}))["warnings"].to_string();
    wait_until("the client is refused", || warnings(&mut client).contains("invalid_client"));
    let said = warnings(&mut client);
    assert!(said.contains("test-client (stored as own)") && said.contains("lessor secrets set own"), "{said}");
    server.fail_always(None);
    client.call("secrets.set", set);
    wait_until("the login is refreshed", || server.refreshes("p") == 1);
}

#[test]
fn what_cannot_be_a_client_is_refused_with_the_next_step() {
    let server = OauthServer::start();
    let home = home(&server, "");
    let mut client = home.client();
    let message = |answer: Value| {
        let error = &answer["error"];
        format!(
            "{} {}",
            error["message"].as_str().unwrap_or_default(),
            error["data"]["hint"].as_str().unwrap_or_default()
        )
    };
    client.call("secrets.set", json!({ "name": "own", "client_id": "1-a.apps.googleusercontent.com", "secret": "s" }));
    assert_eq!(client.call("secrets.list", json!({}))[0]["provider"], "google", "its id says whose it is");
    for (params, part) in [
        (json!({ "name": "--own", "secret": "s" }), "letters, digits"),
        (json!({ "name": "b", "client_id": "c", "secret": "s" }), "--provider PROVIDER"),
        (json!({ "name": "b", "client_id": "c d", "provider": "mine" }), "holds blanks"),
        (json!({ "name": "b", "provider": "mine" }), "an id, a secret, or both"),
        (json!({ "name": "b", "client_id": "c", "provider": "nosuch", "secret": "s" }), "nosuch"),
        (
            json!({ "name": "own", "client_id": "2-b.apps.googleusercontent.com", "secret": "s" }),
            "lessor secrets remove own",
        ),
        (
            json!({ "name": "b", "client_id": "1-a.apps.googleusercontent.com", "secret": "s" }),
            "lessor secrets set own",
        ),
    ] {
        let said = message(client.ask("secrets.set", &params));
        assert!(said.contains(part), "{params}: {said}");
    }
    for (args, part) in [
        (["login", "mine", "--client", "nosuch"], "there is no OAuth client \"nosuch\""),
        (["login", "mine", "--client", "nosuch.json"], "nosuch.json: it cannot be read"),
    ] {
        let done = run(&home, &args, "");
        let said = text(&done.stderr);
        assert!(!done.status.success() && said.contains(part) && said.lines().count() <= 2, "{args:?}: {said}");
    }
    // each says what is wrong with which file, then the next step
    let file = home.path().join("my client.json");
    std::fs::create_dir(home.path().join("directory.json")).unwrap();
    for (name, content, part) in [
        ("directory.json", None, "directory.json: it cannot be read"),
        ("my client.json", Some(b"{\"client_id\": canary}".to_vec()), "not valid JSON"),
        ("my client.json", Some(b"\xff\xfe{\0".to_vec()), "not text"),
        ("my client.json", Some(vec![b' '; 100_000]), "too large"),
        ("my client.json", Some(b"{\"client_id\":\"c\"}".to_vec()), "`client_secret` is missing"),
    ] {
        content.into_iter().for_each(|content| std::fs::write(&file, content).unwrap());
        let done = run(&home, &["login", "google", "--client", home.path().join(name).to_str().unwrap()], "");
        let said = text(&done.stderr);
        assert!(said.contains(part) && said.contains("hint: a file has `client_id`"), "{name}: {said}");
        assert!(said.lines().count() == 2 && !said.contains("canary"), "{name}: {said}");
    }
    assert_eq!(client.call("secrets.list", json!({})).as_array().unwrap().len(), 1, "nothing else was stored");
    for (stdin, part) in [("", "it is empty"), ("a\nb\n", "more than one line"), ("a b", "blanks")] {
        let done = run(&home, &["secrets", "set", "own"], stdin);
        let said = text(&done.stderr);
        assert!(said.contains(part) && said.contains("lessor secrets set own < FILE"), "{stdin:?}: {said}");
    }
    // a name that ends as a file's does
    client.call("secrets.set", json!({ "name": "a.json", "client_id": "c", "provider": "mine", "secret": "s" }));
    let done = run(&home, &["login", "mine", "--paste", "--no-browser", "--client", "a.json"], "");
    let said = text(&done.stderr);
    assert!(said.contains("client_id=c&") && said.contains("lessor login mine --paste --client a.json"), "{said}");
    let file = home.path().join("client.toml");
    std::fs::write(&file, "client_id = '1-a.apps.googleusercontent.com'\nclient_secret = 'canary'").unwrap();
    let done = run(&home, &["login", "mine", "--client", file.to_str().unwrap()], "");
    assert!(text(&done.stderr).contains("lessor login google --client"), "{}", text(&done.stderr));
}

/// The ways that work without a client, in a second line.
#[test]
fn without_a_client_the_ways_to_log_in_are_named_in_two_lines() {
    let mut home = Home::new("");
    home.start();
    for (provider, ways) in [
        ("anthropic", ["lessor login claude", "--client FILE", "lessor import claude-code"]),
        ("openai", ["lessor login codex", "lessor login openai --chatgpt", "lessor import codex"]),
        ("google", ["lessor login agy or gemini", "lessor login google --client FILE", "lessor import gemini-cli"]),
    ] {
        let done = run(&home, &["login", provider], "");
        let said = text(&done.stderr);
        assert_eq!((done.status.code(), said.lines().count()), (Some(1), 2), "{said}");
        assert!(said.starts_with(&format!("error: lessor has no OAuth client for {provider}: ")), "{said}");
        assert!(ways.iter().all(|way| said.contains(way)), "{said}");
    }
}
