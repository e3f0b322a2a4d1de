//! Every effect and every state, held against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountId, Action, Bind, ChosenBy, Command, Deadline, Effect, Ending, Event, Fallback, Fence, Lease, LeaseRequest,
    Limit, LimitRecord, LimitSource, Mode, Mono, Now, Refusal, RefusalKind, Reply, RequestOutcome, StatedWait, Ticket,
    WaiterId,
};

use crate::cast::ask_again;
use crate::harness::World;
use crate::limits::{MLimit, Phase};
use crate::reference::{MWaiter, Verdict};

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    /// Takes the effects in order, as the shell would, and holds each against the reference.
    pub fn digest(&mut self, command: &Command, reply: &Result<Reply, Refusal>, effects: Vec<Effect>) {
        let answers: BTreeMap<Fence, WaiterId> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Answer { waiter, result: Ok(fence) } => Some((*fence, *waiter)),
                _ => None,
            })
            .collect();
        let mut saved = BTreeSet::new();
        // what was filed for a request that is then found to be at fault is taken back at once
        let taken_back: BTreeSet<(AccountId, Scope, String)> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::DropLimit(account, Some((scope, key))) => Some((*account, *scope, key.clone())),
                _ => None,
            })
            .collect();
        self.note_refused_by(command, reply);
        for effect in effects {
            match effect {
                Effect::SaveLease(fence) => {
                    saved.insert(fence);
                    self.store.leases.insert(fence, self.pool.lease(fence).expect("it is held").clone());
                }
                Effect::Ended(lease, why) => self.ended(command, &lease, why),
                Effect::Emit(Event::Granted(fence)) => {
                    let lease = self.pool.lease(fence).expect("it was just granted").clone();
                    assert!(
                        !lease.is_durable() || saved.contains(&fence),
                        "{fence:?} is handed out before it is saved"
                    );
                    self.granted(command, reply, &lease, answers.get(&fence).copied());
                }
                Effect::Answer { waiter, result } => {
                    assert!(self.answered.insert(waiter), "{waiter:?} is answered twice (C5)");
                    if let Err(refusal) = result {
                        self.turned_away(command, waiter, &refusal);
                    }
                }
                Effect::SaveAccount(id) => {
                    let record = self.pool.account(id).expect("it exists").record.clone();
                    let at = self.model.accounts.iter().position(|account| account.record.id == id).unwrap();
                    self.model.accounts[at].record = record.clone();
                    self.store.accounts[at] = record;
                }
                Effect::DeleteAccount(id) => {
                    self.store.accounts.retain(|record| record.id != id);
                    self.store.limits.retain(|key, _| key.0 != id);
                    self.store.sessions.retain(|_, session| session.account != id);
                }
                Effect::SaveSession(record) => {
                    self.store.sessions.insert((record.provider.clone(), record.session.clone()), record);
                }
                Effect::SaveUsage(id) => assert!(self.pool.account(id).is_some()),
                Effect::SaveLimit(record) => self.limited(record, &taken_back),
                Effect::DropLimit(id, None) => {
                    assert!(matches!(command, Command::ClearLimits(_)), "limits cleared by {command:?} (I7)");
                    self.store.limits.retain(|key, _| key.0 != id);
                }
                Effect::DropLimit(id, Some((scope, key))) => {
                    self.dropped(command, id, scope, &key);
                    drop(self.store.limits.remove(&(id, scope, key)));
                }
                Effect::ReserveFences(mark) => {
                    assert!(mark > self.store.mark, "the mark goes back");
                    self.store.mark = mark;
                }
                Effect::Unwatch(process) => self.unwatched.push(process),
                Effect::RefreshToken(_) | Effect::Emit(_) => {}
                Effect::ClaimSeats { .. }
                | Effect::ClaimProbe { .. }
                | Effect::GiveUpProbe(_)
                | Effect::GiveBackSeats { .. }
                | Effect::WithdrawWant { .. }
                | Effect::ClaimFences { .. } => {
                    panic!("{effect:?} without a shared pool");
                }
            }
        }
        if let (Command::Report { outcome, .. }, Ok(Reply::Decision(decision))) = (command, reply) {
            let moved = decision.lease.is_some();
            assert_eq!(moved, decision.action == Action::Switch, "{decision:?} for {outcome:?}");
        }
    }

    fn ended(&mut self, command: &Command, lease: &Lease, why: Ending) {
        self.store.leases.remove(&lease.fence);
        if why != Ending::Switched {
            self.refused_by.remove(&lease.fence);
        }
        let known = self.model.end(lease.fence).expect("it was held");
        assert_eq!(known, *lease);
        let rightly = match why {
            Ending::Released => *command == Command::Release(lease.fence),
            Ending::ConnectionClosed => {
                matches!(command, Command::ConnectionClosed(c) if lease.bind == Bind::Connection(*c))
            }
            Ending::ProcessEnded => matches!(command, Command::ProcessEnded(p) if lease.bind == Bind::Process(*p)),
            Ending::Expired => lease.expires.is_some_and(|at| at <= self.model.now.mono),
            Ending::Switched => command.moves() == Some(lease.fence),
            Ending::Revoked => *command == Command::RemoveAccount(lease.account),
            Ending::CutOff => false,
        };
        assert!(rightly, "{lease:?} ended as {why:?} by {command:?}");
        if matches!(why, Ending::Released | Ending::ConnectionClosed) {
            self.model.note_released(lease);
        }
    }

    fn granted(&mut self, command: &Command, reply: &Result<Reply, Refusal>, lease: &Lease, to: Option<WaiterId>) {
        // the account on which the service failed is left, wherever the order would lead
        let left_service = self.has_left_service(command, lease);
        let ask = match (to, command) {
            (Some(id), _) => {
                let at = self.model.waiters.iter().position(|waiter| waiter.id == id).expect("it waited");
                let waiter = self.model.waiters.remove(at);
                self.check_turn(&waiter);
                if let Some(request) = &waiter.ask.request_id {
                    self.model.remember(request, Ok(lease.fence));
                }
                Some((waiter.ask, waiter.since))
            }
            (None, Command::Acquire(ask)) => Some(((**ask).clone(), self.model.now.mono)),
            (None, moved) if lease.by == ChosenBy::Moved => {
                let from = moved.moves().expect("it moves a lease");
                let seen_by = self.refused_by.remove(&from);
                self.refused_by.extend(seen_by.map(|seen_by| (lease.fence, seen_by)));
                Some((self.moved_ask(from, lease, moved), self.model.now.mono))
            }
            (None, Command::Report { fence, .. }) => {
                let seen_by = self.refused_by.remove(fence).unwrap_or_default();
                let exclude = seen_by.iter().copied().collect();
                self.refused_by.insert(lease.fence, seen_by);
                Some((LeaseRequest { exclude, ..ask_again(lease) }, self.model.now.mono))
            }
            (None, Command::Resume { .. }) => None,
            other => panic!("no command asked for {lease:?}: {other:?} {reply:?}"),
        };
        if let Some((ask, since)) = ask {
            assert!(!self.model.draining, "granted while the daemon ends");
            assert!(lease.fence > self.model.newest, "{:?} after {:?} (I4)", lease.fence, self.model.newest);
            self.model.newest = lease.fence;
            let before = match command {
                Command::Report { fence, .. } if lease.by != ChosenBy::Moved => self.moved_from(*fence, &ask),
                _ => None,
            };
            match self.model.verdict(&ask, since) {
                _ if left_service && lease.by != ChosenBy::Moved => {}
                // the other quota of the same account goes before another account
                _ if before.is_some() => assert_eq!(Some(lease.account), before),
                Verdict::Grant(allowed) => {
                    assert!(
                        allowed.contains(&lease.account),
                        "{} granted, one of {allowed:?} wanted by {ask:?}",
                        lease.account
                    );
                }
                other => panic!("{lease:?} granted, {other:?} expected"),
            }
            self.model.grant(lease);
            if let Some(session) = lease.session.as_deref().filter(|_| lease.by == ChosenBy::Moved) {
                self.model.rebind(&lease.target.provider, session, lease.account);
            }
            let found = self.model.accounts.iter_mut().find(|account| account.record.id == lease.account);
            found.unwrap().fresh = true;
        } else {
            self.model.take_in(lease);
        }
        match self.tickets.iter_mut().find(|ticket| ticket.fence == lease.fence) {
            // a forged ticket can name another account
            Some(ticket) => ticket.account = lease.account,
            None => self.tickets.push(Ticket {
                fence: lease.fence,
                account: lease.account,
                exclusive: lease.exclusive,
                target: (*lease.target).clone(),
                session: lease.session.clone(),
                label: lease.label.clone(),
                set: lease.set().clone(),
            }),
        }
    }

    /// What a lease that the user has moved asks for: any account but the one that it leaves, or the one that is named.
    fn moved_ask(&self, from: Fence, lease: &Lease, command: &Command) -> LeaseRequest {
        let left = self.tickets.iter().find(|ticket| ticket.fence == from).expect("it was granted").account;
        // a move that was noted before goes where it was meant to go
        let named = !matches!(command, Command::MoveLease { to: None, .. });
        let account = named.then(|| lease.account.to_string().into());
        LeaseRequest { account, exclude: vec![left], ..ask_again(lease) }
    }

    fn has_left_service(&self, command: &Command, lease: &Lease) -> bool {
        let Command::Report { fence, outcome: RequestOutcome::Refused(finding) } = command else { return false };
        let scope = finding.scope.unwrap_or_else(|| finding.reason.scope());
        let failed = self.tickets.iter().find(|ticket| ticket.fence == *fence).map(|ticket| ticket.account);
        scope == Scope::Service && failed != Some(lease.account)
    }

    /// Accounts that refuse a request as such are not asked again for it, until something else becomes of it.
    fn note_refused_by(&mut self, command: &Command, reply: &Result<Reply, Refusal>) {
        let (Command::Report { fence, outcome }, Ok(Reply::Decision(decision))) = (command, reply) else { return };
        if decision.reason == Some(Reason::RequestRejected) {
            return drop(self.refused_by.remove(fence));
        }
        let RequestOutcome::Refused(finding) = outcome else { return drop(self.refused_by.remove(fence)) };
        if finding.reason == Reason::Forbidden && decision.action == Action::Retry {
            // it tries every account once more
            return drop(self.refused_by.remove(fence));
        }
        let is_request = finding.reason == Reason::RequestRejected;
        // a wait that is too long to believe counts as none
        let is_timed = matches!(finding.wait, Some(StatedWait::In(span)) if span <= 32 * DAY);
        match finding.scope.unwrap_or_else(|| finding.reason.scope()) {
            Scope::Request if !is_request => {
                let account = self.tickets.iter().find(|ticket| ticket.fence == *fence).unwrap().account;
                self.refused_by.entry(*fence).or_default().insert(account);
            }
            Scope::Service => {}
            Scope::Model | Scope::Pool | Scope::Account
                if matches!(finding.reason, Reason::Forbidden | Reason::Unknown) && !is_timed => {}
            _ => drop(self.refused_by.remove(fence)),
        }
    }

    /// The account a report's lease had, if that serves the request on its other quota and is to.
    fn moved_from(&self, fence: Fence, ask: &LeaseRequest) -> Option<AccountId> {
        let same_account = self.model.settings.quota.fallback == Fallback::SameAccountFirst;
        let ticket = self.tickets.iter().find(|ticket| ticket.fence == fence)?;
        let account = self.model.account(ticket.account)?;
        let open = self.model.obstacle(account, ask).is_none();
        (same_account && ask.target.other_pool().is_some() && open).then_some(ticket.account)
    }

    /// No request before this one in the order could have been served.
    fn check_turn(&self, served: &MWaiter) {
        let place = |waiter: &MWaiter| (-i16::from(waiter.ask.priority), waiter.id);
        for other in self.model.waiters.iter().filter(|other| place(other) < place(served)) {
            // a session that waits for its account may use another one only after it has moved
            let waits_for_one = self.model.settings.selection.mode == Mode::CacheFirst && other.ask.session.is_some();
            let open = matches!(self.model.verdict(&other.ask, other.since), Verdict::Grant(_));
            assert!(!open || waits_for_one, "{:?} is passed over by {:?}", other.id, served.id);
        }
    }

    fn turned_away(&mut self, command: &Command, id: WaiterId, refusal: &Refusal) {
        let at = self.model.waiters.iter().position(|waiter| waiter.id == id).expect("it waited");
        let waiter = self.model.waiters.remove(at);
        let now = self.model.now;
        let rightly = match (self.model.verdict(&waiter.ask, waiter.since), refusal.kind) {
            (_, RefusalKind::ShuttingDown) => *command == Command::Drain,
            (_, RefusalKind::BadRequest) => {
                matches!(command, Command::ProcessEnded(p) if waiter.ask.bind == Bind::Process(*p))
            }
            (Verdict::Wait { .. }, RefusalKind::WaitTimeout) => waiter.deadline <= now.mono,
            (Verdict::Wait { earliest, .. }, RefusalKind::AllLimited | RefusalKind::NoCapacity) => {
                earliest.is_some_and(|at| at > waiter.deadline)
            }
            (Verdict::Refuse(kind), given) => kind == given,
            _ => false,
        };
        assert!(rightly, "{refusal:?} for {:?}", waiter.ask);
    }

    /// A limit is set: it exists, it is believable, and it is stronger than the one it replaces (I8).
    fn limited(&mut self, record: LimitRecord, taken_back: &BTreeSet<(AccountId, Scope, String)>) {
        let now = self.model.now;
        let live = self.pool.account(record.account).expect("it exists").limits().iter();
        let same = |limit: &&Limit| limit.scope == record.scope && limit.key == record.key;
        let limit = live.clone().find(same);
        let at_once = taken_back.contains(&(record.account, record.scope, record.key.clone()));
        let limit = limit.cloned();
        let account = self.model.accounts.iter_mut().find(|account| account.record.id == record.account).unwrap();
        let Some(limit) = limit else {
            assert!(at_once, "it is filed");
            // what it has replaced does not come back: a limit that was over already, and let requests in again
            let is_replaced = |old: &MLimit| old.scope == record.scope && old.key == record.key;
            account.limits.retain(|old| !is_replaced(old) || !matches!(old.phase, Phase::Ramp(..)));
            return;
        };
        assert!(until_of(&limit, now) <= now.mono.after(32 * DAY), "not to be believed: {limit:?}");
        // after the clock was set the same limit is saved again
        let old = account.limits.iter().find(|old| old.scope == limit.scope && old.key == limit.key);
        if old.is_none_or(|old| old.until != limit.until) {
            if let Some(old) = old {
                let new = (limit.source != LimitSource::Table, until_of(&limit, now));
                let stronger = old.until.passed(now) || new > (old.stated, old.until.mono(now));
                assert!(stronger || self.went_back, "{limit:?} replaces the stronger {old:?} (I8)");
            }
            let filed = MLimit::filed(&limit, now, old);
            account.limits.retain(|old| old.scope != filed.scope || old.key != filed.key);
            account.limits.push(filed);
        }
        self.store.limits.insert((record.account, record.scope, record.key.clone()), record);
    }

    /// A limit is forgotten: by time, or by what proves that it is over (I7).
    fn dropped(&mut self, command: &Command, id: AccountId, scope: Scope, key: &str) {
        let now = self.model.now;
        let Some(account) = self.model.accounts.iter_mut().find(|account| account.record.id == id) else { return };
        let Some(at) = account.limits.iter().position(|limit| limit.scope == scope && limit.key == key) else {
            return;
        };
        let limit = &account.limits[at];
        let proof = match (&limit.phase, command) {
            (Phase::Ramp(..), _) => return,
            (_, Command::SetUsage(..)) => account.usage.windows.iter().all(|window| window.utilization < 1.0),
            // the request was to blame
            (Phase::Closed { .. }, Command::Report { .. }) => true,
            _ => limit.until.passed(now),
        };
        assert!(proof, "{limit:?} is dropped by {command:?}");
        account.limits.remove(at);
    }

    /// Both have the same state, and no request is queued needlessly.
    pub fn compare(&mut self) {
        let now = self.model.now;
        if let Err(broken) = self.pool.check(now) {
            panic!("{broken}");
        }
        for process in self.unwatched.drain(..) {
            assert!(self.pool.held_by_process(process).is_empty());
            let waits = self.model.waiters.iter().any(|waiter| waiter.ask.bind == Bind::Process(process));
            assert!(!waits, "the end of {process:?} would go unseen");
        }
        let mut held: Vec<Lease> = self.pool.leases().cloned().collect();
        held.sort_unstable_by_key(|lease| lease.fence);
        let mut known = self.model.leases.clone();
        known.sort_unstable_by_key(|lease| lease.fence);
        assert_eq!(held, known);
        let waiting: Vec<WaiterId> = self.pool.waiters().map(|(id, _)| id).collect();
        let mut known: Vec<_> = self.model.waiters.iter().map(|w| (-i16::from(w.ask.priority), w.id)).collect();
        known.sort_unstable();
        assert_eq!(waiting, known.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
        for waiter in &self.model.waiters {
            let verdict = self.model.verdict(&waiter.ask, waiter.since);
            let Verdict::Wait { earliest, .. } = verdict else { panic!("{:?} waits: {verdict:?}", waiter.ask) };
            assert!(earliest.is_none_or(|at| at <= waiter.deadline), "{:?} waits for nothing", waiter.ask);
            let _ = self.pool.eta(now, waiter.id);
        }
        for account in &self.model.accounts {
            let found = self.pool.account(account.record.id).expect("it exists").limits().iter();
            let mut found: Vec<_> = found
                .map(|l| (l.scope, l.key.clone(), until_of(l, now), l.holds(now), l.opens_at().map(|at| at.mono(now))))
                .collect();
            found.sort_unstable();
            let known = account.limits.iter().map(|limit| {
                let (shut, opens) = limit.shut(now);
                (limit.scope, limit.key.clone(), limit.until.mono(now), shut, opens)
            });
            let mut known: Vec<_> = known.collect();
            known.sort_unstable();
            let same = |(found, known): (&(_, _, _, bool, _), &(_, _, _, bool, _))| {
                let plain =
                    |limit: &(Scope, String, Mono, bool, Option<Mono>)| (limit.0, limit.1.clone(), limit.2, limit.3);
                // when it opens matters only to who is kept out
                plain(found) == plain(known) && (!found.3 || found.4 == known.4)
            };
            assert!(found.len() == known.len() && found.iter().zip(&known).all(same), "{found:?}, not {known:?}");
            for limit in self.pool.account(account.record.id).expect("it exists").limits() {
                let probe = limit.probe().map(|fence| self.model.leases.iter().find(|lease| lease.fence == fence));
                let rightly = probe.is_none_or(|lease| lease.is_some_and(|lease| lease.account == account.record.id));
                assert!(rightly, "no lease is the probe of {limit:?}");
            }
        }
        for lease in self.model.leases.iter().filter(|lease| lease.exclusive) {
            assert_eq!(self.model.load(lease.account), 1, "{lease:?} is not alone (I2)");
        }
        let wakeup = self.pool.next_wakeup(now);
        assert_eq!(wakeup, self.model.next_change(), "the next wake-up");
        assert!(wakeup.is_none_or(|at| at > now.mono), "a busy loop");
    }
}

/// The end of a limit, on the monotonic clock.
fn until_of(limit: &Limit, now: Now) -> Mono {
    match limit.until {
        Deadline::Mono(at) => at,
        wall @ Deadline::Wall(_) => wall.mono(now),
    }
}
