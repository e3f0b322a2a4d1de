//! Links: logins that are shared with another tool.

use super::Credential;

/// Where a tool stores a login, and who refreshes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The tool's stable name.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// The name of the login within the file.
    pub item: String,
    /// Who refreshes it.
    pub mode: LinkMode,
}

named_enum! {
    /// Who refreshes a login that lessor and another tool share.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub enum LinkMode {
        /// The tool; lessor watches its file and never refreshes the login.
        Link = "link",
        /// lessor; the tool must be run through lessor.
        TakeOver = "take-over",
        /// Both, under the tool's own locks.
        Share = "share",
    }
}

impl Link {
    /// Whether lessor adopts what the tool writes.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.mode != LinkMode::TakeOver
    }

    /// Whether it is the same login in the same file, regardless of the mode.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.path == other.path && self.item == other.item
    }
}

/// Whether the credential can be refreshed and lessor may refresh it.
#[must_use]
pub fn may_refresh(credential: &Credential, link: Option<&Link>) -> bool {
    credential.refresh.is_some() && link.is_none_or(|link| link.mode != LinkMode::Link)
}
