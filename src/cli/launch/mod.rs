//! What `run` and `env` do before a program starts: lease an account, and prepare variables, arguments and files.

pub(crate) mod agent;
pub(crate) mod caller_process;
mod directory;
mod foreground;
mod prepared;
mod settings;
mod supervisor;
mod switches;
mod wait;

use std::{ffi::OsString, path::Path, time::Duration};

use clap::Args;

use super::{context::Context, error::CliError};
use crate::client::Client;
use crate::credential::LoginProgram;
use crate::pool::{CredentialKind, Process, millis};
use crate::protocol::{AcquireParams, BindTo, ErrorKind, GatewayKeyParams, LeaseInfo, ListAccountsParams};
use crate::provider::{self, AgentSetup, HandOut, HandOutRequest};

use agent::LeasePurpose;
use directory::PrivateDirectory;
pub(crate) use directory::{create_private_directory, is_abandoned};
pub(crate) use foreground::run_in_foreground;
pub(crate) use prepared::{PreparedLaunch, quoted};
pub(crate) use supervisor::{Messages, SuperviseArgs, supervise};
pub(crate) use switches::is_printing;
pub(crate) use wait::wait_for_lease;

#[derive(Clone, Debug, Args)]
pub(crate) struct LeaseOptions {
    /// Lease for requests to this model
    #[arg(short, long)]
    pub(crate) model: Option<String>,
    /// One of several quotas of an account (google: antigravity, gemini-cli)
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// A conversation that should stay on one account
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// A name that is shown with the lease
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Lease this account only: an id, a prefix of it, an email address or a label
    #[arg(long, value_name = "A")]
    pub(crate) account: Option<String>,
    /// How long to wait for an account; 0s: do not wait [default: limits.max_rate_limit_wait]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,
}

impl LeaseOptions {
    pub(crate) fn into_request(self) -> AcquireParams {
        AcquireParams {
            model: self.model,
            pool: self.pool,
            session: self.session,
            label: self.label,
            account: self.account,
            wait_ms: self.wait.map(millis),
            ..AcquireParams::default()
        }
    }
}

/// Parses a duration as in the configuration: `30s`, `5m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::duration::parse(text)
}

/// How a program gets the credential; without an option, through the gateway.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LaunchMode {
    /// Put the account's token or key itself into the environment, instead of the gateway's URL
    #[arg(long)]
    direct: bool,
    /// Give claude, codex or gemini a temporary configuration directory, logged in as the account
    #[arg(long, conflicts_with = "direct")]
    profile: bool,
}

impl LaunchMode {
    fn hand_out(self) -> HandOut {
        match self {
            Self { profile: true, .. } => HandOut::Profile,
            Self { direct: true, .. } => HandOut::Direct,
            Self { .. } => HandOut::Gateway,
        }
    }
}

pub(crate) struct LaunchRequest<'a> {
    pub(crate) options: LeaseOptions,
    pub(crate) purpose: &'a LeasePurpose,
    pub(crate) mode: LaunchMode,
    /// The process that the lease is bound to.
    pub(crate) holder: Process,
    /// The user's arguments for the program; lessor does not add an argument twice.
    pub(crate) arguments: &'a [OsString],
    /// The program is a shell, which cannot take an agent's arguments.
    pub(crate) is_shell: bool,
}

/// Leases an account and prepares the program's environment; if the latter fails, releases the lease.
pub(crate) fn prepare(
    client: &mut Client,
    request: LaunchRequest<'_>,
    context: &Context,
) -> Result<PreparedLaunch, CliError> {
    let LaunchRequest { options, purpose, mode, holder, arguments, is_shell } = request;
    let hand_out = mode.hand_out();
    let agents = provider::agents_with_profile();
    if hand_out == HandOut::Profile && !purpose.agent.as_deref().is_some_and(|agent| agents.contains(&agent)) {
        let message = format!("--profile works for {} only", agents.join(", "));
        return Err(CliError::usage(message).hint("omit --profile: the gateway works for every program"));
    }
    let places = context.places()?;
    let acquire = AcquireParams {
        provider: purpose.provider.clone(),
        bind: BindTo::Pid(holder.pid),
        // the gateway adds it to each request
        credential: hand_out != HandOut::Gateway,
        agent: purpose.agent.clone(),
        ..options.into_request()
    };
    let lease =
        wait_for_lease(client, acquire, context, Client::acquire).map_err(|error| with_account_hint(error, purpose))?;
    let mut directory = PrivateDirectory::new(&places, holder, lease.fence);
    let prepared = outfit((client, context), &lease, purpose, hand_out, directory.path()).and_then(|outfit| {
        let agent = purpose.agent.as_deref().filter(|_| is_shell);
        prepared::prepare_environment(&outfit, &mut directory, arguments, agent)
    });
    match prepared {
        Ok(environment) => Ok(PreparedLaunch { lease, environment, hand_out, holder, directory: directory.created() }),
        Err(error) => {
            prepared::release(client, &lease);
            directory::remove(directory.path());
            Err(error)
        }
    }
}

/// If there is no account, names the commands that add one.
fn with_account_hint(error: CliError, purpose: &LeasePurpose) -> CliError {
    if *error.kind() != ErrorKind::NoAccount {
        return error;
    }
    let provider = &purpose.provider;
    let by_program = LoginProgram::of_provider(provider).map(|program| format!("lessor login {} or ", program.name()));
    error.replace_hint(format!(
        "import the accounts of your other tools: lessor import; log in: {}lessor login {provider}; \
         or add a key: lessor account add {provider} --api-key-stdin",
        by_program.unwrap_or_default()
    ))
}

fn outfit(
    (client, context): (&mut Client, &Context),
    lease: &LeaseInfo<'_>,
    purpose: &LeasePurpose,
    hand_out: HandOut,
    directory: &Path,
) -> Result<AgentSetup, CliError> {
    let provider = purpose.provider.as_str();
    let (kind, key, gateway) = match (&lease.credential, hand_out) {
        (_, HandOut::Gateway) => {
            let (key, addresses) = gateway_access(client, lease, context)?;
            (credential_kind(client, lease, context)?, key, addresses)
        }
        (Some(credential), _) if credential.resource.is_some() => {
            (CredentialKind::ApiKey, credential.secret.0.clone().into_owned(), GatewayAddresses::default())
        }
        (Some(credential), _) => {
            (credential.kind, credential.secret.0.clone().into_owned(), GatewayAddresses::default())
        }
        (None, _) => return Err(CliError::internal("the lease has no credential")),
    };
    let handed = HandOutRequest {
        hand_out,
        provider,
        kind,
        agent: purpose.agent.as_deref(),
        key: &key,
        base: gateway.base.as_deref(),
        secure_base: gateway.secure_base.as_deref(),
        socket: gateway.socket.as_deref(),
        ca_file: gateway.ca_file.as_deref(),
        ca_bundle: gateway.ca_bundle.as_deref(),
        directory: &directory.to_string_lossy(),
        expires_at: lease.credential.as_ref().and_then(|credential| credential.expires_at),
        project: lease.project_id.as_deref(),
    };
    let mut outfit = provider::agent_setup(&handed);
    // a launcher may also start other programs than the agent
    if let Some(outfit) = outfit.as_mut().filter(|_| purpose.is_launcher && hand_out != HandOut::Profile)
        && let Some(for_any_program) = provider::agent_setup(&HandOutRequest { agent: None, ..handed })
    {
        outfit.serve_also(for_any_program);
    }
    let mut key = key;
    zeroize::Zeroize::zeroize(&mut key);
    outfit.ok_or_else(|| CliError::usage(format!("{provider} has no profile for this program")))
}

/// Where the gateway serves a program, and what the program needs to trust it.
#[derive(Debug, Default)]
struct GatewayAddresses {
    base: Option<String>,
    secure_base: Option<String>,
    socket: Option<String>,
    ca_file: Option<String>,
    ca_bundle: Option<String>,
}

/// A gateway key that ends with the lease, and the gateway's addresses.
fn gateway_access(
    client: &mut Client,
    lease: &LeaseInfo<'_>,
    context: &Context,
) -> Result<(String, GatewayAddresses), CliError> {
    let directory = std::env::current_dir().ok().map(|path| path.to_string_lossy().into_owned());
    let key =
        GatewayKeyParams { lease: Some(lease.lease.clone().into_owned()), directory, ..GatewayKeyParams::default() };
    let access = context.repeat(client, |client| client.gateway_key(key.clone()))?;
    let trouble = access.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    let url = access.url.ok_or_else(|| {
        CliError::internal(format!("the gateway does not listen{trouble}"))
            .hint("add --direct, or check gateway.listen and gateway.enabled: lessor config show")
    })?;
    let below = |url: String| format!("{url}/{}", lease.provider);
    let addresses = GatewayAddresses {
        base: Some(below(url)),
        secure_base: access.secure_url.map(below),
        socket: access.socket,
        ca_file: access.ca_file,
        ca_bundle: access.ca_bundle,
    };
    Ok((access.key.0.into_owned(), addresses))
}

/// The kind of the account's credential; some programs need other variables for a key than for a login.
fn credential_kind(client: &mut Client, lease: &LeaseInfo<'_>, context: &Context) -> Result<CredentialKind, CliError> {
    let of_provider = ListAccountsParams { provider: Some(lease.provider.clone().into_owned()) };
    let accounts = context.repeat(client, |client| client.accounts(of_provider.clone()))?;
    let account = accounts.into_iter().find(|account| account.id == lease.account.id);
    account
        .map(|account| account.api_kind())
        .ok_or_else(|| CliError::new(ErrorKind::UnknownAccount, "the account has been removed"))
}
