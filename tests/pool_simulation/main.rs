//! Many clients, a provider with quotas, clocks that jump and a daemon that dies, in virtual time.
//!
//! `LESSOR_SIM_SEED=n` replays one run, `LESSOR_SIM_STEPS=n` lengthens it. A failure prints its seed.

mod outage;
mod windows;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use lessor::pool::{
    Bind, Command, ConnectionId, Holder, LeaseRequest, Mono, Now, Pool, PoolSettings, Process, Reply, Strategy, Wall,
};

use world::{Chance, World, account, target};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Says the seed when the run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with LESSOR_SIM_SEED={}", self.0);
        }
    }
}

#[test]
fn many_clients_share_few_accounts_through_limits_clocks_and_crashes() {
    let steps = number("LESSOR_SIM_STEPS").unwrap_or(2_000);
    let seeds = number("LESSOR_SIM_SEED").map_or(0..40, |seed| seed..seed + 1);
    let (mut served, mut restarts) = (0, 0);
    let (mut seen, all) = (BTreeSet::new(), seeds.end - seeds.start);
    for seed in seeds {
        let _said = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.wind_up();
        (served, restarts) = (served + world.served, restarts + world.restarts);
        seen.insert(format!("{:?}", world.settings.leases.overflow));
    }
    assert!(served > all * steps / 20, "hardly anything happened: {served} grants");
    assert!(all == 1 || (restarts > 0 && seen.len() == 3), "{restarts} restarts, {seen:?}");
}

/// Fresh equal accounts, no limits: every grant goes to one of the least loaded (I2).
#[test]
fn loads_of_equal_accounts_stay_even() {
    for seed in 0..20 {
        let _said = Seed(seed);
        let mut chance = Chance(seed);
        let mut settings = PoolSettings::default();
        settings.selection.pid_offset = chance.one_in(2);
        settings.selection.strategy = if chance.one_in(2) { Strategy::Sticky } else { Strategy::Hybrid };
        let mut pool = Pool::new(settings);
        let (accounts, mut held) = (2 + chance.below(9), Vec::new());
        let mut now = Now { mono: Mono(1_000), wall: Wall(1_000_000) };
        for n in 0..accounts {
            pool.handle(now, Command::AddAccount(Box::new(account(n))), &mut vec![]).unwrap();
        }
        for n in 0..2_000 {
            now.mono = Mono(now.mono.0 + chance.below(50));
            if held.len() as u64 > 10 * accounts || (!held.is_empty() && chance.one_in(3)) {
                let fence = held.swap_remove(chance.below(held.len() as u64) as usize);
                pool.handle(now, Command::Release(fence), &mut vec![]).unwrap();
                continue;
            }
            let before: Vec<u32> = pool.accounts().iter().map(|account| account.leases()).collect();
            let process = Some(Process { pid: chance.below(30) as u32, start: 0 });
            let ask = LeaseRequest {
                target: target(),
                connection: ConnectionId(n),
                bind: Bind::Connection(ConnectionId(n)),
                holder: Holder { process, ..Holder::default() },
                ttl: None,
                session: None,
                label: None,
                agent: None,
                account: None,
                exclude: vec![],
                set: lessor::pool::AccountSet::default(),
                priority: 0,
                wait: Some(Duration::ZERO),
                exclusive: false,
                request_id: None,
                subagent: None,
            };
            let Ok(Reply::Held(fence)) = pool.handle(now, Command::Acquire(Box::new(ask)), &mut vec![]) else {
                panic!("there is room")
            };
            let on = pool.lease(fence).unwrap().account;
            let chosen = pool.accounts().iter().position(|account| account.record.id == on).unwrap();
            assert_eq!(Some(&before[chosen]), before.iter().min(), "{before:?}");
            held.push(fence);
        }
    }
}
