//! The states that the screens are drawn in.

use ratatui::buffer::Buffer;
use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

use crate::cli::commands::top::dashboard::Dashboard;
use crate::cli::commands::top::message::{DaemonState, ScreenMessage};
use crate::cli::commands::top::view::view;
use crate::protocol::{AccountTotals, EventInfo, HistoryGroup, HistoryInfo, RequestRow, RequestSums};

/// Tuesday, 24 June 2025, 17:04:44 UTC.
pub(super) const NOW: u64 = 1_750_784_684_000;
pub(super) const S: u64 = 1000;
pub(super) const MIN: u64 = 60 * S;
pub(super) const H: u64 = 60 * MIN;
const D: u64 = 24 * H;

pub(super) fn draw(dashboard: &mut Dashboard, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(dashboard, frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

/// The screen as lines, without blanks at their ends.
pub(super) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width).map(|row| {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            // the second half of a wide letter
            if covered > 0 {
                covered -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            covered = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
        }
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

pub(super) fn new() -> Dashboard {
    Dashboard::new(NOW, Some("/home/me".to_owned()))
}

pub(super) fn account(id: &str, label: &str, provider: &str, state: &str) -> Value {
    json!({
        "id": id, "provider": provider, "label": label, "email": null, "tier": "pro", "kind": "oauth",
        "unchecked": false, "state": state, "enabled": state != "disabled", "leases": 0, "capacity": 1, "priority": 0,
        "use": ["claude"], "limits": [], "usage": [], "created_at": NOW - 9 * D, "last_used_at": NOW - 3 * MIN,
        "in_flight": 0
    })
}

/// The window of a model, of one of several pools.
fn of_pool(pool: &str, mut window: Value) -> Value {
    window["key"] = format!("{pool}:{}", window["window"].as_str().unwrap()).into();
    window
}

pub(super) fn window(name: &str, used: f64, resets_in: u64) -> Value {
    json!({
        "window": name, "utilization": used, "resets_at": NOW + resets_in, "as_of": NOW - MIN, "key": "", "rate": false,
        "stale": false, "pace": 1.0
    })
}

pub(super) fn limit(key: &str, scope: &str, ends_in: u64) -> Value {
    json!({
        "key": key, "reason": "quota_exhausted", "scope": scope, "until": NOW + ends_in, "source": "server",
        "since": NOW - 4 * MIN, "evidence": "429: You have reached your limit"
    })
}

pub(super) fn lease(number: u64, account: (&str, &str), program: &str, directory: &str) -> Value {
    json!({
        "lease": format!("ls_{number}a2b3c4d5e6f7g8h"), "fence": number, "account": { "id": account.0, "label": account.1 },
        "provider": "anthropic", "model": "claude-sonnet-4-5", "bind": "pid", "agent": program, "session": format!("s-{number}"),
        "holder": { "pid": 4000 + number, "program": program }, "directory": directory,
        "granted_at": NOW - number * 7 * MIN, "expires_at": null
    })
}

fn totals(accounts: &[Value]) -> AccountTotals {
    let count = |state: &str| accounts.iter().filter(|info| info["state"] == state).count() as u64;
    AccountTotals {
        total: accounts.len() as u64,
        ready: count("ready"),
        partly_limited: count("partly_limited"),
        limited: count("limited"),
        waiting_for_token: count("waiting_for_token"),
        cannot_renew: count("cannot_renew"),
        needs_login: count("needs_login"),
        needs_verification: count("needs_verification"),
        disabled: count("disabled"),
    }
}

/// What the next agent of a provider gets: an account now, or one of them later.
pub(super) fn provider(name: &str, next: Option<&str>, free: Option<(u64, &str)>) -> Value {
    let label = |name: &str| json!({ "id": format!("ac_{name}"), "label": name });
    json!({
        "provider": name, "agent": null, "accounts": 3, "serving": u64::from(next.is_some()), "busy": 0, "limited": 0,
        "partly_limited": 0, "grantable": u64::from(next.is_some()), "next": next.map(label), "free_at": free.map(|(at, _)| at),
        "first_free": free.map(|(_, name)| label(name))
    })
}

/// The state of a daemon with these accounts, leases and waiting requests.
pub(super) fn state(accounts: &[Value], leases: &[Value], queue: &[Value], providers: &[Value]) -> ScreenMessage {
    let in_flight: u64 = accounts.iter().filter_map(|info| info["in_flight"].as_u64()).sum();
    let status = json!({
        "version": "0.1.0", "pid": 7, "uptime_ms": 2 * H, "socket": "/run/lessor.sock", "leases": leases.len(),
        "config": { "path": "/c", "state": "ok" }, "accounts": totals(accounts), "warnings": [], "queue": queue,
        "in_flight": in_flight, "providers": providers
    });
    ScreenMessage::State(Box::new(DaemonState {
        status: serde_json::from_value(status).unwrap(),
        accounts: serde_json::from_value(Value::Array(accounts.to_vec())).unwrap(),
        leases: serde_json::from_value(Value::Array(leases.to_vec())).unwrap(),
    }))
}

pub(super) fn hour(of_minute: impl Fn(u64) -> (u64, u64)) -> ScreenMessage {
    let groups = (0..60).map(|age| {
        let (requests, limited) = of_minute(age);
        HistoryGroup {
            at: Some((NOW / MIN - age) * MIN),
            sums: RequestSums { requests, limited, ..RequestSums::default() },
            ..HistoryGroup::default()
        }
    });
    ScreenMessage::Hour(Some(Box::new(HistoryInfo { groups: groups.collect(), ..HistoryInfo::default() })))
}

pub(super) fn request(number: u64, attempts: Value) -> RequestRow {
    let row = json!({
        "id": number, "at": NOW - number * 4 * S, "agent": "claude", "holder": { "pid": 4001, "program": "claude" },
        "directory": "/home/me/src/lessor", "session": "s-1", "provider": "anthropic", "model": "claude-sonnet-4-5",
        "path": "/v1/messages", "status": 200, "outcome": "ok", "attempts": attempts, "waited_ms": 0,
        "first_byte_ms": 310, "duration_ms": 1240,
        "tokens": { "input": 12_400, "output": 345, "cached": 11_000, "cache_written": 0 }, "cost_usd": 0.0123
    });
    serde_json::from_value(row).unwrap()
}

pub(super) fn attempt(account: &str, reason: Option<&str>) -> Value {
    json!({
        "account": { "id": format!("ac_{account}"), "label": account }, "after_ms": 2, "duration_ms": 300,
        "status": if reason.is_some() { 429 } else { 200 }, "reason": reason, "scope": reason.map(|_| "pool"),
        "until": reason.map(|_| NOW + 76 * S), "evidence": reason.map(|_| "You have reached your limit")
    })
}

pub(super) fn event(kind: &str, ago: u64, more: Value) -> EventInfo {
    let mut event = json!({ "kind": kind, "at": NOW - ago });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(event).unwrap()
}

/// No accounts, and nothing has happened yet.
pub(super) fn empty() -> Dashboard {
    let mut dashboard = new();
    dashboard.update(state(&[], &[], &[], &[]));
    dashboard.update(hour(|_| (0, 0)));
    dashboard
}

pub(super) fn one_account() -> Dashboard {
    let mut dashboard = new();
    let mut work = account("ac_work", "work", "anthropic", "ready");
    work["usage"] = json!([window("5h", 0.42, 2 * H), window("7d", 0.18, 3 * D)]);
    (work["leases"], work["in_flight"]) = (json!(1), json!(1));
    let lease = lease(1, ("ac_work", "work"), "claude", "/home/me/src/lessor");
    dashboard.update(state(&[work], &[lease], &[], &[provider("anthropic", Some("work"), None)]));
    dashboard.update(hour(|age| (12_u64.saturating_sub(age), 0)));
    dashboard.update(ScreenMessage::Requests(
        (1..4).map(|number| request(number, json!([attempt("work", None)]))).collect(),
    ));
    let granted =
        json!({ "account": { "id": "ac_work", "label": "work" }, "holder": { "pid": 4001, "program": "claude" } });
    dashboard.update(ScreenMessage::Events(vec![event("lease.granted", 7 * MIN, granted)]));
    dashboard
}

/// Twelve accounts in all states, with names that begin alike.
pub(super) fn mixed_accounts() -> Vec<Value> {
    let states = [
        ("team-research-eu-west-1", "anthropic", "ready"),
        ("team-research-eu-west-2", "anthropic", "ready"),
        ("home", "anthropic", "limited"),
        ("old", "anthropic", "limited"),
        ("max", "anthropic", "partly_limited"),
        ("codex-a", "openai", "ready"),
        ("codex-b", "openai", "needs_login"),
        ("key-1", "openai", "waiting_for_token"),
        ("gem-1", "google", "partly_limited"),
        ("gem-2", "google", "needs_verification"),
        ("gem-3", "google", "cannot_renew"),
        ("spare", "google", "disabled"),
    ];
    let mut accounts: Vec<Value> =
        states.iter().map(|(label, provider, state)| account(&format!("ac_{label}"), label, provider, state)).collect();
    accounts[0]["usage"] =
        json!([window("5h", 0.62, 2 * H), window("7d", 0.31, 3 * D), window("7d-opus", 0.05, 3 * D)]);
    (accounts[0]["leases"], accounts[0]["in_flight"]) = (json!(1), json!(2));
    accounts[1]["usage"] = json!([window("5h", 0.91, H), window("7d", 0.55, 2 * D)]);
    accounts[1]["leases"] = json!(1);
    accounts[2]["usage"] = json!([window("5h", 1.0, 76 * S), window("7d", 0.8, D)]);
    accounts[2]["limits"] = json!([limit("claude", "pool", 76 * S)]);
    accounts[3]["limits"] = json!([limit("", "account", 3 * D)]);
    accounts[4]["limits"] = json!([limit("claude:claude-opus-4-1", "model", 40 * MIN)]);
    accounts[4]["usage"] = json!([window("7d-opus", 1.0, 40 * MIN), window("5h", 0.02, 4 * H)]);
    accounts[6]["state_reason"] = json!("the provider ended its login: lessor login openai");
    accounts[8]["limits"] = json!([limit("gemini-cli", "pool", 9 * H)]);
    accounts[8]["usage"] = json!([
        of_pool("gemini-cli", window("gemini-2.5-pro", 1.0, 9 * H)),
        of_pool("gemini-antigravity", window("gemini-3-pro", 0.12, 9 * H)),
        of_pool("gemini-antigravity", window("gemini-3-flash", 0.004, 9 * H)),
    ]);
    accounts[9]["state_reason"] = json!("confirm something with Google");
    accounts[10]["state_reason"] = json!("the OAuth client is missing: lessor account set gem-3 client_id=…");
    accounts[11]["state_reason"] = json!("by the user: holidays");
    accounts
}

pub(super) fn mixed() -> Dashboard {
    let mut dashboard = new();
    let leases = [
        lease(1, ("ac_team-research-eu-west-1", "team-research-eu-west-1"), "claude", "/home/me/src/lessor"),
        lease(
            2,
            ("ac_team-research-eu-west-2", "team-research-eu-west-2"),
            "claude",
            "/home/me/src/a/very/long/way/down/to/a/project",
        ),
        lease(9, ("ac_codex-a", "codex-a"), "codex", "/srv/build"),
    ];
    let queue = [
        json!({ "position": 1, "eta_at": NOW + 76 * S, "provider": "anthropic", "model": "claude-opus-4-1", "label": "nightly" }),
        json!({ "position": 2, "eta_at": null, "provider": "google", "model": null, "label": null }),
    ];
    let providers = [
        provider("anthropic", Some("team-research-eu-west-1"), None),
        provider("google", None, Some((NOW + 9 * H, "gem-1"))),
        provider("openai", None, None),
    ];
    dashboard.update(state(&mixed_accounts(), &leases, &queue, &providers));
    dashboard.update(hour(|age| ((age * 37) % 23, u64::from(age % 13 == 0))));
    let switched = json!([attempt("home", Some("quota_exhausted")), attempt("team-research-eu-west-1", None)]);
    let mut rows: Vec<RequestRow> = (1..9)
        .map(|number| request(number, if number == 3 { switched.clone() } else { json!([attempt("codex-a", None)]) }))
        .collect();
    rows[1].outcome = "cancelled".to_owned().into();
    rows[1].status = None;
    rows[5] = RequestRow {
        outcome: "refused".into(),
        status: Some(429),
        reason: Some("all_limited".into()),
        attempts: Vec::new(),
        ..rows[5].clone()
    };
    dashboard.update(ScreenMessage::Requests(rows));
    let home = json!({ "id": "ac_home", "label": "home" });
    let claude = json!({ "pid": 4001, "program": "claude" });
    let to = json!({ "id": "ac_team-research-eu-west-1", "label": "team-research-eu-west-1" });
    dashboard.update(ScreenMessage::Events(vec![
        event("lease.granted", 7 * MIN, json!({ "account": to, "holder": claude })),
        event("account.limited", 4 * MIN, json!({ "account": home, "key": "claude", "reason": "quota_exhausted", "until": NOW + 76 * S })),
        event("lease.moved", 4 * MIN, json!({ "account": to, "from": home, "holder": claude, "reason": "quota_exhausted", "until": NOW + 76 * S })),
        event("config.rejected", 2 * MIN, json!({ "reason": "line 3: bad" })),
    ]));
    dashboard
}

pub(super) fn everything_limited() -> Dashboard {
    let mut dashboard = new();
    let mut accounts: Vec<Value> = ["work", "home", "spare"]
        .iter()
        .map(|name| account(&format!("ac_{name}"), name, "anthropic", "limited"))
        .collect();
    for (number, info) in (1..).zip(&mut accounts) {
        info["limits"] = json!([limit("claude", "pool", number * 76 * S)]);
        info["usage"] = json!([window("5h", 1.0, number * 76 * S)]);
    }
    let queue =
        [json!({ "position": 1, "eta_at": NOW + 76 * S, "provider": "anthropic", "model": null, "label": "claude" })];
    let providers = [provider("anthropic", None, Some((NOW + 76 * S, "work")))];
    dashboard.update(state(&accounts, &[], &queue, &providers));
    dashboard.update(hour(|age| (5, u64::from(age < 3) * 2)));
    dashboard
}

pub(super) fn daemon_gone() -> Dashboard {
    let mut dashboard = mixed();
    dashboard.update(ScreenMessage::Gone(
        "no daemon at /run/user/1000/lessor/lessor.sock: the socket does not exist".to_owned(),
    ));
    dashboard.update(ScreenMessage::Tick(NOW + 2 * MIN));
    dashboard
}

/// A second with 1 000 events, most of them ended requests.
pub(super) fn burst() -> Dashboard {
    let mut dashboard = mixed();
    let all = (0..1000).map(|number| {
        let ended = request(0, json!([attempt("codex-a", None)]));
        let ended = RequestRow { at: NOW - 1240 + number, ..ended };
        let account = json!({ "account": { "id": "ac_codex-a", "label": "codex-a" }, "fence": number });
        match number % 10 {
            0 => event("lease.granted", 1000 - number, account),
            1 => event("usage.updated", 1000 - number, account),
            _ => EventInfo { request: Some(Box::new(ended)), ..event("request.ended", 1000 - number, json!({})) },
        }
    });
    dashboard.update(ScreenMessage::Events(all.collect()));
    dashboard.update(ScreenMessage::Tick(NOW + S));
    dashboard
}
