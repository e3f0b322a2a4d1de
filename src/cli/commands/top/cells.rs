//! What the columns of accounts, leases and the queue show.

use unicode_width::UnicodeWidthStr;

use super::dashboard::Dashboard;
use super::input::holder_text;
use super::look::{Tone, of_state};
use super::names::{Names, path};
use super::panel::ColumnField;
use crate::cli::ui::{account, clean, cut, format};
use crate::pool::{CredentialKind, spoken};
use crate::protocol::{AccountInfo, LeaseRow, LimitInfo, QueueRow, UsageInfo};

/// Pieces of text in one cell of a table.
pub(super) type Pieces = Vec<(String, Tone)>;

const BAR: usize = 8;
const LEAST_BAR: usize = 5;
/// `100 %`.
const PERCENT: usize = 5;
/// No name of a window is shown longer.
const WINDOW: usize = 14;

pub(super) fn of_account(
    dashboard: &Dashboard,
    info: &AccountInfo,
    field: ColumnField,
    width: usize,
    names: &Names,
) -> Pieces {
    let now = dashboard.now;
    let (_, tone) = of_state(&info.state);
    match field {
        ColumnField::Account => one(names.get(&info.id, account::name(info)), Tone::Strong),
        ColumnField::Provider => one(&clean(&info.provider), Tone::Plain),
        ColumnField::State => one(&state_text(info, now), tone),
        ColumnField::Quota => quota(info, now, width, window_width(dashboard.accounts())),
        ColumnField::Leases => one(&account::leases(info), Tone::Plain),
        ColumnField::InFlight if info.in_flight == 0 => Vec::new(),
        ColumnField::InFlight => one(&info.in_flight.to_string(), Tone::Strong),
        ColumnField::LastUsed => one(&format::last(now, info.last_used_at), Tone::Faint),
        _ => Vec::new(),
    }
}

/// The state in a word; that of a key that was never tried says so.
pub(super) fn state_word(info: &AccountInfo) -> String {
    let untried = if info.unchecked && info.state == "ready" { ", untried" } else { "" };
    format::spaced(&info.state) + untried
}

/// The state in words: until when, why, or what helps.
pub(super) fn state_text(info: &AccountInfo, now: u64) -> String {
    let word = state_word(info);
    let live = || info.limits.iter().filter(|limit| limit.until > now);
    let of_whole = |limit: &&LimitInfo| limit.scope == "account" || limit.key.is_empty();
    match info.state.as_str() {
        "limited" => {
            // of the whole account the last one counts; of its quotas the first that is free again
            let whole = live().filter(of_whole).max_by_key(|limit| limit.until);
            let end = whole.or_else(|| live().filter(|limit| limit.scope == "pool").min_by_key(|limit| limit.until));
            match end {
                Some(limit) if account::is_denial(&limit.scope, &limit.reason) => {
                    format!("refused, tried again {}", format::clock_and_span(now, limit.until))
                }
                Some(limit) => format!("{word} {}", format::until_clock(now, limit.until)),
                None => word,
            }
        }
        "partly_limited" => {
            let is_part =
                |limit: &&LimitInfo| account::missing_model(&limit.scope, &limit.reason, &limit.key).is_none();
            let parts: Vec<&LimitInfo> = live().filter(is_part).collect();
            let Some(first) = parts.iter().min_by_key(|limit| limit.until) else { return word };
            let key = account::quota_name(&first.key);
            let more = if parts.len() > 1 { format!(" and {} more", parts.len() - 1) } else { String::new() };
            format!("{word} {}: {}{more}", format::until_clock(now, first.until), clean(key))
        }
        _ => match info.remedy.as_ref().or(info.state_reason.as_ref()) {
            Some(why) => format!("{word}: {}", clean(why)),
            None => word,
        },
    }
}

/// The windows of an account of which something is used, the fullest first, and their names. Of an account with several
/// pools that is the fullest window of each, with the name of the pool.
fn windows(info: &AccountInfo) -> Vec<(String, &UsageInfo)> {
    let mut windows: Vec<(String, &UsageInfo)> = Vec::new();
    for (pool, of_pool) in account::pools(info) {
        let used = of_pool.into_iter().filter(|window| window.utilization > 0.0);
        match pool {
            Some(pool) => windows.extend(used.take(1).map(|window| (clean(pool), window))),
            None => windows.extend(used.map(|window| (clean(&window.window), window))),
        }
    }
    windows.sort_by(|(_, a), (_, b)| b.utilization.total_cmp(&a.utilization));
    windows
}

fn quota(info: &AccountInfo, now: u64, width: usize, name: usize) -> Pieces {
    const BETWEEN: usize = 3;
    const RESET: usize = 6;
    let windows = windows(info);
    if windows.is_empty() {
        let is_read = info.usage.iter().any(|window| !window.rate);
        let text = match (is_read, info.api_kind()) {
            (true, _) => "unused",
            (false, CredentialKind::ApiKey) => "",
            (false, _) if info.usage_trouble.is_some() => "reading failed",
            (false, _) => "no reading yet",
        };
        return one(text, Tone::Faint);
    }
    // a bar of five steps is readable; a longer name is not worth more
    let name = name.min(width.saturating_sub(LEAST_BAR + PERCENT + 2)).max(1);
    let short = name + 1 + BAR + 1 + PERCENT;
    let long = short + 1 + RESET;
    let (item, with_reset) = if width >= long { (long, true) } else { (short, false) };
    let count = ((width + BETWEEN) / (item + BETWEEN)).max(1);
    let bar_width = if width < short { width.saturating_sub(name + 1 + 1 + PERCENT).min(BAR) } else { BAR };
    let mut pieces = Vec::new();
    for (number, (text, window)) in windows.iter().take(count).enumerate() {
        if number > 0 {
            pieces.push((" ".repeat(BETWEEN), Tone::Plain));
        }
        if text.width() > name && count == 1 {
            // the name says more than the bar
            let name = name + 1 + bar_width;
            pieces.push((pad(&cut(text, name), name), Tone::Plain));
        } else {
            pieces.push((pad(&cut(text, name), name) + " ", Tone::Plain));
            pieces.extend(bar(window.utilization, bar_width, window.stale));
        }
        pieces.push((format!(" {:>PERCENT$}", account::percent(window.utilization)), tone_of_use(window)));
        if with_reset {
            let at = window.resets_at.filter(|at| *at > now).map(|at| "→".to_owned() + &short_clock(now, at));
            pieces.push((pad(&format!(" {}", at.unwrap_or_default()), RESET + 1), Tone::Faint));
        }
    }
    pieces
}

/// How wide the names of the shown windows are.
fn window_width(accounts: &[AccountInfo]) -> usize {
    let names = accounts.iter().flat_map(windows).map(|(name, _)| name.width());
    names.max().unwrap_or(2).min(WINDOW)
}

/// `17:06` today, else the day: it has room for five letters.
fn short_clock(now: u64, at: u64) -> String {
    let text = format::day_and_clock(now, at);
    match text.rsplit_once(' ') {
        Some((day, _)) => day.chars().take(6).collect(),
        None => text,
    }
}

pub(super) fn tone_of_use(window: &UsageInfo) -> Tone {
    match window.utilization {
        _ if window.stale => Tone::Faint,
        used if used >= 0.9 => Tone::Bad,
        used if used >= 0.7 => Tone::Warn,
        _ => Tone::Good,
    }
}

/// A bar that is empty only at nothing and full only at all.
pub(super) fn bar(share: f64, width: usize, stale: bool) -> Pieces {
    let full = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    let full = if share > 0.0 { full.max(1) } else { full };
    let full = if share < 1.0 { full.min(width.saturating_sub(1)) } else { full.min(width) };
    let tone = match share {
        _ if stale => Tone::Faint,
        used if used >= 0.9 => Tone::Bad,
        used if used >= 0.7 => Tone::Warn,
        _ => Tone::Good,
    };
    vec![("█".repeat(full), tone), ("░".repeat(width - full), Tone::Faint)]
}

pub(super) fn of_lease(
    dashboard: &Dashboard,
    row: &LeaseRow,
    field: ColumnField,
    width: usize,
    names: &Names,
) -> Pieces {
    let now = dashboard.now;
    match field {
        ColumnField::Holder => one(&clean(&holder_text(row)), Tone::Strong),
        ColumnField::Account => one(names.get(&row.account.id, account::label(&row.account)), Tone::Plain),
        ColumnField::Directory => {
            let directory = row.directory.as_deref().map(|text| path(text, dashboard.home.as_deref(), width));
            // without a process, what its user called it
            let label = || row.label.as_deref().map(clean).unwrap_or_default();
            one(&directory.unwrap_or_else(label), Tone::Plain)
        }
        ColumnField::Model => one(&clean(row.model.as_deref().unwrap_or_default()), Tone::Plain),
        ColumnField::Session => one(&clean(row.session.as_deref().unwrap_or_default()), Tone::Faint),
        ColumnField::Held => one(&for_how_long(now, row.granted_at), Tone::Plain),
        ColumnField::Ends => one(&row.expires_at.map(|at| format::until(now, at)).unwrap_or_default(), Tone::Faint),
        _ => Vec::new(),
    }
}

pub(super) fn of_waiting(row: &QueueRow, field: ColumnField, now: u64) -> Pieces {
    match field {
        ColumnField::Position => one(&row.position.to_string(), Tone::Strong),
        ColumnField::Provider => one(&clean(&row.provider), Tone::Plain),
        ColumnField::Model => one(&clean(row.model.as_deref().unwrap_or_default()), Tone::Plain),
        ColumnField::Label => one(&clean(row.label.as_deref().unwrap_or_default()), Tone::Plain),
        ColumnField::Expected => {
            let at = row.eta_at.map(|at| format::clock_and_span(now, at));
            one(&at.unwrap_or_else(|| "when one is free".to_owned()), Tone::Plain)
        }
        _ => Vec::new(),
    }
}

/// `12 min`.
pub(super) fn for_how_long(now: u64, since: u64) -> String {
    spoken(std::time::Duration::from_millis(now.saturating_sub(since).max(1000) / 1000 * 1000))
}

pub(super) fn one(text: &str, tone: Tone) -> Pieces {
    if text.is_empty() { Vec::new() } else { vec![(text.to_owned(), tone)] }
}

/// The text with blanks up to this width.
pub(super) fn pad(text: &str, width: usize) -> String {
    text.to_owned() + &" ".repeat(width.saturating_sub(text.width()))
}
