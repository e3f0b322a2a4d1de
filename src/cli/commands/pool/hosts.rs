//! `pool hosts` and `pool join-token`.

use std::time::Duration;

use clap::Args;

use super::init::roles;
use crate::cli::launch::parse_duration;
use crate::cli::ui::{Column, Output, Table, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::pool::millis;
use crate::protocol::{JoinTokenInfo, JoinTokenParams, PoolHostInfo};

#[derive(Debug, Args)]
pub(crate) struct PoolJoinTokenArgs {
    /// What the host will be called [default: host-2, host-3, …]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let the host add, change, export and remove accounts, and evict hosts
    #[arg(long)]
    admin: bool,
    /// Let the host refresh logins: it gets the key of the refresh tokens
    #[arg(long)]
    refresher: bool,
    /// How long the token is valid [default: 1h]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    valid: Option<Duration>,
}

pub(super) fn join_token(args: PoolJoinTokenArgs, context: &Context) -> Result<(), CliError> {
    let PoolJoinTokenArgs { name, admin, refresher, valid } = args;
    let call = JoinTokenParams { name, admin, refresher, valid_ms: valid.map(millis) };
    let info = context.connect()?.create_join_token(call)?;
    // also where the token goes into a pipe: it says what the token allows
    if !context.output.json {
        context.output.note(&allowed(&info, format::now()));
    }
    context.output.result(&info, || info.token.0.to_string())
}

/// What the token allows, and how it is used.
fn allowed(info: &JoinTokenInfo, now: u64) -> String {
    let name = clean(&info.name);
    let roles = roles(info.admin, info.refresher);
    let until = format::until_clock(now, info.expires_at);
    format!(
        "one host can join with this token as {name} ({roles}), {until}; it is shown only now\non that host: lessor pool \
         join --token-stdin"
    )
}

pub(super) fn hosts(context: &Context) -> Result<(), CliError> {
    let hosts = context.ask(Client::pool_hosts)?;
    context.output.result(&hosts, || table(&hosts, format::now(), &context.output))
}

/// The hosts, one a line.
pub(super) fn table(hosts: &[PoolHostInfo], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::name("HOST"),
        Column::fixed("ROLES"),
        Column::number("SEATS"),
        Column::fixed("LAST SEEN"),
        Column::fixed("JOINED").left_out(2),
        Column::fixed("STATE"),
    ]);
    for host in hosts {
        let tint = match host.state.as_str() {
            "online" => Tint::Good,
            "silent" => Tint::Warn,
            "offline" | "invited" => Tint::Faint,
            _ => Tint::Bad,
        };
        let this = if host.this { ", this host" } else { "" };
        let until = host.invited_until.filter(|_| host.state == "invited");
        let until = until.map(|at| format!(" {}", format::until_clock(now, at))).unwrap_or_default();
        let seen = if host.state == "online" { "now".to_owned() } else { format::last(now, host.last_seen_at) };
        table.row(vec![
            (host.name.clone(), Some(Tint::Strong)),
            (roles(host.admin, host.refresher).to_owned(), None),
            (host.seats.to_string(), None),
            (seen, None),
            (host.joined_at.map(|at| format::ago(now, at)).unwrap_or_default(), Some(Tint::Faint)),
            (format!("{}{this}{until}", host.state), Some(tint)),
        ]);
    }
    table.render(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SecretText;

    const MIN: u64 = 60_000;

    fn host(name: &str, state: &str) -> PoolHostInfo {
        PoolHostInfo {
            id: "ho_1".into(),
            name: name.into(),
            state: state.into(),
            seats: 2,
            last_seen_at: Some(95 * MIN),
            ..PoolHostInfo::default()
        }
    }

    #[test]
    fn the_list_says_how_each_host_stands() {
        let first = PoolHostInfo { this: true, admin: true, refresher: true, ..host("ci-1", "online") };
        let gone = PoolHostInfo { seats: 0, ..host("ci-3", "gone") };
        let text = table(&[first, host("ci-2", "silent"), gone], 100 * MIN, &Output::plain(100));
        assert_eq!(
            text,
            "HOST  ROLES             SEATS  LAST SEEN  STATE\n\
             ci-1  admin, refresher      2  now        online, this host\n\
             ci-2  member                2  5 min ago  silent\n\
             ci-3  member                0  5 min ago  gone\n"
        );
    }

    #[test]
    fn a_token_is_described_but_not_repeated_in_the_note() {
        let info = JoinTokenInfo {
            token: SecretText("s3cret".into()),
            name: "ci-2".into(),
            admin: false,
            refresher: true,
            expires_at: 160 * MIN,
        };
        let text = allowed(&info, 100 * MIN);
        assert!(text.contains("as ci-2 (member, refresher), until") && text.contains("in 60 min"), "{text}");
        assert!(text.contains("lessor pool join --token-stdin") && !text.contains("s3cret"), "{text}");
    }
}
