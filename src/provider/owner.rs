//! The id of an account that requests and answers name: it stands for a workspace or for a person.

use crate::pool::AccountOwner;

/// Whether an account id of this provider is the id of a workspace, which its members share.
fn names_a_workspace(provider: &str) -> bool {
    provider == "openai"
}

/// The provider's id of an account.
#[must_use]
pub fn vendor_account_id<'a>(provider: &str, owner: &'a AccountOwner) -> Option<&'a str> {
    if names_a_workspace(provider) { owner.organization.as_deref() } else { owner.person.as_deref() }
}

/// Adds what the provider's id of an account says about its owner, where that is not known.
pub fn learn_account_id(provider: &str, owner: &mut AccountOwner, account_id: Option<String>) {
    let known = if names_a_workspace(provider) { &mut owner.organization } else { &mut owner.person };
    *known = known.take().or(account_id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_is_of_a_workspace_or_of_a_person() {
        for (provider, person, organization) in [("openai", None, Some("v")), ("anthropic", Some("v"), None)] {
            let mut owner = AccountOwner::default();
            learn_account_id(provider, &mut owner, Some("v".to_owned()));
            learn_account_id(provider, &mut owner, Some("other".to_owned()));
            assert_eq!((owner.person.as_deref(), owner.organization.as_deref()), (person, organization), "{provider}");
            assert_eq!(vendor_account_id(provider, &owner), Some("v"), "{provider}");
        }
    }
}
