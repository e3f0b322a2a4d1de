//! Single rules of seats, with times and accounts that a person can follow.

use std::time::Duration;

use lessor::pool::{
    AccountId, Action, Attestation, Bind, Command, Effect, Event, Fence, FenceBlock, Ineligible, Lease, LeaseRequest,
    Mono, MoveTime, Now, Overflow, Pool, PoolSettings, PoolStart, Process, RefusalKind, Reply, RequestNeeds,
    SeatCounts, SeatDenial, SeatLimits, Snapshot, Wall,
};

use super::fixture::{Fixture, a, account, acquire, ask, b, decision, limited, serve};
use super::world::{record, target};

#[test]
fn a_request_that_does_not_wait_waits_for_its_claim_and_gets_the_true_refusal() {
    let mut host = Fixture::new(&[a()], |_| ());
    assert!(matches!(host.run(acquire()), Ok(Reply::Queued(_))));
    assert_eq!(host.claims(), [(a(), 1)]);
    host.pass(500);
    assert_eq!(host.answer(), None, "the claim is not answered");
    host.claimed(a(), 1);
    let fence = host.answer().unwrap().unwrap();
    assert!(fence >= Fence(8_192), "a fence of the claim's block: {fence:?}");
    assert!(matches!(host.run(acquire()), Ok(Reply::Queued(_))));
    host.denied(a(), SeatDenial::Full);
    let refusal = host.answer().unwrap().unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::NoCapacity, Ineligible::Busy));
    // without a pause, the account is not claimed again
    assert!(host.run(acquire()).is_err() && host.claims().is_empty());
    host.pass(1_000);
    assert!(host.run(acquire()).is_ok() && host.claims() == [(a(), 1)]);
}

#[test]
fn a_denied_request_tries_another_account_and_one_claim_serves_all_that_wait() {
    let mut host = Fixture::new(&[a(), b()], |_| ());
    host.run(acquire()).unwrap();
    assert_eq!(host.claims(), [(a(), 1)]);
    host.denied(a(), SeatDenial::Full);
    assert_eq!(host.claims(), [(b(), 1)], "the next account");
    host.run(acquire()).unwrap();
    assert_eq!(host.claims(), [], "one claim of an account at a time");
    let granted = |host: &Fixture| {
        let is_grant = |effect: &&Effect| matches!(effect, Effect::Answer { result: Ok(_), .. });
        host.effects.iter().filter(is_grant).count()
    };
    host.claimed(b(), 1);
    assert_eq!((granted(&host), host.claims()), (1, vec![(b(), 1)]), "the next claim, for the other request");
    host.claimed(b(), 1);
    assert_eq!((granted(&host), host.claims()), (1, vec![]));
}

#[test]
fn leases_elsewhere_are_load_and_a_claim_of_a_full_account_tells_the_others() {
    let mut host = Fixture::new(&[a(), b()], |_| ());
    host.run(Command::SeatsElsewhere(vec![(a(), 1)])).unwrap();
    host.run(acquire()).unwrap();
    assert_eq!(host.claims(), [(b(), 1)], "it has fewer leases on all hosts together (I2)");
    host.claimed(b(), 1);
    host.run(Command::SeatsElsewhere(vec![(a(), 2), (b(), 1)])).unwrap();
    let Ok(Reply::Queued(_)) = host.run(acquire()) else { panic!("it waits for the claim") };
    assert_eq!(host.claims(), [(a(), 1)], "so that another host gives back a free seat");
    let shown = host.pool.explain(host.now, &ask());
    assert!(shown.candidates.iter().all(|one| one.exclusion.as_ref().is_some_and(|why| why.why == Ineligible::Busy)));
}

#[test]
fn in_a_full_pool_a_few_accounts_at_once_are_wanted_and_all_of_them_in_turn() {
    let all: Vec<AccountId> = (1..=30).map(account).collect();
    let mut host = Fixture::new(&all, |_| ());
    host.run(Command::SeatsElsewhere(all.iter().map(|account| (*account, 2)).collect())).unwrap();
    host.run(Command::Acquire(Box::new(LeaseRequest { wait: Some(Duration::from_secs(60)), ..ask() }))).unwrap();
    let (mut wanted, mut claims) = (Vec::new(), host.claims());
    for _ in 0..5 {
        let before = wanted.len();
        while let Some((account, _)) = claims.pop() {
            wanted.push(account);
            host.denied(account, SeatDenial::Full);
            claims = host.claims();
        }
        assert!((1..=8).contains(&(wanted.len() - before)), "{wanted:?}");
        host.pass(1_000);
        claims = host.claims();
    }
    wanted.sort_unstable();
    wanted.dedup();
    assert_eq!(wanted, all, "other hosts are asked for each of them");
}

#[test]
fn the_host_s_own_settings_only_lower_what_the_pool_allows() {
    for (overflow, max, most) in
        [(Overflow::Share, 16, 2), (Overflow::Share, 1, 1), (Overflow::Wait, 16, 1), (Overflow::Fail, 16, 1)]
    {
        let mut host = Fixture::new(&[a()], |settings| {
            (settings.leases.overflow, settings.leases.max_per_account) = (overflow, max);
        });
        host.run(acquire()).unwrap();
        let claim = Effect::ClaimSeats { account: a(), seats: 1, most, whole: false };
        assert!(host.effects.contains(&claim), "{overflow:?}: {:?}", host.effects);
    }
}

#[test]
fn at_the_end_of_the_term_holders_are_warned_and_then_all_leases_on_shared_accounts_end() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    let on_own = host.lease(account(9));
    let fence = host.lease(a());
    host.pass(27_999);
    let warning = |host: &Fixture| host.effects.contains(&Effect::Emit(Event::SeatsEnd(fence, Mono(1_030_000))));
    assert!(!warning(&host));
    host.pass(1);
    assert!(warning(&host));
    host.run(Command::ExtendSeats { until: Mono(1_040_000) }).unwrap();
    host.pass(11_999);
    assert_eq!(host.cut_off(), 0);
    assert_eq!(host.pool.next_wakeup(host.now), Some(Mono(1_040_000)));
    host.pass(1);
    assert!(host.cut_off() == 1 && host.pool.lease(on_own).is_some());
    assert_eq!((host.pool.seats_until(), host.held(a())), (None, 0));
    // a heartbeat that comes late brings nothing back
    host.run(Command::ExtendSeats { until: Mono(1_090_000) }).unwrap();
    assert_eq!(host.pool.seats_until(), None);
    host.pass(5_000);
    let ask = LeaseRequest { account: Some(a().to_string().into()), ..ask() };
    let refusal = host.run(Command::Acquire(Box::new(ask))).unwrap_err();
    assert_eq!(refusal.accounts[0].why.name(), "no_seat");
    assert!(refusal.message.contains("has held no seats of the shared pool for 5 s"), "{}", refusal.message);
    assert!(refusal.hint.unwrap().contains("lessor pool status"));
}

#[test]
fn a_term_whose_time_is_over_when_it_begins_is_none() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.lease(a());
    host.run(Command::JoinTerm { until: host.now.mono }).unwrap();
    assert_eq!((host.cut_off(), host.pool.seats_until(), host.held(a())), (1, None, 0));
    assert!(host.run(acquire()).is_err() && host.claims().is_empty());
}

#[test]
fn without_the_database_seats_stay_valid_and_no_claim_is_made() {
    let mut host = Fixture::new(&[a()], |_| ());
    let fence = host.lease(a());
    host.run(acquire()).unwrap();
    host.run(Command::LoseConnection).unwrap();
    let refusal = host.answer().unwrap().unwrap_err();
    assert_eq!(refusal.accounts[0].why, Ineligible::NoSeat);
    assert!(refusal.message.contains("its database has not answered for 0 s"), "{}", refusal.message);
    assert!(host.claims().is_empty() && host.pool.lease(fence).is_some());
    assert_eq!(decision(host.run(serve(fence))).action, Action::Continue);
    // its own free seat is granted
    host.run(Command::Release(fence)).unwrap();
    assert!(matches!(host.run(acquire()), Ok(Reply::Held(_))));
    host.run(Command::ExtendSeats { until: Mono(1_035_000) }).unwrap();
    assert!(host.run(acquire()).is_ok() && host.claims() == [(a(), 1)], "it answers again");
}

#[test]
fn a_free_seat_lingers_and_goes_back_at_once_when_another_host_wants_it() {
    let mut host = Fixture::new(&[a(), b()], |settings| settings.leases.linger = Duration::from_secs(5));
    let (on_a, on_b) = (host.lease(a()), host.lease(b()));
    host.run(Command::SeatsWanted(vec![a()])).unwrap();
    assert_eq!(host.given_back(), [], "it is used");
    let waits = LeaseRequest { account: Some(a().to_string().into()), wait: None, ..ask() };
    host.run(Command::SeatsElsewhere(vec![(a(), 1)])).unwrap();
    host.run(Command::Acquire(Box::new(waits))).unwrap();
    host.denied(a(), SeatDenial::Full);
    host.pass(1);
    host.run(Command::Release(on_a)).unwrap();
    assert_eq!((host.given_back(), host.answer()), (vec![(a(), 1)], None), "the other host comes first");
    assert_eq!(host.held(a()), 0);
    host.run(Command::Release(on_b)).unwrap();
    host.pass(4_999);
    assert_eq!(host.given_back(), []);
    host.pass(1);
    assert_eq!((host.given_back(), host.held(b())), (vec![(b(), 1)], 0));
}

#[test]
fn a_free_seat_goes_back_in_time_however_often_its_host_connects_again() {
    let mut host = Fixture::new(&[a()], |settings| settings.leases.linger = Duration::from_secs(5));
    let fence = host.lease(a());
    host.run(Command::Release(fence)).unwrap();
    for _ in 0..2 {
        host.pass(2_000);
        let until = Mono(host.now.mono.0 + 30_000);
        host.run(Command::ResumeTerm { until, seats: vec![(a(), 1)] }).unwrap();
        assert_eq!((host.given_back(), host.held(a())), (vec![], 1));
    }
    host.pass(1_000);
    assert_eq!((host.given_back(), host.held(a())), (vec![(a(), 1)], 0));
}

#[test]
fn an_exclusive_lease_takes_all_seats_or_none_and_gives_them_back() {
    let mut host = Fixture::new(&[a()], |_| ());
    let exclusive = || Command::Acquire(Box::new(LeaseRequest { exclusive: true, ..ask() }));
    host.run(exclusive()).unwrap();
    assert!(host.effects.contains(&Effect::ClaimSeats { account: a(), seats: 2, most: 2, whole: true }));
    host.claimed(a(), 2);
    let fence = host.answer().unwrap().unwrap();
    assert!(host.run(acquire()).is_err() && host.claims().is_empty(), "it is alone");
    host.run(Command::SeatsWanted(vec![a()])).unwrap();
    assert_eq!(host.given_back(), [], "all seats are in use");
    host.run(Command::Release(fence)).unwrap();
    assert_eq!(host.given_back(), [(a(), 2)]);
}

#[test]
fn an_exclusive_lease_claims_the_seats_that_a_raised_ceiling_adds() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::Acquire(Box::new(LeaseRequest { exclusive: true, ..ask() }))).unwrap();
    host.claimed(a(), 2);
    host.run(Command::ShareAccount(a(), SeatLimits { capacity: 1, ceiling: 4 })).unwrap();
    assert!(host.effects.contains(&Effect::ClaimSeats { account: a(), seats: 2, most: 4, whole: true }));
    host.denied(a(), SeatDenial::Full);
    host.pass(1_000);
    assert_eq!(host.claims(), [(a(), 2)], "until it has them");
    host.claimed(a(), 2);
    host.pass(5_000);
    assert_eq!((host.held(a()), host.claims()), (4, vec![]));
}

#[test]
fn a_report_moves_to_a_seat_that_is_here_and_else_claims_one_for_the_next_try() {
    let mut host = Fixture::new(&[a(), b()], |_| ());
    let fence = host.lease(a());
    let decided = decision(host.run(limited(fence)));
    assert_eq!((decided.action, host.claims()), (Action::Wait, vec![(b(), 1)]));
    assert!(decided.after <= Duration::from_millis(200), "the seat is there in a moment: {decided:?}");
    host.claimed(b(), 1);
    let decided = decision(host.run(serve(fence)));
    assert_eq!(decided.action, Action::Switch);
    assert_eq!(host.pool.lease(decided.lease.unwrap()).unwrap().account, b());
}

#[test]
fn a_report_prefers_a_seat_that_is_here_to_a_better_account() {
    let third = account(3);
    let mut host = Fixture::new(&[a(), b(), third], |settings| settings.selection.session_ttl = Duration::ZERO);
    let (fence, second) = (host.lease(a()), host.lease(third));
    host.run(Command::Release(second)).unwrap();
    let decided = decision(host.run(limited(fence)));
    assert_eq!((decided.action, host.claims()), (Action::Switch, vec![]));
    assert_eq!(host.pool.lease(decided.lease.unwrap()).unwrap().account, third);
}

#[test]
fn a_move_by_command_waits_for_its_seat_and_happens_with_the_next_call() {
    let mut host = Fixture::new(&[a(), b()], |_| ());
    let fence = host.lease(a());
    let moved = host.run(Command::MoveLease { fence, to: Some(b()), exclude: vec![], when: MoveTime::AtOnce });
    assert_eq!((moved, host.claims()), (Ok(Reply::Done), vec![(b(), 1)]));
    assert_eq!(host.pool.moves_to(fence), Some(b()));
    assert_eq!(host.run(Command::ExtendLease(fence)), Ok(Reply::Held(fence)), "not yet");
    host.claimed(b(), 1);
    let Ok(Reply::Held(moved)) = host.run(Command::ExtendLease(fence)) else { panic!("it moves") };
    assert_eq!(host.pool.lease(moved).unwrap().account, b());
}

#[test]
fn sub_agents_need_one_seat_and_keep_it() {
    let mut host = Fixture::new(&[a()], |_| ());
    let subagent = |parent| {
        let subagent = lessor::pool::Subagent { id: "s".into(), parent, apart: None };
        Command::Acquire(Box::new(LeaseRequest { subagent: Some(Box::new(subagent)), ..ask() }))
    };
    host.run(subagent(None)).unwrap();
    assert_eq!(host.claims(), [(a(), 1)]);
    host.claimed(a(), 1);
    assert!(matches!(host.run(subagent(Some(a()))), Ok(Reply::Held(_))), "one seat is enough for all");
    let fence = host.lease(a());
    assert_eq!(host.held(a()), 1, "a sub-agent takes no seat of its own");
    host.run(Command::Release(fence)).unwrap();
    host.run(Command::SeatsWanted(vec![a()])).unwrap();
    assert_eq!((host.given_back(), host.held(a())), (vec![], 1));
}

#[test]
fn overlapping_sub_agents_do_not_keep_a_seat_from_another_host() {
    let mut host = Fixture::new(&[a()], |_| ());
    let subagent = |parent| {
        let subagent = lessor::pool::Subagent { id: "s".into(), parent, apart: None };
        Command::Acquire(Box::new(LeaseRequest { subagent: Some(Box::new(subagent)), ..ask() }))
    };
    let parent = host.lease(a());
    let Ok(Reply::Held(first)) = host.run(subagent(Some(a()))) else { panic!("its parent has a seat") };
    host.run(Command::SeatsWanted(vec![a()])).unwrap();
    let Ok(Reply::Held(second)) = host.run(subagent(Some(a()))) else { panic!("its parent has a seat yet") };
    host.run(Command::Release(parent)).unwrap();
    // neither a sub-agent nor an agent prolongs it
    for ask in [subagent(None), subagent(Some(a())), acquire()] {
        let refusal = host.run(ask).unwrap_err();
        assert_eq!((refusal.accounts[0].why, host.claims()), (Ineligible::Busy, vec![]), "{refusal:?}");
    }
    host.run(Command::Release(first)).unwrap();
    assert_eq!(host.given_back(), [], "the second one runs");
    host.run(Command::Release(second)).unwrap();
    assert_eq!(host.given_back(), [(a(), 1)]);
    // without such a host it goes on
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(subagent(None)).unwrap();
    host.claimed(a(), 1);
    host.run(Command::SeatsWanted(vec![a()])).unwrap();
    host.run(Command::SeatsWanted(vec![])).unwrap();
    assert!(matches!(host.run(subagent(None)), Ok(Reply::Held(_))), "the other host waits no more");
}

#[test]
fn a_want_is_withdrawn_when_no_request_waits_for_it_any_more() {
    let withdrawn = |host: &Fixture| host.effects.contains(&Effect::WithdrawWant { account: a() });
    let waits = || LeaseRequest { account: Some(a().to_string().into()), wait: None, ..ask() };
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::ExtendSeats { until: Mono(2_000_000) }).unwrap();
    let Ok(Reply::Queued(waiter)) = host.run(Command::Acquire(Box::new(waits()))) else { panic!("it waits") };
    host.denied(a(), SeatDenial::Full);
    for _ in 0..5 {
        host.pass(1_000);
        assert!(!withdrawn(&host) && host.claims() == [(a(), 1)], "it is wanted yet, and said again");
        host.denied(a(), SeatDenial::Full);
    }
    host.run(Command::Cancel(waiter)).unwrap();
    host.pass(999);
    assert!(!withdrawn(&host), "a client that asks again and again does not wait");
    host.pass(1);
    assert!(withdrawn(&host));
    host.pass(60_000);
    assert!(!withdrawn(&host), "once");
    // the claim that succeeds ends it in the database, too
    host.run(Command::Acquire(Box::new(waits()))).unwrap();
    host.denied(a(), SeatDenial::Full);
    host.pass(1_000);
    host.claimed(a(), 1);
    host.pass(60_000);
    assert!(!withdrawn(&host));
}

#[test]
fn a_request_does_not_wait_for_a_pool_that_a_person_must_open_again() {
    let waits = || Command::Acquire(Box::new(LeaseRequest { wait: None, ..ask() }));
    let mut host = Fixture::new(&[a()], |_| ());
    let fence = host.lease(a());
    host.run(Command::LoseConnection).unwrap();
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))), "the database may answer again");
    host.run(Command::SetPoolClosed(true)).unwrap();
    assert_eq!(host.answer(), None, "the seat that is held may become free");
    host.run(Command::LoseSeats).unwrap();
    let refusal = host.answer().unwrap().unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::NoCapacity, Ineligible::NoSeat));
    assert!(host.pool.lease(fence).is_none());
    let refusal = host.run(waits()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NoCapacity, "at once: {refusal:?}");
    // another address, or a connection
    host.run(Command::SetPoolClosed(false)).unwrap();
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))));
    host.run(Command::SetPoolClosed(true)).unwrap();
    assert!(host.answer().unwrap().is_err(), "one that waits already fails, too");
    host.run(Command::JoinTerm { until: Mono(u64::MAX / 2) }).unwrap();
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))), "a term has begun: it is open");
    // an account of this host may become free
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::LoseSeats).unwrap();
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    host.run(Command::SetPoolClosed(true)).unwrap();
    let exclusive = LeaseRequest { exclusive: true, ..ask() };
    assert!(matches!(host.run(Command::Acquire(Box::new(exclusive))), Ok(Reply::Held(_))));
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))));
}

#[test]
fn a_resumed_term_keeps_as_many_leases_as_it_has_seats_and_a_new_term_none() {
    let lease = |n: u64, account: AccountId| Lease {
        bind: Bind::Process(Process { pid: n as u32, start: 1 }),
        fence: Fence(n),
        ..some_lease(account)
    };
    let start = |commands: Vec<Command>| {
        let now = Now { mono: Mono(5_000), wall: Wall(1_800_000_000_000) };
        let snapshot = Snapshot {
            accounts: vec![record(1), record(2)],
            leases: vec![lease(1, a()), lease(2, a()), lease(3, b())],
            shared: vec![a()],
            ..Snapshot::default()
        };
        let (start, mut effects) = (PoolStart { fence: Fence(1_000), grace: false }, vec![]);
        let mut pool = Pool::restore(now, PoolSettings::default(), snapshot, start, &mut effects);
        pool.check(now).unwrap();
        assert_eq!(pool.lease_count(), 3);
        // not served before the term is known
        let need = Box::new(RequestNeeds { target: target(), exclude: vec![b()], attested: Attestation::default() });
        let served = pool.handle(now, Command::Serve { fence: Fence(1), need }, &mut effects);
        assert_ne!(decision(served).action, Action::Continue);
        for command in commands {
            pool.handle(now, command, &mut effects).unwrap();
            pool.check(now).unwrap();
        }
        (pool, now)
    };
    let fences = |pool: &Pool| {
        let mut held: Vec<u64> = pool.leases().map(|lease| lease.fence.0).collect();
        held.sort_unstable();
        held
    };
    let until = Mono(30_000);
    let (pool, _) = start(vec![Command::ResumeTerm { until, seats: vec![(a(), 1)] }]);
    assert_eq!((fences(&pool), pool.seats(a())), (vec![1, 3], Some(SeatCounts { held: 1, elsewhere: 0 })));
    assert_eq!(fences(&start(vec![Command::JoinTerm { until }]).0), [3]);
    assert_eq!(fences(&start(vec![Command::LoseSeats]).0), [3]);
    let (mut pool, mut now) = start(vec![]);
    now.mono = Mono(14_999);
    pool.handle(now, Command::Tick, &mut vec![]).unwrap();
    assert_eq!(fences(&pool), [1, 2, 3]);
    now.mono = Mono(15_000);
    pool.handle(now, Command::Tick, &mut vec![]).unwrap();
    assert_eq!(fences(&pool), [3], "10 s without a term");
}

fn some_lease(account: AccountId) -> Lease {
    Lease {
        fence: Fence(1),
        account,
        target: target().into(),
        session: None,
        label: None,
        agent: None,
        bind: Bind::Ttl,
        holder: lessor::pool::Holder::default(),
        exclusive: false,
        pinned: false,
        set: None,
        by: lessor::pool::ChosenBy::Strategy,
        ttl: None,
        expires: None,
        granted_at: Wall(0),
        request_id: None,
        subagent: None,
    }
}

#[test]
fn fences_come_from_the_newest_block_and_without_one_only_own_accounts_are_granted() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    let first = host.lease(account(9));
    assert_eq!(first, Fence(4_096), "own accounts use the same fences");
    host.run(Command::TakeFences(FenceBlock { from: Fence(9_000_000), to: Fence(9_000_003) })).unwrap();
    assert!(host.effects.iter().any(|effect| matches!(effect, Effect::ReserveFences(to) if to.0 >= 9_000_003)));
    // an older block comes late
    host.run(Command::TakeFences(FenceBlock { from: Fence(5_000), to: Fence(6_000) })).unwrap();
    let own = |host: &mut Fixture| host.lease(account(9));
    assert_eq!((own(&mut host), own(&mut host)), (Fence(9_000_000), Fence(9_000_001)));
    let asked = Effect::ClaimFences { above: Fence(9_000_001) };
    assert!(host.effects.contains(&asked), "half of the block is used: {:?}", host.effects);
    assert_eq!((own(&mut host), own(&mut host)), (Fence(9_000_002), Fence(9_000_003)));
    assert_eq!(own(&mut host), Fence(9_000_004), "beyond the block");
    let ask = || Command::Acquire(Box::new(LeaseRequest { account: Some(a().to_string().into()), ..ask() }));
    assert_eq!(host.run(ask()).unwrap_err().accounts[0].why, Ineligible::NoSeat);
    host.run(Command::TakeFences(FenceBlock { from: Fence(9_100_000), to: Fence(9_100_100) })).unwrap();
    host.run(ask()).unwrap();
    assert_eq!(host.claims(), [(a(), 1)]);
}

#[test]
fn an_account_that_becomes_shared_loses_its_leases_and_one_that_becomes_own_keeps_them() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    host.lease(account(9));
    host.run(Command::ShareAccount(account(9), SeatLimits { capacity: 1, ceiling: 2 })).unwrap();
    assert_eq!(host.cut_off(), 1, "another host may have its seats already");
    let fence = host.lease(a());
    host.run(Command::ShareAccount(a(), SeatLimits { capacity: 1, ceiling: 3 })).unwrap();
    assert!(host.cut_off() == 0 && host.held(a()) == 1, "the same again changes only the limits");
    host.run(Command::UnshareAccount(a())).unwrap();
    assert!(host.pool.lease(fence).is_some() && host.pool.seats(a()).is_none());
    host.pass(60_000);
    assert!(host.pool.lease(fence).is_some());
}

#[test]
fn a_request_that_waits_claims_a_seat_of_an_account_that_is_added_as_shared() {
    let mut host = Fixture::new(&[a()], |settings| settings.leases.overflow = Overflow::Wait);
    host.lease(a());
    let waits = LeaseRequest { target: target(), wait: Some(Duration::from_secs(60)), ..ask() };
    host.run(Command::Acquire(Box::new(waits))).unwrap();
    host.run(Command::AddSharedAccount(Box::new(record(9)), SeatLimits { capacity: 1, ceiling: 2 })).unwrap();
    assert_eq!((host.answer(), host.claims()), (None, vec![(account(9), 1)]), "it was granted without a seat");
    let is_change = |effect: &&Effect| matches!(effect, Effect::Emit(Event::AccountChanged(_)));
    assert_eq!(host.effects.iter().filter(is_change).count(), 1, "subscribers see it as it is, once");
    host.claimed(account(9), 1);
    assert!(host.answer().is_some_and(|answer| answer.is_ok()));
}

#[test]
fn an_answer_to_no_claim_changes_no_seats() {
    let mut host = Fixture::new(&[a()], |_| ());
    let fences = host.block();
    assert!(host.run(Command::SeatsClaimed { account: a(), seats: 1, elsewhere: 0, fences }).is_err());
    assert_eq!(host.held(a()), 0);
    host.run(acquire()).unwrap();
    host.pass(10_000);
    let refusal = host.answer().unwrap().unwrap_err();
    assert_eq!(refusal.accounts[0].why, Ineligible::NoSeat, "an answer that never comes is one");
}
