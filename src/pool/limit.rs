//! Limits: facts that a quota key is not usable until a time.

use crate::limits::{Reason, Scope};

use super::target::Quota;
use super::time::{Deadline, Now, Wall};

/// Where the time of a limit comes from; a server's word outweighs a guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// The back-off table.
    Table,
    /// A holder's report.
    Report,
    /// The upstream itself.
    Server,
}

/// A fact: this key is not usable until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The quota key, or the model within it; empty when the scope is the account.
    pub key: String,
    /// How far it reaches: model, pool or account.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Deadline,
    /// Who said so.
    pub source: Source,
}

/// A limit as the store keeps it: on the wall clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRecord {
    /// Which account.
    pub account: super::AccountId,
    /// The quota key, or the model within it.
    pub key: String,
    /// How far it reaches.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Wall,
    /// Who said so.
    pub source: Source,
}

/// The key a limit on one model is filed under.
#[must_use]
pub fn model_key(quota_key: &str, model: &str) -> String {
    format!("{quota_key}:{model}")
}

impl Source {
    /// The stable name, as in the protocol and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Report => "report",
            Self::Server => "server",
        }
    }
}

impl Limit {
    /// Whether this limit stands in the way of `quota`.
    #[must_use]
    pub fn blocks(&self, quota: Quota<'_>) -> bool {
        match self.scope {
            Scope::Account => true,
            Scope::Pool => self.key == quota.key,
            Scope::Model => self.key.len() > quota.key.len() && quota.is_under(&self.key),
            Scope::Request | Scope::Service => false,
        }
    }

    /// Whether this limit gives way to `newer`, filed under the same key: the longest wins, and a guess never
    /// replaces a server's word (I8).
    #[must_use]
    pub fn yields_to(&self, newer: &Self, now: Now) -> bool {
        newer.until.mono(now) > self.until.mono(now)
    }

    /// Whether it is in force.
    #[must_use]
    pub fn holds(&self, now: Now) -> bool {
        !self.until.passed(now)
    }

    /// When it lets somebody through, where that is known.
    #[must_use]
    pub fn opens_at(&self) -> Option<Deadline> {
        Some(self.until)
    }

    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.scope == other.scope && self.key == other.key
    }
}
