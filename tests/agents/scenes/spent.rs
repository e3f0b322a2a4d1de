//! A pool that is spent for minutes: the agents wait and finish. A pool that is spent for longer than lessor waits: they
//! stop with the time.

use std::time::Duration;

use super::{AgentKind, CLAUDE, CLAUDE_LOGIN, CODEX, CODEX_LOGIN, GEMINI, GEMINI_LOGIN, OPENCODE};
use super::{count, outcome, seconds, table, trouble};
use crate::fleet::{Fleet, FleetConfig, Ran, wait_for};
use crate::trouble::Trouble;
use crate::upstream::Limit;

const ACCOUNTS: usize = 3;
const STEPS: u64 = 2;
/// How long an agent may take after the pool is back, on a busy machine.
const AFTERWARDS: Duration = Duration::from_secs(120);
/// `limits.max_rate_limit_wait`
const LONGEST_WAIT: u64 = 300;
/// No request is refused that can be served within this time.
const BORNE: Duration = Duration::from_secs(50);
/// After this time an agent has stopped that cannot be served.
const STOP: Duration = Duration::from_secs(30);

fn scene(kind: AgentKind, length: u64) {
    let runs = count(2, 10);
    let form = if kind.is_login { "login" } else { "key" };
    let test = format!("spent-{length}-{}-{form}", kind.name);
    let fleet = Fleet::with(&test, kind.provider, &[(kind.is_login, Limit::None); ACCOUNTS], &FleetConfig::default());
    let length = Duration::from_secs(length);
    fleet.upstream.plan(Trouble::spent_pool(runs, length));
    let agents = (1..=runs).map(|run| kind.start(&fleet, run, STEPS, &[])).collect();
    let began = trouble(&fleet);
    let stops = length.as_secs() > LONGEST_WAIT;
    let patience = if stops { STOP + AFTERWARDS } else { length + AFTERWARDS };
    let ran = wait_for(agents, patience);
    let seen = fleet.upstream.seen();
    let row = |ran: &Ran| {
        let of_run = seen.iter().filter(|seen| seen.run == Some(ran.run));
        let limited = of_run.clone().filter(|seen| seen.status == 429).count();
        vec![
            ran.run.to_string(),
            outcome(ran),
            seconds(began, ran.ended),
            seconds(began + length, ran.ended),
            of_run.count().to_string(),
            limited.to_string(),
            names_time_and_account(ran, kind.provider).to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = ran.iter().map(row).collect();
    let head = ["run", "outcome", "ended s", "after the end s", "requests", "429s upstream", "names time and account"];
    table(&format!("spent pool, {} s: {} with a {form}", length.as_secs(), kind.name), &head, &rows);
    // what stops an agent is a limit that it sees, so that it is known to be counted
    let (met, visible) = fleet.limits();
    assert!(met > 0 && (visible > 0 || !stops), "{visible} of {met} limits reached an agent: {seen:#?}");
    assert!(length > BORNE || visible == 0, "{visible} of {met} limits reached an agent: {seen:#?}");
    for ran in &ran {
        let text = &ran.text;
        assert!(!ran.hung, "run {} hangs: {text}", ran.run);
        if stops {
            assert!(!ran.ok && ran.ended - began < STOP, "run {} does not stop in time: {text}", ran.run);
            assert!(names_time_and_account(ran, kind.provider), "run {} does not say when: {text}", ran.run);
        } else {
            assert!(ran.ok, "run {} did not finish: {text}\n{seen:#?}", ran.run);
        }
    }
}

/// Whether the output names an account, and a time of day.
fn names_time_and_account(ran: &Ran, provider: &str) -> bool {
    let has_account = (0..ACCOUNTS).any(|number| ran.text.contains(&format!("{provider}-{number}")));
    let is_time = |letters: &[u8]| {
        letters.iter().enumerate().all(|(at, letter)| match at {
            2 | 5 => *letter == b':',
            _ => letter.is_ascii_digit(),
        })
    };
    has_account && ran.text.as_bytes().windows(8).any(is_time)
}

macro_rules! scenes {
    ($($(#[$ignored:meta])* $name:ident($length:literal);)*) => {
        $(mod $name {
            use super::*;

            scenes!(@kinds $(#[$ignored])*; $length; claude CLAUDE, claude_login CLAUDE_LOGIN, codex CODEX,
                codex_login CODEX_LOGIN, gemini GEMINI, gemini_login GEMINI_LOGIN, opencode OPENCODE);
        })*
    };
    (@kinds ; $length:literal; $($test:ident $kind:ident),*) => {
        $(#[test]
        fn $test() {
            scene($kind, $length);
        })*
    };
    (@kinds #[$ignored:meta]; $length:literal; $($test:ident $kind:ident),*) => {
        $(#[test]
        #[$ignored]
        fn $test() {
            scene($kind, $length);
        })*
    };
}

scenes! {
    for_25_s(25);
    #[ignore = "takes minutes: .ci/agents --ignored"]
    for_61_s(61);
    #[ignore = "takes minutes: .ci/agents --ignored"]
    for_90_s(90);
    #[ignore = "takes minutes: .ci/agents --ignored"]
    for_240_s(240);
    for_1200_s(1200);
}
