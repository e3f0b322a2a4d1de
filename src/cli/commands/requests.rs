//! `requests`: the requests of the gateway, each with its chain of attempts.

use clap::Args;
use unicode_width::UnicodeWidthStr;

use super::history::filter::{HistoryFilterArgs, matches};
use super::history::{is_utf8, money, notes, short_number};
use crate::cli::ui::{self, Output, Tint, clean, cut, format, wrap_after};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::protocol::{AttemptRow, HistoryInfo, HistoryParams, RequestRow, SubscribeParams};
use crate::visible::escape_json;

/// The event that says that a request has ended.
const ENDED: &str = "request.ended";
/// The widths of the columns, in the order of the titles.
const WIDTHS: [usize; 7] = [8, 15, 12, 18, 9, 7, 19];
const TITLES: [&str; 7] = ["time", "sender", "account", "model", "status", "took", "tokens"];

#[derive(Debug, Args)]
pub(crate) struct RequestsArgs {
    #[command(flatten)]
    filter: HistoryFilterArgs,
    /// Print the last N of them
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1000))]
    lines: u32,
    /// Go on printing requests as they end
    #[arg(long, short, conflicts_with = "until")]
    follow: bool,
}

pub(super) fn execute(options: &RequestsArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    let now = format::now();
    let params = HistoryParams { limit: Some(options.lines), ..options.filter.params(now)? };
    // subscribed first: nothing that ends meanwhile is missed
    let subscribe = || {
        let kinds = vec![ENDED.to_owned()];
        Ok::<_, CliError>(context.connect()?.subscribe(SubscribeParams { kinds, recent: false })?)
    };
    let live = if options.follow { Some(subscribe()?) } else { None };
    let kept = if options.follow && context.ask(Client::status)?.history.is_none() {
        output.note("no history is kept: only requests that end from now on are printed");
        HistoryInfo::default()
    } else {
        all_pages(context, &params)?
    };
    let as_lines = (output.json && options.follow) || (!output.json && !output.terminal);
    if output.json && !options.follow {
        return output.document(&kept);
    }
    if !as_lines && (!kept.requests.is_empty() || options.follow) {
        output.text(&(output.tint(Tint::Faint, &columns(&TITLES.map(str::to_owned), output.width)) + "\n"))?;
    }
    for row in kept.requests.iter().rev() {
        print(row, as_lines, output)?;
    }
    let Some(live) = live else {
        if kept.requests.is_empty() && !as_lines {
            output.note("no request matches");
        }
        if !as_lines {
            notes(&kept, now, output);
        }
        return Ok(());
    };
    let last = kept.requests.first().map_or(0, |row| row.id);
    for event in live {
        let event = match event {
            Ok(event) => event,
            // the daemon has ended
            Err(ClientError::Lost(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(row) = event.request
            && (row.id == 0 || row.id > last)
            && matches(&params, &row)
        {
            print(&row, as_lines, output)?;
        }
    }
    Ok(())
}

/// The latest rows, from as many pages as they take.
fn all_pages(context: &Context, params: &HistoryParams) -> Result<HistoryInfo, CliError> {
    let mut info = context.ask(|client| client.history(params.clone()))?;
    let wanted = params.limit.unwrap_or_default() as usize;
    while info.requests.len() < wanted
        && let Some(before) = info.next
    {
        let left = u32::try_from(wanted - info.requests.len()).unwrap_or(u32::MAX);
        let page = HistoryParams { before: Some(before), limit: Some(left), ..params.clone() };
        let page = context.ask(|client| client.history(page.clone()))?;
        info.next = page.next;
        info.requests.extend(page.requests);
    }
    Ok(info)
}

fn print(row: &RequestRow, as_json: bool, output: &Output) -> Result<(), CliError> {
    if as_json {
        let line = serde_json::to_string(row).map_err(|error| CliError::internal(error.to_string()))?;
        return output.text(&(escape_json(&line) + "\n"));
    }
    output.text(&text(row, format::now(), output, is_utf8()))
}

/// A request as one line, and below it what it went through, if that was more than one response.
fn text(row: &RequestRow, now: u64, output: &Output, is_utf8: bool) -> String {
    let when = if now.saturating_sub(row.at) < 20 * 3_600_000 {
        format::clock_with_seconds(row.at)
    } else {
        format::day_and_clock(now, row.at)
    };
    let sender = match (&row.agent, &row.holder) {
        (Some(agent), Some(holder)) => format!("{agent} {}", holder.pid),
        (None, Some(holder)) => format!("{} {}", holder.program.as_deref().unwrap_or("process"), holder.pid),
        (agent, None) => agent.as_deref().or(row.label.as_deref()).unwrap_or_default().to_owned(),
    };
    let status = match (row.status, &*row.outcome) {
        (Some(status), "ok" | "refused") => status.to_string(),
        (_, outcome) => outcome.to_owned(),
    };
    let tokens = row.tokens.map(|tokens| {
        let arrow = if is_utf8 { "→" } else { ">" };
        format!("{}{arrow}{}", short_number(tokens.input), short_number(tokens.output))
    });
    let cost = row.cost_usd.filter(|cost| *cost > 0.0).map(money);
    let cells = [
        when,
        sender,
        row.account.as_deref().map_or("-", ui::account::label).to_owned(),
        row.model.as_deref().unwrap_or_default().to_owned(),
        status,
        took(row.duration_ms),
        tokens.into_iter().chain(cost).collect::<Vec<_>>().join(" "),
    ];
    let cells = cells.map(|cell| clean(&cell));
    let line = cut(&columns(&cells, output.width), output.width);
    let tint = match &*row.outcome {
        "ok" => None,
        "refused" | "broken" => Some(Tint::Bad),
        _ => Some(Tint::Faint),
    };
    let mut text = tint.map_or_else(|| line.clone(), |tint| output.tint(tint, &line)) + "\n";
    // a name that is cut is shown in full below: two names may begin alike
    let whole_name = || (cells[2].width() > WIDTHS[2]).then(|| cells[2].clone());
    if let Some(chain) = chain(row, now, is_utf8).or_else(whole_name) {
        let indent = WIDTHS[0] + 2;
        let below = wrap_after(&" ".repeat(indent), &chain, output.width, indent + 2);
        text.extend(below.lines().map(|line| output.tint(Tint::Faint, &cut(line, output.width)) + "\n"));
    }
    text
}

/// The attempts in order, and why the request ended as it did: `work 429 quota until 17:06 → home 200`. None for a
/// request that succeeded at once.
fn chain(row: &RequestRow, now: u64, is_utf8: bool) -> Option<String> {
    if row.outcome == "ok" && row.attempts.len() <= 1 && row.waited_ms < 1000 {
        return None;
    }
    let arrow = if is_utf8 { " → " } else { " -> " };
    let mut parts: Vec<String> = row.attempts.iter().map(|attempt| step(attempt, now)).collect();
    if row.waited_ms >= 1000 {
        let waited = crate::pool::spoken(std::time::Duration::from_millis(row.waited_ms));
        parts.push(format!("waited {waited} for an account"));
    }
    let reason = row.reason.as_deref().map(format::reason);
    let end = match (&*row.outcome, &row.account) {
        ("ok", _) => None,
        ("refused", None) => Some(("refused by lessor", reason)),
        ("refused", Some(_)) => Some(("refused", reason)),
        ("broken", _) => Some(("broke off", reason)),
        ("cancelled", _) => Some(("cancelled by the agent", reason)),
        _ => None,
    };
    if let Some((words, reason)) = end {
        parts.push(reason.map_or_else(|| words.to_owned(), |reason| format!("{words}: {reason}")));
    }
    Some(clean(&parts.join(arrow)))
}

fn step(attempt: &AttemptRow, now: u64) -> String {
    let mut words = vec![ui::account::label(&attempt.account).to_owned()];
    words.extend(attempt.status.map(|status| status.to_string()));
    words.extend(attempt.reason.as_deref().map(format::short));
    words.extend(attempt.until.map(|until| format!("until {}", format::day_and_clock(now, until))));
    words.join(" ")
}

/// `850 ms`, `3.2 s`, `2 min`
fn took(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=99_949 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => crate::pool::spoken(std::time::Duration::from_millis(ms)),
    }
}

/// Cells of fixed width, so that lines that come later are aligned, too; status and duration to the right. Where the
/// terminal is too narrow, the tokens are left out first, then the model, then the duration.
fn columns(cells: &[String; 7], width: usize) -> String {
    let mut shown: Vec<usize> = (0..cells.len()).collect();
    let needed = |shown: &[usize]| shown.iter().map(|nth| WIDTHS[*nth] + 2).sum::<usize>() - 2;
    for left_out in [6, 3, 5] {
        if needed(&shown) > width {
            shown.retain(|nth| *nth != left_out);
        }
    }
    let cell = |nth: &usize| {
        let cell = cut(&cells[*nth], WIDTHS[*nth]);
        let padding = " ".repeat(WIDTHS[*nth].saturating_sub(cell.width()));
        if (4..6).contains(nth) { format!("{padding}{cell}") } else { format!("{cell}{padding}") }
    };
    shown.iter().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AccountLabel, HolderInfo, TokenSums};

    fn account(label: &str) -> AccountLabel {
        AccountLabel { id: "ac_1".into(), label: Some(label.into()), email: None }
    }

    fn attempt(label: &str, status: u16) -> AttemptRow {
        AttemptRow { account: account(label).into(), status: Some(status), ..AttemptRow::default() }
    }

    fn row() -> RequestRow {
        RequestRow {
            at: 6_012_000,
            agent: Some("claude".into()),
            holder: Some(HolderInfo { pid: 4711, program: None }.into()),
            account: Some(account("home").into()),
            model: Some("claude-sonnet-4-5".into()),
            status: Some(200),
            outcome: "ok".into(),
            duration_ms: 3200,
            tokens: Some(TokenSums { input: 12_000, output: 1_100, cached: 0, cache_written: 0 }),
            attempts: vec![attempt("home", 200)],
            ..RequestRow::default()
        }
    }

    #[test]
    fn a_request_is_one_line_with_its_attempts_below() {
        let output = Output::plain(80);
        let line = "01:40:12  claude 4711      home          claude-sonnet-4-5         200    3.2 s  12.0k→1.1k\n";
        let wide = Output::plain(110);
        assert_eq!(text(&row(), 7_000_000, &wide, true), line);
        // no cell is cut because the terminal is narrow
        assert_eq!(text(&row(), 7_000_000, &output, true), line.replace("  12.0k→1.1k", ""));
        assert_eq!(
            text(&row(), 7_000_000, &Output::plain(60), true),
            line.replace("  12.0k→1.1k", "").replace("claude-sonnet-4-5   ", "")
        );
        let titles = TITLES.map(str::to_owned);
        assert!([60, 80, 100].iter().all(|width| columns(&titles, *width).width() <= *width));
        let limited = AttemptRow {
            reason: Some("quota_exhausted".into()),
            scope: Some("account".into()),
            until: Some(17 * 3_600_000 + 6 * 60_000),
            ..attempt("work", 429)
        };
        let switched = RequestRow { attempts: vec![limited.clone(), attempt("home", 200)], ..row() };
        assert_eq!(
            text(&switched, 7_000_000, &wide, true),
            format!("{line}          work 429 quota until 17:06 → home 200\n")
        );
        let refused = RequestRow {
            account: None,
            status: Some(429),
            outcome: "refused".into(),
            reason: Some("every account is limited: work until 17:06, home is disabled".into()),
            attempts: vec![limited],
            tokens: None,
            ..row()
        };
        let shown = text(&refused, 7_000_000, &output, false);
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("-> refused by lessor: every account is limited"), "{shown}");
        assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
    }

    #[test]
    fn long_names_stay_distinct() {
        let shown = |label: &str| {
            text(&RequestRow { account: Some(account(label).into()), ..row() }, 7_000_000, &Output::plain(80), true)
        };
        assert_ne!(shown("christopher.montgomery@a.example"), shown("christopher.montgomery@b.example"));
    }

    #[test]
    fn names_from_outside_are_escaped_and_lines_fit() {
        let row = RequestRow {
            model: Some(("m\u{1b}[31m\nodel".to_owned() + &"x".repeat(300)).into()),
            outcome: "broken".into(),
            reason: Some("\u{7}".repeat(200)),
            ..row()
        };
        for width in [60, 80, 120] {
            let shown = text(&row, 7_000_000, &Output::plain(width), true);
            assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
            assert!(shown.lines().all(|line| line.width() <= width), "{shown}");
        }
    }
}
