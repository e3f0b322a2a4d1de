//! What a program is handed of a lease: what its kind needs, as `provider` says it, made ready in this environment.

mod directory;
mod keep;
mod ready;
mod settings;

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use crate::client::Client;
use crate::pool::{CredentialKind, Process};
use crate::protocol::{AcquireParams, BindTo, GatewayKeyParams, LeaseInfo, LeaseRef, ListAccountsParams};
use crate::provider::{self, HandOut, Handed, Outfit};

use super::agent::Purpose;
use super::context::Context;
use super::failure::Failure;
use super::lease::Wanted;
use super::waiting;

pub(super) use keep::{Keep, keep};
pub(super) use ready::{Ready, quoted};

use directory::Place;

/// How the credential is handed out; without an option, through the gateway.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Way {
    /// Put the account's own token or key into the environment, instead of an address of the gateway
    #[arg(long)]
    direct: bool,
    /// Give claude, codex or gemini a throw-away configuration directory that is logged in as the account
    #[arg(long, conflicts_with = "direct")]
    profile: bool,
}

impl Way {
    fn hand_out(self) -> HandOut {
        match self {
            Self { profile: true, .. } => HandOut::Profile,
            Self { direct: true, .. } => HandOut::Direct,
            Self { .. } => HandOut::Gateway,
        }
    }
}

/// What a lease is wanted for, and how.
pub(super) struct Order<'a> {
    pub(super) wanted: Wanted,
    pub(super) purpose: &'a Purpose,
    pub(super) way: Way,
    /// The process that the lease lives and dies with.
    pub(super) holder: Process,
    /// What the program is already given: an argument of ours must not stand beside the user's.
    pub(super) arguments: &'a [OsString],
    /// The program is a shell, which has no use for an agent's arguments.
    pub(super) is_shell: bool,
}

/// Leases, and makes everything ready; whatever fails, the lease is not kept.
pub(super) fn make_ready(client: &mut Client, order: Order<'_>, context: &Context) -> Result<Ready, Failure> {
    let Order { wanted, purpose, way, holder, arguments, is_shell } = order;
    let hand_out = way.hand_out();
    let agents = provider::with_profile();
    if hand_out == HandOut::Profile && !purpose.agent.as_deref().is_some_and(|agent| agents.contains(&agent)) {
        let message = format!("a profile can be made for {} only", agents.join(", "));
        return Err(Failure::usage(message).hint("leave --profile out: the gateway serves every program"));
    }
    let places = context.places()?;
    let request = request(wanted, purpose, hand_out, holder.pid);
    let lease = waiting::acquire(client, request, context).map_err(|failure| without_accounts(failure, purpose))?;
    let mut place = Place::of(&places, holder, lease.fence);
    let made = outfit(client, &lease, purpose, hand_out, place.path()).and_then(|outfit| {
        let agent = purpose.agent.as_deref().filter(|_| is_shell);
        ready::fill(&outfit, &mut place, arguments, agent)
    });
    match made {
        Ok(filled) => Ok(Ready { lease, filled, hand_out, holder, directory: place.made() }),
        Err(failure) => {
            release(client, &lease);
            directory::remove(place.path());
            Err(failure)
        }
    }
}

/// Gives the lease back; if this fails, it ends with its holder.
pub(super) fn release(client: &mut Client, lease: &LeaseInfo<'_>) {
    let _ended = client.release(LeaseRef { lease: lease.lease.clone().into_owned(), fence: Some(lease.fence) });
}

fn request(wanted: Wanted, purpose: &Purpose, hand_out: HandOut, pid: u32) -> AcquireParams {
    AcquireParams {
        provider: purpose.provider.clone(),
        model: wanted.model,
        pool: wanted.pool,
        session: wanted.session,
        label: wanted.label,
        account: wanted.account,
        wait_ms: wanted.wait.map(crate::pool::millis),
        bind: BindTo::Pid(pid),
        // the gateway has it, and nobody else needs it
        credential: hand_out != HandOut::Gateway,
        agent: purpose.agent.clone(),
        ..AcquireParams::default()
    }
}

/// Without an account there is nothing to run with: where one could come from.
fn without_accounts(failure: Failure, purpose: &Purpose) -> Failure {
    if failure.kind() != "no_account" {
        return failure;
    }
    let provider = &purpose.provider;
    failure.hint_instead(format!(
        "take in what your other tools have: lessor import; log in: lessor login {provider}; \
         or add a key: lessor account add {provider} --api-key-stdin"
    ))
}

/// What the program gets, with what authenticates it.
fn outfit(
    client: &mut Client,
    lease: &LeaseInfo<'_>,
    purpose: &Purpose,
    hand_out: HandOut,
    directory: &Path,
) -> Result<Outfit, Failure> {
    let provider = purpose.provider.as_str();
    let (kind, key, base) = match (&lease.credential, hand_out) {
        (_, HandOut::Gateway) => {
            let (key, base) = at_gateway(client, lease)?;
            (kind_of(client, lease)?, key, Some(format!("{base}/{provider}")))
        }
        (Some(credential), _) => (credential.kind, credential.secret.0.clone().into_owned(), None),
        (None, _) => return Err(Failure::new("internal", "the lease came without its credential")),
    };
    let handed = Handed {
        hand_out,
        provider,
        kind,
        agent: purpose.agent.as_deref(),
        key: &key,
        base: base.as_deref(),
        directory: &directory.to_string_lossy(),
        expires_at: lease.credential.as_ref().and_then(|credential| credential.expires_at),
        project: lease.project_id.as_deref(),
    };
    let mut outfit = provider::outfit(&handed);
    if let Some(outfit) = outfit.as_mut().filter(|_| purpose.within && hand_out != HandOut::Profile)
        && let Some(anybodys) = provider::outfit(&Handed { agent: None, ..handed })
    {
        outfit.serve_also(anybodys);
    }
    let mut key = key;
    zeroize::Zeroize::zeroize(&mut key);
    outfit.ok_or_else(|| Failure::usage(format!("{provider} has no profile for this program")))
}

/// A key to the gateway that dies with the lease, and where the gateway is.
fn at_gateway(client: &mut Client, lease: &LeaseInfo<'_>) -> Result<(String, String), Failure> {
    let directory = std::env::current_dir().ok().map(|path| path.to_string_lossy().into_owned());
    let key =
        GatewayKeyParams { lease: Some(lease.lease.clone().into_owned()), directory, ..GatewayKeyParams::default() };
    let access = client.gateway_key(key)?;
    let trouble = access.trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    let url = access.url.ok_or_else(|| {
        Failure::new("internal", format!("the gateway does not listen{trouble}"))
            .hint("see gateway.listen and gateway.enabled in: lessor config show; or add --direct")
    })?;
    Ok((access.key.0.into_owned(), url))
}

/// What the leased account authenticates with: some programs are told different things for a key and for a login.
fn kind_of(client: &mut Client, lease: &LeaseInfo<'_>) -> Result<CredentialKind, Failure> {
    let accounts = client.accounts(ListAccountsParams { provider: Some(lease.provider.clone().into_owned()) })?;
    let account = accounts.into_iter().find(|account| account.id == lease.account.id);
    account.map(|account| account.kind).ok_or_else(|| Failure::new("unknown_account", "the account has been removed"))
}
