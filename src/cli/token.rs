//! `token`: one fresh token or key, for programs that ask a command for it (Claude Code's `apiKeyHelper`, Codex's
//! `auth.command`).

use std::ffi::OsStr;
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use crate::pool::millis;
use crate::protocol::{AcquireParams, BindTo};

use super::agent::purpose;
use super::context::Context;
use super::failure::Failure;
use super::{ancestor, waiting};

/// `token`
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Whose: anthropic, openai, google, one that the configuration names, or an agent (claude, codex, gemini)
    #[arg(value_name = "PROVIDER")]
    provider: String,
    /// The model it is for
    #[arg(short, long)]
    model: Option<String>,
    /// A conversation that wants to stay on one account
    #[arg(long)]
    session: Option<String>,
    /// How long to wait for an account, 0s not at all [default: limits.max_rate_limit_wait]
    #[arg(long, value_name = "DUR", value_parser = super::duration)]
    wait: Option<Duration>,
}

/// Prints it, and nothing else; the same caller gets the same account as long as that serves.
pub(super) fn token(options: Token, context: &Context) -> Result<(), Failure> {
    let holder = ancestor::holder().map_err(Failure::usage)?;
    let purpose = purpose(None, Some(&options.provider), OsStr::new(&holder.agent)).map_err(Failure::usage)?;
    let request = AcquireParams {
        provider: purpose.provider,
        model: options.model,
        session: options.session,
        wait_ms: options.wait.map(millis),
        bind: BindTo::Pid(holder.pid),
        credential: true,
        agent: purpose.agent,
        ..AcquireParams::default()
    };
    let lease = waiting::token(&mut context.connect()?, request, context)?;
    let Some(credential) = &lease.credential else {
        return Err(Failure::new("internal", "the lease came without its credential"));
    };
    if context.output.json {
        return context.output.document(&lease);
    }
    let mut line = Zeroizing::new(String::with_capacity(credential.secret.0.len() + 1));
    line.push_str(&credential.secret.0);
    line.push('\n');
    context.output.text(&line)
}
