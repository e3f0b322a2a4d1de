//! Accounts whose tokens are being renewed, and the holders that got one too early.

use std::time::Duration;

use super::Pool;
use super::account::Renewing;
use super::command::{Ask, Effect, Event, Reply};
use super::error::Refusal;
use super::id::{AccountId, Fence};
use super::lease::Ending;
use super::report::ask_again;
use super::time::Now;

impl Pool {
    pub(super) fn set_renewing(
        &mut self,
        id: AccountId,
        renewing: Option<Renewing>,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let before = std::mem::replace(&mut self.accounts[slot].renewing, renewing);
        if before != renewing {
            self.refresh(slot);
            self.stirred.all = true;
        }
        // that the next try is at another time concerns nobody
        if before.is_some() != renewing.is_some() {
            effects.push(Effect::Emit(Event::AccountChanged(id)));
        }
        Ok(Reply::Done)
    }

    /// Asks again for the holder of a lease, as if it had never got it.
    pub(super) fn move_lease(
        &mut self,
        now: Now,
        fence: Fence,
        wait: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let lease = self.leases.get(&fence).ok_or_else(Refusal::stale)?.clone();
        let account = lease.pinned.then(|| lease.account.to_string().into());
        let ask = Ask { wait, ..ask_again(&lease, account) };
        let ask = Ask { request_id: lease.request_id, ..ask };
        self.end_lease(now, fence, Ending::Switched, effects);
        self.acquire(now, ask, effects)
    }
}
