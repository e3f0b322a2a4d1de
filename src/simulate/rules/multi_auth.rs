//! opencode-anthropic-multi-auth: every agent is a process that chooses an account when it starts, once a task, and
//! again after a 429; limits go into a file that the next process reads.
//!
//! Kinder than the original: tokens never expire, so that the usage of every account is known.

use crate::simulate::Load;
use crate::simulate::upstream::{Answer, Ms, Upstream};
use crate::simulate::world::{Asker, Rules, Step};

#[derive(Clone, Debug)]
struct Process {
    session: u64,
    limited_until: Vec<Ms>,
    current: usize,
    /// Whether the request was refused once already.
    retried: bool,
}

#[derive(Debug)]
pub(in crate::simulate) struct MultiAuth {
    processes: Vec<Option<Process>>,
    /// The file: each process writes it whole, from its own memory.
    file: Vec<Ms>,
}

/// The account with the least of the week used, of those it does not take for limited.
fn least_used(now: Ms, limited_until: &[Ms], upstream: &Upstream) -> Option<usize> {
    let week = |account: usize| upstream.reading(account, now).week;
    let open = (0..limited_until.len()).filter(|account| limited_until[*account] <= now);
    open.min_by(|a, b| week(*a).total_cmp(&week(*b)))
}

impl MultiAuth {
    pub(in crate::simulate) fn new(load: &Load) -> Self {
        Self { processes: vec![None; load.agents], file: vec![0; load.accounts] }
    }

    fn process(&mut self, now: Ms, asker: Asker, upstream: &Upstream) -> &mut Process {
        let file = &self.file;
        let start = || {
            let limited_until = file.clone();
            // where all are limited it is the first one
            let current = least_used(now, &limited_until, upstream).unwrap_or(0);
            Process { session: asker.session, limited_until, current, retried: false }
        };
        let slot = &mut self.processes[asker.agent];
        if slot.as_ref().is_none_or(|process| process.session != asker.session) {
            *slot = None;
        }
        slot.get_or_insert_with(start)
    }
}

impl Rules for MultiAuth {
    fn begin(&mut self, now: Ms, asker: Asker, upstream: &Upstream) -> Step {
        let process = self.process(now, asker, upstream);
        process.retried = false;
        Step::Send(process.current)
    }

    fn answered(&mut self, now: Ms, asker: Asker, account: usize, answer: Answer, upstream: &Upstream) -> Option<Step> {
        let Answer::Refused { wait, .. } = answer else { return None };
        let process = self.process(now, asker, upstream);
        if process.retried {
            return Some(Step::GiveUp(Some(wait)));
        }
        process.retried = true;
        process.limited_until[account] = now + wait;
        let step = match least_used(now, &process.limited_until, upstream) {
            Some(next) => {
                process.current = next;
                Step::Send(next)
            }
            None => {
                let first = process.limited_until.iter().min().copied().unwrap_or(now);
                Step::GiveUp(Some(first - now))
            }
        };
        self.file = process.limited_until.clone();
        Some(step)
    }

    fn resume(&mut self, now: Ms, asker: Asker, upstream: &Upstream) -> Step {
        self.begin(now, asker, upstream)
    }
}
