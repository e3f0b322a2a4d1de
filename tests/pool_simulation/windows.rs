//! Short windows under a load that uses them up at once: agents without a pause, as the gateway drives the pool for
//! them, and accounts whose windows begin together.

use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    Action, Command, ConnectionId, Effect, Fence, LeaseRequest, LimitSource, Mono, Now, Pool, PoolSettings, Process,
    RefusalDetails, Reply, RequestOutcome, StatedWait, WaiterId, Wall, millis,
};

use crate::world::{Chance, account, target};

const STEP: Duration = Duration::from_millis(5);
const REFUSAL: u64 = 5;
const ACCOUNTS: usize = 5;
const AGENTS: usize = 12;

/// A load, and how the provider states its waits.
#[derive(Clone, Copy, Debug)]
struct Load {
    window: Duration,
    quota: u64,
    /// How long a request takes at least and at most, in milliseconds.
    service: (u64, u64),
    /// The stated wait is a multiple of this, rounded up.
    unit: u64,
    /// Whether the windows of all accounts begin together.
    together: bool,
    sessions: bool,
}

#[derive(Clone, Copy)]
enum Agent {
    Idle,
    Waits(WaiterId),
    Sent { fence: Fence, answer_at: Mono, refused: Option<Duration> },
    Pauses { fence: Fence, until: Mono },
}

#[derive(Clone, Copy, Default)]
struct Window {
    number: u64,
    used: u64,
    refused: u64,
}

struct Rush {
    load: Load,
    chance: Chance,
    pool: Pool,
    now: Now,
    began: Mono,
    agents: Vec<Agent>,
    windows: Vec<Window>,
    /// The refusals of each window of an account that has ended, with the window's number.
    refusals: Vec<(u64, u64)>,
    served: u64,
}

impl Rush {
    fn new(load: Load, seed: u64) -> Self {
        let now = Now { mono: Mono(5_000_000), wall: Wall(1_800_000_000_000) };
        let mut pool = Pool::new(PoolSettings::default());
        for n in 0..ACCOUNTS {
            pool.handle(now, Command::AddAccount(Box::new(account(n as u64))), &mut vec![]).unwrap();
        }
        Self {
            load,
            chance: Chance(seed),
            pool,
            now,
            began: now.mono,
            agents: vec![Agent::Idle; AGENTS],
            windows: vec![Window::default(); ACCOUNTS],
            refusals: vec![],
            served: 0,
        }
    }

    /// The time since an account's first window began.
    fn age(&self, slot: usize) -> u64 {
        let apart = if self.load.together { 0 } else { slot as u64 * millis(self.load.window) / ACCOUNTS as u64 };
        millis(self.now.mono.since(self.began)) + apart
    }

    fn window(&mut self, slot: usize) -> &mut Window {
        let number = self.age(slot) / millis(self.load.window);
        let window = &mut self.windows[slot];
        if window.number != number {
            self.refusals.push((window.number, window.refused));
            *window = Window { number, ..Window::default() };
        }
        window
    }

    fn handle(&mut self, command: Command) -> Option<Reply> {
        let mut effects = Vec::new();
        let reply = self.pool.handle(self.now, command, &mut effects);
        for effect in effects {
            if let Effect::Answer { waiter, result } = effect {
                let waits = |agent: &Agent| matches!(agent, Agent::Waits(id) if *id == waiter);
                let place = self.agents.iter().position(waits).expect("it waits");
                self.agents[place] = match result {
                    Ok(fence) => self.send(fence),
                    Err(_) => Agent::Idle,
                };
            }
        }
        reply.ok()
    }

    fn send(&mut self, fence: Fence) -> Agent {
        let slot = self.pool.lease(fence).unwrap().account.bits() as usize;
        let (quota, length) = (self.load.quota, millis(self.load.window));
        let left = length - self.age(slot) % length;
        let window = self.window(slot);
        let (takes, refused) = if window.used < quota {
            window.used += 1;
            self.served += 1;
            let (least, most) = self.load.service;
            (least + self.chance.below(most - least + 1), None)
        } else {
            window.refused += 1;
            (REFUSAL, Some(Duration::from_millis(left.div_ceil(self.load.unit) * self.load.unit)))
        };
        Agent::Sent { fence, answer_at: self.now.mono.after(Duration::from_millis(takes)), refused }
    }

    fn step(&mut self) {
        self.now = Now { mono: self.now.mono.after(STEP), wall: self.now.wall.after(STEP) };
        self.handle(Command::Tick);
        for n in 0..AGENTS {
            match self.agents[n] {
                Agent::Idle => self.acquire(n),
                Agent::Pauses { fence, until } if until <= self.now.mono => self.agents[n] = self.send(fence),
                Agent::Sent { fence, answer_at, refused } if answer_at <= self.now.mono => {
                    self.answered(n, fence, refused);
                }
                Agent::Waits(_) | Agent::Sent { .. } | Agent::Pauses { .. } => {}
            }
        }
    }

    fn acquire(&mut self, n: usize) {
        let connection = ConnectionId(n as u64);
        let mut ask = LeaseRequest { target: target(), ..LeaseRequest::new("p", "f", connection) };
        ask.session = self.load.sessions.then(|| n.to_string().into());
        ask.holder.process = Some(Process { pid: n as u32 + 1, start: 1 });
        self.agents[n] = match self.handle(Command::Acquire(Box::new(ask))) {
            Some(Reply::Held(fence)) => self.send(fence),
            Some(Reply::Queued(waiter)) => Agent::Waits(waiter),
            _ => Agent::Idle,
        };
    }

    fn answered(&mut self, n: usize, fence: Fence, refused: Option<Duration>) {
        self.agents[n] = Agent::Idle;
        let Some(wait) = refused else {
            self.handle(Command::Report { fence, outcome: RequestOutcome::Ok });
            self.handle(Command::Release(fence));
            return self.acquire(n);
        };
        let details = RefusalDetails {
            wait: Some(StatedWait::In(wait)),
            source: LimitSource::Server,
            ..RefusalDetails::reported(Reason::RateLimitExceeded, None)
        };
        let outcome = RequestOutcome::Refused(Box::new(details));
        let Some(Reply::Decision(decision)) = self.handle(Command::Report { fence, outcome }) else { panic!() };
        match (decision.action, decision.lease) {
            (Action::Switch, Some(moved)) => self.agents[n] = self.send(moved),
            (Action::Retry, None) => {
                self.agents[n] = Agent::Pauses { fence, until: self.now.mono.after(decision.after) };
            }
            _ => {
                self.handle(Command::Release(fence));
                self.acquire(n);
            }
        }
    }
}

/// Refusals per window on average and at worst, and the share of the quota that was used. In the first windows nothing
/// is known of the quotas yet: there one refusal more does not count as the worst.
fn figures(load: Load, seed: u64) -> (f64, u64, f64) {
    let windows = 12;
    let mut rush = Rush::new(load, seed);
    while millis(rush.now.mono.since(rush.began)) < windows * millis(load.window) {
        rush.step();
    }
    for slot in 0..ACCOUNTS {
        let window = *rush.window(slot);
        rush.refusals.push((window.number, window.refused));
    }
    let all: u64 = rush.refusals.iter().map(|(_, refused)| refused).sum();
    let share = rush.served as f64 / (windows * ACCOUNTS as u64 * load.quota) as f64;
    let worst = rush.refusals.iter().map(|(number, refused)| refused.saturating_sub(u64::from(*number == 0))).max();
    (all as f64 / (windows * ACCOUNTS as u64) as f64, worst.unwrap_or(0), share)
}

/// The windows of a minute, of ten seconds, and of four seconds with answers that come as fast as in the demo.
#[test]
fn short_windows_are_not_stormed_and_are_used_up() {
    let loads =
        [(60, 60, (500, 3_000)), (10, 40, (100, 900)), (10, 20, (300, 600)), (4, 24, (20, 200)), (4, 40, (18, 37))];
    let mut failures = Vec::new();
    for (window, quota, service) in loads {
        for (unit, together, sessions) in
            [(1, true, true), (1, false, true), (1, true, false), (1_000, true, true), (1_000, false, false)]
        {
            let load = Load { window: Duration::from_secs(window), quota, service, unit, together, sessions };
            for seed in 0..2 {
                let (average, worst, share) = figures(load, seed);
                if average > 1.2 || worst > 3 || share < 0.97 {
                    failures.push(format!("{average:.2} on average, {worst} at worst, {share:.3}: {load:?} {seed}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
