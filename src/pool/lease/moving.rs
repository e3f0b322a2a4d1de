//! Moving a lease to another account because the user asks for it.

use crate::pool::command::{Effect, Effects, Handled, MoveCause, MoveTime, Reply};
use crate::pool::lease::table::PendingMove;
use crate::pool::lease::{ChosenBy, Lease, reacquire};
use crate::pool::model::{AccountId, Fence, Ineligible, LeaseRequest, Mode, Now, Refusal, RefusalKind, spoken};
use crate::pool::seats::SEAT_HINT;
use crate::pool::select::choose::{Choice, Chosen};
use crate::pool::state::Pool;

/// Where a lease moves to.
struct Destination {
    ask: LeaseRequest,
    slot: usize,
    /// It uses the account's other quota pool.
    other: bool,
    /// This host holds a seat for it; else one is claimed, and the lease moves when its holder calls next.
    has_seat: bool,
}

impl Pool {
    /// Moves a lease to another account, or notes that it will move.
    pub(crate) fn move_lease(
        &mut self,
        now: Now,
        fence: Fence,
        (to, exclude): (Option<AccountId>, Vec<AccountId>),
        when: MoveTime,
        effects: &mut Effects,
    ) -> Handled {
        let lease = self.leases.get(fence).ok_or_else(Refusal::stale)?.clone();
        if self.draining {
            return Err(Refusal::shutting_down());
        }
        self.check_stays(&lease, when)?;
        let destination = self.destination(now, &lease, to, &exclude)?;
        let account = self.accounts[destination.slot].record.id;
        if !destination.has_seat {
            self.ask_for_seat(now, destination.slot, &destination.ask);
        }
        match when {
            MoveTime::AtOnce if destination.has_seat => Ok(Reply::Held(self.follow(now, &lease, destination, effects))),
            MoveTime::AtOnce | MoveTime::NextCall => {
                self.leases.set_pending_move(fence, PendingMove { to: account, is_named: to.is_some(), exclude });
                Ok(Reply::Done)
            }
            MoveTime::NextRequest => {
                self.rebind_session(now, &lease, account, effects);
                Ok(Reply::Done)
            }
        }
    }

    /// The account that a lease moves to when its holder calls next.
    pub fn moves_to(&self, fence: Fence) -> Option<AccountId> {
        self.leases.pending_move(fence).map(|pending| pending.to)
    }

    /// The account that the session of a lease is bound to.
    pub fn session_account(&self, now: Now, lease: &Lease) -> Option<AccountId> {
        let ttl = self.settings.selection.session_ttl;
        self.sessions.get(&lease.target.provider, lease.session.as_deref()?, now.mono, ttl)
    }

    /// Makes the move that the user has asked for, if its account can serve the lease now. Another account serves as
    /// well, unless the user has named one.
    pub(crate) fn follow_move(&mut self, now: Now, fence: Fence, effects: &mut Effects) -> Option<Fence> {
        let PendingMove { to, is_named, exclude } = self.leases.pending_move(fence)?.clone();
        if self.draining {
            return None;
        }
        let lease = self.leases.get(fence)?.clone();
        let mut found = self.destination(now, &lease, Some(to), &exclude);
        if found.is_err() && !is_named {
            found = self.destination(now, &lease, None, &exclude);
        }
        let found = found.ok()?;
        if !found.has_seat {
            self.ask_for_seat(now, found.slot, &found.ask);
            return None;
        }
        Some(self.follow(now, &lease, found, effects))
    }

    fn follow(&mut self, now: Now, lease: &Lease, to: Destination, effects: &mut Effects) -> Fence {
        let Destination { ask, slot, other, .. } = to;
        let account = self.accounts[slot].record.id;
        let name = lease.pinned.then(|| account.to_string().into());
        let ask = LeaseRequest { account: name, exclude: vec![], ..ask };
        let fence = self.switch(
            now,
            lease,
            ask,
            Chosen { other, ..Chosen::new(slot, ChosenBy::Moved) },
            MoveCause::Requested,
            effects,
        );
        self.rebind_session(now, lease, account, effects);
        fence
    }

    /// The session follows, also where it has other leases on the account that it leaves.
    fn rebind_session(&mut self, now: Now, lease: &Lease, account: AccountId, effects: &mut Effects) {
        let selection = &self.settings.selection;
        if let Some(session) = lease.session.as_deref().filter(|_| selection.mode != Mode::PerformanceFirst) {
            let record = self.sessions.bind(&lease.target.provider, session, account, now, selection.session_ttl);
            effects.extend(record.map(Effect::SaveSession));
        }
    }

    /// Refuses a move that would have no effect.
    fn check_stays(&self, lease: &Lease, when: MoveTime) -> Result<(), Refusal> {
        let bad = |message: &str| Refusal::new(RefusalKind::BadRequest, message);
        if when != MoveTime::NextCall && self.settings.selection.mode == Mode::PerformanceFirst {
            let message = "with selection.mode = \"performance-first\" each request may use another account: a lease that was \
                           moved would not stay";
            return Err(bad(message).hint("disable the account that is not to serve: lessor account disable A"));
        }
        if when == MoveTime::NextRequest && lease.session.is_none() {
            let message = "this lease is for one request, which belongs to no session: there is nothing to move";
            return Err(bad(message));
        }
        if when == MoveTime::NextCall && lease.pinned {
            let account = self.account(lease.account).map_or_else(String::new, |account| account.display_name());
            let message = format!("its holder has requested the account {account} by name");
            return Err(
                Refusal::new(RefusalKind::NotAllowed, message).hint("start it again without the account's name")
            );
        }
        Ok(())
    }

    /// The account that a lease can move to now: the named one, or the best of the others.
    fn destination(
        &mut self,
        now: Now,
        lease: &Lease,
        to: Option<AccountId>,
        exclude: &[AccountId],
    ) -> Result<Destination, Refusal> {
        if to == Some(lease.account) {
            let message = format!("the lease is on {} already", self.display_name(lease.account));
            return Err(Refusal::new(RefusalKind::BadRequest, message));
        }
        let named = to.map(|to| self.accounts.slot_of(to)).transpose()?;
        if let Some(until) = self.timers.grace() {
            let refusal =
                Refusal::new(RefusalKind::NoCapacity, "the daemon has just started after a crash: no lease moves yet");
            return Err(Refusal { retry_at: Some(now.wall_of(until)), ..refusal });
        }
        let stated = exclude.to_vec();
        let mut exclude = exclude.to_vec();
        exclude.push(lease.account);
        exclude.sort_unstable();
        exclude.dedup();
        let account = to.map(|to| to.to_string().into());
        let ask = LeaseRequest { account, exclude, ..reacquire(lease, None) };
        let choice = self.choose_at_once(now, lease, &ask);
        let has_seat = matches!(choice, Choice::Grant(_));
        match choice {
            // an account whose plan lacks the model is chosen only where every other one lacks it too
            Choice::Grant(Chosen { slot, other, .. })
            | Choice::Claim { chosen: Chosen { slot, other, .. }, is_full: false }
                if self.ineligible(slot, &ask, now).is_none() =>
            {
                let quotas = ask.target.quotas(&self.settings.quota);
                // the account that it leaves counts as well
                let next = LeaseRequest { exclude: stated, ..reacquire(lease, None) };
                if self.is_left_for_another(now, &next, quotas, slot) {
                    return Err(self.would_leave_again(slot));
                }
                if !lease.pinned && self.keeps_reserve(slot, &reacquire(lease, None), now) {
                    return Err(self.keeps_its_rest(slot));
                }
                Ok(Destination { ask, slot, other, has_seat })
            }
            choice => Err(match named {
                Some(slot) => self.cannot_move_to(now, slot, &ask),
                None => self.no_other_account(now, lease, &ask, choice),
            }),
        }
    }

    fn display_name(&self, id: AccountId) -> String {
        self.account(id).map_or_else(|| id.to_string(), |account| account.display_name())
    }

    fn would_leave_again(&self, slot: usize) -> Refusal {
        let name = self.accounts[slot].display_name();
        if self.accounts[slot].policy.fallback_only {
            let message = format!(
                "{name} serves only while no other account can (fallback_only), and another one can: the lease would \
                 leave it again"
            );
            let reference = self.account_reference(self.accounts[slot].record.id);
            let hint = format!("allow it: lessor account set {reference} fallback_only=false");
            return Refusal::new(RefusalKind::NotAllowed, message).hint(hint);
        }
        let message =
            format!("{name} is paid for beyond its plan, and another account is not: the lease would leave it again");
        Refusal::new(RefusalKind::NotAllowed, message).hint("allow it: lessor config set quota.overage allow")
    }

    /// The account would serve the move, and not the requests after it.
    fn keeps_its_rest(&self, slot: usize) -> Refusal {
        let name = self.accounts[slot].display_name();
        let reference = self.account_reference(self.accounts[slot].record.id);
        let message = format!("the rest of {name} is kept for requests that name it: the lease would leave it again");
        Refusal::new(RefusalKind::NotAllowed, message)
            .hint(format!("start it again with --account {reference}, or: lessor account set {reference} reserve=0"))
    }

    /// Why the named account cannot have the lease.
    fn cannot_move_to(&self, now: Now, slot: usize, ask: &LeaseRequest) -> Refusal {
        let account = &self.accounts[slot];
        let (name, reference) = (account.display_name(), self.account_reference(account.record.id));
        let Some((why, until)) = self.ineligible(slot, ask, now) else {
            return Refusal::new(RefusalKind::NoCapacity, format!("{name} cannot serve this lease now"));
        };
        let until = until.map(|until| until.wall(now));
        let free = until.map(|at| format!("; it can in {}", spoken(at.since(now.wall)))).unwrap_or_default();
        let (kind, message) = match why {
            Ineligible::NotInSet => {
                let words = self.set_in_words(&ask.set).unwrap_or_default();
                (RefusalKind::NotAllowed, format!("{name} is not in the set of this lease: {words}"))
            }
            Ineligible::Disabled => (RefusalKind::NoAccount, format!("{name} is disabled")),
            Ineligible::NeedsLogin => (RefusalKind::NeedsLogin, format!("{name} needs a login")),
            Ineligible::NeedsVerification => {
                (RefusalKind::NeedsVerification, format!("{name} must be verified with its provider"))
            }
            Ineligible::NotAllowed if self.is_withheld(slot, ask, now) => {
                return self.refusal(now, ask, RefusalKind::NotAllowed);
            }
            Ineligible::NotAllowed => {
                let agent = ask.agent.as_deref().unwrap_or("a client that names no agent");
                (RefusalKind::NotAllowed, format!("{name} may not be used by {agent}"))
            }
            Ineligible::Excluded => (RefusalKind::NotAllowed, format!("{name} does not suit this lease")),
            Ineligible::Limited => {
                (RefusalKind::AllLimited, format!("{name} is limited and cannot serve this lease{free}"))
            }
            Ineligible::Reserved => (RefusalKind::AllLimited, format!("the rest of {name} is reserved{free}")),
            Ineligible::Renewing => (RefusalKind::AllLimited, format!("the token of {name} is being refreshed{free}")),
            Ineligible::LacksModel => {
                (RefusalKind::NoCapacity, format!("the plan of {name} does not include the model"))
            }
            Ineligible::NoSeat => {
                let why = self.seat_trouble(now).map(|trouble| format!(": {trouble}")).unwrap_or_default();
                (RefusalKind::NoCapacity, format!("this host has no seat of {name} in the shared pool{why}"))
            }
            Ineligible::Busy => {
                let most = account.ceiling(&self.settings.leases);
                let held = account.used();
                let message = if account.exclusive {
                    format!("{name} has an exclusive lease")
                } else if ask.exclusive && held < most {
                    format!("{name} is in use, and the lease is exclusive")
                } else {
                    format!("{name} has {held} of at most {most} leases")
                };
                (RefusalKind::NoCapacity, message)
            }
        };
        let hint = match why {
            Ineligible::Disabled => Some(format!("enable it: lessor account enable {reference}")),
            Ineligible::NoSeat => Some(SEAT_HINT.to_owned()),
            Ineligible::NotAllowed => Some(format!("allow every agent: lessor account set {reference} use=any")),
            _ => None,
        };
        // without the model it is no use to wait for it
        let retry_at = until.filter(|_| why != Ineligible::LacksModel);
        Refusal { retry_at, hint, ..Refusal::new(kind, message) }
    }

    /// Why no other account can have the lease.
    fn no_other_account(&self, now: Now, lease: &Lease, ask: &LeaseRequest, choice: Choice) -> Refusal {
        let provider = &*lease.target.provider;
        let all = self.accounts.of_provider(provider).map_or(&[][..], |all| all.slots());
        let is_other = |slot: &usize| ask.exclude.binary_search(&self.accounts[*slot].record.id).is_err();
        let others: Vec<usize> = all.iter().copied().filter(is_other).collect();
        if others.is_empty() {
            let message =
                format!("{} is the only {provider} account that suits this lease", self.display_name(lease.account));
            return Refusal::new(RefusalKind::NoAccount, message);
        }
        let choice = if matches!(choice, Choice::Wait { .. }) { choice } else { self.blocked(now, ask, &others) };
        let refusal = match choice {
            Choice::Wait { kind, .. } => self.refusal(now, ask, kind),
            Choice::Refuse(refusal) => *refusal,
            Choice::Grant(_) | Choice::Claim { .. } => self.refusal(now, ask, RefusalKind::NoCapacity),
        };
        let soon = refusal.retry_at.map(|at| format!("; the first can in {}", spoken(at.since(now.wall))));
        let message = format!("no other {provider} account can serve this lease now{}", soon.unwrap_or_default());
        let accounts = refusal.accounts.into_iter().filter(|one| one.account != lease.account).collect();
        Refusal { message, accounts, ..refusal }
    }
}
