//! `token`: one token or key, for programs that run a command to get it (Claude Code's `apiKeyHelper`, Codex's
//! `auth.command`).

use std::{ffi::OsStr, time::Duration};

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::launch::agent::{provider_name, purpose};
use crate::cli::launch::{caller_process, new_request_id, parse_duration, wait_for_lease, working_directory};
use crate::cli::{context::Context, error::CliError};
use crate::pool::{CredentialKind, millis};
use crate::protocol::{
    AcquireParams, BindTo, Call, CredentialInfo, ErrorKind, GatewayKeyParams, LeaseInfo, LeaseRef, SecretText,
};
use crate::{client::Client, provider};

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
    /// Lease these accounts only: ids, prefixes of them, email addresses or labels
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    only: Vec<String>,
    /// How long to wait for an account; 0s: do not wait [default: limits.max_rate_limit_wait]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Print a key for lessor's gateway instead, for a program whose address leads there [default if the caller's
    /// ANTHROPIC_BASE_URL, or the like, does]
    #[arg(long)]
    gateway: bool,
}

/// Prints the token; the same caller gets the same account while that is usable.
pub(crate) fn token(args: TokenArgs, context: &Context) -> Result<(), CliError> {
    let caller = caller_process::calling_program().map_err(CliError::usage)?;
    let purpose = purpose(&[], Some(&args.provider), OsStr::new(&caller.agent)).map_err(CliError::usage)?;
    let provider = provider_name(&args.provider);
    let mut request = AcquireParams {
        provider: provider.clone(),
        model: args.model,
        session: args.session,
        wait_ms: args.wait.map(millis),
        bind: BindTo::Pid(caller.pid),
        // the gateway adds it to each request
        credential: !args.gateway,
        only: Some(args.only).filter(|only| !only.is_empty()),
        directory: working_directory(),
        agent: purpose.agent.clone(),
        // so that it may be made twice
        request_id: new_request_id(),
        ..AcquireParams::default()
    };
    let addresses = if args.gateway { Vec::new() } else { addresses(&provider) };
    let client = &mut if addresses.is_empty() {
        context.connect_ahead(&Call::Token(Box::new(request.clone())))?
    } else {
        let mut client = context.connect()?;
        request.credential = !are_the_gateway_s(&addresses, &mut client, context)?;
        client
    };
    let by_gateway = !request.credential;
    let mut lease = wait_for_lease(client, request, context, Client::token)?;
    if by_gateway {
        lease.credential = Some(gateway_key(client, &lease, context)?);
    }
    let Some(credential) = &lease.credential else {
        return Err(CliError::internal("the lease has no credential"));
    };
    let is_login = credential.kind != CredentialKind::ApiKey && credential.resource.is_none();
    if is_login
        && let Some(refused) = provider::refused_key_command(purpose.agent.as_deref(), &provider, credential.kind)
    {
        let _ended = client.release(LeaseRef { lease: lease.lease.clone().into_owned(), fence: Some(lease.fence) });
        let url = gateway_url(client, context)?;
        let agent = &caller.agent;
        let message = format!(
            "the leased account is a login: its token needs {}, and {agent} sends what {} prints as a key",
            refused.login_needs, refused.setting
        );
        let to_gateway = url.map(|url| refused.to_gateway.replace("{base}", &format!("{url}/{provider}")));
        let to_gateway = to_gateway.map(|way| format!(", or {way}")).unwrap_or_default();
        return Err(CliError::new(ErrorKind::NotAllowed, message)
            .hint(format!("start it with `lessor run {agent}`{to_gateway}")));
    }
    if context.output.json {
        return context.output.document(&lease);
    }
    let mut line = Zeroizing::new(String::with_capacity(credential.secret.0.len() + 1));
    line.push_str(&credential.secret.0);
    line.push('\n');
    context.output.text(&line)
}

/// The addresses of the provider in the environment that the caller has passed on.
fn addresses(provider: &str) -> Vec<String> {
    provider::address_variables(provider).iter().filter_map(|name| std::env::var(name).ok()).collect()
}

/// Whether one of these addresses is that of the gateway: a token would be refused there.
fn are_the_gateway_s(addresses: &[String], client: &mut Client, context: &Context) -> Result<bool, CliError> {
    let own = gateway_url(client, context)?.as_deref().and_then(port_on_this_machine);
    Ok(own.is_some() && addresses.iter().any(|url| port_on_this_machine(url) == own))
}

fn gateway_url(client: &mut Client, context: &Context) -> Result<Option<String>, CliError> {
    Ok(context.repeat(client, Client::status)?.gateway.and_then(|gateway| gateway.url))
}

/// The port of a URL, if its host is a loopback name.
fn port_on_this_machine(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = authority.rsplit_once(':')?;
    let is_loopback = host.eq_ignore_ascii_case("localhost") || host == "[::1]" || host.starts_with("127.");
    port.parse().ok().filter(|_| is_loopback)
}

/// A key for the gateway that ends with the lease, in place of the account's credential.
fn gateway_key(
    client: &mut Client,
    lease: &LeaseInfo<'_>,
    context: &Context,
) -> Result<CredentialInfo<'static>, CliError> {
    let params = GatewayKeyParams {
        lease: Some(lease.lease.clone().into_owned()),
        directory: working_directory(),
        ..GatewayKeyParams::default()
    };
    let access = context.repeat(client, |client| client.gateway_key(params.clone()))?;
    let (header, scheme) = provider::credential_header(&lease.provider, CredentialKind::ApiKey);
    Ok(CredentialInfo {
        kind: CredentialKind::ApiKey,
        secret: SecretText(access.key.0.into_owned().into()),
        expires_at: access.expires_at,
        header: header.into(),
        scheme: scheme.map(Into::into),
        resource: None,
        account_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_gateway_s_by_its_port_on_this_machine() {
        for (url, expected) in [
            ("http://127.0.0.1:7777/anthropic", Some(7777)),
            ("http://localhost:7777", Some(7777)),
            ("http://LOCALHOST:7777/x?y", Some(7777)),
            ("http://[::1]:7777/", Some(7777)),
            ("http://127.0.0.1/anthropic", None),
            ("https://api.anthropic.com", None),
            ("http://host.example:7777", None),
            ("http://127.0.0.1:x", None),
            ("", None),
        ] {
            assert_eq!(port_on_this_machine(url), expected, "{url}");
        }
    }
}
