//! Accounts as text: names, plans, limits, and the table that `status` and `account` show.

use super::format;
use super::output::{Output, Tint};
use super::table::{Column, Table};
use crate::pool::{CredentialKind, Tier};
use crate::protocol::{AccountInfo, AccountLabel, LimitInfo, UsageInfo};

/// What to do while there is no account.
const NO_ACCOUNTS: &str = "no accounts yet: lessor account add PROVIDER --api-key-stdin < key-file\n";

pub(crate) fn none(output: &Output) -> String {
    output.prose(NO_ACCOUNTS)
}

/// An account's label, else its email address, else its id.
pub(crate) fn name(account: &AccountInfo) -> &str {
    account.label.as_deref().or(account.email.as_deref()).unwrap_or(&account.id)
}

/// The same of an account that another document names.
pub(crate) fn label(account: &AccountLabel) -> &str {
    account.label.as_deref().or(account.email.as_deref()).unwrap_or(&account.id)
}

/// A plan, as in the protocol.
pub(crate) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Ultra => "ultra",
        Tier::Pro => "pro",
        Tier::Free => "free",
        Tier::Unknown => "unknown",
    }
}

pub(crate) fn parse_tier(text: &str) -> Result<Tier, String> {
    let tiers = [Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown];
    let found = tiers.into_iter().find(|known| tier(*known) == text);
    found.ok_or_else(|| "the tier must be ultra, pro, free or unknown".to_owned())
}

/// `login`, `key` or `token`.
pub(crate) fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Oauth => "login",
        CredentialKind::ApiKey => "key",
        CredentialKind::Token => "token",
    }
}

pub(crate) fn limit(limit: &LimitInfo, now: u64) -> String {
    let (until, since) = (format::until(now, limit.until), format::ago(now, limit.since));
    if let Some(model) = missing_model(&limit.scope, &limit.reason, &limit.key) {
        return format!("its plan lacks {model}, asked again {until} (refused {since})");
    }
    if is_denial(&limit.scope, &limit.reason) {
        return format!("refused {since}, tried again {until}");
    }
    let of = if limit.key.is_empty() { "the account" } else { limit.key.as_str() };
    let known = match limit.source.as_str() {
        "server" => "stated",
        "report" => "reported",
        _ => "estimated",
    };
    format!("{} of {of}, ends {until} ({known} {since})", format::spaced(&limit.reason))
}

/// Whether the provider refuses the account, so that the end of the limit is only the time of the next attempt.
pub(crate) fn is_denial(scope: &str, reason: &str) -> bool {
    scope == "account" && ["auth_failed", "forbidden"].contains(&reason)
}

/// The state in a word; a ready account whose key was never accepted is unchecked.
pub(crate) fn state(account: &AccountInfo) -> String {
    if account.unchecked && account.state == "ready" { "unchecked".to_owned() } else { format::short(&account.state) }
}

/// Why the account is in its state, and the page that helps.
pub(crate) fn state_details(account: &AccountInfo) -> Vec<String> {
    let why = account.state_reason.clone();
    let is_named = |link: &&String| why.as_ref().is_some_and(|why| why.contains(link.as_str()));
    // the link of a ready account is that of a model which its plan lacks
    let is_ready = account.state == "ready" && why.is_none();
    let link =
        account.state_link.as_ref().filter(|link| !is_ready && !is_named(link)).map(|link| format!("open {link}"));
    why.into_iter().chain(link).collect()
}

/// The model that the account's plan lacks: such an entry is no limit of the account.
pub(crate) fn missing_model<'a>(scope: &str, reason: &str, key: &'a str) -> Option<&'a str> {
    let is_missing = scope == "model" && ["forbidden", "request_rejected"].contains(&reason);
    key.split_once(':').map(|(_, model)| model).filter(|_| is_missing)
}

/// The accounts, one line each, with their quota windows below.
pub(crate) fn table(accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    if accounts.is_empty() {
        return none(output);
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
        let tint = match account.state.as_str() {
            "ready" => Tint::Good,
            "partly_limited" | "limited" | "waiting_for_token" => Tint::Warn,
            "disabled" => Tint::Faint,
            _ => Tint::Bad,
        };
        table.row(vec![
            (name(account).to_owned(), Some(Tint::Strong)),
            (account.provider.clone(), None),
            (if account.tier == Tier::Unknown { String::new() } else { tier(account.tier).to_owned() }, None),
            (state(account), Some(tint)),
            (format!("{}/{}", account.leases, account.capacity), None),
            (limits(account, now), Some(Tint::Warn)),
            (format::last(now, account.last_used_at), Some(Tint::Faint)),
        ]);
        state_details(account).iter().for_each(|line| table.detail(0, line));
        let usage = usage(account, now);
        if !usage.is_empty() {
            table.detail(0, &usage);
        }
    }
    table.render(output)
}

/// The limits in force, the longest first.
fn limits(account: &AccountInfo, now: u64) -> String {
    let mut live: Vec<&LimitInfo> = account.limits.iter().filter(|limit| limit.until > now).collect();
    live.sort_by_key(|limit| std::cmp::Reverse(limit.until));
    let text = |limit: &LimitInfo| {
        let end = format::until(now, limit.until);
        if let Some(model) = missing_model(&limit.scope, &limit.reason, &limit.key) {
            return format!("lacks {model}");
        }
        if is_denial(&limit.scope, &limit.reason) {
            return format!("refused, tried {end}");
        }
        let key = if limit.key.is_empty() { String::new() } else { format!(" ({})", limit.key) };
        format!("{} {}{key}", format::short(&limit.reason), end.trim_start_matches("in "))
    };
    live.iter().map(|limit| text(limit)).collect::<Vec<_>>().join(", ")
}

/// `, resets in 2 h`, if the time is known.
pub(crate) fn reset(window: &UsageInfo, now: u64) -> String {
    window.resets_at.map(|at| format!(", resets {}", format::until(now, at))).unwrap_or_default()
}

/// The quota windows: those of the whole account first, then the fullest.
fn usage(account: &AccountInfo, now: u64) -> String {
    let text = |window: &UsageInfo| {
        let stale = if window.stale { ", stale" } else { "" };
        format!("{} {:.0} % used{}{stale}", window.window, window.utilization * 100.0, reset(window, now))
    };
    let (whole, mut parts): (Vec<&UsageInfo>, Vec<&UsageInfo>) =
        account.usage.iter().filter(|window| !window.rate).partition(|window| window.key.is_empty());
    parts.sort_by(|a, b| b.utilization.total_cmp(&a.utilization));
    whole.into_iter().chain(parts).map(text).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    fn account(label: &str, state: &str) -> AccountInfo {
        let account = serde_json::json!({
            "id": "ac_1a2b3c4d", "provider": "anthropic", "label": label, "tier": "pro", "kind": "oauth", "unchecked": false,
            "state": state, "enabled": true, "leases": 1, "capacity": 1, "priority": 0, "use": ["claude"],
            "limits": [], "usage": [], "created_at": 0, "last_used_at": 1_000_000_000, "in_flight": 0
        });
        serde_json::from_value(account).unwrap()
    }

    fn limit(key: &str, until: u64) -> LimitInfo {
        let limit = serde_json::json!({
            "key": key, "reason": "quota_exhausted", "scope": "pool", "until": until, "source": "body", "since": 0
        });
        serde_json::from_value(limit).unwrap()
    }

    const NOW: u64 = 1_000_120_000;

    #[test]
    fn the_table_shows_state_limit_and_reset_of_each_account() {
        let mut limited = account("work", "limited");
        limited.limits = vec![limit("", NOW - 1), limit("claude", NOW + 3_600_000)];
        let window = serde_json::json!({
            "window": "5h", "utilization": 0.42, "resets_at": NOW + 60_000, "as_of": NOW, "key": "", "rate": false,
            "stale": false
        });
        limited.usage = vec![serde_json::from_value(window).unwrap()];
        let text = table(&[limited, account("home", "needs_login")], NOW, &Output::plain(80));
        assert_eq!(
            text,
            "ACCOUNT  PROVIDER   TIER  STATE        LEASES  LIMIT                  LAST USED\n\
             work     anthropic  pro   limited         1/1  quota 60 min (claude)  2 min ago\n  \
             5h 42 % used, resets in 60 s\n\
             home     anthropic  pro   needs login     1/1                         2 min ago\n"
        );
    }

    #[test]
    fn a_model_that_the_plan_lacks_is_no_limit() {
        let mut ready = account("work", "ready");
        let lacking =
            LimitInfo { scope: "model".into(), reason: "forbidden".into(), ..limit("openai:gpt-5.4", NOW + 9_000) };
        assert_eq!(super::limit(&lacking, NOW).split(" (").next(), Some("its plan lacks gpt-5.4, asked again in 9 s"));
        ready.limits = vec![lacking];
        assert!(table(&[ready], NOW, &Output::plain(80)).contains("lacks gpt-5.4"));
    }

    #[test]
    fn a_refused_account_has_the_providers_words_below_it() {
        let mut refused = account("work", "limited");
        let limit = LimitInfo { scope: "account".into(), reason: "forbidden".into(), ..limit("", NOW + 21_600_000) };
        assert_eq!(super::limit(&limit, NOW).split_once(", "), Some(("refused 11 d ago", "tried again in 6 h")));
        refused.limits = vec![limit];
        refused.state_reason = Some("anthropic refuses it: 403 “disabled, see https://a.example”".into());
        refused.state_link = Some("https://a.example".into());
        let text = table(std::slice::from_ref(&refused), NOW, &Output::plain(80));
        assert!(text.contains("refused, tried in 6 h") && text.contains("\n  anthropic refuses it: 403"), "{text}");
        assert!(!text.contains("open https://"), "the words name it: {text}");
        refused.state_reason = Some("anthropic refuses it".into());
        assert_eq!(state_details(&refused), ["anthropic refuses it", "open https://a.example"]);
        refused = AccountInfo { state: "ready".into(), unchecked: true, state_reason: None, ..refused };
        assert_eq!((state(&refused).as_str(), state_details(&refused).len()), ("unchecked", 0));
    }

    #[test]
    fn long_names_fit_the_width() {
        let mut long = account(&"a-very-long-label-".repeat(9), "needs_verification");
        long.provider = "my-openai-compatible-provider-in-the-cellar".into();
        long.limits = vec![limit("gemini-antigravity", NOW + 99_000), limit("漢字", NOW + 500_000_000)];
        (long.leases, long.capacity) = (12, 16);
        long.tier = Tier::Ultra;
        let text = table(&[long], NOW, &Output::plain(80));
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("12/16") && text.contains("verify") && text.contains("quota 6 d"), "{text}");
    }

    #[test]
    fn without_accounts_the_command_that_adds_one_is_shown() {
        assert!(table(&[], NOW, &Output::plain(80)).contains("lessor account add"));
    }
}
