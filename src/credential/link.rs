//! Links: logins that are shared with another tool.

use std::time::Duration;

use super::Credential;
use crate::pool::Wall;

/// How long a tool may take to name the owner of a login that it has written. A login is not used before, unless its
/// owner is named; afterwards its owner is the one that the tool named before.
pub const SETTLE: Duration = Duration::from_secs(5);
/// How long a login that was adopted from a linked file can turn out to be another account's.
const TRIAL: Duration = Duration::from_secs(600);

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
        /// The tool, which lessor starts in the login's home before the token ends; lessor itself where the OAuth client
        /// that made the login is configured.
        StartTool = "start-tool",
    }
}

/// The other credential of an account, while it is not certain whom the login in its linked file belongs to.
#[derive(PartialEq, Eq, Debug)]
pub struct FormerCredential {
    /// The credential.
    pub credential: Credential,
    /// What it was.
    pub role: FormerRole,
    /// Since when it is not the current one.
    pub since: Wall,
}

named_enum! {
    /// What the other credential of an account was.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub enum FormerRole {
        /// The account had it before it adopted the current one.
        Before = "before",
        /// The account had adopted it, but it belongs to another account.
        Withdrawn = "withdrawn",
    }
}

impl FormerCredential {
    /// A copy of `credential`, as what it is from now on.
    #[must_use]
    pub fn new(credential: &Credential, role: FormerRole, since: Wall) -> Self {
        Self { credential: credential.duplicate(), role, since }
    }

    /// Whether the account's current credential was adopted in its place so recently that it may be another account's.
    #[must_use]
    pub fn is_on_trial(&self, now: Wall) -> bool {
        self.role == FormerRole::Before && now.since(self.since) < TRIAL
    }

    /// Whether the account may still need it.
    #[must_use]
    pub fn is_needed(&self, now: Wall) -> bool {
        // the login of another account may turn out to be the account's own as long as its token can be used
        let is_usable = self.credential.expires_at.is_some_and(|end| end > now);
        now.since(self.since) < TRIAL || (self.role == FormerRole::Withdrawn && is_usable)
    }
}

impl Link {
    /// Whether lessor adopts what the tool writes.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.mode != LinkMode::TakeOver
    }

    /// Whether the file at `other` has replaced this one: opencode 2 keeps its logins in a database.
    #[must_use]
    pub fn is_replaced_by(&self, other: &Self) -> bool {
        let named = |path: &str, name: &str| path.strip_suffix(name).map(str::to_owned);
        self.tool == other.tool
            && named(&self.path, "auth.json").is_some_and(|here| named(&other.path, "opencode.db") == Some(here))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{credential::Secret, pool::CredentialKind};

    #[test]
    fn the_other_credential_is_needed_until_its_owner_is_certain() {
        let minute = |minutes: u64| Wall(minutes * 60_000);
        for (role, ends, after, expected) in [
            (FormerRole::Before, Some(600), 9, true),
            (FormerRole::Before, Some(600), 10, false),
            (FormerRole::Withdrawn, None, 9, true),
            (FormerRole::Withdrawn, None, 10, false),
            (FormerRole::Withdrawn, Some(600), 599, true),
            (FormerRole::Withdrawn, Some(600), 600, false),
        ] {
            let mut credential = Credential::new(CredentialKind::Oauth, Secret::new("at".into()));
            credential.expires_at = ends.map(minute);
            let former = FormerCredential::new(&credential, role, minute(0));
            assert_eq!(former.is_needed(minute(after)), expected, "{role:?} {ends:?} after {after} min");
        }
    }
}
