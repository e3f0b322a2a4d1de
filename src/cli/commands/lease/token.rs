//! `token`: one token or key, for programs that run a command to get it (Claude Code's `apiKeyHelper`, Codex's
//! `auth.command`).

use std::ffi::OsStr;
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::launch::{agent::purpose, caller_process, parse_duration};
use crate::cli::{context::Context, error::CliError, ui::progress};
use crate::client::Client;
use crate::pool::millis;
use crate::protocol::{AcquireParams, BindTo};

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The provider (anthropic, openai, google, or one from the configuration) or agent (claude, codex, gemini)
    #[arg(value_name = "PROVIDER")]
    provider: String,
    /// Lease for requests to this model
    #[arg(short, long)]
    model: Option<String>,
    /// A conversation that should stay on one account
    #[arg(long)]
    session: Option<String>,
    /// How long to wait for an account; 0s: do not wait [default: limits.max_rate_limit_wait]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    wait: Option<Duration>,
}

/// Prints the token; the same caller gets the same account while that is usable.
pub(crate) fn token(args: TokenArgs, context: &Context) -> Result<(), CliError> {
    let caller = caller_process::calling_program().map_err(CliError::usage)?;
    let purpose = purpose(None, Some(&args.provider), OsStr::new(&caller.agent)).map_err(CliError::usage)?;
    let request = AcquireParams {
        provider: purpose.provider,
        model: args.model,
        session: args.session,
        wait_ms: args.wait.map(millis),
        bind: BindTo::Pid(caller.pid),
        credential: true,
        agent: purpose.agent,
        ..AcquireParams::default()
    };
    let lease = progress::wait_for_lease(&mut context.connect()?, request, &context.output, Client::token)?;
    let Some(credential) = &lease.credential else {
        return Err(CliError::internal("the lease has no credential"));
    };
    if context.output.json {
        return context.output.document(&lease);
    }
    let mut line = Zeroizing::new(String::with_capacity(credential.secret.0.len() + 1));
    line.push_str(&credential.secret.0);
    line.push('\n');
    context.output.text(&line)
}
