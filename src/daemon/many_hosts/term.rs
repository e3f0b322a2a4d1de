//! The beginning of a connection: which pool it leads to, the rights and keys of this host, and its term.

use std::sync::Arc;

use super::clock_offset::measured;
use super::handle::PoolTerm;
use super::target::PoolTarget;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, save};
use crate::pool::{AccountId, Mono};
use crate::shared_pool::{
    BeatAnswer, Membership, OwnHost, PoolClient, PoolInfo, SeatValidity, SharedPoolError, SharedPoolSettings, TermId,
};
use crate::store::Write;

/// So many lives of a term are tried: one more for each connection that broke while it was resumed.
const MOST_LIVES: usize = 8;

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    /// The database says so.
    #[error(transparent)]
    Database(#[from] SharedPoolError),
    /// It is not this host's pool, or its keys are not for this host.
    #[error("{0}")]
    Unfit(String),
}

/// A connection that is ready: a term has begun, or goes on.
#[derive(Debug)]
pub(super) struct BegunTerm {
    pub(super) info: PoolInfo,
    pub(super) term: PoolTerm,
    pub(super) validity: SeatValidity,
    /// When its last heartbeat was sent.
    pub(super) beat_at: Mono,
}

/// The term that was held over an earlier connection.
#[derive(Clone, Debug)]
pub(super) struct FormerTerm {
    id: TermId,
    /// The life that it had last, and later ones that it may have: whether a connection that broke has resumed it is not
    /// known. They are tried in order, because a request that comes late changes a life to a later one only.
    lives: Vec<u64>,
    /// Its leases are those of this run of the daemon.
    is_of_this_run: bool,
}

impl FormerTerm {
    /// The one in the store.
    pub(super) fn of_last_run(term: PoolTerm) -> Self {
        Self { id: term.id, lives: vec![term.life], is_of_this_run: false }
    }

    /// The one that was begun or resumed.
    pub(super) fn of_this_run(term: PoolTerm) -> Self {
        Self { is_of_this_run: true, ..Self::of_last_run(term) }
    }

    /// It is going to be resumed with this life, and the answer may be lost.
    pub(super) fn note_offer(&mut self, life: u64) {
        if !self.lives.contains(&life) {
            if self.lives.len() >= MOST_LIVES {
                self.lives.remove(1);
            }
            self.lives.push(life);
        }
    }

    /// With the life that it has unless a connection has broken meanwhile.
    pub(super) fn known(&self) -> PoolTerm {
        PoolTerm { id: self.id, life: self.lives.first().copied().unwrap_or_default() }
    }

    /// Ends it: all its leases have ended.
    pub(super) async fn end(&self, client: &PoolClient) -> Result<(), SharedPoolError> {
        for life in &self.lives {
            client.end_term(self.id, *life).await?;
        }
        Ok(())
    }

    /// Goes on with it under a new life; `None` when it is over.
    async fn resume(&self, client: &PoolClient, life: u64) -> Result<Option<Vec<(AccountId, u32)>>, SharedPoolError> {
        for before in &self.lives {
            let seats = client.resume_term(self.id, *before, life).await?;
            if seats.is_some() {
                return Ok(seats);
            }
        }
        Ok(None)
    }
}

/// A random number for the terms of a connection. One that is not random is compared all the same.
pub(super) fn new_life() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock::now().wall.0)
}

/// Finds out where the connection leads, and begins a term there or goes on with `before`.
pub(super) async fn begin(
    daemon: Arc<Daemon>,
    client: Arc<PoolClient>,
    target: Arc<PoolTarget>,
    (before, life): (Option<FormerTerm>, u64),
) -> Result<BegunTerm, BeginError> {
    let sent = clock::now();
    let info = client.pool_info().await?;
    let offset = measured(sent, clock::now(), info.db_time, None).unwrap_or_default();
    daemon.many_hosts.set_clock_offset(offset);
    if info.id != target.membership.pool {
        return Err(BeginError::Unfit(format!(
            "the database {} has the pool {}, and this host has joined {}: set [pool] url to that one, or leave it: lessor \
             pool leave",
            client.place(),
            info.id,
            target.membership.pool
        )));
    }
    renew_membership(&daemon, &client).await?;
    let highest = daemon.state().pool.next_fence();
    client.raise_fences(highest).await?;
    if let Some(before) = before
        && let Some(begun) = resume(&daemon, &client, &info, (before, life)).await?
    {
        return Ok(begun);
    }
    let begun = new_term(&daemon, &client, &info, life).await?;
    Ok(begun)
}

/// Goes on with a term: of this run, if its time is not over, or of the last one. `None` when it is over.
async fn resume(
    daemon: &Daemon,
    client: &PoolClient,
    info: &PoolInfo,
    (before, life): (FormerTerm, u64),
) -> Result<Option<BegunTerm>, SharedPoolError> {
    if before.is_of_this_run && !seats_are_valid(daemon) {
        // its leases were cut in time: others need not wait until it has been silent for long enough
        before.end(client).await?;
        return Ok(None);
    }
    let term = PoolTerm { id: before.id, life };
    let Some(seats) = before.resume(client, life).await? else {
        daemon.state().lose_seats(clock::now());
        tracing::warn!(
            "the seats of this host in the shared pool were taken over by others: its leases there have ended"
        );
        return Ok(None);
    };
    save_term(daemon, Some(term)).await;
    let mut validity = validity(info.settings);
    let sent = clock::now();
    if client.beat(term.id, term.life).await?.is_none() {
        daemon.state().lose_seats(clock::now());
        return Ok(None);
    }
    let until = validity.accepted(sent.mono);
    let state = &mut *daemon.state();
    let now = clock::now();
    if before.is_of_this_run && state.shared_accounts.seats().is_none_or(|seats| seats.until() <= now.mono) {
        // their time was over while the answers were on their way
        state.lose_seats(now);
        return Ok(None);
    }
    state.resume_seats(now, until, seats);
    Ok(Some(BegunTerm { info: info.clone(), term, validity, beat_at: sent.mono }))
}

/// Begins a term without seats. It is on disk before it is used, so that the next run of the daemon can go on with it.
async fn new_term(
    daemon: &Daemon,
    client: &PoolClient,
    info: &PoolInfo,
    life: u64,
) -> Result<BegunTerm, SharedPoolError> {
    let sent = clock::now();
    let term = PoolTerm { id: client.begin_term(life).await?, life };
    save_term(daemon, Some(term)).await;
    let mut validity = validity(info.settings);
    let until = validity.accepted(sent.mono);
    daemon.state().begin_seats(clock::now(), until);
    tracing::debug!(term = term.id.0, "a term of the shared pool has begun");
    Ok(BegunTerm { info: info.clone(), term, validity, beat_at: sent.mono })
}

/// One heartbeat.
pub(super) async fn beat(client: &PoolClient, term: PoolTerm) -> Result<Option<BeatAnswer>, SharedPoolError> {
    client.beat(term.id, term.life).await
}

/// The rights and keys of this host may have changed while it was away: then its membership is saved and used as it is now.
pub(super) async fn renew_membership(daemon: &Daemon, client: &PoolClient) -> Result<(), BeginError> {
    let Some(known) = daemon.many_hosts.membership() else { return Ok(()) };
    let own = client.own_host().await?;
    let Some(renewed) = renewed(&known, &own)? else { return Ok(()) };
    let bytes = renewed.to_bytes().map_err(BeginError::Unfit)?;
    if let Err(error) = save(&daemon.store, Write::SavePoolMembership(Some(bytes))).await {
        // it is asked for again after a restart
        tracing::error!("the membership in the shared pool could not be saved: {error}");
    }
    if renewed.keys.generation() != known.keys.generation() {
        tracing::info!(generation = renewed.keys.generation().0, "this host has new keys of the shared pool");
    }
    daemon.many_hosts.set_membership(Some(Arc::new(renewed)));
    Ok(())
}

/// The membership as the database has it, if it differs.
fn renewed(known: &Membership, own: &OwnHost) -> Result<Option<Membership>, BeginError> {
    let has_new_keys = own.keys > known.keys.generation();
    if !has_new_keys && (own.admin, own.refresher) == (known.admin, known.refresher) && own.name == known.name {
        return Ok(None);
    }
    let mut renewed = known.duplicate();
    (renewed.admin, renewed.refresher) = (own.admin, own.refresher);
    renewed.name.clone_from(&own.name);
    if has_new_keys {
        let keys = known.key_pair.unwrap(&known.pool, &own.wrapped, &known.keys);
        renewed.keys = keys.map_err(|error| BeginError::Unfit(error.to_string()))?;
    }
    Ok(Some(renewed))
}

/// Saves the term, so that the next run goes on with it. Without it that run begins another one.
pub(super) async fn save_term(daemon: &Daemon, term: Option<PoolTerm>) {
    let write = Write::SavePoolTerm(term.map(|term| (term.id.0, term.life)));
    if let Err(error) = save(&daemon.store, write).await {
        tracing::warn!("the term in the shared pool could not be saved: {error}");
    }
}

fn seats_are_valid(daemon: &Daemon) -> bool {
    let state = daemon.state();
    state.shared_accounts.seats().is_some_and(|seats| !seats.is_cut() && seats.are_valid())
}

fn validity(settings: SharedPoolSettings) -> SeatValidity {
    SeatValidity::new(settings.ttl, settings.margin)
}
