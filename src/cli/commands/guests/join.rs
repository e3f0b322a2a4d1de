//! `join` and `leave`: this machine uses the accounts of another one.

use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::list;
use crate::cli::commands::config::{ReloadOutcome, write_settings};
use crate::cli::ui::clean;
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::config::edit::NamedKey;
use crate::protocol::{HostInfo, ListAccountsParams};

/// How long to wait for the first link.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The machine, as ssh knows it: HOST, USER@HOST or ssh://USER@HOST:PORT
    #[arg(value_name = "HOST")]
    host: String,
    /// An option of ssh, as after -o; may be given again
    #[arg(long, value_name = "OPTION")]
    ssh_option: Vec<String>,
    /// The file of lessor on that machine [default: lessor]
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
}

/// `join --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JoinResult {
    /// The host.
    host: String,
    /// `up`; or `down`, while the daemon goes on trying.
    state: String,
    /// Why the link is down.
    trouble: Option<String>,
    /// How many of its accounts this machine may use.
    accounts: u64,
}

/// `leave --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LeaveResult {
    /// The host that was left; null if there was none.
    host: Option<String>,
}

pub(in crate::cli::commands) fn join(args: &JoinArgs, context: &Context) -> Result<u8, CliError> {
    let named = NamedKey::find("join.host").map_err(CliError::internal)?;
    named.row().kind.read_argument(&args.host).map_err(|why| CliError::usage(format!("the host {why}")))?;
    if args.host.is_empty() {
        return Err(CliError::usage("the host is empty").hint("to use this machine's own accounts: lessor leave"));
    }
    let places = context.places()?;
    let options = (!args.ssh_option.is_empty()).then(|| list(&args.ssh_option));
    let keys =
        [("join.options", options), ("join.program", args.program.clone()), ("join.host", Some(args.host.clone()))];
    write_settings(&places.config, &keys)?;
    let mut client = context.connect()?;
    client.reload()?;
    let link = wait_for_link(&mut client, &args.host)?;
    let accounts = if link.state == "up" { client.accounts(ListAccountsParams::default())?.len() as u64 } else { 0 };
    let result = JoinResult { host: args.host.clone(), state: link.state, trouble: link.trouble, accounts };
    let is_up = result.state == "up";
    context.output.result(&result, || {
        let host = clean(&result.host);
        if is_up {
            return format!("joined {host}: its accounts are used here ({})", result.accounts);
        }
        let why = result.trouble.as_deref().map_or_else(|| "there is no link yet".to_owned(), clean);
        format!("{host} is configured, but cannot be reached: {why}\nThe daemon goes on trying; see: lessor status")
    })?;
    Ok(u8::from(!is_up))
}

/// The link when it is up, or how it is when the patience is over.
fn wait_for_link(client: &mut Client, host: &str) -> Result<HostInfo, CliError> {
    let begun = Instant::now();
    loop {
        let link = client.status()?.host.filter(|link| link.name == host);
        match link {
            Some(link) if link.state == "up" => return Ok(link),
            link if begun.elapsed() >= PATIENCE => {
                let down = HostInfo { name: host.to_owned(), state: "down".to_owned(), ..HostInfo::default() };
                return Ok(link.unwrap_or(down));
            }
            _ => std::thread::sleep(STEP),
        }
    }
}

pub(in crate::cli::commands) fn leave(context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let host = context.config()?.join.host;
    let keys = ["join.host", "join.options", "join.program"].map(|key| (key, None));
    write_settings(&places.config, &keys)?;
    let outcome = ReloadOutcome::of_daemon(&places);
    let result = LeaveResult { host };
    context.output.result(&result, || match &result.host {
        Some(host) => format!("left {}: this machine uses its own accounts\n{}", clean(host), outcome.text()),
        None => "this machine has joined no other one".to_owned(),
    })
}
