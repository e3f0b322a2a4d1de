//! `account usage`: quota windows with bars, resets and pace.

use std::thread;

use clap::Args;
use unicode_width::UnicodeWidthStr;

use crate::cli::ui::{Output, Tint, account, clean, cut, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::protocol::{AccountInfo, AccountRef, ErrorKind, ListAccountsParams, UsageInfo};
use crate::usage::is_reported;

#[derive(Debug, Args)]
pub(crate) struct AccountUsageArgs {
    /// An id, a unique prefix of it, an email address or a label [default: all accounts]
    #[arg(value_name = "A")]
    account: Option<String>,
}

const PARALLEL: usize = 8;
const BAR: usize = 12;
const NAME: usize = 15;
const RESET: usize = 25;
/// At a faster pace, a window is used up well before it resets.
const FAST: f64 = 1.15;

pub(super) fn usage(args: AccountUsageArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    if let Some(account) = args.account {
        let info = context.ask(|client| client.usage(AccountRef { account: account.clone() }))?;
        return output.result(&info, || account_text(&info, format::now(), output));
    }
    let accounts = context.ask(|client| client.accounts(ListAccountsParams::default()))?;
    let accounts = ask_all(accounts, context)?;
    output.result(&accounts, || {
        if accounts.is_empty() {
            return account::none(output);
        }
        let now = format::now();
        accounts.iter().map(|info| account_text(info, now, output)).collect::<Vec<_>>().join("\n")
    })
}

/// Asks for all accounts, several at the same time, because a provider may be slow.
fn ask_all(accounts: Vec<AccountInfo>, context: &Context) -> Result<Vec<AccountInfo>, CliError> {
    let socket = context.connect()?.socket().to_owned();
    let ask = |info: AccountInfo| -> Result<AccountInfo, ClientError> {
        let account = AccountRef { account: info.id.clone() };
        match Client::connect_at(&socket)?.usage(account) {
            // it was removed in the meantime
            Err(error) if error.kind() == Some(&ErrorKind::UnknownAccount) => Ok(info),
            result => result,
        }
    };
    let mut known = Vec::new();
    let mut left = accounts.into_iter().peekable();
    while left.peek().is_some() {
        let batch: Vec<AccountInfo> = left.by_ref().take(PARALLEL).collect();
        let batch: Vec<Result<AccountInfo, ClientError>> = thread::scope(|scope| {
            let threads: Vec<_> = batch.into_iter().map(|info| scope.spawn(|| ask(info))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        for info in batch {
            known.push(info?);
        }
    }
    Ok(known)
}

pub(super) fn account_text(info: &AccountInfo, now: u64, output: &Output) -> String {
    let plan = info.plan.clone().or_else(|| Some(account::tier(info.tier).to_owned()).filter(|tier| tier != "unknown"));
    let plan = plan.map(|plan| format!(", {}", clean(&plan))).unwrap_or_default();
    let head = format!("{} ({}{plan})", clean(account::name(info)), clean(&info.provider));
    let mut text = output.tint(Tint::Strong, &cut(&head, output.width)) + "\n" + &windows_text(info, now, output);
    match account::reading_note(info, now) {
        Some(note) => text += &output.prose(&line(&output.tint(Tint::Warn, &clean(&note)))),
        None if info.usage.iter().all(|window| window.rate) => {
            text += &output.prose(&line(&output.tint(Tint::Faint, &unread(info))));
        }
        None => {}
    }
    if let Some(resets) = account::banked_resets_with_command(info, now) {
        text += &output.prose(&line(&clean(&resets)));
    }
    text
}

/// The quota windows, a line each.
pub(super) fn windows_text(info: &AccountInfo, now: u64, output: &Output) -> String {
    let mut text = String::new();
    for (pool, windows) in account::pools(info) {
        let (used, unused): (Vec<&UsageInfo>, Vec<&UsageInfo>) =
            windows.into_iter().partition(|window| window.utilization > 0.0);
        text.extend(pool.map(|pool| line(&clean(pool))));
        used.iter().for_each(|window| text += &window_line(window, now, output));
        if !unused.is_empty() {
            let names: Vec<String> = unused.iter().map(|window| clean(&window.window)).collect();
            text += &output.prose(&line(&output.tint(Tint::Faint, &format!("nothing used of {}", names.join(", ")))));
        }
    }
    text
}

/// Why there is no reading.
fn unread(info: &AccountInfo) -> String {
    match info.kind {
        kind if !is_reported(&info.provider, info.api_kind()) => {
            let what = if info.resource.is_some() { "login for its public API" } else { account::kind(kind) };
            format!("not known: {} reports no usage of a {what}", clean(&info.provider))
        }
        _ if info.state == "ready" => "no reading yet".to_owned(),
        _ => format!("no reading yet: {}", account::state(info)),
    }
}

fn line(text: &str) -> String {
    format!("  {text}\n")
}

fn window_line(window: &UsageInfo, now: u64, output: &Output) -> String {
    let tint = match window.utilization {
        _ if window.stale => Tint::Faint,
        used if used >= 0.9 => Tint::Bad,
        used if used >= 0.7 => Tint::Warn,
        _ => Tint::Good,
    };
    let name = cut(&clean(&window.window), NAME);
    let percent = format!("{:>5}", account::percent(window.utilization));
    let reset = window.resets_at.map(|at| format!("resets {}", format::clock_and_span(now, at))).unwrap_or_default();
    let note = match (window.stale, window.pace) {
        (true, _) => format!("stale, {}", format::ago(now, window.as_of)),
        (false, Some(pace)) => pace_text(window, pace, now),
        (false, None) => String::new(),
    };
    let room = output.width.saturating_sub(2 + NAME + 2 + BAR + 2 + 5 + 2 + RESET);
    let tail = format!("{reset:<RESET$}{}", cut(&note, room));
    let name = name.clone() + &" ".repeat(NAME - name.width());
    line(format!("{name}  {}  {percent}  {tail}", output.tint(tint, &bar(window.utilization))).trim_end())
}

fn pace_text(window: &UsageInfo, pace: f64, now: u64) -> String {
    let Some(resets_at) = window.resets_at else { return String::new() };
    if window.utilization >= 1.0 {
        return "used up".to_owned();
    }
    if pace < FAST {
        return format!("{pace:.1}×");
    }
    // how long the rest lasts at this pace
    let left = resets_at.saturating_sub(window.as_of) as f64;
    let passed = window.utilization / pace;
    let lasts = (1.0 - window.utilization) / window.utilization * passed / (1.0 - passed).max(f64::EPSILON) * left;
    let end = window.as_of.saturating_add(lasts as u64);
    format!("{pace:.1}×, used up {}", format::clock_and_span(now, end))
}

fn bar(used: f64) -> String {
    let full = ((used.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    // a little used is not shown as nothing, and a little left not as full
    let full = if used > 0.0 { full.max(1) } else { full };
    let full = if used < 1.0 { full.min(BAR - 1) } else { full };
    "█".repeat(full) + &"░".repeat(BAR - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: u64 = 3_600_000;

    fn window(name: &str, utilization: f64, resets_at: Option<u64>, pace: Option<f64>) -> UsageInfo {
        let window = serde_json::json!({
            "window": name, "utilization": utilization, "resets_at": resets_at, "as_of": 0, "key": "", "rate": false,
            "stale": false, "pace": pace
        });
        serde_json::from_value(window).unwrap()
    }

    #[test]
    fn a_line_shows_use_reset_and_pace() {
        let output = Output::plain(80);
        let line = |window: &UsageInfo| window_line(window, 0, &output);
        assert_eq!(
            line(&window("5h", 0.42, Some(2 * H), Some(0.7))),
            "  5h               █████░░░░░░░   42 %  resets 02:00, in 2 h     0.7×\n"
        );
        // half is used after a quarter of the time: the other half lasts as long
        let fast = line(&window("5h", 0.5, Some(3 * H), Some(2.0)));
        assert!(fast.contains("2.0×, used up"), "{fast}");
        assert!(line(&window("5h", 1.0, Some(H), Some(1.5))).contains("used up"));
        let stale = UsageInfo { stale: true, ..window("7d", 0.1, Some(H), Some(0.1)) };
        assert!(window_line(&stale, 3 * H, &output).contains("stale, 3 h ago"));
        for name in ["5h", "a-model-with-a-name-that-is-far-too-long-for-a-table", "漢字漢字漢字漢字漢字漢字漢字"]
        {
            for (used, pace) in [(0.0, None), (0.999, Some(3.3)), (12.0, Some(99.0))] {
                let text = line(&window(name, used, Some(160 * H), pace));
                assert!(text.width() <= 81, "{} {text}", text.width());
            }
        }
    }

    #[test]
    fn a_bar_is_empty_only_at_zero_and_full_only_at_one() {
        assert_eq!(bar(0.0), "░".repeat(BAR));
        assert!(bar(0.001).starts_with('█') && bar(0.999).ends_with('░'));
        assert_eq!((bar(1.0), bar(7.0)), ("█".repeat(BAR), "█".repeat(BAR)));
    }
}
