//! Nanoseconds for one acquire and release of a connection-bound lease, by strategy and number of accounts.
//! `cargo bench --bench pool`

use std::sync::Arc;
use std::time::{Duration, Instant};

use lessor::pool::{
    AccountId, AccountRecord, Bind, Command, ConnectionId, CredentialKind, Holder, LeaseRequest, LoginState, Mono, Now,
    Overflow, Pool, PoolSettings, Reply, Strategy, Target, Tier, Wall,
};

const STRATEGIES: [Strategy; 5] =
    [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];
const CONNECTION: ConnectionId = ConnectionId(1);

fn pool(accounts: usize, strategy: Strategy, overflow: Overflow) -> Pool {
    let mut settings = PoolSettings::default();
    settings.selection.strategy = strategy;
    settings.leases.overflow = overflow;
    let mut pool = Pool::new(settings);
    for n in 0..accounts {
        let record = AccountRecord {
            id: AccountId::from_bits(n as u64),
            provider: "anthropic".into(),
            label: None,
            email: Some(format!("user{n}@example.org")),
            tier: Tier::Pro,
            kind: CredentialKind::Oauth,
            login_state: LoginState::Ready,
            enabled: true,
            disabled_reason: None,
            max_leases: None,
            priority: 0,
            allowed_agents: Some(vec!["claude".into()]),
            project_id: None,
            owner: lessor::pool::AccountOwner::default(),
            created_at: Wall(0),
            last_used_at: None,
        };
        pool.handle(now(0), Command::AddAccount(Box::new(record)), &mut Vec::new()).expect("it is new");
    }
    pool
}

fn now(step: u64) -> Now {
    Now { mono: Mono(1_000_000 + step / 100), wall: Wall(1_800_000_000_000 + step / 100) }
}

fn ask(target: &Target, session: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        target: target.clone(),
        connection: CONNECTION,
        bind: Bind::Connection(CONNECTION),
        // without a process: the reuse window would choose before the strategy
        holder: Holder { process: None, ..Holder::default() },
        ttl: None,
        session: session.map(Into::into),
        label: None,
        agent: Some("claude".into()),
        account: None,
        exclude: vec![],
        priority: 0,
        wait: None,
        exclusive: false,
        request_id: None,
    }
}

/// Cycles of acquire and release, until `most` have passed.
fn cycle(pool: &mut Pool, session: Option<&str>, most: Duration) -> f64 {
    let target = Target {
        provider: Arc::from("anthropic"),
        family: Arc::from("claude"),
        key: Arc::from("claude"),
        pool: None,
        model: Some("claude-sonnet-4-5".into()),
        names: None,
    };
    let mut effects = Vec::new();
    let (started, mut cycles) = (Instant::now(), 0_u64);
    loop {
        for _ in 0..64 {
            cycles += 1;
            let at = now(cycles);
            let Ok(Reply::Held(fence)) =
                pool.handle(at, Command::Acquire(Box::new(ask(&target, session))), &mut effects)
            else {
                panic!("an account is free")
            };
            pool.handle(at, Command::Release(fence), &mut effects).expect("the lease is held");
            effects.clear();
        }
        let taken = started.elapsed();
        if taken >= most {
            return taken.as_nanos() as f64 / cycles as f64;
        }
    }
}

/// The best of five rounds, so that other load on the machine counts little.
fn best(pool: &mut Pool, session: Option<&str>) -> f64 {
    cycle(pool, session, Duration::from_millis(20));
    (0..5).map(|_| cycle(pool, session, Duration::from_millis(40))).fold(f64::INFINITY, f64::min)
}

fn main() {
    let sizes = [10, 100, 1_000, 10_000];
    println!("ns per acquire + release     {}", sizes.map(|n| format!("{n:>9}")).concat());
    for strategy in STRATEGIES {
        let row = sizes.map(|n| format!("{:>9.0}", best(&mut pool(n, strategy, Overflow::Share), None)));
        println!("{:<29}{}", format!("{strategy:?}"), row.concat());
    }
    let row = sizes.map(|n| format!("{:>9.0}", best(&mut pool(n, Strategy::Hybrid, Overflow::Share), Some("s"))));
    println!("{:<29}{}", "Hybrid, with a session", row.concat());
    println!("ns per handover with a queue {}", [8, 64, 512, 4_000].map(|n| format!("{n:>9}")).concat());
    let row = [8, 64, 512, 4_000].map(|n| format!("{:>9.0}", handover(n)));
    println!("{:<29}{}", "10 accounts, n waiting", row.concat());
}

/// A release that serves the first of `waiting` requests, all different, and one more that queues.
fn handover(waiting: usize) -> f64 {
    let mut pool = pool(10, Strategy::Hybrid, Overflow::Wait);
    let target = Target {
        provider: Arc::from("anthropic"),
        family: Arc::from("claude"),
        key: Arc::from("claude"),
        pool: None,
        model: None,
        names: None,
    };
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
