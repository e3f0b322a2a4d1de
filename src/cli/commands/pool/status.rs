//! `pool status`.

use super::database::in_short;
use super::hosts;
use super::init::roles;
use super::settings::rules_in_words;
use crate::cli::ui::{Column, Output, Table, Tint, account, clean, format, pool};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::protocol::{PoolSeatsInfo, PoolStatusInfo};

pub(super) fn status(context: &Context) -> Result<(), CliError> {
    let status = context.ask(Client::pool_status)?;
    context.output.result(&status, || text(&status, format::now(), &context.output))
}

fn text(status: &PoolStatusInfo, now: u64, output: &Output) -> String {
    let name = status.summary.name.as_deref().unwrap_or("this host");
    let roles = roles(status.admin, status.refresher);
    let mut text = pool::line(&status.summary, now, output);
    let database = clean(&in_short(&status.url));
    // they are not known while the database is away
    let rules = match status.settings.per_account {
        0 => String::new(),
        _ => format!(" · {}", rules_in_words(&status.settings)),
    };
    let line = format!("{database} · this host is {} ({roles}){rules}", clean(name));
    text += &output.prose(&(output.tint(Tint::Faint, &line) + "\n"));
    if status.own_accounts > 0 {
        let own = format::count(usize::try_from(status.own_accounts).unwrap_or(usize::MAX), "account");
        let line = format!("{own} of this host not shared; to share them: lessor pool migrate\n");
        text += &output.prose(&output.tint(Tint::Faint, &line));
    }
    if !status.hosts.is_empty() {
        text = text + "\n" + &hosts::table(&status.hosts, now, output);
    }
    if !status.seats.is_empty() {
        text = text + "\n" + &seats_table(&status.seats, output);
    }
    if !status.warnings.is_empty() {
        text += "\n";
    }
    text + &status.warnings.iter().map(|why| output.labelled(Tint::Warn, "warning:", &clean(why))).collect::<String>()
}

fn seats_table(seats: &[PoolSeatsInfo], output: &Output) -> String {
    let mut table = Table::new(&[
        Column::name("ACCOUNT"),
        Column::name("HOST"),
        Column::number("SEATS"),
        Column::number("BY HANDED-OUT TOKENS"),
    ]);
    for row in seats {
        let taken = if row.handed_out == 0 { String::new() } else { row.handed_out.to_string() };
        table.row(vec![
            (account::label(&row.account).to_owned(), None),
            (row.host.clone(), Some(Tint::Strong)),
            (row.seats.to_string(), None),
            (taken, Some(Tint::Faint)),
        ]);
    }
    table.render(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AccountLabel, PoolHostInfo, PoolRulesInfo, PoolSummaryInfo};

    #[test]
    fn the_status_shows_connection_hosts_seats_and_warnings() {
        let seats = PoolSeatsInfo {
            account: AccountLabel { id: "ac_1".into(), label: Some("work".into()), email: None },
            host: "ci-1".into(),
            seats: 2,
            handed_out: 1,
        };
        let status = PoolStatusInfo {
            pool: "1".into(),
            url: "postgres://lessor@db.example/lessor".into(),
            summary: PoolSummaryInfo {
                state: "connected".into(),
                name: Some("ci-1".into()),
                hosts: 2,
                online: 1,
                refreshers: 0,
                accounts: 3,
                seats: 2,
                ..PoolSummaryInfo::default()
            },
            admin: true,
            settings: PoolRulesInfo { per_account: 2, overflow: "wait".into(), ..PoolRulesInfo::default() },
            hosts: vec![PoolHostInfo { name: "ci-1".into(), state: "online".into(), seats: 2, ..Default::default() }],
            seats: vec![seats],
            own_accounts: 1,
            warnings: vec!["no refresher is online".into()],
            ..PoolStatusInfo::default()
        };
        let text = text(&status, 0, &Output::plain(140));
        for part in [
            "pool: connected as ci-1, 1 of 2 hosts online, no refresher online · 3 accounts shared, seats 2 here, 0 elsewhere\n",
            "db.example/lessor · this host is ci-1 (admin) · an account takes 2 leases on all hosts together;",
            "1 account of this host not shared; to share them: lessor pool migrate\n",
            "HOST  ROLES",
            "work     ci-1      2                     1\n",
            "warning: no refresher is online\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
