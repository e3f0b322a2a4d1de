//! The filters that `history` and `requests` share, and times as a user writes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::civil::{Date, Time};
use jiff::{Timestamp, ToSpan, ZonedDateTime, tz::TimeZone};

use crate::cli::error::CliError;
use crate::config::duration;
use crate::pool::model_matches;
use crate::protocol::{AccountLabel, HistoryParams, RequestRow};

/// What a time may be, for messages.
const TIMES: &str =
    "a duration back from now (2h, 30m, 7d), a clock time (01:30) or a date (2026-11-30, \"2026-11-30 01:30\")";

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HistoryFilterArgs {
    /// From then on: a duration, a clock time or a date, as in 2h, 01:30 or 2026-11-30 [default: 24h]
    #[arg(long, value_name = "TIME", display_order = 1)]
    pub(crate) since: Option<String>,
    /// Before then
    #[arg(long, value_name = "TIME", display_order = 2)]
    pub(crate) until: Option<String>,
    /// Only what used this account
    #[arg(long, short, value_name = "A", display_order = 3)]
    account: Option<String>,
    /// Only of this provider
    #[arg(long, short, value_name = "P", display_order = 4)]
    provider: Option<String>,
    /// Only of this model; `*` stands for any characters
    #[arg(long, short, value_name = "M", display_order = 5)]
    model: Option<String>,
    /// Only of this agent
    #[arg(long, value_name = "NAME", display_order = 6)]
    agent: Option<String>,
    /// Only of agents that run in this directory, or below it
    #[arg(long, value_name = "DIR", display_order = 7)]
    dir: Option<PathBuf>,
    /// Only of this session
    #[arg(long, value_name = "ID", display_order = 8)]
    session: Option<String>,
    /// Only requests with this result: 429, 5xx, ok, refused, broken, cancelled or limited
    #[arg(long, value_name = "S", display_order = 9)]
    status: Option<String>,
}

impl HistoryFilterArgs {
    /// The query; `now` in epoch ms.
    pub(in crate::cli::commands) fn params(&self, now: u64) -> Result<HistoryParams, CliError> {
        let time = |option: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(|text| parse_time(text, now, &TimeZone::system()));
            parsed.transpose().map_err(|why| CliError::usage(format!("{option} {why}")))
        };
        let (since, until) = (time("--since", &self.since)?, time("--until", &self.until)?);
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err(CliError::usage("--since is not before --until"));
        }
        Ok(HistoryParams {
            since,
            until,
            account: self.account.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            agent: self.agent.clone(),
            directory: self.dir.as_deref().map(absolute),
            session: self.session.clone(),
            status: self.status.clone(),
            ..HistoryParams::default()
        })
    }
}

/// The time of `--since`, epoch ms.
pub(in crate::cli::commands) fn since_time(text: &str, now: u64) -> Result<u64, CliError> {
    parse_time(text, now, &TimeZone::system()).map_err(|why| CliError::bad_request(format!("--since {why}")))
}

/// Whether a request that has just ended matches a query, as the daemon decides it.
pub(in crate::cli::commands) fn matches(params: &HistoryParams, row: &RequestRow) -> bool {
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    let is_account = |wanted: &String| {
        let accounts = row.account.iter().chain(row.attempts.iter().map(|attempt| &attempt.account));
        let named = |account: &Arc<AccountLabel>| {
            account.id.starts_with(wanted.as_str())
                || account.label.as_ref() == Some(wanted)
                || account.email.as_ref() == Some(wanted)
        };
        accounts.into_iter().any(named)
    };
    let is_below = |wanted: &String| row.directory.as_deref().is_some_and(|found| Path::new(found).starts_with(wanted));
    let has_status = |wanted: &String| match (wanted.as_str(), row.status) {
        ("limited", _) => row.attempts.iter().any(|attempt| attempt.met_limit()),
        (class, Some(status)) if class.ends_with("xx") => class.trim_end_matches('x') == (status / 100).to_string(),
        (other, status) => row.outcome == other || status.is_some_and(|status| status.to_string() == other),
    };
    is(&params.provider, Some(&row.provider))
        && is(&params.agent, row.agent.as_deref())
        && is(&params.session, row.session.as_deref())
        && params.account.as_ref().is_none_or(is_account)
        && params.directory.as_ref().is_none_or(is_below)
        && params.status.as_ref().is_none_or(has_status)
        && params
            .model
            .as_ref()
            .is_none_or(|wanted| row.model.as_ref().is_some_and(|model| model_matches(wanted, model)))
}

/// The path as the daemon knows it: real, or at least absolute.
fn absolute(path: &Path) -> String {
    let real = path.canonicalize().or_else(|_| std::path::absolute(path));
    real.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// A time in epoch ms: a duration back from now, a clock time, a date, or both.
fn parse_time(text: &str, now: u64, zone: &TimeZone) -> Result<u64, String> {
    let text = text.trim();
    let wrong = || format!("is {text:?}; allowed: {TIMES}");
    if let Ok(back) = duration::parse(text) {
        return Ok(now.saturating_sub(crate::pool::millis(back)));
    }
    let now = i64::try_from(now).ok().and_then(|now| Timestamp::from_millisecond(now).ok()).ok_or_else(wrong)?;
    let now = now.to_zoned_datetime(zone.clone());
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (Some(date), Some(time)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let date = date.map(|date| date.trim().parse::<Date>().map_err(|_| wrong())).transpose()?;
    let time = time.map(|time| time.trim().parse::<Time>().map_err(|_| wrong())).transpose()?;
    let at = now.with().date(date.unwrap_or_else(|| now.date())).time(time.unwrap_or(Time::midnight())).build();
    let mut at: ZonedDateTime = at.map_err(|_| wrong())?;
    // a clock time is the last one that has passed
    if date.is_none() && at > now {
        at = at.checked_sub(1.day()).map_err(|_| wrong())?;
    }
    u64::try_from(at.timestamp().as_millisecond()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AttemptRow;

    #[test]
    fn times_are_durations_clock_times_and_dates() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // 2026-11-30 02:00 in Berlin
        let now = 1_796_000_400_000;
        let hour = 3_600_000;
        for (text, expected) in [
            ("2h", now - 2 * hour),
            ("01:30", now - hour / 2),
            ("01:30:30", now - hour / 2 + 30_000),
            ("02:30", now - 23 * hour - hour / 2),
            ("2026-11-30", now - 2 * hour),
            ("2026-11-29", now - 26 * hour),
            ("2026-11-30 01:00", now - hour),
            ("2026-11-30T01:00", now - hour),
        ] {
            assert_eq!(parse_time(text, now, &zone), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "25:00", "2026-13-01", "-1h", "10"] {
            assert!(parse_time(text, now, &zone).unwrap_err().contains("allowed"), "{text}");
        }
    }

    #[test]
    fn a_live_request_matches_as_in_the_daemon() {
        let text = |text: &str| Some(text.to_owned());
        let account = |id: &str, label: &str| AccountLabel { id: id.into(), label: text(label), email: None };
        let limited =
            AttemptRow { account: account("ac_12", "work").into(), scope: text("account"), ..AttemptRow::default() };
        let row = RequestRow {
            provider: "anthropic".into(),
            account: Some(account("ac_34", "home").into()),
            attempts: vec![limited],
            model: text("claude-opus-5").map(Into::into),
            directory: text("/work/a").map(Into::into),
            status: Some(200),
            outcome: "ok".into(),
            ..RequestRow::default()
        };
        let none = HistoryParams::default();
        for (params, expected) in [
            (none.clone(), true),
            (HistoryParams { account: text("work"), ..none.clone() }, true),
            (HistoryParams { account: text("ac_34"), ..none.clone() }, true),
            (HistoryParams { account: text("other"), ..none.clone() }, false),
            (HistoryParams { model: text("claude-*"), ..none.clone() }, true),
            (HistoryParams { model: text("gpt-*"), ..none.clone() }, false),
            (HistoryParams { directory: text("/work"), ..none.clone() }, true),
            (HistoryParams { directory: text("/wor"), ..none.clone() }, false),
            (HistoryParams { status: text("2xx"), ..none.clone() }, true),
            (HistoryParams { status: text("limited"), ..none.clone() }, true),
            (HistoryParams { status: text("429"), ..none.clone() }, false),
            (HistoryParams { agent: text("claude"), ..none }, false),
        ] {
            assert_eq!(matches(&params, &row), expected, "{params:?}");
        }
    }
}
