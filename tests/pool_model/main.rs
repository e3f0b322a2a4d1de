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
use ops::{AskOp, Op};
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

/// Found by the test above.
#[test]
fn a_guess_that_is_taken_back_does_not_bring_back_the_limit_that_it_has_replaced() {
    let add = |id, provider| Op::Add { id, provider, capacity: 0, allowed_agents: 0, tier: 0, priority: 0 };
    let acquire = |provider| {
        let ask = AskOp { provider, wait_s: Some(0), ..AskOp::default() };
        Op::Acquire(Box::new(ask))
    };
    live(&[
        add(0, 0),
        add(1, 1),
        add(2, 1),
        add(3, 1),
        Op::Change { account: 1, what: 3 },
        // it ends, and requests are let in one after the other
        Op::Limit { account: 2, scope: 0, key: 0, secs: 1, wall: false },
        acquire(0),
        acquire(1),
        acquire(0),
        Op::Wakeup,
        // two accounts refuse one request: it is to blame
        Op::Report { lease: 1, reason: 4, scope: 1, wait_s: None },
        Op::Report { lease: 2, reason: 7, scope: 1, wait_s: None },
    ])
    .finish();
}
