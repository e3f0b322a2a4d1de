//! What the systems that are used today do in the same case, where we agree; their words are ours. Where we differ on
//! purpose is a table of the README.

use std::time::Duration;

use lessor::limits::{self, Headers, Reason, Scope, UpstreamResponse};
use lessor::pool::{
    AccountRecord, Action, Command, LeaseRequest, LoginState, Overflow, PoolSettings, Protect, RefusalDetails,
    RefusalKind, Strategy, Tier, Usage, Verification, Window,
};

use crate::fixture::{Fixture, ask, id, in_session, record, secs, target};

const HOUR: u64 = 3_600;

/// One account that refuses at these seconds, after each limit has run out; what each refusal is worth.
fn ladder(pauses: &[u64], between: impl Fn(&mut Fixture, usize)) -> Vec<u64> {
    let mut fixture = Fixture::new("ab", |_| {});
    let mut steps = Vec::new();
    for (n, pause) in pauses.iter().enumerate() {
        between(&mut fixture, n);
        fixture.pass(secs(*pause));
        let held = fixture.hold(LeaseRequest { account: Some("a".into()), wait: Some(secs(20_000)), ..ask(n as u64) });
        fixture.report(held, Reason::QuotaExhausted, None);
        steps.push(fixture.limited_for('a').unwrap().as_secs());
        fixture.release(held);
        // the first to come may be let in a little later
        fixture.pass(fixture.limited_for('a').unwrap());
        fixture.pass(secs(5));
    }
    steps
}

#[test]
fn back_off_grows_with_consecutive_failures_and_resets_by_time_or_success() {
    let nothing = |_: &mut Fixture, _: usize| {};
    assert_eq!(ladder(&[0, 60, 60, 60, 60], nothing), [60, 300, 1_800, 7_200, 7_200]);
    // counted from the end of the last limit, so that the later steps can be reached
    assert_eq!(ladder(&[0, HOUR - 6], nothing), [60, 300]);
    assert_eq!(ladder(&[0, HOUR + 1], nothing), [60, 60]);
    let success = |fixture: &mut Fixture, n: usize| {
        if n == 2 {
            let held = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(99) });
            fixture.ok(held);
            fixture.release(held);
        }
    };
    assert_eq!(ladder(&[0, 60, 60], success), [60, 300, 60]);
    // five failures of the service in between count for nothing
    let overload = |fixture: &mut Fixture, n: usize| {
        // by then every request is admitted again
        fixture.pass(secs(4));
        for _ in 0..if n == 1 { 5 } else { 0 } {
            let held = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(99) });
            fixture.report(held, Reason::ServerError, None);
            fixture.report(held, Reason::ModelCapacityExhausted, None);
            fixture.release(held);
        }
    };
    assert_eq!(ladder(&[0, 60, 60], overload), [60, 300, 1_800]);
}

/// A stated wait is taken as it is, however many failures went before.
#[test]
fn a_stated_wait_outranks_the_back_off_table() {
    let mut fixture = Fixture::new("ab", |_| {});
    for stated in [180, 3_600, 13 * HOUR] {
        let held = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
        fixture.report(held, Reason::QuotaExhausted, Some(secs(stated)));
        assert_eq!(fixture.limited_for('a'), Some(secs(stated)));
        fixture.release(held);
        fixture.pass(secs(stated + 10));
    }
}

/// Which models a refusal of one of them closes.
#[test]
fn a_limit_applies_to_the_stated_scope() {
    let of = |model: &str| LeaseRequest { account: Some("a".into()), target: target("gemini", Some(model)), ..ask(0) };
    for (scope, others) in [(Scope::Model, true), (Scope::Pool, false), (Scope::Account, false)] {
        let mut fixture = Fixture::new("ab", |_| {});
        let held = fixture.hold(of("pro"));
        fixture.report_at(held, Reason::QuotaExhausted, Some(scope), None);
        fixture.run(Command::ConnectionClosed(ask(0).connection)).unwrap();
        assert_eq!(fixture.refused(of("pro")), RefusalKind::AllLimited);
        assert_eq!(fixture.acquire(of("flash")).is_ok(), others, "{scope:?}");
    }
}

/// A success clears what its account was refused before, and no live limit.
#[test]
fn a_success_resets_failures_but_clears_no_limit() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 2);
    let (one, other) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
    fixture.report(one, Reason::QuotaExhausted, Some(secs(600)));
    fixture.ok(other);
    assert_eq!(fixture.limited_for('a'), Some(secs(600)), "it had begun before");
}

#[test]
fn an_account_that_needs_verification_serves_nothing_and_its_lease_moves() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(ask(0));
    let link = "https://accounts.google.com/signin/continue?x=1";
    let finding =
        RefusalDetails { link: Some(link.into()), ..RefusalDetails::reported(Reason::VerificationRequired, None) };
    let decision = fixture.found(held, finding);
    assert_eq!((decision.action, decision.after), (Action::Switch, Duration::ZERO));
    assert_eq!(fixture.on(decision.lease.unwrap()), 'b');
    let login_state = &fixture.pool.account(id('a')).unwrap().record.login_state;
    assert_eq!(*login_state, LoginState::NeedsVerification(Verification::at(Some(link))));
    fixture.restart(false);
    assert_eq!(fixture.peek(ask(1)), 'b', "also after a restart");
}

fn used(fixture: &mut Fixture, letter: char, window: &str, key: &str, utilization: f64, resets_in: Option<u64>) {
    let window = Window {
        name: window.into(),
        utilization,
        resets_at: resets_in.map(|span| fixture.now.wall.after(secs(span))),
        as_of: fixture.now.wall,
        key: key.into(),
    };
    fixture.run(Command::LearnUsage(id(letter), vec![window].into())).unwrap();
}

/// What is nearly used up comes last; unknown is not used up, and neither is what has been reset since.
#[test]
fn the_soft_threshold_only_changes_the_rank() {
    for (threshold, left, chosen) in [
        (0.9, [Some(0.05), None], 'b'),
        (0.9, [Some(0.15), None], 'a'),
        (1.0, [Some(0.01), None], 'a'),
        (0.9, [Some(0.0), None], 'b'),
        (0.9, [Some(0.05), Some(0.08)], 'a'),
    ] {
        let mut fixture = Fixture::new("ab", |settings| {
            settings.quota.soft_threshold = threshold;
            settings.selection.strategy = Strategy::Sticky;
        });
        for (letter, left) in ['a', 'b'].into_iter().zip(left) {
            left.into_iter().for_each(|left| used(&mut fixture, letter, "5h", "", 1.0 - left, Some(HOUR)));
        }
        assert_eq!(fixture.peek(ask(0)), chosen, "{threshold} {left:?}");
    }
}

/// Reserves per family: who is kept back for whom, and who serves then.
#[test]
fn reserves_block_only_the_models_they_name() {
    let protect = |settings: &mut PoolSettings| {
        settings.quota.protect = vec![Protect { models: vec!["claude-*".into()], below: 0.1 }];
        settings.selection.strategy = Strategy::Sticky;
    };
    let claude = |n| LeaseRequest { target: target("claude", Some("claude-opus")), ..ask(n) };
    let other = |n| LeaseRequest { target: target("gemini", Some("gemini-flash")), ..ask(n) };
    let mut fixture = Fixture::new("abc", protect);
    used(&mut fixture, 'a', "7d", "claude", 0.95, Some(HOUR));
    assert_eq!((fixture.peek(claude(0)), fixture.peek(other(0))), ('b', 'a'), "only of what is kept");
    // one after the other is kept back, and comes back with a reading
    for (letter, left, serves) in [('b', 0.05, Ok('c')), ('c', 0.02, Err(RefusalKind::AllLimited)), ('b', 0.6, Ok('b'))]
    {
        used(&mut fixture, letter, "7d", "claude", 1.0 - left, Some(HOUR));
        let served = fixture.acquire(claude(1)).map_err(|refusal| refusal.kind);
        let served = served.map(|_| fixture.on(fixture.pool.last_granted().unwrap()));
        assert_eq!(served, serves);
        fixture.run(Command::ConnectionClosed(claude(1).connection)).unwrap();
    }
    // a conversation whose account is kept back moves, and one without another account is refused
    let mut fixture = Fixture::new("ab", protect);
    let talk = || LeaseRequest { target: target("claude", Some("claude-opus")), ..in_session("s") };
    assert_eq!(fixture.peek(talk()), 'a');
    used(&mut fixture, 'a', "7d", "claude", 0.95, Some(HOUR));
    assert_eq!(fixture.peek(talk()), 'b');
    assert_eq!(fixture.refused(LeaseRequest { account: Some("a".into()), ..talk() }), RefusalKind::AllLimited);
    let mut fixture = Fixture::new("a", |settings| {
        protect(settings);
        settings.quota.protect.clear();
    });
    used(&mut fixture, 'a', "7d", "claude", 0.99, Some(HOUR));
    assert_eq!(fixture.peek(claude(0)), 'a', "turned off");
}

/// Better plans first, and within a plan who has most left.
#[test]
fn tiers_outrank_the_remaining_quota() {
    let mut fixture = Fixture::new("", |settings| {
        settings.selection.tier_first = true;
        settings.selection.strategy = Strategy::LeastUsed;
        settings.leases.overflow = Overflow::Wait;
    });
    let (pro, free, ultra) = (Tier::Pro, Tier::Free, Tier::Ultra);
    for (letter, tier, left) in
        [('a', pro, 0.9), ('b', free, 1.0), ('c', ultra, 0.2), ('d', pro, 0.3), ('e', ultra, 0.8)]
    {
        fixture.add(AccountRecord { tier, ..record(letter) });
        used(&mut fixture, letter, "7d", "", 1.0 - left, None);
    }
    let order: String = (0..5).map(|n| fixture.take(ask(n))).collect();
    assert_eq!(order, "ecadb");
}

/// A refusal of request scope moves to an account that has not refused it, and costs no account anything.
#[test]
fn a_request_scope_refusal_moves_the_lease_and_penalizes_no_account() {
    let health = |fixture: &Fixture| {
        let settings = &fixture.pool.settings().selection.health;
        fixture.pool.accounts().iter().map(|account| account.health(settings, fixture.now.mono)).sum::<f64>()
    };
    for (reason, accounts, moves, end) in [
        // with others, they are asked: three that say the same are proof enough
        (Reason::RateLimitExceeded, "abcde", 2, (Action::Stop, Reason::RequestRejected)),
        (Reason::OutOfCredit, "abcde", 2, (Action::Stop, Reason::RequestRejected)),
        (Reason::Forbidden, "abcde", 2, (Action::Stop, Reason::RequestRejected)),
        // time may help where no other account is left
        (Reason::RateLimitExceeded, "ab", 1, (Action::Retry, Reason::RateLimitExceeded)),
        (Reason::RateLimitExceeded, "a", 0, (Action::Retry, Reason::RateLimitExceeded)),
        // and does not where money or a right is missing
        (Reason::OutOfCredit, "ab", 1, (Action::Stop, Reason::OutOfCredit)),
        (Reason::Forbidden, "a", 0, (Action::Stop, Reason::Forbidden)),
        (Reason::RequestRejected, "abc", 0, (Action::Stop, Reason::RequestRejected)),
    ] {
        let mut fixture = Fixture::new(accounts, |_| {});
        let before = health(&fixture);
        let (mut held, mut seen) = (fixture.hold(ask(0)), vec![]);
        let decision = loop {
            seen.push(fixture.on(held));
            let decision = fixture.report_at(held, reason, Some(Scope::Request), None);
            match decision.lease {
                Some(moved) => held = moved,
                None => break decision,
            }
        };
        assert_eq!((decision.action, decision.reason), (end.0, Some(end.1)), "{reason:?} {accounts}");
        assert_eq!(seen.len(), moves + 1, "{reason:?} {accounts}: {seen:?}");
        assert!(fixture.pool.accounts().iter().all(|account| account.limits().is_empty()));
        assert_eq!(health(&fixture), before, "{reason:?} {accounts}");
        if decision.action == Action::Retry {
            assert_eq!(decision.after, secs(30));
            // it is tried a few times, not for ever
            let mut again = || fixture.report_at(held, reason, Some(Scope::Request), None);
            let last = std::iter::repeat_with(&mut again).take(3).find(|one| one.action != Action::Retry).unwrap();
            assert_eq!((last.action, last.reason), (Action::Stop, Some(Reason::RequestRejected)));
        }
    }
    // a success in between is a new request
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    for _ in 0..10 {
        let decision = fixture.report_at(held, Reason::RateLimitExceeded, Some(Scope::Request), None);
        assert_eq!(decision.action, Action::Retry);
        fixture.ok(held);
    }
}

/// What a real answer says is filed as it was said: a time of day follows the clock, a span does not.
#[test]
fn setting_the_clock_moves_times_of_day() {
    let day = "anthropic-ratelimit-unified";
    for (headers, moves) in [
        (
            vec![(format!("{day}-status"), "rejected".to_owned()), (format!("{day}-5h-status"), "rejected".to_owned())],
            true,
        ),
        (vec![("retry-after".to_owned(), (13 * HOUR).to_string())], false),
    ] {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        let reset = (fixture.now.wall.0 / 1000 + 13 * HOUR).to_string();
        let headers = headers.into_iter().chain(moves.then(|| (format!("{day}-5h-reset"), reset)));
        let headers = Headers::telling(headers);
        let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#;
        let response =
            UpstreamResponse { provider: "anthropic", status: 429, headers: &headers, body, now: fixture.now.wall.0 };
        let reading = limits::classify(&response);
        let usage = Usage::read(&reading.windows, target("k", None).quota(), fixture.now.wall);
        fixture.run(Command::LearnUsage(id('a'), usage)).unwrap();
        fixture.found(held, RefusalDetails::read(&reading.verdict.unwrap()));
        assert_eq!(fixture.limited_for('a'), Some(secs(13 * HOUR)));
        // an hour with the lid closed is an hour, on both clocks
        fixture.pass(secs(HOUR));
        assert_eq!(fixture.limited_for('a'), Some(secs(12 * HOUR)));
        // the clock was an hour slow, and is set
        fixture.set_clock(3_600_000);
        assert_eq!(fixture.limited_for('a'), Some(secs(if moves { 11 * HOUR } else { 12 * HOUR })));
        fixture.restart(false);
        assert_eq!(fixture.limited_for('a'), Some(secs(if moves { 11 * HOUR } else { 12 * HOUR })));
    }
}

/// A rate that is full is shown, and changes nothing.
#[test]
fn rate_windows_are_kept_and_ignored_by_selection() {
    let mut fixture = Fixture::new("ab", |settings| {
        settings.selection.strategy = Strategy::Sticky;
        settings.quota.protect = vec![Protect { models: vec!["*".into()], below: 0.5 }];
    });
    let headers = Headers::telling([("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "0")]);
    let response =
        UpstreamResponse { provider: "openai", status: 200, headers: &headers, body: b"", now: fixture.now.wall.0 };
    let reading = limits::classify(&response);
    assert_eq!(reading.verdict, None);
    let asked = || LeaseRequest { target: target("k", Some("m")), ..ask(0) };
    let usage = Usage::read(&reading.windows, asked().target.quota(), fixture.now.wall);
    assert_eq!((usage.windows.len(), usage.rates.len()), (0, 1));
    fixture.run(Command::LearnUsage(id('a'), usage)).unwrap();
    assert_eq!(fixture.peek(asked()), 'a');
}
