//! The failures of an account: what its back-off counts, and what is not yet known to be its own fault.

use crate::limits::Scope;
use crate::pool::limit::Limit;
use crate::pool::model::{Bind, ConnectionId, Fence, Mono, Now, Process, Wall};
use std::time::Duration;

/// The first wait after the provider has refused the account or its credential.
pub(crate) const FIRST_DENIAL: Duration = Duration::from_secs(10);
/// The longest such wait; a refusal in doubt is tested at least so often.
const LONGEST_DENIAL: Duration = Duration::from_secs(900);
/// A row of refusals ends this long after its last limit.
const DENIALS_KEPT: Duration = Duration::from_secs(3600);
/// The same request counts as another one after this time without a success.
const SAME_REQUEST: Duration = Duration::from_secs(60);
/// Most unexplained refusals that are kept; the oldest is dropped first.
const MOST_UNEXPLAINED: usize = 32;

/// The failures of an account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Failures {
    /// Consecutive quota failures.
    pub(crate) quota: u32,
    /// When the last limit for a quota failure ends.
    pub(crate) quota_until: Mono,
    /// Recent refusals, so that one event reported by several holders counts once.
    pub(crate) recent: Vec<CountedRefusal>,
    /// The provider refuses the account or its credential, since its last success.
    pub(crate) denied: Option<Denials>,
    /// Refusals since the last success that did not say whose fault they are.
    pub(crate) unexplained: Vec<UnexplainedRefusal>,
    pub(crate) service: ServiceFailures,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CountedRefusal {
    pub(crate) scope: Scope,
    pub(crate) key: String,
    pub(crate) at: Mono,
    /// The lease that reported it.
    pub(crate) fence: Fence,
    /// When its holder, which was answered `retry`, is expected back.
    pub(crate) back_at: Option<Mono>,
    pub(crate) failures: u32,
}

/// A row of refusals of the account or its credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denials {
    /// When it began.
    pub(crate) since: Wall,
    /// The last refusal.
    pub(crate) at: Mono,
    /// When its limit ends.
    until: Mono,
    /// Separate events: requests that were refused together count once.
    events: u32,
    /// The login was refreshed in this row: that happens once.
    pub(crate) is_renewed: bool,
}

impl Denials {
    pub(crate) fn begin(now: Now) -> Self {
        Self { since: now.wall, at: now.mono, until: now.mono, events: 0, is_renewed: false }
    }

    /// The row that a stored limit belongs to; how many events it had follows from how long it lasts.
    pub(crate) fn restored(limit: &Limit, now: Now) -> Self {
        let span = limit.until.wall(now).since(limit.since);
        let events = (0..16).find(|events| FIRST_DENIAL * ((1 << (events + 1)) - 1) >= span).unwrap_or(16) + 1;
        let until = limit.until.mono(now);
        Self { since: limit.since, at: now.mono, until, events, is_renewed: false }
    }

    /// The row that goes on, or a new one.
    pub(crate) fn of(row: &mut Option<Self>, now: Now) -> &mut Self {
        row.take_if(|row| row.has_ended(now));
        row.get_or_insert_with(|| Self::begin(now))
    }

    pub(crate) fn has_ended(&self, now: Now) -> bool {
        now.mono > self.until.after(DENIALS_KEPT)
    }

    /// Counts a refusal; returns until when the account is left.
    pub(crate) fn count(&mut self, now: Now) -> Mono {
        let doublings = self.events.min(10);
        self.events = self.events.saturating_add(1);
        let wait = (FIRST_DENIAL * 2_u32.pow(doublings)).min(LONGEST_DENIAL);
        (self.at, self.until) = (now.mono, now.mono.after(wait));
        self.until
    }
}

/// Refusals of one quota that did not say whose fault they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnexplainedRefusal {
    scope: Scope,
    key: String,
    first: Mono,
    pub(crate) last: Mono,
    by: RequestSource,
    /// Different requests have met it: it is the account's.
    is_confirmed: bool,
}

/// What a request belongs to. Requests of different sources are different requests; of one source, it may be the same
/// one again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RequestSource {
    Session(Box<str>),
    Process(Process),
    Connection(ConnectionId),
    Lease(Fence),
}

impl RequestSource {
    pub(crate) fn of(session: Option<&str>, process: Option<Process>, bind: Bind, fence: Fence) -> Self {
        match (session, process.or(bind.process()), bind) {
            (Some(session), ..) => Self::Session(session.into()),
            (None, Some(process), _) => Self::Process(process),
            (None, None, Bind::Connection(connection)) => Self::Connection(connection),
            (None, None, Bind::Process(_) | Bind::Ttl) => Self::Lease(fence),
        }
    }
}

impl Failures {
    /// Notes a refusal that does not say whose fault it is. It is the account's if a different request has met it
    /// before, or the same one a while ago, and none has succeeded since.
    pub(crate) fn confirm(
        &mut self,
        now: Mono,
        (scope, key): (Scope, &str),
        by: RequestSource,
        memory: Duration,
    ) -> bool {
        self.unexplained.retain(|known| now.since(known.last) < memory.max(SAME_REQUEST * 2));
        if let Some(known) = self.unexplained.iter_mut().find(|known| known.scope == scope && known.key == key) {
            known.is_confirmed |= known.by != by || now.since(known.first) >= SAME_REQUEST;
            known.last = now;
            return known.is_confirmed;
        }
        if self.unexplained.len() >= MOST_UNEXPLAINED {
            self.unexplained.remove(0);
        }
        let key = key.to_owned();
        self.unexplained.push(UnexplainedRefusal { scope, key, first: now, last: now, by, is_confirmed: false });
        false
    }

    /// Forgets what was noted of one refusal, because the request was at fault.
    pub(crate) fn acquit(&mut self, scope: Scope, key: &str) {
        self.quota = self.quota.saturating_sub(1);
        self.recent.retain(|counted| counted.scope != scope || counted.key != key);
        if scope == Scope::Account {
            self.denied = None;
        }
    }
}

/// Failures of the service, as far as only this account may have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ServiceFailures {
    /// The first since the last success.
    pub(crate) since: Option<Mono>,
    /// When they last cost the account health.
    pub(crate) charged: Option<Mono>,
    /// When a request last succeeded.
    pub(crate) succeeded: Option<Mono>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Reason;
    use crate::pool::model::{Deadline, LimitSource};

    #[test]
    fn the_wait_doubles_with_each_event_up_to_a_quarter_of_an_hour_and_goes_on_after_a_restart() {
        let mut now = Now { mono: Mono(1_000_000), wall: Wall(1_800_000_000_000) };
        let mut denials = Denials::begin(now);
        for wanted in [10, 20, 40, 80, 160, 320, 640, 900, 900] {
            let wait = denials.count(now).since(now.mono);
            assert_eq!(wait, Duration::from_secs(wanted));
            let limit = Limit {
                since: denials.since,
                ..Limit::new(
                    Scope::Account,
                    "",
                    Reason::Forbidden,
                    Deadline::Mono(now.mono.after(wait)),
                    LimitSource::Table,
                )
            };
            now = Now { mono: now.mono.after(wait), wall: now.wall.after(wait) };
            let mut restored = Denials::restored(&limit, now);
            let next = restored.count(now).since(now.mono);
            assert!(next == (wait * 2).min(LONGEST_DENIAL), "{wait:?} then {next:?}");
        }
        assert!(!denials.has_ended(now));
        now.mono = now.mono.after(DENIALS_KEPT + LONGEST_DENIAL);
        assert!(denials.has_ended(now));
    }
}
