//! What accounts are called.

use super::State;
use crate::pool::{AccountId, AccountRecord, Refusal};

impl State {
    /// The email address of an account by its id.
    pub(crate) fn email_name(&self, id: AccountId) -> Option<String> {
        self.shown_email(&self.pool.account(id)?.record)
    }

    /// The email address of an account, followed by its organisation if an earlier account of its provider has the same
    /// address: what is shown of accounts is distinct.
    pub(crate) fn shown_email(&self, record: &AccountRecord) -> Option<String> {
        let email = record.email.as_ref()?;
        let accounts = self.pool.accounts().iter().map(|account| &account.record);
        let earlier: Vec<&AccountRecord> = accounts
            .take_while(|other| other.id != record.id)
            .filter(|other| {
                let address = other.email.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(email));
                address && other.provider == record.provider
            })
            .collect();
        if earlier.is_empty() {
            return Some(email.clone());
        }
        let short = organization_in_short(record).filter(|short| {
            let is_same = |other: &&AccountRecord| organization_in_short(other).as_ref() == Some(short);
            !earlier.iter().any(is_same)
        });
        Some(format!("{email} ({})", short.unwrap_or_else(|| record.id.to_string())))
    }

    /// The accounts that a name stands for: one, or with an email address the one of each provider that is shown by it.
    pub(crate) fn accounts_named(&self, name: &str) -> Result<Vec<AccountId>, Refusal> {
        let found = self.pool.find_account(name);
        let record = found.as_ref().ok().map(|account| &account.record);
        let is_own = |record: &&AccountRecord| record.label.as_deref() == Some(name) || name.parse() == Ok(record.id);
        if let Some(record) = record.filter(is_own) {
            return Ok(vec![record.id]);
        }
        let records = || self.pool.accounts().iter().map(|account| &account.record);
        // only then is it worth comparing the account with all others
        let may_be = |record: &&AccountRecord| record.email.as_ref().is_some_and(|email| name.starts_with(email));
        let ids = records().filter(may_be).map(|record| record.id);
        let shown_by_it: Vec<AccountId> = ids.filter(|id| self.email_name(*id).as_deref() == Some(name)).collect();
        if shown_by_it.is_empty() { found.map(|account| vec![account.record.id]) } else { Ok(shown_by_it) }
    }
}

/// The name of an account's organisation, else the beginning of its id.
fn organization_in_short(record: &AccountRecord) -> Option<String> {
    const SHORT: usize = 8;
    // the personal organisation is named after its only member
    let of_member = |name: &&String| record.email.as_ref().is_some_and(|email| name.contains(email.as_str()));
    let owner = &record.owner;
    let name = owner.organization_name.as_ref().filter(|name| !of_member(name)).cloned();
    name.or_else(|| Some(owner.organization.as_ref()?.chars().take(SHORT).collect()))
}
