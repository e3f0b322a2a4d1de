//! `status`: accounts, leases, queue, daemon, and what the user should know.

use crate::client::Client;
use crate::pool::{Tier, spoken};
use crate::protocol::{AccountInfo, DaemonStatus, LimitInfo, ListAccountsParams, QueueRow};

use super::context::{self, Context};
use super::failure::Failure;
use super::lease;
use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::words;

/// What to do when there is nothing yet.
pub(super) const NO_ACCOUNTS: &str = "no accounts yet: lessor account add PROVIDER --api-key-stdin < key-file\n";

/// Prints the whole picture.
pub(super) fn status(context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(&context.ask(Client::status)?);
    }
    let (status, accounts, leases) = context
        .ask(|client| Ok((client.status()?, client.accounts(ListAccountsParams::default())?, client.leases()?)))?;
    let (now, output) = (context::now(), &context.output);
    let mut text = accounts_table(&accounts, now, output);
    if !leases.is_empty() {
        text.push('\n');
        text += &lease::table(&leases, now, output);
    }
    if !status.queue.is_empty() {
        text.push('\n');
        text += &queue_table(&status.queue, now, output);
    }
    text.push('\n');
    text += &daemon_line(&status, leases.len() as u64, output);
    text += &gateway_line(&status, output);
    text += &warnings(&status, output);
    output.text(&text)
}

/// The accounts, a line each, their quota windows below it.
pub(super) fn accounts_table(accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    if accounts.is_empty() {
        return NO_ACCOUNTS.to_owned();
    }
    let mut table = Table::new(&[
        Column::flexible("ACCOUNT", 12),
        Column::flexible("PROVIDER", 6),
        Column::fixed("TIER"),
        Column::fixed("STATE"),
        Column::number("LEASES"),
        Column::flexible("LIMIT", 12),
        Column::fixed("LAST USED"),
    ]);
    for account in accounts {
        let (state, tint) = state(account);
        table.row(vec![
            (name(account).to_owned(), Some(Tint::Strong)),
            (account.provider.clone(), None),
            (if account.tier == Tier::Unknown { String::new() } else { tier(account.tier).to_owned() }, None),
            (state, Some(tint)),
            (format!("{}/{}", account.leases, account.capacity), None),
            (limits(account, now), Some(Tint::Warn)),
            (account.last_used_at.map_or_else(|| "never".to_owned(), |at| words::ago(now, at)), Some(Tint::Faint)),
        ]);
        let usage = usage(account, now);
        if !usage.is_empty() {
            table.detail(&usage);
        }
    }
    table.render(output)
}

/// The name a person knows an account by: label, else email, else id.
pub(super) fn name(account: &AccountInfo) -> &str {
    account.label.as_deref().or(account.email.as_deref()).unwrap_or(&account.id)
}

/// The plan's name, as in the protocol.
pub(super) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Ultra => "ultra",
        Tier::Pro => "pro",
        Tier::Free => "free",
        Tier::Unknown => "unknown",
    }
}

fn state(account: &AccountInfo) -> (String, Tint) {
    let tint = match account.state.as_str() {
        "ready" => Tint::Good,
        "limited" => Tint::Warn,
        "disabled" => Tint::Faint,
        _ => Tint::Bad,
    };
    (words::short(&account.state), tint)
}

/// The limits as words, the longest first: that one decides.
fn limits(account: &AccountInfo, now: u64) -> String {
    let mut live: Vec<&LimitInfo> = account.limits.iter().filter(|limit| limit.until > now).collect();
    live.sort_by_key(|limit| std::cmp::Reverse(limit.until));
    let text = |limit: &LimitInfo| {
        let end = words::until(now, limit.until);
        let end = end.trim_start_matches("in ");
        format!("{} {end}{}", words::short(&limit.reason), key_of(limit))
    };
    live.iter().map(|limit| text(limit)).collect::<Vec<_>>().join(", ")
}

/// What the limit is of, when it is not the whole account.
fn key_of(limit: &LimitInfo) -> String {
    if limit.key.is_empty() { String::new() } else { format!(" ({})", limit.key) }
}

/// The quota windows: how much is used, and when each starts anew.
fn usage(account: &AccountInfo, now: u64) -> String {
    let window = |window: &crate::protocol::UsageInfo| {
        let reset = window.resets_at.map(|at| format!(", new {}", words::until(now, at))).unwrap_or_default();
        let stale = if window.stale { ", stale" } else { "" };
        format!("{} {:.0} % used{reset}{stale}", window.window, window.utilization * 100.0)
    };
    // the whole account's first, then the fullest
    let mut windows: Vec<_> = account.usage.iter().filter(|window| !window.rate).collect();
    windows.sort_by(|a, b| {
        a.key.is_empty().cmp(&b.key.is_empty()).reverse().then(if a.key.is_empty() {
            std::cmp::Ordering::Equal
        } else {
            b.utilization.total_cmp(&a.utilization)
        })
    });
    windows.into_iter().map(window).collect::<Vec<_>>().join(" · ")
}

fn queue_table(queue: &[QueueRow], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::number("WAITING"),
        Column::flexible("PROVIDER", 8),
        Column::flexible("MODEL", 8),
        Column::flexible("LABEL", 8),
        Column::fixed("SERVED"),
    ]);
    for row in queue {
        table.row(vec![
            (row.position.to_string(), None),
            (row.provider.clone(), None),
            (row.model.clone().unwrap_or_default(), None),
            (row.label.clone().unwrap_or_default(), None),
            (row.eta_at.map_or_else(|| "when one is free".to_owned(), |at| words::until(now, at)), None),
        ]);
    }
    table.render(output)
}

fn daemon_line(status: &DaemonStatus, leases: u64, output: &Output) -> String {
    let up = spoken(std::time::Duration::from_millis(status.uptime_ms));
    let waiting = status.queue.len();
    let waiting = if waiting == 0 { String::new() } else { format!(", {waiting} waiting") };
    let line =
        format!("{}{waiting} · lessor {}, pid {}, up {up}", words::count(leases, "lease"), status.version, status.pid);
    output.tint(Tint::Faint, &line) + "\n"
}

fn gateway_line(status: &DaemonStatus, output: &Output) -> String {
    let url = status.gateway.as_ref().and_then(|gateway| gateway.url.as_deref());
    url.map_or_else(String::new, |url| output.tint(Tint::Faint, &format!("gateway {url}")) + "\n")
}

/// Last, where the eye ends; a rejected configuration is one of them.
fn warnings(status: &DaemonStatus, output: &Output) -> String {
    let rejected = status.config.error.iter().map(|error| format!("config rejected, the old one is used: {error}"));
    let line = |text: &str| {
        format!(
            "{} {}\n",
            output.tint(Tint::Warn, "warning:"),
            text.lines().map(clean).collect::<Vec<_>>().join("\n  ")
        )
    };
    let all = rejected.chain(status.warnings.iter().cloned());
    all.map(|text| line(&text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::CredentialKind;
    use crate::protocol::{AccountTotals, ConfigState, UsageInfo};
    use unicode_width::UnicodeWidthStr;

    pub(crate) fn account(label: &str, state: &str) -> AccountInfo {
        AccountInfo {
            id: "ac_1a2b3c4d".into(),
            provider: "anthropic".into(),
            label: (!label.is_empty()).then(|| label.into()),
            email: None,
            tier: Tier::Pro,
            kind: CredentialKind::Oauth,
            state: state.into(),
            state_reason: None,
            state_link: None,
            enabled: state != "disabled",
            leases: 1,
            capacity: 1,
            priority: 0,
            allowed_agents: vec!["claude".into()],
            project_id: None,
            credential_expires_at: None,
            limits: Vec::new(),
            usage: Vec::new(),
            created_at: 0,
            last_used_at: Some(1_000_000_000),
            account_id: None,
            link: None,
            plan: None,
            usage_trouble: None,
        }
    }

    fn limit(key: &str, until: u64) -> LimitInfo {
        let text = |text: &str| text.to_owned();
        LimitInfo {
            key: text(key),
            reason: text("quota_exhausted"),
            scope: text("pool"),
            until,
            source: text("body"),
            since: 0,
            evidence: None,
            link: None,
        }
    }

    const NOW: u64 = 1_000_120_000;

    #[test]
    fn a_person_sees_who_why_and_until_when() {
        let mut limited = account("work", "limited");
        limited.limits = vec![limit("", NOW - 1), limit("claude", NOW + 3_600_000)];
        limited.usage = vec![UsageInfo {
            window: "5h".into(),
            utilization: 0.42,
            resets_at: Some(NOW + 60_000),
            as_of: NOW,
            key: String::new(),
            rate: false,
            stale: false,
            pace: None,
        }];
        let text = accounts_table(&[limited, account("home", "needs_login")], NOW, &Output::plain(80));
        assert_eq!(
            text,
            "ACCOUNT  PROVIDER   TIER  STATE        LEASES  LIMIT                  LAST USED\n\
             work     anthropic  pro   limited         1/1  quota 60 min (claude)  2 min ago\n  \
             5h 42 % used, new in 60 s\n\
             home     anthropic  pro   needs login     1/1                         2 min ago\n"
        );
    }

    #[test]
    fn everything_long_still_fits() {
        let mut long = account(&"a-very-long-label-".repeat(9), "needs_verification");
        long.provider = "my-openai-compatible-provider-in-the-cellar".into();
        long.limits = vec![limit("gemini-antigravity", NOW + 99_000), limit("漢字", NOW + 500_000_000)];
        (long.leases, long.capacity) = (12, 16);
        long.tier = Tier::Ultra;
        let text = accounts_table(&[long], NOW, &Output::plain(80));
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("12/16") && text.contains("verify") && text.contains("quota 6 d"), "{text}");
    }

    #[test]
    fn nothing_yet_says_what_to_do() {
        assert!(accounts_table(&[], NOW, &Output::plain(80)).contains("lessor account add"));
    }

    #[test]
    fn warnings_come_last_and_one_line_is_about_the_daemon() {
        let status = DaemonStatus {
            version: "0.1.0".into(),
            pid: 7,
            uptime_ms: 240_000,
            socket: "/s".into(),
            gateway: None,
            config: ConfigState { path: "/c".into(), state: "rejected".into(), error: Some("line 3: bad".into()) },
            accounts: AccountTotals::default(),
            leases: 1,
            queue: Vec::new(),
            warnings: vec!["the disk is full".into()],
        };
        assert_eq!(daemon_line(&status, 1, &Output::plain(80)), "1 lease · lessor 0.1.0, pid 7, up 4 min\n");
        assert_eq!(
            warnings(&status, &Output::plain(80)),
            "warning: config rejected, the old one is used: line 3: bad\nwarning: the disk is full\n"
        );
    }
}
