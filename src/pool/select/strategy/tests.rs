//! The strategies alone, on accounts put into a given state.

use super::*;
use crate::pool::account::digest::StrategyInputs;
use crate::pool::account::health::{Bucket, Health};
use crate::pool::account::record::AccountRecord;
use crate::pool::account::usage::{Usage, Window};
use crate::pool::model::{
    AccountId, ConnectionId, CredentialKind, Fence, HealthSettings, Holder, Mono, Past, PoolSettings, Process,
    TokenSettings, Wall,
};
use crate::pool::select::score::Hybrid;
use std::sync::Arc;

const NOW: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };
const HOUR: u64 = 3_600_000;

/// Health, tokens, idle seconds.
type State = (f64, f64, u64);

fn pool_of(strategy: Strategy, accounts: usize) -> Pool {
    let mut settings = PoolSettings::default();
    settings.selection.strategy = strategy;
    let mut pool = Pool::new(settings);
    for n in 0..accounts {
        let record = AccountRecord::new(AccountId::from_bits(n as u64), "p", CredentialKind::ApiKey, Wall(0));
        pool.accounts.add(record, &pool.settings, NOW);
    }
    pool
}

fn ask(pid: Option<u32>) -> LeaseRequest {
    let holder = Holder { process: pid.map(|pid| Process { pid, start: 0 }), ..Holder::default() };
    LeaseRequest { holder, ..LeaseRequest::new("p", "f", ConnectionId(0)) }
}

fn point(pool: &mut Pool, current: Option<usize>) {
    if let Some(slot) = current {
        pool.accounts.advance(slot, &Arc::from("f"), false);
    }
}

fn picked(pool: &mut Pool) -> usize {
    let ties: Vec<usize> = (0..pool.accounts().len()).collect();
    let pick_of = |ties: &[usize]| {
        pick(pool, NOW, &ask(None), ask(None).target.quota(), pool.accounts.of_provider("p").unwrap(), ties, None)
    };
    let Pick { slot, next, .. } = pick_of(&ties);
    // the next one is the one that is picked without the first
    let others: Vec<usize> = ties.into_iter().filter(|other| Some(*other) != slot).collect();
    assert_eq!(next, pick_of(&others).slot);
    slot.unwrap()
}

fn hybrid(states: &[State], current: Option<usize>) -> usize {
    let mut pool = pool_of(Strategy::Hybrid, states.len());
    for (slot, (health, tokens, idle)) in states.iter().enumerate() {
        let points = HealthSettings { initial: *health, ..HealthSettings::default() };
        pool.accounts.edit(slot, |account| {
            account.health = Health::new(&points, NOW.mono);
            account.bucket = Bucket::new(&TokenSettings { initial: *tokens, ..TokenSettings::default() }, NOW.mono);
            account.last_used = Some(Past::from(Mono(NOW.mono.0 - idle * 1000)));
            account.newest_fence = Some(Fence(1));
        });
    }
    point(&mut pool, current);
    picked(&mut pool)
}

/// opencode-antigravity-auth's cases for its hybrid choice.
#[test]
fn hybrid_chooses_like_opencode_antigravity_auth() {
    let rows: &[(&[State], Option<usize>, usize)] = &[
        (&[(70.0, 0.0, 0), (70.0, 1.0, 0)], None, 1),
        (&[(40.0, 50.0, 0), (70.0, 50.0, 0)], None, 1),
        (&[(40.0, 50.0, 0), (100.0, 50.0, 0)], None, 1),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 999)], Some(0), 0),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 1000)], Some(0), 0),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 1499)], Some(0), 0),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 1501)], Some(0), 1),
        (&[(70.0, 50.0, 1500), (70.0, 50.0, 0)], Some(1), 0),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 3600)], Some(0), 1),
        (&[(50.0, 50.0, 0), (100.0, 50.0, 0)], Some(0), 0),
        (&[(60.0, 50.0, 0), (70.0, 50.0, 900)], Some(0), 0),
        (&[(70.0, 50.0, 0), (70.0, 50.0, 0)], None, 0),
        (&[(80.0, 50.0, 0), (70.0, 50.0, 201)], None, 1),
        (&[(70.0, 50.0, 1500), (100.0, 50.0, 1499), (70.0, 50.0, 0)], Some(2), 1),
        (&[(70.0, 40.0, 0), (70.0, 50.0, 0)], Some(0), 0),
        (&[(70.0, 35.0, 0), (70.0, 50.0, 0)], Some(0), 0),
    ];
    for (states, current, wanted) in rows {
        assert_eq!(hybrid(states, *current), *wanted, "{states:?}, current {current:?}");
    }
}

/// That project breaks exact ties by position; the pool takes the least recently used account.
#[test]
fn hybrid_breaks_exact_ties_by_the_least_recent_use() {
    assert_eq!(hybrid(&[(70.0, 50.0, 0), (70.0, 50.0, 1500)], Some(0)), 1, "150 points apart");
    assert_eq!(hybrid(&[(80.0, 50.0, 0), (70.0, 50.0, 200)], None), 1, "health against idle time");
    assert_eq!(hybrid(&[(70.0, 50.0, 3600), (70.0, 50.0, 99_999)], None), 1, "idle time counts up to an hour");
}

/// That project's hybrid yields no account and falls back to sticky; the pool relaxes tokens first, health second, limits
/// never.
#[test]
fn hybrid_relaxes_tokens_before_health_when_no_account_qualifies() {
    assert_eq!(hybrid(&[(30.0, 50.0, 0)], None), 0);
    assert_eq!(hybrid(&[(70.0, 0.0, 0)], None), 0);
    assert_eq!(hybrid(&[(49.0, 50.0, 0), (49.0, 50.0, 0)], Some(1)), 1);
    assert_eq!(hybrid(&[(49.0, 50.0, 3600), (50.0, 0.0, 0)], None), 1, "tokens are relaxed before health");
}

#[test]
fn the_score_is_the_documented_formula() {
    let score = |health: f64, tokens: f64, max: f64, idle_s: u64| {
        let mut settings = PoolSettings::default().selection;
        settings.tokens.max = max;
        let now = NOW.mono.0 as f64;
        let used_at = now - (idle_s * 1000) as f64;
        let inputs =
            StrategyInputs { points: health, points_at: now, tokens, tokens_at: now, used_at, newest_fence: 0 };
        Hybrid::new(&settings).rank(&inputs, NOW.mono).1.points()
    };
    assert_eq!(score(70.0, 50.0, 50.0, 3600), 1000.0);
    assert_eq!(score(100.0, 25.0, 50.0, 0), 450.0);
    assert_eq!(score(0.0, 0.0, 0.0, 0), 0.0);
    assert_eq!(score(70.0, 50.0, 50.0, 9999), 1000.0);
}

#[test]
fn sticky_keeps_its_account_and_round_robin_takes_the_next() {
    for (strategy, wanted) in [(Strategy::Sticky, [0, 1, 2, 3]), (Strategy::RoundRobin, [1, 2, 3, 0])] {
        let mut pool = pool_of(strategy, 4);
        for (current, wanted) in wanted.into_iter().enumerate() {
            point(&mut pool, Some(current));
            assert_eq!(picked(&mut pool), wanted, "{strategy:?} at {current}");
        }
        // the account there cannot serve: the next one after it, around the end
        point(&mut pool, Some(3));
        let (provider, ask) = (pool.accounts.of_provider("p").unwrap(), ask(None));
        let picked = pick(&pool, NOW, &ask, ask.target.quota(), provider, &[0, 1, 2], None);
        assert_eq!((picked.slot, picked.next, picked.scores), (Some(0), Some(1), None));
    }
}

/// That project's cases: (start + pid) mod n. It uses them only in sticky; the pool for every holder without a session.
#[test]
fn a_pid_offset_starts_at_start_plus_pid_modulo_n() {
    for (pid, wanted) in [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1), (1234, 1), (u32::MAX, 0)] {
        for strategy in [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid] {
            let mut pool = pool_of(strategy, 3);
            pool.settings.selection.pid_offset = true;
            assert_eq!(offset(&pool, &ask(Some(pid)), pool.accounts.of_provider("p").unwrap()), Some(wanted), "{pid}");
        }
    }
    let mut pool = pool_of(Strategy::Sticky, 3);
    assert_eq!(offset(&pool, &ask(Some(1)), pool.accounts.of_provider("p").unwrap()), None, "off");
    pool.settings.selection.pid_offset = true;
    assert_eq!(offset(&pool, &ask(None), pool.accounts.of_provider("p").unwrap()), None, "no process");
    let in_session = LeaseRequest { session: Some("s".into()), ..ask(Some(1)) };
    assert_eq!(offset(&pool, &in_session, pool.accounts.of_provider("p").unwrap()), None, "a session");
    point(&mut pool, Some(2));
    let provider = pool.accounts.of_provider("p").unwrap();
    assert_eq!(offset(&pool, &ask(Some(7)), provider), Some(0), "counted from the current one");
}

fn window(name: &str, used: f64, resets_in: u64) -> Window {
    let resets_at = (resets_in > 0).then_some(Wall(NOW.wall.0 + resets_in));
    Window { name: name.into(), utilization: used, resets_at, as_of: NOW.wall, key: String::new() }
}

fn with_windows(strategy: Strategy, windows: &[&[Window]]) -> usize {
    let mut pool = pool_of(strategy, windows.len());
    for (slot, windows) in windows.iter().enumerate() {
        let usage = Usage { windows: windows.to_vec(), ..Usage::default() };
        pool.accounts.edit(slot, |account| account.usage = usage);
    }
    picked(&mut pool)
}

#[test]
fn least_used_compares_the_weekly_window_then_the_short_one() {
    let w = window;
    let chosen = |windows: &[&[Window]]| with_windows(Strategy::LeastUsed, windows);
    assert_eq!(chosen(&[&[w("7d", 0.5, 0), w("5h", 0.0, 0)], &[w("7d", 0.4, 0), w("5h", 0.9, 0)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.4, 0), w("5h", 0.5, 0)], &[w("7d", 0.4, 0), w("5h", 0.2, 0)]]), 1);
    // unknown is not zero: it ranks in the middle
    assert_eq!(chosen(&[&[], &[w("7d", 0.4, 0)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.6, 0)], &[]]), 1);
    // a utilization that is not a number does not panic
    assert_eq!(chosen(&[&[w("7d", f64::NAN, 0)], &[w("7d", 0.9, 0)]]), 1);
}

#[test]
fn drain_soonest_takes_the_account_that_resets_first_and_has_room() {
    let w = window;
    let chosen = |windows: &[&[Window]]| with_windows(Strategy::DrainSoonest, windows);
    assert_eq!(chosen(&[&[w("7d", 0.1, 5 * HOUR)], &[w("7d", 0.8, HOUR / 2)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.1, 5 * HOUR)], &[w("7d", 1.0, HOUR / 2)]]), 0, "no room left");
    assert_eq!(chosen(&[&[], &[w("7d", 0.8, 9 * HOUR)]]), 1, "an unknown reset is no hurry");
}

/// The tables of opencode-anthropic-multi-auth: the earlier reset first, an unknown one last; without its threshold of
/// ten minutes.
#[test]
fn remaining_quota_breaks_ties_before_the_last_use() {
    let chosen = with_windows(Strategy::DrainSoonest, &[&[window("5h", 0.8, 0)], &[window("5h", 0.2, 0)]]);
    assert_eq!(chosen, 1);
    let mut pool = pool_of(Strategy::LeastUsed, 3);
    pool.accounts.edit(0, |account| account.last_used = Some(Past::from(NOW.mono)));
    pool.accounts.edit(1, |account| account.last_used = Some(Past::from(Mono(NOW.mono.0 - 1))));
    assert_eq!(picked(&mut pool), 2, "an account that was never used is first");
    pool.accounts.edit(2, |account| account.last_used = Some(NOW.past_of(Wall(0))));
    assert_eq!(picked(&mut pool), 2, "an account used before the boot comes before one used since");
}
