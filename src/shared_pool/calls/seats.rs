//! Seats: units of an account's capacity that a host holds.

use super::fences::FenceRange;
use crate::pool::{AccountId, Fence, Wall};
use crate::shared_pool::database::client::{PoolClient, boolean, int4, int8};
use crate::shared_pool::database::error::{SharedPoolError, SharedPoolErrorKind};
use crate::shared_pool::ids::{TermId, sql_id};

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatClaim {
    /// Seats were free.
    Claimed {
        /// How many this claim took: at least one, and all of them if it asked for the whole account.
        seats: u32,
        /// How many others hold now.
        elsewhere: u32,
        /// Fences for the leases that follow, higher than those of every earlier lease on these seats.
        fences: FenceRange,
    },
    /// None was free. The want is recorded: hosts with a free seat give it back.
    Full {
        /// How many others hold now.
        elsewhere: u32,
    },
    /// The term is over, or this host was evicted.
    Over,
    /// The account is not in the pool (any more).
    Gone,
    /// Nothing is claimed for one ttl, because the database is another one than before.
    Paused,
}

impl PoolClient {
    /// Claims up to `seats` free seats of an account, so that afterwards all hosts together hold at most `most`; with
    /// `whole`, all of them or none.
    ///
    /// # Errors
    /// When the database is away. Whether seats were claimed is not known then: after a reconnect,
    /// [`seats_of`](Self::seats_of) says it.
    pub async fn claim_seats(
        &self,
        term: TermId,
        life: u64,
        account: AccountId,
        seats: u32,
        most: u32,
        whole: bool,
    ) -> Result<SeatClaim, SharedPoolError> {
        let sql =
            "select outcome, seats, elsewhere, fence_from, fence_to from lessor.claim_seats($1, $2, $3, $4, $5, $6)";
        let (life, account) = (life.cast_signed(), sql_id(account));
        let (seats, most) = (small(seats), small(most));
        let parameters = [int8(&term.0), int8(&life), int8(&account), int4(&seats), int4(&most), boolean(&whole)];
        let row = match self.row(sql, &parameters).await {
            Err(error) if error.kind() == SharedPoolErrorKind::Evicted => return Ok(SeatClaim::Over),
            answer => answer?,
        };
        let elsewhere = self.get::<i32>(&row, 2)?.cast_unsigned();
        match self.get::<&str>(&row, 0)? {
            "claimed" => {
                let fence = |column| self.get::<i64>(&row, column).map(|fence| Fence(fence.cast_unsigned()));
                let fences = FenceRange { from: fence(3)?, to: fence(4)? };
                Ok(SeatClaim::Claimed { seats: self.get::<i32>(&row, 1)?.cast_unsigned(), elsewhere, fences })
            }
            "full" => Ok(SeatClaim::Full { elsewhere }),
            "over" => Ok(SeatClaim::Over),
            "gone" => Ok(SeatClaim::Gone),
            "paused" => Ok(SeatClaim::Paused),
            other => Err(self.bad_answer(format_args!("the outcome {other:?} of a claim"))),
        }
    }

    /// Removes the want that a claim of the term has left, because its request is gone.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn withdraw_want(&self, term: TermId, life: u64, account: AccountId) -> Result<(), SharedPoolError> {
        let (life, account) = (life.cast_signed(), sql_id(account));
        let sql = "select lessor.withdraw_want($1, $2, $3)::text";
        self.row(sql, &[int8(&term.0), int8(&life), int8(&account)]).await.map(drop)
    }

    /// Lets other hosts claim the seats that were kept for this one when the ceiling was raised.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn release_kept_seats(&self, term: TermId, life: u64, account: AccountId) -> Result<(), SharedPoolError> {
        let (life, account) = (life.cast_signed(), sql_id(account));
        let sql = "select lessor.release_kept_seats($1, $2, $3)::text";
        self.row(sql, &[int8(&term.0), int8(&life), int8(&account)]).await.map(drop)
    }

    /// Gives back seats whose leases have ended, and clears the marks of handed-out tokens on them. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn give_back_seats(
        &self,
        term: TermId,
        life: u64,
        account: AccountId,
        seats: u32,
    ) -> Result<u32, SharedPoolError> {
        let (life, account, seats) = (life.cast_signed(), sql_id(account), small(seats));
        let parameters = [int8(&term.0), int8(&life), int8(&account), int4(&seats)];
        self.value::<i32>("select lessor.give_back_seats($1, $2, $3, $4)", &parameters).await.map(i32::cast_unsigned)
    }

    /// Records, before a token of this account leaves the daemon, that it is out until then (`None`: for ever). The seats
    /// of the term stay taken until that time, whatever becomes of this host; so do those that it claims while it holds one
    /// of them. `false`: the term is over or holds no seat of the account, and the token must not be handed out.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn mark_handed_out(
        &self,
        term: TermId,
        life: u64,
        account: AccountId,
        until: Option<Wall>,
    ) -> Result<bool, SharedPoolError> {
        let (life, account) = (life.cast_signed(), sql_id(account));
        let until = until.map(|until| i64::try_from(until.0).unwrap_or(i64::MAX));
        let parameters = [int8(&term.0), int8(&life), int8(&account), int8(&until)];
        self.value("select lessor.mark_handed_out($1, $2, $3, $4)", &parameters).await
    }

    /// The seats that a term of this host holds: after a claim or a return whose answer was lost. `None` when it is over.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn seats_of(&self, term: TermId, life: u64) -> Result<Option<Vec<(AccountId, u32)>>, SharedPoolError> {
        self.resume_term(term, life, life).await
    }
}

/// As an `integer`, saturating.
fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
