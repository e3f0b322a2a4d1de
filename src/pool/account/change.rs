//! Commands that add, change and remove accounts, and that update settings and usage.

use crate::limits::Reason;
use crate::pool::account::Renewing;
use crate::pool::account::failures::Denials;
use crate::pool::account::record::{AccountChange, AccountRecord};
use crate::pool::account::usage::Usage;
use crate::pool::command::{Effect, Effects, Event, Handled, Reply};
use crate::pool::lease::Ending;
use crate::pool::model::{AccountId, Now, PoolSettings, Refusal, RefusalDetails, RefusalKind};
use crate::pool::state::Pool;

impl Pool {
    pub(crate) fn add_account(&mut self, now: Now, record: AccountRecord, effects: &mut Effects) -> Handled {
        let id = record.id;
        if self.accounts.slot(id).is_some() {
            return Err(Refusal::new(RefusalKind::BadRequest, format!("account {id} already exists")));
        }
        self.check_label(record.label.as_deref(), id)?;
        let slot = self.accounts.add(record, &self.settings, now);
        self.accounts.forbid_resuming(slot);
        effects.push(Effect::SaveAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(crate) fn remove_account(&mut self, now: Now, id: AccountId, effects: &mut Effects) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let mut held: Vec<_> =
            self.leases.iter().filter(|lease| lease.account == id).map(|lease| lease.fence).collect();
        held.sort_unstable();
        for fence in held {
            self.end_lease(now, fence, Ending::Revoked, effects);
        }
        self.accounts.remove(slot, &mut self.timers);
        self.sessions.forget_account(id);
        effects.push(Effect::DeleteAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(crate) fn change_account(
        &mut self,
        now: Now,
        id: AccountId,
        change: AccountChange,
        effects: &mut Effects,
    ) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        self.check_label(change.label.as_deref().filter(|label| !label.is_empty()), id)?;
        self.accounts.change_record(slot, change, &self.settings, now, &mut self.timers);
        effects.push(Effect::SaveAccount(id));
        effects.push(Effect::Emit(Event::AccountChanged(id)));
        Ok(Reply::Done)
    }

    pub(crate) fn set_usage(&mut self, now: Now, id: AccountId, usage: Usage, effects: &mut Effects) -> Handled {
        self.change_usage(now, id, effects, |known| {
            *known = usage;
            true
        })
    }

    pub(crate) fn learn_usage(&mut self, now: Now, id: AccountId, read: Usage, effects: &mut Effects) -> Handled {
        self.change_usage(now, id, effects, |known| known.learn(read))
    }

    /// Changes the usage; `change` returns whether the change is notable.
    fn change_usage(
        &mut self,
        now: Now,
        id: AccountId,
        effects: &mut Effects,
        change: impl FnOnce(&mut Usage) -> bool,
    ) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let is_notable = self.accounts.change_usage(slot, now, &mut self.timers, change);
        self.end_disproved(now, slot, effects);
        if is_notable {
            effects.push(Effect::SaveUsage(id));
            effects.push(Effect::Emit(Event::UsageUpdated(id)));
        }
        Ok(Reply::Done)
    }

    /// Uses `settings` from now on. Leases, limits and sessions stay (I7).
    pub(crate) fn configure(&mut self, now: Now, settings: PoolSettings) -> Handled {
        self.settings = settings;
        self.accounts.configure(&self.settings, now, &mut self.timers);
        Ok(Reply::Done)
    }

    fn check_label(&self, label: Option<&str>, id: AccountId) -> Result<(), Refusal> {
        let Some(label) = label else { return Ok(()) };
        let mut records = self.accounts.iter().map(|account| &account.record);
        match records.find(|record| record.label.as_deref() == Some(label) && record.id != id) {
            Some(other) => Err(Refusal::new(
                RefusalKind::BadRequest,
                format!("the label {label:?} is already used by account {}", other.id),
            )
            .hint("labels must be unique: choose another one, or remove that account first")),
            None => Ok(()),
        }
    }
}

impl Pool {
    /// Whether a refused credential can be refreshed, so that its owner need not log in again.
    pub(crate) fn is_refreshable(&self, slot: usize, details: &RefusalDetails) -> bool {
        details.reason == Reason::AuthFailed && (details.renewable || self.accounts[slot].renewing.is_some())
    }

    /// Whether a refusal of the account's login is to be answered by a refresh: once, until a request has succeeded.
    pub fn may_renew(&self, id: AccountId, now: Now) -> bool {
        let row = self.account(id).and_then(|account| account.failures.denied);
        row.is_none_or(|row| row.has_ended(now) || !row.is_renewed)
    }

    pub(crate) fn note_renewal(&mut self, now: Now, id: AccountId) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        Denials::of(&mut self.accounts.failures_mut(slot).denied, now).is_renewed = true;
        Ok(Reply::Done)
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
