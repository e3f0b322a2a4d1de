//! opencode-anthropic-multi-auth: every agent is a process that chooses an account when it starts, once a task, and
//! again after a 429; limits go into a file that the next process reads.
//!
//! Kinder than the original: tokens never expire, so that the usage of every account is known.

use crate::simulate::Load;
use crate::simulate::upstream::{Ms, SimulatedUpstream, UpstreamAnswer};
use crate::simulate::world::{AgentRequest, AgentStep, RoutingRules, Sent};

#[derive(Clone, Debug)]
struct MultiAuthProcess {
    session: u64,
    limited_until: Vec<Ms>,
    current: usize,
    retried: bool,
}

#[derive(Debug)]
pub(crate) struct MultiAuthRules {
    processes: Vec<Option<MultiAuthProcess>>,
    /// The file: each process writes it whole, from its own memory.
    file: Vec<Ms>,
}

/// The account with the least of the week used, of those it does not take for limited.
fn least_used(now: Ms, limited_until: &[Ms], upstream: &SimulatedUpstream) -> Option<usize> {
    let week = |account: usize| upstream.reading(account, now).week;
    let open = (0..limited_until.len()).filter(|account| limited_until[*account] <= now);
    open.min_by(|a, b| week(*a).total_cmp(&week(*b)))
}

impl MultiAuthRules {
    pub(crate) fn new(load: &Load) -> Self {
        Self { processes: vec![None; load.agents], file: vec![0; load.accounts] }
    }

    fn process(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> &mut MultiAuthProcess {
        let file = &self.file;
        let start = || {
            let limited_until = file.clone();
            // where all are limited it is the first one
            let current = least_used(now, &limited_until, upstream).unwrap_or(0);
            MultiAuthProcess { session: request.session, limited_until, current, retried: false }
        };
        let slot = &mut self.processes[request.agent];
        slot.take_if(|process| process.session != request.session);
        slot.get_or_insert_with(start)
    }
}

impl RoutingRules for MultiAuthRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> AgentStep {
        let process = self.process(now, request, upstream);
        process.retried = false;
        AgentStep::Send(process.current)
    }

    fn answered(&mut self, now: Ms, sent: Sent, upstream: &SimulatedUpstream) -> Option<AgentStep> {
        let Sent { request, account, answer } = sent;
        let UpstreamAnswer::Refused { wait, .. } = answer else { return None };
        let process = self.process(now, request, upstream);
        if process.retried {
            return Some(AgentStep::GiveUp(Some(wait)));
        }
        process.retried = true;
        process.limited_until[account] = now + wait;
        let step = match least_used(now, &process.limited_until, upstream) {
            Some(next) => {
                process.current = next;
                AgentStep::Send(next)
            }
            None => {
                let first = process.limited_until.iter().min().copied().unwrap_or(now);
                AgentStep::GiveUp(Some(first - now))
            }
        };
        self.file = process.limited_until.clone();
        Some(step)
    }
}
