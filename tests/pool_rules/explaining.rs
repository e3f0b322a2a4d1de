//! What the pool says of itself: what could be had, why an account was chosen and the others were not.

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountChange, AccountRecord, ChosenBy, Command, Ineligible, LeaseRequest, LoginProblem, LoginState, Overflow,
    Protect, RefusalDetails, RefusalKind, SelectionResult, Strategy,
};

use crate::fixture::{Fixture, ask, id, in_session, record, secs, target};

fn forecast(fixture: &Fixture, count: Option<u32>) -> (u32, u32, Option<u64>) {
    let forecast = fixture.pool.forecast(fixture.now, &ask(0), count);
    (forecast.grantable, forecast.unshared, forecast.next_at.map(|at| at.since(fixture.now.wall).as_secs()))
}

/// What is forecast is granted, and not one more.
#[test]
fn the_forecast_matches_what_is_granted() {
    for overflow in [Overflow::Share, Overflow::Wait, Overflow::Fail] {
        let mut fixture = Fixture::new("abcd", |settings| {
            settings.leases.overflow = overflow;
            settings.leases.max_per_account = 3;
        });
        fixture.block('a', secs(50));
        fixture.block('b', secs(600));
        fixture.hold(LeaseRequest { account: Some("c".into()), exclusive: true, ..ask(0) });
        let (grantable, unshared, next_at) = forecast(&fixture, None);
        assert_eq!((unshared, next_at), (1, Some(50)), "{overflow:?}");
        assert_eq!(grantable, if overflow == Overflow::Share { 3 } else { 1 });
        for n in 0..grantable {
            fixture.hold(ask(1 + u64::from(n)));
        }
        assert!(fixture.acquire(ask(99)).is_err());
        assert_eq!(forecast(&fixture, None).0, 0);
        fixture.pass(secs(600));
        // `b` was limited for long: one goes first
        let (grantable, ..) = forecast(&fixture, None);
        for n in 0..grantable {
            fixture.hold(ask(50 + u64::from(n)));
        }
        assert!(fixture.acquire(ask(99)).is_err());
    }
}

#[test]
fn the_forecast_states_when_that_many_leases_can_be_granted() {
    let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
    fixture.block('a', secs(50));
    fixture.block('b', secs(90));
    fixture.hold(LeaseRequest { ttl: Some(secs(70)), ..ask(0) });
    assert_eq!(forecast(&fixture, None), (0, 0, Some(50)));
    assert_eq!(forecast(&fixture, Some(2)), (0, 0, Some(70)), "when the lease on c expires");
    assert_eq!(forecast(&fixture, Some(3)), (0, 0, Some(90)));
    assert_eq!(forecast(&fixture, Some(4)), (0, 0, None), "there are only three");
    let whys: Vec<Option<Ineligible>> =
        fixture.pool.forecast(fixture.now, &ask(0), None).accounts.iter().map(|one| one.why).collect();
    assert_eq!(whys, [Some(Ineligible::Limited), Some(Ineligible::Limited), Some(Ineligible::Busy)]);
    fixture.restart(true);
    assert_eq!(forecast(&fixture, None), (0, 0, Some(2)), "holders come back first");
}

#[test]
fn the_forecast_checks_the_agent_only_where_one_is_named() {
    let mut fixture = Fixture::new("", |_| {});
    fixture.add(AccountRecord { allowed_agents: Some(vec!["claude".into()]), max_leases: Some(1), ..record('a') });
    for (agent, unshared) in [(None, 1), (Some("claude"), 1), (Some("codex"), 0)] {
        let ask = LeaseRequest { agent: agent.map(Into::into), ..ask(0) };
        assert_eq!(fixture.pool.forecast(fixture.now, &ask, None).unshared, unshared, "{agent:?}");
    }
    let elsewhere = lessor::pool::Target { provider: "x".into(), ..target("k", None) };
    let unnamed = fixture.pool.forecast(fixture.now, &LeaseRequest { target: elsewhere, ..ask(0) }, None);
    assert_eq!((unnamed.grantable, unnamed.accounts.len()), (0, 0));
}

#[test]
fn an_explanation_states_the_reason_for_every_account() {
    let mut fixture = Fixture::new("abcdefg", |settings| {
        settings.quota.protect = vec![Protect { models: vec!["opus".into()], below: 0.2 }];
        settings.selection.strategy = Strategy::LeastUsed;
        settings.leases.overflow = Overflow::Wait;
    });
    fixture.used('a', 0.4);
    fixture.used('b', 0.2);
    fixture.used('c', 0.85);
    let held = fixture.hold(LeaseRequest { account: Some("d".into()), ..ask(0) });
    let finding = RefusalDetails {
        evidence: Some("retry-after: 40".into()),
        scope: Some(Scope::Pool),
        ..RefusalDetails::reported(Reason::RateLimitExceeded, Some(secs(40)))
    };
    fixture.found(held, finding);
    fixture.release(held);
    let login_state = Some(LoginState::NeedsLogin(LoginProblem::RejectedByProvider { link: None }));
    let change = AccountChange { login_state, ..AccountChange::default() };
    fixture.run(Command::ChangeAccount(id('e'), Box::new(change))).unwrap();
    fixture.hold(LeaseRequest { account: Some("f".into()), ..ask(1) });
    let wanted = LeaseRequest { target: target("k", Some("opus")), exclude: vec![id('g')], ..ask(2) };
    let explained = fixture.pool.explain(fixture.now, &wanted);
    assert_eq!(explained.verdict, SelectionResult::Grant(id('b'), ChosenBy::Strategy));
    let letter = |id: lessor::pool::AccountId| char::from_u32((id.bits() & 0xff) as u32).unwrap();
    let told: Vec<_> = explained
        .candidates
        .iter()
        .map(|one| (letter(one.account), one.rank, one.exclusion.as_ref().map(|exclusion| exclusion.why)))
        .collect();
    assert_eq!(
        told,
        [
            ('b', Some(1), None),
            ('a', Some(2), None),
            ('c', None, Some(Ineligible::Reserved)),
            ('d', None, Some(Ineligible::Limited)),
            ('e', None, Some(Ineligible::NeedsLogin)),
            ('f', None, Some(Ineligible::Busy)),
            ('g', None, Some(Ineligible::Excluded)),
        ]
    );
    let excluded = |at: usize| explained.candidates[at].exclusion.as_ref().unwrap();
    assert_eq!(excluded(2).note.as_deref(), Some("15 % is left, 20 % is reserved"));
    assert_eq!(excluded(3).limits[0].evidence.as_deref(), Some("retry-after: 40"));
    assert_eq!(excluded(3).until, Some(fixture.now.wall.after(secs(40))));
    assert_eq!((explained.candidates[1].weekly, explained.candidates[1].short), (Some(0.4), None));
    // and what is explained is what happens
    assert_eq!(fixture.peek(wanted), 'b');
}

/// For every strategy: the first is taken, and once it is gone, the second.
#[test]
fn accounts_are_taken_in_the_explained_order() {
    for strategy in
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
    {
        let mut fixture = Fixture::new("abcde", |settings| settings.selection.strategy = strategy);
        for (letter, used) in [('a', 0.3), ('b', 0.95), ('d', 0.1)] {
            fixture.used(letter, used);
        }
        for n in 0..3 {
            fixture.pass(secs(60));
            fixture.peek(ask(n));
        }
        let explained = fixture.pool.explain(fixture.now, &ask(0));
        let ranks: Vec<_> = explained.candidates.iter().map(|one| one.rank).collect();
        assert_eq!(ranks, [1, 2, 3, 4, 5].map(Some));
        assert!(explained.candidates.iter().any(|one| one.current));
        assert_eq!(explained.candidates[4].account, id('b'), "beyond the threshold: last");
        let first = explained.candidates[0].account;
        assert_eq!(id(fixture.peek(ask(0))), first, "{strategy:?}");
    }
}

#[test]
fn a_refused_request_is_kept_with_the_reason_for_each_account() {
    let mut fixture = Fixture::new("ab", |_| {});
    fixture.block('a', secs(50));
    let change = AccountChange { enabled: Some((false, Some("on holiday".into()))), ..AccountChange::default() };
    fixture.run(Command::ChangeAccount(id('b'), Box::new(change))).unwrap();
    for _ in 0..40 {
        assert_eq!(fixture.refused(ask(0)), RefusalKind::AllLimited);
    }
    assert_eq!(fixture.pool.refusals().count(), 32);
    let last = fixture.pool.refusals().next_back().unwrap();
    let whys: Vec<Ineligible> = last.refusal.accounts.iter().map(|obstacle| obstacle.why).collect();
    assert_eq!((last.at, whys), (fixture.now.wall, vec![Ineligible::Limited, Ineligible::Disabled]));
    let explained = fixture.pool.explain(fixture.now, &last.ask);
    assert_eq!(
        explained.verdict,
        SelectionResult::Wait(RefusalKind::AllLimited, Some(fixture.now.wall.after(secs(50))))
    );
    assert_eq!(explained.candidates[1].exclusion.as_ref().unwrap().note.as_deref(), Some("on holiday"));
}

#[test]
fn a_lease_states_why_its_account_was_chosen() {
    let mut fixture = Fixture::new("abc", |settings| settings.selection.preferred_account = Some("c".into()));
    let by = |fixture: &Fixture, fence| fixture.pool.explain_lease(fixture.now, fence).unwrap().by;
    let preferred = fixture.hold(ask(0));
    let ordered = fixture.hold(in_session("s"));
    let named = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(2) });
    let bound = fixture.hold(in_session("s"));
    assert_eq!(
        [preferred, ordered, named, bound].map(|fence| by(&fixture, fence)),
        [ChosenBy::Preferred, ChosenBy::Strategy, ChosenBy::Account, ChosenBy::Session]
    );
    assert_eq!(fixture.pool.last_granted(), Some(bound));
    fixture.release(preferred);
    let again = fixture.hold(ask(3));
    let moved = fixture.report(again, Reason::RateLimitExceeded, None).lease.unwrap();
    let decided = fixture.pool.explain_lease(fixture.now, moved).unwrap();
    assert_eq!(decided.moved_from, Some((id('c'), Reason::RateLimitExceeded)));
    fixture.release(moved);
    assert_eq!(fixture.pool.explain_lease(fixture.now, moved), None);
}

#[test]
fn an_explanation_names_the_account_over_which_and_the_criterion_with_both_values() {
    use lessor::pool::{ChosenBy, Comparison, Criterion};
    // one lease on a: b is chosen for its load
    let mut fixture = Fixture::new("ab", |settings| settings.leases.max_per_account = 4);
    let first = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    let named = fixture.pool.explain_lease(fixture.now, first).unwrap().comparison.unwrap();
    assert_eq!((named.over, named.by), (Some(id('b')), None), "the request named its account");
    let second = fixture.hold(ask(1));
    let decided = fixture.pool.explain_lease(fixture.now, second).unwrap();
    assert_eq!((decided.account, decided.by), (id('b'), ChosenBy::Strategy));
    let leases = Comparison { over: Some(id('a')), by: Some(Criterion::Leases([(0, 1), (1, 1)])), passed: None };
    assert_eq!(decided.comparison, Some(leases), "as it was when it was granted, not as it is now");
    fixture.release(second);
    let again = fixture.pool.explain(fixture.now, &ask(1));
    assert_eq!(again.comparison, Some(leases));
    // alone
    fixture.block('a', secs(60));
    let alone = fixture.pool.explain(fixture.now, &ask(1)).comparison.unwrap();
    assert_eq!((alone.over, alone.by), (None, None));
}

#[test]
fn a_preferred_account_that_cannot_serve_is_named_with_the_reason_and_the_time() {
    use lessor::pool::{ChosenBy, Ineligible};
    let mut fixture = Fixture::new("ab", |settings| settings.selection.preferred_account = Some("a".into()));
    fixture.block('a', secs(180));
    let held = fixture.hold(ask(0));
    let passed = fixture.pool.explain_lease(fixture.now, held).unwrap().comparison.unwrap().passed.unwrap();
    assert_eq!(
        (passed.account, passed.wanted_by, passed.why),
        (id('a'), ChosenBy::Preferred, Some(Ineligible::Limited))
    );
    assert_eq!(passed.until, Some(fixture.now.wall_of(fixture.now.mono.after(secs(180)))));
}

#[test]
fn each_criterion_of_the_order_can_decide() {
    use lessor::pool::{Criterion, Strategy};
    let decided = |change: &dyn Fn(&mut lessor::pool::PoolSettings), ready: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::new("ab", change);
        ready(&mut fixture);
        let held =
            fixture.hold(LeaseRequest { bind: lessor::pool::Bind::Process(crate::fixture::process(5)), ..ask(0) });
        let lease = fixture.pool.explain_lease(fixture.now, held).unwrap();
        lease.comparison.unwrap().by.unwrap()
    };
    let priority = decided(&|_| {}, &|fixture| {
        let change = AccountChange { priority: Some(5), ..AccountChange::default() };
        fixture.run(Command::ChangeAccount(id('b'), Box::new(change))).unwrap();
    });
    assert_eq!(priority, Criterion::Priority([5, 0]));
    let offset = decided(&|settings| settings.selection.pid_offset = true, &|_| {});
    assert_eq!(offset, Criterion::PidOffset(5));
    let used = decided(&|settings| settings.selection.strategy = Strategy::LeastUsed, &|fixture| {
        fixture.used('a', 0.75);
        fixture.used('b', 0.25);
    });
    assert_eq!(used, Criterion::Weekly([Some(0.25), Some(0.75)]));
    let threshold = decided(&|settings| settings.quota.soft_threshold = 0.9, &|fixture| fixture.used('a', 0.95));
    assert_eq!(threshold, Criterion::SoftThreshold([None, Some(0.95)]));
    let turn = decided(&|settings| settings.selection.strategy = Strategy::RoundRobin, &|_| {});
    assert_eq!(turn, Criterion::Turn);
}
