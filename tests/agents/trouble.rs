//! Troubles of a provider: an outage, a pool that is spent, one account that is spent.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A trouble, which begins once and lasts for a time.
#[derive(Debug)]
pub struct Trouble {
    pub kind: TroubleKind,
    length: Duration,
    pub began: Option<Instant>,
    /// The runs whose first requests have come.
    pub gathered: BTreeSet<u64>,
    /// The account, for a trouble with one.
    pub account: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub enum TroubleKind {
    /// Every account refuses from when so many runs have begun: with this status, or with a rate limit.
    OfAll { runs: u64, status: Option<u16> },
    /// The account that serves first has a rate limit after so many requests.
    OfFirst { requests: u64 },
}

impl Trouble {
    fn new(kind: TroubleKind, length: Duration) -> Self {
        Self { kind, length, began: None, gathered: BTreeSet::new(), account: None }
    }

    /// Every account refuses with this status.
    pub fn outage(runs: u64, status: u16, length: Duration) -> Self {
        Self::new(TroubleKind::OfAll { runs, status: Some(status) }, length)
    }

    /// Every account has a rate limit.
    pub fn spent_pool(runs: u64, length: Duration) -> Self {
        Self::new(TroubleKind::OfAll { runs, status: None }, length)
    }

    pub fn spent_account(requests: u64, length: Duration) -> Self {
        Self::new(TroubleKind::OfFirst { requests }, length)
    }

    /// The status of the refusal of a request, `None` for a rate limit, and how long the trouble lasts; `None` if it does
    /// not meet the request. The first request of each run is served.
    pub fn meets(&mut self, account: usize, is_first: bool, served: u64) -> Option<(Option<u16>, Duration)> {
        let status = match self.kind {
            TroubleKind::OfAll { status, .. } if !is_first => status,
            TroubleKind::OfAll { .. } => return None,
            TroubleKind::OfFirst { requests } => {
                if self.began.is_none() && served >= requests {
                    (self.began, self.account) = (Some(Instant::now()), Some(account));
                }
                if self.account != Some(account) {
                    return None;
                }
                None
            }
        };
        let left = self.length.checked_sub(self.began?.elapsed()).filter(|left| !left.is_zero());
        left.map(|left| (status, left))
    }
}
