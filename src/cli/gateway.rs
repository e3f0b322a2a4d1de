//! `gateway url`, `gateway key`: for clients that `run` does not start.

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::protocol::GatewayKeyParams;

use super::context::Context;
use super::failure::Failure;

/// `gateway`
#[derive(Debug, Subcommand)]
pub(super) enum Gateway {
    /// Print where the gateway listens; a provider's name follows, as in URL/anthropic
    Url,
    /// Print a new key for clients that `run` does not start
    Key(Key),
}

/// `gateway key`
#[derive(Debug, Args)]
pub(super) struct Key {
    /// The agent that will use it: a login serves its vendor's own agents only
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// A name for people, shown with its leases
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// Says where it is, or makes a key.
pub(super) fn gateway(command: Gateway, context: &Context) -> Result<(), Failure> {
    match command {
        Gateway::Url => url(context),
        Gateway::Key(Key { agent, label }) => {
            let wanted = GatewayKeyParams { agent, label, ..GatewayKeyParams::default() };
            let access = context.ask(|client| client.gateway_key(wanted.clone()))?;
            if let Some(trouble) = &access.trouble {
                context.output.note(&format!("the gateway does not serve as it should: {trouble}"));
            }
            context.output.result(&access, || access.key.0.to_string())
        }
    }
}

fn url(context: &Context) -> Result<(), Failure> {
    let status = context.ask(Client::status)?;
    let nowhere = || {
        let why = status.warnings.iter().find(|warning| warning.contains("gateway"));
        let why = why.cloned().unwrap_or_else(|| "gateway.enabled is false".to_owned());
        Failure::new("no_gateway", format!("the gateway does not listen: {why}"))
    };
    let info = status.gateway.as_ref().ok_or_else(nowhere)?;
    let place = info.url.as_ref().ok_or_else(nowhere)?;
    context.output.result(info, || place.clone())
}
