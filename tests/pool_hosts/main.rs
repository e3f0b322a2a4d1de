//! Several hosts share accounts through one database, in virtual time: connections that break, messages that come late or
//! not at all, clocks that differ, machines that freeze and daemons that die.
//!
//! `LESSOR_SIM_SEED=n` replays one run, `LESSOR_SIM_STEPS=n` is the number of steps of all runs together (`.ci/hosts`). A
//! failure prints its seed.

mod answers;
mod chance;
mod database;
mod events;
mod fairness;
mod fixture;
mod host;
mod invariants;
mod learning;
mod limits;
mod link;
mod probes;
mod table;
mod tally;
mod users;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use database::Fault;
use tally::Tally;
use world::World;

/// Steps of one run.
const STEPS: u64 = 1_500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Says the seed when the run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with LESSOR_SIM_SEED={} and LESSOR_SIM_STEPS={STEPS}", self.0);
        }
    }
}

/// These runs have found something.
const FOUND: [u64; 11] = [4, 700146, 700191, 730244, 730419, 730605, 730609, 730873, 740277, 740961, 741033];

#[test]
fn hosts_share_accounts_through_partitions_crashes_freezes_and_clocks() {
    let (first, steps) = (number("LESSOR_SIM_SEED"), number("LESSOR_SIM_STEPS"));
    let runs = steps.unwrap_or(STEPS * 12).div_ceil(STEPS);
    let found: &[u64] = if first.is_none() && steps.is_none() { &FOUND } else { &[] };
    let first = first.unwrap_or(1);
    let mut all = Tally::default();
    for seed in (first..first + runs).chain(found.iter().copied()) {
        let _said = Seed(seed);
        let mut world = World::new(seed, Fault::None);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
        all.add(&world.tally);
    }
    println!("{all:?}");
    let Tally { granted, claims, denied, given_back, cut_off, warned, takeovers, restarts, .. } = all;
    let Tally { exclusive, moved, limited, probes, .. } = all;
    let least = [granted, claims, denied, given_back, cut_off, warned, takeovers, restarts, exclusive, moved];
    let mut least = least.into_iter().chain([limited, probes]);
    assert!(runs < 12 || least.all(|count| count >= runs), "hardly anything happened: {all:?}");
}

/// Each of these faults of the environment breaks a rule that the design relies on.
#[test]
fn the_simulation_can_fail() {
    let faults = [
        Fault::LongTerms,
        Fault::HastyTakeovers,
        Fault::UsedSeatsGoBack,
        Fault::LateRequests,
        Fault::LateTerms,
        Fault::TooManySeats,
        Fault::LostNews,
        Fault::DeafHosts,
        Fault::ClearsStayHere,
        Fault::WeakerLimits,
        Fault::ManyProbers,
    ];
    for fault in faults {
        let fails = |seed: u64| {
            let run = AssertUnwindSafe(|| {
                let mut world = World::new(seed, fault);
                (0..STEPS).for_each(|_| world.step());
            });
            catch_unwind(run).is_err()
        };
        assert!((1..60).any(fails), "nothing shows {fault:?}");
    }
}
