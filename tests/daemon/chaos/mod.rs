//! Daemons that are killed, stopped and deprived of their disk and clock, with a record of what they have answered kept
//! outside. A few rounds run with the other tests; `.ci/chaos` runs the long form and prints its figures.

mod changes;
mod clock;
mod directories;
mod disk;
mod leases;
mod load;
mod rotations;
mod suspended;

use std::time::{Duration, Instant};

/// The number of rounds: `few`, or what this variable says.
fn rounds(variable: &str, few: usize) -> usize {
    std::env::var(variable).ok().map_or(few, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Reproducible randomness. `LESSOR_CHAOS_SEED` changes it; a failure names the seed.
struct Chance(u64);

impl Chance {
    fn new(scene: &str) -> Self {
        let seed = std::env::var("LESSOR_CHAOS_SEED").map_or(7, |seed| seed.parse().expect("a seed"));
        println!("{scene}: seed {seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A time below `most`; short ones are as frequent as long ones.
    fn time(&mut self, most: Duration) -> Duration {
        let shift = self.below(8);
        let micros = u64::try_from(most.as_micros()).unwrap() >> shift;
        Duration::from_micros(self.next() % micros.max(1))
    }
}

/// Lets this much time pass, exactly: the moment of a kill is what these tests choose.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    if time > Duration::from_millis(5) {
        std::thread::sleep(time - Duration::from_millis(2));
    }
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
