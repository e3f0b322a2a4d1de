//! One recovery probe per account on all hosts together: what each host does with a limit whose time is over.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountId, Action, Command, Deadline, Effect, Event, Fence, Ineligible, LeaseRequest, Limit, LimitSource, Mono,
    Pool, PoolSettings, PoolStart, RefusalKind, Reply, RequestOutcome, Snapshot,
};

use super::fixture::{Fixture, a, account, acquire, ask, b, decision, refused, serve};
use super::world::record;

/// A limit of this length takes a probe.
const LONG: Duration = Duration::from_secs(400);
const LONG_MS: u64 = 400_000;

/// A host that has one seat of each of these accounts, all of them with a limit whose time is over, and a long term.
fn recovering(shared: &[AccountId]) -> Fixture {
    let mut host = Fixture::new(shared, |settings| settings.leases.linger = Duration::from_secs(10_000));
    host.run(Command::ExtendSeats { until: Mono(100_000_000) }).unwrap();
    for account in shared {
        let fence = host.lease(*account);
        host.run(Command::Release(fence)).unwrap();
    }
    for account in shared {
        let until = Deadline::Mono(host.now.mono.after(LONG));
        let limit = Limit::new(Scope::Pool, "k", Reason::RateLimitExceeded, until, LimitSource::Server);
        host.run(Command::SetLimit(*account, limit)).unwrap();
    }
    host.pass(LONG_MS);
    assert_eq!(asked(&host), [], "nothing needs it");
    host
}

/// The accounts whose duty the last command asks for.
fn asked(host: &Fixture) -> Vec<AccountId> {
    let asked = host.effects.iter().filter_map(|effect| match effect {
        Effect::ClaimProbe { account, limits } => {
            assert_eq!(limits, &[(Scope::Pool, "k".to_owned())]);
            Some(*account)
        }
        _ => None,
    });
    asked.collect()
}

fn gives_up(host: &Fixture, account: AccountId) -> bool {
    host.effects.contains(&Effect::GiveUpProbe(account))
}

fn waits() -> Command {
    Command::Acquire(Box::new(LeaseRequest { wait: Some(Duration::from_secs(200)), ..ask() }))
}

/// A host that probes, and the lease that is the probe.
fn probing() -> (Fixture, Fence) {
    let mut host = recovering(&[a()]);
    assert!(matches!(host.run(acquire()), Ok(Reply::Queued(_))), "also a request that does not wait");
    assert_eq!(asked(&host), [a()]);
    host.run(Command::ProbeClaimed(a())).unwrap();
    let fence = host.answer().unwrap().unwrap();
    (host, fence)
}

/// What another host has found out.
fn cleared_elsewhere() -> Command {
    Command::ClearLimit(a(), Scope::Pool, "k".to_owned())
}

#[test]
fn the_host_with_the_duty_sends_one_request_and_its_success_frees_the_account() {
    let (mut host, probe) = probing();
    let refusal = host.run(acquire()).unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::AllLimited, Ineligible::Limited));
    host.run(Command::Report { fence: probe, outcome: RequestOutcome::Ok }).unwrap();
    let place = |wanted: &Effect| host.effects.iter().position(|effect| effect == wanted).unwrap();
    let dropped = place(&Effect::DropLimit(a(), Some((Scope::Pool, "k".to_owned()))));
    assert!(dropped < place(&Effect::GiveUpProbe(a())), "the others must know first");
    assert!(host.run(acquire()).is_ok() && asked(&host).is_empty());
}

#[test]
fn a_probe_that_is_refused_limits_again_and_ends_the_duty() {
    let (mut host, probe) = probing();
    host.run(refused(probe, LONG)).unwrap();
    assert!(gives_up(&host, a()));
    assert!(host.run(acquire()).is_err() && asked(&host).is_empty());
}

#[test]
fn a_host_without_the_duty_waits_for_the_outcome_and_asks_again() {
    let mut host = recovering(&[a()]);
    host.run(acquire()).unwrap();
    host.run(Command::ProbeDenied(a())).unwrap();
    assert_eq!(host.answer().unwrap().unwrap_err().accounts[0].why, Ineligible::Limited);
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))) && asked(&host).is_empty());
    host.pass(4_999);
    assert_eq!(asked(&host), []);
    host.pass(1);
    assert_eq!(asked(&host), [a()], "the other host may have died");
    host.run(Command::ProbeDenied(a())).unwrap();
    assert_eq!(host.answer(), None);
    host.run(cleared_elsewhere()).unwrap();
    assert!(host.answer().unwrap().is_ok());
    assert!(matches!(host.run(waits()), Ok(Reply::Queued(_))), "requests return on the ramp");
}

#[test]
fn news_that_come_before_the_answer_end_the_wait_for_it() {
    let mut host = recovering(&[a()]);
    host.run(waits()).unwrap();
    host.run(acquire()).unwrap();
    assert_eq!(asked(&host), [], "one claim for both");
    host.run(cleared_elsewhere()).unwrap();
    let refused = |effect: &&Effect| matches!(effect, Effect::Answer { result: Err(_), .. });
    assert_eq!(host.effects.iter().filter(refused).count(), 1, "it waits for nothing else: {:?}", host.effects);
    assert!(host.run(Command::ProbeClaimed(a())).is_err(), "the answer is of no use any more");
}

#[test]
fn a_refusal_of_the_other_host_s_probe_closes_the_limit_here() {
    let mut host = recovering(&[a()]);
    host.run(waits()).unwrap();
    host.run(Command::ProbeDenied(a())).unwrap();
    let until = Deadline::Mono(host.now.mono.after(LONG));
    let limit = Limit::new(Scope::Pool, "k", Reason::RateLimitExceeded, until, LimitSource::Server);
    host.run(Command::SetLimit(a(), limit)).unwrap();
    host.pass(5_000);
    assert!(asked(&host).is_empty() && host.run(acquire()).unwrap_err().retry_at.is_some());
}

#[test]
fn the_prober_that_never_sends_its_request_leaves_the_duty_to_others() {
    let mut host = recovering(&[a()]);
    let Ok(Reply::Queued(waiter)) = host.run(waits()) else { panic!("it waits") };
    host.run(Command::Cancel(waiter)).unwrap();
    host.run(Command::ProbeClaimed(a())).unwrap();
    host.pass(9_999);
    assert!(!gives_up(&host, a()));
    host.pass(1);
    assert!(gives_up(&host, a()));
    host.run(acquire()).unwrap();
    assert_eq!(asked(&host), [a()], "it asks again before it probes");
}

#[test]
fn a_probe_without_a_report_counts_as_a_success_and_one_whose_lease_ends_leaves_its_place() {
    let (mut host, probe) = probing();
    host.run(Command::Release(probe)).unwrap();
    let Ok(Reply::Held(second)) = host.run(acquire()) else { panic!("the duty is still here") };
    host.pass(60_000);
    assert!(gives_up(&host, a()));
    let dropped = Effect::DropLimit(a(), Some((Scope::Pool, "k".to_owned())));
    assert!(host.effects.contains(&dropped) && host.pool.lease(second).is_some());
}

#[test]
fn without_the_database_nothing_is_stalled_but_the_account_itself() {
    let mut host = recovering(&[a()]);
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    let only_a = || Box::new(LeaseRequest { account: Some(a().to_string().into()), ..ask() });
    host.run(Command::Acquire(only_a())).unwrap();
    host.run(Command::LoseConnection).unwrap();
    assert!(host.answer().unwrap().is_err(), "the claim has failed");
    assert!(host.run(Command::Acquire(only_a())).is_err() && asked(&host).is_empty());
    assert!(matches!(host.run(acquire()), Ok(Reply::Held(_))), "of the host's own account");
    host.run(Command::ExtendSeats { until: Mono(200_000_000) }).unwrap();
    host.run(Command::Acquire(only_a())).unwrap();
    assert_eq!(asked(&host), [a()], "it answers again");
    // an answer that never comes is one, too
    host.pass(10_000);
    assert!(host.answer().unwrap().is_err());
}

#[test]
fn the_duty_goes_on_while_the_database_is_away_and_is_lost_with_the_term() {
    let (mut host, probe) = probing();
    host.run(Command::LoseConnection).unwrap();
    assert_eq!(decision(host.run(serve(probe))).action, Action::Continue);
    host.run(Command::Release(probe)).unwrap();
    assert!(matches!(host.run(acquire()), Ok(Reply::Held(_))), "the database still has it");
    host.run(Command::LoseSeats).unwrap();
    assert!(!gives_up(&host, a()), "it ends with the term");
    host.run(Command::JoinTerm { until: Mono(200_000_000) }).unwrap();
    host.run(acquire()).unwrap();
    host.claimed(a(), 1);
    assert_eq!((host.answer(), asked(&host)), (None, vec![a()]));
    assert!(host.run(Command::ProbeClaimed(b())).is_err());
}

#[test]
fn a_holder_that_waited_for_the_end_of_the_limit_is_the_probe() {
    let mut host = Fixture::new(&[a()], |_| ());
    host.run(Command::ExtendSeats { until: Mono(100_000_000) }).unwrap();
    let (first, second) = (host.lease(a()), host.lease(a()));
    for fence in [first, second] {
        assert_eq!(decision(host.run(refused(fence, LONG))).action, Action::Wait);
    }
    host.pass(LONG_MS);
    assert_eq!(asked(&host), [a()], "it needs the duty now");
    assert_eq!(decision(host.run(serve(first))).action, Action::Wait, "the answer is under way");
    host.run(Command::ProbeClaimed(a())).unwrap();
    assert_ne!(decision(host.run(serve(second))).action, Action::Continue);
    assert_eq!(decision(host.run(serve(first))).action, Action::Continue);
}

#[test]
fn a_holder_s_next_request_waits_for_the_duty_although_its_lease_takes_all_the_room() {
    let mut host = recovering(&[a()]);
    host.run(cleared_elsewhere()).unwrap();
    let fence = host.lease(a());
    host.run(refused(fence, LONG)).unwrap();
    host.run(Command::ShareAccount(a(), lessor::pool::SeatLimits { capacity: 1, ceiling: 1 })).unwrap();
    host.pass(LONG_MS);
    host.run(Command::ProbeDenied(a())).unwrap();
    assert_ne!(decision(host.run(serve(fence))).action, Action::Continue);
    host.pass(5_000);
    host.run(Command::ProbeClaimed(a())).unwrap();
    assert_eq!(decision(host.run(serve(fence))).action, Action::Continue);
}

#[test]
fn a_request_takes_another_account_that_is_here_and_the_duty_is_asked_for_all_the_same() {
    let mut host = recovering(&[a(), b()]);
    host.run(Command::ClearLimit(b(), Scope::Pool, "k".to_owned())).unwrap();
    host.pass(60_000);
    let Ok(Reply::Queued(_) | Reply::Held(_)) = host.run(acquire()) else { panic!("it is served") };
    let on = host.pool.leases().next().unwrap();
    assert_eq!(on.account, b());
}

#[test]
fn an_account_of_this_host_alone_is_probed_without_asking() {
    let mut host = Fixture::new(&[], |_| ());
    host.run(Command::ExtendSeats { until: Mono(100_000_000) }).unwrap();
    host.run(Command::AddAccount(Box::new(record(9)))).unwrap();
    let fence = host.lease(account(9));
    host.run(refused(fence, LONG)).unwrap();
    host.run(Command::Release(fence)).unwrap();
    host.pass(LONG_MS);
    assert!(matches!(host.run(acquire()), Ok(Reply::Held(_))));
    assert!(asked(&host).is_empty() && host.run(acquire()).is_err());
    // with another host beside it, the next one is asked for
    host.run(Command::ShareAccount(account(9), lessor::pool::SeatLimits { capacity: 1, ceiling: 2 })).unwrap();
    host.run(acquire()).unwrap();
    host.claimed(account(9), 1);
    assert_eq!(asked(&host), [account(9)]);
    host.run(Command::UnshareAccount(account(9))).unwrap();
    assert!(host.answer().unwrap().is_ok(), "no other host has to be asked any more");
}

#[test]
fn each_host_says_the_same_of_a_limit_however_late_it_learns_of_it() {
    let mut host = Fixture::new(&[a()], |settings| settings.leases.linger = Duration::from_secs(10_000));
    host.run(Command::ExtendSeats { until: Mono(100_000_000) }).unwrap();
    let fence = host.lease(a());
    host.run(Command::Release(fence)).unwrap();
    let until = Deadline::Mono(host.now.mono.after(Duration::from_secs(1)));
    let mut limit = Limit::new(Scope::Pool, "k", Reason::RateLimitExceeded, until, LimitSource::Server);
    // set by another host, long ago
    limit.since = lessor::pool::Wall(host.now.wall.0 - LONG_MS);
    host.run(Command::SetLimit(a(), limit)).unwrap();
    host.pass(1_000);
    assert!(host.effects.contains(&Effect::Emit(Event::Recovered(a(), "k".to_owned()))));
    host.run(acquire()).unwrap();
    assert_eq!(asked(&host), [a()]);
}

#[test]
fn after_a_restart_a_limit_that_no_probe_has_tested_is_probed_by_one_host_only() {
    let mut host = recovering(&[a()]);
    let limits = vec![lessor::pool::LimitRecord {
        account: a(),
        key: "k".to_owned(),
        scope: Scope::Pool,
        reason: Reason::RateLimitExceeded,
        until: host.now.wall,
        source: LimitSource::Server,
        since: Some(lessor::pool::Wall(host.now.wall.0 - LONG_MS)),
        evidence: None,
        link: None,
    }];
    let snapshot = Snapshot { accounts: vec![record(1)], limits, shared: vec![a()], ..Snapshot::default() };
    let start = PoolStart { fence: Fence(1_000_000), grace: false };
    host.pool = Pool::restore(host.now, PoolSettings::default(), snapshot, start, &mut vec![]);
    host.run(Command::ShareAccount(a(), lessor::pool::SeatLimits { capacity: 1, ceiling: 2 })).unwrap();
    host.run(Command::JoinTerm { until: Mono(200_000_000) }).unwrap();
    let fences = host.block();
    host.run(Command::TakeFences(lessor::pool::FenceBlock { to: Fence(3_000_000), ..fences })).unwrap();
    host.run(acquire()).unwrap();
    let from = Fence(4_000_000);
    let fences = lessor::pool::FenceBlock { from, to: Fence(5_000_000) };
    host.run(Command::SeatsClaimed { account: a(), seats: 1, elsewhere: 0, fences }).unwrap();
    assert_eq!(asked(&host), [a()], "{:?}", host.effects);
}
