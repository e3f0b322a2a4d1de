//! `gateway url`, `gateway key`: for clients that `run` does not start.

use clap::{Args, Subcommand};

use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::protocol::{ErrorKind, GatewayKeyParams};

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Print the gateway's URL
    ///
    /// The name of a provider follows the URL, as in URL/anthropic.
    #[command(after_help = "Example: curl \"$(lessor gateway url)/anthropic/v1/models\" -H \"x-api-key: $KEY\"")]
    Url,
    /// Print a new gateway key for a client that `run` does not start
    #[command(after_help = "Example: lessor gateway key --agent claude --label 'my editor'")]
    Key(GatewayKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GatewayKeyArgs {
    /// The agent that will use the key; logins serve the agents of their vendor only
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// A name that is shown with the leases of this key
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

pub(super) fn execute(command: GatewayCommand, context: &Context) -> Result<(), CliError> {
    match command {
        GatewayCommand::Url => url(context),
        GatewayCommand::Key(GatewayKeyArgs { agent, label }) => {
            let request = GatewayKeyParams { agent, label, ..GatewayKeyParams::default() };
            let access = context.ask(|client| client.gateway_key(request.clone()))?;
            if let Some(trouble) = &access.trouble {
                context.output.note(&format!("the gateway has a problem: {trouble}"));
            }
            context.output.result(&access, || access.key.0.to_string())
        }
    }
}

fn url(context: &Context) -> Result<(), CliError> {
    let info = context.ask(Client::status)?.gateway.unwrap_or_default();
    let Some(url) = &info.url else {
        // the status does not contain the reason, the answer with a key does
        let access = context.ask(|client| client.gateway_key(GatewayKeyParams::default()))?;
        let why = access.trouble.unwrap_or_else(|| "gateway.enabled is false".to_owned());
        return Err(CliError::new(ErrorKind::NoGateway, format!("the gateway does not listen: {why}")));
    };
    context.output.result(&info, || url.clone())
}
