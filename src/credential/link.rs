//! A login that another tool has, too.

use super::Credential;

/// Where a login is kept by its tool, and who refreshes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The tool's stable name.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// What names the login within the file.
    pub item: String,
    /// Who refreshes it.
    pub mode: LinkMode,
}

/// Who refreshes a login that two programs have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkMode {
    /// The tool; lessor follows its file and never refreshes it.
    Link,
    /// lessor; the tool must run through it.
    TakeOver,
    /// Both, under the tool's own locks.
    Share,
}

impl LinkMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Link, Self::TakeOver, Self::Share];

    /// The stable name, as in the protocol and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::TakeOver => "take-over",
            Self::Share => "share",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl Link {
    /// Whether what the tool writes is to be taken over as it comes.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.mode != LinkMode::TakeOver
    }

    /// Whether it is the same place of the same file, whoever refreshes it.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.path == other.path && self.item == other.item
    }
}

/// Whether lessor may refresh a login, and can.
#[must_use]
pub fn may_refresh(credential: &Credential, link: Option<&Link>) -> bool {
    credential.refresh.is_some() && link.is_none_or(|link| link.mode != LinkMode::Link)
}
