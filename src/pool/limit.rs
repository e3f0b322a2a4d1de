//! Limits: facts that a quota key is not usable until a time.

use crate::limits::{Reason, Scope};

use super::recovery::Phase;
use super::target::Quota;
use super::time::{Deadline, Now, Wall};

/// Where the time of a limit comes from; a server's word outweighs a guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LimitSource {
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
    pub source: LimitSource,
    /// When it was filed.
    pub since: Wall,
    /// What showed it, in a few words.
    pub evidence: Option<Box<str>>,
    /// Where the user can do something about it.
    pub link: Option<Box<str>>,
    /// Whether a probe goes first when its time is over.
    pub(super) long: bool,
    pub(super) phase: Phase,
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
    pub source: LimitSource,
    /// When it was filed; earlier versions did not keep that.
    pub since: Option<Wall>,
    /// What showed it, in a few words.
    pub evidence: Option<Box<str>>,
    /// Where the user can do something about it.
    pub link: Option<Box<str>>,
}

/// The key a limit on one model is filed under.
#[must_use]
pub fn model_key(quota_key: &str, model: &str) -> String {
    format!("{quota_key}:{model}")
}

impl LimitSource {
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
    /// A limit, to be filed.
    #[must_use]
    pub fn new(scope: Scope, key: impl Into<String>, reason: Reason, until: Deadline, source: LimitSource) -> Self {
        Self {
            key: key.into(),
            scope,
            reason,
            until,
            source,
            since: Wall::default(),
            evidence: None,
            link: None,
            long: false,
            phase: Phase::CLOSED,
        }
    }

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

    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.is_of(other.scope, &other.key)
    }

    pub(super) fn is_of(&self, scope: Scope, key: &str) -> bool {
        self.scope == scope && self.key == key
    }
}
