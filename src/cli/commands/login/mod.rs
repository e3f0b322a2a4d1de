//! `login`: adds or renews a login.

mod browser;

use clap::Args;

use crate::cli::{context::Context, error::CliError};

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The provider: anthropic, openai, google, or one from the configuration
    #[arg(value_name = "PROVIDER")]
    provider: String,
    /// Show a code to be entered on any device
    #[arg(long, conflicts_with = "paste")]
    device: bool,
    /// Paste the code, or the address of the last page: for a browser on another machine
    #[arg(long)]
    paste: bool,
    /// Print the address without opening the browser
    #[arg(long)]
    no_browser: bool,
    /// The OAuth client to log in with, by its name in [providers.PROVIDER.oauth.clients], or its id
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// The label of the account, if it is new
    #[arg(long, value_name = "L")]
    label: Option<String>,
}

pub(super) fn execute(options: LoginArgs, context: &Context) -> Result<(), CliError> {
    browser::execute(options, context)
}
