//! `account add`

use clap::{ArgGroup, Args};

use crate::pool::{CredentialKind, Tier};
use crate::protocol::{AddAccountParams, SecretText};

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::lease::canonical;
use super::super::{oauth, secret};
use super::done;

/// `account add`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("secret").required(true))]
pub(in crate::cli) struct Add {
    /// anthropic, openai, google, or one that the configuration names
    provider: String,
    /// Read an API key from standard input
    #[arg(long, group = "secret")]
    api_key_stdin: bool,
    /// Read a long-lived token from standard input
    #[arg(long, group = "secret")]
    token_stdin: bool,
    /// Read a login as JSON: access_token, refresh_token, expires_at; email, project_id, tier, account_id
    #[arg(long, group = "secret")]
    oauth_stdin: bool,
    /// Your name for it
    #[arg(long, value_name = "L")]
    label: Option<String>,
    /// The login's address
    #[arg(long)]
    email: Option<String>,
    /// The plan: ultra, pro, free or unknown
    #[arg(long, value_parser = oauth::tier)]
    tier: Option<Tier>,
    /// How many leases it takes at a time [default: leases.per_account]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_leases: Option<u32>,
    /// Higher is preferred among equally loaded accounts
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Which agents may hold it, or any [default: logins their vendor's own, keys any]
    #[arg(long = "use", value_name = "A,B", value_delimiter = ',')]
    allowed_agents: Option<Vec<String>>,
    /// The cloud project
    #[arg(long, value_name = "ID")]
    project_id: Option<String>,
}

/// Reads the secret and hands it to the daemon.
pub(super) fn add(options: Add, context: &Context) -> Result<(), Failure> {
    let provider = canonical(&options.provider);
    let mut account = AddAccountParams {
        provider,
        kind: CredentialKind::ApiKey,
        secret: SecretText("".into()),
        refresh_token: None,
        expires_at: None,
        label: options.label,
        email: options.email,
        tier: options.tier,
        max_leases: options.max_leases,
        priority: options.priority,
        allowed_agents: options.allowed_agents,
        project_id: options.project_id,
        account_id: None,
    };
    let output = &context.output;
    if options.oauth_stdin {
        let text = secret::document("login", output)?;
        let login =
            oauth::parse(&text).map_err(|why| Failure::new("bad_request", format!("this is no login: {why}")))?;
        account.kind = CredentialKind::Oauth;
        account.secret = SecretText(login.access_token.into());
        account.refresh_token = Some(SecretText(login.refresh_token.into()));
        account.expires_at = Some(login.expires_at);
        // what the command line says goes before
        account.email = account.email.or(login.email);
        account.project_id = account.project_id.or(login.project_id);
        account.tier = account.tier.or(login.tier);
        account.account_id = login.account_id;
    } else {
        let what = if options.token_stdin { "token" } else { "API key" };
        account.secret = SecretText(secret::line(what, output)?.as_str().to_owned().into());
        account.kind = if options.token_stdin { CredentialKind::Token } else { CredentialKind::ApiKey };
    }
    let info = context.connect()?.add_account(account)?;
    done(&info, "added", context)
}
