//! `import`, `export`, `doctor`: from other tools' files to a leased account.

#[cfg(target_os = "linux")]
mod agy;
mod following;
mod formats;
mod identity;
mod machine;
mod profiles;
mod schema;
mod settings;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::support::feed;

use machine::{FAR, FARTHER, Machine, NO_POLL, claude, tomorrow};

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(outcome, email)| ((*outcome).to_owned(), (*email).to_owned())).collect()
}

fn antigravity() -> Value {
    json!({ "version": 4, "activeIndex": 0, "accounts": [
        { "email": "one@example.org", "refreshToken": "1//FAKE-one", "projectId": "own", "managedProjectId": "managed",
          "addedAt": 1_700_000_000_000_u64, "lastUsed": 1_700_000_000_001_u64,
          "rateLimitResetTimes": { "claude": tomorrow(), "gemini-antigravity:gemini-3-pro": 1000 },
          "cachedQuota": { "claude": { "remainingFraction": 0.25, "resetTime": "2099-01-01T00:00:00Z", "modelCount": 1 } },
          "cachedQuotaUpdatedAt": 1_700_000_000_002_u64 },
        { "email": "two@example.org", "refreshToken": "1//FAKE-two", "addedAt": 1_700_000_000_000_u64, "lastUsed": 0,
          "enabled": false, "verificationRequired": true, "verificationUrl": "https://accounts.google.com/verify" } ] })
}

#[test]
fn everything_is_found_and_imported_and_no_file_is_changed() {
    let machine = Machine::new();
    let store = antigravity();
    let files = [
        machine.write(".config/opencode/antigravity-accounts.json", &store),
        machine.write(".claude/.credentials.json", &claude("r1", FAR)),
        machine.write(
            ".claude.json",
            &json!({ "numStartups": 1, "oauthAccount": { "emailAddress": "me@example.org", "accountUuid": "uuid-1" } }),
        ),
        machine.write(".codex/auth.json", &json!({ "OPENAI_API_KEY": "sk-FAKE-codex", "tokens": null })),
        machine.write(
            ".local/share/opencode/auth.json",
            &json!({ "openai": { "type": "api", "key": "sk-FAKE-codex" }, "other": { "type": "api", "key": "sk-FAKE-x" } }),
        ),
        machine.write_text(".gemini/oauth_creds.json", "{\"refresh_token\": \"1//FAKE"),
    ];
    let before: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();

    let plan = machine.json(&["import", "--dry-run"]);
    assert!(machine.accounts().is_empty(), "a dry run changes nothing");
    let report = machine.json(&["import"]);
    let outcomes = |report: &Value| {
        let rows = report["entries"].as_array().unwrap();
        rows.iter().map(|row| (row["outcome"].clone(), row["message"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&plan), outcomes(&report), "a dry run says what happens");
    assert_eq!(
        report["summary"],
        json!({ "added": 3, "updated": 0, "same": 1, "linked": 1, "refused": 1, "broken": 1 })
    );
    let refused = report["entries"].as_array().unwrap().iter().find(|row| row["outcome"] == "refused").unwrap();
    assert!(refused["message"].as_str().unwrap().contains("providers"), "{refused}");
    let broken = report["files"].as_array().unwrap().iter().find(|file| !file["error"].is_null()).unwrap();
    assert!(
        broken["path"].as_str().unwrap().ends_with("oauth_creds.json")
            && broken["error"].as_str().unwrap().contains("JSON")
    );

    let mine = machine.account("me@example.org");
    assert_eq!(
        (&mine["tier"], &mine["account_id"], &mine["state"]),
        (&json!("ultra"), &json!("uuid-1"), &json!("ready"))
    );
    assert_eq!(mine["link"]["mode"], "link");
    assert_eq!(mine["link"]["path"], files[1].to_str().unwrap());
    assert_eq!(mine["credential_expires_at"], FAR);
    let one = machine.account("one@example.org");
    assert_eq!((&one["project_id"], &one["limits"][0]["key"]), (&json!("managed"), &json!("claude")));
    assert_eq!(
        (one["limits"].as_array().unwrap().len(), &one["limits"][0]["until"]),
        (1, &store["accounts"][0]["rateLimitResetTimes"]["claude"])
    );
    assert_eq!((&one["usage"][0]["window"], &one["usage"][0]["utilization"]), (&json!("claude"), &json!(0.75)));
    assert_eq!(one["last_used_at"], 1_700_000_000_001_u64);
    let two = machine.account("two@example.org");
    assert_eq!((&two["enabled"], &two["state"]), (&json!(false), &json!("disabled")));
    assert!(two["state_reason"].as_str().unwrap().contains("https://accounts.google.com/verify"), "{two}");

    let second = machine.json(&["import"]);
    assert_eq!(
        second["summary"],
        json!({ "added": 0, "updated": 0, "same": 5, "linked": 0, "refused": 1, "broken": 1 })
    );
    assert_eq!(machine.accounts().len(), 4);
    let after: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
    let log = std::fs::read_to_string(machine.lessor.places().log).unwrap();
    assert!(!log.contains("FAKE"), "{log}");
}

#[test]
fn only_a_newer_token_updates_an_account_also_after_a_restart() {
    let machine = Machine::new();
    machine.write(".claude.json", &json!({ "oauthAccount": { "emailAddress": "me@example.org" } }));
    let import = |content: &Value| {
        machine.write(".claude/.credentials.json", content);
        machine.import(&["--from", "claude", "--take-over"])
    };
    assert_eq!(import(&claude("r1", FAR)), pairs(&[("added", "me@example.org")]));
    assert_eq!(import(&claude("r2", FARTHER)), pairs(&[("updated", "me@example.org")]));
    machine.run(&["stop"]).ok();
    assert_eq!(import(&claude("r1", FARTHER + 5)), pairs(&[("same", "me@example.org")]), "that one was there before");
    assert_eq!(machine.account("me@example.org")["credential_expires_at"], FARTHER);
    assert_eq!(machine.account("me@example.org")["link"]["mode"], "take-over");
    // a removed account is forgotten
    machine.run(&["account", "remove", "me@example.org"]).ok();
    assert_eq!(import(&claude("r1", FAR)), pairs(&[("added", "me@example.org")]));
}

#[test]
fn one_file_or_one_tool_can_be_imported() {
    let machine = Machine::new();
    let store = machine.write("elsewhere/store.json", &antigravity());
    let broken = machine.write_text("elsewhere/broken.json", "{");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let done = machine.run(&["import", &path(&broken), &path(&store)]).ok();
    done.says("2 added, 1 broken").complains("broken.json: it is not JSON");
    machine.run(&["import", &path(&broken)]).exits(1).complains("broken.json");
    machine.run(&["import", "/nowhere/x.json"]).exits(1).complains("no such file");
    machine.run(&["import", "--from", "codex"]).ok().says("nothing was found");
    machine.run(&["import", "--from", "nosuch"]).exits(2).complains("claude-code");
    machine.run(&["import", "--from", "codex", "x.json"]).exits(2);
    machine.run(&["import", "--share", "--take-over"]).exits(2);
    machine.run(&["import"]).ok().says("nothing was found");
    // a directory of a tool
    let directory = machine.path("manager");
    for number in 0..3 {
        machine.write(
            &format!("manager/accounts/{number}.json"),
            &json!({ "id": format!("id-{number}"), "email": format!("m{number}@example.org"), "token":
                { "access_token": "ya29.FAKE", "refresh_token": format!("1//FAKE-{number}"), "expiry_timestamp": FAR / 1000,
                  "project_id": "p" }, "custom_label": "same label" }),
        );
    }
    machine.write("manager/accounts.json", &json!({ "version": "2.0", "accounts": [], "current_account_id": null }));
    assert_eq!(machine.import(&[&path(&directory)]).len(), 3);
    let labels: Vec<Value> = machine.accounts().iter().map(|account| account["label"].clone()).collect();
    assert_eq!(labels.iter().filter(|label| **label == "same label").count(), 1, "{labels:?}");
}

#[test]
fn share_requires_a_tool_with_locks() {
    let machine = Machine::new();
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    let tokens = json!({ "tokens": { "access_token": "FAKE", "refresh_token": "rt-FAKE", "account_id": "acc" } });
    machine.write(".codex/auth.json", &tokens);
    let done = machine.run(&["import", "--share"]).ok();
    done.says("1 linked, 1 refused").says("under Claude Code's own locks").says("--take-over");
    machine.run(&["import", "--from", "codex", "--share"]).exits(1);
    machine
        .run(&["import", "--from", "codex", "--take-over"])
        .ok()
        .says("must be started with `lessor run` from now on");
}

#[test]
fn open_files_are_reported_and_hostile_files_are_harmless() {
    let machine = Machine::new();
    let store = machine.write(
        ".config/opencode/anthropic-accounts.json",
        &json!({ "version": 1, "accounts": [
        { "refresh": "sk-ant-ort01-FAKE", "access": "sk-ant-oat01-FAKE", "expires": FAR, "addedAt": 5000 }] }),
    );
    std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    // a pipe without a writer, a circular link, a file that is far too large
    std::fs::create_dir_all(machine.path(".codex")).unwrap();
    let pipe = machine.path(".codex/auth.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::create_dir_all(machine.path(".gemini")).unwrap();
    let link = machine.path(".gemini/oauth_creds.json");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let large = machine.write_text(".claude/.credentials.json", "");
    std::fs::File::options().write(true).open(large).unwrap().set_len(100 << 20).unwrap();
    for number in 0..1001 {
        machine.write_text(&format!(".cli-proxy-api/{number}.json"), "{}");
    }
    let done = machine.run(&["import"]).ok().complains("mode 0644").complains("chmod 600");
    let done = done.complains("not a file").complains("cannot be read").complains("larger than 8 MiB");
    done.complains("more than 1000 files").says("1 linked, 4 broken");
}

#[test]
fn an_export_can_be_imported() {
    let machine = Machine::new();
    machine.write(".config/opencode/antigravity-accounts.json", &antigravity());
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    assert_eq!(machine.import(&[]).len(), 3);
    machine.run(&["account", "set", "one@example.org", "label=first", "max_leases=3", "priority=2"]).ok();
    let shown = |machine: &Machine| {
        let mut accounts = machine.accounts();
        for account in &mut accounts {
            let fields = account.as_object_mut().unwrap();
            fields.retain(|name, _| !["id", "created_at", "usage_trouble"].contains(&name.as_str()));
            // known since the import
            for limit in fields["limits"].as_array_mut().unwrap() {
                limit["since"].take();
            }
        }
        accounts
    };
    let before = shown(&machine);

    let plain = machine.run(&["export"]).ok();
    assert!(!plain.out.contains("FAKE") && plain.out.contains("one@example.org"), "{plain:?}");
    machine.run(&["export", "--secrets"]).exits(2).complains("--yes");
    let file = machine.path("export.json");
    machine.run(&["export", "--secrets", "--yes", "-o", file.to_str().unwrap()]).ok().complains("0600");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains("1//FAKE-one"));

    assert!(machine.import(&[file.to_str().unwrap()]).iter().all(|(outcome, _)| outcome == "same"));
    machine.run(&["account", "remove", "--all", "--yes"]).ok();
    assert_eq!(machine.import(&[file.to_str().unwrap()]).len(), 3);
    assert_eq!(shown(&machine), before);
}

#[test]
fn the_doctor_finds_problems_and_suggests_remedies() {
    let machine = Machine::new();
    machine.run(&["doctor"]).exits(1).says("there are no accounts").says("lessor import");
    let credentials = machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.run(&["import"]).ok();
    machine.run(&["doctor"]).ok().says("1 of 1 account can serve now").says("1 credential of Claude Code");
    std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let same =
        json!({ "anthropic": { "type": "oauth", "refresh": "sk-ant-ort01-FAKE-r1", "access": "x", "expires": FAR } });
    machine.write(".local/share/opencode/auth.json", &same);
    let done = machine.run(&["doctor"]).exits(1).says("chmod 600").says("have the same login (same token)");
    assert!(!done.out.contains("FAKE"), "{done:?}");
    let report = feed(machine.command(&["doctor", "--json"]), "").exits(1);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!((&report["healthy"], &report["findings"][0]["level"]), (&json!(false), &json!("broken")));
    std::fs::write(machine.lessor.path().join("config.toml"), "[leases]\nper_acount = 2\n").unwrap();
    machine.run(&["doctor"]).exits(1).says("per_acount");
}

#[test]
fn an_imported_login_is_leased() {
    let machine = Machine::new();
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.run(&["import"]).ok();
    // the agent is recognised by the program's name
    let agent = machine.write_text("bin/claude", "#!/bin/sh\necho \"$CLAUDE_CODE_OAUTH_TOKEN\"\n");
    std::fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    machine.run(&["run", "--direct", "--", agent.to_str().unwrap()]).ok().says("sk-ant-oat01-FAKE-r1");
}

/// Answers every token request with the same token; sends the requests to the receiver.
fn token_server() -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).unwrap_or(0) > 2 {
                let lower = line.to_ascii_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = r#"{"access_token":"ya29.FAKE-fresh","expires_in":3599,"token_type":"Bearer"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            stream.get_mut().write_all((head + answer).as_bytes()).unwrap();
            if tell.send(String::from_utf8(body).unwrap()).is_err() {
                return;
            }
        }
    });
    (port, asked)
}

/// The store of opencode-antigravity-auth holds no access tokens: the first lease needs a refresh.
#[test]
fn a_login_without_an_access_token_is_refreshed_and_leased() {
    let machine = Machine::new();
    let (port, asked) = token_server();
    let config = format!(
        "{NO_POLL}[providers.google.oauth]\ntoken_url = \"http://127.0.0.1:{port}/token\"\nclient_id = \"client-FAKE\"\nclient_secret_env = \"GOOGLE_SECRET\"\n"
    );
    machine.write(".config/opencode/antigravity-accounts.json", &antigravity());
    let agent = machine.write_text("bin/gemini", "#!/bin/sh\necho \"$GOOGLE_CLOUD_ACCESS_TOKEN\"\n");
    std::fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut import = machine.command(&["import"]);
    import.env("GOOGLE_SECRET", "FAKE-client-secret");
    feed(import, "")
        .ok()
        .says("the first refresh makes one")
        .says("it cannot be renewed yet; first: lessor secrets set opencode-antigravity-auth --provider google");
    machine.run(&["doctor"]).exits(1).says("no OAuth client for google").says("lessor secrets set NAME");
    std::fs::write(machine.lessor.path().join("config.toml"), config).unwrap();
    machine.run(&["reload"]).ok();
    let mut run = machine.command(&["run", "--direct", "--wait", "20s", "--", agent.to_str().unwrap()]);
    run.env("GOOGLE_SECRET", "FAKE-client-secret");
    feed(run, "").ok().says("ya29.FAKE-fresh");
    let body = asked.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert!(body.contains("refresh_token=1%2F%2FFAKE-one") && body.contains("client_id=client-FAKE"), "{body}");
    assert_eq!(machine.account("one@example.org")["state"], "partly_limited");
}
