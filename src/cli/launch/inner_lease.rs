//! The lease of a run inside another run.
//!
//! An agent that a script starts leases an account of its own. The first of them uses the script's lease instead, for as
//! long as it runs, so that a script with one agent holds one account. An agent that another agent starts uses the lease
//! of that one only if no other account is free: the outer agent waits for the inner one, which would wait for ever.

use std::time::Duration;

use super::outer_run::OuterRun;
use super::{claim, wait::wait_for_lease};
use crate::cli::{context::Context, error::CliError};
use crate::client::Client;
use crate::pool::Process;
use crate::protocol::{
    AccountInfo, AccountName, AcquireParams, BindTo, CredentialParams, ErrorKind, ForecastParams, LeaseInfo, LeaseRef,
    LeaseRow, ListAccountsParams,
};

/// The daemon has ended the lease of a connection this long after the connection was closed.
const CLOSED: Duration = Duration::from_millis(20);

/// A lease, and whose it is.
#[derive(Debug)]
pub(crate) struct LaunchLease {
    pub(crate) info: LeaseInfo<'static>,
    /// It is that of the outer run, and is not released with this one.
    is_borrowed: bool,
}

impl LaunchLease {
    fn own(info: LeaseInfo<'static>) -> Self {
        Self { info, is_borrowed: false }
    }

    /// Releases the lease; if that fails, it ends with its process.
    pub(super) fn release(&self, client: &mut Client) {
        if !self.is_borrowed {
            let lease = LeaseRef { lease: self.info.lease.clone().into_owned(), fence: Some(self.info.fence) };
            let _ended = client.release(lease);
        }
    }
}

/// A process that needs a lease.
#[derive(Clone, Copy)]
pub(super) struct LeaseSeeker<'a> {
    pub(super) process: Process,
    pub(super) agent: Option<&'a str>,
    /// The run outside of it, whose lease it may use.
    pub(super) outer: Option<&'a OuterRun>,
}

/// Leases an account, or borrows the lease of the outer run.
pub(super) fn lease(
    client: &mut Client,
    request: AcquireParams,
    seeker: LeaseSeeker<'_>,
    context: &Context,
) -> Result<LaunchLease, CliError> {
    let own = |client: &mut Client, request: AcquireParams| {
        wait_for_lease(client, request, context, Client::acquire).map(LaunchLease::own)
    };
    let Some((outer, offered)) = offered(client, &request, seeker, context)? else { return own(client, request) };
    let wants_credential = request.credential;
    let borrow = |client: &mut Client| offered.borrow(client, wants_credential, context);
    if outer.process() == seeker.process {
        return borrow(client);
    }
    if outer.is_agent || offered.is_narrower {
        let at_once = AcquireParams { wait_ms: Some(0), ..request.clone() };
        match own(client, at_once) {
            Err(error) if !is_about_capacity(&error) => return Err(error),
            Err(_) if outer.is_agent => return borrow(client),
            Err(_) => {}
            held => return held,
        }
    }
    let Some(claims) = &outer.claims else { return own(client, request) };
    let provider = request.provider.clone();
    // without the file it cannot be said which agent has it
    let mut take = || claim::take(claims, &provider, seeker.process).unwrap_or(false);
    if take() {
        return borrow(client).inspect_err(|_| drop(claim::give_back(claims, &provider, seeker.process)));
    }
    // of two things that end the wait: an account that is free, and the end of the agent that uses the script's lease
    let waited = wait_for_lease(client, request, context, |client, request| client.acquire_unless(request, &mut take))?;
    match waited {
        Some(info) => Ok(LaunchLease::own(info)),
        None => {
            *client = context.reconnect(None)?;
            std::thread::sleep(CLOSED);
            release_crossing(client, seeker.process, &offered.row)?;
            borrow(client)
        }
    }
}

/// A lease was perhaps granted in the moment in which the wait for it ended.
fn release_crossing(client: &mut Client, process: Process, borrowed: &LeaseRow) -> Result<(), CliError> {
    for row in client.leases()? {
        let is_own = row.holder.as_ref().is_some_and(|holder| holder.pid == process.pid) && row.subagent.is_none();
        if is_own && row.provider == borrowed.provider && row.lease != borrowed.lease {
            let _ended = client.release(LeaseRef { lease: row.lease, fence: Some(row.fence) });
        }
    }
    Ok(())
}

fn is_about_capacity(error: &CliError) -> bool {
    matches!(error.kind(), ErrorKind::NoCapacity | ErrorKind::AllLimited | ErrorKind::WaitTimeout)
}

/// The lease of an outer run that serves the agent.
struct OfferedLease {
    row: LeaseRow,
    account: AccountInfo,
    /// It is for fewer accounts than a lease of the agent's own would be.
    is_narrower: bool,
}

/// The lease of the outer run, if it has one of this provider that serves this request.
fn offered<'a>(
    client: &mut Client,
    request: &AcquireParams,
    seeker: LeaseSeeker<'a>,
    context: &Context,
) -> Result<Option<(&'a OuterRun, OfferedLease)>, CliError> {
    let Some(outer) = seeker.outer.filter(|outer| outer.leases_as(request) && outer.is_alive()) else {
        return Ok(None);
    };
    if !has_same_set(client, outer, request, context)? {
        return Ok(None);
    }
    let leases = context.repeat(client, Client::leases)?;
    let is_its = |row: &LeaseRow| {
        row.provider == request.provider
            && row.bind == "pid"
            && row.subagent.is_none()
            && row.holder.as_ref().is_some_and(|holder| holder.pid == outer.process().pid)
    };
    let Some(row) = leases.into_iter().find(is_its) else { return Ok(None) };
    let of_provider = ListAccountsParams { provider: Some(request.provider.clone()) };
    let accounts = context.repeat(client, |client| client.accounts(of_provider.clone()))?;
    let Some(account) = accounts.iter().find(|account| account.id == row.account.id).cloned() else { return Ok(None) };
    let names = [Some(account.id.as_str()), account.label.as_deref(), account.email.as_deref()];
    if request.account.as_deref().is_some_and(|given| !names.contains(&Some(given))) || !allows(&account, seeker.agent)
    {
        return Ok(None);
    }
    let is_only_agents = |account: &AccountInfo| {
        account.enabled && allows(account, seeker.agent) && !allows(account, row.agent.as_deref())
    };
    let is_narrower = accounts.iter().any(is_only_agents);
    Ok(Some((outer, OfferedLease { row, account, is_narrower })))
}

/// Whether the configuration has the same set of accounts for the directories of the outer run and of this one.
fn has_same_set(
    client: &mut Client,
    outer: &OuterRun,
    request: &AcquireParams,
    context: &Context,
) -> Result<bool, CliError> {
    if request.directory.as_deref() == outer.directory() {
        return Ok(true);
    }
    let mut set_of = |directory: Option<String>| {
        let asked = ForecastParams { provider: request.provider.clone(), directory, ..ForecastParams::default() };
        context.repeat(client, |client| client.forecast(asked.clone())).map(|forecast| forecast.set)
    };
    Ok(set_of(request.directory.clone())? == set_of(outer.directory().map(str::to_owned))?)
}

/// Whether an account may be leased for an agent.
pub(crate) fn allows(account: &AccountInfo, agent: Option<&str>) -> bool {
    account.allowed_agents.iter().any(|allowed| allowed == "any" || Some(allowed.as_str()) == agent)
}

impl OfferedLease {
    fn borrow(&self, client: &mut Client, with_credential: bool, context: &Context) -> Result<LaunchLease, CliError> {
        let Self { row, account, .. } = self;
        let of = CredentialParams { lease: row.lease.clone(), force: false };
        let credential = match with_credential {
            true => Some(context.repeat(client, |client| client.credential(of.clone()))?),
            false => None,
        };
        let text = |text: &String| text.clone().into();
        let info = LeaseInfo {
            lease: text(&row.lease),
            fence: row.fence,
            account: AccountName {
                id: text(&account.id),
                label: account.label.as_ref().map(text),
                email: account.email.as_ref().map(text),
                tier: account.tier,
            },
            provider: text(&row.provider),
            pool: row.pool.as_ref().map(text),
            model: row.model.as_ref().map(text),
            quota_key: text(&row.provider),
            shared_with: 0,
            expires_at: row.expires_at,
            credential,
            project_id: account.project_id.as_ref().map(text),
        };
        Ok(LaunchLease { info, is_borrowed: true })
    }
}

/// The request for a lease that is bound to a process.
pub(super) fn request(provider: &str, seeker: LeaseSeeker<'_>, options: AcquireParams) -> AcquireParams {
    AcquireParams {
        provider: provider.to_owned(),
        bind: BindTo::Pid(seeker.process.pid),
        agent: seeker.agent.map(str::to_owned),
        ..options
    }
}
