//! A sample of every format and version, from the file as its tool writes it to the output of `account show`. The samples
//! are in `tests/samples/import`, written by hand.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::machine::{FAR, Machine, tomorrow};

/// A sample, and its path in the user's home.
type Placed<'a> = (&'a str, &'a str);

/// What an import must not change: content, permissions and modification time; for a directory, its entries.
type Untouched = BTreeMap<PathBuf, (Vec<u8>, u32, (i64, i64))>;

fn untouched(directory: &Path, all: &mut Untouched) {
    let about = |path: &Path| {
        let about = std::fs::symlink_metadata(path).unwrap();
        (about.mode(), (about.mtime(), about.mtime_nsec()))
    };
    let (mode, written) = about(directory);
    all.insert(directory.to_owned(), (Vec::new(), mode, written));
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            untouched(&path, all);
        } else {
            let (mode, written) = about(&path);
            all.insert(path.clone(), (std::fs::read(&path).unwrap(), mode, written));
        }
    }
}

/// Whether the actual value contains everything expected.
fn holds(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| actual.get(name).is_some_and(|actual| holds(actual, expected)))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| holds(actual, expected))
        }
        (Value::String(actual), Value::String(expected)) => match expected.strip_prefix('…') {
            Some(part) => actual.contains(part),
            None => actual == expected,
        },
        _ => actual == expected,
    }
}

impl Machine {
    pub fn place(&self, placed: &[Placed<'_>], tomorrow: u64) {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/import");
        let instant = lessor_rfc3339(tomorrow);
        for (sample, place) in placed {
            let text = std::fs::read_to_string(samples.join(sample)).unwrap();
            let text = text.replace("@TOMORROW_MS@", &tomorrow.to_string());
            let text = text.replace("@TOMORROW_S@", &(tomorrow / 1000).to_string()).replace("@TOMORROW@", &instant);
            self.write_text(place, &text);
        }
    }

    /// Imports, and answers the output of `account show` for every account.
    fn shown(&self) -> Vec<Value> {
        let ids = self.accounts().into_iter().map(|account| account["id"].as_str().unwrap().to_owned());
        ids.map(|id| self.account(&id)).collect()
    }
}

/// `2026-06-02T03:04:05Z`
fn lessor_rfc3339(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    // the civil calendar, counted from March of the year 0
    let day = i64::try_from(days).unwrap() + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Imports samples: every account is one of the expected, the files are unchanged, and a second import changes
/// nothing.
fn check(placed: &[Placed<'_>], expected: impl FnOnce(u64) -> Value) {
    let machine = Machine::new();
    let tomorrow = tomorrow() / 1000 * 1000;
    machine.place(placed, tomorrow);
    let before = {
        let mut all = Untouched::new();
        untouched(machine.user.path(), &mut all);
        all
    };
    let planned = machine.json(&["import", "--dry-run"]);
    assert!(machine.accounts().is_empty(), "a dry run takes nothing in");
    let report = machine.json(&["import"]);
    let outcomes = |report: &Value| {
        let rows = report["entries"].as_array().unwrap();
        rows.iter().map(|row| (row["outcome"].clone(), row["message"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&planned), outcomes(&report), "a dry run says what happens");
    let accounts = machine.shown();
    let expected = expected(tomorrow);
    let expected = expected.as_array().unwrap();
    for expected in expected {
        let found = accounts.iter().filter(|account| holds(account, expected)).count();
        assert_eq!(found, 1, "{expected:#} among {accounts:#?}\n{report:#}");
    }
    assert_eq!(accounts.len(), expected.len(), "{accounts:#?}");
    let again = machine.json(&["import"]);
    for (outcome, message) in outcomes(&again) {
        assert!(outcome == "same" || outcome == "refused", "{outcome}: {message}");
    }
    assert_eq!(machine.shown(), accounts, "a second time changes nothing");
    machine.run(&["stop"]).ok();
    let mut after = Untouched::new();
    untouched(machine.user.path(), &mut after);
    assert_eq!(before, after, "the tools' files are left as they are");
}

fn limit(key: &str, scope: &str, reason: &str, until: u64) -> Value {
    json!({ "key": key, "scope": scope, "reason": reason, "until": until })
}

#[test]
fn antigravity_auth_1() {
    check(&[("antigravity-auth/v1.json", ".config/opencode/antigravity-accounts.json")], |tomorrow| {
        json!([
            { "provider": "google", "kind": "oauth", "email": "one@example.org", "project_id": "managed-project",
              "last_used_at": 1_736_000_001_000_u64, "enabled": true, "limits": [
                limit("claude", "pool", "rate_limit_exceeded", tomorrow),
                limit("gemini-antigravity", "pool", "rate_limit_exceeded", tomorrow) ] },
            { "email": null, "project_id": "own-project", "limits": [] } ])
    });
}

#[test]
fn antigravity_auth_2() {
    check(&[("antigravity-auth/v2.json", ".config/opencode/antigravity-accounts.json")], |tomorrow| {
        json!([{ "email": "one@example.org", "project_id": "managed-project",
            "limits": [limit("gemini-antigravity", "pool", "rate_limit_exceeded", tomorrow)] }])
    });
}

#[test]
fn antigravity_auth_3() {
    check(&[("antigravity-auth/v3.json", ".config/opencode/antigravity-accounts.json")], |tomorrow| {
        json!([{ "email": "one@example.org", "project_id": "own-project", "enabled": false, "state": "disabled",
            "state_reason": "disabled in opencode-antigravity-auth", "limits": [
                limit("claude", "pool", "rate_limit_exceeded", tomorrow),
                limit("gemini-antigravity:gemini-3-pro", "model", "rate_limit_exceeded", tomorrow),
                limit("gemini-cli", "pool", "rate_limit_exceeded", tomorrow),
                limit("", "account", "forbidden", tomorrow) ] }])
    });
}

#[test]
fn antigravity_auth_4() {
    check(&[("antigravity-auth/v4.json", ".config/opencode/antigravity-accounts.json")], |tomorrow| {
        json!([
            { "email": "one@example.org", "project_id": "managed-project", "last_used_at": 1_736_000_001_000_u64,
              "limits": [limit("claude", "pool", "rate_limit_exceeded", tomorrow)], "usage": [
                { "window": "claude", "utilization": 0.75, "resets_at": tomorrow, "as_of": 1_736_000_002_000_u64 },
                { "window": "gemini-pro", "utilization": 0.5, "resets_at": tomorrow, "as_of": 1_736_000_002_000_u64 } ] },
            { "email": "two@example.org", "state": "needs_verification", "enabled": true,
              "state_reason": "Verify your account to continue: https://accounts.google.com/signin/continue?x=1",
              "limits": [limit("", "account", "verification_required", tomorrow)] } ])
    });
}

#[test]
fn anthropic_multi_auth() {
    check(&[("anthropic-multi-auth/v1.json", ".config/opencode/anthropic-accounts.json")], |tomorrow| {
        json!([
            { "provider": "anthropic", "kind": "oauth", "label": "multi-auth 1", "credential_expires_at": FAR,
              "last_used_at": 1_736_000_001_000_u64, "limits": [limit("claude", "pool", "rate_limit_exceeded", tomorrow)],
              "link": { "tool": "opencode-anthropic-multi-auth", "mode": "link", "path": "….config/opencode/anthropic-accounts.json" } },
            { "label": "second", "email": "two@example.org", "state": "disabled",
              "state_reason": "disabled in opencode-anthropic-multi-auth" } ])
    });
}

#[test]
fn claude_code() {
    let placed =
        [("claude-code/.credentials.json", ".claude/.credentials.json"), ("claude-code/.claude.json", ".claude.json")];
    check(&placed, |_| {
        json!([
            { "provider": "anthropic", "kind": "oauth", "state": "ready", "email": "claude@example.org", "tier": "ultra",
              "account_id": "5b1d0000-0000-4000-8000-000000000001", "credential_expires_at": FAR, "use": ["claude"],
              "link": { "tool": "claude-code", "mode": "link", "path": "….claude/.credentials.json", "trouble": null } },
            { "provider": "anthropic", "kind": "api_key", "state": "ready", "label": "claude-code", "link": null } ])
    });
}

#[test]
fn codex() {
    check(&[("codex/auth.json", ".codex/auth.json")], |_| {
        json!([{ "provider": "openai", "kind": "oauth", "state": "ready", "email": "codex@example.org", "tier": "pro",
            "account_id": "acc-1", "credential_expires_at": FAR, "use": ["codex"],
            "link": { "tool": "codex", "mode": "link", "path": "….codex/auth.json" } }])
    });
    check(
        &[("codex/auth-key.json", ".codex/auth.json")],
        |_| json!([{ "provider": "openai", "kind": "api_key", "state": "ready", "label": "codex", "use": ["any"] }]),
    );
}

#[test]
fn gemini_cli() {
    let owner = ("gemini-cli/google_accounts.json", ".gemini/google_accounts.json");
    check(&[("gemini-cli/oauth_creds.json", ".gemini/oauth_creds.json"), owner], |_| {
        json!([{ "provider": "google", "kind": "oauth", "state": "ready", "email": "gemini@example.org",
            "account_id": "109800000000000000001", "credential_expires_at": FAR,
            "link": { "tool": "gemini-cli", "mode": "link", "path": "….gemini/oauth_creds.json" } }])
    });
    check(
        &[("gemini-cli/oauth_creds-without-id.json", ".gemini/oauth_creds.json"), owner],
        |_| json!([{ "provider": "google", "email": "gemini@example.org", "account_id": null, "credential_expires_at": FAR }]),
    );
}

#[test]
fn agy() {
    let place = ".gemini/antigravity-cli/antigravity-oauth-token";
    check(&[("antigravity-cli/antigravity-oauth-token.json", place)], |_| {
        json!([{ "provider": "google", "kind": "oauth", "state": "ready", "email": "agy@example.org",
            "account_id": "109800000000000000007", "credential_expires_at": FAR, "link": { "tool": "antigravity-cli", "mode": "link" } }])
    });
    check(
        &[("antigravity-cli/tokens-only.json", place)],
        |_| json!([{ "provider": "google", "email": null, "credential_expires_at": FAR }]),
    );
}

#[test]
fn opencode() {
    check(&[("opencode/auth.json", ".local/share/opencode/auth.json")], |_| {
        json!([
            { "provider": "anthropic", "kind": "oauth", "credential_expires_at": FAR, "link": { "tool": "opencode", "mode": "link" } },
            { "provider": "openai", "kind": "oauth", "account_id": "acc-2", "link": { "tool": "opencode", "mode": "link" } },
            { "provider": "google", "kind": "oauth", "project_id": "managed-project", "link": { "tool": "opencode", "mode": "link" } },
            { "provider": "google", "kind": "api_key", "label": "opencode-gemini" } ])
    });
}

#[test]
fn antigravity_manager() {
    let account = |number: u8| format!("accounts/0c1f0000-0000-4000-8000-00000000000{number}.json");
    let names: Vec<(String, String)> = ["accounts.json".to_owned(), "gui_config.json".to_owned()]
        .into_iter()
        .chain((1..=4).map(account))
        .map(|name| (format!("antigravity-manager/{name}"), format!(".antigravity_tools/{name}")))
        .collect();
    let placed: Vec<Placed<'_>> = names.iter().map(|(sample, place)| (sample.as_str(), place.as_str())).collect();
    check(&placed, |tomorrow| {
        json!([
            { "provider": "google", "email": "one@example.org", "label": "main", "tier": "ultra", "state": "partly_limited",
              "project_id": "agm-project", "credential_expires_at": FAR, "last_used_at": 1_736_000_001_000_u64, "limits": [
                limit("claude", "pool", "quota_exhausted", tomorrow),
                limit("gemini-antigravity:gemini-3-flash", "model", "rate_limit_exceeded", tomorrow) ],
              "usage": [{ "window": "claude-opus-4-6", "utilization": 0.75, "resets_at": tomorrow },
                { "window": "gemini-3-flash", "utilization": 0.0, "resets_at": tomorrow }] },
            { "email": "two@example.org", "state": "disabled", "enabled": false, "state_reason": "…invalid_grant" },
            { "email": "three@example.org", "tier": "pro", "state": "needs_verification",
              "state_reason": "Verify your account to continue: https://accounts.google.com/signin/continue?x=2" },
            { "email": "four@example.org", "state": "disabled", "state_reason": "…Forbidden (403)" } ])
    });
    let exported = Machine::new();
    exported.place(&[("antigravity-manager/export.json", "export.json")], tomorrow());
    let file = exported.path("export.json");
    let imported = exported.import(&[file.to_str().unwrap()]);
    let added = |email: &str| ("added".to_owned(), email.to_owned());
    assert_eq!(imported, [added("one@example.org"), added("two@example.org")]);
}

#[test]
fn cliproxyapi() {
    let names = [
        "claude-a@example.org.json",
        "codex-b@example.org-plus.json",
        "gemini-c@example.org-cpa-project.json",
        "antigravity-d@example.org.json",
    ];
    let names = names.map(|name| (format!("cliproxyapi/{name}"), format!(".cli-proxy-api/{name}")));
    let placed: Vec<Placed<'_>> = names.iter().map(|(sample, place)| (sample.as_str(), place.as_str())).collect();
    check(&placed, |_| {
        json!([
            { "provider": "anthropic", "email": "a@example.org", "state": "disabled", "state_reason": "disabled in CLIProxyAPI",
              "credential_expires_at": FAR, "link": { "tool": "cliproxyapi", "mode": "link" } },
            { "provider": "openai", "email": "b@example.org", "tier": "pro", "account_id": "acc-3",
              "credential_expires_at": FAR, "link": { "tool": "cliproxyapi", "mode": "link" } },
            { "provider": "google", "email": "c@example.org", "project_id": "cpa-project", "credential_expires_at": FAR },
            { "provider": "google", "email": "d@example.org", "project_id": "cpa-project-2", "priority": 3,
              "link": { "tool": "cliproxyapi", "mode": "link" } } ])
    });
}

#[test]
fn lessors_own() {
    let machine = Machine::new();
    let tomorrow = tomorrow();
    machine.place(&[("lessor/export.json", "export.json")], tomorrow);
    let file = machine.path("export.json");
    let report = machine.json(&["import", file.to_str().unwrap()]);
    assert_eq!(report["files"][0]["problems"][0]["place"], "accounts[2]", "{report:#}");
    let work = machine.account("work");
    let expected = json!({ "kind": "api_key", "use": ["any"], "capacity": 3, "priority": 2, "state": "disabled",
        "state_reason": "on holiday", "last_used_at": 1_736_000_000_000_u64 });
    assert!(holds(&work, &expected), "{work:#}");
    let mine = machine.account("me@example.org");
    let expected = json!({ "provider": "openai", "account_id": "acc-4", "tier": "pro", "use": ["codex"],
        "state": "needs_verification", "state_reason": "confirm it: https://example.org/confirm",
        "limits": [limit("", "account", "quota_exhausted", tomorrow)],
        "usage": [{ "window": "7d", "utilization": 0.5, "resets_at": tomorrow, "as_of": 1_736_000_000_000_u64 }],
        "link": { "tool": "codex", "path": "/nowhere/.codex/auth.json", "mode": "take-over" } });
    assert!(holds(&mine, &expected), "{mine:#}");
}

#[test]
fn variables_of_the_environment() {
    let machine = Machine::new();
    let mut command = machine.command(&["import", "--json"]);
    command.env("ANTHROPIC_API_KEY", "sk-ant-api03-FAKE-env").env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-FAKE-env");
    command.env("GEMINI_API_KEY", "AIza-FAKE-env").env("OPENAI_API_KEY", "sk-FAKE-env");
    command.env("OPENAI_BASE_URL", "http://localhost:1");
    super::feed(command, "").ok();
    let seen: Vec<(Value, Value)> =
        machine.shown().into_iter().map(|account| (account["label"].clone(), account["kind"].clone())).collect();
    let expected =
        [("ANTHROPIC_API_KEY", "api_key"), ("CLAUDE_CODE_OAUTH_TOKEN", "token"), ("GEMINI_API_KEY", "api_key")];
    assert_eq!(seen, expected.map(|(label, kind)| (json!(label), json!(kind))));
}

#[test]
fn locations_from_variables() {
    let machine = Machine::new();
    let placed = [
        ("claude-code/.credentials.json", "one/.credentials.json"),
        ("claude-code/.claude.json", "one/.claude.json"),
        ("codex/auth.json", "two/auth.json"),
        ("gemini-cli/oauth_creds.json", "three/.gemini/oauth_creds.json"),
        ("antigravity-auth/v4.json", "four/antigravity-accounts.json"),
        ("opencode/auth.json", "five/opencode/auth.json"),
    ];
    machine.place(&placed, tomorrow());
    let mut command = machine.command(&["import", "--json"]);
    for (variable, directory) in [
        ("CLAUDE_CONFIG_DIR", "one"),
        ("CODEX_HOME", "two"),
        ("GEMINI_CLI_HOME", "three"),
        ("OPENCODE_CONFIG_DIR", "four"),
        ("XDG_DATA_HOME", "five"),
    ] {
        command.env(variable, machine.path(directory));
    }
    super::feed(command, "").ok();
    let mut emails: Vec<String> =
        machine.shown().iter().filter_map(|account| Some(account["email"].as_str()?.to_owned())).collect();
    emails.sort_unstable();
    let all = ["claude", "codex", "gemini", "one", "two"].map(|name| format!("{name}@example.org"));
    assert_eq!(emails, all);
}
