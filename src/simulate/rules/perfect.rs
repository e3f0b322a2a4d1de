//! Perfect knowledge: a request goes to an account that serves it, and waits only while there is none.

use std::collections::VecDeque;

use crate::simulate::upstream::{Answer, Ms, Upstream};
use crate::simulate::world::{Asker, Rules, Step};

#[derive(Debug, Default)]
pub(in crate::simulate) struct Perfect {
    waiting: VecDeque<Asker>,
    woken: Vec<(usize, Step)>,
}

/// Of those with room the one whose quota is lost first.
fn best(now: Ms, upstream: &Upstream, taken: &[u64]) -> Option<usize> {
    let has_room = |account: &usize| upstream.room(*account, now) > taken.get(*account).copied().unwrap_or(0);
    let end = |account: &usize| upstream.reading(*account, now).five_hours_end;
    (0..upstream.len()).filter(has_room).min_by_key(end)
}

impl Rules for Perfect {
    fn begin(&mut self, now: Ms, asker: Asker, upstream: &Upstream) -> Step {
        match best(now, upstream, &[]) {
            Some(account) => Step::Send(account),
            None => {
                self.waiting.push_back(asker);
                Step::Park
            }
        }
    }

    fn answered(&mut self, now: Ms, asker: Asker, _: usize, answer: Answer, upstream: &Upstream) -> Option<Step> {
        // nothing is sent that is refused; were it, it would begin anew
        matches!(answer, Answer::Refused { .. }).then(|| self.begin(now, asker, upstream))
    }

    fn resume(&mut self, now: Ms, asker: Asker, upstream: &Upstream) -> Step {
        self.begin(now, asker, upstream)
    }

    fn next_wakeup(&self, now: Ms, upstream: &Upstream) -> Option<Ms> {
        let windows = (0..upstream.len()).map(|account| upstream.next_window(account, now));
        windows.min().filter(|_| !self.waiting.is_empty())
    }

    fn wake(&mut self, now: Ms, upstream: &Upstream) {
        let mut taken = vec![0; upstream.len()];
        while !self.waiting.is_empty()
            && let Some(account) = best(now, upstream, &taken)
            && let Some(asker) = self.waiting.pop_front()
        {
            taken[account] += 1;
            self.woken.push((asker.agent, Step::Send(account)));
        }
    }

    fn woken(&mut self) -> Vec<(usize, Step)> {
        std::mem::take(&mut self.woken)
    }
}
