//! What becomes of each entry: pure, so that a dry run says exactly what a real one does.

mod decide;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::credential::{Fingerprint, Link};
use crate::pool::{CredentialKind, Tier, Wall};

use super::Limited;

pub use decide::Plan;

/// An account, as far as entries are compared with it.
#[derive(Clone, Debug)]
pub struct Known {
    /// How a sentence calls it.
    pub name: String,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The vendor's own id.
    pub vendor_id: Option<String>,
    /// The login's address.
    pub email: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// The cloud project.
    pub project_id: Option<String>,
    /// What it authenticates with now; `None` when that was lost.
    pub current: Option<Fingerprint>,
    /// All it has authenticated with, as far as is known.
    pub prints: HashSet<Fingerprint>,
    /// Since when it has had `current`.
    pub kept_at: Option<Wall>,
    /// When its access token ends.
    pub expires_at: Option<Wall>,
    /// Whether lessor can do nothing more with its credential: any other one is better.
    pub ended: bool,
    /// Where its tool keeps it.
    pub link: Option<Link>,
    /// Limits it has.
    pub limits: Vec<Limited>,
}

/// In a word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A new account.
    Added,
    /// An account that has learnt something.
    Updated,
    /// Nothing to do.
    Same,
    /// A new account that follows its tool's file.
    Linked,
    /// Not taken in.
    Refused,
}

impl Outcome {
    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Updated => "updated",
            Self::Same => "same",
            Self::Linked => "linked",
            Self::Refused => "refused",
        }
    }
}

/// What to do with the account's link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Follow {
    /// As it was.
    #[default]
    Keep,
    /// This one from now on.
    Set(Link),
}

/// What becomes of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// In a word.
    pub outcome: Outcome,
    /// Which account, by its place among the known ones; new ones are counted on. `None` when refused.
    pub account: Option<usize>,
    /// Whether its credential is taken.
    pub takes_token: bool,
    /// What becomes of its link.
    pub follow: Follow,
    /// What is learnt of an account that was known.
    pub learnt: Learnt,
    /// In a sentence.
    pub message: String,
}

impl Step {
    /// Nothing, and why.
    #[must_use]
    pub fn refused(why: String) -> Self {
        Self {
            outcome: Outcome::Refused,
            account: None,
            takes_token: false,
            follow: Follow::Keep,
            learnt: Learnt::default(),
            message: why,
        }
    }
}

/// What an account did not know of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learnt {
    /// The vendor's own id.
    pub vendor_id: Option<String>,
    /// The login's address.
    pub email: Option<String>,
    /// A name for it, which nobody else has.
    pub label: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// Limits that are new, or longer than those it has.
    pub limits: Vec<Limited>,
}

impl Learnt {
    /// What was learnt, for a sentence.
    fn words(&self) -> Vec<String> {
        let fields = [
            ("its vendor's id", self.vendor_id.is_some()),
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
