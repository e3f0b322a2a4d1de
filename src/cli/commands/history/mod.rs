//! `history`: what happened, as sums over hours, days, accounts and more, and the leases that have ended.

mod csv;
pub(super) mod filter;

use clap::Args;
use unicode_width::UnicodeWidthStr;

use crate::cli::ui::{self, Column, Output, Table, Tint, clean, cut, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::pool::spoken;
use crate::protocol::{HistoryGroup, HistoryInfo, HistoryParams, RequestSums};
use filter::HistoryFilterArgs;

/// The span of a history without `--since`, in ms.
const DEFAULT_SPAN: u64 = 24 * HOUR;
const HOUR: u64 = 3_600_000;
/// A longer span is grouped by day, if the user does not say how.
const LONGEST_BY_HOUR: u64 = 48 * HOUR;
/// The widest and the narrowest bar, in columns.
const BAR: std::ops::RangeInclusive<usize> = 4..=40;

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    filter: HistoryFilterArgs,
    /// Group by this [default: hour, for more than two days day]
    #[arg(long, value_name = "GROUP", value_parser = ["minute", "hour", "day", "account", "model", "agent", "dir", "provider"])]
    by: Option<String>,
    /// Print the leases that have ended instead, without those of single requests
    #[arg(long, conflicts_with_all = ["by", "status"])]
    leases: bool,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(super) fn execute(options: &HistoryArgs, context: &Context) -> Result<(), CliError> {
    let now = format::now();
    let params = options.filter.params(now)?;
    let since = params.since.unwrap_or_else(|| params.until.unwrap_or(now).saturating_sub(DEFAULT_SPAN));
    let span = params.until.unwrap_or(now).saturating_sub(since);
    let by_time = if span > LONGEST_BY_HOUR { "day" } else { "hour" };
    let by = options.by.clone().unwrap_or_else(|| by_time.to_owned());
    let params = HistoryParams {
        of: options.leases.then(|| "leases".to_owned()),
        since: Some(since),
        by: (!options.leases).then(|| by.clone()),
        limit: Some(if options.leases { 1000 } else { 0 }),
        ..params
    };
    let info = context.ask(|client: &mut Client| client.history(params.clone()))?;
    if options.csv {
        let text = if options.leases { csv::leases(&info.leases) } else { csv::groups(&by, &info.groups) };
        return context.output.text(&text);
    }
    let words = span_words(options.filter.since.as_deref(), &info, params.until.is_some(), now);
    context.output.result(&info, || {
        let mut text = context.output.prose(&format!("{words}: {}", summary(&info.totals))) + "\n";
        if options.leases {
            text += &leases(&info, now, &context.output);
        } else if !info.groups.is_empty() {
            text += "\n";
            text += &chart(&by, &info.groups, now, &context.output);
        }
        text
    })?;
    notes(&info, now, &context.output);
    Ok(())
}

/// What the numbers do not include.
pub(super) fn notes(info: &HistoryInfo, now: u64, output: &Output) {
    if output.json {
        return;
    }
    if let Some(host) = &info.guest_of {
        output.note(&format!("what this machine's programs did with the accounts of {}", clean(host)));
    }
    match info.begins_at {
        Some(begins_at) if begins_at > info.since => {
            output.note(&format!("the history begins {}", format::ago(now, begins_at)));
        }
        Some(_) => {}
        None => output.note("the history is empty; requests of agents that `lessor run` starts are recorded"),
    }
    let count = |number: u64, one: &str| format::count(usize::try_from(number).unwrap_or(usize::MAX), one);
    if info.uncounted > 0 {
        let lost = count(info.uncounted, "request");
        let words = format!("{lost} could not be recorded since the daemon started: the numbers are too low");
        output.labelled_note(Tint::Warn, "warning:", &words);
    } else if info.dropped > 0 {
        let dropped = count(info.dropped, "record");
        output.note(&format!(
            "too much happened at a time since the daemon started: {dropped} left out of the lists, none of the sums"
        ));
    }
}

/// `last 2 h`, `since Mon 01:30`.
fn span_words(since: Option<&str>, info: &HistoryInfo, has_end: bool, now: u64) -> String {
    let default = std::time::Duration::from_millis(DEFAULT_SPAN);
    let back = since.map_or(Some(default), |since| crate::config::duration::parse(since).ok());
    if let Some(back) = back.filter(|_| !has_end) {
        return format!("last {}", spoken(back));
    }
    let from = format!("since {}", format::day_and_clock(now, info.since));
    if has_end { format!("{from} until {}", format::day_and_clock(now, info.until)) } else { from }
}

/// The answer first: how many requests, how many limits, and what agents saw of them.
fn summary(sums: &RequestSums) -> String {
    if sums.requests == 0 {
        return "no requests".to_owned();
    }
    let count = |number: u64, one: &str| format::count(usize::try_from(number).unwrap_or(usize::MAX), one);
    let mut parts = vec![
        count(sums.requests, "request"),
        format!("{} met", count(sums.limited, "limit")),
        format!("{} seen by an agent", sums.refused),
    ];
    parts.extend((sums.broken > 0).then(|| format!("{} broke off", sums.broken)));
    parts.extend((sums.cancelled > 0).then(|| format!("{} cancelled by the agent", sums.cancelled)));
    let waited = std::time::Duration::from_millis(sums.waited_ms);
    parts.extend((sums.waited_ms >= 1000).then(|| format!("{} waited for accounts", spoken(waited))));
    if sums.tokens.input + sums.tokens.output > 0 {
        parts.push(format!("{} tokens in, {} out", short_number(sums.tokens.input), short_number(sums.tokens.output)));
    }
    parts.extend((sums.cost_usd > 0.0).then(|| money(sums.cost_usd)));
    parts.join(", ")
}

/// The groups as a table with a bar of requests each.
fn chart(by: &str, groups: &[HistoryGroup], now: u64, output: &Output) -> String {
    let title = match by {
        "minute" | "hour" | "day" => "when",
        "dir" => "directory",
        other => other,
    };
    let name = |group: &HistoryGroup| match (group.at, group.name.as_str()) {
        (Some(at), _) if by == "day" => day(at),
        (Some(at), _) => format::day_and_clock(now, at),
        (None, "") if by == "account" => "(none)".to_owned(),
        (None, "") => "(not stated)".to_owned(),
        (None, name) => clean(name),
    };
    let numbers = |group: &HistoryGroup| {
        let sums = &group.sums;
        let tokens = sums.tokens.input + sums.tokens.output;
        let shown = |number: u64| if number == 0 { String::new() } else { number.to_string() };
        [
            sums.requests.to_string(),
            shown(sums.limited),
            shown(sums.refused),
            if tokens == 0 { String::new() } else { short_number(tokens) },
            if sums.cost_usd > 0.0 { money(sums.cost_usd) } else { String::new() },
        ]
    };
    let titles = ["requests", "limits", "seen", "tokens", "cost"];
    let cells: Vec<(String, [String; 5])> = groups.iter().map(|group| (name(group), numbers(group))).collect();
    let width = |nth: usize| cells.iter().map(|(_, cells)| cells[nth].width()).max().unwrap_or(0);
    // an empty column is left out
    let shown: Vec<usize> = (0..5).filter(|nth| width(*nth) > 0).collect();
    let taken: usize = shown.iter().map(|nth| 2 + width(*nth).max(titles[*nth].len())).sum();
    let widest = cells.iter().map(|(name, _)| name.width()).max().unwrap_or(0).max(title.len());
    let room = output.width.saturating_sub(taken);
    let names = widest.min(room.saturating_sub(2 + BAR.start()).max(8));
    let bars = room.saturating_sub(names + 2).min(*BAR.end());
    let most = groups.iter().map(|group| group.sums.requests).max().unwrap_or(0);
    let mut text = String::new();
    let mut line = |name: &str, cells: &[String; 5], bar: &str, is_title: bool| {
        let mut row = format!("{}{}", cut(name, names), " ".repeat(names.saturating_sub(cut(name, names).width())));
        for nth in &shown {
            let width = width(*nth).max(titles[*nth].len());
            row += &format!("  {:>width$}", cells[*nth]);
        }
        if !bar.is_empty() {
            row += &format!("  {bar}");
        }
        let row = row.trim_end();
        text += &if is_title { output.tint(Tint::Faint, row) } else { row.to_owned() };
        text.push('\n');
    };
    line(title, &titles.map(str::to_owned), "", true);
    for (group, (name, cells)) in groups.iter().zip(&cells) {
        let bar = if bars >= *BAR.start() { bar(group.sums.requests, most, bars, is_utf8()) } else { String::new() };
        line(name, cells, &bar, false);
    }
    text
}

/// A bar of at most `width` columns; eighths of a block where the terminal can show them.
fn bar(number: u64, most: u64, width: usize, blocks: bool) -> String {
    if number == 0 || most == 0 {
        return String::new();
    }
    let eighths = (u128::from(number) * width as u128 * 8).div_ceil(u128::from(most));
    let eighths = usize::try_from(eighths).unwrap_or(width * 8).min(width * 8);
    if !blocks {
        return "#".repeat(eighths.div_ceil(8));
    }
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + part
}

/// Whether the terminal shows more than ASCII, as far as the locale says.
pub(super) fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let names_utf8 = |value: std::ffi::OsString| {
        let value = value.to_string_lossy().to_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    };
    set.map_or(cfg!(any(windows, target_os = "macos")), names_utf8)
}

/// `Mon 30 Nov`
fn day(at: u64) -> String {
    let zone = if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map(|at| at.to_zoned_datetime(zone).strftime("%a %-d %b").to_string()).unwrap_or_default()
}

/// `950`, `12.3k`, `4.5M`
pub(super) fn short_number(number: u64) -> String {
    match number {
        0..=999 => number.to_string(),
        1_000..=999_949 => format!("{:.1}k", number as f64 / 1e3),
        999_950..=999_949_999 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

/// `$3.20`; less than a cent is not shown as nothing.
pub(super) fn money(dollars: f64) -> String {
    if dollars < 0.01 { "<$0.01".to_owned() } else { format!("${dollars:.2}") }
}

fn leases(info: &HistoryInfo, now: u64, output: &Output) -> String {
    if info.leases.is_empty() && info.totals.requests > 0 {
        return "no lease has ended in this time, but those of single requests: lessor requests\n".to_owned();
    }
    if info.leases.is_empty() {
        return "no lease has ended in this time\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::fixed("ended"),
        Column::flexible("held for", 4),
        Column::flexible("account", 8),
        Column::flexible("holder", 8),
        Column::flexible("directory", 8),
        Column::flexible("reason", 8),
    ]);
    for lease in info.leases.iter().rev() {
        let held = std::time::Duration::from_millis(lease.ended_at.saturating_sub(lease.granted_at));
        let holder = lease.holder.as_ref().map(|holder| {
            let program = holder.program.as_deref().or(lease.agent.as_deref()).unwrap_or("process");
            format!("{program} {}", holder.pid)
        });
        table.row(vec![
            (format::day_and_clock(now, lease.ended_at), None),
            (spoken(held), None),
            (ui::account::label(&lease.account).to_owned(), None),
            (holder.or_else(|| lease.agent.clone()).unwrap_or_default(), None),
            (lease.directory.clone().unwrap_or_default(), None),
            (format::spaced(&lease.reason), None),
        ]);
    }
    let more = if info.next.is_some() { "older leases: name an earlier --until\n" } else { "" };
    format!("\n{}{more}", table.render(output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{HistoryGroup, TokenSums};

    #[test]
    fn the_first_line_answers() {
        let sums = RequestSums { requests: 412, limited: 3, attempts: 415, ok: 412, ..RequestSums::default() };
        assert_eq!(summary(&sums), "412 requests, 3 limits met, 0 seen by an agent");
        let tokens = TokenSums { input: 1_250_000, output: 9_000, cached: 0, cache_written: 0 };
        let sums =
            RequestSums { refused: 1, broken: 2, cancelled: 3, waited_ms: 76_000, tokens, cost_usd: 3.2, ..sums };
        assert_eq!(
            summary(&sums),
            "412 requests, 3 limits met, 1 seen by an agent, 2 broke off, 3 cancelled by the agent, 76 s waited for \
             accounts, 1.2M tokens in, 9.0k out, $3.20"
        );
        assert_eq!(summary(&RequestSums::default()), "no requests");
    }

    #[test]
    fn bars_are_proportional_and_never_empty_for_some() {
        assert_eq!(bar(10, 10, 4, true), "████");
        assert_eq!(bar(5, 10, 4, true), "██");
        assert_eq!(bar(1, 1_000_000, 4, true), "▏");
        assert_eq!(bar(1, 1_000_000, 4, false), "#");
        assert_eq!(bar(u64::MAX, u64::MAX, 40, false).len(), 40);
        assert_eq!(bar(0, 10, 4, true), "");
    }

    #[test]
    fn the_chart_fits_the_width_whatever_the_names_are() {
        let group = |name: String, requests: u64| HistoryGroup {
            name,
            sums: RequestSums {
                requests,
                limited: requests / 3,
                refused: 1,
                cost_usd: 123.4,
                tokens: TokenSums { input: 123_456_789, ..TokenSums::default() },
                ..RequestSums::default()
            },
            ..HistoryGroup::default()
        };
        let groups = [group("/home/anna/".to_owned() + &"x".repeat(200), 100_000), group("ab\u{1b}[31m".to_owned(), 1)];
        for width in [60, 80, 120, 200] {
            let text = chart("dir", &groups, 0, &Output::plain(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (999_949, "999.9k"),
            (999_999, "1.0M"),
            (12_345_678, "12.3M"),
            (5_000_000_000, "5.0G"),
        ] {
            assert_eq!(short_number(number), text);
        }
        assert_eq!(money(0.001), "<$0.01");
    }
}
