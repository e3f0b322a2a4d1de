//! `status`: accounts, leases, queue, daemon and warnings.

use std::time::Duration;

use crate::cli::ui::{self, Column, Output, Table, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{DaemonStatus, ListAccountsParams, QueueRow};
use crate::{client::Client, pool::spoken};

pub(super) fn execute(context: &Context) -> Result<(), CliError> {
    if context.output.json {
        return context.output.document(&context.ask(Client::status)?);
    }
    let (status, accounts, leases) = context
        .ask(|client| Ok((client.status()?, client.accounts(ListAccountsParams::default())?, client.leases()?)))?;
    let (now, output) = (format::now(), &context.output);
    let mut text = ui::account::table(&accounts, now, output);
    if !leases.is_empty() {
        text = text + "\n" + &ui::lease::table(&leases, now, output);
    }
    if !status.queue.is_empty() {
        text = text + "\n" + &queue_table(&status.queue, now, output);
    }
    text = text + "\n" + &daemon_line(&status, leases.len(), output) + &gateway_line(&status, output);
    output.text(&(text + &warnings(&status, output)))
}

fn queue_table(queue: &[QueueRow], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::number("WAITING"),
        Column::flexible("PROVIDER", 8),
        Column::flexible("MODEL", 8),
        Column::flexible("LABEL", 8),
        Column::fixed("SERVED"),
    ]);
    for row in queue {
        table.row(vec![
            (row.position.to_string(), None),
            (row.provider.clone(), None),
            (row.model.clone().unwrap_or_default(), None),
            (row.label.clone().unwrap_or_default(), None),
            (row.eta_at.map_or_else(|| "when one is free".to_owned(), |at| format::until(now, at)), None),
        ]);
    }
    table.render(output)
}

fn daemon_line(status: &DaemonStatus, leases: usize, output: &Output) -> String {
    let up = spoken(Duration::from_millis(status.uptime_ms));
    let waiting = status.queue.len();
    let waiting = if waiting == 0 { String::new() } else { format!(", {waiting} waiting") };
    let leases = format::count(leases, "lease");
    let line = format!("{leases}{waiting} · lessor {}, pid {}, up {up}", status.version, status.pid);
    output.prose(&output.tint(Tint::Faint, &line)) + "\n"
}

fn gateway_line(status: &DaemonStatus, output: &Output) -> String {
    let url = status.gateway.as_ref().and_then(|gateway| gateway.url.as_deref());
    url.map_or_else(String::new, |url| output.tint(Tint::Faint, &format!("gateway {url}")) + "\n")
}

/// The warnings, at the end where they are seen; a rejected configuration comes first.
fn warnings(status: &DaemonStatus, output: &Output) -> String {
    let rejected = status.config.error.iter();
    let rejected = rejected.map(|error| format!("config rejected, the old one is used: {}", beginning(error)));
    let clean_lines = |text: String| text.lines().map(clean).collect::<Vec<_>>().join("\n  ");
    let all = rejected.chain(status.warnings.iter().cloned());
    all.map(|text| output.labelled(Tint::Warn, "warning:", &clean_lines(text))).collect()
}

/// The first lines of an error that may be long.
fn beginning(error: &str) -> String {
    const MOST_LINES: usize = 9;
    let shown: Vec<&str> = error.lines().take(MOST_LINES).collect();
    let more = if error.lines().count() > MOST_LINES { "\n… all of it: lessor config check" } else { "" };
    shown.join("\n") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountTotals;

    #[test]
    fn the_daemon_has_one_line_and_each_warning_one() {
        let status = serde_json::json!({
            "version": "0.1.0", "pid": 7, "uptime_ms": 240_000, "socket": "/s", "leases": 1, "queue": [],
            "config": { "path": "/c", "state": "rejected", "error": "line 3: bad" },
            "accounts": AccountTotals::default(), "warnings": ["the disk is full"]
        });
        let status: DaemonStatus = serde_json::from_value(status).unwrap();
        assert_eq!(daemon_line(&status, 1, &Output::plain(80)), "1 lease · lessor 0.1.0, pid 7, up 4 min\n");
        assert_eq!(
            warnings(&status, &Output::plain(80)),
            "warning: config rejected, the old one is used: line 3: bad\nwarning: the disk is full\n"
        );
    }

    #[test]
    fn a_long_error_of_the_configuration_is_cut() {
        let lines = |count: usize| vec!["c:1:1: bad"; count].join("\n");
        assert_eq!(beginning(&lines(9)), lines(9));
        assert_eq!(beginning(&lines(63)), lines(9) + "\n… all of it: lessor config check");
    }
}
