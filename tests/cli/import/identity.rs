//! Whose a login is: one person in several organisations, several members of one, and files that change hands.

use std::time::Duration;

use lessor::credential::FormerCredential;
use lessor::pool::Wall;
use lessor::store::{KeyBackend, OpenedStore, Store, StorePaths, Write};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::following::soon;
use super::machine::{FAR, FARTHER, Machine, claude, token};

fn owner(person: &str, organization: &str) -> Value {
    json!({ "oauthAccount": { "accountUuid": format!("uuid-{person}"), "emailAddress": format!("{person}@example.org"),
        "organizationUuid": format!("uuid-{organization}"), "organizationName": organization } })
}

/// The machine's store, while no daemon runs.
fn open_store(machine: &Machine) -> OpenedStore {
    let places = machine.lessor.places();
    let paths = StorePaths { database: places.database, key: places.key, key_backend: KeyBackend::File };
    Store::open(&paths, "").unwrap()
}

/// The refresh tokens of all accounts, by the names that are shown.
fn refresh_tokens(machine: &Machine) -> Vec<(String, String)> {
    let export = machine.json(&["export", "--secrets", "--yes"]);
    let tokens = export["accounts"].as_array().unwrap().iter().map(|account| {
        let name = machine.account(account["id"].as_str().unwrap())["email"].as_str().unwrap_or("-").to_owned();
        (name, account["credential"]["refresh"].as_str().unwrap_or("-").to_owned())
    });
    tokens.collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, token)| ((*name).to_owned(), (*token).to_owned())).collect()
}

/// `CODEX_HOME`, with a login of this person in this workspace.
fn codex(machine: &Machine, place: &str, (person, workspace): (&str, &str), refresh: &str) -> String {
    let auth = json!({ "chatgpt_account_id": workspace, "chatgpt_user_id": format!("user-{person}") });
    let id = token(&json!({ "email": format!("{person}@example.org"), "https://api.openai.com/auth": auth }));
    let access = token(&json!({ "exp": FAR / 1000, "client_id": "app_FAKE" }));
    machine.write(
        &format!("{place}/auth.json"),
        &json!({ "OPENAI_API_KEY": null, "tokens":
            { "id_token": id, "access_token": access, "refresh_token": refresh, "account_id": workspace } }),
    );
    machine.path(place).to_str().unwrap().to_owned()
}

#[test]
fn one_person_in_two_organisations_has_two_accounts() {
    let machine = Machine::new();
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    machine.write(".claude-team/.claude.json", &owner("me", "Team"));
    machine.write(".claude-team/.credentials.json", &claude("r2", FARTHER));
    let team = machine.path(".claude-team").to_str().unwrap().to_owned();
    machine.import(&[&team]);
    let (one, two) = ("sk-ant-ort01-FAKE-r1", "sk-ant-ort01-FAKE-r2");
    let both = pairs(&[("me@example.org", one), ("me@example.org (Team)", two)]);
    assert_eq!(refresh_tokens(&machine), both);
    // both are found by the names that are shown
    assert_eq!(machine.account("me@example.org")["organization"], "Personal");
    assert_eq!(machine.account("me@example.org (Team)")["organization_id"], "uuid-Team");
    machine.run(&["account", "set", "me@example.org (Team)", "priority=3"]).ok();
    assert_eq!(machine.account("me@example.org (Team)")["priority"], 3);
    machine.import(&[]);
    machine.import(&[&team]);
    assert_eq!(refresh_tokens(&machine), both, "a second import changes nothing");
    // a backup keeps them apart
    let export = machine.json(&["export", "--secrets", "--yes"]);
    let other = Machine::new();
    let file = other.write("backup.json", &export);
    other.import(&[file.to_str().unwrap()]);
    assert_eq!(refresh_tokens(&other), both);
}

#[test]
fn members_of_a_workspace_and_workspaces_of_a_person_have_accounts_of_their_own() {
    let machine = Machine::new();
    let homes = [
        codex(&machine, "one", ("a", "ws-1"), "rt-1"),
        codex(&machine, "two", ("b", "ws-1"), "rt-2"),
        codex(&machine, "three", ("a", "workspace-2"), "rt-3"),
    ];
    for home in &homes {
        machine.import(&[home]);
    }
    let three = [("a@example.org", "rt-1"), ("b@example.org", "rt-2"), ("a@example.org (workspac)", "rt-3")];
    assert_eq!(refresh_tokens(&machine), pairs(&three));
    let account = machine.account("b@example.org");
    assert_eq!((&account["account_id"], &account["person_id"]), (&json!("ws-1"), &json!("user-b")));
    let export = machine.json(&["export", "--secrets", "--yes"]);
    assert_eq!(export["accounts"][0]["credential"]["client_id"], "app_FAKE");
    for home in &homes {
        machine.import(&[home]);
    }
    assert_eq!(refresh_tokens(&machine), pairs(&three));
}

#[test]
fn a_refresh_token_that_a_file_has_lost_is_kept_and_another_persons_file_is_another_account() {
    let machine = Machine::new();
    let gemini = |access: &str, refresh: Option<&str>, person: &str, ends: u64| {
        let id = token(&json!({ "email": format!("{person}@example.org"), "sub": format!("sub-{person}") }));
        machine.write(
            ".gemini/oauth_creds.json",
            &json!({ "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "scope": "s",
                "id_token": id, "expiry_date": ends }),
        );
        machine.import(&["--from", "gemini-cli"])
    };
    gemini("ya29.FAKE-1", Some("1//FAKE-a"), "a", FAR);
    assert_eq!(gemini("ya29.FAKE-2", None, "a", FARTHER)[0].0, "updated");
    assert_eq!(refresh_tokens(&machine), pairs(&[("a@example.org", "1//FAKE-a")]));
    assert_eq!(machine.account("a@example.org")["credential_expires_at"], FARTHER);
    assert_eq!(gemini("ya29.FAKE-2", None, "a", FARTHER)[0].0, "same");
    gemini("ya29.FAKE-3", None, "b", FARTHER + 1);
    assert_eq!(refresh_tokens(&machine), pairs(&[("a@example.org", "1//FAKE-a"), ("b@example.org", "-")]));
}

#[test]
fn a_linked_login_without_its_refresh_token_is_known_also_when_its_owner_cannot_be_read() {
    let machine = Machine::new();
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    machine.write_text(".claude.json", "{\"oauthAccount\":");
    let mut bare = claude("r1", FAR);
    bare["claudeAiOauth"].as_object_mut().unwrap().remove("refreshToken");
    machine.write(".claude/.credentials.json", &bare);
    assert_eq!(machine.import(&["--from", "claude-code"])[0].0, "same");
    assert_eq!(refresh_tokens(&machine), pairs(&[("me@example.org", "sk-ant-ort01-FAKE-r1")]));
}

#[test]
fn the_credential_before_an_adopted_one_is_removed_when_the_owner_is_certain() {
    let machine = Machine::new();
    let ends = || machine.account("me@example.org")["credential_expires_at"].clone();
    let of_store = |work: &dyn Fn(&OpenedStore)| {
        machine.run(&["stop"]).ok();
        let opened = open_store(&machine);
        work(&opened);
        opened.store.close(opened.loaded.clean);
        opened.loaded.formers.len()
    };
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    machine.write(".claude/.credentials.json", &claude("r2", FARTHER));
    soon("the new token is used", || ends() == FARTHER);
    let kept = of_store(&|opened| {
        // as if it had been adopted an hour ago
        for (account, former) in &opened.loaded.formers {
            let since = Wall(former.since.0 - 3_600_000);
            let former = FormerCredential::new(&former.credential, former.role, since);
            opened.store.write(Write::SaveFormer(*account, Some(former)), None);
        }
    });
    assert_eq!(kept, 1);
    // only a daemon that has ended lets others read its database: each one runs for longer than the one before
    let is_removed = |calls: u32| {
        (0..1 << calls).for_each(|_| drop(machine.accounts()));
        of_store(&|_| {}) == 0
    };
    assert!((0..10).any(is_removed), "it is removed");
    assert_eq!(ends(), FARTHER);
}

#[test]
fn a_linked_file_that_changes_hands_takes_no_account_along() {
    let machine = Machine::new();
    let ends = |name: &str| machine.account(name)["credential_expires_at"].clone();
    let trouble = |name: &str| machine.account(name)["link"]["trouble"].to_string();
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    // the same person logs in at another organisation: the token comes first
    machine.write(".claude/.credentials.json", &claude("r2", FARTHER));
    machine.write(".claude.json", &owner("me", "Team"));
    soon("the other organisation is reported", || trouble("me@example.org").contains("(Team)"));
    assert_eq!(ends("me@example.org"), FAR);
    assert_eq!(machine.import(&[]), pairs(&[("linked", "me@example.org")]));
    let (one, two) = ("sk-ant-ort01-FAKE-r1", "sk-ant-ort01-FAKE-r2");
    assert_eq!(refresh_tokens(&machine), pairs(&[("me@example.org", one), ("me@example.org (Team)", two)]));
    // and returns
    machine.write(".claude/.credentials.json", &claude("r3", FARTHER + 1));
    machine.write(".claude.json", &owner("me", "Personal"));
    soon("the token is used by its account", || ends("me@example.org") == FARTHER + 1);
    assert_eq!(ends("me@example.org (Team)"), FARTHER);
    let why = trouble("me@example.org (Team)");
    assert!(why.contains("Personal") && why.contains("log in to it with Claude Code again"), "{why}");
}

#[test]
fn a_token_is_used_after_a_wait_and_given_back_when_another_owner_is_named_later() {
    let machine = Machine::new();
    let ends = || machine.account("me@example.org")["credential_expires_at"].clone();
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    machine.write(".claude/.credentials.json", &claude("r2", FARTHER));
    let waited = soon("a token whose owner stays the same is used", || ends() == FARTHER);
    assert!(waited > Duration::from_secs(4), "another owner could still be named: {waited:?}");
    machine.write(".claude.json", &owner("you", "Other"));
    soon("it is given back", || ends() == FAR);
    let me = machine.account("me@example.org");
    assert_eq!(me["state"], "ready");
    assert!(me["link"]["trouble"].as_str().unwrap().contains("you@example.org (Other)"), "{me}");
    let status = machine.json(&["status"]);
    assert!(status["warnings"].to_string().contains("you@example.org"), "{status}");
    machine.import(&[]);
    let (one, two) = ("sk-ant-ort01-FAKE-r1", "sk-ant-ort01-FAKE-r2");
    assert_eq!(refresh_tokens(&machine), pairs(&[("me@example.org", one), ("you@example.org", two)]));
    let log = std::fs::read_to_string(machine.lessor.places().log).unwrap();
    assert!(log.contains("has its former login again") && !log.contains("FAKE"), "{log}");
}

#[test]
fn without_a_readable_owner_a_token_is_used_after_a_wait_also_across_a_restart() {
    let machine = Machine::new();
    let ends = || machine.account("me@example.org")["credential_expires_at"].clone();
    let named = machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    std::fs::remove_file(&named).unwrap();
    machine.write(".claude/.credentials.json", &claude("r2", FARTHER));
    soon("without the file", || ends() == FARTHER);
    // what was before is on disk
    machine.run(&["stop"]).ok();
    machine.write(".claude.json", &owner("you", "Other"));
    soon("it is given back by the next daemon", || ends() == FAR);
    machine.write_text(".claude.json", "{\"oauthAccount\":");
    machine.write(".claude/.credentials.json", &claude("r3", FARTHER + 1));
    soon("with half a file", || ends() == FARTHER + 1);
}

#[test]
fn an_account_without_an_owner_follows_its_file_at_once() {
    let machine = Machine::new();
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    let id = machine.accounts()[0]["id"].as_str().unwrap().to_owned();
    machine.write(".claude/.credentials.json", &claude("r2", FARTHER));
    let waited = soon("it follows", || machine.account(&id)["credential_expires_at"] == FARTHER);
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[test]
fn logins_of_opencode_2_are_linked_and_its_old_file_is_left_out() {
    let machine = Machine::new();
    let file = machine.write(
        ".local/share/opencode/auth.json",
        &json!({ "openai": { "type": "oauth", "access": "at-FAKE-0", "refresh": "rt-FAKE-0", "expires": FAR,
            "accountId": "ws-1" } }),
    );
    // version 1
    assert_eq!(machine.import(&[])[0].0, "linked");
    let link = || machine.accounts()[0]["link"].clone();
    assert_eq!(link()["path"], file.to_str().unwrap());
    // version 2 has taken the login over, and has refreshed it since
    let database = Connection::open(machine.path(".local/share/opencode/opencode.db")).unwrap();
    database.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    database
        .execute_batch(
            "CREATE TABLE credential (id TEXT PRIMARY KEY, integration_id TEXT NOT NULL, label TEXT NOT NULL,
                value TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL)",
        )
        .unwrap();
    let put = |refresh: &str, ends: u64| {
        let value = json!({ "type": "oauth", "methodID": "chatgpt-browser", "refresh": refresh, "access": "at-FAKE",
            "expires": ends, "metadata": { "accountID": "ws-1" } });
        let statement =
            format!("INSERT OR REPLACE INTO credential VALUES ('c1', 'openai', 'default', '{value}', 1, 1)");
        database.execute_batch(&statement).unwrap();
    };
    put("rt-FAKE-1", FARTHER);
    let done = machine.run(&["import"]).ok();
    done.complains("opencode 2 keeps its logins in").complains("auth.json");
    assert!(link()["path"].as_str().unwrap().ends_with("opencode.db"), "{}", link());
    assert_eq!(refresh_tokens(&machine), pairs(&[("-", "rt-FAKE-1")]));
    machine.run(&["doctor"]).says("this file is out of date");
    // its changes are followed while it runs
    put("rt-FAKE-2", FARTHER + 1);
    soon("it is followed", || machine.accounts()[0]["credential_expires_at"] == FARTHER + 1);
}

#[test]
fn a_key_that_is_known_is_reported_with_the_account_that_has_it() {
    let machine = Machine::new();
    let add = |args: &[&str]| {
        let args = [&["account", "add", "anthropic", "--api-key-stdin"], args].concat();
        super::feed(machine.command(&args), "sk-ant-api03-FAKE\n")
    };
    add(&["--label", "work"]).ok().says("added work");
    add(&[]).ok().says("nothing was added: this API key is already that of work");
    assert_eq!(machine.accounts().len(), 1);
}

#[test]
fn an_import_says_what_lets_an_account_serve_again() {
    let machine = Machine::new();
    machine.write(".claude.json", &owner("me", "Personal"));
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.import(&[]);
    machine.run(&["account", "disable", "me@example.org"]).ok();
    machine.run(&["import"]).ok().says("it is disabled; to use it: lessor account enable");
    machine.run(&["account", "enable", "me@example.org"]).ok();
    let done = machine.run(&["import"]).ok();
    assert!(!done.out.contains("disabled"), "{done:?}");
}
