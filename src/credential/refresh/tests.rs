//! Scenes with a clock of their own.

use std::time::Duration;

use super::*;

const S: Duration = Duration::from_secs(1);
const RULES: Rules =
    Rules { ahead: Duration::from_secs(1800), min_life: Duration::from_secs(60), wait: Duration::from_secs(5) };
const START: u64 = 1_790_000_000_000;

/// A plan, and a clock that nothing moves but the scene.
struct Scene {
    plan: Refresher,
    now: Now,
    generation: u64,
}

fn id(number: u64) -> AccountId {
    AccountId::from_bits(number)
}

impl Scene {
    fn new() -> Self {
        let now = Now { mono: Mono(1_000_000), wall: Wall(START) };
        Self { plan: Refresher::new(RULES), now, generation: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono.after(time), wall: self.now.wall.after(time) };
    }

    /// A login whose token, of this life, ends after so long.
    fn know_of(&mut self, account: u64, client: &str, left: Duration, life: Option<Duration>) {
        self.generation += 1;
        let expires_at = Some(self.now.wall.after(left));
        let login = Login { client: client.into(), expires_at, life, generation: self.generation };
        self.plan.know(id(account), login, self.now, 0.0);
    }

    fn know(&mut self, account: u64, left: Duration) {
        self.know_of(account, "client", left, Some(8 * 3600 * S));
    }

    fn begin(&mut self) -> Vec<AccountId> {
        self.plan.begin(self.now, 0.0)
    }

    fn fail(&mut self, account: u64, fault: Fault, wait: Option<Duration>) -> Option<Turn> {
        self.plan.ended(id(account), &Ended::Failed(failure(fault, wait)), self.now, 0.5)
    }

    fn renew(&mut self, account: u64) -> Option<Turn> {
        self.know(account, 8 * 3600 * S);
        self.plan.ended(id(account), &Ended::Renewed, self.now, 0.0)
    }

    /// How long until something begins.
    fn until_wake(&self) -> Option<Duration> {
        self.plan.wake(self.now).map(|at| at.since(self.now.mono))
    }
}

fn failure(fault: Fault, wait: Option<Duration>) -> Failure {
    Failure { fault, why: format!("{fault:?}"), wait }
}

#[test]
fn a_token_is_renewed_ahead_of_its_end_and_at_most_half_its_life_ahead() {
    for (left, life, expected) in [
        (8 * 3600, Some(8 * 3600), 8 * 3600 - 1800),
        (3600, Some(3600), 1800),
        (600, Some(600), 300),
        (10, Some(10), 5),
        // of a life that is not known nothing is half
        (1000, None, 0),
        (7200, None, 7200 - 1800),
    ] {
        let mut scene = Scene::new();
        scene.know_of(1, "client", left * S, life.map(|life| life * S));
        assert_eq!(scene.begin().is_empty(), expected > 0, "{left} of {life:?}");
        if expected > 0 {
            let due = |scene: &Scene| scene.plan.due(&scene.plan.accounts[&id(1)]).unwrap();
            assert_eq!(due(&scene), Wall(START + u64::from(expected) * 1000), "{left} of {life:?}");
            scene.pass(expected * S);
            assert_eq!(scene.begin(), [id(1)]);
        }
    }
}

#[test]
fn chance_makes_it_later_by_a_tenth_at_most() {
    let mut scene = Scene::new();
    let login = Login { client: "c".into(), expires_at: Some(Wall(START + 7_200_000)), life: None, generation: 1 };
    scene.plan.know(id(1), login, scene.now, 1.0);
    let due = scene.plan.due(&scene.plan.accounts[&id(1)]).unwrap();
    assert_eq!(due, Wall(START + 7_200_000 - 1_620_000));
}

#[test]
fn one_at_a_time_of_an_account_and_of_a_client() {
    let mut scene = Scene::new();
    for account in 0..50 {
        scene.know(account, Duration::ZERO);
    }
    scene.know_of(1000, "other", Duration::ZERO, None);
    for account in 0..50 {
        for _ in 0..500 {
            assert_eq!(scene.plan.want(id(account), Want::Life, scene.now), Wanted::Coming);
        }
    }
    let mut begun = vec![0; 50];
    let (mut running, mut other) = (None::<u64>, 0);
    for _ in 0..50 {
        for one in scene.begin() {
            if one == id(1000) {
                other += 1;
                continue;
            }
            assert_eq!(running, None, "two of one client");
            let account = (0..50).find(|account| id(*account) == one).unwrap();
            begun[account as usize] += 1;
            running = Some(account);
        }
        assert!(scene.begin().is_empty(), "nothing is begun twice");
        let account = running.take().unwrap();
        scene.pass(S);
        scene.renew(account);
        assert!(!scene.plan.is_low(id(account), scene.now));
    }
    assert!(scene.begin().is_empty());
    assert_eq!((begun, other), (vec![1; 50], 1), "exactly one of each");
}

#[test]
fn whoever_is_waited_for_goes_first() {
    let mut scene = Scene::new();
    scene.know(1, 10 * S);
    scene.know(2, 20 * S);
    scene.know(3, 30 * S);
    scene.plan.want(id(3), Want::Life, scene.now);
    scene.pass(S);
    scene.plan.want(id(2), Want::Refused, scene.now);
    for expected in [3, 2, 1] {
        assert_eq!(scene.begin(), [id(expected)]);
        scene.renew(expected);
    }
}

#[test]
fn a_failing_endpoint_rests_its_client_and_is_told_once() {
    let mut scene = Scene::new();
    scene.know(1, Duration::ZERO);
    scene.know(2, Duration::ZERO);
    scene.know_of(3, "other", Duration::ZERO, None);
    scene.plan.want(id(1), Want::Life, scene.now);
    assert_eq!(scene.begin().len(), 2);
    scene.plan.ended(id(3), &Ended::Over, scene.now, 0.0);
    assert!(matches!(scene.fail(1, Fault::Endpoint, None), Some(Turn::Down(_))));
    let (mut lines, mut attempts, began) = (1, 1, scene.now.mono);
    while scene.now.mono.since(began) < 3600 * S {
        scene.pass(scene.until_wake().unwrap().max(S / 1000));
        for one in scene.begin() {
            attempts += 1;
            let account = if one == id(1) { 1 } else { 2 };
            lines += usize::from(scene.fail(account, Fault::Endpoint, None).is_some());
        }
    }
    assert_eq!(lines, 1);
    assert!((60..80).contains(&attempts), "{attempts} in an hour");
    // then it works again
    scene.pass(61 * S);
    let one = scene.begin()[0];
    let account = if one == id(1) { 1 } else { 2 };
    assert_eq!(scene.renew(account), Some(Turn::Up(began)));
    let next = scene.begin();
    assert_eq!(next.len(), 1, "the other one has not to rest any more");
}

#[test]
fn what_the_endpoint_states_is_kept_even_by_the_user() {
    for (stated, rest) in [(0, 1), (7, 7), (90, 90), (1_000_000, 3600)] {
        let mut scene = Scene::new();
        scene.know(1, Duration::ZERO);
        scene.begin();
        scene.fail(1, Fault::TooMany, Some(stated * S));
        let until = scene.now.mono.after(rest * S);
        for want in [Want::Life, Want::Refused, Want::User] {
            assert_eq!(scene.plan.want(id(1), want, scene.now), Wanted::NotBefore(until), "{stated} {want:?}");
        }
        scene.pass(rest * S - S / 1000);
        assert!(scene.begin().is_empty());
        scene.pass(S / 1000);
        assert_eq!(scene.begin(), [id(1)]);
    }
}

#[test]
fn the_user_may_try_a_client_that_was_refused() {
    let mut scene = Scene::new();
    scene.know(1, Duration::ZERO);
    scene.begin();
    scene.fail(1, Fault::Client, None);
    assert!(matches!(scene.plan.want(id(1), Want::Life, scene.now), Wanted::NotBefore(_)));
    assert_eq!(scene.plan.want(id(1), Want::User, scene.now), Wanted::Coming);
    assert_eq!(scene.begin(), [id(1)]);
}

#[test]
fn a_login_that_fails_by_itself_holds_up_no_other() {
    let mut scene = Scene::new();
    scene.know(1, Duration::ZERO);
    scene.know(2, Duration::ZERO);
    assert_eq!(scene.begin().len(), 1);
    let first = if scene.plan.accounts[&id(1)].running.is_some() { 1 } else { 2 };
    assert!(scene.fail(first, Fault::Account, None).is_some());
    scene.pass(2 * S);
    assert_eq!(scene.begin(), [id(3 - first)]);
    scene.renew(3 - first);
    scene.pass(4 * S);
    assert_eq!(scene.begin(), [id(first)]);
    assert!(matches!(scene.renew(first), Some(Turn::Up(_))));
}

#[test]
fn a_token_is_low_before_its_end_but_never_a_fresh_one() {
    let mut scene = Scene::new();
    scene.know(1, 61 * S);
    scene.know_of(2, "client", 30 * S, Some(30 * S));
    assert!(!scene.plan.is_low(id(1), scene.now));
    assert!(!scene.plan.is_low(id(2), scene.now), "half its life at most");
    scene.pass(S);
    assert!(scene.plan.is_low(id(1), scene.now));
    scene.pass(14 * S);
    assert!(scene.plan.is_low(id(2), scene.now));
    assert!(!scene.plan.is_low(id(3), scene.now), "what cannot be renewed is never low");
}

#[test]
fn an_account_is_stuck_when_its_token_is_low_and_no_other_one_is_near() {
    let mut scene = Scene::new();
    scene.know(1, 100 * S);
    scene.begin();
    scene.fail(1, Fault::Endpoint, Some(1000 * S));
    assert_eq!(scene.plan.stuck(id(1), scene.now), None, "the living token serves");
    // its plan wants to be asked when the token has become low
    assert_eq!(scene.until_wake(), Some(40 * S));
    scene.pass(40 * S);
    let until = Some(scene.now.mono.after(960 * S));
    assert_eq!(scene.plan.stuck(id(1), scene.now), Some(Renewing { until }));
    scene.pass(960 * S);
    assert_eq!(scene.begin(), [id(1)]);
    assert_eq!(scene.plan.stuck(id(1), scene.now), Some(Renewing { until: None }), "until it works");
    scene.renew(1);
    assert_eq!(scene.plan.stuck(id(1), scene.now), None);
    // one that has not failed yet may come at any moment, but not for ever
    scene.pass(8 * 3600 * S);
    scene.plan.want(id(1), Want::Life, scene.now);
    assert_eq!(scene.begin(), [id(1)]);
    assert_eq!(scene.plan.stuck(id(1), scene.now), None);
    assert_eq!(scene.until_wake(), Some(RULES.wait));
    scene.pass(RULES.wait);
    assert_eq!(scene.plan.stuck(id(1), scene.now), Some(Renewing { until: None }), "it takes too long");
}

#[test]
fn a_refused_token_is_as_good_as_none_and_renewed_once() {
    let mut scene = Scene::new();
    scene.know(1, 8 * 3600 * S);
    assert_eq!(scene.plan.want(id(1), Want::Refused, scene.now), Wanted::Coming);
    assert_eq!(scene.plan.stuck(id(1), scene.now), Some(Renewing { until: None }));
    assert_eq!(scene.begin(), [id(1)]);
    scene.renew(1);
    assert_eq!(scene.plan.stuck(id(1), scene.now), None);
    scene.pass(9 * S);
    assert_eq!(scene.plan.want(id(1), Want::Refused, scene.now), Wanted::JustRenewed);
    scene.pass(2 * S);
    assert_eq!(scene.plan.want(id(1), Want::Refused, scene.now), Wanted::Coming);
}

#[test]
fn after_a_sleep_nobody_storms_but_who_is_waited_for_is_served() {
    let mut scene = Scene::new();
    for account in 0..50 {
        scene.know(account, 3600 * S);
    }
    scene.begin();
    scene.pass(9 * 3600 * S);
    assert!(scene.plan.begin(scene.now, 1.0).is_empty(), "the network is not there yet");
    scene.plan.want(id(7), Want::Life, scene.now);
    assert_eq!(scene.plan.begin(scene.now, 1.0), [id(7)]);
}

#[test]
fn a_login_that_is_over_is_left_alone() {
    let mut scene = Scene::new();
    scene.know(1, Duration::ZERO);
    scene.begin();
    scene.plan.ended(id(1), &Ended::Over, scene.now, 0.0);
    scene.pass(3600 * S);
    assert!(scene.begin().is_empty());
    assert_eq!(scene.plan.want(id(1), Want::User, scene.now), Wanted::Never);
    assert_eq!(scene.until_wake(), None);
}

#[test]
fn an_account_that_goes_while_it_is_refreshed_frees_its_client() {
    let mut scene = Scene::new();
    scene.know(1, Duration::ZERO);
    scene.know(2, Duration::ZERO);
    scene.plan.want(id(1), Want::Life, scene.now);
    assert_eq!(scene.begin(), [id(1)]);
    scene.plan.forget(id(1));
    assert!(scene.begin().is_empty());
    scene.plan.ended(id(1), &Ended::Over, scene.now, 0.0);
    assert_eq!(scene.begin(), [id(2)]);
}
