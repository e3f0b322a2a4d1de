//! An account of the pool moves to this host alone.

use std::time::Duration;

use super::{MOVING, NotMoved, TermConnection, give_back, make_own, not_saved};
use crate::daemon::api::pool::hosts::name_of;
use crate::daemon::api::pool::rekey::current_keys;
use crate::daemon::api::pool::{key_error, pool_error};
use crate::daemon::many_hosts::handle::PoolTerm;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, save};
use crate::pool::{AccountChange, AccountId, AccountRecord, Command};
use crate::protocol::{ErrorInfo, ErrorKind};
use crate::shared_pool::{Membership, PoolClient, RefreshClaim, SeatClaim, SharedAccount};
use crate::store::Write;

/// How often other hosts are asked to give back seats that no agent uses, and how long they have.
const ASKS: u32 = 10;
const ASK_TIME: Duration = Duration::from_millis(300);
/// How long no other host refreshes a login that moves to this one.
const MOVE_TIME: Duration = Duration::from_secs(60);
/// The number of the refresh attempt that keeps other hosts from refreshing; no refresh has it.
const MOVE_ATTEMPT: u64 = u64::MAX >> 1;

/// Moves an account of the pool to this host alone.
pub(super) async fn to_local(
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
    {
        let shared = &mut daemon.state().shared_accounts;
        shared.note_own_change(id);
        shared.insert(id, MOVING);
    }
    // from here on the database decides whose it is
    if let Err(error) = client.remove_account(id).await {
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
