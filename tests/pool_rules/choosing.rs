//! Which account: wishes, sessions, strategies, policies.

use lessor::limits::Scope;
use lessor::pool::{
    AccountChange, Bind, Command, ConnectionId, Deadline, LeaseRequest, Mode, Overflow, Process, RefusalKind, Strategy,
    Tier,
};

use crate::fixture::{Fixture, ask, by, id, in_session, process, record, secs, target};

fn of(strategy: Strategy) -> impl FnOnce(&mut lessor::pool::PoolSettings) {
    move |settings| settings.selection.strategy = strategy
}

/// opencode-antigravity-auth's cases for `sticky`: it stays, moves when limited, yields no account, and resumes with a free one.
#[test]
fn sticky_keeps_its_account_until_it_is_limited() {
    let mut fixture = Fixture::new("ab", of(Strategy::Sticky));
    assert_eq!([0, 1, 2].map(|n| fixture.peek(ask(n))), ['a', 'a', 'a']);
    fixture.block('a', secs(30));
    assert_eq!(fixture.peek(ask(0)), 'b');
    fixture.pass(secs(30));
    assert_eq!(fixture.peek(ask(0)), 'b', "it does not go back");
    fixture.block('a', secs(30));
    fixture.block('b', secs(30));
    assert_eq!(fixture.refused(ask(0)), RefusalKind::AllLimited);
    fixture.pass(secs(30));
    assert_eq!(fixture.peek(ask(0)), 'b');
}

#[test]
fn each_family_has_its_own_sticky_account() {
    let mut fixture = Fixture::new("ab", of(Strategy::Sticky));
    let other = || LeaseRequest { target: target("other", None), ..ask(1) };
    fixture.limit('a', Scope::Pool, "k", Deadline::Mono(fixture.now.mono.after(secs(60))));
    assert_eq!((fixture.peek(ask(0)), fixture.peek(other())), ('b', 'a'));
    fixture.pass(secs(60));
    assert_eq!((fixture.peek(ask(0)), fixture.peek(other())), ('b', 'a'));
}

#[test]
fn one_caller_s_exclusion_or_policy_does_not_move_the_family_s_current_account() {
    let mut fixture = Fixture::new("ab", of(Strategy::Sticky));
    assert_eq!(fixture.peek(ask(0)), 'a');
    assert_eq!(fixture.peek(LeaseRequest { exclude: vec![id('a')], ..ask(0) }), 'b');
    assert_eq!(fixture.peek(ask(0)), 'a');
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.peek(ask(1)), 'b', "busy");
    fixture.release(held);
    assert_eq!(fixture.peek(ask(0)), 'a');
}

/// The seeds' cases; where theirs keep one cursor for all families and over the filtered list, ours is per family and
/// by account, so that one account dropping out shifts no process.
#[test]
fn round_robin_goes_around_by_family_and_skips_the_limited() {
    let mut fixture = Fixture::new("abcd", of(Strategy::RoundRobin));
    assert_eq!([0, 1, 2, 3, 4].map(|n| fixture.peek(ask(n))), ['a', 'b', 'c', 'd', 'a']);
    fixture.block('b', secs(99));
    assert_eq!([0, 1, 2, 3].map(|n| fixture.peek(ask(n))), ['c', 'd', 'a', 'c']);
    assert_eq!(fixture.peek(LeaseRequest { target: target("other", None), ..ask(0) }), 'a', "differs: its own place");
    fixture.run(Command::RemoveAccount(id('d'))).unwrap();
    assert_eq!([0, 1].map(|n| fixture.peek(ask(n))), ['a', 'c']);
}

#[test]
fn every_strategy_grants_distinct_accounts_while_any_are_free() {
    let all = [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];
    for strategy in all {
        for overflow in [Overflow::Share, Overflow::Wait, Overflow::Fail] {
            let mut fixture = Fixture::new("abcde", |settings| {
                settings.selection.strategy = strategy;
                settings.leases.overflow = overflow;
            });
            let mut taken: Vec<char> = (0..5).map(|n| fixture.take(ask(n))).collect();
            taken.sort_unstable();
            assert_eq!(taken, ['a', 'b', 'c', 'd', 'e'], "{strategy:?} {overflow:?}");
            match overflow {
                Overflow::Share => drop((0..5).map(|n| fixture.take(ask(n))).collect::<Vec<_>>()),
                Overflow::Wait => drop(fixture.queued(LeaseRequest { wait: None, ..ask(9) })),
                Overflow::Fail => {
                    assert_eq!(fixture.refused(LeaseRequest { wait: None, ..ask(9) }), RefusalKind::NoCapacity);
                }
            }
            let loads: Vec<u32> = fixture.pool.accounts().iter().map(|account| account.leases()).collect();
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() == 0, "{loads:?}");
        }
    }
}

/// Antigravity-Manager's tables: tier before quota, quota within a tier; ours only with `tier_first`.
#[test]
fn tier_first_ranks_better_tiers_first() {
    let tiers = [
        ('p', Tier::Pro, 0.1),
        ('f', Tier::Free, 0.0),
        ('u', Tier::Ultra, 0.8),
        ('q', Tier::Pro, 0.7),
        ('v', Tier::Ultra, 0.2),
    ];
    let mut fixture = Fixture::new("", |settings| {
        settings.selection.strategy = Strategy::LeastUsed;
        settings.selection.tier_first = true;
    });
    for (letter, tier, used) in tiers {
        fixture.add(lessor::pool::AccountRecord { tier, ..record(letter) });
        fixture.used(letter, used);
    }
    assert_eq!([0, 1, 2, 3, 4].map(|n| fixture.take(ask(n))), ['v', 'u', 'p', 'q', 'f']);
    for n in 0..5 {
        fixture.run(Command::ConnectionClosed(ConnectionId(n))).unwrap();
    }
    fixture.configure(|settings| settings.selection.tier_first = false);
    assert_eq!([0, 1, 2, 3, 4].map(|n| fixture.take(ask(n))), ['f', 'p', 'v', 'q', 'u']);
}

#[test]
fn load_outranks_priority_and_priority_outranks_the_tier() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.tier_first = true);
    fixture.add(lessor::pool::AccountRecord { tier: Tier::Ultra, ..record('u') });
    let change = AccountChange { priority: Some(1), ..AccountChange::default() };
    fixture.run(Command::ChangeAccount(id('b'), Box::new(change))).unwrap();
    assert_eq!([0, 1, 2, 3].map(|n| fixture.take(ask(n))), ['b', 'u', 'a', 'b']);
}

#[test]
fn load_is_leases_per_capacity() {
    let mut fixture = Fixture::new("a", |_| {});
    fixture.add(lessor::pool::AccountRecord { max_leases: Some(3), ..record('b') });
    let mut taken: Vec<char> = (0..8).map(|n| fixture.take(ask(n))).collect();
    taken.sort_unstable();
    assert_eq!(taken.iter().collect::<String>(), "aabbbbbb");
}

#[test]
fn an_account_over_the_soft_threshold_ranks_last_but_serves() {
    let mut fixture = Fixture::new("ab", of(Strategy::Sticky));
    fixture.used('a', 0.9);
    assert_eq!([0, 1].map(|n| fixture.take(ask(n))), ['b', 'b'], "even before an idle one that is nearly spent");
    fixture.block('b', secs(60));
    assert_eq!(fixture.take(ask(2)), 'a');
    fixture.configure(|settings| settings.quota.soft_threshold = 1.0);
    assert_eq!(fixture.peek(LeaseRequest { exclude: vec![id('b')], ..ask(3) }), 'a');
}

#[test]
fn in_balance_a_session_keeps_its_account_and_moves_at_once_when_it_is_limited() {
    let mut fixture = Fixture::new("abc", of(Strategy::RoundRobin));
    let first = fixture.peek(in_session("s"));
    let _ = fixture.peek(ask(9));
    assert_eq!(fixture.peek(in_session("s")), first);
    fixture.block(first, secs(10));
    let second = fixture.peek(in_session("s"));
    assert_ne!(second, first);
    fixture.pass(secs(10));
    assert_eq!(fixture.peek(in_session("s")), second, "the session has moved for good");
    fixture.pass(secs(3600));
    let expired: Vec<char> = ["s", "t", "u"].iter().map(|name| fixture.peek(in_session(name))).collect();
    assert!(expired.iter().any(|on| *on != second), "after its time a session may get any account: {expired:?}");
}

#[test]
fn a_parallel_lease_elsewhere_does_not_move_a_session() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let held = fixture.hold(in_session("s"));
    let (home, away) = (fixture.on(held), fixture.hold(in_session("s")));
    assert_ne!(fixture.on(away), home);
    fixture.release(away);
    fixture.release(held);
    assert_eq!(fixture.peek(in_session("s")), home);
}

#[test]
fn cache_first_waits_for_the_session_s_account_up_to_max_cache_wait_then_moves() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = fixture.peek(in_session("s"));
    let other = if home == 'a' { 'b' } else { 'a' };
    fixture.block(home, secs(60));
    let patient = || LeaseRequest { wait: None, ..in_session("s") };
    let waiter = fixture.queued(patient());
    assert_eq!(fixture.peek(in_session("s")), other, "who does not wait moves");
    fixture.pass(secs(0));
    // the session lives elsewhere now, and the one that waited for its old account is served there at once
    assert!(fixture.pool.waiters().all(|(id, _)| id != waiter));
    let mut fixture = Fixture::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = fixture.peek(in_session("s"));
    fixture.block(home, secs(61));
    assert_eq!(fixture.peek(patient()), other_of(home), "further away than max_cache_wait: it moves");
}

fn other_of(letter: char) -> char {
    if letter == 'a' { 'b' } else { 'a' }
}

#[test]
fn cache_first_gets_its_account_when_the_limit_ends() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = fixture.peek(in_session("s"));
    fixture.block(home, secs(30));
    let waiter = fixture.queued(LeaseRequest { wait: None, ..in_session("s") });
    // a conversation that waits does not lose its account because its time runs out meanwhile
    fixture.configure(|settings| settings.selection.session_ttl = secs(20));
    fixture.pass(secs(30));
    let [(answered, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!((answered, fixture.on(fence)), (waiter, home));
}

#[test]
fn cache_first_moves_when_the_limit_grows_beyond_max_cache_wait() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
    let home = fixture.peek(in_session("s"));
    fixture.block(home, secs(30));
    let waiter = fixture.queued(LeaseRequest { wait: None, ..in_session("s") });
    fixture.block(home, secs(120));
    let [(answered, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!((answered, fixture.on(fence)), (waiter, other_of(home)));
}

#[test]
fn performance_first_ignores_sessions() {
    let mut fixture = Fixture::new("ab", |settings| {
        settings.selection.mode = Mode::PerformanceFirst;
        settings.selection.strategy = Strategy::RoundRobin;
    });
    assert_eq!([0, 1, 2].map(|_| fixture.peek(in_session("s"))), ['a', 'b', 'a']);
    assert!(fixture.pool.snapshot(fixture.now).sessions.is_empty());
}

#[test]
fn the_preferred_account_serves_while_it_is_below_its_capacity() {
    let mut fixture = Fixture::new("ab", |settings| settings.selection.preferred_account = Some("b".into()));
    assert_eq!([0, 1].map(|n| fixture.take(ask(n))), ['b', 'a']);
    fixture.block('b', secs(5));
    fixture.run(Command::ConnectionClosed(ConnectionId(0))).unwrap();
    assert_eq!(fixture.peek(ask(5)), 'a');
    fixture.configure(|settings| settings.selection.preferred_account = Some("nobody".into()));
    assert_eq!(fixture.peek(ask(5)), 'a', "a preference for an unknown account is ignored");
}

#[test]
fn a_process_gets_its_released_account_back_if_no_account_has_less_load() {
    let mut fixture = Fixture::new("abc", of(Strategy::RoundRobin));
    assert_eq!(fixture.peek(by(1)), 'a');
    assert_eq!(fixture.peek(by(2)), 'b');
    assert_eq!(fixture.peek(by(1)), 'a', "it comes back");
    // distinctness first (I2): it has a lease, and others are free
    let held = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(9) });
    assert_ne!(fixture.peek(by(1)), 'a');
    fixture.release(held);
    fixture.pass(secs(60));
    let after = [fixture.peek(by(7)), fixture.peek(by(8)), fixture.peek(by(2))];
    assert_ne!(after[2], 'b', "after the window it may be any account: {after:?}");
    fixture.configure(|settings| settings.selection.mode = Mode::PerformanceFirst);
    let before = fixture.peek(by(2));
    assert_ne!(fixture.peek(by(2)), before, "not in performance-first");
}

#[test]
fn the_reuse_window_of_a_process_ends_with_the_process() {
    let mut fixture = Fixture::new("ab", of(Strategy::RoundRobin));
    let bound = |pid| LeaseRequest { bind: Bind::Process(process(pid)), ..by(pid) };
    assert_eq!(fixture.peek(bound(1)), 'a');
    fixture.run(Command::ProcessEnded(process(1))).unwrap();
    assert_eq!(fixture.peek(bound(1)), 'b');
    assert_eq!(
        fixture.peek(LeaseRequest { bind: Bind::Process(Process { pid: 1, start: 2 }), ..ask(0) }),
        'a',
        "another process"
    );
}

#[test]
fn a_pid_offset_spreads_processes_and_changes_nothing_for_sessions() {
    let mut fixture = Fixture::new("abc", |settings| {
        settings.selection.pid_offset = true;
        settings.selection.strategy = Strategy::Sticky;
        settings.selection.reuse_window = secs(0);
    });
    assert_eq!([3, 1, 2, 7, 1234].map(|pid| fixture.peek(by(pid))), ['a', 'b', 'c', 'b', 'b']);
    assert_eq!(fixture.peek(ask(0)), 'a', "who names no process starts where the family is");
    assert_eq!(fixture.peek(LeaseRequest { session: Some("s".into()), ..by(2) }), 'a', "and so does a session");
}

#[test]
fn exclusions_and_use_policies_are_always_enforced() {
    let mut fixture = Fixture::new("a", |_| {});
    fixture.add(lessor::pool::AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record('c') });
    let agent = |name: &str| LeaseRequest { agent: Some(name.into()), ..ask(0) };
    assert_eq!(fixture.peek(LeaseRequest { exclude: vec![id('a')], ..agent("claude") }), 'c');
    assert_eq!(
        fixture.refused(LeaseRequest { exclude: vec![id('c'), id('a'), id('a')], ..ask(0) }),
        RefusalKind::NoCapacity
    );
    fixture.run(Command::RemoveAccount(id('a'))).unwrap();
    assert_eq!(fixture.refused(ask(0)), RefusalKind::NotAllowed, "no name, no restricted account");
    assert_eq!(fixture.refused(agent("codex")), RefusalKind::NotAllowed);
    let change = AccountChange { allowed_agents: Some(vec!["any".into()]), ..AccountChange::default() };
    fixture.run(Command::ChangeAccount(id('c'), Box::new(change))).unwrap();
    assert_eq!(fixture.peek(ask(0)), 'c');
}

#[test]
fn a_strict_account_is_only_for_a_program_that_is_not_known_to_be_another() {
    use lessor::pool::{AccountRecord, AccountSettings, AttestPolicy, Attestation, Holder};
    let strict = |letter: char| AccountSettings {
        name: letter.to_string(),
        attest: Some(AttestPolicy::Strict),
        ..AccountSettings::default()
    };
    let mut fixture = Fixture::new("", |settings| settings.accounts = vec![strict('b'), strict('c')]);
    // neighbours with one list of agents, and an account that any agent may hold
    for letter in ['a', 'b'] {
        fixture.add(AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record(letter) });
    }
    fixture.add(record('c'));
    let differs = Attestation::Differs("/usr/bin/python3 running /x.py".into());
    let unknown = Attestation::Unknown("why".into());
    let by = |attested: &Attestation, account: Option<&str>| LeaseRequest {
        agent: Some("claude".into()),
        account: account.map(Into::into),
        holder: Holder { attested: attested.clone(), ..Holder::default() },
        ..ask(0)
    };
    for attested in [Attestation::Later, Attestation::Matches, differs.clone(), unknown.clone()] {
        let may = matches!(attested, Attestation::Later | Attestation::Matches);
        for account in ['a', 'b', 'c'] {
            let named = by(&attested, Some(&account.to_string()));
            if may || account != 'b' {
                assert_eq!(fixture.peek(named), account, "{attested:?}");
            } else {
                assert_eq!(fixture.refused(named), RefusalKind::NotAllowed, "{attested:?}");
            }
        }
        // other accounts serve
        let without = |letters: &[char]| letters.iter().map(|letter| id(*letter)).collect();
        assert_eq!(fixture.peek(LeaseRequest { exclude: without(&['b', 'c']), ..by(&attested, None) }), 'a');
        let handed = fixture.pool.account(id('b')).unwrap().may_be_handed_to(&attested);
        assert_eq!(handed, attested == Attestation::Matches);
    }
    let held: Vec<char> = (0..2).map(|_| fixture.take(by(&differs, None))).collect();
    assert!(!held.contains(&'b'), "{held:?}");
    let refusal = fixture.run(Command::Acquire(Box::new(by(&differs, Some("b"))))).unwrap_err();
    assert_eq!(
        refusal.message,
        "the account b is for claude (attest = strict); the program behind the connection is /usr/bin/python3 running \
         /x.py"
    );
    let refusal = fixture.run(Command::Acquire(Box::new(by(&unknown, Some("b"))))).unwrap_err();
    assert!(refusal.message.ends_with("the program behind the connection is not known: why"), "{}", refusal.message);
}

#[test]
fn a_lease_on_a_strict_account_is_not_resumed_or_served_for_another_program() {
    use lessor::pool::{AccountRecord, AccountSettings, AttestPolicy, Attestation, ConnectionId, Holder, RequestNeeds};
    let strict = AccountSettings { name: "a".into(), attest: Some(AttestPolicy::Strict), ..AccountSettings::default() };
    let mut fixture = Fixture::new("", |settings| settings.accounts = vec![strict]);
    fixture.add(AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record('a') });
    let matches = Holder { attested: Attestation::Matches, ..Holder::default() };
    let differs = Holder { attested: Attestation::Differs("x".into()), ..Holder::default() };
    let ask = || LeaseRequest { agent: Some("claude".into()), holder: matches.clone(), ..ask(0) };
    let fence = fixture.hold(ask());
    let resume = |ticket, holder: &Holder| Command::Resume {
        ticket: Box::new(ticket),
        connection: ConnectionId(9),
        holder: holder.clone(),
    };
    let refusal = fixture.run(resume(fixture.ticket(fence), &differs)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotAllowed);
    fixture.run(resume(fixture.ticket(fence), &matches)).unwrap();
    let serve = |attested: Attestation| Command::Serve {
        fence,
        need: Box::new(RequestNeeds { target: target("k", None), exclude: vec![], attested }),
    };
    fixture.add(record('b'));
    fixture.run(serve(Attestation::Matches)).unwrap();
    assert_eq!(fixture.pool.lease(fence).unwrap().account, id('a'));
    fixture.run(Command::Attest(fence, differs.attested.clone())).unwrap();
    assert_eq!(fixture.pool.lease(fence).unwrap().holder.attested, differs.attested);
    fixture.run(serve(differs.attested)).unwrap();
    assert!(fixture.pool.lease(fence).is_none(), "it has moved");
    let stale = fixture.run(Command::Attest(fence, Attestation::Matches)).unwrap_err();
    assert_eq!(stale.kind, RefusalKind::StaleLease);
}

#[test]
fn an_account_is_named_by_id_prefix_email_or_label() {
    let mut fixture = Fixture::new("ab", |_| {});
    let shared = |letter, provider: &str| lessor::pool::AccountRecord {
        email: Some("me@x.y".into()),
        provider: provider.into(),
        ..record(letter)
    };
    fixture.add(shared('x', "p"));
    fixture.add(shared('y', "q"));
    let named = |name: &str| LeaseRequest { account: Some(name.into()), ..ask(0) };
    let whole = id('b').to_string();
    assert_eq!(fixture.peek(named("b")), 'b');
    assert_eq!(fixture.peek(named(&whole)), 'b');
    assert_eq!(fixture.peek(named(&whole[..10])), 'b');
    assert_eq!(fixture.peek(named(&whole[3..])), 'b', "the prefix `ac_` may be left out");
    assert_eq!(fixture.peek(named("me@x.y")), 'x', "of this provider");
    assert_eq!(
        fixture.pool.find_account("me@x.y").unwrap_err().kind,
        RefusalKind::UnknownAccount,
        "ambiguous over all"
    );
    for unknown in ["ac_", "", "nobody", "y", &id('y').to_string()] {
        assert_eq!(fixture.refused(named(unknown)), RefusalKind::UnknownAccount, "{unknown:?}");
    }
}

#[test]
fn labels_are_unique() {
    let mut fixture = Fixture::new("ab", |_| {});
    let twice = lessor::pool::AccountRecord { label: Some("a".into()), ..record('z') };
    assert_eq!(fixture.run(Command::AddAccount(Box::new(twice))).unwrap_err().kind, RefusalKind::BadRequest);
    let rename = |label: &str| Box::new(AccountChange { label: Some(label.into()), ..AccountChange::default() });
    assert_eq!(fixture.run(Command::ChangeAccount(id('b'), rename("a"))).unwrap_err().kind, RefusalKind::BadRequest);
    fixture.run(Command::ChangeAccount(id('a'), rename(""))).unwrap();
    fixture.run(Command::ChangeAccount(id('b'), rename("a"))).unwrap();
    assert_eq!(fixture.pool.find_account("a").unwrap().record.id, id('b'));
}

#[test]
fn the_last_use_survives_a_restart_and_a_reboot() {
    let mut fixture = Fixture::new("abc", of(Strategy::LeastUsed));
    for letter in ["c", "a", "b"] {
        fixture.peek(LeaseRequest { account: Some(letter.into()), ..ask(0) });
        fixture.pass(secs(100));
    }
    // a machine that has just come up counts from zero again
    fixture.now.mono = lessor::pool::Mono(5);
    fixture.restart(false);
    assert_eq!([0, 1, 2].map(|n| fixture.take(ask(n))), ['c', 'a', 'b']);
}
