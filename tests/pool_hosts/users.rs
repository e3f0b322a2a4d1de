//! What users and faults do.

use std::sync::Arc;
use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    AccountSet, Attestation, Bind, Command, ConnectionId, Fence, Holder, LeaseRequest, MoveTime, Process,
    RefusalDetails, Reply, RequestNeeds, RequestOutcome, Subagent, WaiterId,
};

use super::database::Fault;
use super::host::{Host, TTL};
use super::world::{World, settings, target};

/// After the last fault, so long at most until every host has its term and every request is served.
const CALM: u64 = 300_000;

impl World {
    pub fn step(&mut self) {
        let wait = match self.chance.below(20) {
            0 => self.chance.below(4_000),
            1..=6 => self.chance.below(300),
            _ => self.chance.below(20),
        };
        self.advance(self.time + wait);
        let n = self.chance.below(self.hosts.len() as u64) as usize;
        // a request for a term is seldom under way when the connection breaks
        let seldom = if self.database.fault == Fault::LateTerms { 6 } else { 60 };
        if self.chance.one_in(seldom) {
            return self.fault(n);
        }
        if self.is_up(n) {
            self.use_pool(n);
        }
    }

    fn fault(&mut self, n: usize) {
        let long = if self.chance.one_in(2) { TTL / 2 } else { 3 * TTL };
        let span = self.chance.below(long);
        match self.chance.below(6) {
            0 if self.hosts[n].pool.is_some() => self.crash(n, span),
            1 if self.is_up(n) => self.hosts[n].frozen_until = self.time + span,
            // of a clock that is set while no daemon runs, the next one cannot know
            2 if self.hosts[n].pool.is_some() => {
                self.hosts[n].skew += self.chance.below(200_000) as i64 - 100_000;
                let learning = &mut self.hosts[n].learning;
                (learning.clock_was_set, learning.connected_since) = (true, None);
            }
            3 if self.is_up(n) => {
                let mut settings = settings(&mut self.chance);
                settings.leases.linger = self.hosts[n].settings.leases.linger;
                self.hosts[n].settings = settings.clone();
                self.run(n, Command::Configure(Box::new(settings))).unwrap();
            }
            _ if self.is_up(n) => self.cut(n, span),
            _ => {}
        }
    }

    fn request(&mut self, n: usize) -> LeaseRequest {
        let connection = ConnectionId(n as u64 * 10 + self.chance.below(4));
        let process = Process { pid: self.chance.below(5) as u32 + 1, start: n as u64 };
        let bind = match self.chance.below(4) {
            0 => Bind::Process(process),
            1 => Bind::Ttl,
            _ => Bind::Connection(connection),
        };
        let shared = &self.shared;
        let account = self.chance.one_in(6).then(|| shared[self.chance.below(shared.len() as u64) as usize]);
        let is_exclusive = self.chance.one_in(9);
        let parent = self.hosts[n].pool.as_ref().unwrap().leases().map(|lease| lease.account).min();
        let subagent = (!is_exclusive && self.chance.one_in(8))
            .then(|| Box::new(Subagent { id: "s".into(), parent, apart: None }));
        LeaseRequest {
            target: target(),
            connection,
            bind,
            holder: Holder { process: Some(process), ..Holder::default() },
            ttl: (bind == Bind::Ttl).then(|| Duration::from_millis(1_000 + self.chance.below(30_000))),
            session: self.chance.one_in(3).then(|| self.chance.below(6).to_string().into()),
            label: None,
            agent: None,
            account: account.map(|account| account.to_string().into()),
            exclude: vec![],
            set: AccountSet::default(),
            priority: self.chance.below(3) as i8,
            wait: match self.chance.below(3) {
                0 => Some(Duration::ZERO),
                1 => Some(Duration::from_millis(self.chance.below(20_000))),
                _ => None,
            },
            exclusive: is_exclusive,
            request_id: None,
            subagent,
        }
    }

    fn any_lease(&mut self, n: usize) -> Option<Fence> {
        let mut held: Vec<Fence> = self.hosts[n].pool.as_ref()?.leases().map(|lease| lease.fence).collect();
        held.sort_unstable();
        if held.is_empty() { None } else { Some(held[self.chance.below(held.len() as u64) as usize]) }
    }

    fn use_pool(&mut self, n: usize) {
        if self.chance.one_in(60) {
            let learnt = match self.chance.below(4) {
                0 => Command::ClearLimits(self.shared[self.chance.below(self.shared.len() as u64) as usize]),
                _ => self.learn_limit(n),
            };
            return drop(self.run(n, learnt));
        }
        let lease = self.any_lease(n);
        let need = || RequestNeeds { target: target(), exclude: vec![], attested: Attestation::default() };
        let command = match (self.chance.below(16), lease) {
            (0..=2, Some(fence)) => Command::Release(fence),
            (3, Some(fence)) => Command::ExtendLease(fence),
            (4, Some(fence)) => Command::Serve { fence, need: Box::new(need()) },
            (5, Some(fence)) => {
                let wait = Some(Duration::from_millis(self.chance.below(3_000)));
                let outcome =
                    RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::RateLimitExceeded, wait)));
                Command::ReportOf { fence, outcome, need: Arc::new(need()) }
            }
            (6, Some(fence)) => Command::Report { fence, outcome: RequestOutcome::Ok },
            (7, Some(fence)) => {
                Command::Reacquire { fence, wait: Some(Duration::from_millis(self.chance.below(9_000))) }
            }
            (8, Some(fence)) => {
                let when = if self.chance.one_in(2) { MoveTime::AtOnce } else { MoveTime::NextCall };
                let to = self.shared[self.chance.below(self.shared.len() as u64) as usize];
                Command::MoveLease { fence, to: self.chance.one_in(2).then_some(to), exclude: vec![], when }
            }
            (9, _) if self.chance.one_in(4) => {
                Command::ConnectionClosed(ConnectionId(n as u64 * 10 + self.chance.below(4)))
            }
            (10, _) if self.chance.one_in(4) => {
                Command::ProcessEnded(Process { pid: self.chance.below(5) as u32 + 1, start: n as u64 })
            }
            (11, _) => {
                let waiting: Vec<WaiterId> =
                    self.hosts[n].pool.as_ref().unwrap().waiters().map(|(waiter, _)| waiter).collect();
                if waiting.is_empty() || !self.chance.one_in(3) {
                    return;
                }
                Command::Cancel(waiting[self.chance.below(waiting.len() as u64) as usize])
            }
            _ => Command::Acquire(Box::new(self.request(n))),
        };
        drop(self.run(n, command));
    }

    /// No more faults: every host gets its term, every request that waits is served, and seats that nobody needs go back.
    pub fn calm_down(&mut self) {
        for n in 0..self.hosts.len() {
            let host = &mut self.hosts[n];
            host.frozen_until = host.frozen_until.min(self.time);
            host.down_until = host.down_until.min(self.time);
            host.link.retry_at = host.link.retry_at.min(self.time);
        }
        // limits end, and every host has a term
        self.advance(self.time + 3 * TTL);
        for n in 0..self.hosts.len() {
            assert!(self.hosts[n].is_valid(self.time), "host {n} has no term");
            self.release_all(n);
            for at in 0..self.shared.len() {
                self.run(n, Command::ClearLimits(self.shared[at])).unwrap();
            }
        }
        for n in 0..self.hosts.len() {
            for _ in 0..3 {
                let account = self.chance.one_in(2).then(|| self.shared[0].to_string().into());
                let wait = Some(Duration::from_millis(10 * CALM));
                let ask = LeaseRequest { account, wait, ..LeaseRequest::plain(target()) };
                let ask = LeaseRequest { exclusive: self.chance.one_in(8), ..ask };
                match self.run(n, Command::Acquire(Box::new(ask))) {
                    Ok(Reply::Queued(waiter)) => drop(self.watched.insert((n, waiter), None)),
                    Ok(Reply::Held(_)) => {}
                    // where requests do not wait for room
                    other => assert!(other.is_err(), "{other:?}"),
                }
            }
        }
        let end = self.time + CALM;
        let has_waiting = |host: &Host| host.pool.as_ref().is_some_and(|pool| pool.waiters().next().is_some());
        while self.time < end && self.hosts.iter().any(has_waiting) {
            self.advance(self.time + 200);
            let n = self.chance.below(self.hosts.len() as u64) as usize;
            if let Some(fence) = self.any_lease(n) {
                self.run(n, Command::Release(fence)).unwrap();
            }
        }
        for n in 0..self.hosts.len() {
            self.release_all(n);
            let waiting: Vec<_> = self.hosts[n].pool.as_ref().unwrap().waiters().collect();
            assert!(waiting.is_empty(), "host {n} does not serve {waiting:?}");
        }
        let fails = |n: usize| self.hosts[n].settings.leases.overflow == lessor::pool::Overflow::Fail;
        for ((n, _), answer) in &self.watched {
            let is_served = matches!(answer, Some(Ok(_))) || fails(*n);
            assert!(is_served, "host {n} with {:?}: {answer:?}", self.hosts[*n].settings.leases);
        }
        // free seats are kept for 20 s, and one that was in use meanwhile for as long again
        self.advance(self.time + 45_000);
        for rows in self.database.seats.values() {
            assert!(rows.iter().all(|row| row.term.is_none()), "seats that nobody needs are held: {rows:?}");
        }
    }

    fn release_all(&mut self, n: usize) {
        while let Some(fence) = self.any_lease(n) {
            self.run(n, Command::Release(fence)).unwrap();
        }
    }
}
