//! Acquire and release in the pool alone, without a socket or a disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::{
    AccountId, AccountRecord, AccountSet, Bind, Command, ConnectionId, CredentialKind, Holder, LeaseRequest, Mono, Now,
    Overflow, Pool, PoolSettings, Reply, Strategy, Target, Tier, Wall,
};

const CONNECTION: ConnectionId = ConnectionId(1);

/// A pool with this many accounts.
///
/// # Panics
/// When the pool refuses an account.
#[must_use]
pub fn filled_pool(accounts: usize, strategy: Strategy, overflow: Overflow) -> Pool {
    let mut settings = PoolSettings::default();
    settings.selection.strategy = strategy;
    settings.leases.overflow = overflow;
    let mut pool = Pool::new(settings);
    for n in 0..accounts {
        let id = AccountId::from_bits(n as u64);
        let record = AccountRecord {
            email: Some(format!("user{n}@example.org")),
            tier: Tier::Pro,
            allowed_agents: Some(vec!["claude".into()]),
            ..AccountRecord::new(id, "anthropic", CredentialKind::Oauth, Wall(0))
        };
        let added = pool.handle(now(0), Command::AddAccount(Box::new(record)), &mut Vec::new());
        assert!(added.is_ok(), "each account is new");
    }
    pool
}

/// The time of a step.
#[must_use]
pub fn now(step: u64) -> Now {
    Now { mono: Mono(1_000_000 + step / 100), wall: Wall(1_800_000_000_000 + step / 100) }
}

/// A request of the one connection.
#[must_use]
pub fn ask(target: &Target, session: Option<&str>) -> LeaseRequest {
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
        set: AccountSet::default(),
        priority: 0,
        wait: None,
        exclusive: false,
        request_id: None,
        subagent: None,
    }
}

/// A target of Claude models.
#[must_use]
pub fn target(model: Option<&str>) -> Target {
    Target {
        provider: Arc::from("anthropic"),
        family: Arc::from("claude"),
        key: Arc::from("claude"),
        pool: None,
        model: model.map(Into::into),
        names: None,
    }
}

/// The nanoseconds of one acquire and release, measured until `most` have passed.
///
/// # Panics
/// When no account is free.
pub fn cycle(pool: &mut Pool, session: Option<&str>, most: Duration) -> f64 {
    let target = target(Some("claude-sonnet-4-5"));
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
            let released = pool.handle(at, Command::Release(fence), &mut effects);
            assert!(released.is_ok(), "the lease is held");
            effects.clear();
        }
        let taken = started.elapsed();
        if taken >= most {
            return taken.as_nanos() as f64 / cycles as f64;
        }
    }
}

/// The best of five rounds, so that other load on the machine counts little.
pub fn best(pool: &mut Pool, session: Option<&str>) -> f64 {
    cycle(pool, session, Duration::from_millis(20));
    (0..5).map(|_| cycle(pool, session, Duration::from_millis(40))).fold(f64::INFINITY, f64::min)
}
