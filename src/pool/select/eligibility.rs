//! Why an account cannot serve a request, and the refusal that says so.

use crate::limits::SHORTEST_HINT;
use crate::pool::account::Account;
use crate::pool::limit::Limit;
use crate::pool::model::{
    AccountId, CredentialKind, Deadline, Ineligible, IneligibleAccount, LeaseRequest, LoginState, Now, Overflow,
    QuotaChoice, QuotaChoices, Refusal, RefusalKind, Wall, spoken,
};
use crate::pool::seats::SEAT_HINT;
use crate::pool::state::Pool;

/// Why an account cannot serve, and until when, where that is known.
pub(crate) type Obstacle = (Ineligible, Option<Deadline>);

/// Most accounts a refusal lists: it must fit into one message.
pub(super) const MOST_LISTED: usize = 256;

impl Pool {
    /// Why this account cannot serve this request, what the user can change first; `None` if it can.
    pub(crate) fn ineligible(&self, slot: usize, ask: &LeaseRequest, now: Now) -> Option<Obstacle> {
        self.ineligible_on(slot, ask, ask.target.quotas(&self.settings.quota), now)
    }

    /// The same on these quotas only.
    pub(crate) fn ineligible_on(
        &self,
        slot: usize,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        now: Now,
    ) -> Option<Obstacle> {
        let account = &self.accounts[slot];
        if !self.membership(&ask.set).has(account) {
            return Some((Ineligible::NotInSet, None));
        }
        if let Some(why) = out_of_service(account) {
            return Some((why, None));
        }
        if account.seats.as_ref().is_some_and(|seats| !seats.is_valid()) {
            return Some((Ineligible::NoSeat, None));
        }
        if !account.admits(ask.agent.as_deref(), &ask.holder) {
            return Some((Ineligible::NotAllowed, None));
        }
        let renewing = account.renewing.map(|renewing| (Ineligible::Renewing, renewing.until.map(Deadline::Mono)));
        if ask.exclude.binary_search(&account.record.id).is_ok() {
            return Some((Ineligible::Excluded, None));
        }
        if self.is_kept_back(slot, ask) {
            return Some((Ineligible::Reserved, None));
        }
        let closed = closed_on(account, self.quotas_of(slot, ask, quotas), now).or(renewing);
        if closed.is_some() {
            return closed;
        }
        if !self.has_room(account, ask) {
            return Some((Ineligible::Busy, None));
        }
        account.seat_obstacle(ask.kind()).map(|why| (why, None))
    }

    /// Whether what is in the way of a new lease leaves the account to those that have one: they take the room.
    pub(crate) fn is_by_leases(&self, slot: usize, why: Ineligible) -> bool {
        why == Ineligible::Busy || why == Ineligible::NoSeat && self.accounts[slot].keeps_seats()
    }

    /// Whether the account has room for this request. A sub-agent takes none, but another agent keeps it away where
    /// accounts are not shared, unless that one is its parent.
    pub(crate) fn has_room(&self, account: &Account, ask: &LeaseRequest) -> bool {
        let Some(subagent) = &ask.subagent else { return self.has_room_for_another(account, ask.exclusive) };
        !account.exclusive
            && (self.settings.leases.overflow == Overflow::Share
                || account.used() < account.policy.capacity
                || subagent.parent == Some(account.record.id))
    }

    /// Whether the account has room for a lease of an agent.
    pub(crate) fn has_room_for_another(&self, account: &Account, exclusive: bool) -> bool {
        let used = account.used();
        let most = account.ceiling(&self.settings.leases);
        !account.exclusive && used < most && (!exclusive || used + account.subagents == 0)
    }

    /// Why a request gets no lease now, account by account.
    pub(crate) fn refusal(&self, now: Now, ask: &LeaseRequest, kind: RefusalKind) -> Refusal {
        let provider = &*ask.target.provider;
        let mut slots: Vec<usize> = match &ask.account {
            Some(reference) => self.accounts.find(reference, Some(&ask.target.provider)).into_iter().collect(),
            None => self.accounts.of_provider(provider).map(|all| all.slots().to_vec()).unwrap_or_default(),
        };
        let set = self.membership(&ask.set);
        slots.retain(|&slot| set.has(&self.accounts[slot]));
        let (mut accounts, mut retry_at, mut excluded, mut busy) = (Vec::new(), None::<Wall>, true, false);
        for &slot in &slots {
            let Some((why, until)) = self.ineligible(slot, ask, now) else { continue };
            let until = until.map(|until| until.wall(now));
            // without the model it is no use to wait for it
            let until = until.filter(|_| why != Ineligible::LacksModel);
            excluded &= why == Ineligible::Excluded;
            busy |= why == Ineligible::Busy;
            // a probe may succeed at any moment, long before the next limit ends
            let probed = why == Ineligible::Limited && until.is_none() && self.is_probed(slot);
            let known = if probed { Some(now.wall.after(SHORTEST_HINT)) } else { until };
            retry_at = [retry_at, known].into_iter().flatten().min();
            if accounts.len() < MOST_LISTED {
                accounts.push(IneligibleAccount { account: self.accounts[slot].record.id, why, until });
            }
        }
        // a lease may end at any moment: state no time rather than one that is too late
        retry_at = retry_at.filter(|_| !busy);
        let soon = retry_at.map(|at| format!("; the first is free in {}", spoken(at.since(now.wall))));
        let soon = soon.unwrap_or_default();
        let (of_set, restriction) = match self.set_in_words(&ask.set) {
            Some(words) => (" of the set", format!("; the set: {words}")),
            None => ("", String::new()),
        };
        let kept_back = slots.iter().find(|&&slot| self.keeps_reserve(slot, ask, now)).copied();
        let renewing = !accounts.is_empty() && accounts.iter().all(|one| one.why == Ineligible::Renewing);
        let agent = ask.agent.as_deref().unwrap_or("a client that names no agent");
        let is_forbidden = |one: &&IneligibleAccount| one.why == Ineligible::NotAllowed;
        let withheld = accounts.iter().filter(is_forbidden).find_map(|one| self.withheld(one.account, ask));
        if let Some(refusal) = withheld.filter(|_| kind == RefusalKind::NotAllowed) {
            return Refusal { retry_at, accounts, ..refusal };
        }
        let (message, hint) = match kind {
            RefusalKind::AllLimited if renewing => (
                format!("the token of every {provider} account{of_set} is being refreshed{soon}{restriction}"),
                Some("run `lessor account list` to see the reason"),
            ),
            RefusalKind::AllLimited => {
                (format!("every {provider} account{of_set} is limited{soon}{restriction}"), None)
            }
            RefusalKind::NoCapacity if excluded && !accounts.is_empty() => (
                format!(
                    "no {provider} account{of_set} suits this request: each is excluded, or lacks the login, key or project that it needs{restriction}"
                ),
                None,
            ),
            RefusalKind::NoCapacity
                if !accounts.is_empty() && accounts.iter().all(|one| one.why == Ineligible::NoSeat) =>
            {
                (format!("this host has no seat of any {provider} account{of_set}{restriction}"), None)
            }
            RefusalKind::NoCapacity => {
                (format!("every {provider} account{of_set} is in use or limited{soon}{restriction}"), None)
            }
            RefusalKind::WaitTimeout => {
                (format!("no {provider} account{of_set} became free in time{soon}{restriction}"), None)
            }
            RefusalKind::NeedsLogin | RefusalKind::NeedsVerification => (
                format!("no {provider} account{of_set} can serve until its user acts{restriction}"),
                Some("run `lessor account list` to see what each account needs"),
            ),
            RefusalKind::NotAllowed if kept_back.is_some() && !accounts.iter().any(|one| is_forbidden(&one)) => {
                (format!("every {provider} account that could serve is kept for requests that name it"), None)
            }
            RefusalKind::NotAllowed => {
                (format!("no {provider} account{of_set} may be used by {agent}{restriction}"), None)
            }
            _ if ask.account.is_some() => (format!("the {provider} account is disabled"), None),
            _ => (
                format!("every {provider} account{of_set} is disabled{restriction}"),
                Some("run `lessor account enable A` to enable one"),
            ),
        };
        let is_seatless = accounts.iter().any(|one| one.why == Ineligible::NoSeat);
        let is_for_now = matches!(kind, RefusalKind::NoCapacity | RefusalKind::WaitTimeout | RefusalKind::AllLimited);
        if let Some(trouble) = self.seat_trouble(now).filter(|_| is_seatless && is_for_now) {
            let hint = Some(SEAT_HINT.to_owned());
            return Refusal { kind, message: format!("{message}: {trouble}"), retry_at, accounts, hint };
        }
        let hint = hint.map(str::to_owned).or_else(|| self.refusal_hint(kind, &accounts, kept_back, ask));
        Refusal { kind, message, retry_at, accounts, hint }
    }

    /// What the user can do for an account that is kept for other requests: `kept_back`, or one that is not allowed.
    fn refusal_hint(
        &self,
        kind: RefusalKind,
        accounts: &[IneligibleAccount],
        kept_back: Option<usize>,
        ask: &LeaseRequest,
    ) -> Option<String> {
        if let Some(slot) = kept_back {
            let name = self.account_reference(self.accounts[slot].record.id);
            return Some(format!("to use what an account keeps in reserve, name it: --account {name}"));
        }
        let is_forbidden = |one: &&IneligibleAccount| one.why == Ineligible::NotAllowed;
        let first = accounts.iter().find(is_forbidden).filter(|_| kind == RefusalKind::NotAllowed)?;
        let name = self.account_reference(first.account);
        let naming = if ask.agent.is_some() { "" } else { "name the agent with `agent`, or " };
        Some(format!("{naming}allow every agent: `lessor account set {name} use=any`"))
    }

    /// Whether only the program that makes the request keeps it from an account.
    pub(crate) fn is_withheld(&self, slot: usize, ask: &LeaseRequest, now: Now) -> bool {
        matches!(self.ineligible(slot, ask, now), Some((Ineligible::NotAllowed, _)))
            && self.withheld(self.accounts[slot].record.id, ask).is_some()
    }

    /// Why an account that allows the agent is not for the program that states it.
    fn withheld(&self, account: AccountId, ask: &LeaseRequest) -> Option<Refusal> {
        let account = self.account(account).filter(|account| account.allows(ask.agent.as_deref()))?;
        account.attest_refusal(&ask.holder.attested)
    }

    fn is_probed(&self, slot: usize) -> bool {
        self.accounts[slot].limits.iter().any(Limit::is_probed_now)
    }

    pub(crate) fn no_account(&self, ask: &LeaseRequest) -> Refusal {
        let provider = &*ask.target.provider;
        Refusal::new(RefusalKind::NoAccount, format!("there is no {provider} account"))
            .hint(format!("run `lessor account add {provider} --api-key-stdin` to add one"))
    }
}

/// Why the account serves no request at all until its user acts.
pub(crate) fn out_of_service(account: &Account) -> Option<Ineligible> {
    match account.record.login_state {
        _ if !account.policy.enabled => Some(Ineligible::Disabled),
        LoginState::Ready => None,
        LoginState::NeedsLogin(_) => Some(Ineligible::NeedsLogin),
        LoginState::NeedsVerification(_) => Some(Ineligible::NeedsVerification),
    }
}

/// Why none of the account's quotas can serve, and until when, where that is known.
pub(crate) fn closed_on(account: &Account, quotas: QuotaChoices, now: Now) -> Option<Obstacle> {
    let pools = has_pools(account);
    if quotas.pools_only && !pools {
        return Some((Ineligible::Limited, None));
    }
    let first = closed(account, quotas.first, now)?;
    let Some(second) = quotas.second.filter(|_| pools) else { return Some(first) };
    let second = closed(account, second, now)?;
    match (first.0, second.0) {
        // only the other quota will serve it
        (Ineligible::LacksModel, why) if why != Ineligible::LacksModel => return Some(second),
        (why, Ineligible::LacksModel) if why != Ineligible::LacksModel => return Some(first),
        _ => {}
    }
    let sooner = |a: Deadline, b: Deadline| if b.mono(now) < a.mono(now) { b } else { a };
    Some((first.0, first.1.zip(second.1).map(|(a, b)| sooner(a, b))))
}

/// Whether none of the account's quotas can serve: as `closed_on`, for scans.
#[inline]
pub(crate) fn is_closed_on(account: &Account, quotas: QuotaChoices, now: Now) -> bool {
    let Some(second) = quotas.second.filter(|_| has_pools(account)) else {
        return quotas.pools_only && !has_pools(account) || is_closed(account, quotas.first, now);
    };
    is_closed(account, quotas.first, now) && is_closed(account, second, now)
}

/// An account with an API key has one quota, even where logins of its provider have two.
fn has_pools(account: &Account) -> bool {
    account.record.kind != CredentialKind::ApiKey
}

/// Why this quota of the account cannot serve, and until when, where that is known.
pub(crate) fn closed(account: &Account, quota: QuotaChoice, now: Now) -> Option<Obstacle> {
    let blocking = || account.limits.iter().filter(|limit| limit.blocks(quota.quota) && limit.holds(now));
    let mut limits = blocking();
    let Some(first) = limits.next() else { return reserved(account, quota, now) };
    let later = |a: Deadline, b: Deadline| if b.mono(now) > a.mono(now) { b } else { a };
    // the latest one, unless one of them has no known time
    let until = limits.fold(first.opens_at(), |latest, limit| Some(later(latest?, limit.opens_at()?)));
    let lacks_model = blocking().any(Limit::is_missing_model);
    Some((if lacks_model { Ineligible::LacksModel } else { Ineligible::Limited }, until))
}

/// Whether this quota of the account is closed: as `closed`, for scans.
#[inline]
pub(crate) fn is_closed(account: &Account, quota: QuotaChoice, now: Now) -> bool {
    account.limits.iter().any(|limit| limit.blocks(quota.quota) && limit.holds(now))
        || reserved(account, quota, now).is_some()
}

/// Fractions that differ by less are equal.
const EPSILON: f64 = 1e-9;

/// Until when the rest of the quota is reserved from the model; without a known window nothing is reserved.
#[inline]
fn reserved(account: &Account, quota: QuotaChoice, now: Now) -> Option<Obstacle> {
    if quota.reserve <= 0.0 {
        return None;
    }
    let spent = |used: f64| 1.0 - used < quota.reserve - EPSILON;
    let mut windows = account.usage.live(quota.quota, now.wall).filter(|window| spent(window.utilization));
    let first = windows.next()?.resets_at;
    let last = windows.fold(first, |last, window| Some(last?.max(window.resets_at?)));
    Some((Ineligible::Reserved, last.map(Deadline::Wall)))
}
