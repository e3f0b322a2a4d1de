//! Accounts as text: names, plans, limits, and the table that `status` and `account` show.

use super::format;
use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::wrap::{broken, columns, cut};
use crate::pool::{CredentialKind, Tier};
use crate::protocol::{AccountInfo, AccountLabel, LimitInfo, UsageInfo};
use crate::provider::separate_quotas;
use crate::visible::shell_word;

/// What to do while there is no account.
pub(crate) const HOW_TO_ADD_ONE: &str =
    "lessor import; or: lessor login claude; or: lessor account add anthropic --api-key-stdin";

pub(crate) fn none(output: &Output) -> String {
    output.prose(&format!("no accounts yet: {HOW_TO_ADD_ONE}\n"))
}

/// An account's label, else its email address, else its id.
pub(crate) fn name(account: &AccountInfo) -> &str {
    account.label.as_deref().or(account.email.as_deref()).unwrap_or(&account.id)
}

/// What an account is called in a command: its name as one word of a shell, else its id. The email address of an account
/// of several organisations has an addition, which no command accepts.
pub(crate) fn reference(account: &AccountInfo) -> String {
    let is_address = |name: &&str| account.label.is_some() || !name.contains(' ');
    Some(name(account)).filter(is_address).and_then(shell_word).unwrap_or_else(|| account.id.clone())
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
    Tier::named(text).ok_or_else(|| "the tier must be ultra, pro, free or unknown (max is ultra)".to_owned())
}

/// `login`, `key` or `token`.
pub(crate) fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Oauth => "login",
        CredentialKind::ApiKey => "key",
        CredentialKind::Token => "token",
    }
}

/// One limit, with where it is known from.
pub(crate) fn limit(limit: &LimitInfo, now: u64) -> String {
    let since = format::ago(now, limit.since);
    if let Some(model) = missing_model(&limit.scope, &limit.reason, &limit.key) {
        return format!(
            "its plan lacks {model}, asked again {} (refused {since})",
            format::clock_and_span(now, limit.until)
        );
    }
    if is_denial(&limit.scope, &limit.reason) {
        return format!("refused {since}, tried again {}", format::clock_and_span(now, limit.until));
    }
    let of = if limit.key.is_empty() { "the account" } else { quota_name(&limit.key) };
    let known = match limit.source.as_str() {
        "server" => "stated",
        "report" => "reported",
        _ => "estimated",
    };
    let (reason, until) = (format::reason(&limit.reason), format::until_clock(now, limit.until));
    format!("{reason} of {of} {until} ({known} {since})")
}

/// What people call a quota: the pool, or the model.
pub(crate) fn quota_name(key: &str) -> &str {
    match key.split_once(':') {
        Some((_, model)) => model.trim_end_matches('*'),
        None => key.strip_prefix("gemini-").filter(|pool| *pool == "antigravity").unwrap_or(key),
    }
}

/// Whether the provider refuses the account, so that the end of the limit is only the time of the next attempt.
pub(crate) fn is_denial(scope: &str, reason: &str) -> bool {
    scope == "account" && ["auth_failed", "forbidden"].contains(&reason)
}

/// The limit resets that an account has banked; nothing if it has none.
pub(crate) fn banked_resets(account: &AccountInfo, now: u64) -> Option<String> {
    let resets = account.resets.filter(|resets| resets.available > 0 || resets.unfinished)?;
    if resets.unfinished {
        return Some("whether a limit reset was used is not known".to_owned());
    }
    let number = format::count(resets.available as usize, "limit reset");
    let expires = resets.next_expires_at.map(|at| {
        let first = if resets.available == 1 { "it" } else { "the first" };
        format!(", {first} expires {}", format::clock_and_span(now, at))
    });
    Some(format!("{number} banked{}", expires.unwrap_or_default()))
}

/// The same with the command that uses one.
pub(crate) fn banked_resets_with_command(account: &AccountInfo, now: u64) -> Option<String> {
    let (text, name) = (banked_resets(account, now)?, reference(account));
    let purpose = match account.resets {
        Some(resets) if resets.unfinished => "to repeat that use, without using a second one",
        _ => "to use one",
    };
    Some(format!("{text}; {purpose}: lessor account reset {name}"))
}

/// The state in words: `partly limited`.
pub(crate) fn state(account: &AccountInfo) -> String {
    format::spaced(&account.state)
}

/// Whether the account does not serve until its user has done something.
pub(crate) fn needs_user(account: &AccountInfo) -> bool {
    account.remedy.is_some() && account.state != "disabled"
}

/// What each account needs that needs its user: one command a line, below a table.
pub(crate) fn remedies(accounts: &[AccountInfo], output: &Output) -> String {
    let needing = accounts.iter().filter(|account| needs_user(account));
    needing.map(|account| remedy_line(account, output)).collect()
}

fn remedy_line(account: &AccountInfo, output: &Output) -> String {
    let state = match account.state.as_str() {
        "limited" => "is refused by its provider".to_owned(),
        _ => state(account),
    };
    let before = format!("{} {state}: ", clean(name(account)));
    let remedy = clean(account.remedy.as_deref().unwrap_or_default());
    let marked = |text: &str| output.tint(Tint::Strong, text);
    if columns(&before) + columns(&remedy) <= output.width {
        return format!("{before}{}\n", marked(&remedy));
    }
    let mut text = broken(before.trim_end(), output.width).join("\n") + "\n";
    for line in command_lines(&remedy, output.width.saturating_sub(2)) {
        text += &format!("  {}\n", marked(&line));
    }
    text
}

/// A command in lines that a shell reads as one command.
pub(crate) fn command_lines(command: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in command.split_inclusive(" && ") {
        let part = part.trim_end();
        let mut line = String::new();
        for word in part.split(' ') {
            if !line.is_empty() && word != "&&" && columns(&line) + columns(word) + 4 > width {
                lines.push(std::mem::take(&mut line) + " \\");
            } else if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines.into_iter().map(|line| cut(&line, width)).collect()
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

/// The colour of a state.
pub(crate) fn tint(state: &str) -> Tint {
    match state {
        "ready" => Tint::Good,
        "partly_limited" | "limited" | "waiting_for_token" => Tint::Warn,
        "disabled" => Tint::Faint,
        _ => Tint::Bad,
    }
}

/// The accounts, one line each, with why they do not serve and their quota windows below; then what the user can do.
pub(crate) fn table(accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    if accounts.is_empty() {
        return none(output);
    }
    let mut table = Table::new(&[
        Column::name("ACCOUNT"),
        Column::flexible("PROVIDER", 9).left_out(1),
        Column::fixed("TIER").left_out(4),
        Column::fixed("OF").left_out(5),
        Column::fixed("STATE"),
        Column::number("LEASES"),
        Column::fixed("LIMIT").moved_below(2),
        Column::fixed("LAST USED").left_out(3),
    ]);
    for account in accounts {
        table.row(vec![
            (name(account).to_owned(), Some(Tint::Strong)),
            (account.provider.clone(), None),
            (if account.tier == Tier::Unknown { String::new() } else { tier(account.tier).to_owned() }, None),
            (sharing(account).to_owned(), Some(Tint::Faint)),
            (state(account), Some(tint(&account.state))),
            (leases(account), None),
            (limits(account, now), Some(Tint::Warn)),
            (format::last(now, account.last_used_at), Some(Tint::Faint)),
        ]);
        state_details(account).iter().for_each(|line| table.detail(0, line));
        usage_lines(account, now).iter().for_each(|line| table.detail(0, line));
    }
    let remedies = remedies(accounts, output);
    let gap = if remedies.is_empty() { "" } else { "\n" };
    table.render(output) + gap + &remedies
}

/// Whether the shared pool has the account, or this host alone; empty without a shared pool.
pub(crate) fn sharing(account: &AccountInfo) -> &'static str {
    match account.sharing.as_deref() {
        Some("pool") => "the pool",
        Some(_) => "this host",
        None => "",
    }
}

/// How many leases it has and may have; with the seats that other hosts hold.
pub(crate) fn leases(account: &AccountInfo) -> String {
    let elsewhere: u64 = account.elsewhere.iter().map(|held| held.seats).sum();
    let elsewhere = if elsewhere == 0 { String::new() } else { format!("+{elsewhere}") };
    format!("{}{elsewhere}/{}", account.leases, account.capacity)
}

/// The seats that other hosts hold, as in `2 on ci-2, 1 on ci-3`; `None` if there are none.
pub(crate) fn elsewhere(account: &AccountInfo) -> Option<String> {
    let held: Vec<String> = account.elsewhere.iter().map(|held| format!("{} on {}", held.seats, held.host)).collect();
    (!held.is_empty()).then(|| held.join(", "))
}

/// The limits in force, the longest first.
fn limits(account: &AccountInfo, now: u64) -> String {
    let mut live: Vec<&LimitInfo> = account.limits.iter().filter(|limit| limit.until > now).collect();
    live.sort_by_key(|limit| std::cmp::Reverse(limit.until));
    // a provider's only quota needs no name
    let has_several = !separate_quotas(&account.provider, account.kind).is_empty();
    let text = |limit: &LimitInfo| {
        if let Some(model) = missing_model(&limit.scope, &limit.reason, &limit.key) {
            return format!("lacks {model}");
        }
        let end = format::clock_and_span(now, limit.until);
        if is_denial(&limit.scope, &limit.reason) {
            return format!("refused, tried again {end}");
        }
        let is_named = !limit.key.is_empty() && (has_several || limit.key.contains(':'));
        let of = if is_named { format!("{}: ", quota_name(&limit.key)) } else { String::new() };
        format!("{of}{} until {end}", format::short(&limit.reason))
    };
    live.iter().map(|limit| text(limit)).collect::<Vec<_>>().join("; ")
}

/// `, resets 17:06, in 2 h`, if the time is known.
pub(crate) fn reset(window: &UsageInfo, now: u64) -> String {
    window.resets_at.map(|at| format!(", resets {}", format::clock_and_span(now, at))).unwrap_or_default()
}

/// No more windows of a quota pool are shown in a table.
const MOST_WINDOWS: usize = 2;

/// The fullest quota windows of each pool, without those of which nothing is used; and why there are none.
fn usage_lines(account: &AccountInfo, now: u64) -> Vec<String> {
    let text = |window: &UsageInfo| {
        let stale = if window.stale { format!(" ({})", format::ago(now, window.as_of)) } else { String::new() };
        format!("{} {}{stale}{}", window.window, percent(window.utilization), reset(window, now))
    };
    let mut lines: Vec<String> = Vec::new();
    for (pool, windows) in pools(account) {
        let used = windows.iter().filter(|window| percent(window.utilization) != "0 %").take(MOST_WINDOWS);
        let used: Vec<String> = used.map(|window| text(window)).collect();
        let pool = pool.map(|pool| format!("{pool}: ")).unwrap_or_default();
        lines.extend((!used.is_empty()).then(|| format!("{pool}{}", used.join(" · "))));
    }
    lines.extend(reading_note(account, now));
    lines
}

/// That the quota of an account is not known yet or cannot be read, and when it is asked for next.
pub(crate) fn reading_note(account: &AccountInfo, now: u64) -> Option<String> {
    let next = account.usage_next_at.map(|at| format!("; next try {}", format::clock_and_span(now, at)));
    if let Some(why) = &account.usage_trouble {
        return Some(format!("usage cannot be read: {why}{}", next.unwrap_or_default()));
    }
    let is_unread = account.usage.iter().all(|window| window.rate);
    account
        .usage_next_at
        .filter(|_| is_unread)
        .map(|at| format!("usage: no reading yet, next {}", format::clock_and_span(now, at)))
}

/// The quota windows by pool, the fullest first; the pool has a name where the account has several.
pub(crate) fn pools(account: &AccountInfo) -> Vec<(Option<&str>, Vec<&UsageInfo>)> {
    let has_several = !separate_quotas(&account.provider, account.kind).is_empty();
    let mut pools: Vec<(Option<&str>, Vec<&UsageInfo>)> = Vec::new();
    for window in account.usage.iter().filter(|window| !window.rate) {
        let pool = window.key.split(':').next().filter(|pool| has_several && !pool.is_empty()).map(quota_name);
        match pools.iter_mut().find(|(known, _)| *known == pool) {
            Some((_, windows)) => windows.push(window),
            None => pools.push((pool, vec![window])),
        }
    }
    for (_, windows) in &mut pools {
        windows.sort_by(|a, b| b.utilization.total_cmp(&a.utilization));
    }
    pools
}

/// A share as a percentage; a little is not nothing, and not quite all is not all.
pub(crate) fn percent(share: f64) -> String {
    let rounded = (share * 100.0).round();
    let shown = match share {
        _ if share > 0.0 && rounded < 1.0 => return "< 1 %".to_owned(),
        _ if share < 1.0 && rounded >= 100.0 => 99.0,
        _ => rounded,
    };
    format!("{shown:.0} %")
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
            "ACCOUNT  PROVIDER   STATE        LEASES  LIMIT                         LAST USED\n\
             work     anthropic  limited         1/1  quota until 14:48, in 60 min  2 min ago\n  \
             5h 42 %, resets 13:49, in 60 s\n\
             home     anthropic  needs login     1/1                                2 min ago\n"
        );
    }

    #[test]
    fn a_model_that_the_plan_lacks_is_no_limit() {
        let mut ready = account("work", "ready");
        let lacking =
            LimitInfo { scope: "model".into(), reason: "forbidden".into(), ..limit("openai:gpt-5.4", NOW + 9_000) };
        assert_eq!(
            super::limit(&lacking, NOW).split(" (").next(),
            Some("its plan lacks gpt-5.4, asked again 13:48, in 9 s")
        );
        ready.limits = vec![lacking];
        assert!(table(&[ready], NOW, &Output::plain(80)).contains("lacks gpt-5.4"));
    }

    #[test]
    fn a_refused_account_has_the_providers_words_below_it() {
        let mut refused = account("work", "limited");
        let limit = LimitInfo { scope: "account".into(), reason: "forbidden".into(), ..limit("", NOW + 21_600_000) };
        assert_eq!(super::limit(&limit, NOW).split_once(", "), Some(("refused 11 d ago", "tried again 19:48, in 6 h")));
        refused.limits = vec![limit];
        refused.state_reason = Some("anthropic refuses it: 403 “disabled, see https://a.example”".into());
        refused.state_link = Some("https://a.example".into());
        let text = table(std::slice::from_ref(&refused), NOW, &Output::plain(80));
        assert!(
            text.contains("refused, tried again 19:48, in 6 h") && text.contains("\n  anthropic refuses it: 403"),
            "{text}"
        );
        assert!(!text.contains("open https://"), "the words name it: {text}");
        refused.state_reason = Some("anthropic refuses it".into());
        assert_eq!(state_details(&refused), ["anthropic refuses it", "open https://a.example"]);
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
        assert!(
            text.contains("12/16") && text.contains("needs verification") && text.contains("quota until Sun"),
            "{text}"
        );
    }

    #[test]
    fn only_used_windows_are_shown_and_the_pools_of_google_have_names() {
        let window = |name: &str, key: &str, utilization: f64| UsageInfo {
            window: name.into(),
            utilization,
            resets_at: None,
            as_of: NOW,
            key: key.into(),
            rate: false,
            stale: false,
            pace: None,
        };
        let mut google = AccountInfo { provider: "google".into(), ..account("gem", "ready") };
        google.usage = vec![
            window("gemini-3-pro", "gemini-antigravity:gemini-3-pro", 0.2),
            window("gemini-3-flash", "gemini-antigravity:gemini-3-flash", 0.0),
            window("gemini-2.5-pro", "gemini-cli:gemini-2.5-pro", 0.999),
            window("gemini-2.5-flash", "gemini-cli:gemini-2.5-flash", 0.001),
        ];
        let lines = ["antigravity: gemini-3-pro 20 %", "gemini-cli: gemini-2.5-pro 99 % · gemini-2.5-flash < 1 %"];
        assert_eq!(usage_lines(&google, NOW), lines);
        google.usage_trouble = Some("503".into());
        google.usage_next_at = Some(NOW + 60_000);
        assert_eq!(reading_note(&google, NOW).as_deref(), Some("usage cannot be read: 503; next try 13:49, in 60 s"));
        google = AccountInfo { usage: vec![], usage_trouble: None, ..google };
        assert_eq!(usage_lines(&google, NOW), ["usage: no reading yet, next 13:49, in 60 s"]);
        assert_eq!(usage_lines(&AccountInfo { usage_next_at: None, ..google }, NOW), [""; 0]);
    }

    #[test]
    fn a_command_is_broken_so_that_a_shell_reads_it() {
        assert_eq!(command_lines("lessor login anthropic", 40), ["lessor login anthropic"]);
        assert_eq!(command_lines("lessor a b && lessor c d", 14), ["lessor a b &&", "lessor c d"]);
        assert_eq!(command_lines("lessor account set work", 18), ["lessor account \\", "set work"]);
    }

    #[test]
    fn without_accounts_the_command_that_adds_one_is_shown() {
        assert!(table(&[], NOW, &Output::plain(80)).contains("lessor account add"));
    }
}
