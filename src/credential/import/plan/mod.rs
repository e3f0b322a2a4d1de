//! Plans an import: what is done with each discovered account. Pure, so that a dry run reports exactly what an import
//! does.

mod decide;
mod links;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::DiscoveredLimit;
use crate::credential::{Fingerprint, Link};
use crate::pool::{AccountIdentity, AccountOwner, CredentialKind, Tier, Wall};

pub use decide::ImportPlan;

/// A known account, as far as discovered accounts are compared with it.
#[derive(Clone, Debug)]
pub struct KnownAccount {
    /// Its name in messages.
    pub name: String,
    /// The provider.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The OAuth client of its own, if it is a login for the public API.
    pub registration: Option<String>,
    /// Who it belongs to at the provider.
    pub owner: AccountOwner,
    /// The email address.
    pub email: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The fingerprint of its current credential; `None` if that was lost.
    pub current: Option<Fingerprint>,
    /// The fingerprints of all its credentials, as far as known.
    pub prints: HashSet<Fingerprint>,
    /// Since when it has had `current`.
    pub kept_at: Option<Wall>,
    /// When its access token expires.
    pub expires_at: Option<Wall>,
    /// Whether lessor can neither use nor refresh its credential: any other one is better.
    pub ended: bool,
    /// Whether the provider's API rejected its credential, which may be accepted again.
    pub rejected: bool,
    /// What makes its login work again, if it does not; another credential does, too.
    pub login_remedy: Option<String>,
    /// What lets it serve again, if something else than its login prevents it.
    pub other_remedy: Option<String>,
    /// Whether its credential was adopted a moment ago and may belong to another account.
    pub is_on_trial: bool,
    /// Its link to a tool's file.
    pub link: Option<Link>,
    /// Its limits.
    pub limits: Vec<DiscoveredLimit>,
}

impl KnownAccount {
    /// Who it belongs to.
    #[must_use]
    pub fn identity(&self) -> AccountIdentity<'_> {
        self.owner.identity(&self.provider, self.email.as_deref())
    }
}

named_enum! {
    /// The result of an import step.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub enum ImportOutcome {
        /// A new account was added.
        Added = "added",
        /// A known account was updated.
        Updated = "updated",
        /// Nothing changed.
        Same = "same",
        /// A new account was added that follows its tool's file.
        Linked = "linked",
        /// It was not imported.
        Refused = "refused",
    }
}

/// The change of an account's link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LinkChange {
    /// The link stays.
    #[default]
    Keep,
    /// This link replaces it.
    Set(Link),
}

/// What is done with one discovered account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportStep {
    /// The result.
    pub outcome: ImportOutcome,
    /// The index of the account among the known ones; new ones follow. `None` when refused.
    pub account: Option<usize>,
    /// Whether the account takes the credential.
    pub takes_token: bool,
    /// Whether the account's current credential is kept beside the new one, which may belong to another account.
    pub keeps_former: bool,
    /// Whether the account's rejected credential is tried again.
    pub tries_again: bool,
    /// The account that has this credential, but not its owner: it gets its former credential back.
    pub taken_from: Option<usize>,
    /// The change of its link.
    pub link_change: LinkChange,
    /// What a known account takes over.
    pub update: AccountUpdate,
    /// A sentence for the user.
    pub message: String,
}

impl ImportStep {
    /// A refusal with its reason.
    #[must_use]
    pub fn refused(why: String) -> Self {
        Self {
            outcome: ImportOutcome::Refused,
            account: None,
            takes_token: false,
            keeps_former: false,
            tries_again: false,
            taken_from: None,
            link_change: LinkChange::Keep,
            update: AccountUpdate::default(),
            message: why,
        }
    }
}

/// Facts that a known account lacked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountUpdate {
    /// Its owner, with what was not known before.
    pub owner: Option<AccountOwner>,
    /// The email address.
    pub email: Option<String>,
    /// A label that no other account has.
    pub label: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// Limits that are new, or longer than the known ones.
    pub limits: Vec<DiscoveredLimit>,
}

impl AccountUpdate {
    /// The facts, for a sentence.
    fn words(&self) -> Vec<String> {
        let fields = [
            ("its owner", self.owner.is_some()),
            ("its address", self.email.is_some()),
            ("a label", self.label.is_some()),
            ("its plan", self.tier.is_some()),
            ("its project", self.project_id.is_some()),
        ];
        let mut words: Vec<String> =
            fields.iter().filter(|(_, new)| *new).map(|(word, _)| (*word).to_owned()).collect();
        match self.limits.len() {
            0 => {}
            1 => words.push("a limit".to_owned()),
            more => words.push(format!("{more} limits")),
        }
        words
    }
}
