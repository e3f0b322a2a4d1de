//! Where sub-agents run: with their parent, or where the load is least; and that they take no room from other agents.

use lessor::limits::Reason;
use lessor::pool::{
    ApartFromParent, ChosenBy, Criterion, Fence, InFlight, LeaseRequest, Overflow, RefusalKind, Subagent,
    SubagentPlacement, TurnTicket,
};

use crate::fixture::{Fixture, ask, id, in_session, secs};

/// A sub-agent of the agent on this account.
fn subagent(n: u64, parent: char, apart: Option<ApartFromParent>) -> LeaseRequest {
    let subagent = Subagent { id: format!("agent-{n}").into(), parent: Some(id(parent)), apart };
    LeaseRequest { subagent: Some(Box::new(subagent)), ..in_session(&format!("run/agent-{n}")) }
}

fn spread(n: u64) -> LeaseRequest {
    subagent(n, 'a', Some(ApartFromParent::Setting))
}

/// How many leases of sub-agents each account has.
fn counts(fixture: &Fixture) -> String {
    let count = |account: &lessor::pool::Account| account.subagents().to_string();
    fixture.pool.accounts().iter().map(count).collect::<Vec<_>>().join(" ")
}

fn under_way(settings: &lessor::pool::LeaseSettings, requests: u64) -> (InFlight, Fixture) {
    let fixture = Fixture::new("ab", |_| {});
    let mut in_flight = InFlight::new(settings);
    for ticket in 0..requests {
        assert!(in_flight.begin(TurnTicket { ticket, key: None }, id('a'), fixture.now.mono).0);
    }
    (in_flight, fixture)
}

#[test]
fn fifty_sub_agents_are_spread_over_all_accounts_whatever_the_strategy() {
    use lessor::pool::Strategy::{DrainSoonest, Hybrid, LeastUsed, RoundRobin, Sticky};
    for strategy in [Sticky, RoundRobin, Hybrid, LeastUsed, DrainSoonest] {
        let mut fixture = Fixture::new("abcde", |settings| settings.selection.strategy = strategy);
        assert_eq!(fixture.take(LeaseRequest { account: Some("a".into()), ..ask(0) }), 'a');
        for n in 0..49 {
            fixture.hold(spread(n));
        }
        assert_eq!(counts(&fixture), "9 10 10 10 10", "{strategy:?}: the parent counts as well");
    }
}

#[test]
fn a_sub_agent_gets_its_parent_s_account_or_the_one_with_the_least_load() {
    let mut fixture = Fixture::new("abc", |_| {});
    let parent = fixture.hold(LeaseRequest { account: Some("b".into()), ..ask(0) });
    assert_eq!(fixture.on(parent), 'b');
    let beside = fixture.hold(subagent(1, 'b', None));
    let explained = fixture.pool.explain_lease(fixture.now, beside).unwrap();
    assert_eq!((fixture.on(beside), explained.by), ('b', ChosenBy::Parent));
    // where the parent's account cannot serve, another one does
    fixture.block('b', secs(60));
    let elsewhere = fixture.hold(subagent(2, 'b', None));
    let explained = fixture.pool.explain_lease(fixture.now, elsewhere).unwrap();
    assert_eq!(explained.by, ChosenBy::Strategy);
    let next = fixture.hold(subagent(3, 'b', Some(ApartFromParent::Setting)));
    assert_ne!(fixture.on(next), fixture.on(elsewhere));
    assert_eq!(counts(&fixture), "1 1 1");
}

#[test]
fn a_sub_agent_stays_where_its_conversation_is() {
    let mut fixture = Fixture::new("abc", |_| {});
    let first = fixture.hold(spread(1));
    let on = fixture.on(first);
    fixture.release(first);
    for n in 2..5 {
        fixture.hold(spread(n));
    }
    assert_eq!(fixture.take(subagent(1, if on == 'a' { 'b' } else { 'a' }, None)), on, "its session comes first");
}

#[test]
fn parallel_agents_keep_accounts_of_their_own_beside_sub_agents() {
    for overflow in [Overflow::Share, Overflow::Wait, Overflow::Fail] {
        let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = overflow);
        let first = fixture.take(ask(0));
        for n in 0..9 {
            fixture.hold(subagent(n, first, Some(ApartFromParent::Setting)));
        }
        let (second, third) = (fixture.take(ask(1)), fixture.take(ask(2)));
        assert!(first != second && second != third && first != third, "{overflow:?}");
    }
}

#[test]
fn an_agent_gets_the_account_with_the_fewest_sub_agents_among_the_free_ones() {
    let mut fixture = Fixture::new("abc", |_| {});
    fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    for (n, exclude) in [(0, vec![id('a'), id('c')]), (1, vec![id('a'), id('c')]), (2, vec![id('a'), id('b')])] {
        fixture.hold(LeaseRequest { exclude, ..spread(n) });
    }
    assert_eq!(counts(&fixture), "0 2 1");
    let held = fixture.hold(ask(1));
    assert_eq!(fixture.on(held), 'c');
    let comparison = fixture.pool.explain_lease(fixture.now, held).unwrap().comparison.unwrap();
    assert_eq!(comparison.by, Some(Criterion::Subagents([(0, 1), (0, 2)])));
}

#[test]
fn where_accounts_are_not_shared_a_sub_agent_leaves_those_of_other_agents_alone() {
    let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
    fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    let other = fixture.hold(LeaseRequest { account: Some("b".into()), ..ask(1) });
    // c is free, and a is its parent's
    assert_eq!(fixture.take(spread(0)), 'c');
    (1..3).for_each(|n| _ = fixture.hold(spread(n)));
    assert_eq!(counts(&fixture), "1 0 2");
    let last = fixture.hold(LeaseRequest { account: Some("c".into()), ..ask(2) });
    assert_eq!(fixture.take(spread(3)), 'a', "with its parent, when no other account is left");
    fixture.release(last);
    fixture.release(other);
    assert_eq!(fixture.take(spread(4)), 'b');
}

/// All accounts are alike, so that the parent's is not chosen for another reason.
#[test]
fn of_full_accounts_only_the_parent_s_takes_a_sub_agent() {
    for parent in "abc".chars() {
        let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
        for (n, account) in (0..).zip("abc".chars()) {
            fixture.hold(LeaseRequest { account: Some(account.to_string().into()), ..ask(n) });
        }
        let placed = fixture.hold(subagent(1, parent, Some(ApartFromParent::Setting)));
        assert_eq!(fixture.on(placed), parent);
    }
}

#[test]
fn a_limit_of_a_sub_agent_moves_its_lease_and_not_its_parent_s() {
    let mut fixture = Fixture::new("ab", |_| {});
    let parent = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    let beside: Fence = fixture.hold(subagent(1, 'a', None));
    let moved = fixture.report(beside, Reason::RateLimitExceeded, Some(secs(30))).lease.unwrap();
    assert_eq!((fixture.on(moved), fixture.on(parent)), ('b', 'a'));
    let lease = fixture.pool.lease(moved).unwrap();
    let subagent = lease.subagent.as_ref().unwrap();
    assert_eq!((&*subagent.id, subagent.apart), ("agent-1", Some(ApartFromParent::Moved)));
    assert_eq!(counts(&fixture), "0 1");
}

#[test]
fn an_exclusive_lease_is_alone_and_a_sub_agent_counts() {
    let mut fixture = Fixture::new("ab", |_| {});
    let alone = fixture.hold(LeaseRequest { account: Some("a".into()), exclusive: true, ..ask(0) });
    let held = fixture.hold(subagent(1, 'a', None));
    assert_eq!(fixture.on(held), 'b', "not even beside its parent");
    assert_eq!(fixture.refused(LeaseRequest { exclusive: true, ..ask(1) }), RefusalKind::NoCapacity);
    fixture.release(held);
    fixture.hold(LeaseRequest { exclusive: true, ..ask(1) });
    fixture.release(alone);
}

#[test]
fn an_idle_sub_agent_s_lease_ends_and_none_is_stored() {
    let mut fixture = Fixture::new("ab", |_| {});
    let timed = |n| LeaseRequest { ttl: Some(secs(300)), bind: lessor::pool::Bind::Ttl, ..spread(n) };
    let held = fixture.hold(timed(1));
    assert!(!fixture.pool.lease(held).unwrap().is_durable());
    fixture.pass(secs(299));
    fixture.run(lessor::pool::Command::ExtendLease(held)).unwrap();
    fixture.pass(secs(299));
    assert!(fixture.pool.lease(held).is_some());
    fixture.pass(secs(2));
    assert!(fixture.pool.lease(held).is_none());
    fixture.hold(timed(2));
    fixture.restart(false);
    assert_eq!(counts(&fixture), "0 0");
}

#[test]
fn a_new_sub_agent_is_with_its_parent_while_there_is_room_for_its_cache() {
    use SubagentPlacement::{Auto, Spread, WithParent};
    let capped = |cap| lessor::pool::LeaseSettings { max_in_flight: cap, ..lessor::pool::LeaseSettings::default() };
    let target = ask(0).target;
    for (placement, cap, requests, expected) in [
        (WithParent, 1, 1, None),
        (Spread, 0, 0, Some(ApartFromParent::Setting)),
        (Auto, 0, 0, None),
        (Auto, 0, 3, None),
        (Auto, 0, 4, Some(ApartFromParent::InFlight)),
        (Auto, 2, 1, None),
        (Auto, 2, 2, Some(ApartFromParent::InFlight)),
    ] {
        let (in_flight, mut fixture) = under_way(&capped(cap), requests);
        fixture.configure(|settings| settings.selection.subagents = placement);
        let apart = fixture.pool.apart_from_parent(fixture.now, id('a'), &target, &in_flight);
        assert_eq!(apart, expected, "{placement:?} with {requests} of {cap}");
    }
    let (in_flight, mut fixture) = under_way(&capped(0), 0);
    let apart = |fixture: &Fixture| fixture.pool.apart_from_parent(fixture.now, id('a'), &target, &in_flight);
    for n in 0..4 {
        assert_eq!(apart(&fixture), None);
        fixture.hold(subagent(n, 'a', None));
    }
    assert_eq!(apart(&fixture), Some(ApartFromParent::Subagents));
    fixture.used('a', 0.95);
    assert_eq!(apart(&fixture), Some(ApartFromParent::SoftThreshold));
    fixture.block('a', secs(10));
    assert_eq!(apart(&fixture), Some(ApartFromParent::Limit));
    fixture.pass(secs(11));
    assert_eq!(apart(&fixture), Some(ApartFromParent::Limit), "it has ended just now");
    fixture.used('a', 0.1);
    fixture.pass(secs(10));
    assert_eq!(apart(&fixture), Some(ApartFromParent::Subagents));
}
