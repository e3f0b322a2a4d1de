//! Nanoseconds for one acquire and release of a connection-bound lease, by strategy and number of accounts.
//! `cargo bench --bench pool`

use std::time::Instant;

use lessor::measure::pool::{ask, best, filled_pool, now, target};
use lessor::pool::{Command, Overflow, Reply, Strategy};

const STRATEGIES: [Strategy; 5] =
    [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];

fn main() {
    let sizes = [10, 100, 1_000, 10_000];
    println!("ns per acquire + release     {}", sizes.map(|n| format!("{n:>9}")).concat());
    for strategy in STRATEGIES {
        let row = sizes.map(|n| format!("{:>9.0}", best(&mut filled_pool(n, strategy, Overflow::Share), None)));
        println!("{:<29}{}", format!("{strategy:?}"), row.concat());
    }
    let row =
        sizes.map(|n| format!("{:>9.0}", best(&mut filled_pool(n, Strategy::Hybrid, Overflow::Share), Some("s"))));
    println!("{:<29}{}", "Hybrid, with a session", row.concat());
    println!("ns per handover with a queue {}", [8, 64, 512, 4_000].map(|n| format!("{n:>9}")).concat());
    let row = [8, 64, 512, 4_000].map(|n| format!("{:>9.0}", handover(n)));
    println!("{:<29}{}", "10 accounts, n waiting", row.concat());
}

/// A release that serves the first of `waiting` requests, all different, and one more that queues.
fn handover(waiting: usize) -> f64 {
    let mut pool = filled_pool(10, Strategy::Hybrid, Overflow::Wait);
    let target = target(None);
    let mut effects = Vec::new();
    let mut held = std::collections::VecDeque::new();
    let names: Vec<String> = (0..waiting + 10).map(|n| format!("s{n}")).collect();
    for name in &names {
        let reply = pool.handle(now(0), Command::Acquire(Box::new(ask(&target, Some(name)))), &mut effects);
        if let Ok(Reply::Held(fence)) = reply {
            held.push_back(fence);
        }
    }
    let started = Instant::now();
    const CYCLES: usize = 4_000;
    for n in 0..CYCLES {
        effects.clear();
        let fence = held.pop_front().expect("ten are held");
        pool.handle(now(n as u64), Command::Release(fence), &mut effects).expect("the lease is held");
        let served = effects.iter().find_map(|effect| match effect {
            lessor::pool::Effect::Answer { result: Ok(fence), .. } => Some(*fence),
            _ => None,
        });
        held.push_back(served.expect("a request is queued"));
        let name = &names[n % names.len()];
        let _ = pool.handle(now(n as u64), Command::Acquire(Box::new(ask(&target, Some(name)))), &mut effects);
    }
    started.elapsed().as_nanos() as f64 / CYCLES as f64
}
