//! Decides whether an account is linked to the file that a login was found in, and how.

use std::path::Path;

use super::super::{DiscoveredAccount, discover::KEYCHAIN_PREFIX};
use super::{ImportPlan, KnownAccount, LinkChange};
use crate::credential::{Fingerprint, Link, LinkMode, LoginHome, share::can_be_shared};

impl ImportPlan {
    /// The link for the login, if it needs one.
    pub(super) fn link_of(&self, entry: &DiscoveredAccount) -> Result<Option<Link>, String> {
        let mode = self.mode.or(entry.mode).unwrap_or(LinkMode::Link);
        // the home decides who refreshes the login: no other program does
        if entry.is_new_login && entry.mode.is_some_and(|of_home| of_home != mode) {
            return Err(
                "the login is in a directory of lessor's own, which keeps its way of refreshing: leave --share and \
                        --take-over out"
                    .to_owned(),
            );
        }
        // a copy of a login that does not rotate can be refreshed beside it, unless only its tool can do that
        let is_of_tool = mode == LinkMode::StartTool || mode == LinkMode::Link && entry.needs_its_tool;
        if !entry.rotates && !is_of_tool {
            return Ok(None);
        }
        let is_in_keychain = entry.file.as_ref().is_some_and(|path| path.starts_with(KEYCHAIN_PREFIX));
        let file = entry.file.as_deref().unwrap_or_default();
        if mode == LinkMode::Share && !is_in_keychain && !can_be_shared(entry.tool, file) {
            return Err(format!(
                "{} has no locks that lessor can share, so two refreshes would invalidate each other; leave --share \
                 out to follow its file, or let lessor own the login: --take-over",
                entry.tool.title()
            ));
        }
        if mode == LinkMode::Share && is_in_keychain {
            return Err(format!(
                "lessor does not write into the keychain of {}; leave --share out to watch it, or let lessor own the \
                 login: --take-over",
                entry.tool.title()
            ));
        }
        match (&entry.file, mode) {
            (Some(path), mode) => {
                let (tool, path) = (entry.tool.name().to_owned(), path.clone());
                Ok(Some(Link { tool, path, item: entry.item.clone(), mode }))
            }
            (None, LinkMode::TakeOver) => Ok(None),
            (None, _) => Err(format!(
                "each refresh would invalidate the login of {}, and there is no file to follow; let lessor own it: --take-over",
                entry.tool.title()
            )),
        }
    }

    /// The change of a known account's link. A login that was taken over stays so unless the user chooses another mode.
    pub(super) fn follow(
        &self,
        known: &KnownAccount,
        (entry, print): (&DiscoveredAccount, Fingerprint),
        wanted: Option<Link>,
        takes_token: bool,
    ) -> LinkChange {
        let Some(wanted) = wanted else { return LinkChange::Keep };
        let told = self.mode.is_some_and(|mode| mode != LinkMode::Link);
        match &known.link {
            Some(link) if link.same_place(&wanted) => {
                if told && wanted.mode != link.mode {
                    LinkChange::Set(wanted)
                } else {
                    LinkChange::Keep
                }
            }
            Some(link) if link.is_followed() && (takes_token || told) => LinkChange::Set(wanted),
            Some(_) => LinkChange::Keep,
            // a login that lessor owns stays as it is, unless its tool has a newer one
            None if takes_token || told => LinkChange::Set(wanted),
            // a copy that lessor cannot refresh lives as long as its tool is used
            None if entry.needs_its_tool && known.current == Some(print) => LinkChange::Set(wanted),
            None => LinkChange::Keep,
        }
    }
}

/// Describes a link mode in a sentence.
pub(super) fn meaning(mode: LinkMode, entry: &DiscoveredAccount) -> String {
    let tool = entry.tool.title();
    let is_in_home = || entry.file.as_ref().is_some_and(|file| LoginHome::program_of(Path::new(file)).is_some());
    match mode {
        LinkMode::Link => {
            format!("linked: {tool} refreshes this login, and lessor follows its file")
        }
        LinkMode::TakeOver if entry.tool.is_agent() => {
            format!("taken over: lessor refreshes this login, so {tool} must be started with `lessor run` from now on")
        }
        LinkMode::TakeOver => {
            format!("taken over: lessor refreshes this login, so {tool} must no longer use it directly")
        }
        LinkMode::Share if is_in_home() => "refreshed by lessor, in a directory of its own".to_owned(),
        LinkMode::Share => format!("shared: lessor and {tool} both refresh this login, each under {tool}'s own locks"),
        LinkMode::StartTool => {
            format!("kept by {tool}: lessor starts it in the login's home when the token is about to end")
        }
    }
}
