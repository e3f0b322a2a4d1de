//! The index chooses what a scan of all accounts chooses, among thousands of accounts as well. In debug builds the pool
//! makes every selection both ways and compares them; `Pool::check` compares every place in the index with a new one.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountChange, AccountId, AccountRecord, Attestation, Command, ConnectionId, CredentialKind, Deadline,
    DirectorySettings, Fence, Holder, LeaseRequest, Limit, LimitSource, Mode, Mono, Now, Overflow, Pool, PoolSettings,
    Process, RefusalDetails, Reply, RequestNeeds, RequestOutcome, Strategy as SelectionStrategy, Tier, Usage, Wall,
    Window,
};
use proptest::collection::vec;
use proptest::prelude::*;

const START: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };

/// One step: how much later than the last one, what happens, and to which account or lease.
type Step = (u32, u8, u16, u8);

fn settings_of(strategy: u8, bits: u8) -> PoolSettings {
    let bit = |n: u8| bits >> n & 1 == 1;
    let mut settings = PoolSettings::default();
    settings.selection.strategy = [
        SelectionStrategy::Sticky,
        SelectionStrategy::RoundRobin,
        SelectionStrategy::Hybrid,
        SelectionStrategy::LeastUsed,
        SelectionStrategy::DrainSoonest,
        SelectionStrategy::Hybrid,
    ][strategy as usize % 6];
    settings.selection.tier_first = bit(0);
    settings.leases.overflow = if bit(1) { Overflow::Wait } else { Overflow::Share };
    settings.selection.mode = if bit(2) && bit(3) { Mode::PerformanceFirst } else { Mode::Balance };
    settings.quota.soft_threshold = if bit(4) { 0.5 } else { 0.9 };
    if bit(5) {
        // few tokens, which come back at an odd pace
        (settings.selection.tokens.max, settings.selection.tokens.initial) = (3.0, 1.0);
        settings.selection.tokens.per_minute = 7.3;
    }
    if bit(6) {
        // a health that recovers quickly
        settings.selection.health.recovery_per_hour = 700.0;
    }
    if bit(7) {
        // health that counts for more than tokens and idle time
        (settings.selection.health.initial, settings.selection.health.min_usable) = (500.0, 100.0);
        (settings.selection.health.max, settings.selection.health.success) = (1_000.0, 90.0);
        (settings.selection.health.rate_limit, settings.selection.health.failure) = (-150.0, -200.0);
    }
    let accounts = (0..1_000).step_by(3).map(|n| format!("l{n}")).collect();
    settings.directories = vec![DirectorySettings { name: "d".into(), paths: vec!["/d".into()], accounts }];
    settings
}

fn record_of(n: usize) -> AccountRecord {
    let kind = if n.is_multiple_of(5) { CredentialKind::Oauth } else { CredentialKind::ApiKey };
    AccountRecord {
        label: Some(format!("l{n}")),
        tier: [Tier::Pro, Tier::Free][n % 2],
        priority: i32::from(n % 16 == 1),
        max_leases: (n % 7 == 2).then_some(3),
        allowed_agents: (n % 11 == 3).then(|| vec!["codex".into()]),
        reserve: [0.0, 0.3, 1.0][n % 29 % 3 * usize::from(n % 29 < 3)],
        fallback_only: n % 13 == 4,
        last_used_at: (n % 3 == 1).then_some(Wall(START.wall.0 - 1_000 * n as u64)),
        ..AccountRecord::new(AccountId::from_bits(n as u64), "p", kind, Wall(1))
    }
}

fn ask_of(n: u16, what: u8) -> LeaseRequest {
    let bit = |bit: u8| what >> bit & 1 == 1;
    let family = if bit(0) { "f" } else { "g" };
    let mut ask = LeaseRequest::new("p", family, ConnectionId(u64::from(n % 4)));
    ask.target.model = bit(1).then(|| "m1".into());
    ask.agent = bit(2).then(|| "codex".into());
    ask.holder = Holder { process: bit(3).then_some(Process { pid: u32::from(n % 9), start: 1 }), ..Holder::default() };
    ask.session = (bit(4) && bit(5)).then(|| format!("s{}", n % 50).into());
    ask.set.directory = (bit(5) && !bit(4)).then(|| "/d/e".into());
    ask.set.only = (bit(6) && bit(7)).then(|| (0..40).map(|k| AccountId::from_bits(k * 5)).collect());
    ask.exclusive = bit(6) && bit(5) && bit(0);
    ask.exclude = (0..u64::from(n % 5) * u64::from(bit(7))).map(AccountId::from_bits).collect();
    ask.wait = Some(Duration::ZERO);
    ask
}

fn usage_of(now: Now, what: u8, later: u32) -> Usage {
    let window = |name: &str, key: &str, used: u8| Window {
        name: name.into(),
        utilization: f64::from(used % 8) / 7.0,
        resets_at: Some(Wall(now.wall.0 + u64::from(later) * 7)).filter(|_| used > 2),
        as_of: now.wall,
        key: key.into(),
    };
    let windows = [window("7d", "", what), window("5h", "f", what >> 3), window("7d", "f:m*", what >> 5)];
    windows[..what as usize % 4].to_vec().into()
}

fn command_of(now: Now, (later, kind, n, what): Step, id: AccountId, held: &mut Vec<Fence>) -> Command {
    let fence = |held: &mut Vec<Fence>| {
        if held.is_empty() { Fence(u64::MAX) } else { held.swap_remove(n as usize % held.len()) }
    };
    let outcome = match what % 4 {
        0 => RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::ServerError, None))),
        1 => {
            let wait = Some(Duration::from_secs(u64::from(n)));
            RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::RateLimitExceeded, wait)))
        }
        _ => RequestOutcome::Ok,
    };
    match kind % 16 {
        0..=3 => Command::Acquire(Box::new(ask_of(n, what))),
        4..=7 => Command::Release(fence(held)),
        8 | 9 if !held.is_empty() => Command::Report { fence: held[n as usize % held.len()], outcome },
        10 => {
            let (scope, key) = [(Scope::Account, ""), (Scope::Pool, "f"), (Scope::Model, "f:m1")][what as usize % 3];
            let until = if what % 2 == 0 { Mono(now.mono.0 + u64::from(later)) } else { Mono(now.mono.0 + 999_999) };
            Command::SetLimit(id, Limit::new(scope, key, Reason::Unknown, Deadline::Mono(until), LimitSource::Table))
        }
        11 | 12 => Command::SetUsage(id, usage_of(now, what, later)),
        13 => {
            let enabled = Some((what % 4 != 0, None));
            let change = AccountChange { enabled, priority: Some(i32::from(what % 3)), ..AccountChange::default() };
            Command::ChangeAccount(id, Box::new(change))
        }
        14 if what < 16 => Command::RemoveAccount(id),
        14 => Command::ClearLimits(id),
        15 if !held.is_empty() => {
            let (fence, target) = (held[n as usize % held.len()], ask_of(n, what).target);
            let need = RequestNeeds { target, exclude: vec![], attested: Attestation::default() };
            Command::Serve { fence, need: Box::new(need) }
        }
        _ => Command::Tick,
    }
}

/// Carries out the steps. `often` says that the index is checked after each of them.
fn carry_out(accounts: usize, settings: PoolSettings, steps: &[Step], often: bool) {
    let mut pool = Pool::new(settings);
    let mut now = START;
    for n in 0..accounts {
        pool.handle(now, Command::AddAccount(Box::new(record_of(n))), &mut Vec::new()).unwrap();
    }
    let mut held = Vec::new();
    for step @ (later, kind, n, what) in steps.iter().copied() {
        now = Now { mono: Mono(now.mono.0 + u64::from(later)), wall: Wall(now.wall.0 + u64::from(later)) };
        if kind == 255 {
            // the time of day is set, back or ahead
            now.wall = Wall(now.wall.0 + u64::from(what) * 1_000 - 100_000);
        }
        let id = AccountId::from_bits(u64::from(n) % accounts as u64);
        let reply = pool.handle(now, command_of(now, step, id, &mut held), &mut Vec::new());
        if let Ok(Reply::Held(fence)) = reply {
            held.push(fence);
        }
        if often {
            pool.check(now).unwrap();
        }
    }
    pool.check(now).unwrap();
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let later = prop_oneof![4 => 0..3u32, 4 => 0..3_000u32, 2 => 0..100_000u32, 1 => 0..5_000_000u32];
    vec((later, any::<u8>(), any::<u16>(), any::<u8>()), 1..most)
}

proptest! {
    #![proptest_config(crate::config(96))]

    #[test]
    fn the_index_chooses_like_the_scan(
        accounts in prop_oneof![2..7usize, 2..60usize], strategy in 0..6u8, bits in any::<u8>(), steps in steps(150)
    ) {
        carry_out(accounts, settings_of(strategy, bits), &steps, true);
    }
}

proptest! {
    #![proptest_config(crate::config(8))]

    #[test]
    fn the_index_chooses_like_the_scan_among_thousands(
        strategy in 0..6u8, bits in any::<u8>(), steps in steps(600)
    ) {
        carry_out(3_000, settings_of(strategy, bits), &steps, false);
    }
}
