//! The calls on leases, for shell scripts: `acquire`, `token`, `release`, `renew`, `move`, `report`, `leases`.

mod acquire;
mod report;
mod token;

use clap::Args;
use serde_json::json;

use crate::cli::ui::{self, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::protocol::{AccountLabel, Call, ErrorKind, HolderInfo, LeaseRef, MoveLeaseParams, MovedInfo, NoParams};

pub(super) use acquire::{AcquireArgs, acquire};
pub(super) use report::{ReportArgs, report};
pub(super) use token::{TokenArgs, token};

/// The least letters that may stand for an id: its prefix and some more.
const MIN_PREFIX: usize = 6;

#[derive(Debug, Args)]
pub(crate) struct LeaseArg {
    /// The lease: its id, or the beginning of it as `leases` shows it
    lease: String,
    /// Fail unless the lease has this fencing token
    #[arg(long, value_name = "N")]
    fence: Option<u64>,
}

pub(super) fn release(lease: &LeaseArg, context: &Context) -> Result<(), CliError> {
    with_lease(&mut context.connect()?, lease, Client::release)?;
    context.output.result(&json!({}), || "released".to_owned())
}

pub(super) fn renew(lease: &LeaseArg, context: &Context) -> Result<(), CliError> {
    let lease = with_lease(&mut context.connect()?, lease, Client::renew)?;
    context.output.result(&lease, || match lease.expires_at {
        Some(at) => format!("renewed: ends {}", format::until(format::now(), at)),
        None => "this lease has no time limit: it ends with its process".to_owned(),
    })
}

pub(super) fn leases(context: &Context) -> Result<(), CliError> {
    let leases = context.ask_ahead(&Call::ListLeases(NoParams {}), Client::leases)?;
    context.output.result(&leases, || {
        if leases.is_empty() {
            return "no leases are held; acquire one: lessor run claude\n".to_owned();
        }
        ui::lease::table(&leases, format::now(), &context.output)
    })
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The lease (its id, or the beginning of it as `leases` shows it), or a process that holds one lease
    #[arg(value_name = "LEASE|PID")]
    what: String,
    /// The account to move to: an id, a prefix of it, an email address or a label [default: the best other one]
    #[arg(long, value_name = "A")]
    to: Option<String>,
}

pub(super) fn move_lease(args: MoveArgs, context: &Context) -> Result<(), CliError> {
    let MoveArgs { what, to } = args;
    let (lease, pid) = match what.parse() {
        Ok(pid) => (None, Some(pid)),
        Err(_) => (Some(what), None),
    };
    let params = MoveLeaseParams { lease, pid, to };
    // not repeated if the answer is lost: the lease would move again
    let moved = context.connect()?.move_lease(params)?;
    context.output.result(&moved, || moved_in_words(&moved))
}

fn moved_in_words(moved: &MovedInfo) -> String {
    let name = |account: &AccountLabel| {
        let name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id);
        clean(name)
    };
    let program = |holder: &HolderInfo| match &holder.program {
        Some(program) => format!("{} {}", clean(program), holder.pid),
        None => format!("process {}", holder.pid),
    };
    let holder = moved.holder.as_ref().map_or_else(|| "the lease".to_owned(), program);
    let when = if moved.at_next_request {
        "when it next reports to lessor, renews its lease or starts a request; a program that has the account's token \
         itself (`run --direct`) must be restarted"
    } else {
        "from its next request on"
    };
    format!("{holder}: {} → {}, {when}", name(&moved.from), name(&moved.to))
}

/// Makes a call with the id as given; if the daemon does not know it, with the only lease whose id begins with it.
fn with_lease<T>(
    client: &mut Client,
    lease: &LeaseArg,
    call: impl Fn(&mut Client, LeaseRef) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let reference = |id: &str| LeaseRef { lease: id.to_owned(), fence: lease.fence };
    let unknown = match call(client, reference(&lease.lease)) {
        Err(error) if error.kind() == Some(&ErrorKind::UnknownLease) => error,
        result => return Ok(result?),
    };
    let leases = client.leases()?;
    let prefix = lease.lease.trim_end_matches('…');
    let mut found = leases.iter().filter(|row| prefix.len() >= MIN_PREFIX && row.lease.starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(call(client, reference(&row.lease))?),
        (Some(_), Some(_)) => {
            Err(CliError::new(ErrorKind::UnknownLease, format!("several leases begin with {prefix}"))
                .hint("see: lessor leases"))
        }
        (None, _) => Err(unknown.into()),
    }
}
