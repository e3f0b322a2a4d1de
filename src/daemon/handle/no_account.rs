//! Why no account can serve a request, as the gateway tells its clients.

use crate::daemon::state::State;
use crate::limits::Reason;
use crate::pool::{AccountId, Ineligible, LeaseRequest, Refusal, Wall};

/// Why no account can serve a request.
#[derive(Clone, PartialEq, Debug)]
pub struct NoAccount {
    /// The pool's refusal.
    pub refusal: Refusal,
    /// The accounts that would serve it at another time.
    pub accounts: Vec<UnavailableAccount>,
    /// Why fewer accounts can serve it than there are.
    pub restricted: Option<String>,
}

/// An account that cannot serve a request now.
#[derive(Clone, PartialEq, Debug)]
pub struct UnavailableAccount {
    /// Its label, or else its id.
    pub name: String,
    /// Why.
    pub why: Ineligible,
    /// The reason of its limit.
    pub reason: Option<Reason>,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

impl UnavailableAccount {
    /// Whether its provider has refused the credential, the model or the project, and not for a used up quota.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let by_provider = |reason| {
            !matches!(
                reason,
                Reason::QuotaExhausted
                    | Reason::RateLimitExceeded
                    | Reason::ModelCapacityExhausted
                    | Reason::ServerError
                    | Reason::Unknown
                    | Reason::OutOfCredit
            )
        };
        match self.why {
            Ineligible::Limited => self.reason.is_some_and(by_provider),
            Ineligible::Busy
            | Ineligible::Renewing
            | Ineligible::Reserved
            | Ineligible::Disabled
            | Ineligible::NotAllowed
            | Ineligible::Excluded => false,
            _ => true,
        }
    }
}

impl NoAccount {
    /// Whether the provider has refused every account that could serve the request.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        !self.accounts.is_empty() && self.accounts.iter().all(UnavailableAccount::is_denied)
    }

    /// Whether all of them only wait for their user.
    #[must_use]
    pub fn needs_user(&self) -> bool {
        let needs = |why| matches!(why, Ineligible::NeedsLogin | Ineligible::NeedsVerification);
        self.accounts.iter().all(|account| needs(account.why))
    }
}

impl State {
    /// Adds to a refusal of the pool what its client should know.
    pub(super) fn no_account(&self, request: &LeaseRequest, refusal: Refusal) -> NoAccount {
        let could_serve = |why| !matches!(why, Ineligible::Disabled | Ineligible::NotAllowed | Ineligible::Excluded);
        let accounts = refusal.accounts.iter().filter(|account| could_serve(account.why)).filter_map(|found| {
            let record = &self.pool.account(found.account)?.record;
            Some(UnavailableAccount {
                name: record.label.clone().unwrap_or_else(|| record.id.to_string()),
                why: found.why,
                reason: self.limited_by(found.account, request),
                until: found.until,
            })
        });
        NoAccount { accounts: accounts.collect(), refusal, restricted: None }
    }

    /// The reason of the limit that holds longest.
    fn limited_by(&self, id: AccountId, request: &LeaseRequest) -> Option<Reason> {
        let now = crate::daemon::os::clock::now();
        let limits = self.pool.account(id)?.limits().iter();
        let blocking = limits.filter(|limit| limit.blocks(request.target.quota()));
        blocking.max_by_key(|limit| limit.until.mono(now)).map(|limit| limit.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::RefusalKind;

    fn no_account(accounts: &[(Ineligible, Option<Reason>)]) -> NoAccount {
        let message = String::new();
        let refusal =
            Refusal { kind: RefusalKind::AllLimited, message, retry_at: None, accounts: Vec::new(), hint: None };
        let account = |&(why, reason): &_| UnavailableAccount { name: "a".into(), why, reason, until: None };
        NoAccount { refusal, accounts: accounts.iter().map(account).collect(), restricted: None }
    }

    #[test]
    fn a_provider_has_refused_all_only_if_no_account_waits_for_its_quota() {
        use Ineligible::{Busy, Limited, NeedsLogin};
        let quota = (Limited, Some(Reason::QuotaExhausted));
        for (accounts, expected) in [
            (&[(Limited, Some(Reason::AuthFailed)), (Limited, Some(Reason::Forbidden))][..], true),
            (&[(NeedsLogin, None), (Limited, Some(Reason::Forbidden))], true),
            (&[(Limited, Some(Reason::AuthFailed)), quota], false),
            (&[(Limited, Some(Reason::AuthFailed)), (Busy, None)], false),
            (&[quota], false),
            (&[(Limited, Some(Reason::OutOfCredit))], false),
            (&[], false),
        ] {
            assert_eq!(no_account(accounts).is_denied(), expected, "{accounts:?}");
        }
        assert!(no_account(&[(NeedsLogin, None)]).needs_user());
    }
}
