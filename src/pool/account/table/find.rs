//! Which account a person or a program means.

use super::Accounts;
use crate::pool::model::{AccountId, Refusal, RefusalKind};

impl Accounts {
    /// Finds an account, of `provider` where one is given: by id, label, email, or a unique prefix of an id.
    pub fn find(&self, reference: &str, provider: Option<&str>) -> Result<usize, Refusal> {
        let of_provider = |slot: usize| provider.is_none_or(|provider| self.list[slot].record.provider == provider);
        let by_id = reference.parse::<AccountId>().ok().and_then(|id| self.slot(id));
        if let Some(slot) = by_id.filter(|slot| of_provider(*slot)) {
            return Ok(slot);
        }
        // for label, email and prefix: the first match, and the number of matches
        let mut found = [(None, 0_u32); 3];
        for (slot, account) in self.list.iter().enumerate().filter(|(slot, _)| of_provider(*slot)) {
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
            Some((slot, 1)) => Ok(slot),
            Some(_) => {
                let message = format!("{reference:?} matches several accounts");
                Err(Refusal::new(RefusalKind::UnknownAccount, message).hint("use the full id of the account"))
            }
            None => {
                let of = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
                Err(Refusal::new(RefusalKind::UnknownAccount, format!("there is no account {reference:?}{of}"))
                    .hint("run `lessor account list` to see all accounts"))
            }
        }
    }
}
