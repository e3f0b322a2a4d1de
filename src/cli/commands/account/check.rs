//! `account check`: whether the provider accepts an account's credential.

use std::path::Path;

use crate::cli::ui::{account, clean};
use crate::cli::{context::Context, error::CliError};
use crate::credential::LoginHome;
use crate::daemon::renewal_command;
use crate::pool::CredentialKind;
use crate::protocol::{AccountInfo, AccountRef, CheckInfo, ErrorKind};

pub(super) fn check(account: &AccountRef, context: &Context) -> Result<(), CliError> {
    let info = context.connect()?.check_account(account.clone())?;
    context.output.result(&info, || context.output.prose(&line(&info)))?;
    match info.outcome.as_str() {
        "accepted" => Ok(()),
        // the result is printed already
        "refused" => {
            // a page of the provider's comes first
            if !context.output.json && info.link.is_none() {
                context.output.note(&format!("hint: {}", remedy(&info.account)));
            }
            Err(CliError::new(ErrorKind::NeedsLogin, "refused").silent())
        }
        _ => Err(CliError::new(ErrorKind::Internal, "not known").silent()),
    }
}

/// What replaces a credential that the provider goes on refusing.
fn remedy(of: &AccountInfo) -> String {
    let home = of.link.as_ref().and_then(|link| LoginHome::program_of(Path::new(&link.path)));
    match (home, of.link.as_ref().filter(|link| link.mode == "link" && of.kind == CredentialKind::Oauth)) {
        (Some(program), _) => format!("log in again: lessor login {}", program.name()),
        (None, Some(link)) => format!("log in with {} again; lessor reads its file", clean(&link.tool)),
        (None, None) => {
            let (what, command) =
                renewal_command(&of.provider, of.kind, of.resource.is_some(), &account::reference(of));
            format!("{what}: {command}")
        }
    }
}

/// What keeps an account from serving although its credential is accepted.
fn but(of: &AccountInfo) -> String {
    if ["ready", "partly_limited"].contains(&of.state.as_str()) {
        return String::new();
    }
    let remedy = of.remedy.as_ref().map(|remedy| format!("; {}", clean(remedy))).unwrap_or_default();
    format!(", but the account cannot serve now: {}{remedy}", account::state(of))
}

fn line(info: &CheckInfo) -> String {
    let of = &info.account;
    let name = format!("{} ({})", clean(account::name(of)), clean(&of.provider));
    let status = info.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let why = info.message.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    let link = info.link.as_ref().filter(|link| !why.contains(link.as_str()));
    let link = link.map(|link| format!("; open {}", clean(link))).unwrap_or_default();
    match info.outcome.as_str() {
        "accepted" => format!("{name}: the provider accepts its credential{}", but(of)),
        "refused" if info.message.is_some() => format!("{name}: the provider refuses its credential{why}{link}"),
        "refused" => format!("{name}: the provider refuses its credential{status}{link}"),
        "unreachable" => format!("{name}: not known whether the provider accepts its credential{why}"),
        _ => format!("{name}: the answer{status} says nothing about its credential{why}"),
    }
}
