//! Why no account can serve a request, as the gateway tells its clients.

use crate::daemon::state::State;
use crate::limits::Reason;
use crate::pool::{AccountId, AccountRecord, Ineligible, LeaseRequest, Refusal, RefusalKind, Wall};

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
    /// Its label, else a part of its email address, else its id.
    pub name: String,
    /// Why.
    pub why: Ineligible,
    /// The reason of its limit.
    pub reason: Option<Reason>,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

/// The program of a client without a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundProgram<'a> {
    /// The agent that it is recognised as.
    pub(super) agent: Option<&'a str>,
    /// Its path, or why it is not known.
    pub(super) words: &'a str,
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
            | Ineligible::NoSeat
            | Ineligible::Renewing
            | Ineligible::Reserved
            | Ineligible::NotInSet
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
    pub(super) fn no_account(
        &self,
        program: Option<FoundProgram<'_>>,
        request: &LeaseRequest,
        refusal: Refusal,
    ) -> NoAccount {
        let refusal = self.for_program(program, refusal);
        let could_serve = |why| {
            !matches!(why, Ineligible::NotInSet | Ineligible::Disabled | Ineligible::NotAllowed | Ineligible::Excluded)
        };
        let accounts = refusal.accounts.iter().filter(|account| could_serve(account.why)).filter_map(|found| {
            let record = &self.pool.account(found.account)?.record;
            Some(UnavailableAccount {
                name: self.short_name(record),
                why: found.why,
                reason: self.limited_by(found.account, request),
                until: found.until,
            })
        });
        let restricted = self.pool.set_in_words(&request.set).map(|words| format!("the set: {words}"));
        NoAccount { accounts: accounts.collect(), refusal, restricted }
    }

    /// Says which program a client without a key is: its agent decides which accounts it may use.
    fn for_program(&self, program: Option<FoundProgram<'_>>, mut refusal: Refusal) -> Refusal {
        let Some(FoundProgram { agent, words }) = program.filter(|_| refusal.kind == RefusalKind::NotAllowed) else {
            return refusal;
        };
        let found = match agent {
            Some(agent) => format!("the program at the socket is {agent}: {words}"),
            None => format!("the program at the socket is not recognised as an agent: {words}"),
        };
        refusal.message = format!("{}; {found}", refusal.message);
        let mut forbidden = refusal.accounts.iter().filter(|account| account.why == Ineligible::NotAllowed);
        if let Some(first) = forbidden.next() {
            let name = self.account_name(first.account);
            refusal.hint = Some(format!(
                "create a key for an agent: `lessor gateway key --agent NAME`; or allow every agent: \
                 `lessor account set {name} use=any`"
            ));
        }
        refusal
    }

    /// What a client of the gateway reads as the name of an account.
    pub(super) fn short_name(&self, record: &AccountRecord) -> String {
        let others = self.pool.accounts().iter().map(|account| &account.record);
        let short = distinct_part(record, others).map(str::to_owned);
        short.unwrap_or_else(|| self.account_name(record.id))
    }

    /// The reason of the limit that holds longest.
    fn limited_by(&self, id: AccountId, request: &LeaseRequest) -> Option<Reason> {
        let now = crate::daemon::os::clock::now();
        let limits = self.pool.account(id)?.limits().iter();
        let blocking = limits.filter(|limit| limit.blocks(request.target.quota()));
        blocking.max_by_key(|limit| limit.until.mono(now)).map(|limit| limit.reason)
    }
}

/// The part of an account's email address before the `@`, where it has no label and no other account has such a name: it
/// is enough to recognise the account by, and less than the address.
fn distinct_part<'a>(record: &'a AccountRecord, all: impl Iterator<Item = &'a AccountRecord>) -> Option<&'a str> {
    let part = |email: &'a str| email.split('@').next().filter(|part| !part.is_empty());
    let short = part(record.email.as_deref().filter(|_| record.label.is_none())?)?;
    let name = |other: &'a AccountRecord| other.label.as_deref().or_else(|| part(other.email.as_deref()?));
    let mut others = all.filter(|other| other.id != record.id).filter_map(name);
    (!others.any(|other| other.eq_ignore_ascii_case(short))).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{CredentialKind, RefusalKind};

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

    #[test]
    fn an_account_without_a_label_is_named_by_a_part_of_its_address() {
        let account = |id, label: Option<&str>, email: Option<&str>| AccountRecord {
            label: label.map(str::to_owned),
            email: email.map(str::to_owned),
            ..AccountRecord::new(AccountId::from_bits(id), "anthropic", CredentialKind::Oauth, Wall(0))
        };
        let all = [
            account(1, None, Some("ada@example.org")),
            account(2, None, Some("Grace@example.org")),
            account(3, None, Some("grace@other.org")),
            account(4, Some("work"), Some("linus@example.org")),
            account(5, None, Some("work@example.org")),
            account(6, None, None),
        ];
        let short: Vec<Option<&str>> = all.iter().map(|record| distinct_part(record, all.iter())).collect();
        assert_eq!(short, [Some("ada"), None, None, None, None, None]);
    }
}
