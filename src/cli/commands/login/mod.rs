//! `login`: adds or renews a login.

mod browser;
mod chatgpt;
mod client_file;
mod token;
mod vendor;
mod vendor_program;

use clap::Args;

use crate::cli::{context::Context, error::CliError};

pub(super) use vendor::{is_abandoned_home, unused_homes};

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The vendor's program that logs in: claude, codex, gemini or agy. Or the provider, for a login with an OAuth client:
    /// anthropic, openai, google, or one from the configuration
    #[arg(value_name = "PROGRAM|PROVIDER")]
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
    /// The OAuth client to log in with: its file, which is stored encrypted, or its name or id
    ///
    /// The file is the JSON that Google offers for download, or JSON or TOML with client_id and client_secret. A name is
    /// that of `lessor secrets list` or of [providers.PROVIDER.oauth.clients].
    #[arg(long, value_name = "FILE|NAME")]
    client: Option<String>,
    /// The label of the account, if it is new
    #[arg(long, value_name = "L", value_parser = label)]
    label: Option<String>,
    /// Add a long-lived token of a Claude subscription: runs `claude setup-token`, then asks for the token
    ///
    /// With --paste, or without a terminal, only reads the token. A token of the same name is replaced.
    #[arg(long, conflicts_with_all = ["device", "no_browser", "client"])]
    token: bool,
    /// Sign in with ChatGPT for any program (experimental): the plan of the account at OpenAI's public Responses API
    ///
    /// Registers lessor for the account at the first login. --label with the name of such an account renews it.
    #[arg(long, conflicts_with_all = ["device", "client", "token"])]
    chatgpt: bool,
}

/// A label that the daemon accepts: one that it refuses is refused before the user logs in.
fn label(text: &str) -> Result<String, String> {
    const LONGEST: usize = 256;
    match text {
        "" => Err("a label is not empty".to_owned()),
        long if long.len() > LONGEST => Err(format!("a label has at most {LONGEST} bytes")),
        text if text.chars().any(char::is_control) => Err("a label has no control characters".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn execute(options: LoginArgs, context: &Context) -> Result<(), CliError> {
    if options.token {
        return token::execute(options, context);
    }
    if options.chatgpt {
        return chatgpt::execute(options, context);
    }
    match vendor::program_of(&options) {
        Some(program) => vendor::execute(program, options, context),
        None => browser::execute(options, context),
    }
}
