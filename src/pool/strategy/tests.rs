//! The strategies alone, on accounts put into a given state.

use std::sync::Arc;

use super::super::account::AccountRecord;
use super::super::health::{Bucket, Health};
use super::super::settings::{HealthSettings, PoolSettings, TokenSettings};
use super::super::time::{Mono, Past, Wall};
use super::super::usage::{Usage, Window};
use super::super::{Bind, ConnectionId, CredentialKind, Fence, Holder, LoginState, Pointer, Process, Target, Tier};
use super::*;

const NOW: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };
const HOUR: u64 = 3_600_000;

/// Health, tokens, seconds of rest.
type State = (f64, f64, u64);

fn pool_of(strategy: Strategy, accounts: usize) -> Pool {
    let mut settings = PoolSettings::default();
    settings.selection.strategy = strategy;
    let mut pool = Pool::new(settings);
    for n in 0..accounts {
        let record = AccountRecord {
            id: AccountId::from_bits(n as u64),
            provider: "p".into(),
            label: None,
            email: None,
            tier: Tier::Unknown,
            kind: CredentialKind::ApiKey,
            login_state: LoginState::Ready,
            enabled: true,
            disabled_reason: None,
            max_leases: None,
            priority: 0,
            allowed_agents: None,
            project_id: None,
            vendor_id: None,
            created_at: Wall(0),
            last_used_at: None,
        };
        pool.insert_account(NOW, record);
    }
    pool
}

fn ask(pid: Option<u32>) -> LeaseRequest {
    LeaseRequest {
        target: Target {
            provider: Arc::from("p"),
            family: Arc::from("f"),
            key: Arc::from("k"),
            pool: None,
            model: None,
            names: None,
        },
        connection: ConnectionId(0),
        bind: Bind::Connection(ConnectionId(0)),
        holder: Holder { process: pid.map(|pid| Process { pid, start: 0 }), program: None },
        ttl: None,
        session: None,
        label: None,
        agent: None,
        account: None,
        exclude: vec![],
        priority: 0,
        wait: None,
        exclusive: false,
        request_id: None,
    }
}

fn point(pool: &mut Pool, current: Option<usize>) {
    let id = current.map(|n| pool.accounts[n].record.id);
    let ring = pool.rings.get_mut("p").unwrap();
    ring.families.insert(Arc::from("f"), Pointer { current: id, last: id });
}

fn picked(pool: &mut Pool) -> usize {
    pool.refresh_all();
    let ties: Vec<usize> = (0..pool.accounts.len()).collect();
    pick(pool, NOW, &ask(None), ask(None).target.quota(), &pool.rings["p"], &ties)
}

fn hybrid(states: &[State], current: Option<usize>) -> usize {
    let mut pool = pool_of(Strategy::Hybrid, states.len());
    for (account, (health, tokens, rest)) in pool.accounts.iter_mut().zip(states) {
        let points = HealthSettings { initial: *health, ..HealthSettings::default() };
        account.health = Health::new(&points, NOW.mono);
        account.bucket = Bucket::new(&TokenSettings { initial: *tokens, ..TokenSettings::default() }, NOW.mono);
        account.last_used = Some(Past::from(Mono(NOW.mono.0 - rest * 1000)));
        account.newest_fence = Some(Fence(1));
    }
    point(&mut pool, current);
    picked(&mut pool)
}

/// opencode-antigravity-auth's cases for its hybrid choice.
#[test]
fn hybrid_chooses_as_the_seed_does() {
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

/// The seed breaks exact ties by position; we take the least recently used (DESIGN §5).
#[test]
fn hybrid_differs_ties_go_to_the_least_recently_used() {
    assert_eq!(hybrid(&[(70.0, 50.0, 0), (70.0, 50.0, 1500)], Some(0)), 1, "150 points apart");
    assert_eq!(hybrid(&[(80.0, 50.0, 0), (70.0, 50.0, 200)], None), 1, "health against rest");
    assert_eq!(hybrid(&[(70.0, 50.0, 3600), (70.0, 50.0, 99_999)], None), 1, "rest counts up to an hour");
}

/// The seed's hybrid yields nobody and falls through to sticky; we relax tokens first, health second, never limits.
#[test]
fn hybrid_differs_when_nobody_qualifies() {
    assert_eq!(hybrid(&[(30.0, 50.0, 0)], None), 0);
    assert_eq!(hybrid(&[(70.0, 0.0, 0)], None), 0);
    assert_eq!(hybrid(&[(49.0, 50.0, 0), (49.0, 50.0, 0)], Some(1)), 1);
    assert_eq!(hybrid(&[(49.0, 50.0, 3600), (50.0, 0.0, 0)], None), 1, "tokens are relaxed before health");
}

#[test]
fn the_score_is_the_documented_formula() {
    assert_eq!(hybrid_score(70.0, 50.0, 50.0, 3600.0), 1000.0);
    assert_eq!(hybrid_score(100.0, 25.0, 50.0, 0.0), 450.0);
    assert_eq!(hybrid_score(0.0, 0.0, 0.0, 0.0), 0.0);
}

#[test]
fn sticky_stays_and_round_robin_goes_on() {
    for (strategy, wanted) in [(Strategy::Sticky, [0, 1, 2, 3]), (Strategy::RoundRobin, [1, 2, 3, 0])] {
        let mut pool = pool_of(strategy, 4);
        for (current, wanted) in wanted.into_iter().enumerate() {
            point(&mut pool, Some(current));
            assert_eq!(picked(&mut pool), wanted, "{strategy:?} at {current}");
        }
        // somebody among them is out: the next after it, around the end
        point(&mut pool, Some(3));
        assert_eq!(pick(&pool, NOW, &ask(None), ask(None).target.quota(), &pool.rings["p"], &[0, 1, 2]), 0);
    }
}

/// The seed's cases: (start + pid) mod n. It applies them only in sticky; DESIGN: for every holder without a session.
#[test]
fn a_pid_starts_at_its_own_place() {
    for (pid, wanted) in [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1), (1234, 1), (u32::MAX, 0)] {
        for strategy in [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid] {
            let mut pool = pool_of(strategy, 3);
            pool.settings.selection.pid_offset = true;
            assert_eq!(offset(&pool, &ask(Some(pid)), &pool.rings["p"]), Some(wanted), "{pid}");
        }
    }
    let mut pool = pool_of(Strategy::Sticky, 3);
    assert_eq!(offset(&pool, &ask(Some(1)), &pool.rings["p"]), None, "off");
    pool.settings.selection.pid_offset = true;
    assert_eq!(offset(&pool, &ask(None), &pool.rings["p"]), None, "no process");
    assert_eq!(
        offset(&pool, &LeaseRequest { session: Some("s".into()), ..ask(Some(1)) }, &pool.rings["p"]),
        None,
        "a session"
    );
    point(&mut pool, Some(2));
    assert_eq!(offset(&pool, &ask(Some(7)), &pool.rings["p"]), Some(0), "counted from the current one");
}

fn window(name: &str, used: f64, resets_in: u64) -> Window {
    let resets_at = (resets_in > 0).then_some(Wall(NOW.wall.0 + resets_in));
    Window { name: name.into(), utilization: used, resets_at, as_of: NOW.wall, key: String::new() }
}

fn with_windows(strategy: Strategy, windows: &[&[Window]]) -> usize {
    let mut pool = pool_of(strategy, windows.len());
    for (account, windows) in pool.accounts.iter_mut().zip(windows) {
        account.usage = Usage { windows: windows.to_vec(), ..Usage::default() };
    }
    picked(&mut pool)
}

#[test]
fn least_used_looks_at_the_week_then_at_the_short_window() {
    let w = window;
    let chosen = |windows: &[&[Window]]| with_windows(Strategy::LeastUsed, windows);
    assert_eq!(chosen(&[&[w("7d", 0.5, 0), w("5h", 0.0, 0)], &[w("7d", 0.4, 0), w("5h", 0.9, 0)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.4, 0), w("5h", 0.5, 0)], &[w("7d", 0.4, 0), w("5h", 0.2, 0)]]), 1);
    // unknown is not zero: it ranks in the middle
    assert_eq!(chosen(&[&[], &[w("7d", 0.4, 0)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.6, 0)], &[]]), 1);
    // nothing sensible is no reason to panic
    assert_eq!(chosen(&[&[w("7d", f64::NAN, 0)], &[w("7d", 0.9, 0)]]), 1);
}

#[test]
fn drain_soonest_takes_what_resets_first_and_has_room() {
    let w = window;
    let chosen = |windows: &[&[Window]]| with_windows(Strategy::DrainSoonest, windows);
    assert_eq!(chosen(&[&[w("7d", 0.1, 5 * HOUR)], &[w("7d", 0.8, HOUR / 2)]]), 1);
    assert_eq!(chosen(&[&[w("7d", 0.1, 5 * HOUR)], &[w("7d", 1.0, HOUR / 2)]]), 0, "no room left");
    assert_eq!(chosen(&[&[], &[w("7d", 0.8, 9 * HOUR)]]), 1, "an unknown reset is no hurry");
}

/// The other seed's tables: earlier reset first, an unknown one last. Its threshold of ten minutes is left out.
#[test]
fn remaining_quota_breaks_ties_before_the_last_use() {
    let chosen = with_windows(Strategy::DrainSoonest, &[&[window("5h", 0.8, 0)], &[window("5h", 0.2, 0)]]);
    assert_eq!(chosen, 1);
    let mut pool = pool_of(Strategy::LeastUsed, 3);
    pool.accounts[0].last_used = Some(Past::from(NOW.mono));
    pool.accounts[1].last_used = Some(Past::from(Mono(NOW.mono.0 - 1)));
    assert_eq!(picked(&mut pool), 2, "never used goes first");
    pool.accounts[2].last_used = Some(NOW.past_of(Wall(0)));
    assert_eq!(picked(&mut pool), 2, "and used before the boot before used since");
}
