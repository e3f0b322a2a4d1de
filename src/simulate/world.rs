//! The simulation: agents in virtual time, and what is counted.

use super::rng::Rng;
use super::upstream::{MINUTE, Ms, SECOND, SimulatedUpstream, UpstreamAnswer};
use super::{Counted, Load};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How long a refusal takes to come back: it costs the provider nothing.
const REFUSAL: Ms = 50;
/// An agent that is refused without a time tries again after this.
const AGAIN: Ms = 30 * SECOND;
/// An agent tries again after this at the latest.
const LONGEST_STAY: Ms = 5 * MINUTE;
/// Points of the curve.
const STEPS: u64 = 96;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum AgentStep {
    Send(usize),
    /// The same, to find out whether the account serves again.
    Probe(usize),
    /// Sleeps so long, then continues.
    Sleep(Ms),
    /// Waits until the rules wake it.
    Park,
    /// Receives an error, with a stated wait, and starts again after it.
    GiveUp(Option<Ms>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AgentRequest {
    pub(super) agent: usize,
    /// The conversation; never the same again.
    pub(super) session: u64,
}

/// What an agent sent, with which account, and its answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sent {
    pub(super) request: AgentRequest,
    pub(super) account: usize,
    pub(super) answer: UpstreamAnswer,
}

/// Rules that choose the account of every request. `upstream` may be read only for what the provider's usage page states.
pub(super) trait RoutingRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> AgentStep;
    /// A request is answered; a step only when it was refused.
    fn answered(&mut self, now: Ms, sent: Sent, upstream: &SimulatedUpstream) -> Option<AgentStep>;
    /// A sleep is over.
    fn resume(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> AgentStep {
        self.begin(now, request, upstream)
    }
    /// When they want to be called.
    fn next_wakeup(&self, _now: Ms, _upstream: &SimulatedUpstream) -> Option<Ms> {
        None
    }
    fn wake(&mut self, _now: Ms, _upstream: &SimulatedUpstream) {}
    /// Steps of agents that were parked.
    fn woken(&mut self) -> Vec<(usize, AgentStep)> {
        Vec::new()
    }
    /// Whether they keep the account back on purpose: while it is probed, or is at its ceiling.
    fn keeps_back(&self, _now: Ms, _account: usize) -> bool {
        false
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum SimulationEvent {
    /// An account may have become free.
    Look(usize),
    Window(usize),
    Answer(usize),
    Resume(usize),
    Begin(usize),
    Rules,
}

#[derive(Debug)]
struct SimulatedAgent {
    rng: Rng,
    request: AgentRequest,
    /// Requests until its task is done.
    left: u64,
    /// How long its request takes when it is served.
    service: Ms,
    /// The account that the session's last request went to.
    last: Option<usize>,
    sent: Option<(usize, UpstreamAnswer)>,
    sleeps: bool,
}

pub(super) struct Simulation<'a> {
    now: Ms,
    end: Ms,
    rules: &'a mut dyn RoutingRules,
    upstream: SimulatedUpstream,
    agents: Vec<SimulatedAgent>,
    events: BinaryHeap<Reverse<(Ms, u64, SimulationEvent)>>,
    /// Keeps events of the same moment in the order in which they were made.
    order: u64,
    sessions: u64,
    asleep: u64,
    /// Whether any account could serve since the last event.
    any_free: bool,
    rules_at: Option<Ms>,
    counted: Counted,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(load: &Load, rules: &'a mut dyn RoutingRules) -> Self {
        let upstream = SimulatedUpstream::new(load);
        let end = load.length();
        let counted =
            Counted { quota: upstream.quota_until(end), curve: vec![0; STEPS as usize], ..Counted::default() };
        let agents = (0..load.agents).map(|agent| SimulatedAgent {
            rng: Rng::new(load.seed, agent as u64),
            request: AgentRequest { agent, session: 0 },
            left: 0,
            service: 0,
            last: None,
            sent: None,
            sleeps: false,
        });
        let mut world = Self {
            now: 0,
            end,
            rules,
            agents: agents.collect(),
            events: BinaryHeap::new(),
            order: 0,
            sessions: 0,
            asleep: 0,
            any_free: false,
            rules_at: None,
            counted,
            upstream,
        };
        for account in 0..world.upstream.len() {
            world.at(world.upstream.next_window(account, 0), SimulationEvent::Window(account));
        }
        for agent in 0..world.agents.len() {
            world.think(agent);
        }
        world
    }

    pub(super) fn run(mut self) -> Counted {
        while let Some(Reverse((at, _, what))) = self.events.pop() {
            if at >= self.end {
                break;
            }
            if self.any_free {
                self.counted.slept_ms += (at - self.now) * self.asleep;
            }
            self.now = at;
            self.happen(what);
            for (agent, step) in self.rules.woken() {
                self.wake(agent);
                self.follow(agent, step);
            }
            let wanted = self.rules.next_wakeup(at, &self.upstream).map(|wanted| wanted.max(at));
            if let Some(wanted) = wanted.filter(|wanted| self.rules_at.is_none_or(|known| *wanted < known)) {
                self.rules_at = Some(wanted);
                self.at(wanted, SimulationEvent::Rules);
            }
            self.any_free = self.asleep > 0 && self.is_any_free();
        }
        let refusals = self.upstream.refusals;
        self.counted.refusals = refusals.all;
        self.counted.refused_windows = refusals.windows;
        self.counted.needless_refusals = refusals.needless;
        self.counted.most_refusals = refusals.most;
        let mut sum = 0;
        for step in &mut self.counted.curve {
            sum += *step;
            *step = sum;
        }
        self.counted
    }

    fn at(&mut self, at: Ms, what: SimulationEvent) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, what)));
    }

    fn happen(&mut self, what: SimulationEvent) {
        match what {
            SimulationEvent::Look(_) => {}
            SimulationEvent::Window(account) => {
                self.at(self.upstream.next_window(account, self.now), SimulationEvent::Window(account));
            }
            // an earlier wakeup has replaced this one
            SimulationEvent::Rules if self.rules_at != Some(self.now) => {}
            SimulationEvent::Rules => {
                self.rules_at = None;
                self.rules.wake(self.now, &self.upstream);
            }
            SimulationEvent::Begin(agent) => {
                self.wake(agent);
                let step = self.rules.begin(self.now, self.agents[agent].request, &self.upstream);
                self.follow(agent, step);
            }
            SimulationEvent::Resume(agent) => {
                self.wake(agent);
                let step = self.rules.resume(self.now, self.agents[agent].request, &self.upstream);
                self.follow(agent, step);
            }
            SimulationEvent::Answer(agent) => {
                let Some((account, answer)) = self.agents[agent].sent.take() else { return };
                let sent = Sent { request: self.agents[agent].request, account, answer };
                match self.rules.answered(self.now, sent, &self.upstream) {
                    Some(step) => self.follow(agent, step),
                    None => self.think(agent),
                }
            }
        }
    }

    /// The agent works without the provider for a while; then it has a new request.
    fn think(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let mut pause = agent.rng.between(SECOND, 10 * SECOND);
        if agent.left == 0 {
            agent.left = agent.rng.between(8, 60);
            pause = agent.rng.between(10 * SECOND, 2 * MINUTE);
            self.sessions += 1;
            agent.request.session = self.sessions;
            agent.last = None;
        }
        agent.left -= 1;
        agent.service = agent.rng.between(4 * SECOND, 24 * SECOND);
        self.at(self.now + pause, SimulationEvent::Begin(index));
    }

    fn follow(&mut self, agent: usize, step: AgentStep) {
        match step {
            AgentStep::Send(account) => self.send(agent, account, false),
            AgentStep::Probe(account) => self.send(agent, account, true),
            AgentStep::Sleep(ms) => {
                self.sleep(agent);
                self.at(self.now + ms, SimulationEvent::Resume(agent));
            }
            AgentStep::Park => self.sleep(agent),
            AgentStep::GiveUp(told) => {
                self.sleep(agent);
                self.counted.turned_away += 1;
                let stay = told.unwrap_or(AGAIN).clamp(1, LONGEST_STAY);
                self.at(self.now + stay, SimulationEvent::Begin(agent));
            }
        }
    }

    fn sleep(&mut self, agent: usize) {
        self.counted.wrong += u64::from(self.is_any_free());
        self.agents[agent].sleeps = true;
        self.asleep += 1;
    }

    fn wake(&mut self, agent: usize) {
        if std::mem::take(&mut self.agents[agent].sleeps) {
            self.asleep -= 1;
        }
    }

    fn send(&mut self, index: usize, account: usize, probes: bool) {
        let now = self.now;
        let last = self.agents[index].last.replace(account);
        if let Some(last) = last.filter(|last| *last != account) {
            self.counted.moves += 1;
            self.counted.needless_moves += u64::from(self.could_serve(last));
        }
        let answer = self.upstream.ask(account, now, now + REFUSAL, probes);
        let agent = &mut self.agents[index];
        agent.sent = Some((account, answer));
        let takes = match answer {
            UpstreamAnswer::Served => agent.service,
            UpstreamAnswer::Refused { .. } => REFUSAL,
        };
        self.at(now + takes, SimulationEvent::Answer(index));
        match answer {
            UpstreamAnswer::Served => {
                self.counted.served += 1;
                self.counted.curve[(now * STEPS / self.end) as usize] += 1;
            }
            UpstreamAnswer::Refused { .. } => {
                self.at(self.upstream.told_until(account), SimulationEvent::Look(account));
            }
        }
    }

    fn could_serve(&self, account: usize) -> bool {
        self.upstream.is_free(account, self.now) && !self.rules.keeps_back(self.now, account)
    }

    fn is_any_free(&self) -> bool {
        (0..self.upstream.len()).any(|account| self.could_serve(account))
    }
}
