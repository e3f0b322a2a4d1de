//! Who an account belongs to at its provider, and whether a login belongs to a known account.

use serde::{Deserialize, Serialize};

/// The owner of an account, in the provider's own ids.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountOwner {
    /// The person.
    pub person: Option<String>,
    /// The organisation or workspace in which the person uses the provider. Each has a quota of its own.
    pub organization: Option<String>,
    /// The name of that organisation, for people.
    pub organization_name: Option<String>,
}

/// Who a login belongs to, as far as known: a person in an organisation, at a provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountIdentity<'a> {
    /// The provider.
    pub provider: &'a str,
    /// The provider's id of the person.
    pub person: Option<&'a str>,
    /// The provider's id of the organisation or workspace.
    pub organization: Option<&'a str>,
    /// The email address of the person.
    pub email: Option<&'a str>,
}

/// What two identities say about each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityMatch {
    /// They are of the same account.
    Agrees,
    /// They are of different accounts.
    Contradicts,
    /// They have no fact in common.
    Unknown,
}

/// A known account that a login may belong to.
#[derive(Clone, Copy, Debug)]
pub struct LoginCandidate<'a> {
    /// Who it belongs to; `None` for an account that is no login.
    pub identity: Option<AccountIdentity<'a>>,
    /// Whether the account has, or had, the token of the login.
    pub has_token: bool,
}

impl AccountOwner {
    /// Adds the facts of `other` that are missing here; returns whether there were any.
    pub fn learn(&mut self, other: &Self) -> bool {
        let before = self.clone();
        let missing = |known: &mut Option<String>, other: &Option<String>| {
            if known.is_none() {
                known.clone_from(other);
            }
        };
        missing(&mut self.person, &other.person);
        missing(&mut self.organization, &other.organization);
        missing(&mut self.organization_name, &other.organization_name);
        *self != before
    }

    /// The identity of a login of this owner.
    #[must_use]
    pub fn identity<'a>(&'a self, provider: &'a str, email: Option<&'a str>) -> AccountIdentity<'a> {
        let (person, organization) = (self.person.as_deref(), self.organization.as_deref());
        AccountIdentity { provider, person, organization, email }
    }
}

impl AccountIdentity<'_> {
    /// Whether both are of the same account. The organisation must be the same, where both know it; then the person
    /// decides, then the email address: a person can change the address, and members of an organisation share its id.
    #[must_use]
    pub fn compare(&self, other: &AccountIdentity<'_>) -> IdentityMatch {
        let [organization, person, email] = self.facts(other);
        let contradicts = self.provider != other.provider
            || organization == Some(false)
            || person == Some(false)
            || (person.is_none() && email == Some(false));
        if contradicts {
            IdentityMatch::Contradicts
        } else if [organization, person, email].contains(&Some(true)) {
            IdentityMatch::Agrees
        } else {
            IdentityMatch::Unknown
        }
    }

    /// Whether nothing but the provider is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.person.is_none() && self.organization.is_none() && self.email.is_none()
    }

    /// How many facts both have in common.
    fn agreement(&self, other: &AccountIdentity<'_>) -> usize {
        self.facts(other).iter().filter(|same| **same == Some(true)).count()
    }

    /// Organisation, person and email address: whether they are the same, where both are known.
    fn facts(&self, other: &AccountIdentity<'_>) -> [Option<bool>; 3] {
        let same = |one: Option<&str>, other: Option<&str>| Some(one?.eq_ignore_ascii_case(other?));
        [same(self.organization, other.organization), same(self.person, other.person), same(self.email, other.email)]
    }

    /// The candidate that a login of this identity belongs to, by its position: the one that agrees in most facts; of
    /// several such the one with the token; and without any, one that has the token and does not contradict.
    ///
    /// # Errors
    /// The positions of several candidates that the login could belong to.
    pub fn owner_among<'c>(
        &self,
        candidates: impl Iterator<Item = LoginCandidate<'c>>,
    ) -> Result<Option<usize>, Vec<usize>> {
        let (mut most, mut agreeing, mut by_token) = (0, Vec::new(), None);
        for (place, candidate) in candidates.enumerate() {
            let identity = candidate.identity;
            match identity.map_or(IdentityMatch::Unknown, |known| known.compare(self)) {
                IdentityMatch::Contradicts => {}
                IdentityMatch::Unknown if candidate.has_token => by_token = by_token.or(Some(place)),
                IdentityMatch::Unknown => {}
                IdentityMatch::Agrees => {
                    let facts = identity.map_or(0, |known| known.agreement(self));
                    if facts > most {
                        most = facts;
                        agreeing.clear();
                    }
                    if facts == most {
                        agreeing.push((place, candidate.has_token));
                    }
                }
            }
        }
        let places = |found: &[(usize, bool)]| found.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        match agreeing.as_slice() {
            [] => Ok(by_token),
            [(place, _)] => Ok(Some(*place)),
            several => {
                let holders: Vec<(usize, bool)> = several.iter().copied().filter(|(_, has_token)| *has_token).collect();
                if let [(place, _)] = holders[..] { Ok(Some(place)) } else { Err(places(several)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `person/organisation/email`; a dash stands for an unknown fact.
    fn identity(text: &str) -> AccountIdentity<'_> {
        let mut facts = text.split('/').map(|fact| Some(fact).filter(|fact| *fact != "-"));
        let mut next = || facts.next().flatten();
        AccountIdentity { provider: "p", person: next(), organization: next(), email: next() }
    }

    #[test]
    fn the_organisation_then_the_person_then_the_address_decides() {
        use IdentityMatch::{Agrees, Contradicts, Unknown};
        for (one, other, expected, why) in [
            ("P/-/a@b.c", "P/-/a@b.c", Agrees, "the same person"),
            ("P/X/a@b.c", "p/x/A@B.C", Agrees, "letters of either case"),
            ("P/X/a@b.c", "P/Y/a@b.c", Contradicts, "one person in two organisations"),
            ("P/X/a@b.c", "Q/X/d@b.c", Contradicts, "two members of an organisation"),
            ("P/X/-", "Q/X/-", Contradicts, "two members without addresses"),
            ("-/X/a@b.c", "-/X/d@b.c", Contradicts, "two members that only their addresses tell apart"),
            ("-/X/a@b.c", "P/X/a@b.c", Agrees, "a person that was not known before"),
            ("P/-/a@b.c", "P/X/a@b.c", Agrees, "an organisation that was not known before"),
            ("P/X/a@b.c", "P/X/new@b.c", Agrees, "a person with another address"),
            ("P/-/-", "Q/-/-", Contradicts, "two persons"),
            ("-/-/a@b.c", "-/-/d@b.c", Contradicts, "two addresses"),
            ("-/-/a@b.c", "P/X/d@b.c", Contradicts, "another address, and nothing else to compare"),
            ("-/X/-", "-/X/-", Agrees, "a workspace of which nothing else is known"),
            ("-/X/a@b.c", "-/Y/a@b.c", Contradicts, "one address in two workspaces"),
            ("P/-/-", "-/X/a@b.c", Unknown, "nothing in common"),
            ("-/-/-", "P/X/a@b.c", Unknown, "nothing known"),
        ] {
            assert_eq!(identity(one).compare(&identity(other)), expected, "{why}");
            assert_eq!(identity(other).compare(&identity(one)), expected, "{why}, seen from the other side");
        }
        let other = AccountIdentity { provider: "q", ..identity("P/X/a@b.c") };
        assert_eq!(identity("P/X/a@b.c").compare(&other), Contradicts, "another provider");
    }

    /// The account that a login belongs to; `*` marks candidates with its token.
    fn owner(login: &str, candidates: &[&str]) -> Result<Option<usize>, Vec<usize>> {
        let candidates = candidates.iter().map(|text| LoginCandidate {
            identity: Some(identity(text.trim_start_matches('*'))).filter(|_| !text.ends_with("key")),
            has_token: text.starts_with('*'),
        });
        identity(login).owner_among(candidates)
    }

    #[test]
    fn a_login_belongs_to_the_account_that_agrees_most() {
        assert_eq!(owner("P/X/a@b.c", &["P/-/a@b.c", "P/X/a@b.c"]), Ok(Some(1)));
        assert_eq!(owner("P/Z/a@b.c", &["P/X/a@b.c", "P/Y/a@b.c"]), Ok(None), "a third organisation");
        assert_eq!(owner("P/-/a@b.c", &["P/X/a@b.c", "P/Y/a@b.c"]), Err(vec![0, 1]), "which of both?");
        assert_eq!(owner("P/-/a@b.c", &["P/X/a@b.c", "*P/Y/a@b.c"]), Ok(Some(1)), "the token tells which");
        assert_eq!(owner("-/-/-", &["P/X/a@b.c", "*Q/X/-"]), Ok(Some(1)), "only the token is known");
        assert_eq!(owner("-/-/-", &["P/X/a@b.c", "key"]), Ok(None));
        assert_eq!(owner("P/-/-", &["*key"]), Ok(Some(0)));
        assert_eq!(owner("Q/-/d@b.c", &["*P/-/a@b.c"]), Ok(None), "the token never outweighs the identity");
        assert_eq!(owner("P/-/-", &["*-/-/-", "P/-/-"]), Ok(Some(1)), "the identity is asked first");
    }

    fn any_identity() -> impl Strategy<Value = AccountOwner> {
        let fact = || proptest::option::of(0..3_u8).prop_map(|fact| fact.map(|fact| fact.to_string()));
        let owner = |(person, organization)| AccountOwner { person, organization, organization_name: None };
        (fact(), fact()).prop_map(owner)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_an_account_learns_never_contradicts_what_it_learnt_from(known in any_identity(), seen in any_identity()) {
            let agrees = known.identity("p", None).compare(&seen.identity("p", None));
            prop_assume!(agrees != IdentityMatch::Contradicts);
            let mut learnt = known.clone();
            let changed = learnt.learn(&seen);
            prop_assert_eq!(changed, learnt != known);
            for one in [&known, &seen] {
                let compared = learnt.identity("p", None).compare(&one.identity("p", None));
                prop_assert_ne!(compared, IdentityMatch::Contradicts);
            }
            prop_assert!(!learnt.learn(&seen), "there is nothing more to learn");
        }
    }
}
