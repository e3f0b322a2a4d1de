//! Accounts whose tokens are being refreshed.

use crate::limits::Reason;
use crate::pool::account::Renewing;
use crate::pool::command::{Effect, Effects, Event, Handled, Reply};
use crate::pool::model::{AccountId, Refusal, RefusalDetails};
use crate::pool::state::Pool;

impl Pool {
    /// Whether a refused credential can be refreshed, so that its owner need not log in again.
    pub(crate) fn is_refreshable(&self, slot: usize, details: &RefusalDetails) -> bool {
        details.reason == Reason::AuthFailed && (details.renewable || self.accounts[slot].renewing.is_some())
    }

    /// Asks for a new token, and grants nothing on the account meanwhile. The login state stays.
    pub(crate) fn request_refresh(&mut self, id: AccountId, effects: &mut Effects) -> Result<(), Refusal> {
        self.set_renewing(id, Some(Renewing { until: None }), effects)?;
        effects.push(Effect::RefreshToken(id));
        Ok(())
    }

    pub(crate) fn set_renewing(&mut self, id: AccountId, renewing: Option<Renewing>, effects: &mut Effects) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let before = self.accounts.set_renewing(slot, renewing);
        // another time of the next attempt is no event
        if before.is_some() != renewing.is_some() {
            effects.push(Effect::Emit(Event::AccountChanged(id)));
        }
        Ok(Reply::Done)
    }
}
