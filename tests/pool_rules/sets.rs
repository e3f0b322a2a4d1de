//! Requests that are restricted to some accounts, accounts that keep a part for requests that name them, and fallbacks.

use std::sync::Arc;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountChange, AccountId, AccountRecord, AccountSet, Action, Bind, ChosenBy, Command, Decision, DirectorySettings,
    Effect, Event, Ineligible, LeaseRequest, MoveCause, MoveTime, Overflow, PoolSettings, RefusalKind, Reply,
    RequestNeeds, RequestOutcome, SelectionResult, Strategy, Usage, Window,
};

use crate::fixture::{Fixture, ask, id, in_session, process, record, secs};

fn only(letters: &str) -> AccountSet {
    let mut only: Vec<AccountId> = letters.chars().map(id).collect();
    only.sort_unstable();
    AccountSet { only: Some(only.into()), directory: None }
}

fn from(directory: &str) -> AccountSet {
    AccountSet { only: None, directory: Some(Arc::from(directory)) }
}

fn of(set: AccountSet, n: u64) -> LeaseRequest {
    LeaseRequest { set, ..ask(n) }
}

fn set_of(name: &str, paths: &[&str], accounts: &[&str]) -> DirectorySettings {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    DirectorySettings { name: name.into(), paths: owned(paths), accounts: owned(accounts) }
}

fn change(fixture: &mut Fixture, letter: char, change: AccountChange) {
    fixture.run(Command::ChangeAccount(id(letter), Box::new(change))).unwrap();
}

fn keep(fixture: &mut Fixture, letter: char, reserve: f64) {
    change(fixture, letter, AccountChange { reserve: Some(reserve), ..AccountChange::default() });
}

fn fall_back_to(fixture: &mut Fixture, letter: char) {
    change(fixture, letter, AccountChange { fallback_only: Some(true), ..AccountChange::default() });
}

/// The next request of a holder's lease.
fn serve(fixture: &mut Fixture, fence: lessor::pool::Fence) -> Decision {
    let target = (*fixture.pool.lease(fence).unwrap().target).clone();
    let need = Box::new(RequestNeeds { target, exclude: vec![], attested: lessor::pool::Attestation::Later });
    match fixture.run(Command::Serve { fence, need }) {
        Ok(Reply::Decision(decision)) => decision,
        other => panic!("no decision: {other:?}"),
    }
}

#[test]
fn a_set_is_never_left() {
    for strategy in
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
    {
        let mut fixture = Fixture::new("abcd", |settings| {
            settings.selection.strategy = strategy;
            settings.selection.preferred_account = Some("a".into());
        });
        let held: Vec<char> = (0..4).map(|n| fixture.take(of(only("bd"), n))).collect();
        assert!(held.iter().all(|on| "bd".contains(*on)) && held.contains(&'b') && held.contains(&'d'), "{held:?}");
        let session = || LeaseRequest { session: Some("s".into()), ..of(only("bd"), 9) };
        let fence = fixture.hold(session());
        let first = fixture.on(fence);
        let moved = fixture.report(fence, Reason::RateLimitExceeded, Some(secs(30)));
        let on = fixture.on(moved.lease.unwrap());
        assert!("bd".contains(on) && on != first, "{strategy:?}: a lease moves within its set");
        assert_eq!(fixture.pool.lease(moved.lease.unwrap()).unwrap().set(), &only("bd"), "and keeps it");
        let waits = fixture.report(moved.lease.unwrap(), Reason::RateLimitExceeded, Some(secs(60)));
        assert_eq!(waits.action, Action::Wait, "{strategy:?}: {waits:?}");
    }
}

#[test]
fn a_set_whose_accounts_are_limited_is_waited_for_and_named() {
    let mut fixture = Fixture::new("abc", |_| {});
    fixture.block('a', secs(50));
    fixture.block('b', secs(20));
    let refusal = fixture.acquire(of(only("ab"), 0)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AllLimited);
    assert_eq!(
        refusal.message,
        "every p account of the set is limited; the first is free in 20 s; the set: a, b (only)"
    );
    assert_eq!(refusal.accounts.iter().map(|one| one.account).collect::<Vec<_>>(), [id('a'), id('b')]);
    let waiter = fixture.queued(LeaseRequest { wait: None, ..of(only("ab"), 1) });
    let other = fixture.queued(LeaseRequest { wait: None, ..of(only("a"), 2) });
    assert_eq!(fixture.peek(ask(3)), 'c', "others do not wait for it");
    fixture.pass(secs(20));
    assert!(matches!(fixture.answers()[..], [(answered, Ok(fence))] if answered == waiter && fixture.on(fence) == 'b'));
    fixture.pass(secs(30));
    assert!(matches!(fixture.answers()[..], [(answered, Ok(fence))] if answered == other && fixture.on(fence) == 'a'));
}

#[test]
fn sets_combine_and_what_no_account_is_in_is_refused_with_both() {
    let mut fixture = Fixture::new("abc", |settings| {
        settings.directories = vec![set_of("~/client-a", &["/home/u/client-a"], &["b", "c"])];
    });
    let both = |letters: &str| AccountSet { directory: Some("/home/u/client-a/src".into()), ..only(letters) };
    assert_eq!(fixture.peek(of(both("ab"), 0)), 'b');
    let refusal = fixture.acquire(of(both("a"), 0)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotAllowed);
    assert_eq!(
        refusal.message,
        "no p account is in both sets of this request: a (only) and b, c ([directories.\"~/client-a\"])"
    );
    let named = LeaseRequest { account: Some("a".into()), ..of(from("/home/u/client-a"), 0) };
    let refusal = fixture.acquire(named).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.message.as_str()),
        (
            RefusalKind::NotAllowed,
            "the account a is not in the set of this request: b, c ([directories.\"~/client-a\"])"
        )
    );
    // a set of accounts of another provider has none of this one
    fixture.add(AccountRecord { provider: "q".into(), ..record('z') });
    let refusal = fixture.acquire(of(only("z"), 0)).unwrap_err();
    assert_eq!(refusal.message, "no p account is in the set of this request: z (only)");
}

/// The rules for directories, one by one.
#[test]
fn the_innermost_directory_counts() {
    let settings = PoolSettings {
        directories: vec![
            set_of("~/work", &["/home/u/work", "/data/work"], &["a"]),
            set_of("inner", &["/home/u/work/inner"], &["b"]),
            set_of("/", &["/"], &["c"]),
        ],
        ..PoolSettings::default()
    };
    for (directory, set) in [
        ("/home/u/work", 0),
        ("/home/u/work/x", 0),
        ("/data/work/x/y", 0),
        ("/home/u/work/inner", 1),
        ("/home/u/work/inner/x", 1),
        ("/home/u/work/innermost", 0),
        ("/home/u/workshop", 2),
        ("/home/u", 2),
        ("/", 2),
    ] {
        assert_eq!(settings.set_of_directory(directory), Some(set), "{directory}");
    }
    let without_root = PoolSettings { directories: settings.directories[..2].to_vec(), ..PoolSettings::default() };
    for directory in ["/home/u", "/home/u/workshop", "/", "", "home/u/work"] {
        assert_eq!(without_root.set_of_directory(directory), None, "{directory}");
    }
}

#[test]
fn the_set_of_a_directory_follows_the_configuration_and_the_labels() {
    let mut fixture = Fixture::new("abc", |_| {});
    let fence = fixture.hold(LeaseRequest { account: None, exclude: vec![id('b'), id('c')], ..of(from("/w/x"), 0) });
    assert_eq!((fixture.on(fence), serve(&mut fixture, fence).action), ('a', Action::Continue));
    fixture.configure(|settings| settings.directories = vec![set_of("/w", &["/w"], &["b"])]);
    assert_eq!(fixture.on(fence), 'a', "a change ends and moves no lease by itself (C9)");
    let moved = serve(&mut fixture, fence).lease.unwrap();
    assert_eq!(fixture.on(moved), 'b');
    assert!(fixture.effects.iter().any(|effect| matches!(
        effect,
        Effect::Emit(Event::Moved(moved)) if moved.cause == MoveCause::Unavailable(Ineligible::NotInSet, None)
    )));
    let label = |label: &str| AccountChange { label: Some(label.into()), ..AccountChange::default() };
    change(&mut fixture, 'b', label("other"));
    change(&mut fixture, 'c', label("b"));
    let moved = serve(&mut fixture, moved).lease.unwrap();
    assert_eq!(fixture.on(moved), 'c', "the set names labels");
    let waiter = {
        fixture.block('c', secs(100));
        fixture.queued(LeaseRequest { wait: None, ..of(from("/w"), 1) })
    };
    fixture.configure(|settings| settings.directories.clear());
    assert!(matches!(fixture.answers()[..], [(answered, Ok(_))] if answered == waiter), "a queued request is served");
}

#[test]
fn a_set_survives_a_restart_and_a_move_of_the_users() {
    let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
    let durable = fixture.hold(LeaseRequest { bind: Bind::Process(process(1)), ..of(only("ab"), 0) });
    let bound = fixture.hold(of(only("bc"), 1));
    let ticket = fixture.ticket(bound);
    fixture.restart(false);
    assert_eq!(fixture.pool.lease(durable).unwrap().set(), &only("ab"));
    fixture.resume(&ticket, 7).unwrap();
    assert_eq!(fixture.pool.lease(bound).unwrap().set(), &only("bc"));
    let on = fixture.on(durable);
    let to = |to| Command::MoveLease { fence: durable, to, exclude: vec![], when: MoveTime::AtOnce };
    let refusal = fixture.run(to(Some(id('c')))).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.message.as_str()),
        (RefusalKind::NotAllowed, "c is not in the set of this lease: a, b (only)")
    );
    if fixture.on(bound) == 'b' {
        fixture.release(bound);
    }
    let Ok(Reply::Held(moved)) = fixture.run(to(None)) else { panic!("it moves within its set") };
    assert!(fixture.on(moved) != on && "ab".contains(fixture.on(moved)));
    assert_eq!(fixture.pool.lease(moved).unwrap().set(), &only("ab"));
}

#[test]
fn the_same_process_holds_one_lease_per_set() {
    let mut fixture = Fixture::new("abc", |settings| {
        settings.directories = vec![set_of("/w", &["/w"], &["b"])];
    });
    let by = |set| LeaseRequest { bind: Bind::Process(process(5)), ..of(set, 0) };
    let plain = fixture.hold(by(from("/x")));
    let inside = fixture.hold(by(from("/w/1")));
    let held = |fixture: &Fixture, set| fixture.pool.held_already(fixture.now, &by(set)).map(|(fence, _)| fence);
    assert_eq!(held(&fixture, from("/y")), Some(plain), "no set applies to either directory");
    assert_eq!(held(&fixture, from("/w/2")), Some(inside));
    assert_eq!(held(&fixture, only("c")), None);
    // the same request id with another set is another request
    let named = |set| LeaseRequest { request_id: Some("r".into()), ..of(set, 3) };
    let fence = fixture.hold(named(only("a")));
    assert_eq!(fixture.hold(named(only("a"))), fence);
    assert_eq!(fixture.refused(named(only("b"))), RefusalKind::BadRequest);
}

#[test]
fn explain_and_forecast_state_the_set() {
    let mut fixture = Fixture::new("abc", |_| {});
    fixture.block('a', secs(40));
    let asked = LeaseRequest { account: None, ..of(only("a"), 0) };
    let explained = fixture.pool.explain(fixture.now, &asked);
    assert!(matches!(explained.verdict, SelectionResult::Wait(RefusalKind::AllLimited, Some(_))));
    for one in explained.candidates {
        let exclusion = one.exclusion.unwrap();
        let is_in = one.account == id('a');
        assert_eq!(exclusion.why, if is_in { Ineligible::Limited } else { Ineligible::NotInSet });
        assert_eq!(exclusion.note.as_deref(), (!is_in).then_some("the set: a (only)"));
    }
    let forecast = fixture.pool.forecast(fixture.now, &asked, None);
    assert_eq!((forecast.grantable, forecast.next_at), (0, Some(fixture.now.wall.after(secs(40)))));
    let whys: Vec<_> = forecast.accounts.iter().map(|one| one.why).collect();
    assert_eq!(whys, [Some(Ineligible::Limited), Some(Ineligible::NotInSet), Some(Ineligible::NotInSet)]);
}

#[test]
fn a_reserve_serves_only_requests_that_name_the_account() {
    let mut fixture = Fixture::new("ab", |settings| {
        settings.directories = vec![set_of("/w", &["/w"], &["a"])];
    });
    keep(&mut fixture, 'a', 0.2);
    fixture.used('a', 0.8);
    let others = || LeaseRequest { exclude: vec![id('b')], ..ask(0) };
    assert_eq!(fixture.peek(others()), 'a', "exactly as much as the reserve is left");
    fixture.used('a', 0.81);
    let refusal = fixture.acquire(LeaseRequest { wait: Some(secs(0)), ..others() }).unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::AllLimited, Ineligible::Reserved));
    assert_eq!(refusal.hint.as_deref(), Some("to use what an account keeps in reserve, name it: --account a"));
    assert_eq!(fixture.peek(LeaseRequest { account: Some("a".into()), ..ask(0) }), 'a');
    assert_eq!(fixture.peek(LeaseRequest { exclude: vec![id('b')], ..of(only("ab"), 0) }), 'a');
    assert_eq!(fixture.peek(of(from("/w"), 0)), 'a');
    assert_eq!(fixture.refused(LeaseRequest { exclude: vec![id('b')], ..of(from("/x"), 0) }), RefusalKind::AllLimited);
    let explained = fixture.pool.explain(fixture.now, &others());
    let note = explained.candidates.iter().find(|one| one.account == id('a')).unwrap().exclusion.as_ref().unwrap();
    assert_eq!(note.note.as_deref(), Some("19 % is left, 20 % is reserved for requests that name it"));
}

#[test]
fn a_session_leaves_an_account_that_has_only_its_reserve_left() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.strategy = Strategy::Sticky);
    keep(&mut fixture, 'a', 0.3);
    let fence = fixture.hold(LeaseRequest { exclude: vec![id('b')], ..in_session("s") });
    fixture.used('a', 0.5);
    assert_eq!(serve(&mut fixture, fence).action, Action::Continue);
    fixture.used('a', 0.75);
    let moved = serve(&mut fixture, fence).lease.unwrap();
    assert_eq!(fixture.on(moved), 'b');
    // a lease on an account that its holder named stays
    let named = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(2) });
    assert_eq!(serve(&mut fixture, named).action, Action::Continue);
    assert_eq!(fixture.on(named), 'a');
    // and the user moves none to it that would leave it again
    let to_a = Command::MoveLease { fence: moved, to: Some(id('a')), exclude: vec![], when: MoveTime::AtOnce };
    let refusal = fixture.run(to_a).unwrap_err();
    assert_eq!(refusal.message, "the rest of a is kept for requests that name it: the lease would leave it again");
}

#[test]
fn a_reserve_ends_with_its_window_and_unknown_windows_keep_nothing() {
    let mut fixture = Fixture::new("a", |_| {});
    keep(&mut fixture, 'a', 0.5);
    assert_eq!(fixture.peek(ask(0)), 'a', "nothing is known of its windows");
    let resets_at = Some(fixture.now.wall.after(secs(100)));
    let window = Window { name: "5h".into(), utilization: 0.6, resets_at, as_of: fixture.now.wall, key: String::new() };
    fixture.run(Command::SetUsage(id('a'), Usage { windows: vec![window], ..Usage::default() })).unwrap();
    let waiter = fixture.queued(LeaseRequest { wait: None, ..ask(0) });
    fixture.pass(secs(99));
    assert!(fixture.answers().is_empty());
    fixture.pass(secs(1));
    assert!(matches!(fixture.answers()[..], [(answered, Ok(_))] if answered == waiter));
}

#[test]
fn a_whole_account_can_be_kept_and_no_request_waits_for_it() {
    let mut fixture = Fixture::new("a", |_| {});
    keep(&mut fixture, 'a', 1.0);
    let refusal = fixture.acquire(LeaseRequest { wait: None, ..ask(0) }).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.message.as_str()),
        (RefusalKind::NotAllowed, "every p account that could serve is kept for requests that name it")
    );
    assert_eq!(fixture.peek(LeaseRequest { account: Some("a".into()), ..ask(0) }), 'a');
    assert_eq!(fixture.pool.forecast(fixture.now, &ask(0), None).grantable, 0);
    assert!(fixture.pool.forecast(fixture.now, &of(only("a"), 0), None).grantable > 0);
    fixture.add(record('b'));
    let held: Vec<char> = (0..3).map(|n| fixture.take(ask(n))).collect();
    assert_eq!(held, ['b', 'b', 'b']);
}

#[test]
fn a_fallback_serves_only_while_no_other_account_can() {
    for strategy in
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
    {
        let mut fixture = Fixture::new("abc", |settings| {
            settings.selection.strategy = strategy;
            settings.leases.max_per_account = 2;
        });
        fall_back_to(&mut fixture, 'a');
        // it has a better priority and fewer leases, and the others are shared before it is used
        change(&mut fixture, 'a', AccountChange { priority: Some(9), ..AccountChange::default() });
        fixture.used('b', 0.99);
        let held: Vec<char> = (0..5).map(|n| fixture.take(ask(n))).collect();
        assert!(!held[..4].contains(&'a') && held[4] == 'a', "{strategy:?}: {held:?}");
    }
}

#[test]
fn a_session_on_a_fallback_moves_back_when_another_account_can_serve() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.strategy = Strategy::Sticky);
    fall_back_to(&mut fixture, 'b');
    let fence = fixture.hold(in_session("s"));
    let fence = fixture.report(fence, Reason::QuotaExhausted, Some(secs(60))).lease.unwrap();
    assert_eq!(fixture.on(fence), 'b');
    assert_eq!(serve(&mut fixture, fence).action, Action::Continue, "nothing else can serve");
    fixture.pass(secs(61));
    let moved = serve(&mut fixture, fence).lease.unwrap();
    assert_eq!(fixture.on(moved), 'a');
    assert!(fixture.effects.iter().any(|effect| matches!(
        effect,
        Effect::Emit(Event::Moved(moved)) if moved.cause == MoveCause::Fallback
    )));
    fixture.release(moved);
    fixture.pass(secs(10));
    assert_eq!(fixture.peek(in_session("s")), 'a', "and the session with it");
    // one that its holder named stays, and the user moves none to it that would leave it again
    let named = fixture.hold(LeaseRequest { account: Some("b".into()), ..ask(3) });
    assert_eq!(serve(&mut fixture, named).action, Action::Continue);
    let plain = fixture.hold(LeaseRequest { exclude: vec![id('b')], ..ask(4) });
    let to_b = Command::MoveLease { fence: plain, to: Some(id('b')), exclude: vec![], when: MoveTime::AtOnce };
    let refusal = fixture.run(to_b).unwrap_err();
    assert!(refusal.message.starts_with("b serves only while no other account can"), "{}", refusal.message);
}

#[test]
fn a_fallback_comes_after_paid_overage_and_is_the_last_even_within_a_set() {
    let mut fixture = Fixture::new("abc", |_| {});
    fall_back_to(&mut fixture, 'c');
    for letter in ['a', 'b'] {
        let fence = fixture.hold(LeaseRequest { account: Some(letter.to_string().into()), ..ask(0) });
        let until = fixture.now.wall.after(secs(600));
        let outcome = RequestOutcome::Overage(Some(until));
        fixture.run(Command::Report { fence, outcome }).unwrap();
        fixture.release(fence);
    }
    assert_ne!(fixture.peek(ask(1)), 'c');
    assert_eq!(fixture.peek(of(only("bc"), 2)), 'b');
    assert_eq!(fixture.peek(of(only("c"), 3)), 'c');
    fixture.limit('b', Scope::Account, "", lessor::pool::Deadline::Mono(fixture.now.mono.after(secs(50))));
    assert_eq!(fixture.peek(of(only("bc"), 4)), 'c');
    let explained = fixture.pool.explain(fixture.now, &ask(5));
    assert_eq!(explained.verdict, SelectionResult::Grant(id('a'), ChosenBy::Strategy));
    let comparison = explained.comparison.unwrap();
    assert_eq!((comparison.over, comparison.by.unwrap().name()), (Some(id('c')), "fallback_only"));
    let last = explained.candidates.iter().find(|one| one.account == id('c')).unwrap();
    assert!(last.fallback_only && last.rank == Some(2));
}

#[test]
fn the_section_of_an_account_overrides_its_record() {
    let section = |reserve, fallback_only| lessor::pool::AccountSettings {
        name: "a".into(),
        reserve,
        fallback_only,
        ..Default::default()
    };
    let mut fixture = Fixture::new("ab", |settings| settings.accounts = vec![section(Some(0.5), Some(true))]);
    keep(&mut fixture, 'a', 0.1);
    let policy = |fixture: &Fixture| {
        let account = fixture.pool.account(id('a')).unwrap();
        (account.reserve(), account.is_fallback_only())
    };
    assert_eq!(policy(&fixture), (0.5, true));
    fixture.configure(|settings| settings.accounts = vec![section(None, None)]);
    assert_eq!(policy(&fixture), (0.1, false));
    // a fallback that the configuration no longer wants is used like any other at once
    fixture.configure(|settings| settings.accounts = vec![section(None, Some(false))]);
    fall_back_to(&mut fixture, 'a');
    let held = [fixture.take(ask(0)), fixture.take(ask(1))];
    assert!(held.contains(&'a'), "{held:?}");
}
