//! `lessor login`, from the command line to the account: by code, by paste, by device.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::oauth_server::{Fail, OauthServer};
use crate::support::{Home, wait_until};

/// A running `lessor login`.
pub struct Login {
    child: Child,
    stderr: BufReader<ChildStderr>,
    all: String,
}

impl Login {
    pub fn start(home: &Home, args: &[&str]) -> Self {
        Self::start_with(home, args, &[])
    }

    fn start_with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
        for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
            command.env_remove(name);
        }
        command.args(["login", "mine", "--json"]).args(args).env("LESSOR_HOME", home.path());
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, all: String::new() }
    }

    /// The first word of its output with this beginning.
    fn word(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it ended: {}", self.all);
            self.all.push_str(&line);
            if let Some(word) = line.split_whitespace().find(|word| word.starts_with(begin)) {
                return word.to_owned();
            }
        }
    }

    /// Logs in at the printed address, and pastes where that leads.
    pub fn log_in(&mut self) {
        let back = get(&self.word("http")).1.unwrap();
        self.paste(&back);
    }

    fn paste(&mut self, text: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    /// The account, or the error.
    pub fn end(mut self) -> Result<Value, String> {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let succeeded = self.child.wait().unwrap().success();
        self.stderr.read_to_string(&mut self.all).unwrap();
        if succeeded { Ok(serde_json::from_str(&out).unwrap()) } else { Err(self.all) }
    }
}

/// Acts as a browser: returns the status and the redirect.
fn get(url: &str) -> (u16, Option<String>) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let location =
        lines.take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("location: ").map(str::to_owned));
    (status, location)
}

fn home(server: &OauthServer) -> Home {
    let mut home = Home::new(&server.config("mine"));
    home.start();
    home
}

#[test]
fn a_login_in_the_browser_adds_an_account_and_a_second_one_renews_it() {
    let server = OauthServer::start();
    let home = home(&server);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut login = Login::start(&home, &[]);
        let url = login.word("http");
        let back = get(&url).1.unwrap();
        assert!(back.starts_with("http://127.0.0.1:") && back.contains("/callback?"), "{back}");
        // a callback with another state is ignored
        let foreign = back.split("state=").next().unwrap().to_owned() + "state=other";
        assert_eq!(get(&foreign).0, 400);
        let favicon = back.split("/callback").next().unwrap().to_owned() + "/favicon.ico";
        assert_eq!(get(&favicon).0, 404);
        assert_eq!(get(&back).0, 200);
        let account = login.end().unwrap();
        assert_eq!((&account["email"], &account["state"]), (&json!("person@example.org"), &json!("ready")));
        // the listener is closed after one answer
        let host = back.strip_prefix("http://").unwrap().split('/').next().unwrap();
        assert!(TcpStream::connect(host).is_err());
        ids.push(account["id"].clone());
    }
    assert_eq!(ids[0], ids[1], "the same person is the same account");
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "mine" }));
    assert_eq!(lease["credential"]["secret"], "at-canary-person-2");
    assert!(!home.output().contains("canary"));
}

#[test]
fn the_pasted_address_or_code_completes_a_login() {
    let server = OauthServer::start();
    let home = home(&server);
    for whole in [true, false] {
        let mut login = Login::start(&home, &["--paste"]);
        let back = get(&login.word("http")).1.unwrap();
        let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
        login.paste(if whole { &back } else { code });
        assert_eq!(login.end().unwrap()["email"], "person@example.org");
    }
    let mut login = Login::start(&home, &["--paste"]);
    let back = get(&login.word("http")).1.unwrap();
    login.paste(&(back.split("state=").next().unwrap().to_owned() + "state=other"));
    assert!(login.end().unwrap_err().contains("another login"));
}

#[test]
fn the_exchange_of_a_code_is_repeated_until_the_server_answers_it() {
    let server = OauthServer::start();
    let home = home(&server);
    for fail in [Fail::Status(429, "slow_down", Some(1)), Fail::Status(503, "busy", None), Fail::CloseBefore] {
        server.fail(fail);
        let mut login = Login::start(&home, &["--paste"]);
        login.log_in();
        assert_eq!(login.end().unwrap()["email"], "person@example.org");
    }
    assert_eq!(server.requests(), 6);
    // an answer is final
    server.fail(Fail::Status(400, "invalid_grant", None));
    let mut login = Login::start(&home, &["--paste"]);
    login.log_in();
    assert!(login.end().unwrap_err().contains("invalid_grant"));
    // and a long wait is not waited for
    server.fail(Fail::Status(429, "slow_down", Some(600)));
    let mut login = Login::start(&home, &["--paste"]);
    login.log_in();
    assert!(login.end().unwrap_err().contains("429"));
    assert_eq!(server.requests(), 8);
}

#[test]
fn a_login_by_another_client_is_refreshed_by_it() {
    let server = OauthServer::start();
    let url = &server.url;
    let mut home = Home::new(&format!(
        "[providers.mine.oauth]\nauthorize_url = \"{url}/authorize\"\ntoken_url = \"{url}/token\"\n\
         client_id = \"unused\"\nclients.second = {{ client_id = \"test-client\" }}\n"
    ));
    home.start();
    let mut login = Login::start(&home, &["--paste", "--client", "second"]);
    login.log_in();
    let account = login.end().unwrap();
    home.client().call("account.refresh", json!({ "account": account["id"] }));
    assert_eq!((server.form("client_id"), server.refreshes("person")), ("test-client".into(), 1));
    let unknown = Login::start(&home, &["--client", "third"]).end().unwrap_err();
    assert!(unknown.contains("second"), "{unknown}");
}

#[test]
fn a_device_code_completes_a_login() {
    let server = OauthServer::start();
    let home = home(&server);
    let mut login = Login::start(&home, &["--device"]);
    assert_eq!(login.word("http"), format!("{}/activate", server.url));
    assert_eq!(login.word("WDJB"), "WDJB-MJHT");
    wait_until("the code was polled", || server.polls() > 0);
    server.finish_device();
    assert_eq!(login.end().unwrap()["email"], "device@example.org");
}

#[test]
fn addresses_scopes_port_and_secret_can_be_configured() {
    let server = OauthServer::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = &server.url;
    let config = format!(
        "[providers.mine.oauth]\nauthorize_url = \"{url}/authorize\"\ntoken_url = \"{url}/token\"\n\
         device_url = \"{url}/device\"\nclient_id = \"test-client\"\nclient_secret_env = \"LESSOR_TEST_SECRET\"\n\
         scopes = [\"one\", \"two\"]\nredirect_port = {free}\n"
    );
    let mut home = Home::new(&config);
    home.start();
    // without the secret no request is sent
    let mut login = Login::start(&home, &[]);
    let back = get(&login.word("http")).1.unwrap();
    get(&back);
    assert!(login.end().unwrap_err().contains("LESSOR_TEST_SECRET"));
    assert_eq!(server.requests(), 0);
    let mut login = Login::start_with(&home, &[], &[("LESSOR_TEST_SECRET", "secret-canary")]);
    let back = get(&login.word("http")).1.unwrap();
    assert!(back.starts_with(&format!("http://127.0.0.1:{free}/callback?")), "{back}");
    get(&back);
    login.end().unwrap();
    assert_eq!((server.asked("scope").as_str(), server.form("client_secret").as_str()), ("one two", "secret-canary"));
    let mut login = Login::start_with(&home, &["--device"], &[("LESSOR_TEST_SECRET", "secret-canary")]);
    login.word("WDJB");
    server.finish_device();
    login.end().unwrap();
}

#[test]
fn logins_of_one_person_in_two_organisations_are_two_accounts() {
    let server = OauthServer::start();
    let home = home(&server);
    let log_in = |organization: &str| {
        server.answer_with(json!({ "id_token": null,
            "account": { "uuid": "uuid-P", "email_address": "p@example.org" },
            "organization": { "uuid": format!("uuid-{organization}"), "name": organization } }));
        let mut login = Login::start(&home, &["--paste"]);
        login.log_in();
        login.end().unwrap()
    };
    let (personal, team) = (log_in("Personal"), log_in("Team"));
    assert_ne!(personal["id"], team["id"]);
    assert_eq!(
        (&personal["email"], &team["email"]),
        (&json!("p@example.org"), &json!("p@example.org (Team)")),
        "what is shown of them is distinct"
    );
    assert_eq!(
        (&personal["label"], &team["label"]),
        (&json!("mine-p"), &json!("mine-p-team")),
        "their names are distinct"
    );
    let again = log_in("Personal");
    assert_eq!((&again["id"], &again["organization_id"]), (&personal["id"], &json!("uuid-Personal")));
    let mut client = home.client();
    let export = client.call("account.export", json!({ "secrets": true }));
    let tokens: Vec<&Value> =
        export["accounts"].as_array().unwrap().iter().map(|account| &account["credential"]["refresh"]).collect();
    assert_eq!(tokens, ["rt-canary-person-3", "rt-canary-person-2"]);
    // a login does not enable an account that its user has disabled, but says so
    client.call("account.disable", json!({ "account": team["id"] }));
    let mut login = Login::start(&home, &["--paste"]);
    server.answer_with(json!({ "id_token": null, "account": { "uuid": "uuid-P", "email_address": "p@example.org" },
        "organization": { "uuid": "uuid-Team", "name": "Team" } }));
    login.log_in();
    let disabled = login.word("enable");
    assert_eq!((disabled.as_str(), &login.end().unwrap()["id"]), ("enable", &team["id"]));
}

#[test]
fn an_account_of_which_nothing_but_the_address_is_known_learns_its_organisation() {
    let server = OauthServer::start();
    let home = home(&server);
    let mut client = home.client();
    let add = json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary", "refresh_token": "rt-canary",
        "email": "P@example.org" });
    let known = client.call("account.add", add);
    server.answer_with(json!({ "id_token": null, "account": { "uuid": "uuid-P", "email_address": "p@example.org" },
        "organization": { "uuid": "uuid-Team", "name": "Team" } }));
    let mut login = Login::start(&home, &["--paste"]);
    login.log_in();
    let renewed = login.end().unwrap();
    assert_eq!((&renewed["id"], &renewed["organization"]), (&known["id"], &json!("Team")));
    let other = json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary-other", "refresh_token": "rt-other",
        "email": "p@example.org", "organization_id": "uuid-Other" });
    assert_ne!(client.call("account.add", other)["id"], known["id"]);
}
