//! Accounts whose tokens are being renewed: because they end, or were refused; and the holders that got one too early.

use std::time::Duration;

use crate::limits::Reason;

use super::Pool;
use super::account::Renewing;
use super::command::{Effect, Event, LeaseRequest, RefusalDetails, Reply};
use super::error::Refusal;
use super::id::{AccountId, Fence};
use super::lease::Ending;
use super::report::reacquire;
use super::time::Now;

/// When a holder without another account looks again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Pool {
    /// Whether the refused credential is exchanged, instead of the account's owner being asked.
    pub(super) fn is_renewed(&self, slot: usize, finding: &RefusalDetails) -> bool {
        finding.reason == Reason::AuthFailed && (finding.renewable || self.accounts[slot].renewing.is_some())
    }

    /// Lets the account rest, and has its credential exchanged; nothing is known against the login.
    pub(super) fn ask_for_renewal(&mut self, id: AccountId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        self.set_renewing(id, Some(Renewing { until: None }), effects)?;
        effects.push(Effect::RefreshToken(id));
        Ok(())
    }

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
        let ask = reacquire(&lease, account);
        let ask = LeaseRequest { wait, request_id: lease.request_id, ..ask };
        self.end_lease(now, fence, Ending::Switched, effects);
        self.acquire(now, ask, effects)
    }
}
