//! What decided for the account of a lease over the others.

use crate::pool::lease::ChosenBy;
use crate::pool::model::{AccountId, Ineligible, Tier, Wall};
use std::time::Duration;

/// What decided for an account.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Comparison {
    /// The account that would have been next, if another one could serve.
    pub over: Option<AccountId>,
    /// What the two differ in: the first criterion of the order that does. None where the order did not decide.
    pub by: Option<Criterion>,
    /// The account that would have come first, and cannot serve.
    pub passed: Option<PassedAccount>,
}

/// A criterion of the order, with the values of the chosen account and of the other one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Criterion {
    /// Only the second quota pool of the other one is open.
    QuotaPool,
    /// The other one is used only while no other account can serve.
    Fallback,
    /// The plan of the other one is used up, and its requests are paid for.
    Overage,
    /// Used of the fullest window; above the soft threshold an account ranks last.
    SoftThreshold([Option<f64>; 2]),
    /// Leases and capacity.
    Leases([(u32, u32); 2]),
    /// Leases of agents, and of sub-agents.
    Subagents([(u32, u32); 2]),
    /// The priority.
    Priority([i32; 2]),
    /// The plan.
    Tier([Tier; 2]),
    /// The holder's process chooses the place where the order starts.
    PidOffset(u32),
    /// The chosen one is the family's current account.
    Current,
    /// The accounts take turns, and it is the turn of the chosen one.
    Turn,
    /// Health, where one of them is not healthy enough.
    Health([f64; 2]),
    /// Tokens, where one of them has none.
    Tokens([f64; 2]),
    /// The score of `hybrid`.
    Score([f64; 2]),
    /// Used of the weekly window.
    Weekly([Option<f64>; 2]),
    /// Used of the 5-hour window.
    Short([Option<f64>; 2]),
    /// When the weekly window resets.
    WeeklyReset([Option<Wall>; 2]),
    /// Used of the fullest window.
    Used([Option<f64>; 2]),
    /// The time since the last use; none if there was none.
    Idle([Option<Duration>; 2]),
    /// They are equal: the order of the accounts decides.
    Order,
}

/// An account that comes before the order, and cannot serve.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PassedAccount {
    /// The account.
    pub account: AccountId,
    /// What it is: the session's account, or the preferred one.
    pub wanted_by: ChosenBy,
    /// Why it cannot serve; none if it is a fallback, or its plan is used up, and another one is used before it.
    pub why: Option<Ineligible>,
    /// Whether it is a fallback.
    pub is_fallback: bool,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

impl Criterion {
    /// A stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::QuotaPool => "quota_pool",
            Self::Fallback => "fallback_only",
            Self::Overage => "overage",
            Self::SoftThreshold(_) => "soft_threshold",
            Self::Leases(_) => "leases",
            Self::Subagents(_) => "subagents",
            Self::Priority(_) => "priority",
            Self::Tier(_) => "tier",
            Self::PidOffset(_) => "pid_offset",
            Self::Current => "current",
            Self::Turn => "turn",
            Self::Health(_) => "health",
            Self::Tokens(_) => "tokens",
            Self::Score(_) => "score",
            Self::Weekly(_) => "used_7d",
            Self::Short(_) => "used_5h",
            Self::WeeklyReset(_) => "resets_7d_at",
            Self::Used(_) => "used",
            Self::Idle(_) => "idle",
            Self::Order => "order",
        }
    }
}
