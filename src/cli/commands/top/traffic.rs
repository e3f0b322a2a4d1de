//! What the columns of requests and events show.

use super::cells::{Pieces, one};
use super::dashboard::{Dashboard, ended_at};
use super::look::Tone;
use super::names::Names;
use super::panel::ColumnField;
use crate::cli::ui::{account, clean, format};
use crate::protocol::{AttemptRow, EventInfo, RequestRow};

pub(super) fn of_request(row: &RequestRow, field: ColumnField, names: &Names) -> Pieces {
    match field {
        ColumnField::Time => one(&format::clock_with_seconds(ended_at(row)), Tone::Faint),
        ColumnField::Holder => one(&clean(&agent(row)), Tone::Strong),
        ColumnField::Result => {
            let (text, tone) = result(row);
            one(&text, tone)
        }
        ColumnField::Attempts => chain(row, names),
        ColumnField::Model => one(&clean(row.model.as_deref().unwrap_or_default()), Tone::Plain),
        ColumnField::Tokens => one(&tokens(row), Tone::Faint),
        ColumnField::Took => one(&took(row.duration_ms), Tone::Plain),
        ColumnField::Path => one(&clean(&row.path), Tone::Faint),
        _ => Vec::new(),
    }
}

/// The program and its pid, else the agent's name, else the label.
pub(super) fn agent(row: &RequestRow) -> String {
    let named = row.agent.as_deref().or(row.label.as_deref());
    match &row.holder {
        Some(holder) => {
            let program = holder.program.as_deref().or(named).unwrap_or("pid");
            format!("{program} {}", holder.pid)
        }
        None => named.unwrap_or_default().to_owned(),
    }
}

/// `200 ok`, `429 refused`, `cancelled`.
pub(super) fn result(row: &RequestRow) -> (String, Tone) {
    let tone = match &*row.outcome {
        "ok" => Tone::Good,
        "cancelled" => Tone::Faint,
        "broken" => Tone::Bad,
        _ => Tone::Warn,
    };
    let status = row.status.map(|status| format!("{status} ")).unwrap_or_default();
    (status + &clean(&row.outcome), tone)
}

/// The accounts that were tried, in order, and why each of them but the last was left: `work (quota) → home`.
fn chain(row: &RequestRow, names: &Names) -> Pieces {
    let mut pieces: Pieces = Vec::new();
    for (number, attempt) in row.attempts.iter().enumerate() {
        if number > 0 {
            pieces.push((" → ".to_owned(), Tone::Faint));
        }
        let name = names.get(&attempt.account.id, account::label(&attempt.account));
        pieces.push((clean(name), if attempt.reason.is_some() { Tone::Warn } else { Tone::Plain }));
        if let Some(why) = why(attempt) {
            pieces.push((format!(" ({why})"), Tone::Warn));
        }
    }
    if pieces.is_empty() {
        let answered = row.reason.as_deref().map_or_else(|| "no account".to_owned(), |why| clean(&format::short(why)));
        return one(&answered, Tone::Faint);
    }
    pieces
}

/// Why an attempt was refused, in a word.
pub(super) fn why(attempt: &AttemptRow) -> Option<String> {
    attempt.reason.as_deref().map(|reason| clean(&format::short(reason)))
}

/// `1.2k→340`: of the request, and of the response.
pub(super) fn tokens(row: &RequestRow) -> String {
    row.tokens.map(|sums| format!("{}→{}", thousands(sums.input), thousands(sums.output))).unwrap_or_default()
}

/// `950`, `1.2k`, `34k`, `1.2M`.
pub(super) fn thousands(count: u64) -> String {
    let scaled = |unit: u64| count as f64 / unit as f64;
    match count {
        0..=999 => count.to_string(),
        1_000..=9_949 => format!("{:.1}k", scaled(1_000)),
        9_950..=999_499 => format!("{:.0}k", scaled(1_000)),
        999_500..=9_949_999 => format!("{:.1}M", scaled(1_000_000)),
        _ => format!("{:.0}M", scaled(1_000_000)),
    }
}

/// `340 ms`, `1.2 s`, `3 min`.
pub(super) fn took(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=99_949 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min", (ms + 30_000) / 60_000),
    }
}

pub(super) fn of_event(dashboard: &Dashboard, event: &EventInfo, field: ColumnField, names: &Names) -> Pieces {
    match field {
        ColumnField::Time => one(&format::clock_with_seconds(event.at), Tone::Faint),
        ColumnField::What => {
            let (mark, text, tone) = event_text(event, dashboard.now, names);
            vec![(format!("{mark} "), tone), (text, Tone::Plain)]
        }
        _ => Vec::new(),
    }
}

/// A mark, what happened in one line, and its tone.
pub(super) fn event_text(event: &EventInfo, now: u64, names: &Names) -> (&'static str, String, Tone) {
    let account =
        event.account.as_ref().map(|label| clean(names.get(&label.id, account::label(label)))).unwrap_or_default();
    let holder = holder_of_event(event);
    let reason = event.reason.as_deref().map(|reason| clean(&format::short(reason)));
    let until = event.until.map(|at| format!(" {}", format::until_clock(now, at))).unwrap_or_default();
    let of = event
        .key
        .as_deref()
        .filter(|key| !key.is_empty())
        .map(|key| format!(" for {}", clean(account::quota_name(key))));
    let of = of.unwrap_or_default();
    let because = reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match event.kind.as_str() {
        "lease.granted" => ("+", format!("{holder} has {account}"), Tone::Good),
        "lease.ended" => ("–", format!("{holder} returned {account}{because}"), Tone::Faint),
        "lease.revoked" => ("!", format!("{holder} lost {account}{because}"), Tone::Bad),
        "lease.moved" => {
            let from =
                event.from.as_ref().map(|label| clean(names.get(&label.id, account::label(label)))).unwrap_or_default();
            let why = match (&reason, event.until) {
                (_, Some(_)) => format!(", {from} limited{until}"),
                (Some(why), None) => format!(": {why}"),
                (None, None) => String::new(),
            };
            ("→", format!("{holder}: {from} → {account}{why}"), Tone::Warn)
        }
        "account.limited" => ("○", format!("{account} limited{of}{because}{until}"), Tone::Warn),
        "account.ready" => ("●", format!("{account} free again{of}"), Tone::Good),
        "account.changed" => {
            let state = event
                .state
                .as_deref()
                .map_or_else(|| "changed".to_owned(), |state| format!("now {}", format::spaced(state)));
            ("·", format!("{account} {}", clean(&state)), Tone::Plain)
        }
        "config.reloaded" => ("·", "configuration reloaded".to_owned(), Tone::Plain),
        "config.rejected" => ("!", format!("configuration rejected{because}"), Tone::Bad),
        other => ("·", format!("{} {account}{of}{because}", clean(other)), Tone::Plain),
    }
}

/// The holder of a lease: program and pid, else what it is called.
fn holder_of_event(event: &EventInfo) -> String {
    let named = event.label.as_ref().or(event.agent.as_ref()).or(event.session.as_ref());
    let text = match &event.holder {
        Some(holder) => {
            let program = holder.program.as_ref().or(event.agent.as_ref()).map_or("pid", String::as_str);
            format!("{program} {}", holder.pid)
        }
        None => named.cloned().or_else(|| Some(format!("lease #{}", event.fence?))).unwrap_or_default(),
    };
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_200, "1.2k"),
            (9_960, "10k"),
            (34_400, "34k"),
            (1_234_000, "1.2M"),
            (99_000_000, "99M"),
        ] {
            assert_eq!(thousands(count), expected);
        }
        for (ms, expected) in [(3, "3 ms"), (1_240, "1.2 s"), (99_000, "99.0 s"), (180_000, "3 min")] {
            assert_eq!(took(ms), expected);
        }
    }
}
