use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{from_value, json};

use super::*;
use crate::cli::ui::wrap::columns;
use crate::protocol::AccountTotals;

/// Thursday, 1 January 1970, 17:05.
const NOW: u64 = 17 * 3_600_000 + 5 * 60_000;
const MIN: u64 = 60_000;

fn account(label: &str, provider: &str, state: &str) -> AccountInfo {
    let account = json!({
        "id": "ac_1a2b3c4d", "provider": provider, "label": label, "tier": "unknown", "kind": "oauth",
        "unchecked": false, "state": state, "enabled": true, "leases": 0, "capacity": 1, "priority": 0,
        "use": ["any"], "limits": [], "usage": [], "created_at": 0, "last_used_at": NOW - 2 * MIN
    });
    from_value(account).unwrap()
}

fn limited(label: &str, provider: &str, key: &str, until: u64) -> AccountInfo {
    let state = if key.contains(':') { "partly_limited" } else { "limited" };
    let limit = json!({
        "key": key, "reason": "quota_exhausted", "scope": "pool", "until": until, "source": "server", "since": NOW
    });
    AccountInfo { limits: vec![from_value(limit).unwrap()], ..account(label, provider, state) }
}

fn needing(label: &str, provider: &str, state: &str, remedy: &str) -> AccountInfo {
    AccountInfo { remedy: Some(remedy.to_owned()), ..account(label, provider, state) }
}

fn named(label: &str) -> AccountLabel {
    AccountLabel { id: "ac_1a2b3c4d".into(), label: Some(label.into()), email: None }
}

fn provider(name: &str, agent: &str, accounts: u64) -> ProviderInfo {
    ProviderInfo { provider: name.into(), agent: Some(agent.into()), accounts, ..ProviderInfo::default() }
}

fn status(providers: Vec<ProviderInfo>) -> DaemonStatus {
    let status = json!({
        "version": "0.1.0", "pid": 7, "uptime_ms": 240_000, "socket": "/s", "leases": 0, "queue": [],
        "config": { "path": "/c", "state": "ok" }, "accounts": AccountTotals::default(), "warnings": []
    });
    DaemonStatus { providers, ..from_value(status).unwrap() }
}

fn lease(program: &str, pid: u32, account: &str) -> LeaseRow {
    let lease = json!({
        "lease": format!("ls_{pid}"), "fence": 1, "account": named(account), "provider": "anthropic", "bind": "pid",
        "model": "claude-sonnet-4-5", "holder": { "pid": pid, "program": program }, "directory": "/home/u/project",
        "granted_at": NOW - 12 * MIN
    });
    from_value(lease).unwrap()
}

fn shown(status: &DaemonStatus, accounts: &[AccountInfo], leases: &[LeaseRow], width: usize) -> String {
    let text = text(status, accounts, leases, NOW, &Output::plain(width));
    for line in text.lines() {
        assert!(columns(line) <= width, "{} > {width}: {line}\n{text}", columns(line));
    }
    text
}

/// Twelve accounts in all states, with names as people give them.
fn mixed() -> (DaemonStatus, Vec<AccountInfo>) {
    let mut accounts = vec![
        account("work", "anthropic", "ready"),
        limited("home", "anthropic", "claude", NOW + 76_000),
        limited("opus", "anthropic", "claude:claude-opus-4-5", NOW + 26 * 3_600_000),
        needing("old", "anthropic", "needs_login", "lessor login anthropic"),
        account("spare", "anthropic", "disabled"),
        account("team-1", "openai", "ready"),
        limited("team-2", "openai", "openai", NOW + 3 * 3_600_000),
        account("fresh", "openai", "waiting_for_token"),
        needing("mail", "google", "needs_verification", "lessor account verify mail"),
        needing(
            "cloud",
            "google",
            "cannot_renew",
            "lessor config set providers.google.oauth.client_id YOUR-CLIENT-ID && lessor config set providers.google.oauth.client_secret_env NAME_OF_AN_ENVIRONMENT_VARIABLE",
        ),
        limited("gem", "google", "gemini-cli", NOW + 40 * MIN),
        account("someone.with.a.long.name@example.org", "google", "ready"),
    ];
    accounts[4].state_reason = Some("kept for the release".into());
    accounts[10].state = "partly_limited".into();
    for (account, windows) in
        [(0, vec![("5h", "", 0.42), ("7d", "", 0.0)]), (10, vec![("7d", "gemini-antigravity", 0.8)])]
    {
        accounts[account].usage = windows.into_iter().map(|(name, key, used)| window(name, key, used)).collect();
    }
    accounts[5].usage_next_at = Some(NOW + 5 * MIN);
    accounts[6].usage_trouble = Some("503 from the provider".into());
    accounts[6].usage_next_at = Some(NOW + 15 * MIN);
    let providers = vec![
        ProviderInfo {
            serving: 2,
            grantable: 2,
            limited: 1,
            next: Some(named("work")),
            ..provider("anthropic", "claude", 5)
        },
        ProviderInfo {
            serving: 0,
            limited: 1,
            busy: 1,
            free_at: Some(NOW + 12 * MIN),
            ..provider("openai", "codex", 3)
        },
        ProviderInfo { serving: 2, grantable: 2, ..provider("google", "gemini", 4) },
    ];
    (status(providers), accounts)
}

fn window(name: &str, key: &str, used: f64) -> crate::protocol::UsageInfo {
    let window = json!({
        "window": name, "utilization": used, "resets_at": NOW + 60 * MIN, "as_of": NOW, "key": key, "rate": false,
        "stale": false
    });
    from_value(window).unwrap()
}

#[test]
fn without_accounts_the_first_commands_are_shown() {
    let text = shown(&status(vec![]), &[], &[], 80);
    assert!(text.starts_with("no accounts yet: lessor import;"), "{text}");
}

#[test]
fn one_account_with_its_agent_fits_on_one_screen() {
    let work = AccountInfo {
        leases: 1,
        usage: vec![window("7d", "", 0.004), window("5h", "", 0.42), window("7d_opus", "", 0.0)],
        ..account("work", "anthropic", "ready")
    };
    let mut status = status(vec![ProviderInfo { busy: 1, ..provider("anthropic", "claude", 1) }]);
    assert_eq!(
        shown(&status, std::slice::from_ref(&work), &[lease("claude", 1883, "work")], 80),
        "claude: all in use\n\
         \n\
         ACCOUNT  PROVIDER   STATE  LEASES  LAST USED\n\
         work     anthropic  ready     1/1  2 min ago\n  \
         5h 42 %, resets 18:05, in 60 min · 7d < 1 %, resets 18:05, in 60 min\n\
         \n\
         HOLDER       ACCOUNT  FOR                DIRECTORY        SINCE\n\
         claude 1883  work     claude-sonnet-4-5  /home/u/project  12 min ago\n\
         \n\
         1 lease · lessor 0.1.0, pid 7, up 4 min\n"
    );
    status.providers[0] =
        ProviderInfo { serving: 1, grantable: 1, next: Some(named("work")), ..provider("anthropic", "claude", 1) };
    let text = shown(&status, &[work], &[], 80);
    assert!(text.starts_with("claude: 1 of 1 account can serve now; next: work\n"), "{text}");
}

/// What `status` shows of them at 80 columns.
const MIXED: &str = r"claude: 2 of 5 accounts can serve now; next: work
codex: no account can serve now (1 limited, 1 in use, 1 waiting for token);
  first free at 17:17, in 12 min
gemini: 2 of 4 accounts can serve now

ACCOUNT                               PROVIDER   STATE               LEASES
work                                  anthropic  ready                  0/1
  5h 42 %, resets 18:05, in 60 min
home                                  anthropic  limited                0/1
  quota until 17:06, in 76 s
opus                                  anthropic  partly limited         0/1
  claude-opus-4-5: quota until Fri 19:05, in 26 h
old                                   anthropic  needs login            0/1
spare                                 anthropic  disabled               0/1
  kept for the release
team-1                                openai     ready                  0/1
  usage: no reading yet, next 17:10, in 5 min
team-2                                openai     limited                0/1
  quota until 20:05, in 3 h
  usage cannot be read: 503 from the provider; next try 17:20, in 15 min
fresh                                 openai     waiting for token      0/1
mail                                  google     needs verification     0/1
cloud                                 google     cannot renew           0/1
gem                                   google     partly limited         0/1
  gemini-cli: quota until 17:45, in 40 min
  antigravity: 7d 80 %, resets 18:05, in 60 min
someone.with.a.long.name@example.org  google     ready                  0/1

old needs login: lessor login anthropic
mail needs verification: lessor account verify mail
cloud cannot renew:
  lessor config set providers.google.oauth.client_id YOUR-CLIENT-ID &&
  lessor config set providers.google.oauth.client_secret_env \
  NAME_OF_AN_ENVIRONMENT_VARIABLE

0 leases · lessor 0.1.0, pid 7, up 4 min
";

#[test]
fn twelve_mixed_accounts_are_readable_at_80_columns() {
    let (status, accounts) = mixed();
    assert_eq!(shown(&status, &accounts, &[], 80), MIXED);
    for width in [40, 60, 120, 200] {
        let text = shown(&status, &accounts, &[lease("claude", 1883, "work")], width);
        for name in accounts.iter().filter_map(|account| account.label.as_deref()).filter(|name| name.len() < 9) {
            assert!(text.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name} at {width}: {text}");
        }
        assert!(text.contains("partly limited") && text.contains("until"), "{text}");
    }
}

#[test]
fn everything_limited_says_when_the_first_is_free() {
    let accounts = vec![
        limited("work", "anthropic", "claude", NOW + 60 * MIN),
        limited("home", "anthropic", "claude", NOW + 76_000),
    ];
    let info = ProviderInfo {
        limited: 2,
        free_at: Some(NOW + 76_000),
        first_free: Some(named("home")),
        ..provider("anthropic", "claude", 2)
    };
    let status = status(vec![info]);
    let text = shown(&status, &accounts, &[], 80);
    assert!(text.starts_with("claude: all limited; first free at 17:06, in 76 s: home\n"), "{text}");
    assert!(text.contains("quota until 17:06, in 76 s"), "{text}");
    assert_eq!(one_line(&status, NOW), "claude all limited until 17:06");
}

#[test]
fn an_account_that_can_serve_other_models_is_not_called_limited() {
    let accounts = vec![
        limited("work", "google", "gemini-cli:gemini-3-pro", NOW + 60 * MIN),
        limited("home", "google", "gemini-cli", NOW + 76_000),
    ];
    let info = |limited, partly_limited| ProviderInfo {
        limited,
        partly_limited,
        free_at: Some(NOW + 76_000),
        first_free: Some(named("home")),
        ..provider("google", "gemini", 2)
    };
    for (limited, partly_limited, first, line) in [
        (
            2,
            2,
            "gemini: all partly limited; other models can start; first free at",
            "gemini partly limited until 17:06",
        ),
        (
            2,
            1,
            "gemini: no account can serve now (1 limited, 1 partly limited); other models can start;",
            "gemini partly limited until 17:06",
        ),
        (2, 0, "gemini: all limited; first free at", "gemini all limited until 17:06"),
    ] {
        let status = status(vec![info(limited, partly_limited)]);
        let text = shown(&status, &accounts, &[], 120);
        assert!(text.starts_with(first), "{text}");
        assert_eq!(one_line(&status, NOW), line);
    }
}

#[test]
fn accounts_that_wait_for_agents_from_before_a_restart_are_named_as_such() {
    let info = |free_at| ProviderInfo { free_at, ..provider("anthropic", "claude", 2) };
    for (free_at, expected) in [
        (Some(NOW + 2_000), "claude: all kept for agents from before the restart; first free at"),
        (None, "claude: all not for claude\n"),
    ] {
        let text = shown(&status(vec![info(free_at)]), &[], &[], 120);
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn one_line_has_each_provider() {
    assert_eq!(one_line(&mixed().0, NOW), "claude 2/5 · codex 0/3 until 17:17 · gemini 2/4");
    assert_eq!(one_line(&status(vec![]), NOW), "lessor: no accounts");
    let mut busy = mixed().0;
    busy.queue = from_value(serde_json::json!([
        {"position": 1, "eta_at": null, "provider": "anthropic", "model": null, "label": null}
    ]))
    .unwrap();
    assert!(one_line(&busy, NOW).ends_with(" · gemini 2/4 · 1 waiting"));
}

#[test]
fn the_daemon_has_one_line_and_each_warning_one() {
    let mut status = status(vec![]);
    status.config.error = Some("line 3: bad".into());
    status.warnings = vec!["the disk is full".into()];
    assert_eq!(daemon_line(&status, 1, &Output::plain(80)), "1 lease · lessor 0.1.0, pid 7, up 4 min\n");
    assert_eq!(
        warnings(&status, &Output::plain(80)),
        "warning: config rejected, the old one is used: line 3: bad\nwarning: the disk is full\n"
    );
}

#[test]
fn a_long_error_of_the_configuration_is_cut() {
    let lines = |count: usize| vec!["c:1:1: bad"; count].join("\n");
    assert_eq!(beginning(&lines(9)), lines(9));
    assert_eq!(beginning(&lines(63)), lines(9) + "\n… all of it: lessor config check");
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}",
        "someone\\+[0-9]{1,3}@a-company-with-a-long-name\\.example",
        "(a-label-with-a-common-beginning-)[a-z]{1,40}",
        "[漢字]{1,40}",
        "[ -~]{1,64}",
        "[a-z]{70,200}",
    ]
}

fn any_account() -> impl Strategy<Value = AccountInfo> {
    let states = prop::sample::select(vec![
        "ready",
        "limited",
        "partly_limited",
        "waiting_for_token",
        "cannot_renew",
        "needs_login",
        "needs_verification",
        "disabled",
    ]);
    let provider = prop::sample::select(vec!["anthropic", "openai", "google", "a-provider-of-the-cellar"]);
    let reason = proptest::option::of("[a-zé漢 ]{0,90}");
    (any_name(), provider, states, reason, any::<bool>()).prop_map(|(name, provider, state, reason, has_limit)| {
        let mut account = account(&name, provider, state);
        if has_limit {
            account.limits = limited(&name, provider, "gemini-antigravity:a-model", NOW + 90 * MIN).limits;
            account.usage = vec![window("5h", "gemini-cli", 0.3), window("7d", "", 1.0)];
            account.remedy = Some(format!("lessor account set {name} --api-key-stdin"));
        }
        AccountInfo { state_reason: reason, leases: 11, capacity: 16, ..account }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_exceeds_the_terminal_and_names_stay_distinct(
        accounts in proptest::collection::vec(any_account(), 1..20),
        width in 40usize..200,
    ) {
        let leases: Vec<LeaseRow> =
            accounts.iter().zip(1000..).map(|(account, pid)| lease("claude", pid, ui::account::name(account))).collect();
        let next = AccountLabel { label: accounts[0].label.clone(), ..AccountLabel::default() };
        let info = ProviderInfo { serving: 1, next: Some(next), ..provider("anthropic", "claude", 1) };
        let text = shown(&status(vec![info]), &accounts, &leases, width);
        // the rows of the table begin in the first column, its details do not
        let table = text.split("\n\n").nth(1).unwrap_or_default();
        let rows: Vec<&str> = table.lines().skip(1).filter(|line| !line.starts_with("  ")).collect();
        prop_assert!(rows.len() <= accounts.len());
        let names: BTreeSet<&str> = accounts.iter().map(ui::account::name).collect();
        let cells = ui::distinct::cut_distinct(&accounts.iter().map(ui::account::name).collect::<Vec<_>>(), 8);
        prop_assert_eq!(cells.into_iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
