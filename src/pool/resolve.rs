//! Accounts by name: id, label, email, or a unique prefix of an id.

use super::Pool;
use super::command::LeaseRequest;
use super::error::{Refusal, RefusalKind};
use super::id::AccountId;

impl Pool {
    pub(super) fn resolve_for(&self, reference: &str, ask: &LeaseRequest) -> Result<usize, Refusal> {
        self.resolve(reference, Some(&ask.target.provider))
    }

    /// Finds an account, of `provider` where one is given: by id, label, email, or a unique prefix of an id.
    pub(super) fn resolve(&self, reference: &str, provider: Option<&str>) -> Result<usize, Refusal> {
        let of_provider = |slot: usize| provider.is_none_or(|provider| self.accounts[slot].record.provider == provider);
        let by_id = reference.parse::<AccountId>().ok().and_then(|id| self.slots.get(&id).copied());
        if let Some(slot) = by_id.filter(|slot| of_provider(*slot)) {
            return Ok(slot);
        }
        // for label, email and prefix: the first match, and how many there are
        let mut found = [(None, 0_u32); 3];
        for (slot, account) in self.accounts.iter().enumerate().filter(|(slot, _)| of_provider(*slot)) {
            let record = &account.record;
            let matches = [
                record.label.as_deref() == Some(reference),
                record.email.as_deref() == Some(reference),
                !reference.is_empty() && record.id.starts_with(reference),
            ];
            for ((first, count), matches) in found.iter_mut().zip(matches) {
                *first = first.or(matches.then_some(slot));
                *count += u32::from(matches);
            }
        }
        match found.into_iter().find_map(|(slot, count)| Some((slot?, count))) {
            Some((slot, 1)) => return Ok(slot),
            Some(_) => {
                let message = format!("{reference:?} names several accounts");
                return Err(Refusal::new(RefusalKind::UnknownAccount, message).hint("use the account's whole id"));
            }
            None => {}
        }
        let of = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
        Err(Refusal::new(RefusalKind::UnknownAccount, format!("there is no account {reference:?}{of}"))
            .hint("`lessor account list` shows them all"))
    }
}
