//! The guarantees of the pool under any load, asserted over a grid of loads in virtual time: a sample, or all of it.
//!
//! `LESSOR_GRID=full` takes every number of accounts and agents, `LESSOR_GRID=n` one sampled load. A failure prints it.

use lessor::pool::Strategy;
use lessor::simulate::{Counted, Load, Rule, run};

const STRATEGIES: [Strategy; 5] =
    [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];
/// Requests of an agent in five hours, if no limit stops it.
const OF_AN_AGENT: u64 = 830;
/// Loads of the sample.
const SAMPLE: u64 = 10;

/// Quotas of five hours: from far less than the agents ask for to more than that.
const QUOTAS: [u64; 4] = [40, 120, 300, 600];

fn load(accounts: u64, agents: u64, n: u64, hours: u64) -> Load {
    Load {
        accounts: accounts as usize,
        agents: agents as usize,
        hours,
        seed: n,
        per_minute: [4, 10, 30][(n % 3) as usize],
        per_five_hours: QUOTAS[(n / 3 % 4) as usize],
    }
}

/// By turns small and large, so that the whole range is met: steps that have no factor in common with their ranges.
fn sampled(n: u64) -> Load {
    load(1 + n * 7 % 20, 1 + n * 11 % 40, n, 5)
}

fn loads() -> Vec<Load> {
    match std::env::var("LESSOR_GRID").ok().as_deref() {
        Some("full") => (0..800).map(|n| load(1 + n % 20, 1 + n / 20, n, 11)).collect(),
        Some(n) => vec![sampled(n.parse().expect("a number, or `full`"))],
        None => (0..SAMPLE).map(sampled).collect(),
    }
}

/// The share of what perfect knowledge serves, in percent. Where what is asked for is about what there is, it matters
/// whose window ends first and what will be asked for then, which cannot be known.
fn promised_share(load: &Load) -> u64 {
    let (asked, quota) = (load.agents as u64 * OF_AN_AGENT, load.accounts as u64 * load.per_five_hours);
    if (60..=170).contains(&(asked * 100 / quota)) { 95 } else { 99 }
}

/// What is not as promised.
fn broken(load: &Load, perfect: &Counted, counted: &Counted) -> Vec<String> {
    let mut broken = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    // perfect knowledge gains where the last window is cut off; one request per agent or account does not count
    let usable = perfect.served.min(perfect.quota);
    let edge = (load.accounts + load.agents) as u64;
    let share = promised_share(load);
    hold((counted.served + edge) * 100 >= usable * share, format!("served {} of {usable}", counted.served));
    hold(counted.needless_refusals == 0, format!("{} refusals that were known", counted.needless_refusals));
    hold(counted.needless_moves == 0, format!("{} sessions moved needlessly", counted.needless_moves));
    hold(counted.slept_ms == 0, format!("slept {} ms while an account was free", counted.slept_ms));
    hold(counted.wrong == 0, format!("told {} times to wait or stop, and need not", counted.wrong));
    broken
}

#[test]
fn the_pool_meets_its_guarantees_on_any_load() {
    let (mut refused, mut windows, mut moved, mut away) = (0, 0, 0, 0);
    let mut failures = Vec::new();
    for load in loads() {
        let perfect = run(&load, Rule::Perfect);
        assert_eq!((perfect.refusals, perfect.slept_ms), (0, 0), "{load:?}");
        for strategy in STRATEGIES {
            let counted = run(&load, Rule::Lessor(strategy));
            let broken = broken(&load, &perfect, &counted);
            if !broken.is_empty() {
                failures.push(format!("{load:?} {strategy:?}: {}", broken.join("; ")));
            }
            (refused, windows) = (refused + counted.refusals, windows + counted.refused_windows);
            (moved, away) = (moved + counted.moves, away + counted.turned_away);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // more than one in a window only where several were under way when the first came back
    assert!(refused * 2 <= windows * 3, "{refused} refusals in {windows} windows");
    let whole = std::env::var_os("LESSOR_GRID").is_none();
    assert!(!whole || (refused > 1_000 && moved > 1_000 && away > 100), "too easy: {refused} {moved} {away}");
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_seed_gives_others() {
    let load = Load { accounts: 3, agents: 9, hours: 2, per_five_hours: 120, ..Load::default() };
    for rule in [Rule::Perfect, Rule::Lessor(Strategy::Hybrid)].into_iter().chain(Rule::OTHERS) {
        let counted = run(&load, rule);
        assert_eq!(counted, run(&load, rule), "{rule:?}");
        assert_ne!(counted.curve, run(&Load { seed: 2, ..load }, rule).curve, "{rule:?}");
    }
}

/// What makes them differ, each on a load that brings it out.
#[test]
fn the_rules_of_other_programs_cost_what_their_sources_imply() {
    let load = Load { accounts: 4, agents: 12, hours: 6, per_minute: 8, per_five_hours: 400, seed: 5 };
    let [lessor, plugin, manager, multi] =
        [Rule::Lessor(Strategy::Hybrid), Rule::OTHERS[0], Rule::OTHERS[1], Rule::OTHERS[2]]
            .map(|rule| run(&load, rule));
    // each process learns each limit for itself
    for other in [&plugin, &multi] {
        assert!(other.refusals_a_window() > 2.0 * lessor.refusals_a_window(), "{other:?}");
    }
    // waits on the same account while others are free
    assert!(plugin.slept_ms > 3_600_000 && manager.slept_ms > 3_600_000, "{plugin:?} {manager:?}");
    // locks are cut to five minutes, and a bound session does not look at them
    assert!(manager.needless_refusals > manager.refused_windows, "{manager:?}");
    // one retry, then the caller sees it
    assert!(multi.turned_away > 2 * lessor.turned_away, "{multi:?} {lessor:?}");
}

/// Five accounts with short windows and twelve agents that ask for more than there is: a window is not stormed at its
/// start, and still used up.
#[test]
fn short_windows_are_used_up_without_a_storm() {
    let mut failures = Vec::new();
    for per_minute in [3, 6, 10] {
        for seed in 0..2 {
            let load = Load { accounts: 5, agents: 12, hours: 2, seed, per_minute, per_five_hours: 100_000 };
            let perfect = run(&load, Rule::Perfect);
            for strategy in STRATEGIES {
                let counted = run(&load, Rule::Lessor(strategy));
                let usable = perfect.served.min(perfect.quota);
                let share = counted.served as f64 / usable as f64;
                let (average, worst) = (counted.refusals_a_window(), counted.most_refusals);
                if average > 1.2 || worst > 3 || share < 0.97 {
                    failures
                        .push(format!("{load:?} {strategy:?}: {average:.2} on average, {worst} at worst, {share:.3}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
