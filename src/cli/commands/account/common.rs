//! What the commands on one account have in common.

use clap::Args;

use crate::cli::ui::{account, clean};
use crate::cli::{context::Context, error::CliError};
use crate::pool::CredentialKind;
use crate::protocol::{AccountInfo, AddAccountParams, SecretText};

/// An account.
#[derive(Debug, Args)]
pub(crate) struct AccountArg {
    /// An id, a unique prefix of it, an email address or a label
    #[arg(value_name = "A")]
    pub(super) account: String,
}

/// Prints an account after a change: as text, one line.
pub(super) fn done(info: &AccountInfo, what: &str, context: &Context) -> Result<(), CliError> {
    let line = format!("{what} {} ({}, {})", clean(account::name(info)), info.id, clean(&info.provider));
    context.output.result(info, || context.output.prose(&line))
}

/// A request to add an account, with its credential only.
pub(crate) fn new_account(provider: &str, kind: CredentialKind, secret: &str) -> AddAccountParams {
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
    }
}
