//! Why the database cannot be used: whether that passes without a person, and what a person can do about it.

use super::status::PoolAwayKind;
use super::target::PoolTarget;
use crate::shared_pool::{SharedPoolError, SharedPoolErrorKind};

/// A host that was evicted can join again.
pub(crate) const JOIN_AGAIN: &str =
    "to join again: an admin runs lessor pool join-token, then lessor pool join --token-stdin here";

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PoolLoss {
    pub(super) kind: PoolAwayKind,
    /// In words.
    pub(super) why: String,
}

impl PoolLoss {
    /// The link or the server is at fault, and may come back.
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self { kind: PoolAwayKind::Unreachable, why: why.into() }
    }

    /// The database is there, and does not fit this host.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self { kind: PoolAwayKind::Refused, why: why.into() }
    }

    /// What the database says to this host.
    pub(super) fn of(error: &SharedPoolError, target: &PoolTarget) -> Self {
        if is_eviction(error.kind()) && target.is_own_address() {
            return Self {
                kind: PoolAwayKind::Evicted,
                why: format!("this host was evicted from the pool; {JOIN_AGAIN}"),
            };
        }
        let kind = match error.kind() {
            SharedPoolErrorKind::Unreachable | SharedPoolErrorKind::TermOver => PoolAwayKind::Unreachable,
            _ => PoolAwayKind::Refused,
        };
        Self { kind, why: error.to_string() }
    }
}

/// Whether a database that has let this host in before does not do so any more: the role of a host that was evicted cannot
/// log in.
pub(crate) fn is_eviction(kind: SharedPoolErrorKind) -> bool {
    matches!(kind, SharedPoolErrorKind::Auth | SharedPoolErrorKind::Evicted | SharedPoolErrorKind::NotMember)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::daemon::many_hosts::target::tests::target;

    #[test]
    fn a_role_that_has_worked_and_works_no_more_was_evicted() {
        let own = target("postgres://lessor_h7@db/lessor", "postgres://lessor_h7@db/lessor");
        let of = |kind, target: &Arc<PoolTarget>| PoolLoss::of(&SharedPoolError::for_tests(kind), target);
        for kind in [SharedPoolErrorKind::Auth, SharedPoolErrorKind::Evicted] {
            let loss = of(kind, &own);
            assert_eq!(loss.kind, PoolAwayKind::Evicted, "{kind:?}");
            assert!(loss.why.contains("lessor pool join-token") && !loss.why.contains("password"), "{}", loss.why);
        }
        // another server does not know the role: that says nothing of the pool
        let elsewhere = target("postgres://lessor_h7@other/lessor", "postgres://lessor_h7@db/lessor");
        assert_eq!(of(SharedPoolErrorKind::Auth, &elsewhere).kind, PoolAwayKind::Refused);
        assert_eq!(of(SharedPoolErrorKind::Unreachable, &own).kind, PoolAwayKind::Unreachable);
        assert_eq!(of(SharedPoolErrorKind::SchemaNewer, &own).kind, PoolAwayKind::Refused);
    }
}
