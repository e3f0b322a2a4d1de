//! Groups and leases as CSV (RFC 4180), safe to open in a spreadsheet.

use crate::cli::ui;
use crate::protocol::{HistoryGroup, PastLease};

/// The groups, one a line below a header.
pub(super) fn groups(by: &str, groups: &[HistoryGroup]) -> String {
    let mut text = line(&[
        by,
        "requests",
        "ok",
        "refused",
        "broken",
        "cancelled",
        "attempts",
        "limited",
        "waited_ms",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "cache_written_tokens",
        "cost_usd",
    ]);
    for group in groups {
        let sums = &group.sums;
        let numbers = [
            sums.requests,
            sums.ok,
            sums.refused,
            sums.broken,
            sums.cancelled,
            sums.attempts,
            sums.limited,
            sums.waited_ms,
            sums.tokens.input,
            sums.tokens.output,
            sums.tokens.cached,
            sums.tokens.cache_written,
        ];
        let name = group.at.map_or_else(|| group.name.clone(), time);
        let numbers = numbers.iter().map(u64::to_string);
        let cells: Vec<String> = [name].into_iter().chain(numbers).chain([format!("{:.6}", sums.cost_usd)]).collect();
        text += &line(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// The leases, one a line below a header.
pub(super) fn leases(leases: &[PastLease]) -> String {
    let mut text = line(&[
        "granted",
        "ended",
        "lease",
        "account",
        "provider",
        "model",
        "agent",
        "pid",
        "program",
        "directory",
        "session",
        "label",
        "reason",
    ]);
    for lease in leases {
        let pid = lease.holder.as_ref().map(|holder| holder.pid.to_string()).unwrap_or_default();
        let program = lease.holder.as_ref().and_then(|holder| holder.program.as_deref());
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        text += &line(&[
            &time(lease.granted_at),
            &time(lease.ended_at),
            &lease.lease,
            ui::account::label(&lease.account),
            &lease.provider,
            &optional(&lease.model),
            &optional(&lease.agent),
            &pid,
            program.unwrap_or_default(),
            &optional(&lease.directory),
            &optional(&lease.session),
            &optional(&lease.label),
            &lease.reason,
        ]);
    }
    text
}

/// A time with its offset, as in 2026-11-30T01:40:00+01:00.
fn time(at: u64) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let zone = if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    at.map(|at| at.to_zoned_datetime(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()).unwrap_or_default()
}

fn line(cells: &[&str]) -> String {
    cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(",") + "\r\n"
}

/// A cell: quoted where needed; a text that a spreadsheet would take for a formula begins with an apostrophe.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formula_is_left() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=SUM(A1)", "'=SUM(A1)"),
            ("=1,2", "\"'=1,2\""),
            ("@x", "'@x"),
            ("-1", "'-1"),
            ("+1", "'+1"),
            ("\tx", "'\tx"),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }

    #[test]
    fn each_group_is_a_line_with_as_many_cells_as_the_header() {
        let named = HistoryGroup { name: "work".into(), ..HistoryGroup::default() };
        let hour = HistoryGroup { at: Some(3_600_000), ..HistoryGroup::default() };
        let text = groups("hour", &[named, hour]);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.matches(',').count() == 13), "{text}");
        assert!(lines[1].starts_with("work,0,"), "{text}");
        assert!(lines[2].starts_with("1970-01-01T01:00:00+00:00,0,"), "{text}");
    }
}
