//! Scenarios with a virtual clock.

use std::time::Duration;

use super::*;

const S: Duration = Duration::from_secs(1);
const RULES: RefreshRules =
    RefreshRules { ahead: Duration::from_secs(1800), min_life: Duration::from_secs(60), wait: Duration::from_secs(5) };
const START: u64 = 1_790_000_000_000;

/// A plan and a clock that only the test moves.
struct Scene {
    plan: RefreshPlan,
    now: Now,
    generation: u64,
}

fn id(number: u64) -> AccountId {
    AccountId::from_bits(number)
}

impl Scene {
    fn new() -> Self {
        let now = Now { mono: Mono(1_000_000), wall: Wall(START) };
        Self { plan: RefreshPlan::new(RULES), now, generation: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono.after(time), wall: self.now.wall.after(time) };
    }

    /// Adds a login whose token has this lifetime and ends after `left`.
    fn update_of(&mut self, account: u64, client: &str, left: Duration, life: Option<Duration>) {
        self.generation += 1;
        let expires_at = Some(self.now.wall.after(left));
        let login = RefreshableLogin {
            not_before: None,
            client: client.into(),
            is_client_known: true,
            expires_at,
            life,
            generation: self.generation,
            is_interrupted: false,
        };
        self.plan.update(id(account), login, self.now, 0.0);
    }

    fn update(&mut self, account: u64, left: Duration) {
        self.update_of(account, "client", left, Some(8 * 3600 * S));
    }

    fn start_due(&mut self) -> Vec<AccountId> {
        self.plan.start_due(self.now, 0.0)
    }

    fn fail(&mut self, account: u64, fault: RefreshFault, wait: Option<Duration>) -> Option<RefreshTransition> {
        self.plan.finish(id(account), &RefreshOutcome::Failed(failure(fault, wait)), self.now, 0.5)
    }

    fn renew(&mut self, account: u64) -> Option<RefreshTransition> {
        self.update(account, 8 * 3600 * S);
        self.plan.finish(id(account), &RefreshOutcome::Renewed, self.now, 0.0)
    }

    fn request(&mut self, account: u64, reason: RefreshReason) -> RefreshSchedule {
        self.plan.request(id(account), reason, self.now)
    }

    fn blocked(&self, account: u64) -> Option<Renewing> {
        self.plan.blocked(id(account), self.now)
    }

    fn expires_soon(&self, account: u64) -> bool {
        self.plan.expires_soon(id(account), self.now)
    }

    /// How long until the next refresh starts.
    fn until_wake(&self) -> Option<Duration> {
        self.plan.next_wakeup(self.now).map(|at| at.since(self.now.mono))
    }
}

fn failure(fault: RefreshFault, wait: Option<Duration>) -> RefreshFailure {
    RefreshFailure { fault, why: format!("{fault:?}"), wait }
}

#[test]
fn a_token_is_refreshed_ahead_of_its_end_and_at_most_half_its_lifetime_ahead() {
    for (left, life, expected) in [
        (8 * 3600, Some(8 * 3600), 8 * 3600 - 1800),
        (3600, Some(3600), 1800),
        (600, Some(600), 300),
        (10, Some(10), 5),
        // no half of an unknown lifetime
        (1000, None, 0),
        (7200, None, 7200 - 1800),
    ] {
        let mut scene = Scene::new();
        scene.update_of(1, "client", left * S, life.map(|life| life * S));
        assert_eq!(scene.start_due().is_empty(), expected > 0, "{left} of {life:?}");
        if expected > 0 {
            let due = |scene: &Scene| scene.plan.due(&scene.plan.accounts[&id(1)]).unwrap();
            assert_eq!(due(&scene), Wall(START + u64::from(expected) * 1000), "{left} of {life:?}");
            scene.pass(expected * S);
            assert_eq!(scene.start_due(), [id(1)]);
        }
    }
}

#[test]
fn chance_delays_a_refresh_by_at_most_a_tenth() {
    let mut scene = Scene::new();
    let login = RefreshableLogin {
        not_before: None,
        client: "c".into(),
        is_client_known: true,
        expires_at: Some(Wall(START + 7_200_000)),
        life: None,
        generation: 1,
        is_interrupted: false,
    };
    scene.plan.update(id(1), login, scene.now, 1.0);
    let due = scene.plan.due(&scene.plan.accounts[&id(1)]).unwrap();
    assert_eq!(due, Wall(START + 7_200_000 - 1_620_000));
}

#[test]
fn one_refresh_per_account_and_one_request_per_client_run_at_a_time() {
    let mut scene = Scene::new();
    for account in 0..50 {
        scene.update(account, Duration::ZERO);
    }
    scene.update_of(1000, "other", Duration::ZERO, None);
    for account in 0..50 {
        for _ in 0..500 {
            assert_eq!(scene.request(account, RefreshReason::ExpiresSoon), RefreshSchedule::Pending);
        }
    }
    let mut begun = vec![0; 50];
    let (mut running, mut other) = (None::<u64>, 0);
    for _ in 0..50 {
        for one in scene.start_due() {
            if one == id(1000) {
                other += 1;
                continue;
            }
            assert_eq!(running, None, "two of one client");
            let account = (0..50).find(|account| id(*account) == one).unwrap();
            begun[account as usize] += 1;
            running = Some(account);
        }
        assert!(scene.start_due().is_empty(), "nothing is begun twice");
        let account = running.take().unwrap();
        scene.pass(S);
        scene.renew(account);
        assert!(!scene.expires_soon(account));
    }
    assert!(scene.start_due().is_empty());
    assert_eq!((begun, other), (vec![1; 50], 1), "exactly one of each");
}

#[test]
fn requested_refreshes_run_first() {
    let mut scene = Scene::new();
    scene.update(1, 10 * S);
    scene.update(2, 20 * S);
    scene.update(3, 30 * S);
    scene.request(3, RefreshReason::ExpiresSoon);
    scene.pass(S);
    scene.request(2, RefreshReason::Refused);
    for expected in [3, 2, 1] {
        assert_eq!(scene.start_due(), [id(expected)]);
        scene.renew(expected);
    }
}

#[test]
fn a_failing_endpoint_pauses_its_client_and_is_reported_once() {
    let mut scene = Scene::new();
    scene.update(1, Duration::ZERO);
    scene.update(2, Duration::ZERO);
    scene.update_of(3, "other", Duration::ZERO, None);
    scene.request(1, RefreshReason::ExpiresSoon);
    assert_eq!(scene.start_due().len(), 2);
    scene.plan.finish(id(3), &RefreshOutcome::LoginEnded, scene.now, 0.0);
    assert!(matches!(scene.fail(1, RefreshFault::Endpoint, None), Some(RefreshTransition::Failing(_))));
    let (mut lines, mut attempts, began) = (1, 1, scene.now.mono);
    while scene.now.mono.since(began) < 3600 * S {
        scene.pass(scene.until_wake().unwrap().max(S / 1000));
        for one in scene.start_due() {
            attempts += 1;
            let account = if one == id(1) { 1 } else { 2 };
            lines += usize::from(scene.fail(account, RefreshFault::Endpoint, None).is_some());
        }
    }
    assert_eq!(lines, 1);
    assert!((60..80).contains(&attempts), "{attempts} in an hour");
    // then it works again
    scene.pass(61 * S);
    let one = scene.start_due()[0];
    let account = if one == id(1) { 1 } else { 2 };
    assert_eq!(scene.renew(account), Some(RefreshTransition::Recovered(began)));
    let next = scene.start_due();
    assert_eq!(next.len(), 1, "the other one need not wait any more");
}

#[test]
fn a_wait_stated_by_the_endpoint_binds_the_user_too() {
    for (stated, rest) in [(0, 1), (7, 7), (90, 90), (1_000_000, 3600)] {
        let mut scene = Scene::new();
        scene.update(1, Duration::ZERO);
        scene.start_due();
        scene.fail(1, RefreshFault::RateLimited, Some(stated * S));
        let until = scene.now.mono.after(rest * S);
        for want in [RefreshReason::ExpiresSoon, RefreshReason::Refused, RefreshReason::UserRequest] {
            assert_eq!(scene.request(1, want), RefreshSchedule::NotBefore(until), "{stated} {want:?}");
        }
        scene.pass(rest * S - S / 1000);
        assert!(scene.start_due().is_empty());
        scene.pass(S / 1000);
        assert_eq!(scene.start_due(), [id(1)]);
    }
}

#[test]
fn the_user_may_retry_a_client_that_was_rejected() {
    let mut scene = Scene::new();
    scene.update(1, Duration::ZERO);
    scene.start_due();
    scene.fail(1, RefreshFault::Client, None);
    assert!(matches!(scene.request(1, RefreshReason::ExpiresSoon), RefreshSchedule::NotBefore(_)));
    assert_eq!(scene.request(1, RefreshReason::UserRequest), RefreshSchedule::Pending);
    assert_eq!(scene.start_due(), [id(1)]);
}

/// Two logins, of which the first is refused as one of another client's.
fn client_refused(is_client_known: bool) -> Scene {
    let mut scene = logins_of_one_client(2, is_client_known);
    assert!(matches!(scene.fail(1, RefreshFault::ClientRefused, None), Some(RefreshTransition::Failing(_))));
    scene
}

/// Logins of one client that are due; the first one is being refreshed.
fn logins_of_one_client(count: u64, is_client_known: bool) -> Scene {
    let mut scene = Scene::new();
    for account in 1..=count {
        scene.generation += 1;
        let (expires_at, generation) = (Some(scene.now.wall), scene.generation);
        let login = RefreshableLogin {
            not_before: None,
            client: "c".into(),
            is_client_known,
            expires_at,
            life: None,
            generation,
            is_interrupted: false,
        };
        scene.plan.update(id(account), login, scene.now, 0.0);
    }
    assert_eq!(scene.start_due(), [id(1)]);
    scene
}

#[test]
fn a_client_that_is_unknown_for_two_logins_pauses_with_all() {
    let mut scene = logins_of_one_client(5, false);
    let mut attempts = 0;
    for _ in 0..5 {
        for account in 1..=5 {
            if scene.plan.accounts[&id(account)].running.is_some() {
                attempts += 1;
                scene.fail(account, RefreshFault::ClientUnknown, None);
            }
        }
        scene.pass(5 * S);
        scene.start_due();
    }
    assert_eq!(attempts, 2, "the second login shows that it is not one of another client's");
    // accepted for one of them, it is not unknown
    let mut scene = logins_of_one_client(5, false);
    scene.fail(1, RefreshFault::ClientUnknown, None);
    scene.pass(3 * S);
    assert_eq!(scene.start_due(), [id(2)]);
    scene.renew(2);
    scene.pass(3 * S);
    assert_eq!(scene.start_due(), [id(3)]);
    scene.fail(3, RefreshFault::ClientUnknown, None);
    scene.pass(3 * S);
    assert_eq!(scene.start_due(), [id(4)], "two logins of another client");
    // a client that made the login
    let mut scene = logins_of_one_client(2, true);
    scene.fail(1, RefreshFault::ClientUnknown, None);
    scene.pass(60 * S);
    assert!(scene.start_due().is_empty());
}

#[test]
fn a_client_that_may_not_have_made_a_login_is_not_blamed_for_it() {
    let mut scene = client_refused(false);
    scene.pass(3 * S);
    assert_eq!(scene.start_due(), [id(2)], "the other login is refreshed");
    scene.renew(2);
    assert!(scene.blocked(1).is_some() && scene.blocked(2).is_none());
    // with a growing wait
    let mut waits = Vec::new();
    for _ in 0..6 {
        let wait = scene.blocked(1).unwrap().until.unwrap().since(scene.now.mono);
        scene.pass(wait);
        assert_eq!(scene.start_due(), [id(1)]);
        scene.fail(1, RefreshFault::ClientRefused, None);
        waits.push(wait.as_secs() + 3);
    }
    assert!(waits.is_sorted() && waits[0] >= 240 && waits[5] >= 3600, "{waits:?}");
    // the configuration may be fixed now
    scene.plan.set_rules(RULES);
    scene.pass(2 * S);
    assert_eq!(scene.start_due(), [id(1)]);
}

#[test]
fn a_client_that_made_a_login_pauses_with_all_its_logins() {
    let mut scene = client_refused(true);
    scene.update_of(3, "other", Duration::ZERO, None);
    scene.pass(30 * S);
    assert_eq!(scene.start_due(), [id(3)]);
}

#[test]
fn another_client_ends_the_pause_of_a_login() {
    let mut scene = client_refused(false);
    let mut login = scene.plan.accounts[&id(1)].login.clone();
    login.client = "other".into();
    scene.plan.update(id(1), login, scene.now, 0.0);
    scene.pass(3 * S);
    assert_eq!(scene.start_due().len(), 2);
}

#[test]
fn a_login_that_fails_alone_delays_no_other() {
    let mut scene = Scene::new();
    scene.update(1, Duration::ZERO);
    scene.update(2, Duration::ZERO);
    assert_eq!(scene.start_due().len(), 1);
    let first = if scene.plan.accounts[&id(1)].running.is_some() { 1 } else { 2 };
    assert!(scene.fail(first, RefreshFault::Account, None).is_some());
    scene.pass(2 * S);
    assert_eq!(scene.start_due(), [id(3 - first)]);
    scene.renew(3 - first);
    scene.pass(4 * S);
    assert_eq!(scene.start_due(), [id(first)]);
    assert!(matches!(scene.renew(first), Some(RefreshTransition::Recovered(_))));
}

#[test]
fn a_token_expires_soon_before_its_end_but_never_when_fresh() {
    let mut scene = Scene::new();
    scene.update(1, 61 * S);
    scene.update_of(2, "client", 30 * S, Some(30 * S));
    assert!(!scene.expires_soon(1));
    assert!(!scene.expires_soon(2), "half its life at most");
    scene.pass(S);
    assert!(scene.expires_soon(1));
    scene.pass(14 * S);
    assert!(scene.expires_soon(2));
    assert!(!scene.expires_soon(3), "a login that cannot be refreshed never expires soon");
}

#[test]
fn an_account_is_blocked_when_its_token_expires_soon_and_no_new_one_is_near() {
    let mut scene = Scene::new();
    scene.update(1, 100 * S);
    scene.start_due();
    scene.fail(1, RefreshFault::Endpoint, Some(1000 * S));
    assert_eq!(scene.blocked(1), None, "the living token serves");
    // the plan asks to be called when the token expires soon
    assert_eq!(scene.until_wake(), Some(40 * S));
    scene.pass(40 * S);
    let until = Some(scene.now.mono.after(960 * S));
    assert_eq!(scene.blocked(1), Some(Renewing { until }));
    scene.pass(960 * S);
    assert_eq!(scene.start_due(), [id(1)]);
    assert_eq!(scene.blocked(1), Some(Renewing { until: None }), "until it works");
    scene.renew(1);
    assert_eq!(scene.blocked(1), None);
    // one that has not failed yet may arrive at any moment, but not for ever
    scene.pass(8 * 3600 * S);
    scene.request(1, RefreshReason::ExpiresSoon);
    assert_eq!(scene.start_due(), [id(1)]);
    assert_eq!(scene.blocked(1), None);
    assert_eq!(scene.until_wake(), Some(RULES.wait));
    scene.pass(RULES.wait);
    assert_eq!(scene.blocked(1), Some(Renewing { until: None }), "it takes too long");
}

#[test]
fn a_rejected_token_blocks_its_account_and_is_refreshed_once() {
    let mut scene = Scene::new();
    scene.update(1, 8 * 3600 * S);
    assert_eq!(scene.request(1, RefreshReason::Refused), RefreshSchedule::Pending);
    assert_eq!(scene.blocked(1), Some(Renewing { until: None }));
    assert_eq!(scene.start_due(), [id(1)]);
    scene.renew(1);
    assert_eq!(scene.blocked(1), None);
    scene.pass(9 * S);
    assert_eq!(scene.request(1, RefreshReason::Refused), RefreshSchedule::JustRenewed);
    scene.pass(2 * S);
    assert_eq!(scene.request(1, RefreshReason::Refused), RefreshSchedule::Pending);
}

#[test]
fn after_a_sleep_scheduled_refreshes_wait_and_requested_ones_run() {
    let mut scene = Scene::new();
    for account in 0..50 {
        scene.update(account, 3600 * S);
    }
    scene.start_due();
    scene.pass(9 * 3600 * S);
    assert!(scene.plan.start_due(scene.now, 1.0).is_empty(), "the network is not there yet");
    scene.request(7, RefreshReason::ExpiresSoon);
    assert_eq!(scene.plan.start_due(scene.now, 1.0), [id(7)]);
}

#[test]
fn a_login_that_has_ended_is_removed() {
    let mut scene = Scene::new();
    scene.update(1, Duration::ZERO);
    scene.start_due();
    scene.plan.finish(id(1), &RefreshOutcome::LoginEnded, scene.now, 0.0);
    scene.pass(3600 * S);
    assert!(scene.start_due().is_empty());
    assert_eq!(scene.request(1, RefreshReason::UserRequest), RefreshSchedule::Impossible);
    assert_eq!(scene.until_wake(), None);
}

#[test]
fn removing_an_account_during_its_refresh_frees_its_client() {
    let mut scene = Scene::new();
    scene.update(1, Duration::ZERO);
    scene.update(2, Duration::ZERO);
    scene.request(1, RefreshReason::ExpiresSoon);
    assert_eq!(scene.start_due(), [id(1)]);
    scene.plan.remove(id(1));
    assert!(scene.start_due().is_empty());
    scene.plan.finish(id(1), &RefreshOutcome::LoginEnded, scene.now, 0.0);
    assert_eq!(scene.start_due(), [id(2)]);
}

#[test]
fn a_server_that_rejects_early_refreshes_gets_none_whatever_they_are_for() {
    let mut scene = Scene::new();
    let end = scene.now.wall.after(3600 * S);
    let login = RefreshableLogin {
        not_before: Some(scene.now.wall.after(3240 * S)),
        client: "client".into(),
        is_client_known: true,
        expires_at: Some(end),
        life: Some(3600 * S),
        generation: 1,
        is_interrupted: false,
    };
    scene.plan.update(id(1), login, scene.now, 0.0);
    scene.pass(3239 * S);
    // `ahead` alone would have refreshed it after half an hour
    assert_eq!(scene.start_due(), []);
    let allowed = RefreshSchedule::NotBefore(scene.now.mono.after(S));
    assert_eq!(scene.request(1, RefreshReason::Refused), allowed);
    assert_eq!(scene.blocked(1), Some(Renewing { until: Some(scene.now.mono.after(S)) }));
    assert_eq!(scene.request(1, RefreshReason::UserRequest), allowed);
    assert_eq!((scene.start_due(), scene.until_wake()), (vec![], Some(S)));
    scene.pass(S);
    assert_eq!(scene.start_due(), [id(1)]);
}

/// A login whose refresh was cut off by the end of the last run, with this much of an 8-hour token left.
fn interrupted(left: Option<Duration>) -> Scene {
    let mut scene = Scene::new();
    let login = RefreshableLogin {
        not_before: None,
        client: "client".into(),
        is_client_known: true,
        expires_at: left.map(|left| scene.now.wall.after(left)),
        life: Some(8 * 3600 * S),
        generation: 0,
        is_interrupted: true,
    };
    scene.plan.update(id(1), login, scene.now, 0.5);
    // calm after the start
    scene.pass(BREATH);
    scene
}

#[test]
fn an_interrupted_refresh_is_repeated_only_at_the_end_of_the_token() {
    let mut scene = interrupted(Some(600 * S));
    assert_eq!(scene.start_due(), []);
    assert_eq!(scene.until_wake(), Some(598 * S));
    scene.pass(597 * S);
    // it is handed out to its end, although `min_life` and `ahead` are over
    assert!(!scene.expires_soon(1) && scene.blocked(1).is_none());
    assert_eq!(scene.start_due(), []);
    scene.pass(S);
    assert!(scene.expires_soon(1));
    assert_eq!(scene.start_due(), [id(1)]);
}

#[test]
fn an_interrupted_refresh_is_repeated_at_once_when_the_token_is_of_no_use() {
    let mut scene = interrupted(Some(600 * S));
    assert_eq!(scene.request(1, RefreshReason::Refused), RefreshSchedule::Pending);
    assert_eq!(scene.start_due(), [id(1)]);
    let mut scene = interrupted(Some(S));
    assert_eq!(scene.start_due(), [id(1)], "it has ended");
    let mut scene = interrupted(Some(600 * S));
    assert_eq!(scene.request(1, RefreshReason::UserRequest), RefreshSchedule::Pending);
    assert_eq!(scene.start_due(), [id(1)]);
    // a token without an end is used until it is refused
    let mut scene = interrupted(None);
    scene.pass(30 * 86_400 * S);
    assert_eq!(scene.start_due(), []);
    assert_eq!(scene.request(1, RefreshReason::Refused), RefreshSchedule::Pending);
    assert_eq!(scene.start_due(), [id(1)]);
}

#[test]
fn a_repeated_refresh_that_was_not_answered_again_is_retried_like_any_other() {
    let mut scene = interrupted(Some(S));
    assert_eq!(scene.start_due(), [id(1)]);
    scene.fail(1, RefreshFault::Endpoint, None);
    scene.pass(2 * S);
    assert_eq!(scene.start_due(), [id(1)]);
    scene.renew(1);
    assert!(scene.until_wake().is_some_and(|wait| wait > 7 * 3600 * S));
}

#[test]
fn a_token_that_comes_from_elsewhere_makes_the_running_refresh_needless() {
    let mut scene = Scene::new();
    scene.update(1, 60 * S);
    scene.pass(3 * S);
    assert_eq!(scene.start_due(), [id(1)]);
    assert!(!scene.plan.is_renewed_meanwhile(id(1)), "it is due");
    scene.pass(S);
    scene.update(1, 8 * 3600 * S);
    assert!(scene.plan.is_renewed_meanwhile(id(1)));
    scene.plan.finish(id(1), &RefreshOutcome::Renewed, scene.now, 0.5);
    assert!(!scene.plan.is_renewed_meanwhile(id(1)), "none is running");
}
