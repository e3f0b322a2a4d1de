//! `account …`: list, add, change and remove accounts; `export`.

mod add;
mod check;
mod export;
mod list;
mod login_document;
mod reset;
mod secrets;
mod set;
mod usage;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::ui::{account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError, error::NEEDS_USER};
use crate::pool::CredentialKind;
use crate::protocol::{
    AccountInfo, AccountRef, AddAccountParams, DisableAccountParams, ErrorKind, ListAccountsParams, SecretText,
    VerifyAccountParams,
};
use crate::provider::terms;

pub(super) use export::{ExportArgs, export};
pub(super) use secrets::{SecretsCommand, execute as secrets};

#[derive(Debug, Subcommand)]
pub(crate) enum AccountSubcommand {
    /// List the accounts
    #[command(after_help = "Example: lessor account list --provider anthropic")]
    List(AccountListArgs),
    /// Show everything about an account
    #[command(after_help = "Example: lessor account show work")]
    Show(AccountArg),
    /// Add an account; its secret is read from standard input
    #[command(after_help = "Examples:\n  lessor account add anthropic --api-key-stdin --label work < key-file\n  \
                            lessor account add anthropic --token-stdin < token-file")]
    Add(add::AccountAddArgs),
    /// Remove an account, or all accounts
    ///
    /// On a terminal, says what will be lost and asks first.
    #[command(after_help = "Examples:\n  lessor account remove work\n  lessor account remove --all --yes")]
    Remove(AccountRemoveArgs),
    /// Enable an account that was disabled
    ///
    /// The exit code is 5 if it still cannot serve.
    #[command(after_help = "Example: lessor account enable work")]
    Enable(AccountArg),
    /// Disable an account: it is not leased until it is enabled
    #[command(after_help = "Example: lessor account disable work --reason 'kept for the release'")]
    Disable(AccountDisableArgs),
    /// Change the settings of an account, or replace its key
    ///
    /// An empty value removes a setting. With --api-key-stdin or --token-stdin the key or token is replaced; id, label, settings
    /// and other limits stay.
    #[command(after_help = "Examples:\n  lessor account set work max_leases=2 priority=5\n  \
                            lessor account set work use=claude,codex label=\n  \
                            lessor account set spare reserve=0.2 fallback_only=true\n  \
                            lessor account set work --api-key-stdin < key-file")]
    Set(set::AccountSetArgs),
    /// Clear the limits of an account, so that it is used again at once
    #[command(after_help = "Example: lessor account clear-limits work")]
    ClearLimits(AccountArg),
    /// Try the credential of an account with one free request
    ///
    /// The exit code is 0 if the provider accepts it, 5 if it refuses it, 1 if that could not be found out.
    #[command(after_help = "Example: lessor account check work")]
    Check(AccountArg),
    /// Refresh the access token of an account's login now
    ///
    /// The exit code is 5 if another tool or host refreshes it; the message says what helps.
    #[command(after_help = "Example: lessor account refresh work")]
    Refresh(AccountArg),
    /// Show how much of the quota of an account, or of all, is used
    ///
    /// Asks the provider, unless it was asked a moment ago.
    #[command(after_help = "Examples:\n  lessor account usage\n  lessor account usage work")]
    Usage(usage::AccountUsageArgs),
    /// Use one of the limit resets that an account has banked
    ///
    /// Shows the windows that it resets, and asks first. A used reset cannot be taken back.
    #[command(after_help = "Examples:\n  lessor account reset work\n  lessor account reset work --yes --json")]
    Reset(reset::AccountResetArgs),
    /// Enable an account again after you have verified it
    ///
    /// For an account whose provider asked its owner to confirm something. Asks the provider whether that was done.
    /// The exit code is 5 if it still cannot serve.
    #[command(after_help = "Example: lessor account verify work")]
    Verify(AccountVerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AccountArg {
    /// An id, a unique prefix of it, an email address or a label
    #[arg(value_name = "A")]
    account: String,
}

#[derive(Debug, Args)]
pub(crate) struct AccountListArgs {
    /// List the accounts of this provider only
    #[arg(short, long, value_name = "PROVIDER")]
    provider: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AccountRemoveArgs {
    /// An id, a unique prefix of it, an email address or a label
    #[arg(value_name = "A", required_unless_present = "all", conflicts_with = "all")]
    account: Option<String>,
    /// Remove all accounts
    #[arg(long, requires = "yes")]
    all: bool,
    /// Do not ask; --all needs it
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AccountDisableArgs {
    #[command(flatten)]
    account: AccountArg,
    /// A reason, shown with the account
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AccountVerifyArgs {
    #[command(flatten)]
    account: AccountArg,
    /// Enable the account without asking the provider
    #[arg(long)]
    confirmed: bool,
}

pub(super) fn execute(command: AccountSubcommand, context: &Context) -> Result<(), CliError> {
    let reference = |account: AccountArg| AccountRef { account: account.account };
    let (info, what) = match command {
        AccountSubcommand::List(AccountListArgs { provider }) => return list::list(provider.as_deref(), context),
        AccountSubcommand::Show(account) => return list::show(&account.account, context),
        AccountSubcommand::Add(args) => return add::add(args, context),
        AccountSubcommand::Set(args) => return set::set(args, context),
        AccountSubcommand::Check(account) => return check::check(&reference(account), context),
        AccountSubcommand::Usage(args) => return usage::usage(args, context),
        AccountSubcommand::Reset(args) => return reset::reset(args, context),
        AccountSubcommand::Remove(AccountRemoveArgs { account: None, .. }) => return remove_all(context),
        AccountSubcommand::Remove(AccountRemoveArgs { account: Some(account), yes, .. }) => {
            if !yes && !context.output.json && prompt::can_ask() && !may_remove(&account, context)? {
                return Ok(());
            }
            (context.connect()?.remove_account(AccountRef { account })?, "removed")
        }
        AccountSubcommand::Enable(account) => {
            let info = context.connect()?.enable_account(reference(account))?;
            return serving(&info, "is enabled", context);
        }
        AccountSubcommand::Disable(AccountDisableArgs { account: AccountArg { account }, reason }) => {
            (context.connect()?.disable_account(DisableAccountParams { account, reason })?, "disabled")
        }
        AccountSubcommand::ClearLimits(account) => {
            let had_limits = list::find(&account.account, context).map_or(true, |before| !before.limits.is_empty());
            let info = context.connect()?.clear_limits(reference(account))?;
            (info, if had_limits { "cleared the limits of" } else { "there were no limits on" })
        }
        AccountSubcommand::Refresh(account) => {
            let refreshed = context.connect()?.refresh_account(reference(account));
            (refreshed.map_err(|error| refresh_failed(error.into()))?, "refreshed")
        }
        AccountSubcommand::Verify(AccountVerifyArgs { account: AccountArg { account }, confirmed }) => {
            let info = context.connect()?.verify_account(VerifyAccountParams { account, confirmed })?;
            return serving(&info, "is verified", context);
        }
    };
    done(&info, what, context)
}

/// Says what is lost with an account, and asks whether to remove it.
fn may_remove(account: &str, context: &Context) -> Result<bool, CliError> {
    let info = list::find(account, context)?;
    context.output.note(&what_is_lost(&info));
    let answer = prompt::ask("Remove it? [y/N]", &context.output)?;
    let yes = matches!(answer.as_deref(), Some("y" | "yes"));
    if !yes {
        context.output.note("nothing was removed");
    }
    Ok(yes)
}

fn what_is_lost(info: &AccountInfo) -> String {
    let credential = match (info.kind, &info.link) {
        (_, Some(link)) if link.mode == "link" => format!("the link to the login of {}, which stays there", link.tool),
        (CredentialKind::Oauth, _) => "its login; to have it again you must log in again".to_owned(),
        (CredentialKind::ApiKey, _) => "its API key".to_owned(),
        (CredentialKind::Token, _) => "its token".to_owned(),
    };
    let leases = match info.leases {
        0 => String::new(),
        some => format!("; {} on it {}", format::count(some as usize, "lease"), if some == 1 { "ends" } else { "end" }),
    };
    clean(&format!("{} ({}) is removed with {credential}{leases}.", account::name(info), info.provider))
}

/// Prints what an account is after a command that lets it serve; exit code 5 if it still cannot serve.
fn serving(info: &AccountInfo, what: &str, context: &Context) -> Result<(), CliError> {
    let name = clean(account::name(info));
    if ["ready", "partly_limited"].contains(&info.state.as_str()) {
        let partly = if info.state == "ready" { "can serve" } else { "can serve, though not every model" };
        let text = || context.output.prose(&format!("{name} {what} and {partly}\n"));
        return context.output.result(&AccountDetails::of(info), text);
    }
    let now = format::now();
    let until = info.limits.iter().map(|limit| limit.until).filter(|until| *until > now).max();
    let until = until.filter(|_| info.state == "limited").map(|until| format!(" {}", format::until_clock(now, until)));
    let why = info.state_reason.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    let state = format::spaced(&info.state);
    let message = format!("{name} {what}, but cannot serve now: {state}{}{why}", until.unwrap_or_default());
    let clear =
        || (info.state == "limited").then(|| format!("lessor account clear-limits {}", account::reference(info)));
    if context.output.json {
        context.output.document(&AccountDetails::of(info))?;
    }
    let error = CliError::new(ErrorKind::NoAccount, message);
    let remedy = info.remedy.clone().or_else(clear);
    let waits = || "it serves when its token is refreshed; see: lessor account list".to_owned();
    Err(error.exit(NEEDS_USER).replace_hint(remedy.unwrap_or_else(waits)))
}

/// Without a time at which it works, the user must act.
fn refresh_failed(error: CliError) -> CliError {
    let needs_user = *error.kind() == ErrorKind::CredentialUnavailable && error.retry_after_ms().is_none();
    if needs_user { error.exit(NEEDS_USER) } else { error }
}

fn remove_all(context: &Context) -> Result<(), CliError> {
    let mut client = context.connect()?;
    let accounts = client.accounts(ListAccountsParams::default())?;
    let removed: Result<Vec<_>, _> =
        accounts.into_iter().map(|info| client.remove_account(AccountRef { account: info.id })).collect();
    let removed = removed?;
    context.output.result(&removed, || format!("removed {}", format::count(removed.len(), "account")))
}

/// An account, with what its provider's terms say of its login.
#[derive(Serialize, JsonSchema)]
pub(super) struct AccountDetails<'a> {
    #[serde(flatten)]
    account: &'a AccountInfo,
    /// What the provider forbids for this kind of login, and to which agents lessor leases it; null if any may use it.
    terms: Option<String>,
}

impl<'a> AccountDetails<'a> {
    fn of(account: &'a AccountInfo) -> Self {
        Self { account, terms: terms(&account.provider, account.kind, &account.allowed_agents) }
    }
}

pub(super) fn done(info: &AccountInfo, what: &str, context: &Context) -> Result<(), CliError> {
    let line = format!("{what} {} ({})", clean(account::name(info)), clean(&info.provider));
    context.output.result(&AccountDetails::of(info), || context.output.prose(&line))
}

/// The same of an account that was added, or got another login: with the terms of its provider.
pub(super) fn added(info: &AccountInfo, what: &str, context: &Context) -> Result<(), CliError> {
    done(info, what, context)?;
    if let Some(sentence) = AccountDetails::of(info).terms.filter(|_| !context.output.json) {
        context.output.note(&format!("{}.", clean(&sentence)));
    }
    note_obstacle(info, context);
    if info.sharing.as_deref() == Some("own") && !context.output.json {
        let name = account::reference(info);
        context.output.note(&clean(&format!("it is of this host alone; to share it: lessor pool migrate {name}")));
    }
    Ok(())
}

/// Says what lets an account serve that has a new credential, but does not serve yet.
pub(super) fn note_obstacle(info: &AccountInfo, context: &Context) {
    let remedy = info.remedy.as_deref().unwrap_or_default();
    let text = match info.state.as_str() {
        "disabled" => format!("it is disabled; to use it: {remedy}"),
        "needs_verification" => {
            let link = info.state_link.as_ref().map(|link| format!(" at {link}")).unwrap_or_default();
            format!("its provider wants it confirmed{link}; then: {remedy}")
        }
        "cannot_renew" => info.state_reason.clone().unwrap_or_else(|| "it cannot be renewed".to_owned()),
        "needs_login" => format!("it needs a login: {remedy}"),
        "limited" => {
            let reasons: Vec<String> = info.limits.iter().map(|limit| format::reason(&limit.reason)).collect();
            let name = account::reference(info);
            format!(
                "it still has limits ({}); to end them before their time: lessor account clear-limits {name}",
                reasons.join(", ")
            )
        }
        _ => return,
    };
    context.output.note(&clean(&text));
}

/// A request to add an account, with its credential only.
pub(super) fn new_account(provider: &str, kind: CredentialKind, secret: &str) -> AddAccountParams {
    AddAccountParams {
        provider: provider.to_owned(),
        kind,
        secret: SecretText(secret.to_owned().into()),
        refresh_token: None,
        expires_at: None,
        label: None,
        email: None,
        tier: None,
        max_leases: None,
        priority: None,
        allowed_agents: None,
        project_id: None,
        account_id: None,
        client_id: None,
        person_id: None,
        organization_id: None,
        organization: None,
        resource: None,
        refresh_from: None,
        own: false,
    }
}
