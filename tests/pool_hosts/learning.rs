//! What hosts learn of limits: it travels as news, is late or lost, and is compared with the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{AccountId, Command, Deadline, Limit, LimitRecord, LimitSource, Mono, Wall};

use super::database::{Fault, Request};
use super::limits::{LimitChange, LimitKey, LimitRow, ProbeAnswer};
use super::world::World;

/// The time of day at which the simulation begins.
pub const BEGIN: u64 = 1_800_000_000_000;
/// The database leaves the duty to probe to another host after this time.
const PROBE_LASTS: u64 = 80_000;
/// A host polls after this time at most.
pub const POLL: u64 = 5_000;
/// What a connected host does not know after this time, it never learns: a poll, and two requests that take as long as one
/// may before the connection breaks.
const KNOWN_WITHIN: u64 = POLL + 2 * 2_000 + 1_000;

/// The memory of the shell of one host, which does not survive it.
#[derive(Default)]
pub struct Learning {
    /// Up to which revision the news were read.
    position: u64,
    /// What the database does not have yet, oldest first.
    outgoing: Vec<LimitChange>,
    /// Limits that the other hosts know of: when they end on this host's clock, and whether they take a probe.
    known: BTreeMap<LimitKey, (Wall, bool)>,
    /// Duties to probe, and the end that the database has named.
    duties: BTreeMap<AccountId, u64>,
    given_up: BTreeSet<AccountId>,
    /// Since when it has been connected, and its clock was not set.
    pub connected_since: Option<u64>,
    /// The clock was set: the next heartbeat finds out.
    pub clock_was_set: bool,
}

impl Learning {
    /// After a restart: what the store has is taken to be known to the others.
    pub fn restored(limits: &BTreeMap<LimitKey, LimitRecord>) -> Self {
        let known = limits.iter().map(|(key, limit)| (key.clone(), (limit.until, limit.is_probed())));
        Self { known: known.collect(), ..Self::default() }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// With the next heartbeat: everything is read again if the clock was set.
    pub fn compare_clocks(&mut self) {
        if std::mem::take(&mut self.clock_was_set) {
            self.position = 0;
        }
    }

    fn put(&mut self, change: LimitChange) {
        let (account, key) = (change.account(), change.key());
        self.outgoing.retain(|other| match &key {
            Some(_) => other.key() != key,
            None => other.account() != account,
        });
        self.outgoing.push(change);
    }

    /// Requests without an answer whose connection is lost: their changes are sent again, before later ones.
    pub fn take_back(&mut self, unanswered: Vec<Request>) {
        let lost = unanswered.into_iter().filter_map(|request| match request {
            Request::Limit(change) => Some(change),
            _ => None,
        });
        let later = std::mem::take(&mut self.outgoing);
        lost.chain(later).collect::<Vec<_>>().into_iter().for_each(|change| self.put(change));
    }

    fn has_unsent(&self, account: AccountId) -> bool {
        self.outgoing.iter().any(|change| change.account() == account)
    }
}

/// A refused account is probed after a limit of any length, its quota after a long one only.
fn reason_of(scope: Scope) -> Reason {
    if scope == Scope::Account { Reason::AuthFailed } else { Reason::RateLimitExceeded }
}

impl World {
    fn database_time(&self, n: usize, wall: Wall) -> u64 {
        wall.0.saturating_add_signed(-self.hosts[n].clock_offset(self.time)).saturating_sub(BEGIN)
    }

    fn local_time(&self, n: usize, time: u64) -> Wall {
        Wall((BEGIN + time).saturating_add_signed(self.hosts[n].clock_offset(self.time)))
    }

    /// The pool has set a limit.
    pub fn limit_saved(&mut self, n: usize, record: &LimitRecord) {
        let key = (record.account, record.scope, record.key.clone());
        self.hosts[n].store.limits.insert(key.clone(), record.clone());
        if !self.shared.contains(&record.account) {
            return;
        }
        self.hosts[n].learning.known.insert(key.clone(), (record.until, record.is_probed()));
        if !self.is_from_database {
            let until = self.database_time(n, record.until);
            let since = self.database_time(n, record.since.unwrap_or_default());
            self.hosts[n].learning.put(LimitChange::Set { key, until, source: record.source, since });
        }
    }

    /// Limits are over at this host.
    pub fn limit_dropped(&mut self, n: usize, account: AccountId, which: Option<(Scope, String)>) {
        let is_meant = |key: &LimitKey| {
            key.0 == account && which.as_ref().is_none_or(|(scope, name)| key.1 == *scope && key.2 == *name)
        };
        let now = self.hosts[n].now(self.time).wall;
        let host = &mut self.hosts[n];
        host.store.limits.retain(|key, _| !is_meant(key));
        let mut is_news = false;
        host.learning.known.retain(|key, (until, is_probed)| {
            is_news |= is_meant(key) && (*until > now || *is_probed);
            !is_meant(key)
        });
        if is_news && !self.is_from_database && self.database.fault != Fault::ClearsStayHere {
            let at = self.database_time(n, now);
            self.hosts[n].learning.put(LimitChange::Cleared { account, which, at });
        }
    }

    /// Sends what was learnt, and gives up duties whose outcome the database has.
    pub fn send_learnt(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let Some((term, _)) = host.term.filter(|_| host.link.is_up && host.pool.is_some()) else { return };
        for change in std::mem::take(&mut host.learning.outgoing) {
            self.send(n, Request::Limit(change));
        }
        let host = &mut self.hosts[n];
        let is_sending = |account: AccountId| {
            let of = |request: &Request| matches!(request, Request::Limit(change) if change.account() == account);
            host.link.sent.iter().any(|sent| of(&sent.request))
        };
        let due: Vec<AccountId> =
            host.learning.given_up.iter().copied().filter(|account| !is_sending(*account)).collect();
        for account in due {
            if let Some(until) = self.hosts[n].learning.duties.remove(&account) {
                self.hosts[n].learning.given_up.remove(&account);
                self.send(n, Request::EndProbe { term, account, until });
            }
        }
    }

    /// The pool asks for the duty to probe.
    pub fn claim_probe(&mut self, n: usize, account: AccountId, limits: Vec<(Scope, String)>) -> Option<Command> {
        let host = &mut self.hosts[n];
        let Some((term, _)) = host.term.filter(|_| host.link.is_up) else {
            return Some(Command::ProbeDenied(account));
        };
        host.learning.given_up.remove(&account);
        self.send(n, Request::ClaimProbe { term, account, limits, lasts: PROBE_LASTS });
        None
    }

    pub fn probe_given_up(&mut self, n: usize, account: AccountId) {
        self.hosts[n].learning.given_up.insert(account);
    }

    /// The database has answered a claim of the duty.
    pub fn probe_answered(&mut self, n: usize, account: AccountId, answer: ProbeAnswer, is_given_up: bool) {
        let Some((term, _)) = self.hosts[n].term else { return };
        match answer {
            ProbeAnswer::Claimed(until) if is_given_up => self.send(n, Request::EndProbe { term, account, until }),
            _ if is_given_up => {}
            ProbeAnswer::Claimed(until) => {
                self.tally.probes += 1;
                if self.run(n, Command::ProbeClaimed(account)).is_ok() {
                    self.hosts[n].learning.duties.insert(account, until);
                } else {
                    self.send(n, Request::EndProbe { term, account, until });
                }
            }
            ProbeAnswer::Held => drop(self.run(n, Command::ProbeDenied(account))),
            ProbeAnswer::Cleared(over) => {
                for (scope, key) in over {
                    self.run_from_database(n, Command::ClearLimit(account, scope, key));
                }
                drop(self.run(n, Command::ProbeDenied(account)));
            }
            ProbeAnswer::Limited => {
                drop(self.run(n, Command::ProbeDenied(account)));
                self.hosts[n].poll_now(self.time);
            }
        }
    }

    /// The news that a host has read.
    pub fn read_limits(&mut self, n: usize, (after, position): (u64, u64), news: Vec<LimitChange>) {
        let named: BTreeSet<LimitKey> = news.iter().filter_map(LimitChange::key).collect();
        for change in news {
            if self.database.fault == Fault::DeafHosts {
                continue;
            }
            match change {
                LimitChange::Set { key: (account, scope, key), until, source, since } => {
                    let (until, since) = (self.local_time(n, until), self.local_time(n, since));
                    let now = self.hosts[n].now(self.time);
                    let span = until.0.saturating_sub(now.wall.0);
                    let until = match source {
                        LimitSource::Server => Deadline::Wall(until),
                        _ => Deadline::Mono(Mono(now.mono.0 + span)),
                    };
                    let mut limit = Limit::new(scope, key, reason_of(scope), until, source);
                    limit.since = since;
                    let limits = self.hosts[n].pool.as_ref().unwrap().account(account).unwrap().limits();
                    let known = limits.iter().find(|known| (known.scope, &known.key) == (limit.scope, &limit.key));
                    // what is set later in the database holds there, whatever is stronger
                    let drift = Duration::from_secs(1) + now.wall.since(limit.since) / 16;
                    let same = if after == 0 { drift } else { Duration::ZERO };
                    let is_older = |known: &Limit| {
                        !known.is_recovering() && known.was_set_before(limit.since.after(same), now.wall)
                    };
                    let command = match known.is_some_and(is_older) {
                        true => Command::ReplaceLimit(account, limit),
                        false => Command::SetLimit(account, limit),
                    };
                    self.run_from_database(n, command);
                }
                LimitChange::Cleared { account, which, at } => {
                    let at = self.local_time(n, at);
                    let now = self.hosts[n].now(self.time);
                    let known = self.hosts[n].pool.as_ref().and_then(|pool| pool.account(account));
                    let limits = known.map(|known| known.limits().to_vec()).unwrap_or_default();
                    let is_meant = |limit: &Limit| {
                        limit.was_set_before(at.after(Duration::from_millis(1)), now.wall)
                            && which.as_ref().is_none_or(|(scope, key)| limit.scope == *scope && limit.key == *key)
                    };
                    for limit in limits.into_iter().filter(is_meant) {
                        self.run_from_database(n, Command::ClearLimit(account, limit.scope, limit.key));
                    }
                }
            }
        }
        if after == 0 {
            self.send_unknown_limits(n, &named);
        }
        // an answer that was under way when everything was asked for does not count
        let learning = &mut self.hosts[n].learning;
        if learning.position == after {
            learning.position = position;
        }
    }

    /// Sends the limits that the database has neither in force nor as cleared: an earlier daemon of this host could not.
    fn send_unknown_limits(&mut self, n: usize, named: &BTreeSet<LimitKey>) {
        let now = self.hosts[n].now(self.time);
        for account in self.shared.clone() {
            let known = self.hosts[n].pool.as_ref().and_then(|pool| pool.account(account));
            for limit in known.map(|known| known.limits().to_vec()).unwrap_or_default() {
                let key = (account, limit.scope, limit.key.clone());
                let is_sent = !limit.is_recovering() && !limit.until.passed(now) && limit.since <= now.wall;
                if is_sent && !named.contains(&key) && self.database.fault != Fault::DeafHosts {
                    let until = self.database_time(n, limit.until.wall(now));
                    let since = self.database_time(n, limit.since);
                    self.hosts[n].learning.put(LimitChange::Set { key, until, source: limit.source, since });
                }
            }
        }
    }

    /// What other hosts have caused is not sent back; what time has done here before is.
    fn run_from_database(&mut self, n: usize, command: Command) {
        let now = self.hosts[n].now(self.time);
        let due = self.hosts[n].pool.as_ref().and_then(|pool| pool.next_wakeup(now));
        if due.is_some_and(|due| due <= now.mono) {
            drop(self.run(n, Command::Tick));
        }
        self.is_from_database = true;
        drop(self.run(n, command));
        self.is_from_database = false;
    }

    /// A limit that is to end soon, of a kind that takes a probe or not.
    pub fn learn_limit(&mut self, n: usize) -> Command {
        let account = self.shared[self.chance.below(self.shared.len() as u64) as usize];
        let now = self.hosts[n].now(self.time);
        let span = Duration::from_millis(500 + self.chance.below(20_000));
        let (source, until) = match self.chance.below(3) {
            0 => (LimitSource::Table, Deadline::Mono(now.mono.after(span))),
            1 => (LimitSource::Report, Deadline::Mono(now.mono.after(span))),
            _ => (LimitSource::Server, Deadline::Wall(now.wall.after(span))),
        };
        let (scope, key) = if self.chance.one_in(2) { (Scope::Account, "") } else { (Scope::Pool, "k") };
        Command::SetLimit(account, Limit::new(scope, key, reason_of(scope), until, source))
    }

    /// Follows since when each host has been connected; then compares what it knows with the database.
    pub fn compare_limits(&mut self) {
        for n in 0..self.hosts.len() {
            let time = self.time;
            let host = &mut self.hosts[n];
            let is_connected = host.pool.is_some()
                && host.frozen_until <= time
                && host.link.is_up
                && host.term.is_some()
                && host.is_valid(time);
            let since = &mut host.learning.connected_since;
            *since = if is_connected { Some(since.unwrap_or(time)) } else { None };
            let Some(since) = *since else { continue };
            for (key, row) in &self.database.limits_learnt.rows {
                let must_know = row.changed_at.max(since) + KNOWN_WITHIN <= time;
                if must_know && !self.hosts[n].learning.has_unsent(key.0) && !self.is_sending(n, key.0) {
                    self.compare_limit(n, key, row);
                }
            }
            if since + KNOWN_WITHIN <= time {
                self.compare_known(n);
            }
        }
    }

    /// What a host has known of for long enough holds in the database.
    fn compare_known(&self, n: usize) {
        let host = &self.hosts[n];
        let now = host.now(self.time);
        for account in &self.shared {
            if host.learning.has_unsent(*account) || self.is_sending(n, *account) {
                continue;
            }
            let limits = host.pool.as_ref().unwrap().account(*account).unwrap().limits();
            let in_force = limits.iter().filter(|limit| !limit.is_recovering() && !limit.until.passed(now));
            for limit in in_force.filter(|limit| limit.since.0 + KNOWN_WITHIN <= now.wall.0) {
                let key = (*account, limit.scope, limit.key.clone());
                let until = self.database_time(n, limit.until.wall(now));
                let slack = 20 + until.saturating_sub(self.database_time(n, limit.since)) / 15;
                if until <= self.time + slack {
                    continue;
                }
                let row = self.database.limits_learnt.rows.get(&key);
                // it may be news; or its time is over, and a stated time of day is farther by a clock that was set back
                if row.is_some_and(|row| row.changed_at + KNOWN_WITHIN > self.time || row.until <= self.time) {
                    continue;
                }
                // by this host's clock, which drifts, it was learnt after it was cleared
                let cleared_at = row.and_then(|row| row.cleared_at).map(|at| self.local_time(n, at));
                if cleared_at.is_some_and(|at| limit.since.0 > at.0.saturating_sub(5)) {
                    continue;
                }
                let holds = row.is_some_and(|row| row.cleared_at.is_none() && row.until + slack >= until);
                assert!(holds, "host {n} has {limit:?} of {account} at {}, and the database {row:?}", self.time);
            }
        }
    }

    fn is_sending(&self, n: usize, account: AccountId) -> bool {
        let of = |request: &Request| matches!(request, Request::Limit(change) if change.account() == account);
        self.hosts[n].link.sent.iter().any(|sent| of(&sent.request))
    }

    fn compare_limit(&self, n: usize, (account, scope, key): &LimitKey, row: &LimitRow) {
        let host = &self.hosts[n];
        let pool = host.pool.as_ref().unwrap();
        let limits = pool.account(*account).unwrap().limits();
        let known = limits.iter().find(|limit| limit.scope == *scope && limit.key == *key);
        let now = host.now(self.time);
        if let Some(at) = row.cleared_at {
            let at = self.local_time(n, at);
            let is_cleared = known.is_none_or(|limit| limit.is_recovering() || limit.since.0 > at.0.saturating_sub(5));
            assert!(is_cleared, "host {n} still has {known:?} at {}, which was cleared: {row:?}", self.time);
            return;
        }
        // spans are measured by the host's own clock, which drifts
        let slack = 20 + row.until.saturating_sub(row.changed_at) / 15;
        if row.until <= self.time + slack {
            return;
        }
        let ends = self.local_time(n, row.until - slack)..=self.local_time(n, row.until + slack);
        let is_known = known.is_some_and(|limit| {
            (limit.source == LimitSource::Table) == (row.source == LimitSource::Table)
                && ends.contains(&limit.until.wall(now))
        });
        assert!(is_known, "host {n} knows {known:?} of {account} at {}, and not {row:?}", self.time);
    }

    /// One probe of an account at a time, on all hosts together.
    pub fn check_probes(&self) {
        for account in &self.shared {
            let probes = |n: &usize| {
                let host = &self.hosts[*n];
                let known =
                    host.pool.as_ref().filter(|_| host.is_valid(self.time)).and_then(|pool| pool.account(*account));
                known.is_some_and(|known| known.limits().iter().any(|limit| limit.probe().is_some()))
            };
            let probing: Vec<usize> = (0..self.hosts.len()).filter(probes).collect();
            assert!(probing.len() <= 1, "hosts {probing:?} probe {account} at {}", self.time);
        }
    }

    /// No lease is granted on an account whose limit the host knows.
    pub fn check_grant(&self, n: usize, account: AccountId) {
        let host = &self.hosts[n];
        let now = host.now(self.time);
        let pool = host.pool.as_ref().unwrap();
        let limits = pool.account(account).unwrap().limits();
        let in_force = limits.iter().find(|limit| !limit.is_recovering() && !limit.until.passed(now));
        assert!(in_force.is_none(), "host {n} has granted {account} in spite of {in_force:?}");
        // what recovers was over before, maybe by a clock that was set since
        let recovers = |key: &LimitKey| {
            limits.iter().any(|limit| limit.scope == key.1 && limit.key == key.2 && limit.is_recovering())
        };
        let known = host
            .learning
            .known
            .iter()
            .find(|(key, (until, _))| key.0 == account && *until > now.wall && !recovers(key));
        assert!(known.is_none(), "host {n} has granted {account} and knows of {known:?}");
    }
}
