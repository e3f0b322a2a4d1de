//! An account of this host moves into the pool.

use super::{MOVING, NotMoved, TermConnection, give_back, make_own, mark};
use crate::credential::{Credential, LinkMode};
use crate::daemon::api::pool::pool_error;
use crate::daemon::api::pool::rekey::{current_keys, sealed};
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::pool::{AccountId, AccountRecord, Command, LimitRecord, SeatLimits, Usage, Wall, Window};
use crate::protocol::ErrorInfo;
use crate::shared_pool::{Membership, PoolClient, PoolCredential, SharedPoolErrorKind};

/// What an account has on this host.
struct LocalAccount {
    record: AccountRecord,
    credential: Option<Credential>,
    limits: Vec<LimitRecord>,
    usage: Usage,
    leases: u32,
    /// Its login is another tool's.
    is_linked: bool,
    /// That tool, or lessor in its place, gets it its next tokens: here, where the tool's file is.
    is_renewed_here: bool,
    /// `[pool] own_accounts` lists it.
    is_listed: bool,
}

fn local_account(daemon: &Daemon, id: AccountId) -> Result<LocalAccount, NotMoved> {
    let state = &*daemon.state();
    let now = clock::now();
    let account = state.pool.account(id).ok_or_else(|| NotMoved::Skip("it was removed meanwhile".to_owned()))?;
    let own_accounts = &state.config.config.shared_pool.own_accounts;
    Ok(LocalAccount {
        record: account.record.clone(),
        credential: state.credentials.get(id).map(Credential::duplicate),
        limits: account.limits().iter().map(|limit| limit.record(id, now)).collect(),
        usage: account.usage().kept(),
        leases: account.leases(),
        is_linked: state.links.get(id).is_some(),
        is_renewed_here: state.links.get(id).is_some_and(|link| link.mode != LinkMode::TakeOver),
        is_listed: own_accounts.iter().any(|name| account.record.is_named(name)),
    })
}

/// Moves an account of this host into the pool.
pub(super) async fn to_pool(
    daemon: &Daemon,
    membership: &Membership,
    (client, term): &TermConnection,
    id: AccountId,
    is_named: bool,
    force: bool,
) -> Result<(), NotMoved> {
    let local = local_account(daemon, id)?;
    let name = daemon.state().account_reference(id);
    if local.is_listed {
        return Err(NotMoved::Skip("[pool] own_accounts lists it: lessor config edit".to_owned()));
    }
    if local.is_linked && !is_named {
        let why = format!("another tool keeps its login here; to share it all the same: lessor pool migrate {name}");
        return Err(NotMoved::Skip(why));
    }
    if local.leases > 0 && !force {
        let leases = if local.leases == 1 { "1 lease".to_owned() } else { format!("{} leases", local.leases) };
        let why = format!("it has {leases}, which would end; try again when they have, or end them: --force");
        return Err(NotMoved::Skip(why));
    }
    let Some(credential) = local.credential else { return Err(NotMoved::Skip("it has no credential".to_owned())) };
    let info = client.pool_info().await.map_err(|error| pool_error(&error))?;
    let keys = current_keys(client, membership).await?;
    // a second host would refresh it beside the tool, and providers revoke a login for that
    let given = if local.is_renewed_here { credential.without_refresh() } else { credential };
    let parts = sealed(&keys, membership, id, &given)?;
    if !daemon.state().is_shared(id) {
        // seats from when it was in the pool before, of which the pool of this host knows nothing
        give_back(client, *term, id, u32::MAX).await;
    }
    mark(daemon, id, Some(MOVING)).await?;
    // this host grants nothing on it before it holds a seat
    let capacity = local.record.max_leases.unwrap_or(info.settings.per_account).min(info.settings.max_per_account);
    let share = Command::ShareAccount(id, SeatLimits { capacity, ceiling: info.settings.max_per_account });
    {
        let state = &mut *daemon.state();
        state.apply_from_pool(clock::now(), share);
        // its leases have ended, and so do their requests: another host may use it next
        state.shared_accounts.cut_requests(id);
    }
    let hosts = &daemon.many_hosts;
    let limits: Vec<LimitRecord> = local
        .limits
        .iter()
        .map(|limit| LimitRecord {
            until: hosts.to_database(limit.until),
            since: limit.since.map(|since| hosts.to_database(since)),
            ..limit.clone()
        })
        .collect();
    let sealed = PoolCredential {
        access: &parts.access,
        refresh: parts.refresh.as_deref(),
        expires_at: given.expires_at.map(|at| hosts.to_database(at)),
        keys: keys.generation(),
    };
    let generation = match client.add_account(&local.record, sealed, &limits).await {
        Ok(generation) => generation,
        // the pool has this id: an earlier move was interrupted
        Err(error) if error.kind() == SharedPoolErrorKind::Conflict && has_account(client, id).await? => MOVING,
        // it may have taken effect: the news decide
        Err(error) if error.is_temporary() => {
            return Err(NotMoved::Stop(pool_error(&error).hint("to go on: lessor pool migrate")));
        }
        Err(error) => {
            make_own(daemon, id).await?;
            return match error.kind() {
                SharedPoolErrorKind::Conflict => {
                    let why =
                        format!("the pool has another account with this label; lessor account set {name} label=OTHER");
                    Err(NotMoved::Skip(why))
                }
                _ => Err(NotMoved::Stop(pool_error(&error))),
            };
        }
    };
    if generation != MOVING {
        mark(daemon, id, Some(generation)).await?;
        daemon.state().shared_accounts.set_record(id, local.record.clone(), None);
    }
    let usage = on_database_clock(daemon, &local.usage);
    if let Some(read_at) = usage.windows.iter().map(|window| window.as_of).max() {
        client.set_usage(id, &usage, read_at).await.map_err(|error| pool_error(&error))?;
    }
    tracing::info!(account = %id, "{name} is shared with the other hosts of the pool");
    Ok(())
}

async fn has_account(client: &PoolClient, id: AccountId) -> Result<bool, ErrorInfo> {
    let news = client.news(None, None).await.map_err(|error| pool_error(&error))?;
    Ok(news.accounts.iter().any(|account| account.record.id == id))
}

fn on_database_clock(daemon: &Daemon, usage: &Usage) -> Usage {
    let at = |at: Wall| daemon.many_hosts.to_database(at);
    let window =
        |window: &Window| Window { resets_at: window.resets_at.map(at), as_of: at(window.as_of), ..window.clone() };
    Usage { windows: usage.windows.iter().map(window).collect(), rates: Vec::new() }
}
