//! `account …`

mod add;
mod set;
mod usage;
mod verify;

use clap::{Args, Subcommand};

use crate::pool::CredentialKind;
use crate::protocol::{AccountInfo, AccountRef, DisableAccountParams, ListAccountsParams};

use super::context::{self, Context};
use super::explain;
use super::failure::Failure;
use super::lease::canonical;
use super::output::{Output, Tint, clean};
use super::status::{self, NO_ACCOUNTS};
use super::table::{Column, Table};
use super::words;

/// `account`
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// List the accounts
    List(List),
    /// Show everything about one
    Show(Which),
    /// Add one; its secret comes on standard input
    Add(add::Add),
    /// Take one out, or all
    Remove(Remove),
    /// Let it be leased again
    Enable(Which),
    /// Let it be leased no more
    Disable(Disable),
    /// Change it
    Set(set::Set),
    /// Forget its limits: it is tried again at once
    ClearLimits(Which),
    /// Get a new token for its login, now
    Refresh(Which),
    /// Show how much of its quota is used; of all accounts, if none is named
    Usage(usage::Of),
    /// Have it serve again, once you have confirmed it with its provider
    Verify(verify::Verify),
}

/// `account list`
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this provider's
    #[arg(short, long, value_name = "PROVIDER")]
    provider: Option<String>,
}

/// One account.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// An id, a unique prefix of it, an email or a label
    #[arg(value_name = "A")]
    account: String,
}

/// `account remove`
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// An id, a unique prefix of it, an email or a label
    #[arg(value_name = "A", required_unless_present = "all", conflicts_with = "all")]
    account: Option<String>,
    /// All of them
    #[arg(long, requires = "yes")]
    all: bool,
    /// Really
    #[arg(long)]
    yes: bool,
}

/// `account disable`
#[derive(Debug, Args)]
pub(super) struct Disable {
    #[command(flatten)]
    which: Which,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Does what one of the commands says.
pub(super) fn account(command: Account, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    match command {
        Account::List(List { provider }) => {
            let wanted = ListAccountsParams { provider: provider.as_deref().map(canonical) };
            let accounts = context.ask(|client| client.accounts(wanted.clone()))?;
            output.result(&accounts, || match &provider {
                Some(provider) if accounts.is_empty() => format!("no accounts of {}\n", canonical(provider)),
                _ => list(&accounts, context::now(), output),
            })
        }
        Account::Show(which) => {
            let info = find(&which.account, context)?;
            output.result(&info, || show(&info, context::now(), output))
        }
        Account::Add(options) => add::add(options, context),
        Account::Remove(Remove { account: Some(account), .. }) => {
            let info = context.connect()?.remove_account(AccountRef { account })?;
            done(&info, "removed", context)
        }
        Account::Remove(_) => remove_all(context),
        Account::Enable(Which { account }) => {
            let info = context.connect()?.enable_account(AccountRef { account })?;
            done(&info, "enabled", context)
        }
        Account::Disable(Disable { which: Which { account }, reason }) => {
            let info = context.connect()?.disable_account(DisableAccountParams { account, reason })?;
            done(&info, "disabled", context)
        }
        Account::Set(options) => set::set(options, context),
        Account::ClearLimits(Which { account }) => {
            let info = context.connect()?.clear_limits(AccountRef { account })?;
            done(&info, "cleared the limits of", context)
        }
        Account::Refresh(Which { account }) => {
            let info = context.connect()?.refresh_account(AccountRef { account })?;
            done(&info, "refreshed", context)
        }
        Account::Usage(of) => usage::usage(of, context),
        Account::Verify(options) => verify::verify(options, context),
    }
}

/// Prints the account after a change, in a line for people.
fn done(info: &AccountInfo, what: &str, context: &Context) -> Result<(), Failure> {
    context
        .output
        .result(info, || format!("{what} {} ({}, {})", clean(status::name(info)), info.id, clean(&info.provider)))
}

fn remove_all(context: &Context) -> Result<(), Failure> {
    let mut client = context.connect()?;
    let accounts = client.accounts(ListAccountsParams::default())?;
    let removed: Result<Vec<AccountInfo>, _> =
        accounts.into_iter().map(|info| client.remove_account(AccountRef { account: info.id })).collect();
    let removed = removed?;
    context.output.result(&removed, || format!("removed {}", words::count(removed.len() as u64, "account")))
}

/// The one account that a text names: exactly, else as the beginning of its id.
fn find(account: &str, context: &Context) -> Result<AccountInfo, Failure> {
    let accounts = context.ask(|client| client.accounts(ListAccountsParams::default()))?;
    let is_named = |info: &AccountInfo| {
        info.id == account || info.label.as_deref() == Some(account) || info.email.as_deref() == Some(account)
    };
    let begins = |info: &AccountInfo| {
        let letters = account.strip_prefix("ac_").unwrap_or(account);
        !letters.is_empty() && info.id.strip_prefix("ac_").is_some_and(|id| id.starts_with(letters))
    };
    let unknown = |message: String| Failure::new("unknown_account", message).hint("see: lessor account list");
    let mut found: Vec<AccountInfo> = accounts.iter().filter(|info| is_named(info)).cloned().collect();
    if found.is_empty() {
        found = accounts.into_iter().filter(|info| begins(info)).collect();
    }
    let several = found.len() > 1;
    match found.pop() {
        Some(_) if several => Err(unknown(format!("several accounts are meant by {account:?}"))),
        Some(info) => Ok(info),
        None => Err(unknown(format!("there is no account {account:?}"))),
    }
}

fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Oauth => "login",
        CredentialKind::ApiKey => "key",
        CredentialKind::Token => "token",
    }
}

fn list(accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    if accounts.is_empty() {
        return NO_ACCOUNTS.to_owned();
    }
    let mut table = Table::new(&[
        Column::fixed("ID"),
        Column::flexible("LABEL", 8),
        Column::flexible("EMAIL", 8),
        Column::flexible("PROVIDER", 6),
        Column::fixed("KIND"),
        Column::fixed("STATE"),
        Column::flexible("USE", 5),
        Column::fixed("LAST USED"),
    ]);
    for info in accounts {
        table.row(vec![
            (info.id.clone(), None),
            (info.label.clone().unwrap_or_default(), Some(Tint::Strong)),
            (info.email.clone().unwrap_or_default(), None),
            (info.provider.clone(), None),
            (kind(info.kind).to_owned(), None),
            (words::short(&info.state), None),
            (info.allowed_agents.join(","), None),
            (info.last_used_at.map_or_else(|| "never".to_owned(), |at| words::ago(now, at)), Some(Tint::Faint)),
        ]);
    }
    table.render(output)
}

fn show(info: &AccountInfo, now: u64, output: &Output) -> String {
    let mut lines: Vec<(&str, String)> = vec![("id", info.id.clone()), ("provider", info.provider.clone())];
    let mut maybe = |name, value: &Option<String>| lines.extend(value.clone().map(|value| (name, value)));
    maybe("label", &info.label);
    maybe("email", &info.email);
    maybe("account_id", &info.account_id);
    maybe("project_id", &info.project_id);
    lines.push(("tier", status::tier(info.tier).to_owned()));
    lines.push(("kind", kind(info.kind).to_owned()));
    let why = info.state_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    lines.push(("state", format!("{}{why}", info.state.replace('_', " "))));
    lines.extend(info.state_link.clone().filter(|link| !why.contains(link.as_str())).map(|link| ("open", link)));
    lines.push(("leases", format!("{} of {}", info.leases, info.capacity)));
    lines.push(("priority", info.priority.to_string()));
    lines.push(("use", info.allowed_agents.join(", ")));
    lines.extend(info.credential_expires_at.map(|at| ("token ends", words::until(now, at))));
    if let Some(link) = &info.link {
        let who = match link.mode.as_str() {
            "link" => format!("{} refreshes it, lessor follows", link.tool),
            "share" => format!("{} and lessor both refresh it, under its locks", link.tool),
            _ => format!("taken over: lessor refreshes it, not {}", link.tool),
        };
        let trouble = link.trouble.as_ref().map(|why| format!("; it cannot be followed: {why}")).unwrap_or_default();
        lines.push(("kept in", format!("{} ({who}){trouble}", link.path)));
    }
    for limit in &info.limits {
        lines.push(("limit", explain::limit(limit, now)));
        lines.extend(limit.evidence.clone().map(|evidence| ("", evidence)));
        lines.extend(limit.link.clone().map(|link| ("", link)));
    }
    for window in &info.usage {
        let reset = window.resets_at.map(|at| format!(", new {}", words::until(now, at))).unwrap_or_default();
        let used = window.utilization * 100.0;
        let learnt = words::ago(now, window.as_of);
        let name = if window.rate { "rate" } else { "quota" };
        let of = if window.key.is_empty() { String::new() } else { format!(" of {}", window.key) };
        lines.push((name, format!("{}{of} {used:.0} % used{reset} (as of {learnt})", window.window)));
    }
    lines.push(("added", words::ago(now, info.created_at)));
    lines.push(("last used", info.last_used_at.map_or_else(|| "never".to_owned(), |at| words::ago(now, at))));
    let line = |(name, value): &(&str, String)| {
        format!("{}  {}\n", output.tint(Tint::Faint, &format!("{name:<10}")), clean(value))
    };
    lines.iter().map(line).collect()
}
