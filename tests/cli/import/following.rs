//! New tokens that a tool writes for a linked login are imported when they appear.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use lessor::client::Client;
use lessor::protocol::ListAccountsParams;
use serde_json::{Value, json};

use super::machine::{FAR, FARTHER, Machine, claude, token};

/// Writes as Codex does: the file is emptied, then filled, in two steps.
fn write_in_place(path: &Path, content: &Value) {
    let text = content.to_string();
    let mut file = std::fs::File::options().write(true).truncate(true).open(path).unwrap();
    let (first, rest) = text.as_bytes().split_at(text.len() / 2);
    file.write_all(first).unwrap();
    file.sync_all().unwrap();
    file.write_all(rest).unwrap();
}

/// Far less than the interval at which every file is checked.
pub fn soon(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} in time");
        std::thread::yield_now();
    }
    start.elapsed()
}

#[test]
fn new_tokens_of_a_linked_login_are_imported() {
    let machine = Machine::new();
    let me = machine.write(".claude.json", &json!({ "oauthAccount": { "emailAddress": "me@example.org" } }));
    let file = machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    let mut client = Client::connect(&machine.lessor.places()).unwrap();
    let mut mine = || client.accounts(ListAccountsParams::default()).unwrap().remove(0);
    // by renaming a new file over the old one
    let next = machine.write(".claude/.credentials.json.tmp", &claude("r2", FARTHER));
    std::fs::rename(&next, &file).unwrap();
    soon("a renamed file is seen", || mine().credential_expires_at == Some(FARTHER));
    // in place
    write_in_place(&file, &claude("r3", FARTHER + 1));
    soon("a file written in place is seen", || mine().credential_expires_at == Some(FARTHER + 1));
    // an old token that is restored is ignored
    write_in_place(&file, &claude("r2", FARTHER + 7));
    write_in_place(&file, &claude("r4", FARTHER + 2));
    soon("the next one is seen", || mine().credential_expires_at == Some(FARTHER + 2));
    // half a file, no file: the last login stays in use, and the problem is reported
    std::fs::write(&file, "{\"claudeAiOauth\":").unwrap();
    soon("half a file is reported", || mine().link.unwrap().trouble.is_some_and(|why| why.contains("JSON")));
    std::fs::remove_file(&file).unwrap();
    soon("a missing file is reported", || mine().link.unwrap().trouble.is_some_and(|why| why.contains("no such file")));
    assert_eq!((mine().state.as_str(), mine().credential_expires_at), ("ready", Some(FARTHER + 2)));
    machine.run(&["doctor"]).ok().says("there is no such file");
    // another user logs in
    std::fs::write(&me, json!({ "oauthAccount": { "emailAddress": "other@example.org" } }).to_string()).unwrap();
    machine.write(".claude/.credentials.json", &claude("r5", FARTHER + 3));
    soon("the login of another user is reported", || {
        mine().link.unwrap().trouble.is_some_and(|why| why.contains("other@"))
    });
    assert_eq!(mine().credential_expires_at, Some(FARTHER + 2));
    std::fs::write(&me, json!({ "oauthAccount": { "emailAddress": "me@example.org" } }).to_string()).unwrap();
    soon("one's own is taken over again", || mine().credential_expires_at == Some(FARTHER + 3));
    soon("the problem is gone", || mine().link.unwrap().trouble.is_none());
    // also tokens that were written while no daemon ran; imported tokens are kept
    drop(client);
    machine.run(&["stop"]).ok();
    write_in_place(&file, &claude("r6", FARTHER + 4));
    soon("it is seen at the start", || machine.account("me@example.org")["credential_expires_at"] == FARTHER + 4);
    std::fs::remove_file(&file).unwrap();
    machine.run(&["stop"]).ok();
    assert_eq!(machine.account("me@example.org")["credential_expires_at"], FARTHER + 4);
}

#[test]
fn codex_is_linked_and_usable_again_after_its_token_expired() {
    let machine = Machine::new();
    let login = |ends: u64, refresh: &str| {
        let access = token(&json!({ "exp": ends / 1000 }));
        json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2026-05-31T00:00:00Z", "tokens":
            { "id_token": token(&json!({ "email": "me@example.org" })), "access_token": access,
              "refresh_token": refresh, "account_id": "acc" } })
    };
    let file = machine.write(".codex/auth.json", &login(1_700_000_000_000, "rt-FAKE-1"));
    machine.run(&["import"]).ok().says("its access token has ended");
    assert_eq!(machine.account("me@example.org")["state"], "needs_login");
    write_in_place(&file, &login(FAR, "rt-FAKE-2"));
    soon("it serves again", || machine.account("me@example.org")["state"] == "ready");
    // a login that was taken over ignores the file
    machine.run(&["import", "--take-over"]).ok().says("taken over");
    write_in_place(&file, &login(FARTHER, "rt-FAKE-3"));
    assert_eq!(machine.account("me@example.org")["link"]["mode"], "take-over");
    assert_eq!(machine.account("me@example.org")["credential_expires_at"], FAR);
}

/// The best of a few attempts: a machine under load may be late once, polling is always late.
#[test]
fn a_new_token_is_imported_within_a_second_however_it_is_written() {
    let machine = Machine::new();
    let codex = |ends: u64| {
        let access = token(&json!({ "exp": ends / 1000 }));
        json!({ "OPENAI_API_KEY": null, "tokens": { "id_token": token(&json!({ "email": "me@example.org" })),
            "access_token": access, "refresh_token": format!("rt-FAKE-{ends}"), "account_id": "acc" } })
    };
    let claude = |ends: u64| claude(&ends.to_string(), ends);
    let claude_file = machine.write(".claude/.credentials.json", &claude(FAR));
    let codex_file = machine.write(".codex/auth.json", &codex(FAR));
    assert_eq!(machine.import(&[]).len(), 2);
    let mut client = Client::connect(&machine.lessor.places()).unwrap();
    let mut ends = |provider: &str| {
        let accounts = client.accounts(ListAccountsParams::default()).unwrap();
        accounts.into_iter().find(|account| account.provider == provider).unwrap().credential_expires_at
    };
    let rename = |path: &Path, content: &Value| {
        let next = path.with_extension("tmp");
        std::fs::write(&next, content.to_string()).unwrap();
        std::fs::rename(&next, path).unwrap();
    };
    let mut next = FAR;
    for (provider, write) in [
        ("anthropic", Box::new(|ends| rename(&claude_file, &claude(ends))) as Box<dyn Fn(u64)>),
        ("anthropic", Box::new(|ends| write_in_place(&claude_file, &claude(ends)))),
        ("openai", Box::new(|ends| write_in_place(&codex_file, &codex(ends)))),
    ] {
        let best = (0..3).map(|_| {
            next += 1000;
            write(next);
            soon("it is taken over", || ends(provider) == Some(next))
        });
        let best = best.min().unwrap();
        assert!(best < Duration::from_secs(1), "{provider}: {best:?}");
    }
}

#[test]
fn a_google_login_that_lessor_cannot_refresh_follows_its_tool() {
    let machine = Machine::new();
    let login = |access: &str, ends: u64| json!({ "access_token": access, "refresh_token": "1//FAKE", "expiry_date": ends, "scope": "x" });
    let place = ".gemini/oauth_creds.json";
    let file = machine.write(place, &login("ya29.FAKE-1", FAR));
    let rows = machine.json(&["import", "gemini"])["entries"].clone();
    assert_eq!(
        (rows[0]["outcome"].as_str(), rows[0]["message"].as_str()),
        (Some("linked"), Some("linked: Gemini CLI refreshes this login, and lessor follows its file"))
    );
    let mut client = Client::connect(&machine.lessor.places()).unwrap();
    let mut mine = || client.accounts(ListAccountsParams::default()).unwrap().remove(0);
    write_in_place(&file, &login("ya29.FAKE-2", FARTHER));
    soon("the next token is seen", || mine().credential_expires_at == Some(FARTHER));
    // the only client that is stored is not that of every login
    machine.lessor.feed(&["secrets", "set", "mine", "--provider", "google", "--client-id", "id"], "GOCSPX-FAKE\n").ok();
    let other = json!({ "auth_method": "consumer", "token":
        { "access_token": "ya29.FAKE-3", "refresh_token": "1//FAKE-3", "expiry": "2099-01-01T00:00:00Z" } });
    machine.write(".gemini/antigravity-cli/antigravity-oauth-token", &other);
    assert_eq!(machine.import(&["agy"])[0].0, "linked");
    // it has the same login as before, so a second import changes nothing
    assert_eq!(machine.import(&["gemini"])[0].0, "same");
}
