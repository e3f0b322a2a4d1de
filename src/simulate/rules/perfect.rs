//! Perfect knowledge: a request goes to an account that serves it, and waits only while there is none.

use crate::simulate::upstream::{Ms, SimulatedUpstream, UpstreamAnswer};
use crate::simulate::world::{AgentRequest, AgentStep, RoutingRules, Sent};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct PerfectRules {
    waiting: VecDeque<AgentRequest>,
    woken: Vec<(usize, AgentStep)>,
}

/// Of those with room the one whose quota is lost first.
fn best(now: Ms, upstream: &SimulatedUpstream, taken: &[u64]) -> Option<usize> {
    let has_room = |account: &usize| upstream.room(*account, now) > taken.get(*account).copied().unwrap_or(0);
    let end = |account: &usize| upstream.reading(*account, now).five_hours_end;
    (0..upstream.len()).filter(has_room).min_by_key(end)
}

impl RoutingRules for PerfectRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> AgentStep {
        match best(now, upstream, &[]) {
            Some(account) => AgentStep::Send(account),
            None => {
                self.waiting.push_back(request);
                AgentStep::Park
            }
        }
    }

    fn answered(&mut self, now: Ms, sent: Sent, upstream: &SimulatedUpstream) -> Option<AgentStep> {
        let Sent { request, answer, .. } = sent;
        // no request that is sent is ever refused; if one were, it would start again
        matches!(answer, UpstreamAnswer::Refused { .. }).then(|| self.begin(now, request, upstream))
    }

    fn next_wakeup(&self, now: Ms, upstream: &SimulatedUpstream) -> Option<Ms> {
        let windows = (0..upstream.len()).map(|account| upstream.next_window(account, now));
        windows.min().filter(|_| !self.waiting.is_empty())
    }

    fn wake(&mut self, now: Ms, upstream: &SimulatedUpstream) {
        let mut taken = vec![0; upstream.len()];
        while !self.waiting.is_empty()
            && let Some(account) = best(now, upstream, &taken)
            && let Some(request) = self.waiting.pop_front()
        {
            taken[account] += 1;
            self.woken.push((request.agent, AgentStep::Send(account)));
        }
    }

    fn woken(&mut self) -> Vec<(usize, AgentStep)> {
        std::mem::take(&mut self.woken)
    }
}
