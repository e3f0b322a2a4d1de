//! What can happen, in indices: the harness resolves them against what exists, so that every sequence is valid.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Who asks, and for what.
#[derive(Clone, Debug, Default)]
pub struct AskOp {
    pub provider: u8,
    pub key: u8,
    pub model: Option<u8>,
    pub connection: u8,
    /// 0: connection, 1: process, 2: ttl.
    pub bind: u8,
    pub process: Option<u8>,
    pub ttl_s: Option<u16>,
    pub session: Option<u8>,
    pub agent: Option<u8>,
    pub pin: Option<(u8, u8)>,
    pub exclude: Vec<u8>,
    pub only: Option<Vec<u8>>,
    pub directory: Option<u8>,
    pub priority: i8,
    pub wait_s: Option<u16>,
    pub exclusive: bool,
    pub request: Option<u8>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Op {
    Acquire(Box<AskOp>),
    Cancel(u8),
    Renew(u8),
    Release(u8),
    /// Renewal, release or report (by the second number) with a fence that has ended or never was.
    Stale(u8, u8),
    Resume {
        lease: u8,
        connection: u8,
        forged: bool,
    },
    ReportOk(u8),
    /// The user moves a lease: at once, at its holder's next call, or its session only.
    Move {
        lease: u8,
        to: Option<u8>,
        when: u8,
    },
    Report {
        lease: u8,
        reason: u8,
        scope: u8,
        wait_s: Option<u32>,
    },
    ConnectionClosed(u8),
    ProcessEnded(u8),
    Add {
        id: u8,
        provider: u8,
        capacity: u8,
        allowed_agents: u8,
        tier: u8,
        priority: i8,
    },
    Remove(u8),
    Change {
        account: u8,
        what: u8,
    },
    Limit {
        account: u8,
        scope: u8,
        key: u8,
        secs: i32,
        wall: bool,
    },
    Clear(u8),
    Usage {
        account: u8,
        key: u8,
        used: u8,
        resets_s: u16,
    },
    Configure(u8, u8, u8, u8, u8, u8),
    Drain,
    Time {
        ms: u32,
    },
    Jump {
        secs: i32,
    },
    Wakeup,
    Crash {
        grace: bool,
        reboot_s: u8,
    },
}

fn ask() -> impl Strategy<Value = AskOp> {
    let who = (0..2u8, 0..2u8, option::weighted(0.4, 0..2u8), 0..4u8, 0..3u8, option::of(0..3u8));
    let how = (
        option::weighted(0.3, 1..120u16),
        option::weighted(0.4, 0..3u8),
        option::of(0..2u8),
        option::weighted(0.15, (0..8u8, 0..4u8)),
        prop_oneof![4 => Just(vec![]), 1 => vec(0..8u8, 1..4)],
        prop_oneof![4 => Just(0i8), 1 => -1..=1i8],
        prop_oneof![3 => Just(Some(0u16)), 2 => Just(None), 4 => (1..90u16).prop_map(Some)],
        prop::bool::weighted(0.12),
        option::weighted(0.2, 0..3u8),
        option::weighted(0.15, vec(0..8u8, 1..4)),
        option::weighted(0.3, 0..4u8),
    );
    (who, how).prop_map(|((provider, key, model, connection, bind, process), how)| {
        let (ttl_s, session, agent, pin, exclude, priority, wait_s, exclusive, request, only, directory) = how;
        AskOp {
            provider,
            key,
            model,
            connection,
            bind,
            process,
            ttl_s,
            session,
            agent,
            pin,
            exclude,
            only,
            directory,
            priority,
            wait_s,
            exclusive,
            request,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..16u8;
    let secs = || prop_oneof![6 => 1..100i32, 3 => 100..7_000i32, 1 => 2_700_000..2_900_000i32, 1 => -5..1i32];
    let add = (0..8u8, 0..2u8, 0..3u8, 0..5u8, 0..4u8, -1..=1i8);
    prop_oneof![
        24 => ask().prop_map(|ask| Op::Acquire(Box::new(ask))),
        1 => n().prop_map(Op::Cancel),
        2 => n().prop_map(Op::Renew),
        8 => n().prop_map(Op::Release),
        1 => (n(), 0..3u8).prop_map(|(fence, what)| Op::Stale(fence, what)),
        4 => (n(), 0..4u8, prop::bool::weighted(0.1))
            .prop_map(|(lease, connection, forged)| Op::Resume { lease, connection, forged }),
        4 => n().prop_map(Op::ReportOk),
        4 => (n(), option::weighted(0.6, 0..8u8), 0..3u8).prop_map(|(lease, to, when)| Op::Move { lease, to, when }),
        5 => (n(), 0..10u8, 0..8u8, option::weighted(0.5, prop_oneof![8 => 0..100u32, 1 => 2_764_000..3_000_000u32]))
            .prop_map(|(lease, reason, scope, wait_s)| Op::Report { lease, reason, scope, wait_s }),
        3 => (0..4u8).prop_map(Op::ConnectionClosed),
        1 => (0..3u8).prop_map(Op::ProcessEnded),
        2 => add.prop_map(|(id, provider, capacity, allowed_agents, tier, priority)| Op::Add {
            id, provider, capacity, allowed_agents, tier, priority
        }),
        1 => (0..8u8).prop_map(Op::Remove),
        3 => (0..8u8, 0..14u8).prop_map(|(account, what)| Op::Change { account, what }),
        3 => (0..8u8, 0..3u8, 0..3u8, secs(), any::<bool>())
            .prop_map(|(account, scope, key, secs, wall)| Op::Limit { account, scope, key, secs, wall }),
        1 => (0..8u8).prop_map(Op::Clear),
        2 => (0..8u8, 0..4u8, 0..12u8, 0..300u16)
            .prop_map(|(account, key, used, resets_s)| Op::Usage { account, key, used, resets_s }),
        2 => (0..3u8, 0..3u8, 0..5u8, any::<u8>(), 0..9u8, 0..4u8)
            .prop_map(|(a, b, c, d, e, f)| Op::Configure(a, b, c, d, e, f)),
        8 => prop_oneof![3 => 1..3_000u32, 3 => 1_000..60_000u32, 1 => 60_000..7_300_000u32]
            .prop_map(|ms| Op::Time { ms }),
        2 => prop_oneof![2 => -100..100i32, 1 => -4_000_000..4_000_000i32].prop_map(|secs| Op::Jump { secs }),
        6 => Just(Op::Wakeup),
        2 => (any::<bool>(), 0..3u8).prop_map(|(grace, reboot_s)| Op::Crash { grace, reboot_s }),
    ]
}

/// A whole life: some accounts, then anything, sometimes a drain near the end.
pub fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let add = (0..2u8, 0..3u8, 0..5u8, 0..4u8, -1..=1i8);
    let tail = prop_oneof![3 => Just(vec![]), 1 => vec(op(), 0..6)];
    (vec(add, 1..=6), vec(op(), 1..most), tail).prop_map(|(accounts, ops, tail)| {
        let mut all: Vec<Op> = Vec::new();
        for (id, (provider, capacity, allowed_agents, tier, priority)) in accounts.into_iter().enumerate() {
            all.push(Op::Add { id: id as u8, provider, capacity, allowed_agents, tier, priority });
        }
        all.extend(ops);
        if !tail.is_empty() {
            all.push(Op::Drain);
            all.extend(tail);
        }
        all
    })
}
