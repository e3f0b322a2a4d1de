//! One seeded run of clients, daemon, store, providers, clock and crashes: the real state and the real store, over a disk
//! that fails on demand. After each step the pool's invariants are checked; after each crash, what was restored is
//! compared with what was there before, and with what was answered.
//!
//! `.ci/simulation [STEPS] [SEED]` is the long run. A failure prints its seed: it belongs into [`SEEDS`].

mod actions;
mod contents;
mod endpoint;
mod figures;
mod world;

use std::sync::Mutex;

use figures::Figures;
use world::World;

/// Seeds of runs that have failed in the past, with their steps.
const SEEDS: &[(u64, u64)] = &[];
/// The quick form.
const QUICK: (std::ops::Range<u64>, u64) = (0..6, 1_500);

/// The most steps of one world.
const LONGEST_WORLD: u64 = 2_000;

/// The simulated endpoint and clock belong to one thread, but SQLite's layer to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn what_was_answered_survives_every_crash() {
    let _turn = ONE_AT_A_TIME.lock();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (seeds, steps) = QUICK;
    let runs: Vec<(u64, u64)> = match (number("LESSOR_SIM_SEED"), number("LESSOR_SIM_STEPS")) {
        (None, None) => SEEDS.iter().copied().chain(seeds.map(|seed| (seed, steps))).collect(),
        (seed, steps) => parts(seed.unwrap_or(0), steps.unwrap_or(QUICK.1)),
    };
    let mut all = Figures::default();
    for (seed, steps) in runs {
        let _said = Seed(seed, steps);
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        all.add(&world.end());
    }
    println!("{all:#?}");
    assert!(all.is_representative(), "hardly anything happened: {all:#?}");
}

/// A long run is one of many worlds, with seeds that follow each other: the clock of a world jumps ahead, its logins are
/// lost one by one, and after some thousand steps little can be leased.
fn parts(seed: u64, steps: u64) -> Vec<(u64, u64)> {
    let seeds = seed..seed + steps.div_ceil(LONGEST_WORLD).max(1);
    seeds
        .zip((0..).step_by(LONGEST_WORLD as usize))
        .map(|(seed, done)| (seed, LONGEST_WORLD.min(steps - done)))
        .collect()
}

/// Prints the seed when the run fails.
struct Seed(u64, u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with LESSOR_SIM_SEED={} LESSOR_SIM_STEPS={}", self.0, self.1);
        }
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}
