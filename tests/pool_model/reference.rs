//! The reference: a list of leases and linear scans. It does not choose; it says what must and what may happen.

use std::path::Path;
use std::time::Duration;

use lessor::pool::{
    AccountId, AccountRecord, AccountSettings, Bind, CredentialKind, Fallback, Fence, Ineligible, Lease, LeaseRequest,
    LoginState, Mode, Mono, Now, Overflow, PoolSettings, Process, Protect, RefusalKind, Tier, Usage, WaiterId, Window,
};

use crate::limits::MLimit;

/// An account as the reference knows it.
pub struct MAccount {
    pub record: AccountRecord,
    pub limits: Vec<MLimit>,
    pub usage: Usage,
    /// Granted, or added, in this run: nothing older comes back.
    pub fresh: bool,
}

/// A queued request.
pub struct MWaiter {
    pub id: WaiterId,
    pub ask: LeaseRequest,
    pub since: Mono,
    pub deadline: Mono,
}

/// What stands in an account's way, and until when.
type Blocked = Option<(Ineligible, Option<Mono>)>;

/// What must come of a request.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// One of these.
    Grant(Vec<AccountId>),
    Wait {
        kind: RefusalKind,
        earliest: Option<Mono>,
    },
    Refuse(RefusalKind),
}

pub struct Model {
    pub now: Now,
    pub settings: PoolSettings,
    pub accounts: Vec<MAccount>,
    pub leases: Vec<Lease>,
    pub waiters: Vec<MWaiter>,
    pub sessions: Vec<(String, String, AccountId, Mono)>,
    pub released: Vec<(Process, AccountId, Mono)>,
    pub requests: Vec<(String, Result<Fence, WaiterId>, Mono)>,
    pub spent: Vec<Fence>,
    pub first_fence: Fence,
    pub newest: Fence,
    pub grace: Option<Mono>,
    pub draining: bool,
}

impl Model {
    pub fn account(&self, id: AccountId) -> Option<&MAccount> {
        self.accounts.iter().find(|account| account.record.id == id)
    }

    pub fn load(&self, id: AccountId) -> usize {
        self.leases.iter().filter(|lease| lease.account == id).count()
    }

    pub fn capacity(&self, account: &MAccount) -> usize {
        let leases = &self.settings.leases;
        account.record.max_leases.unwrap_or(leases.per_account).min(leases.max_per_account).max(1) as usize
    }

    /// What stands in the way, as the user would be told it: on every quota the request may use.
    pub fn obstacle(&self, account: &MAccount, ask: &LeaseRequest) -> Blocked {
        let turned = ask.target.other_pool();
        let other = turned.filter(|_| self.settings.quota.fallback != Fallback::Off);
        let Some(target) = other.filter(|_| account.record.kind != CredentialKind::ApiKey) else {
            return self.obstacle_on(account, ask);
        };
        let first = self.obstacle_on(account, ask)?;
        let second = self.obstacle_on(account, &LeaseRequest { target, ..ask.clone() })?;
        match (first, second) {
            ((Ineligible::Limited | Ineligible::Reserved, a), (Ineligible::Limited | Ineligible::Reserved, b)) => {
                Some((first.0, a.zip(b).map(|(a, b)| a.min(b))))
            }
            ((Ineligible::Limited | Ineligible::Reserved, _), _) => Some(second),
            _ => Some(first),
        }
    }

    fn configured(&self, account: &MAccount) -> Option<&AccountSettings> {
        self.settings.accounts.iter().find(|c| account.record.label.as_deref() == Some(&*c.name))
    }

    fn is_fallback(&self, account: &MAccount) -> bool {
        self.configured(account).and_then(|c| c.fallback_only).unwrap_or(account.record.fallback_only)
    }

    fn reserve_of(&self, account: &MAccount) -> f64 {
        self.configured(account).and_then(|c| c.reserve).unwrap_or(account.record.reserve)
    }

    /// Whether it is a fallback, or keeps a part for requests that name it.
    pub fn is_kept(&self, account: &MAccount) -> bool {
        self.is_fallback(account) || self.reserve_of(account) > 0.0
    }

    /// The set of the innermost directory that has one.
    fn set_of_directory(&self, ask: &LeaseRequest) -> Option<&[String]> {
        let directory = Path::new(ask.set.directory.as_deref()?);
        let sets = self.settings.directories.iter().filter(|set| directory.starts_with(&set.paths[0]));
        let innermost = sets.max_by_key(|set| Path::new(&set.paths[0]).components().count())?;
        Some(&innermost.accounts)
    }

    fn is_in_set(&self, account: &MAccount, ask: &LeaseRequest) -> bool {
        let record = &account.record;
        let of_directory = self.set_of_directory(ask);
        ask.set.only.as_ref().is_none_or(|only| only.contains(&record.id))
            && of_directory.is_none_or(|names| names.iter().any(|name| record.label.as_ref() == Some(name)))
    }

    /// The part of the account that is kept from the request.
    fn kept_from(&self, account: &MAccount, ask: &LeaseRequest) -> f64 {
        let is_restricted = ask.set.only.is_some() || self.set_of_directory(ask).is_some();
        let asked_for = ask.account.as_deref().and_then(|name| self.resolve(name, &ask.target.provider));
        let is_named = is_restricted && self.is_in_set(account, ask) || asked_for == Some(account.record.id);
        if is_named { 0.0 } else { self.reserve_of(account) }
    }

    /// The same on the quota the target names.
    pub fn obstacle_on(&self, account: &MAccount, ask: &LeaseRequest) -> Blocked {
        let record = &account.record;
        if !self.is_in_set(account, ask) {
            return Some((Ineligible::NotInSet, None));
        }
        if !record.enabled || self.configured(account).and_then(|c| c.enabled) == Some(false) {
            return Some((Ineligible::Disabled, None));
        }
        match record.login_state {
            LoginState::NeedsLogin(_) => return Some((Ineligible::NeedsLogin, None)),
            LoginState::NeedsVerification(_) => return Some((Ineligible::NeedsVerification, None)),
            LoginState::Ready => {}
        }
        if let Some(allowed_agents) = &record.allowed_agents
            && !allowed_agents.iter().any(|agent| agent == "any" || Some(&**agent) == ask.agent.as_deref())
        {
            return Some((Ineligible::NotAllowed, None));
        }
        if ask.exclude.contains(&record.id) {
            return Some((Ineligible::Excluded, None));
        }
        if self.kept_from(account, ask) >= 1.0 {
            return Some((Ineligible::Reserved, None));
        }
        let closed = account.limits.iter().filter(|limit| limit.blocks(&ask.target));
        let closed = closed.map(|limit| limit.shut(self.now)).filter(|(shut, _)| *shut);
        let closed: Vec<Option<Mono>> = closed.map(|(_, opens)| opens).collect();
        if !closed.is_empty() {
            let untils: Option<Vec<Mono>> = closed.into_iter().collect();
            return Some((Ineligible::Limited, untils.and_then(|untils| untils.into_iter().max())));
        }
        let reserved = self.reserved(account, ask);
        if reserved.is_some() {
            return reserved;
        }
        let most = self.most(account);
        let load = self.load(record.id);
        let taken = self.leases.iter().any(|lease| lease.account == record.id && lease.exclusive);
        (taken || load >= most || (ask.exclusive && load > 0)).then_some((Ineligible::Busy, None))
    }

    fn windows<'a>(&'a self, account: &'a MAccount, ask: &'a LeaseRequest) -> impl Iterator<Item = &'a Window> {
        let counts = account.usage.windows.iter().filter(|w| w.key.is_empty() || w.key == *ask.target.key);
        counts.filter(|w| w.resets_at.is_none_or(|at| at > self.now.wall))
    }

    /// Until when a reserve keeps the request off the account; the patterns here are whole names.
    fn reserved(&self, account: &MAccount, ask: &LeaseRequest) -> Blocked {
        let model = ask.target.model.as_deref();
        let named = |p: &&Protect| model.is_some_and(|model| p.models.iter().any(|name| name == "*" || name == model));
        let protected = self.settings.quota.protect.iter().filter(named).map(|p| p.below).fold(0.0, f64::max);
        let below = protected.max(self.kept_from(account, ask));
        let spent: Vec<&Window> =
            self.windows(account, ask).filter(|w| below > 0.0 && 1.0 - w.utilization + 1e-9 < below).collect();
        if spent.is_empty() {
            return None;
        }
        let resets: Option<Vec<Mono>> = spent.iter().map(|w| Some(self.now.mono_of(w.resets_at?))).collect();
        Some((Ineligible::Reserved, resets.and_then(|resets| resets.into_iter().max())))
    }

    pub fn resolve(&self, name: &str, provider: &str) -> Option<AccountId> {
        let of: Vec<&AccountRecord> =
            self.accounts.iter().map(|a| &a.record).filter(|record| record.provider == provider).collect();
        let tests: [&dyn Fn(&AccountRecord) -> bool; 4] = [
            &|record| record.id.to_string() == name,
            &|record| record.label.as_deref() == Some(name),
            &|record| record.email.as_deref() == Some(name),
            &|record| record.id.to_string().starts_with(name) || record.id.to_string()[3..].starts_with(name),
        ];
        for test in tests {
            let found: Vec<_> = of.iter().filter(|record| test(record)).collect();
            if !found.is_empty() {
                return (found.len() == 1).then(|| found[0].id);
            }
        }
        None
    }

    pub fn verdict(&self, ask: &LeaseRequest, since: Mono) -> Verdict {
        if let Some(until) = self.grace {
            return Verdict::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) };
        }
        let first = |account: &MAccount| self.obstacle_on(account, ask);
        let any = |account: &MAccount| self.obstacle(account, ask);
        match (ask.target.other_pool(), self.settings.quota.fallback) {
            (Some(target), Fallback::AccountsFirst) => {
                let on_first = self.verdict_by(ask, since, &first);
                let on_second = || {
                    let ask = LeaseRequest { target, ..ask.clone() };
                    let second = |account: &MAccount| match account.record.kind {
                        CredentialKind::ApiKey => Some((Ineligible::Limited, None)),
                        _ => self.obstacle_on(account, &ask),
                    };
                    self.verdict_by(&ask, since, &second)
                };
                let is_fallback = |verdict: &Verdict| match verdict {
                    Verdict::Grant(ids) => ids.iter().all(|id| self.account(*id).is_some_and(|a| self.is_fallback(a))),
                    _ => false,
                };
                match on_first {
                    None => on_second().unwrap_or_else(|| self.none_open(ask)),
                    Some(last) if ask.account.is_none() && is_fallback(&last) => match on_second() {
                        Some(Verdict::Grant(ids)) if !is_fallback(&Verdict::Grant(ids.clone())) => Verdict::Grant(ids),
                        _ => last,
                    },
                    Some(verdict) => verdict,
                }
            }
            (Some(_), Fallback::SameAccountFirst) => {
                self.verdict_by(ask, since, &any).unwrap_or_else(|| self.none_open(ask))
            }
            _ => self.verdict_by(ask, since, &first).unwrap_or_else(|| self.none_open(ask)),
        }
    }

    /// The verdict when no account is open.
    fn none_open(&self, ask: &LeaseRequest) -> Verdict {
        let asked = LeaseRequest { target: ask.target.as_asked(), ..ask.clone() };
        let provider = &*ask.target.provider;
        let all: Vec<&MAccount> = self.accounts.iter().filter(|a| a.record.provider == provider).collect();
        match ask.account.as_deref().and_then(|name| self.resolve(name, provider)).and_then(|id| self.account(id)) {
            Some(account) => self.blocked(&asked, &[account]),
            None => self.blocked(&asked, &all),
        }
    }

    /// By these obstacles; nothing when no account is open.
    fn verdict_by(&self, ask: &LeaseRequest, since: Mono, obstacle: &dyn Fn(&MAccount) -> Blocked) -> Option<Verdict> {
        let selection = &self.settings.selection;
        let provider = &*ask.target.provider;
        let all: Vec<&MAccount> = self.accounts.iter().filter(|a| a.record.provider == provider).collect();
        if all.is_empty() {
            return Some(Verdict::Refuse(RefusalKind::NoAccount));
        }
        let open = |account: &MAccount| obstacle(account).is_none();
        if let Some(name) = &ask.account {
            let Some(account) = self.resolve(name, provider).and_then(|id| self.account(id)) else {
                return Some(Verdict::Refuse(RefusalKind::UnknownAccount));
            };
            return open(account).then(|| Verdict::Grant(vec![account.record.id]));
        }
        let session = ask.session.as_deref().filter(|_| selection.mode != Mode::PerformanceFirst);
        let bound = session.and_then(|session| self.bound(provider, session, since));
        let preferred = selection.preferred_account.as_deref().and_then(|name| self.resolve(name, provider));
        for (id, most) in [(bound, usize::MAX), (preferred, 0)] {
            let Some(account) = id.and_then(|id| self.account(id)) else { continue };
            let most = if most == 0 { self.capacity(account) } else { most };
            let asked = LeaseRequest { target: ask.target.as_asked(), ..ask.clone() };
            let is_earlier = |other: &&MAccount| !self.is_fallback(other) && self.obstacle(other, &asked).is_none();
            match obstacle(account) {
                None if self.is_fallback(account) && all.iter().any(is_earlier) => {}
                None if self.load(account.record.id) < most => return Some(Verdict::Grant(vec![account.record.id])),
                Some((Ineligible::Limited, Some(until))) if selection.mode == Mode::CacheFirst => {
                    let patience = ask.wait.unwrap_or(self.settings.limits.max_rate_limit_wait);
                    if until <= since.after(selection.max_cache_wait.min(patience)) {
                        return Some(Verdict::Wait { kind: RefusalKind::AllLimited, earliest: Some(until) });
                    }
                }
                _ => {}
            }
        }
        let mut free: Vec<&MAccount> = all.iter().copied().filter(|account| open(account)).collect();
        if free.iter().any(|account| !self.is_fallback(account)) {
            free.retain(|account| !self.is_fallback(account));
        }
        if free.is_empty() {
            return None;
        }
        let load = |a: &MAccount| (self.load(a.record.id) * 1_000_000) / self.capacity(a);
        let tier = |a: &MAccount| if selection.tier_first { a.record.tier } else { Tier::Unknown };
        let spent = |a: &MAccount| {
            let threshold = self.settings.quota.soft_threshold;
            let used = |ask: &LeaseRequest| self.windows(a, ask).any(|w| w.utilization >= threshold);
            let turned = ask.target.other_pool().filter(|_| self.obstacle_on(a, ask).is_some());
            threshold < 1.0 && turned.map_or(used(ask), |target| used(&LeaseRequest { target, ..ask.clone() }))
        };
        let rank = |a: &MAccount| (spent(a), load(a), -a.record.priority, tier(a));
        let best = free.iter().map(|a| rank(a)).min();
        let least = free.iter().map(|a| load(a)).min();
        let process = match ask.bind {
            Bind::Process(process) => Some(process),
            _ => ask.holder.process,
        };
        let back = |a: &MAccount| {
            let recent = |(p, id, at): &(Process, AccountId, Mono)| {
                Some(*p) == process && *id == a.record.id && self.now.mono.since(*at) < selection.reuse_window
            };
            selection.mode != Mode::PerformanceFirst && Some(load(a)) == least && self.released.iter().any(recent)
        };
        let back: Vec<_> = free.iter().filter(|a| back(a)).map(|a| a.record.id).collect();
        let first: Vec<_> = free.iter().filter(|a| Some(rank(a)) == best).map(|a| a.record.id).collect();
        Some(Verdict::Grant(if back.is_empty() { first } else { back }))
    }

    /// The account of a session, for a request made at `since`.
    pub fn bound(&self, provider: &str, session: &str, since: Mono) -> Option<AccountId> {
        let (_, _, id, used) = self.sessions.iter().find(|(p, s, _, _)| p == provider && s == session)?;
        (since.since(*used) < self.settings.selection.session_ttl).then_some(*id)
    }

    fn blocked(&self, ask: &LeaseRequest, among: &[&MAccount]) -> Verdict {
        if among.iter().all(|account| !self.is_in_set(account, ask)) && !among.is_empty() {
            return Verdict::Refuse(RefusalKind::NotAllowed);
        }
        let obstacle = |account: &&MAccount| self.obstacle(account, ask);
        let all: Vec<_> = among.iter().filter_map(obstacle).collect();
        let passes = |account: &&&MAccount| self.kept_from(account, ask) < 1.0;
        let passing: Vec<_> = among.iter().filter(passes).filter_map(obstacle).collect();
        let any = |wanted: Ineligible| all.iter().any(|(why, _)| *why == wanted);
        if any(Ineligible::Busy) {
            return match self.settings.leases.overflow {
                Overflow::Fail => Verdict::Refuse(RefusalKind::NoCapacity),
                _ => Verdict::Wait { kind: RefusalKind::NoCapacity, earliest: None },
            };
        }
        let limited: Vec<_> =
            passing.iter().filter(|(why, _)| matches!(why, Ineligible::Limited | Ineligible::Reserved)).collect();
        if !limited.is_empty() {
            // one that has no known end may end at any moment
            let untils: Option<Vec<Mono>> = limited.iter().map(|(_, until)| *until).collect();
            return Verdict::Wait {
                kind: RefusalKind::AllLimited,
                earliest: untils.and_then(|untils| untils.into_iter().min()),
            };
        }
        let kinds = [
            (Ineligible::Excluded, RefusalKind::NoCapacity),
            (Ineligible::NeedsLogin, RefusalKind::NeedsLogin),
            (Ineligible::NeedsVerification, RefusalKind::NeedsVerification),
            (Ineligible::NotAllowed, RefusalKind::NotAllowed),
            (Ineligible::Reserved, RefusalKind::NotAllowed),
        ];
        let kind = kinds.into_iter().find(|(why, _)| any(*why)).map_or(RefusalKind::NoAccount, |(_, kind)| kind);
        Verdict::Refuse(kind)
    }

    /// A lease begins.
    pub fn grant(&mut self, lease: &Lease) {
        let mode = self.settings.selection.mode;
        if let Some(session) = lease.session.as_deref().filter(|_| mode != Mode::PerformanceFirst) {
            let provider = &*lease.target.provider;
            let bound = self.bound(provider, session, self.now.mono).filter(|id| *id != lease.account);
            let held = |l: &Lease| Some(l.account) == bound && l.session.as_deref() == Some(session);
            if !self.leases.iter().any(held) {
                self.sessions.retain(|(p, s, _, _)| p != provider || s != session);
                self.sessions.push((provider.to_owned(), session.to_owned(), lease.account, self.now.mono));
            }
        }
        if let Some(account) = self.accounts.iter_mut().find(|account| account.record.id == lease.account) {
            let through = account.limits.iter_mut().filter(|limit| limit.blocks(&lease.target));
            through.for_each(|limit| limit.let_through(lease.fence, self.now.mono));
        }
        self.take_in(lease);
    }

    /// A session moves to another account.
    pub fn rebind(&mut self, provider: &str, session: &str, account: AccountId) {
        if self.settings.selection.mode != Mode::PerformanceFirst {
            self.sessions.retain(|(p, s, _, _)| p != provider || s != session);
            self.sessions.push((provider.to_owned(), session.to_owned(), account, self.now.mono));
        }
    }

    /// A lease begins or comes back.
    pub fn take_in(&mut self, lease: &Lease) {
        self.leases.push(lease.clone());
    }

    /// A lease ends; answers it.
    pub fn end(&mut self, fence: Fence) -> Option<Lease> {
        let at = self.leases.iter().position(|lease| lease.fence == fence)?;
        if fence < self.first_fence {
            self.spent.push(fence);
        }
        self.accounts.iter_mut().flat_map(|account| &mut account.limits).for_each(|limit| limit.ended(fence));
        Some(self.leases.remove(at))
    }

    pub fn note_released(&mut self, lease: &Lease) {
        let process = match lease.bind {
            Bind::Process(process) => Some(process),
            _ => lease.holder.process,
        };
        if let Some(process) = process.filter(|_| !self.settings.selection.reuse_window.is_zero()) {
            self.released.retain(|(p, id, _)| (*p, *id) != (process, lease.account));
            self.released.push((process, lease.account, self.now.mono));
        }
    }

    /// The most leases that can be on it at once.
    fn most(&self, account: &MAccount) -> usize {
        match self.settings.leases.overflow {
            Overflow::Share => self.settings.leases.max_per_account as usize,
            _ => self.capacity(account),
        }
    }

    /// Time passes; what it ends quietly ends.
    pub fn pass(&mut self, now: Now) {
        self.now = now;
        self.grace = self.grace.filter(|until| *until > now.mono);
        let most: Vec<usize> = self.accounts.iter().map(|account| self.most(account)).collect();
        for (account, most) in self.accounts.iter_mut().zip(most) {
            let alive = |fence: Fence| {
                let lives = |lease: &Lease| lease.fence == fence && lease.expires.is_none_or(|at| at > now.mono);
                self.leases.iter().any(lives)
            };
            account.limits.retain_mut(|limit| limit.pass(now, most, alive));
        }
    }

    /// When something changes by itself next.
    pub fn next_change(&self) -> Option<Mono> {
        let limits = self.accounts.iter().flat_map(|a| &a.limits).filter_map(|limit| limit.next_change(self.now));
        let leases = self.leases.iter().filter_map(|lease| lease.expires);
        let waits = !self.waiters.is_empty();
        let has_reserve = |a: &&MAccount| !self.settings.quota.protect.is_empty() || self.reserve_of(a) > 0.0;
        let windows = self.accounts.iter().filter(has_reserve).flat_map(|a| &a.usage.windows);
        let windows = windows.filter_map(|w| w.resets_at);
        let resets = windows.filter(|at| waits && *at > self.now.wall).map(|at| self.now.mono_of(at));
        let ends = limits.chain(leases).chain(resets);
        ends.chain(self.waiters.iter().map(|w| w.deadline)).chain(self.grace).min()
    }

    /// Whether a lease from before this run may come back.
    pub fn may_resume(&self, fence: Fence, account: AccountId, exclusive: bool) -> bool {
        let Some(found) = self.account(account) else { return false };
        let most = match self.settings.leases.overflow {
            Overflow::Share => self.settings.leases.max_per_account as usize,
            _ => self.capacity(found),
        };
        let load = self.load(account);
        let taken = self.leases.iter().any(|lease| lease.account == account && lease.exclusive);
        let room = !taken && load < most && !(exclusive && load > 0);
        fence < self.first_fence && !found.fresh && !self.spent.contains(&fence) && room && !self.draining
    }

    pub fn remembered(&self, id: &str) -> Option<Result<Fence, WaiterId>> {
        let minute = Duration::from_secs(60);
        let (_, answer, _) =
            self.requests.iter().find(|(known, _, at)| known == id && self.now.mono.since(*at) < minute)?;
        match answer {
            Ok(fence) => self.leases.iter().any(|lease| lease.fence == *fence).then_some(*answer),
            Err(waiter) => self.waiters.iter().any(|w| w.id == *waiter).then_some(*answer),
        }
    }

    pub fn remember(&mut self, id: &str, answer: Result<Fence, WaiterId>) {
        self.requests.retain(|(known, _, _)| known != id);
        self.requests.push((id.to_owned(), answer, self.now.mono));
    }
}
