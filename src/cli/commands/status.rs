//! `status`, and `lessor` without a command: whether an agent can start now, then accounts, leases, queue, daemon and
//! warnings.

mod oneline;

pub(super) use oneline::one_line_of;
use std::time::Duration;

use clap::Args;

use crate::cli::ui::{self, Column, Output, Table, Tint, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::pool::spoken;
use crate::protocol::{
    AccountInfo, AccountLabel, Call, DaemonStatus, LeaseRow, ListAccountsParams, NoParams, PoolSummaryInfo,
    ProviderInfo, QueueRow,
};

#[derive(Debug, Default, Args)]
pub(crate) struct StatusArgs {
    /// Print one short line, for tmux or a prompt; no daemon is started
    #[arg(long)]
    oneline: bool,
    /// The line: text with {line}, {ready}, {limited}, {total}, {leases}, {queue}, {reset}
    #[arg(long, value_name = "TEXT", requires = "oneline")]
    format: Option<String>,
    /// `lessor` without a command.
    #[arg(skip)]
    overview: bool,
}

impl StatusArgs {
    /// What `lessor` without a command shows.
    pub(super) fn overview() -> Self {
        Self { overview: true, ..Self::default() }
    }
}

pub(super) fn execute(args: &StatusArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    if args.oneline && output.json {
        let error = CliError::usage("--oneline prints text, not a document");
        return Err(error.hint("for a document: lessor status --json"));
    }
    if args.oneline {
        return oneline::execute(args.format.as_deref(), context);
    }
    if output.json {
        return output.document(&context.ask_ahead(&STATUS, Client::status)?);
    }
    if args.overview {
        return overview(context);
    }
    let (status, accounts, leases) = context.ask_ahead(&STATUS, read)?;
    output.text(&text(&status, &accounts, &leases, format::now(), output))
}

/// The first call of each command here.
const STATUS: Call = Call::Status(NoParams {});

type Everything = (DaemonStatus, Vec<AccountInfo>, Vec<LeaseRow>);

fn read(client: &mut Client) -> Result<Everything, ClientError> {
    Ok((client.status()?, client.accounts(ListAccountsParams::default())?, client.leases()?))
}

/// The status, and the commands that one needs next. No daemon is started.
fn overview(context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    let places = context.places()?;
    let found = match Client::connect_ahead(&places, &STATUS) {
        Ok(mut client) => Some(read(&mut client)?),
        Err(ClientError::NoDaemon(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let (mut shown, next) = match &found {
        Some((status, accounts, leases)) if !accounts.is_empty() => {
            let agent = status.providers.iter().find_map(|provider| provider.agent.as_deref());
            (text(status, accounts, leases, format::now(), output), in_use(agent.unwrap_or("claude")))
        }
        None if places.database.exists() => {
            let line = "no daemon is running; it starts with the first command that needs it\n";
            (output.prose(line), in_use("claude"))
        }
        _ => (output.prose("lessor has no accounts yet, so no agent can start on it\n"), FIRST_STEPS.to_vec()),
    };
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    shown += "\n";
    for (command, what) in next {
        let command = format!("  {}{:2$}", output.tint(Tint::Strong, command), "", width + 2 - command.len());
        shown += &output.hanging(&command, what);
    }
    shown += &output.prose(&format!("  {}\n", output.tint(Tint::Faint, "all commands: lessor help")));
    output.text(&shown)
}

/// What to do while there is no account.
const FIRST_STEPS: [(&str, &str); 5] = [
    ("lessor import", "take the logins and keys that Claude Code, Codex, Gemini CLI and others have"),
    ("lessor login claude", "log in to a subscription with its own program; codex, gemini and agy work too"),
    ("lessor account add anthropic --api-key-stdin", "add an API key; it is read from standard input"),
    ("lessor demo", "see how it works, offline, with simulated accounts"),
    ("lessor doctor", "check the installation"),
];

/// What to do once there are accounts.
fn in_use(agent: &str) -> Vec<(&'static str, &'static str)> {
    let run = match agent {
        "codex" => "lessor run codex",
        "gemini" => "lessor run gemini",
        _ => "lessor run claude",
    };
    vec![
        (run, "start an agent on a leased account"),
        ("lessor top", "watch accounts, leases and requests live"),
        ("lessor explain", "see why an account was chosen or refused"),
        ("lessor events", "see what happened"),
        ("lessor doctor", "find what is wrong, with a remedy for each problem"),
    ]
}

fn text(status: &DaemonStatus, accounts: &[AccountInfo], leases: &[LeaseRow], now: u64, output: &Output) -> String {
    let answers = status.providers.iter().map(|provider| answer(provider, accounts, now, output));
    let mut text: String = answers.collect();
    if !text.is_empty() {
        text += "\n";
    }
    text += &ui::account::table(accounts, now, output);
    if !leases.is_empty() {
        text = text + "\n" + &ui::lease::by_holder(leases, now, output);
    }
    let elsewhere = ui::pool::elsewhere(accounts, output);
    if !elsewhere.is_empty() {
        text = text + "\n" + &elsewhere;
    }
    if !status.queue.is_empty() {
        text = text + "\n" + &queue_table(&status.queue, now, output);
    }
    text = text + "\n" + &daemon_line(status, leases.len(), output) + &gateway_line(status, output);
    // what is wrong with it is among the warnings
    let pool = status.pool.as_ref().map(|pool| PoolSummaryInfo { trouble: None, ..pool.clone() });
    text += &pool.iter().map(|pool| ui::pool::line(pool, now, output)).collect::<String>();
    text += &guest_lines(status, now, output);
    text + &warnings(status, output)
}

/// The agent of a provider, else the provider.
fn agent_name(provider: &ProviderInfo) -> &str {
    provider.agent.as_deref().unwrap_or(&provider.provider)
}

/// Whether an agent of a provider can start now, on what, and if not, when.
fn answer(provider: &ProviderInfo, accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    let name = clean(agent_name(provider));
    let label = |account: &AccountLabel| clean(ui::account::label(account));
    let (tint, what) = if provider.serving > 0 {
        let next = provider.next.as_ref().map(|next| format!("; next: {}", label(next))).unwrap_or_default();
        let all = format::count(usize::try_from(provider.accounts).unwrap_or(usize::MAX), "account");
        (Tint::Good, format!("{} of {all} can serve now{next}", provider.serving))
    } else {
        let first = provider.first_free.as_ref().map(|first| format!(": {}", label(first))).unwrap_or_default();
        let when = provider.free_at.map(|at| format!("; first free at {}{first}", format::clock_and_span(now, at)));
        let why = obstacles(provider, accounts);
        let why = match why.as_slice() {
            [] => "no account can serve now".to_owned(),
            [(why, count)] if *count == provider.accounts => format!("all {why}"),
            several => {
                let parts: Vec<String> = several.iter().map(|(why, count)| format!("{count} {why}")).collect();
                format!("no account can serve now ({})", parts.join(", "))
            }
        };
        let tint = if provider.free_at.is_some() || provider.busy > 0 { Tint::Warn } else { Tint::Bad };
        let others = if provider.partly_limited > 0 { "; other models can start" } else { "" };
        (tint, why + others + &when.unwrap_or_default())
    };
    output.prose(&format!("{}: {what}\n", output.tint(tint, &name)))
}

/// What keeps the accounts of a provider from serving, and how many.
fn obstacles(provider: &ProviderInfo, accounts: &[AccountInfo]) -> Vec<(String, u64)> {
    let partly = provider.partly_limited.min(provider.limited);
    let mut found = vec![
        ("limited".to_owned(), provider.limited - partly),
        ("partly limited".to_owned(), partly),
        ("in use".to_owned(), provider.busy),
    ];
    let stopped = ["waiting_for_token", "cannot_renew", "needs_login", "needs_verification", "disabled"];
    let ours = || accounts.iter().filter(|account| account.provider == provider.provider);
    for state in stopped {
        let count = ours().filter(|account| account.state == state).count();
        found.push((format::spaced(state), u64::try_from(count).unwrap_or(u64::MAX)));
    }
    let rest = provider.accounts.saturating_sub(found.iter().map(|(_, count)| count).sum());
    // after an unclean restart nothing is granted for a moment: it ends at a time, and not with one account
    let is_kept = provider.free_at.is_some() && provider.first_free.is_none();
    let why = match is_kept {
        true => "kept for agents from before the restart".to_owned(),
        false => format!("not for {}", clean(agent_name(provider))),
    };
    found.push((why, if provider.grantable == 0 { rest } else { 0 }));
    found.retain(|(_, count)| *count > 0);
    found
}

fn queue_table(queue: &[QueueRow], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::number("WAITING"),
        Column::flexible("PROVIDER", 9).left_out(1),
        Column::flexible("MODEL", 8).left_out(2),
        Column::name("FOR"),
        Column::fixed("FREE"),
    ]);
    for row in queue {
        table.row(vec![
            (row.position.to_string(), None),
            (row.provider.clone(), None),
            (row.model.clone().unwrap_or_default(), None),
            (row.label.clone().unwrap_or_default(), None),
            (row.eta_at.map_or_else(|| "when a lease ends".to_owned(), |at| format::clock_and_span(now, at)), None),
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
    let urls = status.gateway.iter().flat_map(|gateway| [&gateway.url, &gateway.secure_url]).flatten();
    let urls: Vec<&str> = urls.map(String::as_str).collect();
    if urls.is_empty() {
        return String::new();
    }
    output.tint(Tint::Faint, &format!("gateway {}", urls.join(" · "))) + "\n"
}

/// The host whose accounts are used here, and the guests that use those of here.
fn guest_lines(status: &DaemonStatus, now: u64, output: &Output) -> String {
    let mut text = String::new();
    if let Some(host) = &status.host {
        let since = format::clock_and_span(now, host.since);
        let trouble = host.trouble.iter().map(|why| format!(": {}", clean(why))).collect::<String>();
        let line = format!("accounts of {}, link {} since {since}{trouble}", clean(&host.name), host.state);
        let tint = if host.state == "up" { Tint::Faint } else { Tint::Warn };
        text += &(output.prose(&output.tint(tint, &line)) + "\n");
    }
    for guest in &status.guests {
        let leases = format::count(usize::try_from(guest.leases).unwrap_or(usize::MAX), "lease");
        let most = guest.max_leases.map(|most| format!(" of at most {most}")).unwrap_or_default();
        let line = format!("guest {} ({}, {}): {leases}{most}", clean(&guest.name), guest.kind, guest.state);
        text += &(output.prose(&output.tint(Tint::Faint, &line)) + "\n");
    }
    text
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
use oneline::one_line;
#[cfg(test)]
mod tests;
