//! Any sequence of refusals, of both sides' news of them, of time and of restarts.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{Command, DenialsEnd, Effect, Event, LeaseRequest, LimitSource, RefusalDetails, Reply};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::{Fixture, ask, id, secs, target};

const REASONS: [Reason; 7] = [
    Reason::AuthFailed,
    Reason::Forbidden,
    Reason::Unknown,
    Reason::RateLimitExceeded,
    Reason::QuotaExhausted,
    Reason::OutOfCredit,
    Reason::RequestRejected,
];
const SCOPES: [Option<Scope>; 4] = [None, Some(Scope::Account), Some(Scope::Model), Some(Scope::Request)];

#[derive(Clone, Debug)]
enum Step {
    /// A request of an agent, on a model or none, is refused.
    Refused {
        agent: u64,
        has_model: bool,
        details: RefusalDetails,
    },
    Succeeds {
        agent: u64,
        has_model: bool,
    },
    Deny(char, RefusalDetails),
    Forget(char, DenialsEnd),
    Clear(char),
    Pass(u64),
    Restart,
}

fn details() -> impl Strategy<Value = RefusalDetails> {
    let wait = prop_oneof![4 => Just(None), 1 => (1..900_u64).prop_map(Some)];
    (0..REASONS.len(), 0..SCOPES.len(), wait, any::<bool>(), any::<bool>()).prop_map(
        |(reason, scope, wait, lasting, renewable)| RefusalDetails {
            scope: SCOPES[scope],
            lasting: lasting && SCOPES[scope].is_some(),
            renewable: renewable && REASONS[reason] == Reason::AuthFailed,
            source: LimitSource::Server,
            ..RefusalDetails::reported(REASONS[reason], wait.map(secs))
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let account = || prop_oneof![Just('a'), Just('b'), Just('c')];
    let news = prop_oneof![Just(DenialsEnd::Refreshed), Just(DenialsEnd::Replaced), Just(DenialsEnd::Accepted)];
    prop_oneof![
        8 => (0..4_u64, any::<bool>(), details())
            .prop_map(|(agent, has_model, details)| Step::Refused { agent, has_model, details }),
        3 => (0..4_u64, any::<bool>()).prop_map(|(agent, has_model)| Step::Succeeds { agent, has_model }),
        1 => (account(), details()).prop_map(|(account, details)| Step::Deny(account, details)),
        1 => (account(), news).prop_map(|(account, news)| Step::Forget(account, news)),
        1 => account().prop_map(Step::Clear),
        4 => prop_oneof![1..3_000_u64, 3_000..30_000_u64, 30_000..8_000_000_u64].prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

fn ask_for(agent: u64, has_model: bool) -> LeaseRequest {
    LeaseRequest { target: target("k", has_model.then_some("opus")), ..ask(agent) }
}

fn play(fixture: &mut Fixture, step: Step) {
    match step {
        Step::Refused { agent, has_model, details } => {
            if let Ok(Reply::Held(mut fence)) = fixture.acquire(ask_for(agent, has_model)) {
                // on every account that it is moved to, until the holder waits or stops
                let mut moves = 0;
                while let Some(moved) = fixture.found(fence, details.clone()).lease {
                    (fence, moves) = (moved, moves + 1);
                    assert!(moves < 10, "the request moves in a circle: {details:?}");
                }
                fixture.release(fence);
                for letter in "abc".chars() {
                    if fixture.pool.account(id(letter)).unwrap().renewing().is_some() {
                        fixture.run(Command::ForgetDenials(id(letter), DenialsEnd::Refreshed)).unwrap();
                        fixture.run(Command::SetRenewing(id(letter), None)).unwrap();
                    }
                }
            }
        }
        Step::Succeeds { agent, has_model } => {
            if let Ok(Reply::Held(fence)) = fixture.acquire(ask_for(agent, has_model)) {
                fixture.ok(fence);
                fixture.release(fence);
            }
        }
        Step::Deny(letter, details) => drop(fixture.run(Command::Deny(id(letter), Box::new(details)))),
        Step::Forget(letter, news) => drop(fixture.run(Command::ForgetDenials(id(letter), news))),
        Step::Clear(letter) => drop(fixture.run(Command::ClearLimits(id(letter)))),
        Step::Pass(ms) => fixture.pass(Duration::from_millis(ms)),
        Step::Restart => fixture.restart(false),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A refused account is tried again within a quarter of an hour, or within six hours after a stated state; its wait is
    /// never longer than what was stated; the limits before a restart are those after it.
    #[test]
    fn any_refusals_leave_limits_that_end_and_survive_a_restart(steps in vec(step(), 1..60)) {
        let mut fixture = Fixture::new("abc", |settings| settings.leases.max_per_account = 8);
        for step in steps {
            let is_restart = matches!(step, Step::Restart);
            let known = |fixture: &Fixture| -> Vec<_> {
                let limits = fixture.pool.accounts().iter().flat_map(|account| account.limits().iter().map(|limit| {
                    (account.record.id, limit.scope, limit.key.clone(), limit.reason, limit.until.wall(fixture.now), limit.since)
                }));
                limits.filter(|(.., until, _)| *until > fixture.now.wall).collect()
            };
            let before = known(&fixture);
            play(&mut fixture, step);
            if is_restart {
                prop_assert_eq!(&before, &known(&fixture));
            }
            let limited = fixture.effects.iter().filter(|effect| matches!(effect, Effect::Emit(Event::Limited(_)))).count();
            prop_assert!(limited <= 1, "{:?}", fixture.effects);
            for account in fixture.pool.accounts() {
                for limit in account.limits().iter().filter(|limit| limit.is_denial()) {
                    let most = if limit.source == LimitSource::Table { secs(900) } else { secs(6 * 3_600) };
                    prop_assert!(limit.until.mono(fixture.now).since(fixture.now.mono) <= most, "{:?}", limit);
                }
            }
        }
        // without further refusals every account serves again, whatever was refused before
        fixture.pass(secs(7 * 3_600));
        for agent in 0..3 {
            let held = fixture.hold(LeaseRequest { account: Some(["a", "b", "c"][agent as usize].into()), ..ask_for(agent, true) });
            fixture.ok(held);
            fixture.release(held);
        }
        prop_assert!(fixture.pool.accounts().iter().all(|account| account.denied_since().is_none()));
    }
}
