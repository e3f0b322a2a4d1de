//! Whose fault a refusal is: the credential's, the account's, the plan's, the request's or the service's.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountRecord, Action, Attestation, Command, CredentialKind, DenialsEnd, Effect, Fence, Ineligible, LeaseRequest,
    LimitSource, LoginProblem, LoginState, OveragePolicy, RefusalDetails, RefusalKind, Reply, RequestNeeds,
    RequestOutcome, Wall,
};

use crate::fixture::{Fixture, ask, id, in_session, record, secs, target};

const HOUR: u64 = 3_600;

fn ready(fixture: &Fixture, letter: char) -> bool {
    let account = fixture.pool.account(id(letter)).unwrap();
    account.can_serve() && fixture.limited_for(letter).is_none()
}

fn health(fixture: &Fixture, letter: char) -> f64 {
    let settings = &fixture.pool.settings().selection.health;
    fixture.pool.account(id(letter)).unwrap().health(settings, fixture.now.mono)
}

fn lasting(reason: Reason, scope: Scope) -> RefusalDetails {
    RefusalDetails {
        lasting: true,
        scope: Some(scope),
        source: LimitSource::Server,
        evidence: Some("“disabled for a violation of the terms”".into()),
        link: Some("https://example.org/appeal".into()),
        ..RefusalDetails::reported(reason, None)
    }
}

fn login(letter: char) -> AccountRecord {
    AccountRecord { kind: CredentialKind::Oauth, ..record(letter) }
}

/// On one account: the report of a new request that is refused, after the limit of the one before.
fn refuse(fixture: &mut Fixture, n: u64, reason: Reason) -> Duration {
    let held = fixture.hold(ask(n));
    fixture.report(held, reason, None);
    fixture.release(held);
    fixture.limited_for('a').unwrap_or_default()
}

#[test]
fn a_refused_credential_is_probed_after_growing_waits_and_one_success_ends_them() {
    for (reason, kind) in [
        (Reason::AuthFailed, CredentialKind::ApiKey),
        (Reason::Forbidden, CredentialKind::ApiKey),
        (Reason::AuthFailed, CredentialKind::Oauth),
        (Reason::Forbidden, CredentialKind::Token),
    ] {
        let mut fixture = Fixture::new("", |settings| settings.leases.per_account = 8);
        fixture.add(AccountRecord { kind, ..record('a') });
        for (n, wanted) in [10, 20, 40, 80, 160, 320, 640, 900, 900].into_iter().enumerate() {
            assert_eq!(refuse(&mut fixture, n as u64, reason), secs(wanted), "{reason:?} {n}");
            assert_eq!(fixture.pool.account(id('a')).unwrap().record.login_state, LoginState::Ready);
            if n == 4 {
                fixture.restart(false);
                assert_eq!(fixture.limited_for('a'), Some(secs(wanted)), "it survives a restart");
            }
            fixture.pass(secs(wanted));
        }
        // one request goes first, and the others follow its success
        let probe = fixture.hold(ask(50));
        assert_eq!(fixture.refused(ask(51)), RefusalKind::AllLimited);
        fixture.ok(probe);
        fixture.hold(ask(51));
        fixture.pass(secs(10));
        assert_eq!(refuse(&mut fixture, 60, reason), secs(10), "the success ended the row");
    }
}

fn crowded(letters: &str) -> Fixture {
    Fixture::new(letters, |settings| {
        settings.leases.per_account = 40;
        settings.leases.max_per_account = 40;
    })
}

#[test]
fn requests_that_were_under_way_together_are_one_refusal() {
    let mut fixture = crowded("a");
    let held: Vec<Fence> = (0..30).map(|n| fixture.hold(ask(n))).collect();
    for fence in &held {
        fixture.report(*fence, Reason::AuthFailed, None);
        fixture.pass(Duration::from_millis(200));
    }
    assert_eq!(fixture.limited_for('a'), Some(secs(4)), "the 30 answers came in 6 s");
    assert_eq!(health(&fixture, 'a'), 50.0, "and cost health once");
    held.into_iter().for_each(|fence| fixture.release(fence));
    fixture.pass(secs(4));
    assert_eq!(refuse(&mut fixture, 90, Reason::AuthFailed), secs(20), "the probe is the second event");
}

/// Slow answers: the limit of two seconds has ended when the last ones arrive.
#[test]
fn an_account_that_is_limited_under_thirty_requests_counts_one_event() {
    let mut fixture = crowded("ab");
    let on_a = |n| LeaseRequest { account: Some("a".into()), ..ask(n) };
    let held: Vec<Fence> = (0..30).map(|n| fixture.hold(on_a(n))).collect();
    for fence in held {
        fixture.report(fence, Reason::RateLimitExceeded, Some(secs(2)));
        fixture.pass(Duration::from_millis(300));
    }
    assert_eq!(health(&fixture, 'a'), 60.0);
    fixture.pass(secs(10));
    let later = fixture.hold(on_a(99));
    fixture.report(later, Reason::RateLimitExceeded, Some(secs(2)));
    assert_eq!(health(&fixture, 'a'), 50.0, "a request that was sent later is another event");
}

#[test]
fn a_login_is_refreshed_once_in_a_row_of_refusals() {
    let mut fixture = Fixture::new("", |_| {});
    fixture.add(login('a'));
    let renewable = || RefusalDetails { renewable: true, ..RefusalDetails::reported(Reason::AuthFailed, None) };
    let refreshes = |fixture: &Fixture| fixture.effects.contains(&Effect::RefreshToken(id('a')));
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.found(held, renewable()).action, Action::Retry);
    assert!(refreshes(&fixture));
    fixture.run(Command::ForgetDenials(id('a'), DenialsEnd::Refreshed)).unwrap();
    fixture.run(Command::SetRenewing(id('a'), None)).unwrap();
    // the new token is refused as well: once more would not help
    let decision = fixture.found(held, renewable());
    assert!(!refreshes(&fixture) && decision.action == Action::Wait, "{decision:?}");
    assert_eq!(fixture.limited_for('a'), Some(secs(10)));
    fixture.pass(secs(10));
    fixture.ok(held);
    assert_eq!(fixture.found(held, renewable()).action, Action::Retry);
    assert!(refreshes(&fixture), "after a success it may be refreshed again");
}

#[test]
fn another_credential_ends_what_was_refused_before() {
    for is_lasting in [false, true] {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        let details = if is_lasting {
            lasting(Reason::AuthFailed, Scope::Account)
        } else {
            RefusalDetails::reported(Reason::AuthFailed, None)
        };
        fixture.found(held, details);
        assert!(!ready(&fixture, 'a'));
        fixture.run(Command::ForgetDenials(id('a'), DenialsEnd::Replaced)).unwrap();
        assert!(ready(&fixture, 'a') && fixture.pool.account(id('a')).unwrap().denied_since().is_none());
        // a quota is the account's, whatever its credential
        fixture.report(held, Reason::QuotaExhausted, Some(secs(60)));
        fixture.run(Command::ForgetDenials(id('a'), DenialsEnd::Replaced)).unwrap();
        assert_eq!(fixture.limited_for('a'), Some(secs(60)));
    }
}

#[test]
fn a_login_that_an_earlier_version_took_for_ended_is_tried_again() {
    let mut fixture = Fixture::new("", |_| {});
    let login_state = LoginState::NeedsLogin(LoginProblem::RejectedByProvider { link: None });
    fixture.add(AccountRecord { login_state, ..login('a') });
    let rejected = LoginProblem::RefreshRejected { code: "invalid_grant".into(), answer_lost_at: None };
    fixture.add(AccountRecord { login_state: LoginState::NeedsLogin(rejected), ..login('b') });
    fixture.restart(false);
    assert!(fixture.effects.contains(&Effect::SaveAccount(id('a'))));
    assert_eq!((ready(&fixture, 'a'), ready(&fixture, 'b')), (true, false), "the token endpoint's word is final");
}

#[test]
fn since_when_an_account_is_refused_is_known_until_a_request_succeeds() {
    let mut fixture = Fixture::new("a", |_| {});
    let since = |fixture: &Fixture| fixture.pool.account(id('a')).unwrap().denied_since();
    let began = fixture.now.wall;
    for n in 0..40 {
        let wait = refuse(&mut fixture, n, Reason::Forbidden);
        assert_eq!(since(&fixture), Some(began));
        if n == 20 {
            fixture.restart(false);
        }
        fixture.pass(wait);
    }
    assert!(fixture.now.wall.since(began) > secs(6 * HOUR));
    assert_eq!(since(&fixture), Some(began), "also while it waits to be tried");
    let held = fixture.hold(ask(99));
    fixture.ok(held);
    assert_eq!(since(&fixture), None);
}

#[test]
fn an_account_that_names_its_own_end_is_left_for_hours_even_if_all_do() {
    for reason in [Reason::Forbidden, Reason::AuthFailed, Reason::OutOfCredit] {
        let mut fixture = Fixture::new("abcd", |_| {});
        let mut held = fixture.hold(ask(0));
        let last = loop {
            let decision = fixture.found(held, lasting(reason, Scope::Account));
            match decision.lease {
                Some(moved) => held = moved,
                None => break decision,
            }
        };
        assert_eq!((last.action, last.after, last.reason), (Action::Wait, secs(6 * HOUR), Some(reason)));
        for letter in "abcd".chars() {
            let limit = &fixture.pool.account(id(letter)).unwrap().limits()[0];
            assert_eq!(fixture.limited_for(letter), Some(secs(6 * HOUR)), "nothing is undone");
            assert_eq!(limit.link.as_deref(), Some("https://example.org/appeal"));
            assert!(limit.evidence.as_deref().unwrap().contains("terms"));
        }
        fixture.release(held);
        assert_eq!(fixture.refused(ask(1)), RefusalKind::AllLimited, "no further request is sent");
        // a shorter wait that arrives late does not shorten it
        fixture.restart(false);
        fixture.pass(secs(6 * HOUR));
        let probes: Vec<Fence> = (0..4).map(|n| fixture.hold(ask(n))).collect();
        assert_eq!(fixture.refused(ask(9)), RefusalKind::AllLimited, "one probe each");
        assert!(!fixture.found(probes[0], lasting(reason, Scope::Account)).after.is_zero());
    }
}

#[test]
fn a_shorter_wait_does_not_shorten_a_lasting_refusal() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held: Vec<Fence> = (0..2).map(|n| fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(n) })).collect();
    fixture.found(held[0], lasting(Reason::Forbidden, Scope::Account));
    fixture.report_at(held[1], Reason::Forbidden, Some(Scope::Account), Some(secs(30)));
    assert_eq!(fixture.limited_for('a'), Some(secs(6 * HOUR)));
}

fn with_model(n: u64) -> LeaseRequest {
    LeaseRequest { target: target("k", Some("opus")), ..ask(n) }
}

#[test]
fn a_model_that_a_plan_lacks_is_remembered_and_is_no_limit_of_the_account() {
    for reason in [Reason::Forbidden, Reason::RequestRejected] {
        let mut fixture = Fixture::new("abc", |_| {});
        let held = fixture.hold(with_model(0));
        let on = fixture.on(held);
        let decision = fixture.found(held, lasting(reason, Scope::Model));
        assert_eq!((decision.action, decision.scope), (Action::Switch, Some(Scope::Model)));
        assert_eq!(health(&fixture, on), 70.0);
        fixture.release(decision.lease.unwrap());
        fixture.restart(false);
        fixture.pass(secs(5 * HOUR));
        for n in 0..4 {
            assert_ne!(fixture.take(with_model(n)), on, "it is skipped for this model");
        }
        assert_eq!(fixture.take(ask(9)), on, "and serves every other");
        let explained = fixture.pool.explain(fixture.now, &with_model(9));
        let one = explained.candidates.iter().find(|one| one.account == id(on)).unwrap();
        assert_eq!(one.exclusion.as_ref().unwrap().why, Ineligible::LacksModel);
        fixture.pass(secs(HOUR));
        assert_eq!(fixture.take(LeaseRequest { account: Some(on.to_string().into()), ..with_model(5) }), on);
    }
}

#[test]
fn a_model_that_no_plan_has_is_asked_for_once_each_time_and_answered_by_the_provider() {
    let mut fixture = Fixture::new("abc", |_| {});
    let upstream_calls = |fixture: &mut Fixture, n: u64| {
        let (mut held, mut calls) = (fixture.hold(with_model(n)), 0);
        loop {
            calls += 1;
            let decision = fixture.found(held, lasting(Reason::Forbidden, Scope::Model));
            match decision.lease {
                Some(moved) => held = moved,
                None => {
                    fixture.release(held);
                    // the gateway relays an answer that blames the request
                    let blames_request = (Action::Stop, Some(Scope::Request));
                    assert_eq!((decision.action, decision.scope), blames_request);
                    return (calls, decision.reason);
                }
            }
        }
    };
    assert_eq!(upstream_calls(&mut fixture, 0), (3, Some(Reason::Forbidden)));
    assert_eq!(upstream_calls(&mut fixture, 1), (1, Some(Reason::Forbidden)));
    assert!(['a', 'b', 'c'].iter().all(|letter| health(&fixture, *letter) == 70.0));
    // the plan has changed: the success says so
    let held = fixture.hold(with_model(2));
    let on = fixture.on(held);
    fixture.pass(secs(1));
    fixture.run(Command::Serve { fence: held, need: Box::new(needs("opus")) }).unwrap();
    fixture.ok(held);
    assert_eq!(fixture.limited_for(on), None);
    // where one is only busy with a limit, the request waits for it
    let mut fixture = Fixture::new("ab", |_| {});
    fixture.block('b', secs(40));
    let held = fixture.hold(with_model(0));
    let decision = fixture.found(held, lasting(Reason::Forbidden, Scope::Model));
    assert_eq!((decision.action, decision.after), (Action::Wait, secs(40)));
    // a model without a name cannot be remembered
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(ask(0));
    let decision = fixture.found(held, lasting(Reason::Forbidden, Scope::Model));
    assert_eq!((decision.action, fixture.limited_for('a')), (Action::Switch, None));
}

fn needs(model: &str) -> RequestNeeds {
    RequestNeeds { target: target("k", Some(model)), exclude: vec![], attested: Attestation::Later }
}

/// What the holder's next request would be sent with.
fn serve(fixture: &mut Fixture, fence: Fence, need: RequestNeeds) -> Fence {
    match fixture.run(Command::Serve { fence, need: Box::new(need) }) {
        Ok(Reply::Decision(decision)) => {
            assert!(matches!(decision.action, Action::Continue | Action::Switch), "{decision:?}");
            decision.lease.unwrap_or(fence)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_holder_s_lease_leaves_an_account_that_lacks_the_model_if_another_has_it() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(LeaseRequest { account: None, ..with_model(0) });
    let on = fixture.on(held);
    let moved = fixture.found(held, lasting(Reason::Forbidden, Scope::Model)).lease.unwrap();
    fixture.release(moved);
    let held = fixture.hold(LeaseRequest { exclude: vec![id(if on == 'a' { 'b' } else { 'a' })], ..ask(1) });
    assert_eq!(fixture.on(held), on);
    let held = serve(&mut fixture, held, needs("opus"));
    assert_ne!(fixture.on(held), on);
    fixture.found(held, lasting(Reason::Forbidden, Scope::Model));
    let still = serve(&mut fixture, held, needs("opus"));
    assert_eq!(still, held, "none has it: the provider says so");
}

/// Every account answers this request with a bare 429.
fn poison(fixture: &mut Fixture, n: u64) -> (u32, Action) {
    let (mut held, mut calls) = (fixture.hold(ask(n)), 0);
    loop {
        calls += 1;
        let decision = fixture.report(held, Reason::Unknown, None);
        match decision.lease {
            Some(moved) => held = moved,
            None => {
                fixture.release(held);
                return (calls, decision.action);
            }
        }
    }
}

#[test]
fn one_poisoned_request_benches_no_account_however_often_it_is_sent() {
    for letters in ["ab", "abc", "abcdefg"] {
        let mut fixture = Fixture::new(letters, |_| {});
        for _ in 0..5 {
            let before: Vec<f64> = letters.chars().map(|letter| health(&fixture, letter)).collect();
            let (calls, action) = poison(&mut fixture, 0);
            assert!(calls <= 3 && action == Action::Stop, "{letters}: {calls} {action:?}");
            let after: Vec<f64> = letters.chars().map(|letter| health(&fixture, letter)).collect();
            assert_eq!(after, before);
            assert!(letters.chars().all(|letter| ready(&fixture, letter)));
            let fine = fixture.hold(ask(1));
            fixture.ok(fine);
            fixture.release(fine);
            fixture.pass(secs(10));
        }
    }
    // the only account: its own wait stays short, the request's grows
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    for wait in [1, 2, 4, 8] {
        let decision = fixture.report(held, Reason::Unknown, None);
        assert_eq!((decision.action, decision.after), (Action::Retry, secs(wait)));
        assert_eq!(fixture.limited_for('a'), Some(secs(1)), "others need not wait for it");
        fixture.pass(secs(1));
        let fine = fixture.hold(ask(1));
        fixture.ok(fine);
        fixture.release(fine);
        fixture.pass(secs(wait - 1));
    }
}

#[test]
fn a_refusal_without_a_reason_counts_when_different_requests_meet_it() {
    let on_a = |n| LeaseRequest { account: Some("a".into()), ..ask(n) };
    let meets = |fixture: &mut Fixture, ask: LeaseRequest| {
        let held = fixture.hold(ask);
        fixture.report(held, Reason::Unknown, None);
        fixture.release(held);
        let limited = fixture.limited_for('a').unwrap_or_default();
        fixture.pass(limited);
        limited
    };
    let mut fixture = Fixture::new("ab", |_| {});
    assert_eq!(meets(&mut fixture, on_a(0)), secs(5), "a short guess");
    assert_eq!(meets(&mut fixture, on_a(0)), secs(5), "the same request again");
    assert_eq!(meets(&mut fixture, on_a(1)), secs(60), "another one");
    assert_eq!(meets(&mut fixture, on_a(0)), secs(60));
    // a success ends it
    let held = fixture.hold(on_a(2));
    fixture.ok(held);
    fixture.pass(secs(10));
    assert_eq!(meets(&mut fixture, on_a(1)), secs(5));
    // one conversation is one request, whatever lease it uses; a minute without a success is long enough
    let mut fixture = Fixture::new("ab", |_| {});
    let session = || LeaseRequest { account: Some("a".into()), ..in_session("s") };
    assert_eq!(meets(&mut fixture, session()), secs(5));
    assert_eq!(meets(&mut fixture, session()), secs(5));
    fixture.pass(secs(60));
    assert_eq!(meets(&mut fixture, session()), secs(60));
}

#[test]
fn before_a_long_wait_for_the_service_two_other_accounts_are_asked() {
    let mut fixture = Fixture::new("abcde", |_| {});
    let mut held = fixture.hold(ask(0));
    let mut asked = vec![];
    let last = loop {
        asked.push(fixture.on(held));
        let decision = fixture.report(held, Reason::ServerError, Some(secs(300)));
        assert_eq!(decision.scope, Some(Scope::Service));
        match decision.lease {
            Some(moved) => held = moved,
            None => break decision,
        }
    };
    asked.sort_unstable();
    asked.dedup();
    assert_eq!((asked.len(), last.action, last.after), (3, Action::Retry, secs(300)));
    assert!("abcde".chars().all(|letter| ready(&fixture, letter) && health(&fixture, letter) == 70.0));
}

#[test]
fn a_failure_of_the_service_that_one_account_has_costs_it_health_and_the_request_moves() {
    let mut fixture = Fixture::new("abc", |_| {});
    let on = |letter: char, n| LeaseRequest { exclude: others(letter), ..ask(n) };
    let bad = fixture.hold(on('a', 0));
    assert_eq!(fixture.report(bad, Reason::ServerError, None).action, Action::Retry);
    assert_eq!(health(&fixture, 'a'), 70.0, "all may have it");
    let good = fixture.hold(on('b', 1));
    fixture.pass(secs(1));
    fixture.ok(good);
    fixture.pass(secs(1));
    let decision = fixture.report(bad, Reason::ServerError, None);
    assert_eq!(decision.action, Action::Switch);
    assert_eq!(health(&fixture, 'a'), 50.0);
    assert!(ready(&fixture, 'a'), "it is no limit");
    // its own success ends it
    let held = fixture.hold(on('a', 2));
    fixture.ok(held);
    fixture.pass(secs(5));
    assert_eq!(fixture.report(held, Reason::ServerError, None).action, Action::Retry);
    assert_eq!(health(&fixture, 'a'), 51.0);
}

fn others(letter: char) -> Vec<lessor::pool::AccountId> {
    "abc".chars().filter(|other| *other != letter).map(id).collect()
}

/// A success that was paid beyond the plan, which resets in a day.
fn paid(fixture: &mut Fixture, fence: Fence) {
    let until = Some(Wall(fixture.now.wall.0 + 86_400_000));
    fixture.run(Command::Report { fence, outcome: RequestOutcome::Overage(until) }).unwrap();
}

#[test]
fn a_success_that_was_paid_as_overage_moves_its_session_to_an_account_with_room() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(in_session("s"));
    let on = fixture.on(held);
    let other = if on == 'a' { 'b' } else { 'a' };
    paid(&mut fixture, held);
    fixture.release(held);
    for _ in 0..3 {
        assert_eq!(fixture.peek(in_session("s")), other);
    }
    assert_eq!(fixture.take(in_session("new")), other);
    assert_eq!(fixture.take(in_session("another")), other, "shared rather than paid for");
    // while nothing else is free it may serve
    fixture.block(other, secs(60));
    assert_eq!(fixture.peek(in_session("t")), on);
    fixture.pass(secs(70));
    assert_eq!(fixture.peek(in_session("t")), other);
    // until the plan's quota is new
    fixture.pass(secs(86_400));
    fixture.peek(in_session("u"));
    assert!(fixture.pool.account(id(on)).unwrap().overage_until(fixture.now.wall).is_none());
}

#[test]
fn overage_is_per_quota_and_can_be_allowed() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(in_session("s"));
    let on = fixture.on(held);
    paid(&mut fixture, held);
    fixture.release(held);
    let other_quota = |name: &str| LeaseRequest { target: target("other", None), ..in_session(name) };
    let first = fixture.take(other_quota("x"));
    assert_ne!(first, fixture.take(other_quota("y")), "another quota of the account is within the plan");
    fixture.configure(|settings| settings.quota.overage = OveragePolicy::Allow);
    let mut fixture = Fixture::new("ab", |settings| settings.quota.overage = OveragePolicy::Allow);
    let held = fixture.hold(in_session("s"));
    let stays = fixture.on(held);
    paid(&mut fixture, held);
    fixture.release(held);
    assert_eq!(fixture.peek(in_session("s")), stays);
    let _ = on;
}

#[test]
fn a_holder_s_lease_moves_at_its_next_request_when_the_plan_is_used_up() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(ask(0));
    let on = fixture.on(held);
    paid(&mut fixture, held);
    let need = || RequestNeeds { target: target("k", None), exclude: vec![], attested: Attestation::Later };
    let moved = serve(&mut fixture, held, need());
    assert_ne!(fixture.on(moved), on);
    paid(&mut fixture, moved);
    assert_eq!(serve(&mut fixture, moved, need()), moved, "both are paid for: it stays");
}

#[test]
fn performance_first_takes_accounts_in_turn_with_every_request_whatever_the_strategy() {
    use lessor::pool::{Mode, Strategy};
    for strategy in
        [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest]
    {
        let mut fixture = Fixture::new("abc", |settings| {
            settings.selection.strategy = strategy;
            settings.selection.mode = Mode::PerformanceFirst;
            settings.selection.pid_offset = true;
        });
        let turns: String = (0..6).map(|_| fixture.peek(in_session("s"))).collect();
        assert_eq!(turns, "abcabc", "{strategy:?}: a lease for each request");
        let mut held = fixture.hold(ask(0));
        let need = || RequestNeeds { target: target("k", None), exclude: vec![], attested: Attestation::Later };
        let turns: String = (0..6)
            .map(|_| {
                held = serve(&mut fixture, held, need());
                fixture.on(held)
            })
            .collect();
        assert_eq!(turns, "bcabca", "{strategy:?}: one lease for many requests");
        assert_eq!(fixture.pool.lease_count(), 1);
    }
}

#[test]
fn what_ends_a_refusal_depends_on_what_is_new() {
    use DenialsEnd::{Accepted, Refreshed, Replaced};
    // which of a refused token, a refused account and a missing model stand afterwards
    for (why, token, account, model) in
        [(Refreshed, false, true, true), (Accepted, false, false, true), (Replaced, false, false, false)]
    {
        let stands = |details: RefusalDetails| {
            let mut fixture = Fixture::new("a", |_| {});
            let held = fixture.hold(with_model(0));
            fixture.found(held, details);
            assert_eq!(fixture.pool.account(id('a')).unwrap().limits().len(), 1);
            fixture.run(Command::ForgetDenials(id('a'), why)).unwrap();
            !fixture.pool.account(id('a')).unwrap().limits().is_empty()
        };
        let by_token = stands(RefusalDetails::reported(Reason::AuthFailed, None));
        let by_account = stands(lasting(Reason::Forbidden, Scope::Account));
        let by_model = stands(lasting(Reason::Forbidden, Scope::Model));
        assert_eq!((by_token, by_account, by_model), (token, account, model), "{why:?}");
    }
}

#[test]
fn a_refusal_that_the_user_finds_belongs_to_the_same_row_as_those_of_requests() {
    let mut fixture = Fixture::new("a", |_| {});
    let deny = |fixture: &mut Fixture, details: RefusalDetails| {
        fixture.run(Command::Deny(id('a'), Box::new(details))).unwrap();
        fixture.limited_for('a')
    };
    let bare = || RefusalDetails::reported(Reason::AuthFailed, None);
    assert_eq!(deny(&mut fixture, bare()), Some(secs(10)));
    assert_eq!(deny(&mut fixture, bare()), Some(secs(10)), "while it is limited nothing is counted");
    fixture.pass(secs(10));
    let probe = fixture.hold(ask(0));
    fixture.found(probe, bare());
    assert_eq!(fixture.limited_for('a'), Some(secs(20)), "a request continues the row");
    fixture.pass(secs(20));
    assert_eq!(deny(&mut fixture, bare()), Some(secs(40)), "and so does the user");
    assert_eq!(deny(&mut fixture, lasting(Reason::Forbidden, Scope::Account)), Some(secs(6 * 3_600)));
    fixture.run(Command::ClearLimits(id('a'))).unwrap();
    assert_eq!(deny(&mut fixture, bare()), Some(secs(10)), "the row begins again");
}
