//! Blocks of fences, which rise over the whole pool.

use crate::pool::Fence;
use crate::shared_pool::database::client::{PoolClient, int8};
use crate::shared_pool::database::error::SharedPoolError;

/// Fences that belong to this host alone, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FenceRange {
    /// The lowest.
    pub from: Fence,
    /// The highest.
    pub to: Fence,
}

impl PoolClient {
    /// Draws a block of fences, higher than all that were drawn before.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn claim_fences(&self) -> Result<FenceRange, SharedPoolError> {
        let row = self.row("select fence_from, fence_to from lessor.claim_fences()", &[]).await?;
        let fence = |column| self.get::<i64>(&row, column).map(|fence| Fence(fence.cast_unsigned()));
        Ok(FenceRange { from: fence(0)?, to: fence(1)? })
    }

    /// Makes all later blocks higher than `highest`, which this host has used already: before it joined, or before the
    /// database was restored from a copy. Call it before the first claim on a new connection.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn raise_fences(&self, highest: Fence) -> Result<(), SharedPoolError> {
        let highest = i64::try_from(highest.0).unwrap_or(i64::MAX);
        self.row("select lessor.raise_fences($1)::text", &[int8(&highest)]).await.map(drop)
    }
}
