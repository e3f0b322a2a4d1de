//! What the pool says of itself: what could be had, why an account was chosen and the others were not.

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountChange, AccountRecord, ChosenBy, Command, Ineligible, LeaseRequest, LoginProblem, LoginState, Overflow,
    Protect, RefusalDetails, RefusalKind, SelectionResult, Strategy,
};

use crate::desk::{Desk, ask, id, in_session, record, secs, target};

fn forecast(desk: &Desk, count: Option<u32>) -> (u32, u32, Option<u64>) {
    let forecast = desk.pool.forecast(desk.now, &target("k", None), None, count);
    (forecast.grantable, forecast.unshared, forecast.next_at.map(|at| at.since(desk.now.wall).as_secs()))
}

/// What is forecast is granted, and not one more.
#[test]
fn the_forecast_comes_true() {
    for overflow in [Overflow::Share, Overflow::Wait, Overflow::Fail] {
        let mut desk = Desk::new("abcd", |settings| {
            settings.leases.overflow = overflow;
            settings.leases.max_per_account = 3;
        });
        desk.block('a', secs(50));
        desk.block('b', secs(600));
        desk.hold(LeaseRequest { account: Some("c".into()), exclusive: true, ..ask(0) });
        let (grantable, unshared, next_at) = forecast(&desk, None);
        assert_eq!((unshared, next_at), (1, Some(50)), "{overflow:?}");
        assert_eq!(grantable, if overflow == Overflow::Share { 3 } else { 1 });
        for n in 0..grantable {
            desk.hold(ask(1 + u64::from(n)));
        }
        assert!(desk.acquire(ask(99)).is_err());
        assert_eq!(forecast(&desk, None).0, 0);
        desk.pass(secs(600));
        // `b` was limited for long: one goes first
        let (grantable, ..) = forecast(&desk, None);
        for n in 0..grantable {
            desk.hold(ask(50 + u64::from(n)));
        }
        assert!(desk.acquire(ask(99)).is_err());
    }
}

#[test]
fn the_forecast_says_when_so_many_can_be_had() {
    let mut desk = Desk::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
    desk.block('a', secs(50));
    desk.block('b', secs(90));
    desk.hold(LeaseRequest { ttl: Some(secs(70)), ..ask(0) });
    assert_eq!(forecast(&desk, None), (0, 0, Some(50)));
    assert_eq!(forecast(&desk, Some(2)), (0, 0, Some(70)), "when the lease on c expires");
    assert_eq!(forecast(&desk, Some(3)), (0, 0, Some(90)));
    assert_eq!(forecast(&desk, Some(4)), (0, 0, None), "there are only three");
    let whys: Vec<Option<Ineligible>> =
        desk.pool.forecast(desk.now, &target("k", None), None, None).accounts.iter().map(|one| one.why).collect();
    assert_eq!(whys, [Some(Ineligible::Limited), Some(Ineligible::Limited), Some(Ineligible::Busy)]);
    desk.restart(true);
    assert_eq!(forecast(&desk, None), (0, 0, Some(2)), "holders come back first");
}

#[test]
fn the_forecast_asks_for_an_agent_only_where_one_is_named() {
    let mut desk = Desk::new("", |_| {});
    desk.add(AccountRecord { allowed_agents: Some(vec!["claude".into()]), max_leases: Some(1), ..record('a') });
    for (agent, unshared) in [(None, 1), (Some("claude"), 1), (Some("codex"), 0)] {
        assert_eq!(desk.pool.forecast(desk.now, &target("k", None), agent, None).unshared, unshared, "{agent:?}");
    }
    let nobody =
        desk.pool.forecast(desk.now, &lessor::pool::Target { provider: "x".into(), ..target("k", None) }, None, None);
    assert_eq!((nobody.grantable, nobody.accounts.len()), (0, 0));
}

#[test]
fn every_account_is_explained() {
    let mut desk = Desk::new("abcdefg", |settings| {
        settings.quota.protect = vec![Protect { models: vec!["opus".into()], below: 0.2 }];
        settings.selection.strategy = Strategy::LeastUsed;
        settings.leases.overflow = Overflow::Wait;
    });
    desk.used('a', 0.4);
    desk.used('b', 0.2);
    desk.used('c', 0.85);
    let held = desk.hold(LeaseRequest { account: Some("d".into()), ..ask(0) });
    let finding = RefusalDetails {
        evidence: Some("retry-after: 40".into()),
        scope: Some(Scope::Pool),
        ..RefusalDetails::reported(Reason::RateLimitExceeded, Some(secs(40)))
    };
    desk.found(held, finding);
    desk.release(held);
    let problem = LoginProblem::RejectedByProvider { link: None };
    let login_state = Some(LoginState::NeedsLogin(problem));
    let change = AccountChange { login_state, ..AccountChange::default() };
    desk.run(Command::ChangeAccount(id('e'), Box::new(change))).unwrap();
    desk.hold(LeaseRequest { account: Some("f".into()), ..ask(1) });
    let wanted = LeaseRequest { target: target("k", Some("opus")), exclude: vec![id('g')], ..ask(2) };
    let explained = desk.pool.explain(desk.now, &wanted);
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
    assert_eq!(excluded(2).note.as_deref(), Some("15 % are left, 20 % are kept"));
    assert_eq!(excluded(3).limits[0].evidence.as_deref(), Some("retry-after: 40"));
    assert_eq!(excluded(3).until, Some(desk.now.wall.after(secs(40))));
    assert_eq!((explained.candidates[1].weekly, explained.candidates[1].short), (Some(0.4), None));
    // and what is explained is what happens
    assert_eq!(desk.peek(wanted), 'b');
}

/// For every strategy: the first is taken, and once it is gone, the second.
#[test]
fn the_order_that_is_told_is_the_order_in_which_accounts_are_taken() {
    for strategy in
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
    {
        let mut desk = Desk::new("abcde", |settings| settings.selection.strategy = strategy);
        for (letter, used) in [('a', 0.3), ('b', 0.95), ('d', 0.1)] {
            desk.used(letter, used);
        }
        for n in 0..3 {
            desk.pass(secs(60));
            desk.peek(ask(n));
        }
        let explained = desk.pool.explain(desk.now, &ask(0));
        let ranks: Vec<_> = explained.candidates.iter().map(|one| one.rank).collect();
        assert_eq!(ranks, [1, 2, 3, 4, 5].map(Some));
        assert!(explained.candidates.iter().any(|one| one.current));
        assert_eq!(explained.candidates[4].account, id('b'), "beyond the threshold: last");
        let first = explained.candidates[0].account;
        assert_eq!(id(desk.peek(ask(0))), first, "{strategy:?}");
    }
}

#[test]
fn a_refusal_is_remembered_with_what_stood_in_the_way() {
    let mut desk = Desk::new("ab", |_| {});
    desk.block('a', secs(50));
    let change = AccountChange { enabled: Some((false, Some("on holiday".into()))), ..AccountChange::default() };
    desk.run(Command::ChangeAccount(id('b'), Box::new(change))).unwrap();
    for _ in 0..40 {
        assert_eq!(desk.refused(ask(0)), RefusalKind::AllLimited);
    }
    assert_eq!(desk.pool.refusals().count(), 32);
    let last = desk.pool.refusals().next_back().unwrap();
    let whys: Vec<Ineligible> = last.refusal.accounts.iter().map(|obstacle| obstacle.why).collect();
    assert_eq!((last.at, whys), (desk.now.wall, vec![Ineligible::Limited, Ineligible::Disabled]));
    let explained = desk.pool.explain(desk.now, &last.ask);
    assert_eq!(explained.verdict, SelectionResult::Wait(RefusalKind::AllLimited, Some(desk.now.wall.after(secs(50)))));
    assert_eq!(explained.candidates[1].exclusion.as_ref().unwrap().note.as_deref(), Some("on holiday"));
}

#[test]
fn a_lease_knows_what_decided_for_it() {
    let mut desk = Desk::new("abc", |settings| settings.selection.preferred_account = Some("c".into()));
    let by = |desk: &Desk, fence| desk.pool.explain_lease(desk.now, fence).unwrap().by;
    let preferred = desk.hold(ask(0));
    let ordered = desk.hold(in_session("s"));
    let named = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(2) });
    let bound = desk.hold(in_session("s"));
    assert_eq!(
        [preferred, ordered, named, bound].map(|fence| by(&desk, fence)),
        [ChosenBy::Preferred, ChosenBy::Strategy, ChosenBy::Account, ChosenBy::Session]
    );
    assert_eq!(desk.pool.last_granted(), Some(bound));
    desk.release(preferred);
    let again = desk.hold(ask(3));
    let moved = desk.report(again, Reason::RateLimitExceeded, None).lease.unwrap();
    let decided = desk.pool.explain_lease(desk.now, moved).unwrap();
    assert_eq!(decided.moved_from, Some((id('c'), Reason::RateLimitExceeded)));
    desk.release(moved);
    assert_eq!(desk.pool.explain_lease(desk.now, moved), None);
}
