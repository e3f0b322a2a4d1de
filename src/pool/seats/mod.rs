//! Seats: what this host may use of the accounts that several hosts share. A *seat* is one unit of an account's capacity
//! in the shared pool; a host may have as many leases on the account at once as it holds seats of it, for as long as its
//! *term* is valid.

pub(crate) mod account;
mod claims;
mod commands;
pub(crate) mod term;

use crate::pool::model::Fence;

/// What the user can do about seats that this host does not get.
pub(crate) const SEAT_HINT: &str =
    "run `lessor pool status` to see whether this host reaches the shared pool's database";

/// What the shared pool allows for an account on all hosts together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeatLimits {
    /// How many leases it takes before requests share it or wait.
    pub capacity: u32,
    /// It never has more leases than this; the same as `capacity` where accounts are not shared beyond it.
    pub ceiling: u32,
}

/// Fences that this host alone may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FenceBlock {
    /// The first.
    pub from: Fence,
    /// The last.
    pub to: Fence,
}

/// Why a host got no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeatDenial {
    /// The other hosts hold them; they know now that one is wanted.
    Full,
    /// The database could not be asked.
    Unavailable,
    /// This host may claim none: the term is over, or the pool is paused.
    Refused,
}

/// The seats of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeatCounts {
    /// Those that this host holds.
    pub held: u32,
    /// Those that other hosts hold, as far as is known.
    pub elsewhere: u32,
}
