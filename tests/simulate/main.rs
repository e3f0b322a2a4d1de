//! x
use lessor::pool::Strategy;
use lessor::simulate::{Load, Rule, run};
#[test]
fn look() {
    let n = |k: &str, d: u64| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let load = Load {
        accounts: n("A", 6) as usize,
        agents: n("G", 16) as usize,
        hours: n("H", 24),
        seed: n("S", 1),
        per_minute: n("M", 12),
        per_five_hours: n("Q", 600),
    };
    let mut rules = vec![Rule::Perfect];
    rules.extend(
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
            .map(Rule::Lessor),
    );
    rules.extend(Rule::OTHERS);
    for rule in rules {
        if std::env::var("R").is_ok_and(|r| !rule.name().contains(&r)) {
            continue;
        }
        let t = std::time::Instant::now();
        let c = run(&load, rule);
        println!(
            "{:30} served {}/{} 429/w {:.2} ({} in {}, needless {}, most {}) moves {}/{} slept {} s wrong {} away {} {:?}",
            rule.name(),
            c.served,
            c.quota,
            c.refusals_a_window(),
            c.refusals,
            c.refused_windows,
            c.needless_refusals,
            c.most_refusals,
            c.needless_moves,
            c.moves,
            c.slept_ms / 1000,
            c.wrong,
            c.turned_away,
            t.elapsed()
        );
    }
}
