//! `secrets …`: the key that everything secret is sealed with.

use clap::Subcommand;

use super::context::Context;
use super::failure::Failure;
use super::output::clean;
use super::words;

/// `secrets`
#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// Seal all keys, tokens and logins with a new key; the old one opens nothing any more
    Rekey,
}

/// Does what the command says.
pub(super) fn secrets(command: &Secrets, context: &Context) -> Result<(), Failure> {
    match command {
        Secrets::Rekey => {
            let info = context.connect()?.rekey()?;
            context.output.result(&info, || {
                let accounts = words::count(info.accounts, "account");
                format!("the secrets of {accounts} are sealed with a new key, in {}", clean(&info.place))
            })
        }
    }
}
