//! What the pool asks the database for: seats and fences. Each request is answered in any case, because leases wait for it.

use std::sync::Arc;
use std::time::Duration;

use crate::daemon::many_hosts::handle::PoolTerm;
use crate::daemon::many_hosts::message::SeatsWanted;
use crate::daemon::many_hosts::seats::TermSeats;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, Command, Fence, FenceBlock, Now, SeatDenial};
use crate::shared_pool::{FenceRange, PoolClient, SeatClaim, SharedPoolError};

/// How long a lease waits for an answer of the database at most.
pub(in crate::daemon::many_hosts) const CLAIM_TIME: Duration = Duration::from_secs(2);

/// How a claim has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClaimEnd {
    /// With an answer to the pool.
    Answered,
    /// The term is over, too.
    TermOver,
}

/// A term, and the seats that were claimed in it: an answer that comes after the term is over changes nothing.
#[derive(Clone, Debug)]
pub(super) struct CurrentTerm {
    pub(super) daemon: Arc<Daemon>,
    pub(super) client: Arc<PoolClient>,
    pub(super) term: PoolTerm,
    pub(super) seats: TermSeats,
}

impl CurrentTerm {
    /// Claims seats, and answers the pool in time. What comes later is given back.
    pub(super) async fn claim(self, wanted: SeatsWanted) -> Result<ClaimEnd, SharedPoolError> {
        let Self { client, term, .. } = &self;
        let SeatsWanted { account, seats, most, whole } = wanted;
        let mut call = std::pin::pin!(client.claim_seats(term.id, term.life, account, seats, most, whole));
        let in_time = tokio::time::timeout(CLAIM_TIME, &mut call).await;
        let Ok(answer) = in_time else {
            self.deny(account, None, SeatDenial::Unavailable);
            if let SeatClaim::Claimed { seats, .. } = call.await? {
                // the pool has given it up, and does not know of these
                tracing::debug!(%account, seats, "seats were claimed too late, and are given back");
                client.give_back_seats(term.id, term.life, account, seats).await?;
            }
            return Ok(ClaimEnd::Answered);
        };
        match answer {
            Ok(SeatClaim::Claimed { seats, elsewhere, fences }) => {
                let claimed = Command::SeatsClaimed { account, seats, elsewhere, fences: block(fences) };
                let mut is_used = true;
                self.apply(|state, now| is_used = state.apply(now, claimed).no_answer().is_ok());
                if !is_used {
                    // the pool has given it up
                    client.give_back_seats(term.id, term.life, account, seats).await?;
                }
                Ok(ClaimEnd::Answered)
            }
            Ok(SeatClaim::Full { elsewhere }) => {
                self.deny(account, Some(elsewhere), SeatDenial::Full);
                Ok(ClaimEnd::Answered)
            }
            Ok(SeatClaim::Gone | SeatClaim::Paused) => {
                self.deny(account, None, SeatDenial::Refused);
                Ok(ClaimEnd::Answered)
            }
            Ok(SeatClaim::Over) => {
                self.deny(account, None, SeatDenial::Refused);
                Ok(ClaimEnd::TermOver)
            }
            Err(error) => {
                let is_refused = !error.is_temporary();
                self.deny(account, None, if is_refused { SeatDenial::Refused } else { SeatDenial::Unavailable });
                Err(error)
            }
        }
    }

    /// Gives seats back that the pool does not count any more.
    pub(super) async fn give_back(self, account: AccountId, seats: u32) -> Result<(), SharedPoolError> {
        self.client.give_back_seats(self.term.id, self.term.life, account, seats).await.map(drop)
    }

    /// Lets other hosts know that no request waits here any more.
    pub(super) async fn withdraw_want(self, account: AccountId) -> Result<(), SharedPoolError> {
        self.client.withdraw_want(self.term.id, self.term.life, account).await
    }

    /// Draws a block of fences that are all higher than `above`.
    pub(super) async fn claim_fences(self, above: Fence) -> Result<(), SharedPoolError> {
        let mut fences = self.client.claim_fences().await?;
        if fences.from <= above {
            self.client.raise_fences(above).await?;
            fences = self.client.claim_fences().await?;
        }
        let command = Command::TakeFences(block(fences));
        self.apply(|state, now| state.apply_from_pool(now, command));
        Ok(())
    }

    fn deny(&self, account: AccountId, elsewhere: Option<u32>, why: SeatDenial) {
        self.apply(|state, now| deny(state, now, account, elsewhere, why));
    }

    /// Applies an answer, unless the term was over meanwhile: then its seats are free, and the pool asks again.
    pub(super) fn apply(&self, change: impl FnOnce(&mut State, Now)) {
        let state = &mut *self.daemon.state();
        if state.shared_accounts.seats() == Some(&self.seats) && !self.seats.is_cut() {
            change(state, clock::now());
        }
    }
}

/// No seat was claimed.
pub(in crate::daemon::many_hosts) fn deny(
    state: &mut State,
    now: Now,
    account: AccountId,
    elsewhere: Option<u32>,
    why: SeatDenial,
) {
    let known = || state.pool.seats(account).map_or(0, |seats| seats.elsewhere);
    let elsewhere = elsewhere.unwrap_or_else(known);
    state.apply_from_pool(now, Command::SeatsDenied { account, elsewhere, why });
}

fn block(fences: FenceRange) -> FenceBlock {
    FenceBlock { from: fences.from, to: fences.to }
}
