//! Which account: wishes, sessions, strategies, policies.

use lessor::limits::Scope;
use lessor::pool::{
    AccountChange, Bind, Command, ConnectionId, Deadline, LeaseRequest, Mode, Overflow, Process, RefusalKind, Strategy,
    Tier,
};

use crate::desk::{Desk, ask, by, id, in_session, process, record, secs, target};

fn of(strategy: Strategy) -> impl FnOnce(&mut lessor::pool::PoolSettings) {
    move |settings| settings.selection.strategy = strategy
}

/// opencode-antigravity-auth's cases for `sticky`: it stays, moves when limited, comes to nobody, and finds again what is free.
#[test]
fn sticky_stays_until_its_account_is_limited() {
    let mut desk = Desk::new("ab", of(Strategy::Sticky));
    assert_eq!([0, 1, 2].map(|n| desk.peek(ask(n))), ['a', 'a', 'a']);
    desk.block('a', secs(30));
    assert_eq!(desk.peek(ask(0)), 'b');
    desk.pass(secs(30));
    assert_eq!(desk.peek(ask(0)), 'b', "it does not go back");
    desk.block('a', secs(30));
    desk.block('b', secs(30));
    assert_eq!(desk.refused(ask(0)), RefusalKind::AllLimited);
    desk.pass(secs(30));
    assert_eq!(desk.peek(ask(0)), 'b');
}

#[test]
fn sticky_is_kept_for_each_family() {
    let mut desk = Desk::new("ab", of(Strategy::Sticky));
    let other = || LeaseRequest { target: target("other", None), ..ask(1) };
    desk.limit('a', Scope::Pool, "k", Deadline::Mono(desk.now.mono.after(secs(60))));
    assert_eq!((desk.peek(ask(0)), desk.peek(other())), ('b', 'a'));
    desk.pass(secs(60));
    assert_eq!((desk.peek(ask(0)), desk.peek(other())), ('b', 'a'));
}

#[test]
fn one_caller_s_exclusion_or_policy_does_not_move_everybody_s_current_account() {
    let mut desk = Desk::new("ab", of(Strategy::Sticky));
    assert_eq!(desk.peek(ask(0)), 'a');
    assert_eq!(desk.peek(LeaseRequest { exclude: vec![id('a')], ..ask(0) }), 'b');
    assert_eq!(desk.peek(ask(0)), 'a');
    let held = desk.hold(ask(0));
    assert_eq!(desk.peek(ask(1)), 'b', "busy");
    desk.release(held);
    assert_eq!(desk.peek(ask(0)), 'a');
}

/// The seeds' cases; where theirs keep one cursor for all families and over the filtered list, ours is per family and
/// by account, so that one account dropping out shifts nobody.
#[test]
fn round_robin_goes_around_by_family_and_skips_the_limited() {
    let mut desk = Desk::new("abcd", of(Strategy::RoundRobin));
    assert_eq!([0, 1, 2, 3, 4].map(|n| desk.peek(ask(n))), ['a', 'b', 'c', 'd', 'a']);
    desk.block('b', secs(99));
    assert_eq!([0, 1, 2, 3].map(|n| desk.peek(ask(n))), ['c', 'd', 'a', 'c']);
    assert_eq!(desk.peek(LeaseRequest { target: target("other", None), ..ask(0) }), 'a', "differs: its own place");
    desk.run(Command::RemoveAccount(id('d'))).unwrap();
    assert_eq!([0, 1].map(|n| desk.peek(ask(n))), ['a', 'c']);
}

#[test]
fn every_strategy_gives_distinct_accounts_while_there_are_any() {
    let all = [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];
    for strategy in all {
        for overflow in [Overflow::Share, Overflow::Wait, Overflow::Fail] {
            let mut desk = Desk::new("abcde", |settings| {
                settings.selection.strategy = strategy;
                settings.leases.overflow = overflow;
            });
            let mut taken: Vec<char> = (0..5).map(|n| desk.take(ask(n))).collect();
            taken.sort_unstable();
            assert_eq!(taken, ['a', 'b', 'c', 'd', 'e'], "{strategy:?} {overflow:?}");
            match overflow {
                Overflow::Share => drop((0..5).map(|n| desk.take(ask(n))).collect::<Vec<_>>()),
                Overflow::Wait => drop(desk.queued(LeaseRequest { wait: None, ..ask(9) })),
                Overflow::Fail => {
                    assert_eq!(desk.refused(LeaseRequest { wait: None, ..ask(9) }), RefusalKind::NoCapacity)
                }
            }
            let loads: Vec<u32> = desk.pool.accounts().iter().map(|account| account.leases()).collect();
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() == 0, "{loads:?}");
        }
    }
}

/// Antigravity-Manager's tables: tier before quota, quota within a tier; ours only with `tier_first`.
#[test]
fn tiers_go_first_when_asked_to() {
    let tiers = [
        ('p', Tier::Pro, 0.1),
        ('f', Tier::Free, 0.0),
        ('u', Tier::Ultra, 0.8),
        ('q', Tier::Pro, 0.7),
        ('v', Tier::Ultra, 0.2),
    ];
    let mut desk = Desk::new("", |settings| {
        settings.selection.strategy = Strategy::LeastUsed;
        settings.selection.tier_first = true;
    });
    for (letter, tier, used) in tiers {
        desk.add(lessor::pool::AccountRecord { tier, ..record(letter) });
        desk.used(letter, used);
    }
    assert_eq!([0, 1, 2, 3, 4].map(|n| desk.take(ask(n))), ['v', 'u', 'p', 'q', 'f']);
    for n in 0..5 {
        desk.run(Command::ConnectionClosed(ConnectionId(n))).unwrap();
    }
    desk.configure(|settings| settings.selection.tier_first = false);
    assert_eq!([0, 1, 2, 3, 4].map(|n| desk.take(ask(n))), ['f', 'p', 'v', 'q', 'u']);
}

#[test]
fn priority_goes_before_the_tier_and_the_load_before_both() {
    let mut desk = Desk::new("ab", |settings| settings.selection.tier_first = true);
    desk.add(lessor::pool::AccountRecord { tier: Tier::Ultra, ..record('u') });
    let change = AccountChange { priority: Some(1), ..AccountChange::default() };
    desk.run(Command::ChangeAccount(id('b'), Box::new(change))).unwrap();
    assert_eq!([0, 1, 2, 3].map(|n| desk.take(ask(n))), ['b', 'u', 'a', 'b']);
}

#[test]
fn leases_are_counted_per_capacity() {
    let mut desk = Desk::new("a", |_| {});
    desk.add(lessor::pool::AccountRecord { max_leases: Some(3), ..record('b') });
    let mut taken: Vec<char> = (0..8).map(|n| desk.take(ask(n))).collect();
    taken.sort_unstable();
    assert_eq!(taken.iter().collect::<String>(), "aabbbbbb");
}

#[test]
fn who_is_over_the_soft_threshold_ranks_last_but_serves() {
    let mut desk = Desk::new("ab", of(Strategy::Sticky));
    desk.used('a', 0.9);
    assert_eq!([0, 1].map(|n| desk.take(ask(n))), ['b', 'b'], "even before an idle one that is nearly spent");
    desk.block('b', secs(60));
    assert_eq!(desk.take(ask(2)), 'a');
    desk.configure(|settings| settings.quota.soft_threshold = 1.0);
    assert_eq!(desk.peek(LeaseRequest { exclude: vec![id('b')], ..ask(3) }), 'a');
}

#[test]
fn a_session_finds_its_account_again_in_balance_and_moves_at_once_when_it_is_limited() {
    let mut desk = Desk::new("abc", of(Strategy::RoundRobin));
    let first = desk.peek(in_session("s"));
    let _ = desk.peek(ask(9));
    assert_eq!(desk.peek(in_session("s")), first);
    desk.block(first, secs(10));
    let second = desk.peek(in_session("s"));
    assert_ne!(second, first);
    desk.pass(secs(10));
    assert_eq!(desk.peek(in_session("s")), second, "the session has moved for good");
    desk.pass(secs(3600));
    let expired: Vec<char> = ["s", "t", "u"].iter().map(|name| desk.peek(in_session(name))).collect();
    assert!(expired.iter().any(|on| *on != second), "after its time a session is anybody: {expired:?}");
}

#[test]
fn a_parallel_lease_elsewhere_does_not_move_a_session() {
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let held = desk.hold(in_session("s"));
    let (home, away) = (desk.on(held), desk.hold(in_session("s")));
    assert_ne!(desk.on(away), home);
    desk.release(away);
    desk.release(held);
    assert_eq!(desk.peek(in_session("s")), home);
}

#[test]
fn cache_first_waits_for_the_session_s_account_up_to_its_limit_then_moves() {
    let mut desk = Desk::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = desk.peek(in_session("s"));
    let other = if home == 'a' { 'b' } else { 'a' };
    desk.block(home, secs(60));
    let patient = || LeaseRequest { wait: None, ..in_session("s") };
    let waiter = desk.queued(patient());
    assert_eq!(desk.peek(in_session("s")), other, "who does not wait moves");
    desk.pass(secs(0));
    // the session lives elsewhere now, and the one that waited for its old account is served there at once
    assert!(desk.pool.waiters().all(|(id, _)| id != waiter));
    let mut desk = Desk::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = desk.peek(in_session("s"));
    desk.block(home, secs(61));
    assert_eq!(desk.peek(patient()), other_of(home), "further away than max_cache_wait: it moves");
}

fn other_of(letter: char) -> char {
    if letter == 'a' { 'b' } else { 'a' }
}

#[test]
fn cache_first_is_served_by_its_account_when_the_limit_ends() {
    let mut desk = Desk::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = desk.peek(in_session("s"));
    desk.block(home, secs(30));
    let waiter = desk.queued(LeaseRequest { wait: None, ..in_session("s") });
    // a conversation that waits does not lose its account because its time runs out meanwhile
    desk.configure(|settings| settings.selection.session_ttl = secs(20));
    desk.pass(secs(30));
    let [(answered, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!((answered, desk.on(fence)), (waiter, home));
}

#[test]
fn cache_first_moves_when_the_limit_grows_beyond_its_patience() {
    let mut desk = Desk::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = desk.peek(in_session("s"));
    desk.block(home, secs(30));
    let waiter = desk.queued(LeaseRequest { wait: None, ..in_session("s") });
    desk.block(home, secs(120));
    let [(answered, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!((answered, desk.on(fence)), (waiter, other_of(home)));
}

#[test]
fn performance_first_knows_no_sessions() {
    let mut desk = Desk::new("ab", |settings| {
        settings.selection.mode = Mode::PerformanceFirst;
        settings.selection.strategy = Strategy::RoundRobin;
    });
    assert_eq!([0, 1, 2].map(|_| desk.peek(in_session("s"))), ['a', 'b', 'a']);
    assert!(desk.pool.snapshot(desk.now).sessions.is_empty());
}

#[test]
fn the_preferred_account_serves_while_it_is_below_its_capacity() {
    let mut desk = Desk::new("ab", |settings| settings.selection.preferred_account = Some("b".into()));
    assert_eq!([0, 1].map(|n| desk.take(ask(n))), ['b', 'a']);
    desk.block('b', secs(5));
    desk.run(Command::ConnectionClosed(ConnectionId(0))).unwrap();
    assert_eq!(desk.peek(ask(5)), 'a');
    desk.configure(|settings| settings.selection.preferred_account = Some("nobody".into()));
    assert_eq!(desk.peek(ask(5)), 'a', "a preference that names nobody is none");
}

#[test]
fn a_process_finds_again_what_it_released_if_nobody_carries_less() {
    let mut desk = Desk::new("abc", of(Strategy::RoundRobin));
    assert_eq!(desk.peek(by(1)), 'a');
    assert_eq!(desk.peek(by(2)), 'b');
    assert_eq!(desk.peek(by(1)), 'a', "it comes back");
    // distinctness first (I2): somebody holds it, and others are free
    let held = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(9) });
    assert_ne!(desk.peek(by(1)), 'a');
    desk.release(held);
    desk.pass(secs(60));
    let after = [desk.peek(by(7)), desk.peek(by(8)), desk.peek(by(2))];
    assert_ne!(after[2], 'b', "after the window it is anybody: {after:?}");
    desk.configure(|settings| settings.selection.mode = Mode::PerformanceFirst);
    let before = desk.peek(by(2));
    assert_ne!(desk.peek(by(2)), before, "not in performance-first");
}

#[test]
fn a_process_that_died_is_not_waited_for_with_its_account() {
    let mut desk = Desk::new("ab", of(Strategy::RoundRobin));
    let bound = |pid| LeaseRequest { bind: Bind::Process(process(pid)), ..by(pid) };
    assert_eq!(desk.peek(bound(1)), 'a');
    desk.run(Command::ProcessEnded(process(1))).unwrap();
    assert_eq!(desk.peek(bound(1)), 'b');
    assert_eq!(
        desk.peek(LeaseRequest { bind: Bind::Process(Process { pid: 1, start: 2 }), ..ask(0) }),
        'a',
        "another process"
    );
}

#[test]
fn a_pid_offset_spreads_processes_and_leaves_the_others_alone() {
    let mut desk = Desk::new("abc", |settings| {
        settings.selection.pid_offset = true;
        settings.selection.strategy = Strategy::Sticky;
        settings.selection.reuse_window = secs(0);
    });
    assert_eq!([3, 1, 2, 7, 1234].map(|pid| desk.peek(by(pid))), ['a', 'b', 'c', 'b', 'b']);
    assert_eq!(desk.peek(ask(0)), 'a', "who names no process starts where the family is");
    assert_eq!(desk.peek(LeaseRequest { session: Some("s".into()), ..by(2) }), 'a', "and so does a session");
}

#[test]
fn exclusions_and_policies_are_hard() {
    let mut desk = Desk::new("a", |_| {});
    desk.add(lessor::pool::AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record('c') });
    let agent = |name: &str| LeaseRequest { agent: Some(name.into()), ..ask(0) };
    assert_eq!(desk.peek(LeaseRequest { exclude: vec![id('a')], ..agent("claude") }), 'c');
    assert_eq!(
        desk.refused(LeaseRequest { exclude: vec![id('c'), id('a'), id('a')], ..ask(0) }),
        RefusalKind::NoCapacity
    );
    desk.run(Command::RemoveAccount(id('a'))).unwrap();
    assert_eq!(desk.refused(ask(0)), RefusalKind::NotAllowed, "no name, no restricted account");
    assert_eq!(desk.refused(agent("codex")), RefusalKind::NotAllowed);
    let change = AccountChange { allowed_agents: Some(vec!["any".into()]), ..AccountChange::default() };
    desk.run(Command::ChangeAccount(id('c'), Box::new(change))).unwrap();
    assert_eq!(desk.peek(ask(0)), 'c');
}

#[test]
fn an_account_is_named_by_id_prefix_email_or_label() {
    let mut desk = Desk::new("ab", |_| {});
    let shared = |letter, provider: &str| lessor::pool::AccountRecord {
        email: Some("me@x.y".into()),
        provider: provider.into(),
        ..record(letter)
    };
    desk.add(shared('x', "p"));
    desk.add(shared('y', "q"));
    let named = |name: &str| LeaseRequest { account: Some(name.into()), ..ask(0) };
    let whole = id('b').to_string();
    assert_eq!(desk.peek(named("b")), 'b');
    assert_eq!(desk.peek(named(&whole)), 'b');
    assert_eq!(desk.peek(named(&whole[..10])), 'b');
    assert_eq!(desk.peek(named(&whole[3..])), 'b', "the prefix `ac_` may be left out");
    assert_eq!(desk.peek(named("me@x.y")), 'x', "of this provider");
    assert_eq!(desk.pool.find_account("me@x.y").unwrap_err().kind, RefusalKind::UnknownAccount, "ambiguous over all");
    for unknown in ["ac_", "", "nobody", "y", &id('y').to_string()] {
        assert_eq!(desk.refused(named(unknown)), RefusalKind::UnknownAccount, "{unknown:?}");
    }
}

#[test]
fn labels_are_unique() {
    let mut desk = Desk::new("ab", |_| {});
    let twice = lessor::pool::AccountRecord { label: Some("a".into()), ..record('z') };
    assert_eq!(desk.run(Command::AddAccount(Box::new(twice))).unwrap_err().kind, RefusalKind::BadRequest);
    let rename = |label: &str| Box::new(AccountChange { label: Some(label.into()), ..AccountChange::default() });
    assert_eq!(desk.run(Command::ChangeAccount(id('b'), rename("a"))).unwrap_err().kind, RefusalKind::BadRequest);
    desk.run(Command::ChangeAccount(id('a'), rename(""))).unwrap();
    desk.run(Command::ChangeAccount(id('b'), rename("a"))).unwrap();
    assert_eq!(desk.pool.find_account("a").unwrap().record.id, id('b'));
}

#[test]
fn the_last_use_outlives_a_restart_and_a_reboot() {
    let mut desk = Desk::new("abc", of(Strategy::LeastUsed));
    for letter in ["c", "a", "b"] {
        desk.peek(LeaseRequest { account: Some(letter.into()), ..ask(0) });
        desk.pass(secs(100));
    }
    // a machine that has just come up counts from zero again
    desk.now.mono = lessor::pool::Mono(5);
    desk.restart(false);
    assert_eq!([0, 1, 2].map(|n| desk.take(ask(n))), ['c', 'a', 'b']);
}
