//! What the worker of the shared pool is asked to do.

use crate::limits::Scope;
use crate::pool::{AccountId, Fence, LimitRecord, Wall};

/// A message to the worker of the shared pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PoolMessage {
    /// The membership or the configuration has changed.
    Rejoin,
    /// The pool asks for seats: it is answered within [`super::session::claims::CLAIM_TIME`].
    Claim(SeatsWanted),
    /// The pool has given back so many seats.
    GiveBack {
        /// Of this account.
        account: AccountId,
        /// How many.
        seats: u32,
    },
    /// No request waits any more for a seat of this account.
    WithdrawWant(AccountId),
    /// The pool needs another block of fences.
    ClaimFences {
        /// All of them must be higher than this one.
        above: Fence,
    },
    /// A limit of a shared account was learnt here.
    Limit(LimitRecord),
    /// The pool asks whether this host may probe an account: it is answered within [`super::session::claims::CLAIM_TIME`].
    ClaimProbe {
        /// The account.
        account: AccountId,
        /// The limits that the probe tests.
        limits: Vec<(Scope, String)>,
    },
    /// This host does not probe the account any more. What became of its limits was sent before.
    GiveUpProbe(AccountId),
    /// A limit of a shared account is over here, before its time or by its probe: all, or the one of this scope and key.
    ClearLimit(ClearedLimit),
    /// The usage of a shared account was read or learnt here.
    Usage(AccountId),
    /// The record or the login state of a shared account was changed here.
    Account(AccountId),
    /// This host has changed something in the database: the news are read now.
    ReadNews,
    /// It is not known what the database has of an account: everything is read.
    ReadAll,
}

/// Limits of an account that are over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClearedLimit {
    /// The account.
    pub(crate) account: AccountId,
    /// One of them; `None` for all, because the user has cleared them.
    pub(crate) which: Option<(Scope, String)>,
    /// When that was found out, on this host's clock.
    pub(crate) at: Wall,
}

/// Seats that the pool asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SeatsWanted {
    /// Of this account.
    pub(crate) account: AccountId,
    /// How many.
    pub(crate) seats: u32,
    /// The most seats of all hosts afterwards.
    pub(crate) most: u32,
    /// All of them or none.
    pub(crate) whole: bool,
}
