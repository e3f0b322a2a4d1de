//! Several logins of one tool, each in a directory of its own; and what is said when a login is added.

use serde_json::{Value, json};

use super::machine::{FAR, Machine, claude, token};

/// A directory of Claude Code with the login of this person.
fn claude_home(machine: &Machine, directory: &str, person: &str) {
    machine.write(&format!("{directory}/.credentials.json"), &claude(person, FAR));
    let owner = json!({ "emailAddress": format!("{person}@example.org"), "accountUuid": format!("uuid-{person}") });
    machine.write(&format!("{directory}/.claude.json"), &json!({ "oauthAccount": owner }));
}

fn labels(machine: &Machine) -> Vec<String> {
    let mut labels: Vec<String> =
        machine.accounts().iter().map(|account| account["label"].as_str().unwrap().to_owned()).collect();
    labels.sort_unstable();
    labels
}

#[test]
fn each_directory_of_claude_code_is_an_account_that_follows_its_file() {
    let machine = Machine::new();
    for (directory, person) in [
        (".claude", "a"),
        (".claude-work", "b"),
        (".config/claude-team", "c"),
        (".claude-switch/profiles/four", "d"),
        (".ccs/instances/five", "e"),
    ] {
        claude_home(&machine, directory, person);
    }
    // a copy of a login that is there already, and a directory without one
    claude_home(&machine, ".claude-backup", "a");
    machine.write(".claude-empty/settings.json", &json!({}));
    let report = machine.json(&["import"]);
    assert_eq!((&report["summary"]["linked"], &report["summary"]["broken"]), (&json!(5), &json!(0)), "{report}");
    assert_eq!(labels(&machine), ["claude-a", "claude-b", "claude-c", "claude-d", "claude-e"]);
    assert_eq!(machine.json(&["import"])["summary"]["linked"], 0);
    let work = machine.account("claude-b");
    assert_eq!(work["link"]["path"], machine.path(".claude-work/.credentials.json").to_str().unwrap());
    // the file is followed
    machine.write(".claude-work/.credentials.json", &claude("new", FAR + 1000));
    machine.run(&["import", "claude-code"]).ok();
    assert_eq!(machine.account("claude-b")["email"], "b@example.org");
}

#[test]
fn directories_can_be_named_for_a_tool() {
    let machine = Machine::new();
    claude_home(&machine, "elsewhere/one", "one");
    claude_home(&machine, "elsewhere/two", "two");
    let of =
        |email: &str| token(&json!({ "email": email, "https://api.openai.com/auth": { "chatgpt_account_id": email } }));
    let tokens = json!({ "tokens": { "access_token": of("x@example.org"), "refresh_token": "rt-FAKE" } });
    machine.write("elsewhere/codex/auth.json", &tokens);
    machine.write(
        ".codex-second/auth.json",
        &json!({ "tokens": { "access_token": of("y@example.org"), "refresh_token": "rt-FAKE-2" } }),
    );
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (one, two, codex) = (path("elsewhere/one"), path("elsewhere/two"), path("elsewhere/codex"));
    machine.run(&["import", "claude-code", &one, &two]).ok().says("2 linked");
    machine.run(&["import", "codex", &codex]).ok().says("1 linked");
    machine.run(&["import", "codex"]).ok().says("1 linked");
    assert_eq!(labels(&machine), ["claude-one", "claude-two", "codex-x", "codex-y"]);
    machine.run(&["import", "codex", &one]).exits(1).complains("there is no login of Codex in it");
    machine.run(&["import", "claud"]).exits(1).complains("no such tool; the tools are ");
    machine.run(&["import", "claude-code", "/nowhere"]).exits(1).complains("no such file");
}

#[test]
fn the_terms_are_said_once_for_each_provider_and_a_foreign_agent_gets_nothing() {
    let machine = Machine::new();
    claude_home(&machine, ".claude", "a");
    claude_home(&machine, ".claude-work", "b");
    machine.write(
        ".local/share/opencode/auth.json",
        &json!({ "anthropic": { "type": "oauth", "refresh": "sk-ant-ort01-FAKE-x", "access": "sk-ant-oat01-FAKE-x", "expires": FAR } }),
    );
    let plan = machine.json(&["import", "--dry-run"]);
    let done = machine.run(&["import"]).ok().complains("stays closed to it");
    assert_eq!(done.err.matches("Anthropic intends the login").count(), 1, "{done:?}");
    assert_eq!(plan["terms"].as_array().unwrap().len(), 1, "{plan}");
    for account in machine.accounts() {
        assert_eq!(account["use"], json!(["claude"]), "{account}");
    }
    let again = machine.run(&["import"]).ok();
    assert!(!again.err.contains("Anthropic intends"), "{again:?}");
    let shown = machine.run(&["account", "show", "claude-a"]).ok();
    shown.says("Anthropic intends the login of a Claude subscription");
    machine.run(&["account", "set", "claude-a", "use=any"]).ok();
    let shown = machine.account("claude-a");
    assert!(shown["terms"].as_str().unwrap().ends_with("you let lessor lease it to any agent (`use`)"), "{shown}");
    let list: Vec<Value> = machine.accounts();
    assert!(
        list.iter().all(|account| account["label"].as_str().is_some_and(|label| label.starts_with("claude-"))),
        "{list:?}"
    );
}
