//! `pool.migrate`: accounts move into the pool, or back to this host.
//!
//! Generation 0 of a shared account marks a move that is under way. It is on disk before the database is changed, and
//! afterwards the database decides: what it has is shared, what it lacks is this host's own. So an interruption at any
//! point loses nothing, uses nothing twice, and the same call goes on.

use std::sync::Arc;
use std::time::Duration;

use super::hosts::name_of;
use super::rekey::{current_keys, sealed};
use super::{admin, client, key_error, pool_error, read_news};
use crate::credential::Credential;
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::{bad, find_account};
use crate::daemon::many_hosts::handle::PoolTerm;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, save};
use crate::pool::{AccountChange, AccountId, AccountRecord, Command, LimitRecord, SeatLimits, Usage, Wall, Window};
use crate::protocol::{AccountLabel, Answer, ErrorInfo, ErrorKind, MigrateParams, MigratedInfo, SkippedAccountInfo};
use crate::shared_pool::{
    Membership, PoolClient, PoolCredential, RefreshClaim, SeatClaim, SharedAccount, SharedPoolErrorKind,
    TokenGeneration,
};
use crate::store::Write;

/// How long the worker has for connecting, after this host has joined.
const CONNECTING: Duration = Duration::from_secs(15);
/// How often it is looked whether it has.
const STEP: Duration = Duration::from_millis(50);
/// How often other hosts are asked to give back seats that no agent uses, and how long they have.
const ASKS: u32 = 10;
const ASK_TIME: Duration = Duration::from_millis(300);
/// How long no other host refreshes a login that moves to this one.
const MOVE_TIME: Duration = Duration::from_secs(60);
/// The number of the refresh attempt that keeps other hosts from refreshing; no refresh has it.
const MOVE_ATTEMPT: u64 = u64::MAX >> 1;
/// The generation of an account whose move is under way.
pub(in crate::daemon) const MOVING: TokenGeneration = TokenGeneration(0);

/// Why an account was not moved.
enum NotMoved {
    /// It stays where it is, and the others go on.
    Skip(String),
    /// Nothing can be moved.
    Stop(ErrorInfo),
}

impl From<ErrorInfo> for NotMoved {
    fn from(error: ErrorInfo) -> Self {
        Self::Stop(error)
    }
}

/// `pool.migrate`
pub(super) async fn migrate(daemon: Arc<Daemon>, params: MigrateParams) -> AnswerResult {
    let is_back = match params.to.as_str() {
        "pool" => false,
        "local" => true,
        other => return Err(bad(format!("`to` may be pool or local; not {other:?}"))),
    };
    let command = if is_back { "lessor pool migrate --to-local" } else { "lessor pool migrate" };
    let membership = admin(&daemon, command)?;
    let connection = connection(&daemon, &membership).await?;
    let chosen = chosen(&daemon, params.accounts.as_deref(), is_back)?;
    let mut info = MigratedInfo { to: params.to, ..MigratedInfo::default() };
    for (id, label, is_shared) in chosen {
        if is_shared != is_back {
            info.already += 1;
            continue;
        }
        // each is moved alone: other changes of accounts come in between
        let _one_at_a_time = daemon.account_writes.lock().await;
        let moved = match is_back {
            true => to_local(&daemon, &membership, &connection, id, params.force).await,
            false => to_pool(&daemon, &membership, &connection, id, params.accounts.is_some(), params.force).await,
        };
        match moved {
            Ok(()) => info.moved.push(label),
            Err(NotMoved::Skip(why)) => info.skipped.push(SkippedAccountInfo { account: label, why }),
            Err(NotMoved::Stop(error)) if info.moved.is_empty() => return Err(error),
            Err(NotMoved::Stop(error)) => {
                let moved = info.moved.len();
                let message = format!("{moved} accounts were moved, then: {}", error.message);
                let hint = error.data.hint.clone().unwrap_or_else(|| format!("to go on: {command}"));
                return Err(ErrorInfo { message, ..error }.hint(hint));
            }
        }
    }
    read_news(&daemon);
    Ok(Answer::Migrated(Box::new(info)))
}

type TermConnection = (Arc<PoolClient>, PoolTerm);

/// The worker's connection and term; it may be about to connect.
async fn connection(daemon: &Daemon, membership: &Membership) -> Result<TermConnection, ErrorInfo> {
    let connected = async {
        loop {
            if let (Some(client), Some(term)) = (daemon.many_hosts.client(), daemon.many_hosts.term()) {
                return (client, term);
            }
            tokio::time::sleep(STEP).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(CONNECTING, connected).await {
        return Ok(found);
    }
    // the reason, if the database gives one
    client(daemon, membership).await?;
    let message = "this host has not connected to its pool";
    Err(ErrorInfo::new(ErrorKind::PoolUnavailable, message)
        .hint("see why: lessor pool status; [pool] url of its configuration must be set: lessor config get pool.url"))
}

/// The accounts that are meant, and whether each is shared.
fn chosen(
    daemon: &Daemon,
    names: Option<&[String]>,
    is_back: bool,
) -> Result<Vec<(AccountId, AccountLabel, bool)>, ErrorInfo> {
    let state = &*daemon.state();
    let ids: Vec<AccountId> = match names {
        Some(names) => names.iter().map(|name| find_account(state, name)).collect::<Result<_, _>>()?,
        // own accounts that stay are not `already` moved back
        None if is_back => state.shared_accounts.ids(),
        None => state.pool.accounts().iter().map(|account| account.record.id).collect(),
    };
    let is_shared = |id| state.shared_accounts.get(id).is_some_and(|note| note.generation != MOVING || is_back);
    Ok(ids.into_iter().map(|id| (id, AccountLabel::of(&state.pool, id), is_shared(id))).collect())
}

/// What an account has on this host.
struct LocalAccount {
    record: AccountRecord,
    credential: Option<Credential>,
    limits: Vec<LimitRecord>,
    usage: Usage,
    leases: u32,
    /// Its login is another tool's.
    is_linked: bool,
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
        is_listed: own_accounts.iter().any(|name| account.record.is_named(name)),
    })
}

/// Moves an account of this host into the pool.
async fn to_pool(
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
        let why = format!("{} of its leases would end; try again when they have: lessor leases", local.leases);
        return Err(NotMoved::Skip(why));
    }
    let Some(credential) = local.credential else { return Err(NotMoved::Skip("it has no credential".to_owned())) };
    let info = client.pool_info().await.map_err(|error| pool_error(&error))?;
    let keys = current_keys(client, membership).await?;
    let parts = sealed(&keys, membership, id, &credential)?;
    if !daemon.state().is_shared(id) {
        // seats from when it was in the pool before, of which the pool of this host knows nothing
        give_back(client, *term, id, u32::MAX).await;
    }
    mark(daemon, id, Some(MOVING)).await?;
    // this host grants nothing on it before it holds a seat
    let capacity = local.record.max_leases.unwrap_or(info.settings.per_account).min(info.settings.max_per_account);
    let share = Command::ShareAccount(id, SeatLimits { capacity, ceiling: info.settings.max_per_account });
    daemon.state().apply_from_pool(clock::now(), share);
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
        expires_at: credential.expires_at.map(|at| hosts.to_database(at)),
        keys: keys.generation(),
    };
    let generation = match client.add_account(&local.record, sealed, &limits).await {
        Ok(generation) => generation,
        // the pool has this id: an earlier move was interrupted
        Err(error) if error.kind() == SharedPoolErrorKind::Conflict && has_account(client, id).await? => MOVING,
        Err(error) if error.is_temporary() => {
            // it may have taken effect: the news decide
            read_news(daemon);
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

/// Notes on disk what the account is, then in memory.
async fn mark(daemon: &Daemon, id: AccountId, generation: Option<TokenGeneration>) -> Result<(), ErrorInfo> {
    let write = Write::SaveSharedAccount(id, generation.map(|generation| generation.0));
    save(&daemon.store, write).await.map_err(not_saved)?;
    let shared = &mut daemon.state().shared_accounts;
    match generation {
        Some(generation) => {
            shared.let_in(id);
            shared.insert(id, generation);
        }
        None => shared.move_out(id),
    }
    Ok(())
}

fn not_saved(error: crate::store::WriteError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("the move could not be saved: {error}"))
}

/// The account is this host's own from now on.
async fn make_own(daemon: &Daemon, id: AccountId) -> Result<(), ErrorInfo> {
    mark(daemon, id, None).await?;
    daemon.state().apply_from_pool(clock::now(), Command::UnshareAccount(id));
    Ok(())
}

fn on_database_clock(daemon: &Daemon, usage: &Usage) -> Usage {
    let at = |at: Wall| daemon.many_hosts.to_database(at);
    let window =
        |window: &Window| Window { resets_at: window.resets_at.map(at), as_of: at(window.as_of), ..window.clone() };
    Usage { windows: usage.windows.iter().map(window).collect(), rates: Vec::new() }
}

/// Moves an account of the pool to this host alone.
async fn to_local(
    daemon: &Daemon,
    membership: &Membership,
    (client, term): &TermConnection,
    id: AccountId,
    force: bool,
) -> Result<(), NotMoved> {
    if !membership.refresher {
        let message = format!("{} has no key for refresh tokens, so a login could not move here", membership.name);
        return Err(NotMoved::Stop(ErrorInfo::new(ErrorKind::NotAllowed, message).hint(
            "on an admin that is a refresher (lessor pool hosts shows which hosts are): lessor pool migrate --to-local",
        )));
    }
    let news = client.news(None, None).await.map_err(|error| pool_error(&error))?;
    let Some(pooled) = news.accounts.into_iter().find(|account| account.record.id == id) else {
        // an earlier move was interrupted after the database's part
        make_own(daemon, id).await?;
        return Ok(());
    };
    let claimed = hold_all_seats(client, *term, &pooled, force).await?;
    let moved = take_over(daemon, membership, client, *term, &pooled).await;
    if moved.is_err()
        && pooled.has_refresh
        && let Err(error) = client.fail_refresh(id, pooled.generation, MOVE_ATTEMPT, true).await
    {
        // other hosts refresh the login when the claim's time is over
        tracing::warn!(account = %id, "the claim for the move was not withdrawn: {error}");
    }
    if moved.is_err() && claimed > 0 {
        // as many as were claimed for the move: what the pool of this host holds, it gives back itself
        give_back(client, *term, id, claimed).await;
    }
    moved
}

/// Holds every seat of an account, and returns how many were claimed for that, so that no other host begins a lease on it. Those that other hosts do not use are given
/// back when they hear of it.
async fn hold_all_seats(
    client: &PoolClient,
    term: PoolTerm,
    pooled: &SharedAccount,
    force: bool,
) -> Result<u32, NotMoved> {
    let id = pooled.record.id;
    for ask in 0..ASKS {
        let held = client.seats_of_hosts().await.map_err(|error| pool_error(&error))?;
        let held: u32 =
            held.iter().filter(|held| held.account == id && held.term == Some(term.id)).map(|held| held.seats).sum();
        let missing = pooled.ceiling.saturating_sub(held);
        if missing == 0 {
            return Ok(0);
        }
        let claim = client.claim_seats(term.id, term.life, id, missing, pooled.ceiling, true).await;
        match claim.map_err(|error| pool_error(&error))? {
            SeatClaim::Claimed { seats, .. } => return Ok(seats),
            SeatClaim::Full { .. } if ask + 1 < ASKS => tokio::time::sleep(ASK_TIME).await,
            SeatClaim::Full { .. } if force => return Ok(0),
            SeatClaim::Full { .. } => {
                let hosts = users(client, term, id).await?;
                let why = format!("in use by {hosts}; try again when it is free, or end its leases there: --force");
                return Err(NotMoved::Skip(why));
            }
            SeatClaim::Gone => return Err(NotMoved::Skip("it was removed meanwhile".to_owned())),
            SeatClaim::Over | SeatClaim::Paused => {
                let message = "this host can claim no seats now";
                return Err(NotMoved::Stop(
                    ErrorInfo::new(ErrorKind::PoolUnavailable, message).hint("see: lessor pool status"),
                ));
            }
        }
    }
    Ok(0)
}

/// The other hosts that hold seats of an account.
async fn users(client: &PoolClient, term: PoolTerm, id: AccountId) -> Result<String, ErrorInfo> {
    let (hosts, seats) =
        tokio::try_join!(client.hosts(), client.seats_of_hosts()).map_err(|error| pool_error(&error))?;
    let others = seats.iter().filter(|held| held.account == id && held.term != Some(term.id));
    let mut names: Vec<String> = others.map(|held| name_of(&hosts, held.host)).collect();
    names.sort_unstable();
    names.dedup();
    Ok(if names.is_empty() { "another host".to_owned() } else { names.join(", ") })
}

/// Takes an account of which no other host holds a seat.
async fn take_over(
    daemon: &Daemon,
    membership: &Membership,
    client: &PoolClient,
    term: PoolTerm,
    pooled: &SharedAccount,
) -> Result<(), NotMoved> {
    let id = pooled.record.id;
    let keys = current_keys(client, membership).await?;
    let opened = keys.open_access(&membership.pool, id, pooled.keys, &pooled.access);
    let mut credential = opened.map_err(|error| key_error(&error))?;
    if pooled.has_refresh {
        let claim = client.claim_refresh(term.id, id, pooled.generation, MOVE_ATTEMPT, MOVE_TIME).await;
        match claim.map_err(|error| pool_error(&error))? {
            RefreshClaim::Claimed | RefreshClaim::LoginEnded => {}
            RefreshClaim::HeldBy { .. } | RefreshClaim::Rotated => {
                let why = "its login is refreshed right now; try again in a moment: lessor pool migrate --to-local";
                return Err(NotMoved::Skip(why.to_owned()));
            }
        }
        let found = client.refresh_token(id).await.map_err(|error| pool_error(&error))?;
        let Some((generation, sealed_with, sealed)) = found.filter(|(found, ..)| *found == pooled.generation) else {
            return Err(NotMoved::Skip("its login was refreshed meanwhile; try again".to_owned()));
        };
        debug_assert_eq!(generation, pooled.generation);
        let token = keys.open_refresh(&membership.pool, id, sealed_with, &sealed);
        credential.refresh = Some(token.map_err(|error| key_error(&error))?);
    }
    let record = {
        let state = &*daemon.state();
        let known = state.pool.account(id).map(|account| account.record.clone());
        let known = known.unwrap_or_else(|| pooled.record.clone());
        AccountRecord { login_state: pooled.record.login_state.clone(), kind: credential.kind, ..known }
    };
    let login_state = record.login_state.clone();
    let writes = vec![
        Write::SaveAccount { record: Box::new(record), credential: Some(credential.duplicate()) },
        Write::SaveSharedAccount(id, Some(MOVING.0)),
    ];
    save(&daemon.store, Write::Together(writes)).await.map_err(not_saved)?;
    daemon.state().shared_accounts.insert(id, MOVING);
    // from here on the database decides whose it is
    if let Err(error) = client.remove_account(id).await {
        read_news(daemon);
        return Err(NotMoved::Stop(pool_error(&error).hint("to go on: lessor pool migrate --to-local")));
    }
    make_own(daemon, id).await?;
    give_back(client, term, id, u32::MAX).await;
    let state = &mut *daemon.state();
    let now = clock::now();
    state.keep_credential(id, credential);
    let change = AccountChange { login_state: Some(login_state), ..AccountChange::default() };
    state.apply_internal(now, Command::ChangeAccount(id, Box::new(change)));
    let name = state.account_name(id);
    state.log.push(move || tracing::info!(account = %id, "{name} is this host's own account now"));
    Ok(())
}

/// Gives back seats.
async fn give_back(client: &PoolClient, term: PoolTerm, id: AccountId, seats: u32) {
    if let Err(error) = client.give_back_seats(term.id, term.life, id, seats).await {
        // at the latest they are free when the term has ended
        tracing::warn!(account = %id, "seats were not given back: {error}");
    }
}
