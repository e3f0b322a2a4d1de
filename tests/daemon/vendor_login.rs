//! `lessor login claude|codex|gemini|agy`: the vendor's program, here a script, logs in in a directory of its own; the
//! daemon keeps the login alive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::oauth_server::OauthServer;
use crate::support::{Client, Home, PATIENCE, signal, wait_until};
use crate::upstream::Upstream;

/// The public client of Claude Code.
const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";

/// Asks for a name, and writes the files that Claude Code writes. The directory is open to others, as with a usual umask.
const CLAUDE: &str = r#"#!/bin/sh
umask 022
if [ "$3" = --help ]; then
    echo "Usage: claude auth login [options]"
    exit 0
fi
[ "$1 $2" = "auth login" ] || exit 9
env > "$CLAUDE_CONFIG_DIR/../../../../seen-environment"
printf 'Paste code here if prompted > '
read -r name
mkdir -p "$CLAUDE_CONFIG_DIR/backups"
[ "$name" = none ] && exit 1
end=${name#*:}
[ "$end" = "$name" ] && end=4102444800000
name=${name%%:*}
cat > "$CLAUDE_CONFIG_DIR/.credentials.json" <<END
{"claudeAiOauth":{"accessToken":"at-canary-$name-0","refreshToken":"rt-canary-$name-0","expiresAt":$end,
"scopes":["user:inference","user:profile"],"subscriptionType":"max"},"mcpOAuth":{"kept":true}}
END
[ "$name" = unknown ] && exit 3
cat > "$CLAUDE_CONFIG_DIR/.claude.json" <<END
{"oauthAccount":{"accountUuid":"${name%%-*}","emailAddress":"${name%%-*}@example.org","organizationUuid":"org-$name",
"organizationName":"Organisation of $name"}}
END
"#;

/// The same for Codex; its identity token is made by the test.
const CODEX: &str = r#"#!/bin/sh
[ "$1" = login ] || exit 9
read -r name
cat "$LESSOR_TEST_LOGINS/$name" > "$CODEX_HOME/auth.json"
"#;

const GEMINI: &str = r#"#!/bin/sh
[ -z "$GEMINI_API_KEY" ] || exit 9
mkdir -p "$GEMINI_CLI_HOME/.gemini" && cd "$GEMINI_CLI_HOME/.gemini" || exit 9
echo '{"access_token":"at-canary","refresh_token":"rt-canary","expiry_date":4102444800000,"scope":"s","token_type":"Bearer"}' \
    > oauth_creds.json
echo '{"active":"gina@example.org","old":[]}' > google_accounts.json
"#;

/// With a session bus it would use the keyring.
const AGY: &str = r#"#!/bin/sh
[ -z "$DBUS_SESSION_BUS_ADDRESS" ] || exit 9
mkdir -p "$HOME/.gemini/antigravity-cli"
echo '{"token":{"access_token":"at-canary-agy","refresh_token":"rt-canary-agy","token_type":"Bearer","expiry":"2099-12-31T00:00:00Z"},
"auth_method":"consumer"}' > "$HOME/.gemini/antigravity-cli/antigravity-oauth-token"
"#;

/// A home of lessor's with a daemon, a directory of programs, and nothing else of a user.
struct Machine {
    home: Home,
    programs: tempfile::TempDir,
}

impl Machine {
    fn new(config: &str) -> Self {
        let programs = tempfile::tempdir().unwrap();
        let mut machine = Self { home: Home::new(config), programs };
        machine.start();
        machine
    }

    fn start(&mut self) {
        let mut command = self.home.command();
        command.env("HOME", self.programs.path());
        self.home.start_as(command);
    }

    fn install(&self, name: &str, script: &str) -> PathBuf {
        let file = self.programs.path().join(name);
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
        for name in ["LESSOR_CONFIG", "LESSOR_SOCKET", "LESSOR_LOG", "CLAUDE_CONFIG_DIR", "CODEX_HOME"] {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.programs.path().display(), std::env::var("PATH").unwrap());
        command.args(args).env("LESSOR_HOME", self.home.path()).env("HOME", self.programs.path()).env("PATH", path);
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that gets this input: exit code, standard output, standard error.
    fn run(&self, args: &[&str], input: &str) -> (i32, String, String) {
        feed(self.command(args), input)
    }

    /// The account that a login adds or renews.
    fn log_in(&self, args: &[&str], input: &str) -> Value {
        let (code, out, err) = self.run(&[&["login"], args, &["--json"]].concat(), input);
        assert_eq!(code, 0, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    fn client(&self) -> Client {
        self.home.client()
    }

    fn logins(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.home.path().join("state/logins")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn login_file(&self, name: &str) -> PathBuf {
        self.home.path().join("state/logins").join(name)
    }
}

fn feed(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn config(server: &OauthServer, provider: &str, base: &str) -> String {
    format!(
        "[quota]\npoll = \"off\"\n[refresh]\nahead = \"1s\"\nmin_life = \"1s\"\n[providers.{provider}.oauth]\n\
         token_url = \"{}/token\"\nbase_url = \"{base}\"\n",
        server.url
    )
}

fn upstream() -> Upstream {
    Upstream::new(|_, _| (200, "content-type: application/json\r\n", "{}".to_owned()))
}

/// Sends a request through the gateway that this account must serve; the token that reached the provider.
fn request(
    client: &mut Client,
    upstream: &Upstream,
    (provider, agent, path): (&str, &str, &str),
    account: &Value,
) -> String {
    let wanted = json!({ "provider": provider, "agent": agent, "account": account["id"], "credential": false });
    let lease = client.call("lease.acquire", wanted);
    let access = client.call("gateway.key", json!({ "lease": lease["lease"] }));
    let address =
        access["url"].as_str().unwrap().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = r#"{"model":"m","messages":[]}"#;
    let (key, length) = (access["key"].as_str().unwrap(), body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    client.call("lease.release", json!({ "lease": lease["lease"], "fence": lease["fence"] }));
    let seen = upstream.seen();
    let headers = &seen.last().unwrap().headers;
    let token = headers.lines().find_map(|line| line.strip_prefix("authorization: bearer ")).unwrap();
    token.to_owned()
}

/// Every directory has mode 0700 and every file 0600 or 0700.
fn assert_private(path: &Path) {
    let mode = std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| assert_private(&entry.unwrap().path()));
    }
}

#[test]
fn two_subscriptions_are_added_and_serve_after_three_expiries_and_a_restart() {
    let (server, upstream) = (OauthServer::start(), upstream());
    server.answer_with(json!({ "expires_in": 3 }));
    let mut machine = Machine::new(&config(&server, "anthropic", &upstream.url));
    machine.install("claude", CLAUDE);
    let people = ["alice", "bob"];
    people.iter().for_each(|who| drop(server.login_of(who, CLAUDE_CLIENT)));
    let end = lessor::pool::millis(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()) + 3000;
    let accounts = people.map(|who| machine.log_in(&["claude"], &format!("{who}:{end}\n")));
    assert_eq!(accounts[0]["email"], "alice@example.org");
    assert_ne!(accounts[0]["id"], accounts[1]["id"]);
    assert_eq!(accounts[0]["link"]["mode"], "share");
    assert_eq!(machine.logins(), ["claude-1", "claude-2"]);
    assert_private(&machine.home.path().join("state/logins"));
    let call = ("anthropic", "claude", "/anthropic/v1/messages");
    for (who, account) in people.iter().zip(&accounts) {
        let token = request(&mut machine.client(), &upstream, call, account);
        assert!(token.starts_with(&format!("at-canary-{who}-")), "{token}");
    }
    let refreshed = |times: usize| people.iter().all(|who| server.refreshes(who) >= times);
    wait_until("both were refreshed twice", || refreshed(2));
    machine.home.stop();
    machine.start();
    wait_until("both were refreshed after the restart", || refreshed(4));
    for (name, (who, account)) in machine.logins().iter().zip(people.iter().zip(&accounts)) {
        let token = request(&mut machine.client(), &upstream, call, account);
        assert!(token.starts_with(&format!("at-canary-{who}-")), "{token}");
        // the home has the current login, and what else was in the file
        let file = machine.login_file(name).join("home/.credentials.json");
        let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(!written["claudeAiOauth"]["refreshToken"].as_str().unwrap().ends_with("-0"), "{written}");
        assert_eq!(written["mcpOAuth"]["kept"], true);
    }
    assert_eq!(server.reuses(), 0);
    let status = machine.client().call("account.list", json!({}));
    assert!(status.as_array().unwrap().iter().all(|account| account["link"]["trouble"].is_null()), "{status}");
    assert!(!machine.home.output().contains("canary"), "no token is logged");
}

/// `auth.json` of a person, with an identity token.
fn codex_login(directory: &Path, who: &str, end: u64) {
    let claims = json!({ "email": format!("{who}@example.org"), "exp": end, "client_id": "test-client",
        "https://api.openai.com/auth": { "chatgpt_account_id": format!("ws-{who}"), "chatgpt_user_id": who,
            "chatgpt_plan_type": "plus" } });
    let token = format!("x.{}.at-canary-{who}-0", crate::oauth_server::base64(claims.to_string().as_bytes()));
    let file = json!({ "OPENAI_API_KEY": null, "auth_mode": "chatgpt", "last_refresh": "2026-01-01T00:00:00Z", "tokens": {
        "id_token": token, "access_token": token, "refresh_token": format!("rt-canary-{who}-0"),
        "account_id": format!("ws-{who}") } });
    std::fs::write(directory.join(who), file.to_string()).unwrap();
}

#[test]
fn two_chatgpt_plans_are_added_and_the_home_has_the_current_login() {
    let (server, upstream) = (OauthServer::start(), upstream());
    server.answer_with(json!({ "expires_in": 3 }));
    let mut machine = Machine::new(&config(&server, "openai", &upstream.url));
    machine.install("codex", &CODEX.replace("$LESSOR_TEST_LOGINS", machine.programs.path().to_str().unwrap()));
    let people = ["carol", "dave"];
    for who in people {
        server.login(who);
        codex_login(machine.programs.path(), who, 1_000);
    }
    let accounts = people.map(|who| machine.log_in(&["codex"], &format!("{who}\n")));
    assert_eq!((&accounts[1]["email"], &accounts[1]["link"]["mode"]), (&json!("dave@example.org"), &json!("share")));
    let refreshed = |times: usize| people.iter().all(|who| server.refreshes(who) >= times);
    wait_until("both were refreshed twice", || refreshed(2));
    machine.home.stop();
    machine.start();
    wait_until("both were refreshed after the restart", || refreshed(4));
    for (name, who) in machine.logins().iter().zip(people) {
        let file = machine.login_file(name).join("home/auth.json");
        let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(!written["tokens"]["refresh_token"].as_str().unwrap().ends_with("-0"), "{written}");
        assert!(written["tokens"]["id_token"].as_str().unwrap().contains(who), "the identity token stays");
    }
    let token = request(&mut machine.client(), &upstream, ("openai", "codex", "/openai/responses"), &accounts[0]);
    assert!(token.starts_with("at-canary-carol-"), "{token}");
    assert_eq!(server.reuses(), 0);
}

#[test]
fn the_same_person_is_renewed_and_another_organisation_is_another_account() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    let first = machine.log_in(&["claude", "--label", "work"], "alice\n");
    // an earlier end: the login is new all the same
    let again = machine.log_in(&["claude"], "alice:4102444700000\n");
    assert_eq!((&first["id"], &again["label"]), (&again["id"], &json!("work")));
    assert!(again["link"]["path"].as_str().unwrap().contains("logins/claude-2/"), "{again}");
    wait_until("the directory before is removed", || machine.logins() == ["claude-2"]);
    let other = machine.log_in(&["claude"], "alice-team\n");
    assert_ne!(other["id"], first["id"]);
    assert_eq!(machine.logins(), ["claude-1", "claude-2"]);
    machine.client().call("account.remove", json!({ "account": first["id"] }));
    wait_until("the directory of a removed account is removed", || machine.logins() == ["claude-1"]);
}

#[test]
fn a_login_that_is_not_made_leaves_no_directory_and_says_what_to_do() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    let (code, _, err) = machine.run(&["login", "claude"], "");
    assert!(
        code != 0 && err.contains("was not found") && err.contains("npm install") && err.lines().count() == 2,
        "{err}"
    );
    // lessor under the program's name is not the program
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lessor"), machine.programs.path().join("claude")).unwrap();
    assert!(machine.run(&["login", "claude"], "").2.contains("was not found"));
    std::fs::remove_file(machine.programs.path().join("claude")).unwrap();
    machine.install("claude", CLAUDE);
    machine.install("agy", "#!/bin/sh\nexit 0\n");
    for (name, input) in [("claude", "none\n"), ("agy", "")] {
        let (code, out, err) = machine.run(&["login", name], input);
        assert!(code != 0 && out.is_empty() && err.contains("no login was made"), "{out}{err}");
        assert_eq!(machine.logins(), Vec::<String>::new(), "{name}");
    }
    assert!(machine.run(&["login", "agy"], "").2.contains("keyring"));
    // refused before the program starts
    for args in [["claude", "--device"], ["codex", "--paste"], ["agy", "--no-browser"]] {
        machine.install(args[0], "#!/bin/sh\nexit 7\n");
        let (code, _, err) = machine.run(&[&["login"], &args[..]].concat(), "");
        assert!(code == 2 && err.contains(args[1]) && err.lines().count() <= 2, "{err}");
    }
    for label in ["", "a\u{1b}b", &"x".repeat(257)] {
        let (code, _, err) = machine.run(&["login", "claude", "--label", label], "alice\n");
        assert!(code == 2 && err.contains("a label") && !err.contains("Starting"), "{label:?}: {err}");
    }
    // a word that is perhaps mistyped
    for name in ["cluade", "claude-code", "", "a b"] {
        let (code, _, err) = machine.run(&["login", name], "");
        assert!(code != 0 && err.contains("lessor login claude, codex, gemini or agy"), "{name:?}: {err}");
        assert_eq!(err.lines().count(), 2, "{err}");
    }
}

#[test]
fn a_label_that_another_account_has_is_answered_with_a_command() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    machine.install("codex", "#!/bin/sh\nexit 7\n");
    machine.log_in(&["claude", "--label", "work"], "alice\n");
    let (code, _, err) = machine.run(&["login", "codex", "--label", "work"], "");
    assert!(code == 1 && err.ends_with("hint: lessor login codex --label codex-1\n"), "{err}");
    let (code, _, err) = machine.run(&["login", "claude", "--label", "new name"], "alice\n");
    assert!(code == 0 && err.ends_with("to change it: lessor account set work 'label=new name'\n"), "{err}");
}

#[test]
fn a_home_that_is_imported_stays_as_it_is() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    let account = machine.log_in(&["claude"], "alice\n");
    let directory = machine.login_file("claude-1/home");
    let link = || machine.client().call("account.list", json!({}))[0]["link"].clone();
    assert_eq!(link()["mode"], "share");
    let import = |args: &[&str], variable: Option<&Path>| {
        let mut command = machine.command(&[&["import", "--json"], args].concat());
        command.envs(variable.map(|directory| ("CLAUDE_CONFIG_DIR", directory)));
        feed(command, "").1
    };
    let named = [directory.to_str().unwrap()];
    for (args, variable, outcome) in [
        (&named[..], None, "same"),
        (&[], Some(directory.as_path()), "same"),
        (&["--take-over", named[0]], None, "refused"),
    ] {
        let said = import(args, variable);
        assert!(said.contains(&format!("{outcome:?}")), "{args:?}: {said}");
        assert_eq!(link(), account["link"], "{args:?}");
    }
}

#[test]
fn the_program_gets_a_directory_of_its_own_and_no_variable_that_diverts_it() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    let mut command = machine.command(&["login", "claude", "--paste"]);
    command
        .env("ANTHROPIC_API_KEY", "sk-canary")
        .env("CLAUDE_CODE_USE_BEDROCK", "1")
        .env("CLAUDE_CONFIG_DIR", "/nowhere");
    let (code, _, err) = feed(command, "alice\n");
    assert_eq!(code, 0, "{err}");
    let seen = std::fs::read_to_string(machine.home.path().join("seen-environment")).unwrap();
    let value = |name: &str| seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    assert_eq!((value("ANTHROPIC_API_KEY"), value("CLAUDE_CODE_USE_BEDROCK")), (None, None));
    assert_eq!(value("CLAUDE_CONFIG_DIR"), machine.login_file("claude-1/home").to_str());
    assert_eq!((value("HOME"), value("BROWSER")), (machine.programs.path().to_str(), Some("true")));
    // text for people: what was added, the terms, what comes next
    for part in ["alice@example.org", "Claude Code", "lessor run claude", "lessor login claude"] {
        assert!(err.contains(part) || part.contains('@'), "{part}: {err}");
    }
}

#[test]
fn a_login_of_a_program_that_failed_afterwards_counts_and_gets_a_label_if_nothing_names_it() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    let account = machine.log_in(&["claude"], "unknown\n");
    assert_eq!(account["label"], "claude-1");
}

#[test]
fn gemini_and_agy_log_in_in_homes_of_their_own_and_are_kept_alive_by_their_programs() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "google", "http://127.0.0.1:9"));
    machine.install("gemini", GEMINI);
    machine.install("agy", AGY);
    let mut login = machine.command(&["login", "gemini"]);
    login.env("GEMINI_API_KEY", "canary");
    let (code, out, err) = feed(login, "");
    assert!(code == 0 && out.contains("gina@example.org"), "{out}{err}");
    // what still works, what to do in the program, and what the provider forbids
    for part in ["June 2026", "Login with Google", "suspends accounts", "lessor run gemini"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let mut login = machine.command(&["login", "agy", "--json", "--label", "ultra"]);
    login.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    let (code, out, err) = feed(login, "");
    assert_eq!(code, 0, "{err}");
    let account: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&account["label"], &account["link"]["mode"]), (&json!("ultra"), &json!("start-tool")));
    assert_eq!(machine.logins(), ["agy-1", "gemini-1"]);
    assert_private(&machine.home.path().join("state/logins"));
}

#[test]
fn a_signal_ends_the_program_and_the_login() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    let ready = machine.programs.path().join("ready");
    let script = format!("#!/bin/sh\n[ \"$3\" = --help ] && exit 0\necho $$ > {}\nexec sleep 600\n", ready.display());
    machine.install("claude", &script);
    let mut child: Child = machine.command(&["login", "claude"]).spawn().unwrap();
    let running = || std::fs::read_to_string(&ready).is_ok_and(|pid| pid.ends_with('\n'));
    wait_until("the program runs", running);
    assert_eq!(machine.logins(), ["claude-1"]);
    signal(child.id(), rustix::process::Signal::TERM);
    wait_until("the login has ended", || child.try_wait().unwrap().is_some());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("no login was made"), "{err}");
    assert_eq!(machine.logins(), Vec::<String>::new());
    // a killed lessor leaves the directory behind: it is named, and removed later
    std::fs::remove_file(&ready).unwrap();
    let mut child = machine.command(&["login", "claude"]).spawn().unwrap();
    wait_until("the program runs", running);
    let program: u32 = std::fs::read_to_string(&ready).unwrap().trim().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    signal(program, rustix::process::Signal::KILL);
    let (_, out, _) = machine.run(&["doctor"], "");
    assert!(out.contains("logins/claude-1"), "{out}");
    machine.run(&["doctor", "--fix"], "");
    assert_eq!(machine.logins(), ["claude-1"], "the login may still be under way");
    let record = machine.login_file("claude-1/home.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    old["created_at"] = json!(old["created_at"].as_u64().unwrap() - 3_700_000);
    std::fs::write(&record, old.to_string()).unwrap();
    let (_, out, _) = machine.run(&["doctor", "--fix"], "");
    assert!(out.contains("it was removed"), "{out}");
    assert_eq!(machine.logins(), Vec::<String>::new());
}

#[test]
fn without_its_home_a_login_goes_on_with_the_daemons_own_copy() {
    let server = OauthServer::start();
    let mut machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    server.login_of("alice", CLAUDE_CLIENT);
    let account = machine.log_in(&["claude"], "alice\n");
    // as after a restore on another machine
    machine.home.stop();
    std::fs::remove_dir_all(machine.home.path().join("state/logins")).unwrap();
    machine.start();
    for _ in 0..3 {
        machine.client().call("account.refresh", json!({ "account": account["id"] }));
    }
    assert_eq!((server.refreshes("alice"), server.reuses()), (3, 0));
    let shown = machine.client().call("account.list", json!({}))[0].clone();
    assert_eq!((&shown["state"], &shown["link"]["trouble"]), (&json!("ready"), &Value::Null), "{shown}");
}

#[test]
fn an_ended_login_names_the_command_that_made_it() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    server.login_of("alice", CLAUDE_CLIENT);
    let account = machine.log_in(&["claude"], "alice\n");
    server.revoke("alice");
    machine.client().refused("account.refresh", json!({ "account": account["id"] }));
    let shown = machine.client().call("account.list", json!({}))[0].clone();
    assert_eq!((&shown["state"], &shown["remedy"]), (&json!("needs_login"), &json!("lessor login claude")), "{shown}");
}

#[test]
fn another_person_in_the_same_directory_is_not_adopted() {
    let server = OauthServer::start();
    let machine = Machine::new(&config(&server, "anthropic", "http://127.0.0.1:9"));
    machine.install("claude", CLAUDE);
    machine.log_in(&["claude"], "alice\n");
    let directory = machine.login_file("claude-1/home");
    let mut by_hand = Command::new(machine.programs.path().join("claude"));
    by_hand.args(["auth", "login"]).env("CLAUDE_CONFIG_DIR", &directory).stdin(Stdio::piped());
    by_hand.stdout(Stdio::piped()).stderr(Stdio::piped());
    feed(by_hand, "mallory\n");
    let shown = || machine.client().call("account.list", json!({}))[0].clone();
    wait_until("it is reported", || {
        shown()["link"]["trouble"].as_str().is_some_and(|why| why.contains("lessor login claude"))
    });
    let lease = machine.client().call("lease.acquire", json!({ "provider": "anthropic", "agent": "claude" }));
    assert_eq!(lease["credential"]["secret"], "at-canary-alice-0");
}
