//! What stands in an account's way, and how a request is told.

use crate::limits::SHORTEST_HINT;

use super::Pool;
use super::account::{Account, CredentialKind, LoginState};
use super::command::LeaseRequest;
use super::error::{Ineligible, IneligibleAccount, Refusal, RefusalKind};
use super::hot::most_of;
use super::select::Choice;
use super::settings::Overflow;
use super::target::{Lane, Lanes};
use super::time::{Deadline, Mono, Now, Wall, spoken};

/// Most accounts a refusal names: it must fit into one message.
const MOST_OBSTACLES: usize = 256;

impl Pool {
    /// What stands in the way of this account serving this request, nearest to the user first.
    pub(super) fn obstacle(&self, slot: usize, ask: &LeaseRequest, now: Now) -> Option<(Ineligible, Option<Deadline>)> {
        self.obstacle_on(slot, ask, self.lanes(&ask.target), now)
    }

    /// The same on these quotas only.
    pub(super) fn obstacle_on(
        &self,
        slot: usize,
        ask: &LeaseRequest,
        lanes: Lanes<'_>,
        now: Now,
    ) -> Option<(Ineligible, Option<Deadline>)> {
        let account = &self.accounts[slot];
        if !account.policy.enabled {
            return Some((Ineligible::Disabled, None));
        }
        match account.record.login_state {
            LoginState::Ready => {}
            LoginState::NeedsLogin(_) => return Some((Ineligible::NeedsLogin, None)),
            LoginState::NeedsVerification(_) => return Some((Ineligible::NeedsVerification, None)),
        }
        if !account.allows(ask.agent.as_deref()) {
            return Some((Ineligible::NotAllowed, None));
        }
        let renewing = account.renewing.map(|renewing| (Ineligible::Renewing, renewing.until.map(Deadline::Mono)));
        if ask.exclude.binary_search(&account.record.id).is_ok() {
            return Some((Ineligible::Excluded, None));
        }
        let closed = closed_on(account, lanes, now).or(renewing);
        if closed.is_some() {
            return closed;
        }
        (!self.has_room(account, ask.exclusive)).then_some((Ineligible::Busy, None))
    }

    pub(super) fn has_room(&self, account: &Account, exclusive: bool) -> bool {
        let most = most_of(&self.settings.leases, account.policy.capacity);
        !account.exclusive && account.leases < most && (!exclusive || account.leases == 0)
    }

    /// What it means that none of `slots` is open.
    pub(super) fn blocked(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> Choice {
        let mut earliest: Option<Mono> = None;
        let (mut busy, mut open_ended) = (false, false);
        for &slot in slots {
            match self.obstacle(slot, ask, now) {
                Some((Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, Some(until))) => {
                    let until = until.mono(now);
                    earliest = Some(earliest.map_or(until, |known| known.min(until)));
                }
                Some((Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, None)) => open_ended = true,
                Some((Ineligible::Busy, _)) => busy = true,
                _ => {}
            }
        }
        if busy && self.settings.leases.overflow == Overflow::Fail {
            return Choice::Refuse(Box::new(self.refusal(now, ask, RefusalKind::NoCapacity)));
        }
        if busy {
            // a lease may end at any moment
            return Choice::Wait { kind: RefusalKind::NoCapacity, earliest: None };
        }
        if open_ended {
            // a probe may come back at any moment, or a reading, or a token
            return Choice::Wait { kind: RefusalKind::AllLimited, earliest: None };
        }
        if earliest.is_some() {
            return Choice::Wait { kind: RefusalKind::AllLimited, earliest };
        }
        Choice::Refuse(Box::new(self.refusal(now, ask, self.permanent_kind(now, ask, slots))))
    }

    fn permanent_kind(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> RefusalKind {
        let has = |wanted: Ineligible| {
            slots.iter().any(|&slot| self.obstacle(slot, ask, now).is_some_and(|(why, _)| why == wanted))
        };
        if has(Ineligible::Excluded) {
            RefusalKind::NoCapacity
        } else if has(Ineligible::NeedsLogin) {
            RefusalKind::NeedsLogin
        } else if has(Ineligible::NeedsVerification) {
            RefusalKind::NeedsVerification
        } else if has(Ineligible::NotAllowed) {
            RefusalKind::NotAllowed
        } else {
            RefusalKind::NoAccount
        }
    }

    /// Says why `ask` gets nothing now, account by account.
    pub(super) fn refusal(&self, now: Now, ask: &LeaseRequest, kind: RefusalKind) -> Refusal {
        let provider = &*ask.target.provider;
        let slots: Vec<usize> = match &ask.account {
            Some(reference) => self.resolve_for(reference, ask).into_iter().collect(),
            None => self.rings.get(provider).map(|ring| ring.slots.clone()).unwrap_or_default(),
        };
        let (mut accounts, mut retry_at, mut excluded, mut busy) = (Vec::new(), None::<Wall>, true, false);
        for slot in slots {
            let Some((why, until)) = self.obstacle(slot, ask, now) else { continue };
            let until = until.map(|until| until.wall(now));
            excluded &= why == Ineligible::Excluded;
            busy |= why == Ineligible::Busy;
            // a probe may come back at any moment, long before the next limit ends
            let probed = why == Ineligible::Limited && until.is_none() && self.is_probed(slot);
            let known = if probed { Some(now.wall.after(SHORTEST_HINT)) } else { until };
            retry_at = [retry_at, known].into_iter().flatten().min();
            if accounts.len() < MOST_OBSTACLES {
                accounts.push(IneligibleAccount { account: self.accounts[slot].record.id, why, until });
            }
        }
        // a lease may end at any moment: no time is better than one that is too late
        retry_at = retry_at.filter(|_| !busy);
        let soon = retry_at.map(|at| format!("; the first is free in {}", spoken(at.since(now.wall))));
        let soon = soon.unwrap_or_default();
        let (message, hint) = match kind {
            RefusalKind::AllLimited
                if !accounts.is_empty() && accounts.iter().all(|one| one.why == Ineligible::Renewing) =>
            {
                (
                    format!("the tokens of all {provider} accounts have to be renewed first{soon}"),
                    Some("`lessor account list` says what keeps them"),
                )
            }
            RefusalKind::AllLimited => (format!("every {provider} account is limited{soon}"), None),
            RefusalKind::NoCapacity if excluded && !accounts.is_empty() => {
                (format!("every {provider} account is excluded by this request"), None)
            }
            RefusalKind::NoCapacity => (format!("every {provider} account is in use or limited{soon}"), None),
            RefusalKind::WaitTimeout => (format!("no {provider} account became free in time{soon}"), None),
            RefusalKind::NeedsLogin => (
                format!("the {provider} account needs a new login"),
                Some("see `lessor doctor`: it says what each account needs"),
            ),
            RefusalKind::NeedsVerification => (
                format!("the {provider} account waits for a confirmation with its provider"),
                Some("see `lessor account list` for where to confirm"),
            ),
            RefusalKind::NotAllowed => (
                format!(
                    "no {provider} account may be held by {}",
                    ask.agent.as_deref().unwrap_or("a holder that names no agent")
                ),
                Some("name the agent (`agent`), or widen the account: `lessor account set A use=any`"),
            ),
            _ => (format!("every {provider} account is disabled"), Some("`lessor account enable A` turns one on")),
        };
        Refusal { kind, message, retry_at, accounts, hint: hint.map(str::to_owned) }
    }

    /// Whether somebody is finding out if the account serves again.
    fn is_probed(&self, slot: usize) -> bool {
        self.accounts[slot].limits.iter().any(|limit| limit.probe().is_some())
    }

    pub(super) fn no_account(&self, ask: &LeaseRequest) -> Refusal {
        let provider = &*ask.target.provider;
        Refusal::new(RefusalKind::NoAccount, format!("there is no {provider} account"))
            .hint(format!("`lessor account add {provider} --api-key-stdin` adds one"))
    }
}

/// Why none of the account's quotas can serve, and until when, where that is known.
pub(super) fn closed_on(account: &Account, lanes: Lanes<'_>, now: Now) -> Option<(Ineligible, Option<Deadline>)> {
    let pools = has_pools(account);
    if lanes.pools_only && !pools {
        return Some((Ineligible::Limited, None));
    }
    let first = closed(account, lanes.first, now)?;
    let Some(second) = lanes.second.filter(|_| pools) else { return Some(first) };
    let second = closed(account, second, now)?;
    let sooner = |a: Deadline, b: Deadline| if b.mono(now) < a.mono(now) { b } else { a };
    Some((first.0, first.1.zip(second.1).map(|(a, b)| sooner(a, b))))
}

/// Whether none of the account's quotas can serve: as `closed_on`, for the many.
#[inline]
pub(super) fn is_closed_on(account: &Account, lanes: Lanes<'_>, now: Now) -> bool {
    let Some(second) = lanes.second.filter(|_| has_pools(account)) else {
        return lanes.pools_only && !has_pools(account) || is_closed(account, lanes.first, now);
    };
    is_closed(account, lanes.first, now) && is_closed(account, second, now)
}

/// A key has one quota, whatever its provider's logins have.
fn has_pools(account: &Account) -> bool {
    account.record.kind != CredentialKind::ApiKey
}

/// Why this quota of the account cannot serve, and until when, where that is known.
pub(super) fn closed(account: &Account, lane: Lane<'_>, now: Now) -> Option<(Ineligible, Option<Deadline>)> {
    let mut limits = account.limits.iter().filter(|limit| limit.blocks(lane.quota) && limit.holds(now));
    let Some(first) = limits.next() else { return reserved(account, lane, now) };
    let later = |a: Deadline, b: Deadline| if b.mono(now) > a.mono(now) { b } else { a };
    // the latest, unless one of them has no time
    let until = limits.fold(first.opens_at(), |latest, limit| Some(later(latest?, limit.opens_at()?)));
    Some((Ineligible::Limited, until))
}

/// Whether this quota of the account is closed: as `closed`, for the many.
#[inline]
pub(super) fn is_closed(account: &Account, lane: Lane<'_>, now: Now) -> bool {
    account.limits.iter().any(|limit| limit.blocks(lane.quota) && limit.holds(now))
        || reserved(account, lane, now).is_some()
}

/// What fractions are told apart by.
const EPSILON: f64 = 1e-9;

/// Until when what is left of the quota is kept back from the model; nothing known keeps nothing back.
#[inline]
fn reserved(account: &Account, lane: Lane<'_>, now: Now) -> Option<(Ineligible, Option<Deadline>)> {
    if lane.reserve <= 0.0 {
        return None;
    }
    let spent = |used: f64| 1.0 - used < lane.reserve - EPSILON;
    let mut windows = account.usage.live(lane.quota, now.wall).filter(|window| spent(window.utilization));
    let first = windows.next()?.resets_at;
    let last = windows.fold(first, |last, window| Some(last?.max(window.resets_at?)));
    Some((Ineligible::Reserved, last.map(Deadline::Wall)))
}
