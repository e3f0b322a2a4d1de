//! `secrets …`: the key that encrypts all secrets.

use clap::Subcommand;

use crate::cli::ui::{clean, format};
use crate::cli::{context::Context, error::CliError};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Encrypt all keys, tokens and logins with a new key
    ///
    /// Afterwards the old key decrypts nothing.
    #[command(after_help = "Example: lessor secrets rekey")]
    Rekey,
}

/// Changes the key.
pub(crate) fn secrets(command: &SecretsCommand, context: &Context) -> Result<(), CliError> {
    match command {
        SecretsCommand::Rekey => {
            let info = context.connect()?.rekey()?;
            context.output.result(&info, || {
                let accounts = format::count(usize::try_from(info.accounts).unwrap_or(usize::MAX), "account");
                let place = clean(&info.place);
                context
                    .output
                    .prose(&format!("the secrets of {accounts} are encrypted with a new key, kept in {place}"))
            })
        }
    }
}
