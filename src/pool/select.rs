//! Which account a request gets: DESIGN's order, from the explicit wish down to the strategy.

use std::cmp::Ordering;

use super::Pool;
use super::account::{Account, Standing};
use super::command::Ask;
use super::error::{Kind, Obstacle, Refusal, Why};
use super::hot::{Like, Order, most_of};
use super::id::{AccountId, Process};
use super::lease::Bind;
use super::settings::{Mode, Overflow};
use super::strategy;
use super::time::{Deadline, Mono, Now, Wall, spoken};

/// Most accounts a refusal names: it must fit into one message.
const MOST_OBSTACLES: usize = 256;

/// What choosing comes to.
#[derive(Debug)]
pub(super) enum Choice {
    /// This account; `by_order` when no wish or binding decided it.
    Grant { slot: usize, by_order: bool },
    /// Nobody now; the earliest time it can be different, where that is known.
    Wait { kind: Kind, earliest: Option<Mono> },
    /// Nobody, whatever time passes.
    Refuse(Box<Refusal>),
}

impl Pool {
    /// Chooses for `ask`, made at `asked_at`.
    pub(super) fn choose(&mut self, now: Now, ask: &Ask, asked_at: Mono) -> Choice {
        let mut ties = std::mem::take(&mut self.scratch);
        let choice = self.choose_with(now, ask, asked_at, &mut ties);
        self.scratch = ties;
        choice
    }

    pub(super) fn choose_with(&self, now: Now, ask: &Ask, asked_at: Mono, ties: &mut Vec<usize>) -> Choice {
        let Some(ring) = self.rings.get(&ask.target.provider) else {
            return Choice::Refuse(Box::new(self.no_account(ask)));
        };
        if let Some(reference) = &ask.account {
            return match self.resolve_for(reference, ask) {
                Ok(slot) if self.obstacle(slot, ask, now).is_none() => Choice::Grant { slot, by_order: false },
                Ok(slot) => self.blocked(now, ask, &[slot]),
                Err(refusal) => Choice::Refuse(Box::new(refusal)),
            };
        }
        if let Some(choice) = self.wanted(now, ask, asked_at) {
            return choice;
        }
        let Some(least) = self.leading(now, ask, &ring.slots, ties) else {
            return self.blocked(now, ask, &ring.slots);
        };
        if let Some(slot) = self.reusable(now, ask, least) {
            return Choice::Grant { slot, by_order: false };
        }
        match strategy::offset(self, ask, ring) {
            // an offset is the holder's own place, not the family's: its pointer stays
            Some(start) => Choice::Grant { slot: strategy::first_from(self, ties, start), by_order: false },
            None => Choice::Grant { slot: strategy::pick(self, now, ask, ring, ties), by_order: true },
        }
    }

    /// The session's account, else the preferred one.
    fn wanted(&self, now: Now, ask: &Ask, asked_at: Mono) -> Option<Choice> {
        let selection = &self.settings.selection;
        let bound = ask
            .session
            .as_deref()
            .filter(|_| selection.mode != Mode::PerformanceFirst)
            .and_then(|name| self.sessions.get(&ask.target.provider, name, asked_at, selection.session_ttl))
            .and_then(|id| self.slots.get(&id).copied());
        if let Some(slot) = bound {
            let choice = self.take_wanted(now, ask, asked_at, slot, u32::MAX);
            if choice.is_some() {
                return choice;
            }
        }
        let preferred = selection.preferred_account.as_deref()?;
        let slot = self.resolve_for(preferred, ask).ok()?;
        self.take_wanted(now, ask, asked_at, slot, self.accounts[slot].policy.capacity)
    }

    fn take_wanted(&self, now: Now, ask: &Ask, asked_at: Mono, slot: usize, below: u32) -> Option<Choice> {
        match self.obstacle(slot, ask, now) {
            None => (self.accounts[slot].leases < below).then_some(Choice::Grant { slot, by_order: false }),
            Some((Why::Limited, Some(until))) if self.settings.selection.mode == Mode::CacheFirst => {
                let until = until.mono(now);
                let patience = self.settings.selection.max_cache_wait.min(self.patience(ask));
                (until <= asked_at.after(patience))
                    .then_some(Choice::Wait { kind: Kind::AllLimited, earliest: Some(until) })
            }
            Some(_) => None,
        }
    }

    /// Collects into `ties` the open accounts that lead the order, and answers the lowest load among all open ones.
    fn leading(&self, now: Now, ask: &Ask, slots: &[usize], ties: &mut Vec<usize>) -> Option<u64> {
        ties.clear();
        let mut best: Option<Order> = None;
        let mut least = u64::MAX;
        let mut agents = None;
        let leases = &self.settings.leases;
        let tier_first = self.settings.selection.tier_first;
        // the leader, when whoever is like it leads as well
        let mut leader: Option<Like> = None;
        for &slot in slots {
            let like = &self.hot[slot].like;
            if leader.as_ref() == Some(like) {
                ties.push(slot);
                continue;
            }
            let order = if tier_first { like.order } else { like.order.any_tier() };
            // who is behind, even below the threshold, and carries more than another, changes nothing
            if best.is_some_and(|best| order > best) && order.load() >= least {
                continue;
            }
            if !like.ready || !like.has_room(leases, ask.exclusive) || !self.is_open(slot, like, ask, now, &mut agents)
            {
                continue;
            }
            least = least.min(order.load());
            let order = if like.unmeasured || !self.is_spent(slot, ask, now) { order } else { order.over_threshold() };
            match best.map_or(Ordering::Less, |best| order.cmp(&best)) {
                Ordering::Less => {
                    best = Some(order);
                    leader = (like.unlimited && like.unmeasured && ask.exclude.is_empty()).then_some(*like);
                    ties.clear();
                    ties.push(slot);
                }
                Ordering::Equal => ties.push(slot),
                Ordering::Greater => {}
            }
        }
        best.map(|_| least)
    }

    /// Whether nothing else stands in the way of an account that is ready and has room: `obstacle`, without saying
    /// what. `agents` keeps the answer for the list of agents last looked at; neighbours mostly share one.
    #[inline]
    fn is_open(&self, slot: usize, like: &Like, ask: &Ask, now: Now, agents: &mut Option<(usize, bool)>) -> bool {
        let account = &self.accounts[slot];
        if !like.unlimited && account.limits.iter().any(|limit| limit.blocks(&ask.target) && !limit.until.passed(now))
            || !ask.exclude.is_empty() && ask.exclude.binary_search(&account.record.id).is_ok()
        {
            return false;
        }
        match *agents {
            _ if like.uses == 0 => true,
            Some((known, allowed)) if like.uses == known => allowed,
            _ => {
                let allowed = account.allows(ask.agent.as_deref());
                *agents = Some((like.uses, allowed));
                allowed
            }
        }
    }

    /// Whether it is over the soft threshold for this request.
    fn is_spent(&self, slot: usize, ask: &Ask, now: Now) -> bool {
        let threshold = self.settings.quota.soft_threshold;
        threshold < 1.0
            && self.accounts[slot].usage.highest(&ask.target.key, now.wall).is_some_and(|used| used >= threshold)
    }

    /// The account this process released lately, if nobody carries less: what comes back finds its cache (I2 holds).
    fn reusable(&self, now: Now, ask: &Ask, least: u64) -> Option<usize> {
        let selection = &self.settings.selection;
        if selection.mode == Mode::PerformanceFirst || selection.reuse_window.is_zero() {
            return None;
        }
        let released = self.released.of(process_of(ask)?, now.mono, selection.reuse_window);
        released.filter_map(|id| self.slots.get(&id).copied()).find(|&slot| {
            let account = &self.accounts[slot];
            *account.record.provider == *ask.target.provider
                && self.hot[slot].like.order.load() <= least
                && self.obstacle(slot, ask, now).is_none()
        })
    }

    /// What stands in the way of this account serving this request, nearest to the user first.
    pub(super) fn obstacle(&self, slot: usize, ask: &Ask, now: Now) -> Option<(Why, Option<Deadline>)> {
        let account = &self.accounts[slot];
        if !account.policy.enabled {
            return Some((Why::Disabled, None));
        }
        match account.record.standing {
            Standing::Ready => {}
            Standing::NeedsLogin(_) => return Some((Why::NeedsLogin, None)),
            Standing::NeedsVerification(_) => return Some((Why::NeedsVerification, None)),
        }
        if !account.allows(ask.agent.as_deref()) {
            return Some((Why::NotAllowed, None));
        }
        if ask.exclude.binary_search(&account.record.id).is_ok() {
            return Some((Why::Excluded, None));
        }
        let limit = account
            .limits
            .iter()
            .filter(|limit| limit.blocks(&ask.target) && !limit.until.passed(now))
            .map(|limit| limit.until)
            .max_by_key(|until| until.mono(now));
        if limit.is_some() {
            return Some((Why::Limited, limit));
        }
        (!self.has_room(account, ask.exclusive)).then_some((Why::Busy, None))
    }

    pub(super) fn has_room(&self, account: &Account, exclusive: bool) -> bool {
        let most = most_of(&self.settings.leases, account.policy.capacity);
        !account.exclusive && account.leases < most && (!exclusive || account.leases == 0)
    }

    /// What it means that none of `slots` is open.
    fn blocked(&self, now: Now, ask: &Ask, slots: &[usize]) -> Choice {
        let mut earliest: Option<Mono> = None;
        let mut busy = false;
        for &slot in slots {
            match self.obstacle(slot, ask, now) {
                Some((Why::Limited, Some(until))) => {
                    let until = until.mono(now);
                    earliest = Some(earliest.map_or(until, |known| known.min(until)));
                }
                Some((Why::Busy, _)) => busy = true,
                _ => {}
            }
        }
        if busy && self.settings.leases.overflow == Overflow::Fail {
            return Choice::Refuse(Box::new(self.refusal(now, ask, Kind::NoCapacity)));
        }
        if busy {
            // a lease may end at any moment
            return Choice::Wait { kind: Kind::NoCapacity, earliest: None };
        }
        if earliest.is_some() {
            return Choice::Wait { kind: Kind::AllLimited, earliest };
        }
        Choice::Refuse(Box::new(self.refusal(now, ask, self.permanent_kind(now, ask, slots))))
    }

    fn permanent_kind(&self, now: Now, ask: &Ask, slots: &[usize]) -> Kind {
        let has =
            |wanted: Why| slots.iter().any(|&slot| self.obstacle(slot, ask, now).is_some_and(|(why, _)| why == wanted));
        if has(Why::Excluded) {
            Kind::NoCapacity
        } else if has(Why::NeedsLogin) {
            Kind::NeedsLogin
        } else if has(Why::NeedsVerification) {
            Kind::NeedsVerification
        } else if has(Why::NotAllowed) {
            Kind::NotAllowed
        } else {
            Kind::NoAccount
        }
    }

    /// Says why `ask` gets nothing now, account by account.
    pub(super) fn refusal(&self, now: Now, ask: &Ask, kind: Kind) -> Refusal {
        let provider = &*ask.target.provider;
        let slots: Vec<usize> = match &ask.account {
            Some(reference) => self.resolve_for(reference, ask).into_iter().collect(),
            None => self.rings.get(provider).map(|ring| ring.slots.clone()).unwrap_or_default(),
        };
        let obstacles = slots.into_iter().filter_map(|slot| {
            let (why, until) = self.obstacle(slot, ask, now)?;
            let until = until.map(|until| until.wall(now));
            Some(Obstacle { account: self.accounts[slot].record.id, why, until })
        });
        let (mut accounts, mut retry_at, mut excluded) = (Vec::new(), None::<Wall>, true);
        for obstacle in obstacles {
            excluded &= obstacle.why == Why::Excluded;
            retry_at = [retry_at, obstacle.until].into_iter().flatten().min();
            if accounts.len() < MOST_OBSTACLES {
                accounts.push(obstacle);
            }
        }
        let soon = retry_at.map(|at| format!("; the first is free in {}", spoken(at.since(now.wall))));
        let soon = soon.unwrap_or_default();
        let (message, hint) = match kind {
            Kind::AllLimited => (format!("every {provider} account is limited{soon}"), None),
            Kind::NoCapacity if excluded && !accounts.is_empty() => {
                (format!("every {provider} account is excluded by this request"), None)
            }
            Kind::NoCapacity => (format!("every {provider} account is in use or limited{soon}"), None),
            Kind::WaitTimeout => (format!("no {provider} account became free in time{soon}"), None),
            Kind::NeedsLogin => (
                format!("the {provider} account needs a new login"),
                Some("see `lessor account list`; add the account again with a working credential"),
            ),
            Kind::NeedsVerification => (
                format!("the {provider} account waits for a confirmation with its provider"),
                Some("see `lessor account list` for where to confirm"),
            ),
            Kind::NotAllowed => (
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

    fn no_account(&self, ask: &Ask) -> Refusal {
        let provider = &*ask.target.provider;
        Refusal::new(Kind::NoAccount, format!("there is no {provider} account"))
            .hint(format!("`lessor account add {provider} --api-key-stdin` adds one"))
    }

    /// How long a request may wait.
    pub(super) fn patience(&self, ask: &Ask) -> std::time::Duration {
        ask.wait.unwrap_or(self.settings.limits.max_rate_limit_wait)
    }

    fn resolve_for(&self, reference: &str, ask: &Ask) -> Result<usize, Refusal> {
        self.resolve(reference, Some(&ask.target.provider))
    }

    /// Finds an account, of `provider` where one is given: by id, label, email, or a unique prefix of an id.
    pub(super) fn resolve(&self, reference: &str, provider: Option<&str>) -> Result<usize, Refusal> {
        let of_provider = |slot: usize| provider.is_none_or(|provider| self.accounts[slot].record.provider == provider);
        let by_id = reference.parse::<AccountId>().ok().and_then(|id| self.slots.get(&id).copied());
        if let Some(slot) = by_id.filter(|slot| of_provider(*slot)) {
            return Ok(slot);
        }
        // for label, email and prefix: the first match, and how many there are
        let mut found = [(None, 0_u32); 3];
        for (slot, account) in self.accounts.iter().enumerate().filter(|(slot, _)| of_provider(*slot)) {
            let record = &account.record;
            let matches = [
                record.label.as_deref() == Some(reference),
                record.email.as_deref() == Some(reference),
                !reference.is_empty() && record.id.starts_with(reference),
            ];
            for ((first, count), matches) in found.iter_mut().zip(matches) {
                *first = first.or(matches.then_some(slot));
                *count += u32::from(matches);
            }
        }
        match found.into_iter().find_map(|(slot, count)| Some((slot?, count))) {
            Some((slot, 1)) => return Ok(slot),
            Some(_) => {
                let message = format!("{reference:?} names several accounts");
                return Err(Refusal::new(Kind::UnknownAccount, message).hint("use the account's whole id"));
            }
            None => {}
        }
        let of = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
        Err(Refusal::new(Kind::UnknownAccount, format!("there is no account {reference:?}{of}"))
            .hint("`lessor account list` shows them all"))
    }
}

/// The process a request is for: the one it is bound to, else the one that asks.
pub(super) fn process_of(ask: &Ask) -> Option<Process> {
    match ask.bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => ask.holder.process,
    }
}

impl Choice {
    /// The earliest time, if it is known to lie beyond `deadline`.
    pub(super) fn too_late(&self, deadline: Mono) -> bool {
        matches!(self, Self::Wait { earliest: Some(earliest), .. } if *earliest > deadline)
    }
}
