//! The shared pool as text: the line that `status` and `pool status` show, and the seats of other hosts.

use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::{account, format};
use crate::protocol::{AccountInfo, PoolSummaryInfo};

/// The pool in one line, and below it what is wrong.
pub(crate) fn line(pool: &PoolSummaryInfo, now: u64, output: &Output) -> String {
    let name = pool.name.as_ref().map(|name| format!(" as {}", clean(name))).unwrap_or_default();
    let (tint, state) = match pool.state.as_str() {
        "connected" => (Tint::Good, format!("connected{name}")),
        "connecting" => (Tint::Warn, "connecting".to_owned()),
        "away" => (Tint::Warn, "the database cannot be reached".to_owned()),
        "refused" => (Tint::Bad, "the database refuses this host".to_owned()),
        "evicted" => (
            Tint::Bad,
            match &pool.name {
                Some(name) => format!("this host, {}, was evicted", clean(name)),
                None => "this host was evicted".to_owned(),
            },
        ),
        "not_joined" => (Tint::Bad, "this host has not joined it; to join: lessor pool join".to_owned()),
        other => (Tint::Warn, clean(&format::spaced(other))),
    };
    let mut text = format!("{} {state}", output.tint(tint, "pool:"));
    // what it knew of the others is of the past
    let is_out = pool.state == "evicted";
    if pool.hosts > 0 && !is_out {
        let hosts = format::count(usize::try_from(pool.hosts).unwrap_or(usize::MAX), "host");
        let refreshers = match pool.refreshers {
            0 => "no refresher".to_owned(),
            number => format::count(usize::try_from(number).unwrap_or(usize::MAX), "refresher"),
        };
        let accounts = format::count(usize::try_from(pool.accounts).unwrap_or(usize::MAX), "account");
        text += &format!(
            ", {} of {hosts} online, {refreshers} online · {accounts} shared, seats {} here, {} elsewhere",
            pool.online, pool.seats, pool.elsewhere
        );
    }
    if let Some(until) = pool.seats_until.filter(|_| pool.state != "connected" && !is_out) {
        text += &match until <= now {
            true => " · seats have ended".to_owned(),
            false => format!(" · seats end {}", format::clock_and_span(now, until)),
        };
    }
    let mut text = output.prose(&text) + "\n";
    if let Some(trouble) = &pool.trouble {
        text += &output.prose(&format!("  {}\n", clean(trouble)));
    }
    text
}

/// The seats of other hosts, by host and account; empty if there are none.
pub(crate) fn elsewhere(accounts: &[AccountInfo], output: &Output) -> String {
    let mut rows: Vec<(&str, &str, u64)> = accounts
        .iter()
        .flat_map(|info| info.elsewhere.iter().map(|held| (held.host.as_str(), account::name(info), held.seats)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_unstable();
    let mut table = Table::new(&[Column::name("OTHER HOST"), Column::name("ACCOUNT"), Column::number("SEATS")]);
    for (host, account, seats) in rows {
        table.row(vec![(host.to_owned(), Some(Tint::Strong)), (account.to_owned(), None), (seats.to_string(), None)]);
    }
    table.render(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_the_pool_is_and_what_mends_it() {
        let pool = PoolSummaryInfo {
            state: "connected".into(),
            name: Some("ci-1".into()),
            hosts: 3,
            online: 2,
            refreshers: 1,
            accounts: 8,
            seats: 4,
            elsewhere: 5,
            seats_until: Some(20_000),
            trouble: None,
        };
        let output = Output::plain(120);
        assert_eq!(
            line(&pool, 0, &output),
            "pool: connected as ci-1, 2 of 3 hosts online, 1 refresher online · 8 accounts shared, seats 4 here, 5 elsewhere\n"
        );
        let away = PoolSummaryInfo { state: "away".into(), trouble: Some("connection refused".into()), ..pool };
        let text = line(&away, 0, &output);
        assert!(text.starts_with("pool: the database cannot be reached, 2 of 3"), "{text}");
        assert!(text.contains("seats end 00:00, in 20 s\n  connection refused\n"), "{text}");
        let ended = line(&away, 30_000, &output);
        assert!(ended.contains("seats have ended"), "{ended}");
        let evicted = PoolSummaryInfo { state: "evicted".into(), trouble: Some("to join again: …".into()), ..away };
        assert_eq!(line(&evicted, 0, &output), "pool: this host, ci-1, was evicted\n  to join again: …\n");
        let outside = PoolSummaryInfo { state: "not_joined".into(), ..PoolSummaryInfo::default() };
        assert_eq!(line(&outside, 0, &output), "pool: this host has not joined it; to join: lessor pool join\n");
    }
}
