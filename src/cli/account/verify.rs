//! `account verify`: an account whose provider wanted it confirmed serves again.

use clap::Args;

use crate::protocol::VerifyAccountParams;

use super::super::context::Context;
use super::super::failure::Failure;
use super::{Which, done};

/// `account verify`
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    which: Which,
    /// You have confirmed it: do not ask the provider
    #[arg(long)]
    confirmed: bool,
}

/// Asks the provider whether it is confirmed; where that cannot be asked, its owner is believed.
pub(super) fn verify(options: Verify, context: &Context) -> Result<(), Failure> {
    let wanted = VerifyAccountParams { account: options.which.account, confirmed: options.confirmed };
    let info = context.connect()?.verify_account(wanted)?;
    let now = format!("{}: verified", info.state.replace('_', " "));
    done(&info, &now, context)
}
