//! The pool against a reference model, under random commands, clocks and crashes (C1-C5, C8-C10; I1-I4, I7, I8).

mod cast;
mod checks;
mod harness;
mod in_flight;
mod index;
mod limits;
mod ops;
mod reference;

use harness::World;
use ops::Op;
use proptest::prelude::*;

/// `PROPTEST_CASES` lengthens the run.
fn config(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { cases };
    // a failure becomes a test of its own, not a file of numbers
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..config }
}

fn live(ops: &[Op]) -> World {
    let mut world = World::new();
    for op in ops {
        world.carry_out(op);
    }
    world
}

proptest! {
    #![proptest_config(config(768))]

    #[test]
    fn the_pool_matches_the_reference_model(ops in ops::ops(120)) {
        live(&ops).finish();
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn the_same_commands_leave_the_same_trace(ops in ops::ops(80)) {
        prop_assert_eq!(live(&ops).trace, live(&ops).trace);
    }
}
