//! The accounts that a request is restricted to, and those that it names.

use crate::pool::account::Account;
use crate::pool::account::table::ProviderAccounts;
use crate::pool::model::{
    AccountId, AccountSet, Ineligible, IneligibleAccount, LeaseRequest, Now, QuotaChoices, Refusal, RefusalKind,
};
use crate::pool::select::eligibility::{MOST_LISTED, closed_on};
use crate::pool::state::Pool;

/// Most accounts of a set that a message names.
const MOST_NAMED: usize = 6;

/// The set of a request, looked up once for a scan of the accounts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetMembership<'a> {
    only: Option<&'a [AccountId]>,
    /// The set of the holder's directory, by its index in the settings.
    directory: Option<usize>,
}

impl SetMembership<'_> {
    #[inline]
    pub(crate) fn is_restricted(self) -> bool {
        self.only.is_some() || self.directory.is_some()
    }

    /// Whether the account is in the set.
    #[inline]
    pub(crate) fn has(self, account: &Account) -> bool {
        self.only.is_none_or(|only| only.binary_search(&account.record.id).is_ok())
            && self.directory.is_none_or(|at| account.policy.directories.contains(&at))
    }
}

impl Pool {
    /// The set of accounts that a request is restricted to.
    #[inline]
    pub(crate) fn membership<'a>(&self, set: &'a AccountSet) -> SetMembership<'a> {
        let directory = if self.settings.directories.is_empty() { None } else { set.directory.as_deref() };
        let directory = directory.and_then(|directory| self.settings.set_of_directory(directory));
        SetMembership { only: set.only.as_deref(), directory }
    }

    /// The slots of the accounts that a request lists, in the provider's order; other providers' accounts are left out.
    pub(crate) fn slots_of(&self, only: &[AccountId], provider: &ProviderAccounts) -> Vec<usize> {
        let slots = only.iter().filter_map(|id| self.accounts.slot(*id));
        let mut slots: Vec<usize> = slots.filter(|slot| provider.slots().binary_search(slot).is_ok()).collect();
        slots.sort_unstable();
        slots
    }

    /// Whether both restrict a request to the same accounts, as the settings are.
    pub(crate) fn is_same_set(&self, one: &AccountSet, other: &AccountSet) -> bool {
        one.only == other.only && self.membership(one).directory == self.membership(other).directory
    }

    /// Whether a request may use all of the account's quota: it asks for the account, or for a set that has it.
    pub(crate) fn is_named(&self, slot: usize, ask: &LeaseRequest) -> bool {
        let set = self.membership(&ask.set);
        let asks_for = |name: &str| self.accounts.find(name, Some(&ask.target.provider)) == Ok(slot);
        set.is_restricted() && set.has(&self.accounts[slot]) || ask.account.as_deref().is_some_and(asks_for)
    }

    /// The quotas of an account, with the part that it keeps for requests that name it.
    #[inline]
    pub(crate) fn quotas_of<'q>(&self, slot: usize, ask: &LeaseRequest, quotas: QuotaChoices<'q>) -> QuotaChoices<'q> {
        let reserve = self.accounts[slot].policy.reserve;
        if reserve <= 0.0 || self.is_named(slot, ask) { quotas } else { quotas.reserving(reserve) }
    }

    /// Whether only the part that the account keeps for requests that name it stands in the way of this one.
    pub(crate) fn keeps_reserve(&self, slot: usize, ask: &LeaseRequest, now: Now) -> bool {
        let account = &self.accounts[slot];
        account.policy.reserve > 0.0
            && matches!(self.ineligible(slot, ask, now), Some((Ineligible::Reserved, _)))
            && closed_on(account, ask.target.quotas(&self.settings.quota), now).is_none()
    }

    /// Whether the whole account is kept for requests that name it, and this one does not.
    pub(crate) fn is_kept_back(&self, slot: usize, ask: &LeaseRequest) -> bool {
        self.accounts[slot].policy.reserve >= 1.0 && !self.is_named(slot, ask)
    }

    /// What a request is restricted to, in words; `None` if to nothing.
    pub fn set_in_words(&self, set: &AccountSet) -> Option<String> {
        let SetMembership { only, directory } = self.membership(set);
        let listed = |only: &[AccountId]| {
            let accounts = only.iter().map(|id| self.account(*id).map_or_else(|| id.to_string(), short_name));
            format!("{} (only)", in_short(accounts.collect()))
        };
        let of_directory = |at: usize| {
            let accounts = self.accounts.iter().filter(|account| account.policy.directories.contains(&at));
            let accounts: Vec<String> = accounts.map(short_name).collect();
            let names = if accounts.is_empty() { "no account".to_owned() } else { in_short(accounts) };
            format!("{names} ([directories.{:?}])", self.settings.directories[at].name)
        };
        let (only, directory) = (only.map(listed), directory.map(of_directory));
        match (only, directory) {
            (Some(only), Some(directory)) => Some(format!("{only} and {directory}")),
            (only, directory) => only.or(directory),
        }
    }

    /// Why a request gets no account because of its set alone: no account of its provider is in it, or not the one that
    /// it asks for.
    pub(crate) fn refused_by_set(&self, ask: &LeaseRequest, slots: &[usize]) -> Option<Refusal> {
        let set = self.membership(&ask.set);
        if !set.is_restricted() || slots.iter().any(|&slot| set.has(&self.accounts[slot])) {
            return None;
        }
        let provider = &*ask.target.provider;
        let words = self.set_in_words(&ask.set).unwrap_or_default();
        let message = match (&ask.account, set.only, set.directory) {
            (Some(_), ..) => {
                let name = slots.first().map(|&slot| short_name(&self.accounts[slot])).unwrap_or_default();
                format!("the account {name} is not in the set of this request: {words}")
            }
            (None, Some(_), Some(_)) => {
                format!("no {provider} account is in both sets of this request: {words}")
            }
            (None, ..) => format!("no {provider} account is in the set of this request: {words}"),
        };
        let hint = match set.directory {
            Some(_) => "start it in another directory, or change the set: lessor config edit",
            None => "run `lessor account list` to see all accounts",
        };
        // a guest learns nothing of the accounts that are not for it
        if ask.guest().is_some() {
            let message = format!("no {provider} account that it asks for is in the set of this request: {words}");
            return Some(Refusal::new(RefusalKind::NotAllowed, message).hint("see: lessor account list"));
        }
        let accounts = slots.iter().take(MOST_LISTED);
        let accounts = accounts.map(|&slot| self.out_of_set(slot)).collect();
        Some(Refusal { accounts, ..Refusal::new(RefusalKind::NotAllowed, message).hint(hint) })
    }

    fn out_of_set(&self, slot: usize) -> IneligibleAccount {
        let account = self.accounts[slot].record.id;
        IneligibleAccount { account, why: Ineligible::NotInSet, until: None }
    }
}

/// The label of an account, else its id: messages about sets also reach agents, which see no address.
fn short_name(account: &Account) -> String {
    account.record.label.clone().unwrap_or_else(|| account.record.id.to_string())
}

/// The first names, and the number of the others.
fn in_short(mut names: Vec<String>) -> String {
    names.sort_unstable();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}
