//! `account …`, and the handling of secrets.

use serde_json::json;

use super::support::Home;

#[test]
fn accounts_are_added_changed_and_removed() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let login = r#"{"access_token":"at-canary","refresh_token":"rt-canary","expires_at":"2099-01-01T00:00:00Z",
        "email":"a@b.c","tier":"pro"}"#;
    home.feed(&["account", "add", "claude", "--oauth-stdin"], login)
        .ok()
        .says("added claude-a")
        .complains("for Claude Code and Claude.ai only");
    let list = home.json(&["account", "list"]);
    assert_eq!((&list[0]["label"], &list[0]["kind"]), (&json!("work"), &json!("api_key")));
    assert_eq!((&list[1]["email"], &list[1]["tier"]), (&json!("a@b.c"), &json!("pro")));
    assert_eq!(list[1]["credential_expires_at"], 4_070_908_800_000_u64);
    assert_eq!(home.json(&["account", "list", "-p", "openai"]), json!([]));

    home.run(&["account", "set", "work", "label=home", "priority=-3", "use=claude,codex"]).ok().says("changed home");
    let shown = home.json(&["account", "show", "home"]);
    assert_eq!((&shown["priority"], &shown["use"]), (&json!(-3), &json!(["claude", "codex"])));
    home.run(&["account", "show", &shown["id"].as_str().unwrap()[..7]]).ok().says("home");
    home.run(&["account", "disable", "home", "--reason", "holiday"]).ok();
    home.run(&["account", "show", "home"]).ok().says("disabled: holiday");
    assert_eq!(home.json(&["account", "enable", "home"])["state"], "ready");

    home.run(&["account", "show", "unknown"]).exits(1).complains("lessor account list");
    home.run(&["account", "set", "home", "colour=red"]).exits(2).complains("known keys are label");
    home.run(&["account", "remove", "--all"]).exits(2);
    home.run(&["account", "remove", "home"]).ok().says("removed home");
    assert_eq!(home.json(&["account", "remove", "--all", "--yes"]).as_array().unwrap().len(), 1);
    home.run(&["account", "list"]).ok().says("no accounts yet");
}

#[test]
fn an_account_without_a_label_gets_one_and_the_terms_of_a_login_are_said() {
    let home = Home::new();
    let add = |args: &[&str], secret: &str| home.feed(&[&["account", "add"], args].concat(), secret).ok();
    let key = add(&["anthropic", "--api-key-stdin"], "sk-canary-1\n").says("added anthropic-key-1");
    assert!(!key.err.contains("Anthropic"), "{key:?}");
    add(&["anthropic", "--api-key-stdin"], "sk-canary-2\n").says("added anthropic-key-2");
    add(&["claude", "--token-stdin"], "sk-ant-oat01-canary\n").says("added claude-token-1").complains("Claude.ai only");
    let login =
        r#"{"access_token":"at-canary","refresh_token":"rt-canary","expires_at":4102444800000,"email":"me@x.org"}"#;
    add(&["google", "--oauth-stdin"], login).says("added gemini-me").complains("Google forbids");
    let shown = home.json(&["account", "show", "gemini-me"]);
    assert!(shown["terms"].as_str().unwrap().starts_with("Google forbids"), "{shown}");
    assert_eq!(home.json(&["account", "show", "anthropic-key-1"])["terms"], json!(null));
}

#[test]
fn invalid_secrets_are_refused_and_never_shown() {
    let home = Home::new();
    let key = ["account", "add", "openai", "--api-key-stdin"];
    home.feed(&key, "").exits(1).complains("empty");
    home.feed(&key, "sk-canary\nsk-canary\n").exits(1).complains("more than one line");
    home.feed(&key, &"k".repeat(64 * 1024 + 1)).exits(1).complains("longer than 64 KiB");
    home.run(&["account", "add", "openai"]).exits(2);
    let login = ["account", "add", "openai", "--oauth-stdin"];
    for text in ["sk-canary", "\"sk-canary\"", r#"{"access_token":"sk-canary","x":1}"#, r#"{"access_token":1}"#] {
        let refused = home.feed(&login, text).exits(1).complains("this is not a valid login");
        assert!(!refused.err.contains("canary"), "{refused:?}");
    }
}

#[test]
fn only_acquire_with_json_prints_a_secret() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let acquire = ["acquire", "anthropic", "--ttl", "10m", "--wait", "0s"];
    assert_eq!(home.json(&acquire)["credential"]["secret"], "sk-canary-work");
    home.run(&["release", home.json(&["leases"])[0]["lease"].as_str().unwrap()]).ok();
    home.run(&acquire).ok().says("lease    ls_");
    for command in [&["status"][..], &["account", "list"], &["account", "show", "work"], &["leases"], &["events"]] {
        for args in [command.to_vec(), [command, &["--json"]].concat()] {
            let done = home.run(&args).ok();
            assert!(!done.out.contains("canary") && !done.err.contains("canary"), "{done:?}");
        }
    }
    let log = std::fs::read_to_string(home.places().log).unwrap();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn a_key_is_replaced_and_tried() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "other")]);
    // nothing listens there
    home.run(&["config", "set", "providers.anthropic.base_url", "http://127.0.0.1:1"]).ok();
    home.run(&["account", "list"]).ok().says("unchecked");
    home.run(&["account", "show", "work"]).ok().says("lessor account check");
    let add = ["account", "add", "anthropic", "--api-key-stdin"];
    home.feed(&add, "sk-canary-work").ok().says("nothing was added").says("work");
    assert_eq!(home.json(&["account", "list"]).as_array().unwrap().len(), 2);
    let set = ["account", "set", "work", "--api-key-stdin"];
    home.feed(&set, "sk-canary-other").exits(1).complains("other");
    home.feed(&set, "sk-canary-work").exits(1).complains("lessor account check");
    home.feed(&["account", "set", "work", "--token-stdin"], "tok-canary").exits(1).complains("API key");
    let replaced = home.feed(&[&set[..], &["priority=3"]].concat(), "sk-canary-new").ok();
    assert!(replaced.says("replaced the API key of work").err.is_empty());
    assert_eq!(home.json(&["account", "show", "work"])["priority"], 3);
    home.run(&["account", "check", "work"]).exits(1).says("not known").says("127.0.0.1");
    home.run(&["account", "refresh", "work"]).exits(5).complains("--api-key-stdin");
}

#[test]
fn the_identity_of_a_login_is_read_from_its_tokens() {
    let home = Home::new();
    // {"client_id":"app_1","exp":4070908800,"https://api.openai.com/auth":{"chatgpt_account_id":"ws-1",
    // "chatgpt_user_id":"user-1","chatgpt_plan_type":"plus"},"https://api.openai.com/profile":{"email":"a@b.c"}}
    let access = "e30.eyJjbGllbnRfaWQiOiJhcHBfMSIsImV4cCI6NDA3MDkwODgwMCwiaHR0cHM6Ly9hcGkub3BlbmFpLmNvbS9hdXRoIjp7ImNoYX\
                  RncHRfYWNjb3VudF9pZCI6IndzLTEiLCJjaGF0Z3B0X3VzZXJfaWQiOiJ1c2VyLTEiLCJjaGF0Z3B0X3BsYW5fdHlwZSI6InBsdXMi\
                  fSwiaHR0cHM6Ly9hcGkub3BlbmFpLmNvbS9wcm9maWxlIjp7ImVtYWlsIjoiYUBiLmMifX0.FAKE";
    let login = format!(r#"{{"access_token":"{access}","refresh_token":"rt"}}"#);
    let another = home.feed(&["account", "add", "codex", "--oauth-stdin", "--email", "x@b.c"], &login);
    assert!(another.err.contains("the tokens are those of a@b.c, not of x@b.c"), "{}", another.err);
    home.feed(&["account", "add", "codex", "--oauth-stdin", "--email", "a@b.c"], &login).ok().says("added codex-a");
    let account = home.json(&["account", "list"])[0].clone();
    assert_eq!((&account["email"], &account["account_id"]), (&json!("a@b.c"), &json!("ws-1")), "{account}");
    assert_eq!((&account["tier"], &account["credential_expires_at"]), (&json!("pro"), &json!(4_070_908_800_000_u64)));
    // {"azp":"client-1","email":"g@b.c","sub":"1234"}
    let identity = "e30.eyJhenAiOiJjbGllbnQtMSIsImVtYWlsIjoiZ0BiLmMiLCJzdWIiOiIxMjM0In0.FAKE";
    let login =
        format!(r#"{{"access_token":"at","refresh_token":"rt2","expires_at":4070908800000,"id_token":"{identity}"}}"#);
    home.feed(&["account", "add", "google", "--oauth-stdin"], &login).ok().says("added gemini-g");
    let account = home.json(&["account", "show", "g@b.c"]);
    assert_eq!((&account["email"], &account["account_id"]), (&json!("g@b.c"), &json!("1234")), "{account}");
    let refresh = ["account", "refresh", "g@b.c"];
    home.run(&refresh).exits(5).complains("client-1").complains("lessor secrets set NAME");
}
