//! `account usage`: quota windows with bars, resets and pace.

use std::thread;

use clap::Args;
use unicode_width::UnicodeWidthStr;

use crate::client::{Client, ClientError};
use crate::protocol::{AccountInfo, AccountRef, ListAccountsParams, UsageInfo};

use super::super::context::{self, Context};
use super::super::failure::Failure;
use super::super::output::{Output, Tint, clean};
use super::super::table::cut;
use super::super::{status, words};

/// `account usage`
#[derive(Debug, Args)]
pub(in crate::cli) struct Of {
    /// An id, a unique prefix of it, an email or a label [default: all of them]
    #[arg(value_name = "A")]
    account: Option<String>,
}

/// How many accounts are asked about at a time.
const AT_ONCE: usize = 8;
/// Letters of a bar.
const BAR: usize = 14;
/// The names of windows beyond this are cut.
const NAME: usize = 18;
/// Faster than this, a window is used up well before it starts anew.
const FAST: f64 = 1.15;

/// Asks as far as that is allowed, and prints what is known.
pub(super) fn usage(of: Of, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    if let Some(account) = of.account {
        let info = context.ask(|client| client.usage(AccountRef { account: account.clone() }))?;
        return output.result(&info, || account_text(&info, context::now(), output));
    }
    let accounts = context.ask(|client| client.accounts(ListAccountsParams::default()))?;
    let accounts = ask_all(accounts, context)?;
    output.result(&accounts, || {
        if accounts.is_empty() {
            return status::NO_ACCOUNTS.to_owned();
        }
        let now = context::now();
        accounts.iter().map(|info| account_text(info, now, output)).collect::<Vec<_>>().join("\n")
    })
}

/// Has all asked about, several at a time: a provider may take long.
fn ask_all(accounts: Vec<AccountInfo>, context: &Context) -> Result<Vec<AccountInfo>, Failure> {
    let socket = context.connect()?.socket().to_owned();
    let ask = |info: AccountInfo| -> Result<AccountInfo, ClientError> {
        let account = AccountRef { account: info.id.clone() };
        match Client::connect_at(&socket)?.usage(account) {
            // removed meanwhile
            Err(error) if error.kind() == Some("unknown_account") => Ok(info),
            asked => asked,
        }
    };
    let mut told = Vec::new();
    let mut left = accounts.into_iter().peekable();
    while left.peek().is_some() {
        let batch: Vec<AccountInfo> = left.by_ref().take(AT_ONCE).collect();
        let asked: Vec<Result<AccountInfo, ClientError>> = thread::scope(|scope| {
            let threads: Vec<_> = batch.into_iter().map(|info| scope.spawn(|| ask(info))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        for info in asked {
            told.push(info?);
        }
    }
    Ok(told)
}

fn account_text(info: &AccountInfo, now: u64, output: &Output) -> String {
    let plan = info.plan.clone().or_else(|| Some(status::tier(info.tier).to_owned()).filter(|tier| tier != "unknown"));
    let plan = plan.map(|plan| format!(", {}", clean(&plan))).unwrap_or_default();
    let head = format!("{} ({}{plan})", clean(status::name(info)), clean(&info.provider));
    let mut text = output.tint(Tint::Strong, &cut(&head, output.width)) + "\n";
    for window in info.usage.iter().filter(|window| !window.rate) {
        text += &window_line(window, now, output);
    }
    if info.usage.iter().all(|window| window.rate) {
        text += &line(&output.tint(Tint::Faint, "unknown so far"));
    }
    if let Some(why) = &info.usage_trouble {
        let why = format!("cannot be learnt now: {}", clean(why));
        text += &line(&output.tint(Tint::Warn, &cut(&why, output.width - 2)));
    }
    text
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
    let percent = format!("{:>3.0} %", window.utilization * 100.0);
    let reset = window.resets_at.map(|at| format!("new {}", words::until(now, at))).unwrap_or_default();
    let said = match (window.stale, window.pace) {
        (true, _) => format!("stale, {}", words::ago(now, window.as_of)),
        (false, Some(pace)) => pace_text(window, pace, now),
        (false, None) => String::new(),
    };
    let room = output.width.saturating_sub(2 + NAME + 2 + BAR + 2 + 5 + 2 + 13);
    let tail = format!("{reset:<13}{}", cut(&said, room));
    let name = name.clone() + &" ".repeat(NAME - name.width());
    line(format!("{name}  {}  {percent}  {tail}", output.tint(tint, &bar(window.utilization))).trim_end())
}

/// How fast it goes, and what that leads to.
fn pace_text(window: &UsageInfo, pace: f64, now: u64) -> String {
    let Some(resets_at) = window.resets_at else { return String::new() };
    if window.utilization >= 1.0 {
        return "used up".to_owned();
    }
    if pace < FAST {
        return format!("{pace:.1}×");
    }
    // what is left lasts, at this pace, so much of the time that is left
    let left = resets_at.saturating_sub(window.as_of) as f64;
    let passed = window.utilization / pace;
    let lasts = (1.0 - window.utilization) / window.utilization * passed / (1.0 - passed).max(f64::EPSILON) * left;
    let end = window.as_of.saturating_add(lasts as u64);
    format!("{pace:.1}×, out {}", words::until(now, end))
}

fn bar(used: f64) -> String {
    let full = ((used.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    // what is used is not shown as nothing, nor what is left
    let full = if used > 0.0 { full.max(1) } else { full };
    let full = if used < 1.0 { full.min(BAR - 1) } else { full };
    "█".repeat(full) + &"░".repeat(BAR - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: u64 = 3_600_000;

    fn window(name: &str, utilization: f64, resets_at: Option<u64>, pace: Option<f64>) -> UsageInfo {
        UsageInfo {
            window: name.into(),
            utilization,
            resets_at,
            as_of: 0,
            key: String::new(),
            rate: false,
            stale: false,
            pace,
        }
    }

    #[test]
    fn lines_say_how_full_until_when_and_how_fast() {
        let output = Output::plain(80);
        let said = |window: &UsageInfo| window_line(window, 0, &output);
        assert_eq!(
            said(&window("5h", 0.42, Some(2 * H), Some(0.7))),
            "  5h                  ██████░░░░░░░░   42 %  new in 2 h   0.7×\n"
        );
        // half is gone after a quarter of the time: the other half lasts as long again
        let fast = said(&window("5h", 0.5, Some(3 * H), Some(2.0)));
        assert!(fast.contains("2.0×, out in 60 min") || fast.contains("2.0×, out in 1 h"), "{fast}");
        assert!(said(&window("5h", 1.0, Some(H), Some(1.5))).contains("used up"));
        let stale = UsageInfo { stale: true, ..window("7d", 0.1, Some(H), Some(0.1)) };
        assert!(window_line(&stale, 3 * H, &output).contains("stale, 3 h ago"));
        for name in ["5h", "a-model-with-a-name-that-is-far-too-long-for-a-table", "漢字漢字漢字漢字漢字漢字漢字"]
        {
            for (used, pace) in [(0.0, None), (0.999, Some(3.3)), (12.0, Some(99.0))] {
                let line = said(&window(name, used, Some(160 * H), pace));
                assert!(line.width() <= 81, "{} {line}", line.width());
            }
        }
    }

    #[test]
    fn bars_are_never_empty_for_something_nor_full_for_less_than_all() {
        assert_eq!(bar(0.0), "░".repeat(BAR));
        assert!(bar(0.001).starts_with('█') && bar(0.999).ends_with('░'));
        assert_eq!((bar(1.0), bar(7.0)), ("█".repeat(BAR), "█".repeat(BAR)));
    }
}
