//! Hosts that have more requests than seats all the time: each gets its part.

use std::collections::BTreeMap;

use lessor::pool::{
    AccountId, Command, Effect, Fence, FenceBlock, LeaseRequest, Mono, Now, Pool, PoolSettings, SeatDenial, SeatLimits,
    Wall,
};

use super::world::{record, target};

/// Requests of each host that wait at any time.
const WAITING: usize = 3;
const STEP: u64 = 20;
const SPAN: u64 = 120_000;

fn shared() -> AccountId {
    AccountId::from_bits(1)
}

struct BusyHost {
    pool: Pool,
    /// When each lease is released.
    ends: BTreeMap<Fence, u64>,
    grants: u64,
    held: u64,
}

/// Hosts that share one account, with a database that answers at once.
struct Overload {
    hosts: Vec<BusyHost>,
    ceiling: u32,
    lasts: u64,
    now: u64,
    next_block: u64,
}

impl Overload {
    fn new(hosts: usize, ceiling: u32, lasts: u64) -> Self {
        let new = |_| BusyHost { pool: Pool::new(PoolSettings::default()), ends: BTreeMap::new(), grants: 0, held: 0 };
        let mut overload = Self { hosts: (0..hosts).map(new).collect(), ceiling, lasts, now: 1_000, next_block: 4_096 };
        for n in 0..hosts {
            overload.run(n, Command::AddAccount(Box::new(record(shared().bits()))));
            overload.run(n, Command::ShareAccount(shared(), SeatLimits { capacity: 1, ceiling }));
            overload.run(n, Command::JoinTerm { until: Mono(10 * SPAN) });
            let fences = overload.block();
            overload.run(n, Command::TakeFences(fences));
        }
        overload
    }

    fn block(&mut self) -> FenceBlock {
        self.next_block += 4_096;
        FenceBlock { from: Fence(self.next_block - 4_096), to: Fence(self.next_block - 1) }
    }

    fn seats(&self, n: usize) -> u32 {
        self.hosts[n].pool.seats(shared()).map_or(0, |seats| seats.held)
    }

    fn elsewhere(&self, n: usize) -> u32 {
        (0..self.hosts.len()).filter(|other| *other != n).map(|other| self.seats(other)).sum()
    }

    fn run(&mut self, n: usize, command: Command) {
        let now = Now { mono: Mono(self.now), wall: Wall(1_800_000_000_000 + self.now) };
        let mut effects = Vec::new();
        let host = &mut self.hosts[n];
        drop(host.pool.handle(now, command, &mut effects));
        host.pool.check(now).unwrap();
        for effect in effects {
            match effect {
                Effect::Emit(lessor::pool::Event::Granted(fence)) => {
                    self.hosts[n].grants += 1;
                    self.hosts[n].ends.insert(fence, self.now + self.lasts);
                }
                Effect::ClaimSeats { account, seats, most, .. } => {
                    let elsewhere = self.elsewhere(n);
                    let free = most.min(self.ceiling) - (elsewhere + self.seats(n));
                    let others: Vec<usize> = (0..self.hosts.len()).filter(|other| *other != n).collect();
                    if free == 0 {
                        self.run(n, Command::SeatsDenied { account, elsewhere, why: SeatDenial::Full });
                        for other in others.into_iter().filter(|other| self.seats(*other) > 0).collect::<Vec<_>>() {
                            self.run(other, Command::SeatsWanted(vec![account]));
                        }
                    } else {
                        let fences = self.block();
                        self.run(n, Command::SeatsClaimed { account, seats: seats.min(free), elsewhere, fences });
                    }
                }
                Effect::GiveBackSeats { account, .. } => {
                    // the other hosts hear of it, this one first the host that waits longest
                    for other in (1..self.hosts.len()).map(|by| (n + by) % self.hosts.len()).collect::<Vec<_>>() {
                        let elsewhere = self.elsewhere(other);
                        self.run(other, Command::SeatsElsewhere(vec![(account, elsewhere)]));
                    }
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self) {
        self.now += STEP;
        for n in 0..self.hosts.len() {
            self.hosts[n].held += STEP * self.hosts[n].ends.len() as u64;
            let due: Vec<Fence> =
                self.hosts[n].ends.iter().filter(|(_, at)| **at <= self.now).map(|(fence, _)| *fence).collect();
            for fence in due {
                self.hosts[n].ends.remove(&fence);
                self.run(n, Command::Release(fence));
            }
            self.run(n, Command::Tick);
            while self.hosts[n].pool.waiters().count() < WAITING {
                let before = self.hosts[n].grants;
                let wait = Some(std::time::Duration::from_millis(10 * SPAN));
                self.run(n, Command::Acquire(Box::new(LeaseRequest { wait, ..LeaseRequest::plain(target()) })));
                assert!(self.hosts[n].grants > before || self.hosts[n].pool.waiters().next().is_some());
            }
        }
    }
}

#[test]
fn a_host_whose_queue_is_never_empty_lets_others_have_their_part() {
    for (hosts, ceiling, lasts) in [(2, 1, 100), (2, 1, 3_000), (2, 2, 300), (2, 3, 700), (3, 2, 500), (2, 1, 15_000)] {
        let mut overload = Overload::new(hosts, ceiling, lasts);
        while overload.now < SPAN {
            overload.pass();
        }
        let grants: Vec<u64> = overload.hosts.iter().map(|host| host.grants).collect();
        let all: u64 = grants.iter().sum();
        let shown = format!("{hosts} hosts, {ceiling} seats, leases of {lasts} ms: {grants:?}");
        // a third of the grants for each of two hosts
        assert!(grants.iter().all(|part| part * hosts as u64 * 3 >= all * 2), "{shown}");
        let used: u64 = overload.hosts.iter().map(|host| host.held).sum();
        assert!(used * 10 >= SPAN * u64::from(ceiling) * 7, "the seats are free too long: {used} ms; {shown}");
    }
}
