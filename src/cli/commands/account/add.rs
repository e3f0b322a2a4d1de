//! `account add`: an account from a key, token or login on standard input.

use clap::{ArgGroup, Args};

use super::{added, login_document, new_account};
use crate::cli::ui::{account, clean, prompt};
use crate::cli::{context::Context, error::CliError, launch::agent::provider_name};
use crate::credential::oauth::LoginIdentity;
use crate::pool::{CredentialKind, Tier};
use crate::protocol::{AddAccountParams, ListAccountsParams, SecretText};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("secret").required(true))]
pub(crate) struct AccountAddArgs {
    /// The provider: anthropic, openai, google, or one from the configuration
    provider: String,
    /// Read an API key from standard input
    #[arg(long, group = "secret")]
    api_key_stdin: bool,
    /// Read a long-lived token from standard input
    #[arg(long, group = "secret")]
    token_stdin: bool,
    /// Read a login from standard input, as JSON
    ///
    /// The fields are access_token, refresh_token and expires_at; optional are id_token, email, project_id, tier,
    /// account_id, person_id, organization_id, organization (its name) and client_id. What is missing is taken from the
    /// tokens, where they name it.
    #[arg(long, group = "secret")]
    oauth_stdin: bool,
    /// A label for the account
    #[arg(long, value_name = "L")]
    label: Option<String>,
    /// The email address of the login
    #[arg(long)]
    email: Option<String>,
    /// The plan: ultra (or max), pro, free or unknown
    #[arg(long, value_parser = account::parse_tier)]
    tier: Option<Tier>,
    /// How many leases the account may have at a time [default: leases.per_account]
    #[arg(long, value_name = "N", value_parser = max_leases)]
    max_leases: Option<u32>,
    /// The priority among equally loaded accounts; higher is preferred
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Which agents may lease it, or any [default for logins: the vendor's agents; for keys: any]
    #[arg(long = "use", value_name = "A,B", value_delimiter = ',')]
    allowed_agents: Option<Vec<String>>,
    /// The id of the cloud project
    #[arg(long, value_name = "ID")]
    project_id: Option<String>,
    /// Keep the account for this host, although it shares a pool with others
    #[arg(long)]
    own: bool,
}

fn max_leases(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => {
            Err("at least 1 is needed; an account that gets no lease is disabled: lessor account disable A".to_owned())
        }
        Ok(most) => Ok(most),
        Err(_) => Err("a number from 1 is expected".to_owned()),
    }
}

pub(super) fn add(options: AccountAddArgs, context: &Context) -> Result<(), CliError> {
    let mut request = AddAccountParams {
        label: options.label,
        email: options.email,
        tier: options.tier,
        max_leases: options.max_leases,
        priority: options.priority,
        allowed_agents: options.allowed_agents,
        project_id: options.project_id,
        own: options.own,
        ..new_account(&provider_name(&options.provider), CredentialKind::ApiKey, "")
    };
    let output = &context.output;
    if options.oauth_stdin {
        let text = prompt::secret_document("login", output)?;
        let login = login_document::parse(&text)
            .map_err(|why| CliError::bad_request(format!("this is not a valid login: {why}")))?;
        request.kind = CredentialKind::Oauth;
        request.secret = SecretText(login.access_token.into());
        request.refresh_token = Some(SecretText(login.refresh_token.into()));
        request.expires_at = Some(login.expires_at);
        // options override the document, and the document its tokens
        let named = LoginIdentity::of_claims(&request.provider, &login.claims);
        if let (Some(given), Some(named)) = (&request.email, &named.email)
            && !given.eq_ignore_ascii_case(named)
        {
            let message = format!("the tokens are those of {}, not of {}", clean(named), clean(given));
            return Err(CliError::bad_request(message).hint("leave --email out, or give the login of that account"));
        }
        request.email = request.email.or(login.email).or(named.email);
        request.project_id = request.project_id.or(login.project_id);
        request.tier = request.tier.or(login.tier);
        request.account_id = login.account_id.or(named.account_id);
        request.person_id = login.person_id.or(named.person_id);
        request.organization_id = login.organization_id.or(named.organization_id);
        request.organization = login.organization.or(named.organization);
        request.client_id = login.client_id.or(login.claims.client_id);
    } else {
        let what = if options.token_stdin { "token" } else { "API key" };
        request.secret = SecretText(prompt::secret_line(what, output)?.as_str().to_owned().into());
        request.kind = if options.token_stdin { CredentialKind::Token } else { CredentialKind::ApiKey };
    }
    let mut client = context.connect()?;
    let known = client.accounts(ListAccountsParams { provider: Some(request.provider.clone()) })?;
    let kind = request.kind;
    let info = client.add_account(request)?;
    let what = match kind {
        _ if !known.iter().any(|account| account.id == info.id) => "added",
        CredentialKind::Oauth => "renewed the login of",
        CredentialKind::ApiKey => "nothing was added: this API key is already that of",
        CredentialKind::Token => "nothing was added: this token is already that of",
    };
    added(&info, what, context)
}
