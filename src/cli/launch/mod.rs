//! What `run` and `env` do before a program starts: lease an account, and prepare variables, arguments and files.

pub(crate) mod agent;
pub(crate) mod caller_process;
mod certificates;
mod claim;
mod directory;
mod foreground;
mod gateway;
mod inner_lease;
pub(crate) mod outer_run;
mod prepared;
pub(crate) mod programs;
mod settings;
pub(crate) mod shims;
mod supervisor;
mod switches;
mod wait;

use std::time::Duration;
use std::{ffi::OsString, path::Path};

use clap::Args;

use super::{context::Context, error::CliError};
use crate::client::Client;
use crate::config::AppPaths;
use crate::credential::LoginProgram;
use crate::pool::{CredentialKind, Process, millis};
use crate::protocol::{AcquireParams, ErrorKind, LeaseInfo, ListAccountsParams};
use crate::provider::{self, AgentSetup, HandOut, HandOutRequest};

use agent::LeasePurpose;
use directory::PrivateDirectory;
pub(crate) use directory::{create_private_directory, is_abandoned};
pub(crate) use foreground::run_in_foreground;
pub(crate) use gateway::{AwaitedPort, when_open};
use gateway::{GatewayAddresses, check_https, gateway_access};
use inner_lease::{LaunchLease, LeaseSeeker, allows};
use outer_run::OuterRun;
pub(crate) use prepared::{PreparedLaunch, without_settings_of_runs};
pub(crate) use shims::quoted;
pub(crate) use supervisor::{Messages, SuperviseArgs, supervise};
pub(crate) use switches::is_printing;
pub(crate) use wait::{new_request_id, wait_for_lease};

#[derive(Clone, Debug, Default, Args)]
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
    /// Lease these accounts only, also when the lease moves: ids, prefixes of them, email addresses or labels
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
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
            only: Some(self.only).filter(|only| !only.is_empty()),
            directory: working_directory(),
            wait_ms: self.wait.map(millis),
            ..AcquireParams::default()
        }
    }
}

/// The directory that this process works in, without links: the configuration may have a set of accounts for it.
pub(crate) fn working_directory() -> Option<String> {
    std::env::current_dir().ok()?.into_os_string().into_string().ok()
}

/// Parses a duration as in the configuration: `30s`, `5m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::duration::parse(text)
}

/// How a program gets the credential; without an option, through the gateway.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct LaunchMode {
    /// Put the account's token or key itself into the environment, instead of the gateway's URL
    #[arg(long)]
    direct: bool,
    /// Give claude, codex or gemini a temporary configuration directory, logged in as the account
    #[arg(long, conflicts_with = "direct")]
    profile: bool,
}

impl LaunchMode {
    /// The mode of an inner run that states none.
    pub(crate) fn or_of(self, outer: &OuterRun) -> Self {
        Self { direct: self.direct || outer.direct && !self.profile, ..self }
    }

    pub(crate) fn hand_out(self) -> HandOut {
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
    /// The process that the leases are bound to.
    pub(crate) holder: Process,
    /// The user's arguments for the program; lessor does not add an argument twice.
    pub(crate) arguments: &'a [OsString],
    /// What the program is to the agents that it may start.
    pub(crate) role: LaunchRole<'a>,
}

/// What a program is to the agents that it may start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LaunchRole<'a> {
    /// The calling shell: what it starts is no concern of lessor's.
    Shell,
    /// A command of `run`: the agents that it starts lead to lessor.
    Command(CommandRole<'a>),
}

/// A command of `run`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandRole<'a> {
    /// The run that this one is inside of.
    pub(crate) outer: Option<&'a OuterRun>,
    /// The command is the agent itself, not a script that may start some.
    pub(crate) is_agent: bool,
    /// Arguments can be added to it; those of a shell would be the script's.
    pub(crate) takes_arguments: bool,
    /// The file that is started.
    pub(crate) program: &'a Path,
    pub(crate) quiet: bool,
    /// The user's launcher of Claude Code's processes.
    pub(crate) process_wrapper: &'a [String],
}

/// Leases an account of each provider, and prepares the program's environment; if anything of that fails, releases what
/// was leased.
pub(crate) fn prepare(
    client: &mut Client,
    request: LaunchRequest<'_>,
    context: &Context,
) -> Result<PreparedLaunch, CliError> {
    let hand_out = request.mode.hand_out();
    check_profile(request.purpose, hand_out)?;
    check_https(client, request.purpose, hand_out, context)?;
    let places = context.places()?;
    let mut held: Vec<LaunchLease> = Vec::new();
    let mut withheld = Vec::new();
    // in the order of their names: of two programs that need the same providers, none has what the other waits for
    for provider in &request.purpose.providers {
        match lease_of(client, provider, &request, context) {
            Ok(lease) => held.push(lease),
            Err(error) if request.goes_on_without(client, provider, &error) => withheld.push(provider.clone()),
            Err(error) => {
                held.iter().for_each(|lease| lease.release(client));
                return Err(error);
            }
        }
    }
    let fence = held.first().map_or(0, |lease| lease.info.fence);
    let mut directory = PrivateDirectory::new(&places, request.holder, fence);
    let prepared = outfit_for_all((client, context), &held, request.purpose, hand_out, directory.path())
        .map(|outfit| with_process_wrapper(outfit, &request, &places))
        .and_then(|outfit| prepared::prepare_environment(&outfit, &mut directory, &request, &places, !held.is_empty()));
    match prepared {
        Ok(environment) => {
            let directory = directory.created();
            Ok(PreparedLaunch { held, withheld, environment, hand_out, holder: request.holder, directory })
        }
        Err(error) => {
            held.iter().for_each(|lease| lease.release(client));
            directory::remove(directory.path());
            Err(error)
        }
    }
}

/// Adds the launcher of Claude Code's processes. A session in the background outlives a profile, so it gets none of that.
fn with_process_wrapper(mut outfit: AgentSetup, request: &LaunchRequest<'_>, places: &AppPaths) -> AgentSetup {
    let is_claude = request.purpose.agent.as_deref() == Some("claude");
    let is_command = matches!(request.role, LaunchRole::Command(_));
    if cfg!(unix) && is_claude && is_command && request.mode.hand_out() != HandOut::Profile {
        // on a disk that is full or read-only, its processes are not served after the end of the run
        let launcher = shims::process_wrapper(places).map(|launcher| shims::wrapper_value(&launcher));
        outfit.set.extend(launcher.map(|value| (shims::PROCESS_WRAPPER.to_owned(), value)));
    }
    outfit
}

fn check_profile(purpose: &LeasePurpose, hand_out: HandOut) -> Result<(), CliError> {
    let agents = provider::agents_with_profile();
    let message = match purpose.agent.as_deref() {
        _ if hand_out != HandOut::Profile => return Ok(()),
        Some(agent) if !agents.contains(&agent) => format!("--profile works for {} only", agents.join(", ")),
        None => format!("--profile works for {} only", agents.join(", ")),
        Some(_) if purpose.providers.len() > 1 => "a profile is for one provider only".to_owned(),
        Some(_) => return Ok(()),
    };
    Err(CliError::usage(message).hint("omit --profile: the gateway works for every program"))
}

fn lease_of(
    client: &mut Client,
    provider: &str,
    request: &LaunchRequest<'_>,
    context: &Context,
) -> Result<LaunchLease, CliError> {
    let purpose = request.purpose;
    let seeker = LeaseSeeker {
        process: request.holder,
        agent: purpose.agent.as_deref(),
        outer: match request.role {
            LaunchRole::Command(command) => command.outer,
            LaunchRole::Shell => None,
        },
    };
    // through the gateway, it adds the credential to each request
    let credential = request.mode.hand_out() != HandOut::Gateway;
    let acquire = inner_lease::request(provider, seeker, request.options.clone().into_request());
    let acquire = AcquireParams { credential, ..acquire };
    let lease = inner_lease::lease(client, acquire, seeker, context);
    lease.map_err(|error| {
        let error = with_account_hint(error, provider);
        if purpose.providers.len() > 1 { error.about(provider) } else { error }
    })
}

impl LaunchRequest<'_> {
    /// Whether a script goes on without a lease of its own: the accounts are for agents only, and it may start those.
    fn goes_on_without(&self, client: &mut Client, provider: &str, error: &CliError) -> bool {
        let is_script = matches!(self.role, LaunchRole::Command(CommandRole { is_agent: false, .. }));
        if !is_script || *error.kind() != ErrorKind::NotAllowed || self.mode.hand_out() != HandOut::Gateway {
            return false;
        }
        // one that has no account in its set must not go on with none
        if !error.info.data.accounts.iter().any(|account| account.why == "not_allowed") {
            return false;
        }
        let of_provider = ListAccountsParams { provider: Some(provider.to_owned()) };
        let accounts = client.accounts(of_provider).unwrap_or_default();
        accounts.iter().any(|account| account.enabled && shims::agents().any(|agent| allows(account, Some(agent))))
    }
}

/// The providers of which there are accounts that are enabled.
pub(crate) fn providers_with_accounts(client: &mut Client, context: &Context) -> Result<Vec<String>, CliError> {
    let accounts = context.repeat(client, |client| client.accounts(ListAccountsParams::default()))?;
    let mut providers: Vec<String> =
        accounts.into_iter().filter(|account| account.enabled).map(|account| account.provider).collect();
    providers.sort();
    providers.dedup();
    Ok(providers)
}

/// There is no account of a provider.
pub(crate) fn no_account(provider: &str) -> CliError {
    with_account_hint(CliError::new(ErrorKind::NoAccount, format!("there is no {provider} account")), provider)
}

/// If there is no account, names the commands that add one. Where there are some, disabled ones, the daemon has named
/// what helps.
fn with_account_hint(error: CliError, provider: &str) -> CliError {
    if *error.kind() != ErrorKind::NoAccount || !error.info.data.accounts.is_empty() {
        return error;
    }
    let by_program = LoginProgram::of_provider(provider).map(|program| format!("lessor login {} or ", program.name()));
    error.replace_hint(format!(
        "import the accounts of your other tools: lessor import; log in: {}lessor login {provider}; \
         or add a key: lessor account add {provider} --api-key-stdin",
        by_program.unwrap_or_default()
    ))
}

/// What the program needs for all its leases. The gateway's key is that of the first: it works for all of them.
fn outfit_for_all(
    (client, context): (&mut Client, &Context),
    held: &[LaunchLease],
    purpose: &LeasePurpose,
    hand_out: HandOut,
    directory: &Path,
) -> Result<AgentSetup, CliError> {
    let mut all = AgentSetup::default();
    let Some(first) = held.first() else { return Ok(all) };
    for lease in held {
        let leases = (&lease.info, &first.info);
        all.join(outfit((client, context), leases, purpose, hand_out, directory)?);
    }
    Ok(all)
}

fn outfit(
    (client, context): (&mut Client, &Context),
    (lease, first): (&LeaseInfo<'_>, &LeaseInfo<'_>),
    purpose: &LeasePurpose,
    hand_out: HandOut,
    directory: &Path,
) -> Result<AgentSetup, CliError> {
    let provider = &*lease.provider;
    let (kind, key, gateway) = match (&lease.credential, hand_out) {
        (_, HandOut::Gateway) => {
            let (key, addresses) = gateway_access(client, first, provider, context)?;
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
    if kind != CredentialKind::ApiKey && purpose.agent.as_deref().is_some_and(agent::needs_https_and_a_key) {
        let agent = purpose.agent.as_deref().unwrap_or_default();
        let message = format!("{agent} speaks an API that takes keys only, and the leased account is a login");
        let add =
            format!("name one with a key: --account A; or add one: lessor account add {provider} --api-key-stdin");
        return Err(CliError::usage(message).hint(add));
    }
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
        websocket: gateway.websocket,
        directory: &directory.to_string_lossy(),
        expires_at: lease.credential.as_ref().and_then(|credential| credential.expires_at),
        project: lease.project_id.as_deref(),
        tier: lease.account.tier,
        account_id: lease.credential.as_ref().and_then(|credential| credential.account_id.as_deref()),
        now: &jiff::Timestamp::now().to_string(),
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

/// The kind of the account's credential; some programs need other variables for a key than for a login.
fn credential_kind(client: &mut Client, lease: &LeaseInfo<'_>, context: &Context) -> Result<CredentialKind, CliError> {
    let of_provider = ListAccountsParams { provider: Some(lease.provider.clone().into_owned()) };
    let accounts = context.repeat(client, |client| client.accounts(of_provider.clone()))?;
    let account = accounts.into_iter().find(|account| account.id == lease.account.id);
    account
        .map(|account| account.api_kind())
        .ok_or_else(|| CliError::new(ErrorKind::UnknownAccount, "the account has been removed"))
}
