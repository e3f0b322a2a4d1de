//! The calls on leases, for shell scripts: `acquire`, `token`, `release`, `renew`, `report`, `leases`.

mod acquire;
mod find;
mod report;
mod token;

use serde_json::json;

use crate::cli::ui::{self, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;

pub(super) use acquire::{AcquireArgs, acquire};
pub(super) use find::LeaseArg;
use find::with_lease;
pub(super) use report::{ReportArgs, report};
pub(super) use token::{TokenArgs, token};

/// `release`
pub(super) fn release(lease: &LeaseArg, context: &Context) -> Result<(), CliError> {
    with_lease(&mut context.connect()?, lease, Client::release)?;
    context.output.result(&json!({}), || "released".to_owned())
}

/// `renew`
pub(super) fn renew(lease: &LeaseArg, context: &Context) -> Result<(), CliError> {
    let lease = with_lease(&mut context.connect()?, lease, Client::renew)?;
    context.output.result(&lease, || match lease.expires_at {
        Some(at) => format!("renewed: ends {}", format::until(format::now(), at)),
        None => "this lease has no time limit: it ends with its process".to_owned(),
    })
}

/// `leases`
pub(super) fn leases(context: &Context) -> Result<(), CliError> {
    let leases = context.ask(Client::leases)?;
    context.output.result(&leases, || {
        if leases.is_empty() {
            return "no leases are held; acquire one: lessor run claude\n".to_owned();
        }
        ui::lease::table(&leases, format::now(), &context.output)
    })
}
