//! Logins in homes of lessor's that only their own program can refresh: the daemon starts it in the home. The programs
//! are stand-ins that write the files that the real ones write.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::oauth_server::OauthServer;
use crate::support::{Client, Home, wait_until};

/// What both stand-ins do before they refresh: they note their start, and behave as the file `behaviour` says.
const START: &str = r#"
echo "$*" >> "$files/starts"
behaviour=$(cat "$files/behaviour" 2>/dev/null)
case "$behaviour" in
    nothing) echo "Error: nothing to do"; exit 7;;
    offline) echo "Manual authorization is required but the current session is non-interactive."; exit 41;;
    revoked) echo "Cached credentials are not valid: invalid_grant"; exit 41;;
    ineligible) echo "Error authenticating: IneligibleTierError: This client is no longer supported"; exit 41;;
    hangs) echo $$ > "$files/pid"; sleep 600;;
esac
count=$(wc -l < "$files/starts" | tr -d ' ')
end=$(( $(date +%s) + $(cat "$files/life" 2>/dev/null || echo 4) ))
"#;

/// As Gemini CLI: it refreshes only a token that ends within five minutes.
const GEMINI: &str = r#"#!/bin/sh
files=$GEMINI_CLI_HOME/.gemini
START
ends=$(sed -n 's/.*"expiry_date":\([0-9]*\).*/\1/p' "$files/oauth_creds.json")
[ $(( ends / 1000 )) -gt $(( $(date +%s) + 300 )) ] && exit 0
refresh=$(sed -n 's/.*"refresh_token":"\([^"]*\)".*/\1/p' "$files/oauth_creds.json")
echo "{\"access_token\":\"ya29.$refresh-$count\",\"refresh_token\":\"$refresh\",\"expiry_date\":${end}000,\"scope\":\"x\"}" \
    > "$files/oauth_creds.json"
[ "$behaviour" = lingers ] && sleep 3
exit 0
"#;

/// As agy: its first command brings nothing, and it refreshes only a token that has ended.
const AGY: &str = r#"#!/bin/sh
files=$HOME/.gemini/antigravity-cli
START
[ "$1" = models ] && exit 0
# an hour ago, which may have been yesterday
ago=$(( $(date +%s) - 3600 ))
ago=$(date -u -d "@$ago" +%Y-%m-%dT 2>/dev/null || date -u -r "$ago" +%Y-%m-%dT)
case "$(cat "$files/antigravity-oauth-token")" in *"$(date -u +%Y-%m-%dT)"*|*"$ago"*) ;; *) exit 0;; esac
end=$(date -u -d "@$end" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$end" +%Y-%m-%dT%H:%M:%SZ)
echo "{\"auth_method\":\"consumer\",\"token\":{\"access_token\":\"ya29.agy-$count\",\"refresh_token\":\"agy\",\"expiry\":\"$end\"}}" \
    > "$files/antigravity-oauth-token"
"#;

/// A login home, as `lessor login` makes it.
struct LoginFiles {
    file: PathBuf,
    program: PathBuf,
    /// When its first token ends, epoch ms.
    end: u64,
}

impl LoginFiles {
    /// Its token ends in `left` seconds.
    fn new(home: &Home, tool: &str, number: u32, refresh: &str, left: i64) -> Self {
        let end = now().saturating_add_signed(1000 * left);
        let root = home.path().join(format!("state/logins/{tool}-{number}"));
        let program = home.path().join(format!("{tool}-{number}"));
        let (script, file, content) = match tool {
            "gemini" => (
                GEMINI,
                ".gemini/oauth_creds.json",
                json!({ "access_token": format!("ya29.{refresh}-0"), "refresh_token": refresh, "expiry_date": end }),
            ),
            _ => (
                AGY,
                ".gemini/antigravity-cli/antigravity-oauth-token",
                json!({ "auth_method": "consumer", "token": { "access_token": "ya29.agy-0", "refresh_token": refresh,
                        "expiry": rfc3339(end) } }),
            ),
        };
        let file = root.join("home").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::set_permissions(home.path().join("state"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&program, script.replace("START", START)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let record = json!({ "tool": tool, "program": program, "path": "/usr/bin:/bin", "created_at": 1 });
        fs::write(root.join("home.json"), record.to_string()).unwrap();
        fs::write(&file, content.to_string()).unwrap();
        Self { file, program, end }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.file.with_file_name(name)
    }

    fn behaves(&self, how: &str) {
        fs::write(self.beside("behaviour"), how).unwrap();
    }

    /// The arguments of each start of the program.
    fn starts(&self) -> Vec<String> {
        fs::read_to_string(self.beside("starts")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How long the tokens that it gets live, in seconds; without this, 4.
    fn gets_tokens_for(&self, seconds: u64) {
        fs::write(self.beside("life"), seconds.to_string()).unwrap();
    }

    /// Adds its login as an account of this label.
    fn add(&self, client: &mut Client, label: &str) -> Value {
        let content: Value = serde_json::from_slice(&fs::read(&self.file).unwrap()).unwrap();
        let tokens = if content["token"].is_object() { &content["token"] } else { &content };
        let tool = if content["token"].is_object() { "antigravity-cli" } else { "gemini-cli" };
        let item = if tool == "gemini-cli" { "oauth_creds" } else { "antigravity-oauth-token" };
        client.call(
            "account.import",
            json!({ "entries": [{ "tool": tool, "item": item, "file": self.file, "provider": "google", "kind": "oauth",
                "secret": tokens["access_token"], "refresh_token": tokens["refresh_token"], "label": label,
                "expires_at": self.end, "mode": "start-tool" }] }),
        )
    }
}

/// The time of day, epoch ms.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn rfc3339(at: u64) -> String {
    jiff::Timestamp::from_second((at / 1000).try_into().unwrap()).unwrap().to_string()
}

fn account(client: &mut Client, label: &str) -> Value {
    let accounts = client.call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}

fn is_in_state(client: &mut Client, label: &str, state: &str) -> bool {
    account(client, label)["state"] == state
}

/// The token that a lease of this account has.
fn token(client: &mut Client, label: &str) -> String {
    let lease = client.call("lease.acquire", json!({ "provider": "google", "account": label, "agent": "gemini" }));
    let token = lease["credential"]["secret"].as_str().unwrap().to_owned();
    client.call("lease.release", json!({ "lease": lease["lease"] }));
    token
}

/// A token that the stand-in made in its nth start or later.
fn is_of_start(token: &str, at_least: usize) -> bool {
    token.rsplit_once('-').is_some_and(|(_, number)| number.parse::<usize>().unwrap() >= at_least)
}

#[test]
fn logins_in_homes_stay_usable_for_three_expiries_and_over_a_restart() {
    let mut home = Home::new("");
    let logins = [("gemini", 1, "one"), ("gemini", 2, "two"), ("agy", 1, "agy")];
    let files = logins.map(|(tool, number, refresh)| LoginFiles::new(&home, tool, number, refresh, 2));
    home.start();
    let mut client = home.client();
    for (files, (_, _, label)) in files.iter().zip(logins) {
        let added = files.add(&mut client, label);
        assert_eq!(added["entries"][0]["outcome"], "linked", "{added}");
        assert!(!added.to_string().contains("client_id"), "nothing is missing: {added}");
    }
    // agy needs two starts for each
    for (label, renewals) in [("one", 3), ("two", 3), ("agy", 6)] {
        wait_until(label, || is_of_start(&token(&mut client, label), renewals));
        assert!(token(&mut client, label).contains(label), "each home has its own login");
    }
    drop(client);
    home.stop();
    let before = files.each_ref().map(|files| files.starts().len());
    home.start();
    let mut client = home.client();
    for ((_, _, label), before) in logins.iter().zip(before) {
        wait_until(label, || is_of_start(&token(&mut client, label), before + 1));
        assert!(is_in_state(&mut client, label, "ready"));
    }
    // the second command only where the first has brought nothing; two tokens of one second end at the same time
    assert_eq!(files[0].starts()[0], "--list-sessions --debug");
    assert_eq!(files[2].starts()[..2], ["models", "-p Reply with exactly: OK"]);
    assert!(!home.output().contains("ya29."), "{}", home.output());
}

#[test]
fn a_program_is_not_started_while_its_token_lasts_and_a_user_can_ask_for_it() {
    let mut home = Home::new("");
    let files = LoginFiles::new(&home, "gemini", 1, "one", 7200);
    files.gets_tokens_for(10_000);
    home.start();
    let mut client = home.client();
    files.add(&mut client, "one");
    assert_eq!(token(&mut client, "one"), "ya29.one-0");
    assert_eq!(files.starts(), [""; 0]);
    client.call("account.refresh", json!({ "account": "one" }));
    assert_eq!((files.starts().len(), token(&mut client, "one")), (1, "ya29.one-1".to_owned()));
}

#[test]
fn a_token_that_is_adopted_while_its_program_still_runs_is_no_failure() {
    let mut home = Home::new("");
    let files = LoginFiles::new(&home, "gemini", 1, "one", -1);
    files.gets_tokens_for(10_000);
    files.behaves("lingers");
    home.start();
    let mut client = home.client();
    files.add(&mut client, "one");
    wait_until("the token is adopted", || account(&mut client, "one")["credential_expires_at"].as_u64() > Some(now()));
    // a call that joins the attempt succeeds as it does
    let joined = client.ask("account.refresh", &json!({ "account": "one" }));
    assert_eq!((joined["error"].clone(), files.starts().len()), (Value::Null, 1));
    assert!(!home.output().contains("cannot be refreshed"), "{}", home.output());
    assert!(files.starts().iter().all(|arguments| arguments.starts_with("--list-sessions")), "{:?}", files.starts());
}

#[test]
fn the_client_that_made_a_login_is_used_instead_where_it_is_configured() {
    let server = OauthServer::start();
    let section = format!(
        "[providers.google.oauth]\ntoken_url = \"{}/token\"\n[providers.google.oauth.clients.gemini]\nclient_id = \
         \"their-client\"\n",
        server.url
    );
    let mut home = Home::new(&section);
    let refresh = server.login_of("one", "their-client");
    let files = LoginFiles::new(&home, "gemini", 1, &refresh, -1);
    home.start();
    let mut client = home.client();
    files.add(&mut client, "one");
    assert_eq!((token(&mut client, "one").as_str(), files.starts()), ("at-canary-one-1", Vec::new()));
}

#[test]
fn only_a_login_in_a_home_of_lessors_is_given_to_its_tool() {
    let mut home = Home::new("");
    let files = LoginFiles::new(&home, "gemini", 1, "one", -1);
    home.start();
    let elsewhere =
        LoginFiles { file: home.path().join("oauth_creds.json"), program: files.program.clone(), end: files.end };
    fs::copy(&files.file, &elsewhere.file).unwrap();
    let refused = elsewhere.add(&mut home.client(), "one");
    assert_eq!(refused["entries"][0]["outcome"], "refused", "{refused}");
    assert!(refused["entries"][0]["message"].as_str().unwrap().contains("lessor login gemini"), "{refused}");
}

/// What a failing program does, the state that follows, and words of its reason and of what helps.
#[test]
fn each_failure_of_the_program_is_a_state_with_a_reason_and_a_remedy() {
    for (how, state, reason, retries) in [
        ("nothing", "cannot_renew", "Error: nothing to do", true),
        ("offline", "needs_login", "asks for a login, or is offline: Manual authorization is required", true),
        ("revoked", "needs_login", "invalid_grant", false),
        ("ineligible", "needs_login", "consumer logins ended there in June 2026", false),
        ("missing", "cannot_renew", "is missing or was moved", true),
    ] {
        let mut home = Home::new("");
        let files = LoginFiles::new(&home, "gemini", 1, "one", -1);
        if how == "missing" {
            fs::remove_file(&files.program).unwrap();
        }
        files.behaves(how);
        home.start();
        let mut client = home.client();
        files.add(&mut client, "one");
        wait_until(how, || {
            // a few failures in a row make it certain
            let _failed = client.ask("account.refresh", &json!({ "account": "one" }));
            is_in_state(&mut client, "one", state)
        });
        let account = account(&mut client, "one");
        let words = account["state_reason"].as_str().unwrap();
        assert!(words.contains(reason), "{how}: {words}");
        let refused = json!({ "provider": "google", "agent": "gemini", "wait_ms": 0 });
        let refusal = client.ask("lease.acquire", &refused);
        assert_eq!(refusal["error"]["data"]["accounts"][0]["why"], state, "{how}: {refusal}");
        assert_eq!(refusal["error"]["data"]["hint"], "lessor login gemini", "{how}: {refusal}");
        let status = client.call("status", json!({}));
        assert_eq!(account["remedy"], "lessor login gemini", "{how}: {account}");
        assert_eq!(status["warnings"].to_string().contains("lessor login gemini"), retries, "{how}: {status}");
        // the program is there again, and can do it
        if retries {
            files.behaves("");
            if how == "missing" {
                LoginFiles::new(&home, "gemini", 1, "one", -1);
            }
            client.call("account.refresh", json!({ "account": "one" }));
            assert!(is_in_state(&mut client, "one", "ready"), "{how}");
        }
        assert!(!home.output().contains("ya29."), "{}", home.output());
    }
}

#[test]
fn the_end_of_the_daemon_ends_the_program() {
    let mut home = Home::new("");
    let files = LoginFiles::new(&home, "gemini", 1, "one", -1);
    files.behaves("hangs");
    home.start();
    files.add(&mut home.client(), "one");
    let pid = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<i32>().ok();
    wait_until("the program runs", || pid(&files.beside("pid")).is_some());
    let pid = rustix::process::Pid::from_raw(pid(&files.beside("pid")).unwrap()).unwrap();
    assert_eq!(home.stop(), Some(0));
    wait_until("the program ends", || rustix::process::test_kill_process(pid).is_err());
}
