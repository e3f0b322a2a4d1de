//! The gateway's addresses and key for a program, and the wait for a port that the configuration asks for and that is not
//! open yet: `config set` returns before the gateway has made its certificates.

use std::time::{Duration, Instant};

use super::agent::{self, LeasePurpose};
use super::working_directory;
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::protocol::{DaemonStatus, GatewayAccess, GatewayKeyParams, LeaseInfo};
use crate::provider::HandOut;

/// How long the gateway may take to open a port.
const OPENING: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AwaitedPort {
    Http,
    Https,
}

/// Which ports an answer of the daemon names, and why one is missing.
pub(crate) trait NamesPorts {
    fn has(&self, port: AwaitedPort) -> bool;

    fn has_trouble(&self) -> bool;
}

/// Repeats a call until its answer names the port, or says why there is none; not where the configuration asks for no such
/// port.
pub(crate) fn when_open<T: NamesPorts>(
    port: AwaitedPort,
    context: &Context,
    mut call: impl FnMut() -> Result<T, CliError>,
) -> Result<T, CliError> {
    let end = Instant::now() + OPENING;
    loop {
        let answer = call()?;
        let is_settled = answer.has(port) || answer.has_trouble() || Instant::now() >= end;
        if is_settled || !is_wanted(port, context) {
            return Ok(answer);
        }
        std::thread::sleep(STEP);
    }
}

fn is_wanted(port: AwaitedPort, context: &Context) -> bool {
    // a mistake in the file does not matter here: the daemon goes on with what it has
    let gateway = context.config().map(|config| config.gateway);
    gateway.is_ok_and(|gateway| gateway.enabled && (gateway.tls || port == AwaitedPort::Http))
}

impl NamesPorts for DaemonStatus {
    fn has(&self, port: AwaitedPort) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| match port {
            AwaitedPort::Http => gateway.url.is_some(),
            AwaitedPort::Https => gateway.secure_url.is_some(),
        })
    }

    fn has_trouble(&self) -> bool {
        self.gateway_trouble.is_some()
    }
}

impl NamesPorts for GatewayAccess {
    fn has(&self, port: AwaitedPort) -> bool {
        match port {
            AwaitedPort::Http => self.url.is_some(),
            AwaitedPort::Https => self.secure_url.is_some(),
        }
    }

    fn has_trouble(&self) -> bool {
        self.trouble.is_some()
    }
}

/// Refuses an agent that needs the gateway's https port, before an account is leased for it, if there is none.
pub(super) fn check_https(
    client: &mut Client,
    purpose: &LeasePurpose,
    hand_out: HandOut,
    context: &Context,
) -> Result<(), CliError> {
    let Some(agent) = purpose.agent.as_deref().filter(|agent| agent::needs_https_and_a_key(agent)) else {
        return Ok(());
    };
    if hand_out != HandOut::Gateway {
        let message = format!("{agent} gets its account through the gateway only");
        return Err(CliError::usage(message).hint("omit --direct and --profile"));
    }
    let status = when_open(AwaitedPort::Https, context, || context.repeat(client, Client::status))?;
    if status.gateway.and_then(|gateway| gateway.secure_url).is_some() {
        return Ok(());
    }
    let trouble = status.gateway_trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
    Err(CliError::usage(format!("{agent} uses a gateway by https only, which lessor's is not set to serve{trouble}"))
        .hint("lessor config set gateway.tls true"))
}

/// Where the gateway serves a program, and what the program needs to trust it.
#[derive(Debug, Default)]
pub(super) struct GatewayAddresses {
    pub(super) base: Option<String>,
    pub(super) secure_base: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) ca_bundle: Option<String>,
    pub(super) websocket: bool,
}

/// A gateway key that ends with the lease, and the gateway's addresses for a provider.
pub(super) fn gateway_access(
    client: &mut Client,
    lease: &LeaseInfo<'_>,
    provider: &str,
    context: &Context,
) -> Result<(String, GatewayAddresses), CliError> {
    let directory = working_directory();
    let key =
        GatewayKeyParams { lease: Some(lease.lease.clone().into_owned()), directory, ..GatewayKeyParams::default() };
    let mut ask = || context.repeat(client, |client| client.gateway_key(key.clone()));
    // where https is asked for, agents differ in what they are given without it
    let access = when_open(AwaitedPort::Https, context, || when_open(AwaitedPort::Http, context, &mut ask))?;
    let trouble = access.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    let url = access.url.ok_or_else(|| {
        CliError::internal(format!("the gateway does not listen{trouble}"))
            .hint("add --direct, or check gateway.listen and gateway.enabled: lessor config show")
    })?;
    let below = |url: String| format!("{url}/{provider}");
    let addresses = GatewayAddresses {
        base: Some(below(url)),
        secure_base: access.secure_url.map(below),
        socket: access.socket,
        ca_file: access.ca_file,
        ca_bundle: access.ca_bundle,
        websocket: access.websocket.unwrap_or(false),
    };
    Ok((access.key.0.into_owned(), addresses))
}
