//! `account reset`: uses a banked limit reset, after it has shown what for and asked.

use clap::Args;

use super::AccountArg;
use super::usage::{account_text, windows_text};
use crate::cli::ui::{Output, account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{AccountInfo, AccountRef, ErrorKind, UsedResetInfo};
use crate::usage::has_resets;

#[derive(Debug, Args)]
pub(crate) struct AccountResetArgs {
    #[command(flatten)]
    account: AccountArg,
    /// Do not ask; needed where no terminal can be asked
    #[arg(long)]
    yes: bool,
}

pub(super) fn reset(args: AccountResetArgs, context: &Context) -> Result<(), CliError> {
    let output = &context.output;
    let AccountResetArgs { account: AccountArg { account }, yes } = args;
    let info = context.ask(|client| client.usage(AccountRef { account: account.clone() }))?;
    // of other accounts, the daemon says why they have none
    if has_resets(&info.provider, info.api_kind()) {
        check_available(&info)?;
        if !yes && (output.json || !prompt::can_ask()) {
            let error = CliError::usage("using a limit reset cannot be undone, and no terminal can be asked");
            return Err(error.hint("to use one without a question: --yes"));
        }
        output.note(preview(&info, format::now(), output).trim_end());
        if !yes && !matches!(prompt::ask(question(&info), output)?.as_deref(), Some("y" | "yes")) {
            output.note("no reset was used");
            return Ok(());
        }
    }
    let used = context.connect()?.reset_limits(AccountRef { account: info.id.clone() });
    let used = used.map_err(CliError::from).map_err(|error| lost(error, &info))?;
    output.result(&used, || result_text(&used, format::now(), output))
}

fn question(info: &AccountInfo) -> &'static str {
    if is_unfinished(info) { "Repeat it? [y/N]" } else { "Use one now? [y/N]" }
}

fn is_unfinished(info: &AccountInfo) -> bool {
    info.resets.is_some_and(|resets| resets.unfinished)
}

fn check_available(info: &AccountInfo) -> Result<(), CliError> {
    let name = clean(account::name(info));
    match info.resets {
        Some(resets) if resets.available > 0 || resets.unfinished => Ok(()),
        None if info.usage_trouble.is_some() => {
            let why = clean(info.usage_trouble.as_deref().unwrap_or_default());
            Err(CliError::new(ErrorKind::ProviderFailed, format!("the limit resets of {name} cannot be read: {why}")))
        }
        Some(_) => Err(CliError::new(ErrorKind::NoReset, format!("{name} has no limit reset left"))),
        None => Err(CliError::new(ErrorKind::NoReset, format!("the provider names no limit resets of {name}"))),
    }
}

/// What there is, and what it would reset.
fn preview(info: &AccountInfo, now: u64, output: &Output) -> String {
    let mut text = output.prose(&format!("{}.\n", account::banked_resets(info, now).unwrap_or_default()));
    text += &windows_text(info, now, output);
    let what = match is_unfinished(info) {
        true => {
            "The use of a reset has begun before, and its result is not known. This repeats it, and uses no second reset."
        }
        false => "A reset empties these windows. It cannot be undone.",
    };
    text + &output.prose(what)
}

/// The daemon has ended during the call: the use may have been sent.
fn lost(error: CliError, info: &AccountInfo) -> CliError {
    if *error.kind() != ErrorKind::LostConnection {
        return error;
    }
    let name = account::reference(info);
    error.replace_hint(format!("try again: lessor account reset {name} repeats this use and uses no second reset"))
}

fn result_text(used: &UsedResetInfo, now: u64, output: &Output) -> String {
    let name = clean(account::name(&used.account));
    let what = match (used.was_used_before, used.windows) {
        (true, _) => format!("the limit reset of {name} had been used by the attempt before; no second one was used"),
        (false, Some(number)) => {
            format!("used a limit reset of {name}: {} reset", format::count(number as usize, "window"))
        }
        (false, None) => format!("used a limit reset of {name}"),
    };
    let trouble = used
        .usage_trouble
        .as_ref()
        .map(|why| format!("its usage could not be read afterwards: {}; known limits last until it is\n", clean(why)));
    let trouble = trouble.map(|text| output.prose(&text)).unwrap_or_default();
    output.prose(&format!("{what}\n")) + &trouble + &account_text(&used.account, now, output)
}
