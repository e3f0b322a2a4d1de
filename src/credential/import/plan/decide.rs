//! Which account an entry is of, and what that account takes of it.

use std::collections::HashSet;

use crate::credential::{Fingerprint, Link, LinkMode, may_refresh};
use crate::pool::{CredentialKind, Tier, Wall};

use super::super::discover::KEYCHAIN;
use super::super::{Entry, Limited};
use super::{Follow, Known, Learnt, Outcome, Step};

/// All accounts, those included that the steps so far have added.
#[derive(Debug)]
pub struct Plan {
    pub(super) known: Vec<Known>,
    mode: Option<LinkMode>,
    now: Wall,
}

/// How the credential of an entry stands to that of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    Same,
    Newer,
    Older,
}

impl Plan {
    /// Begins with the accounts there are; `mode` is what the user wants of logins that rotate, where that was said.
    #[must_use]
    pub fn new(known: Vec<Known>, mode: Option<LinkMode>, now: Wall) -> Self {
        Self { known, mode, now }
    }

    /// What becomes of an entry, whose credential has this fingerprint; later entries meet the outcome.
    pub fn next(&mut self, entry: &Entry, print: Fingerprint) -> Step {
        match self.find(entry, print) {
            Err(why) => Step::refused(why),
            Ok(Some(place)) => self.meet(place, entry, print),
            Ok(None) => self.add(entry, print),
        }
    }

    /// The account that an entry is of: by the vendor's id, then the address, then the token.
    fn find(&self, entry: &Entry, print: Fingerprint) -> Result<Option<usize>, String> {
        let places = || self.known.iter().enumerate().filter(|(_, known)| known.provider == entry.provider);
        let only = |places: Vec<usize>, what: &str| match places[..] {
            [] => Ok(None),
            [place] => Ok(Some(place)),
            _ => Err(format!("several accounts have its {what}: {}", self.names(&places))),
        };
        let login = entry.credential.kind == CredentialKind::Oauth;
        let same = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().zip(other.as_ref()).map(|(one, other)| one.eq_ignore_ascii_case(other))
        };
        let logins = || places().filter(|(_, known)| login && known.kind == CredentialKind::Oauth);
        // members of a workspace of OpenAI's share its id
        let shared = entry.provider == "openai";
        let owned = logins().filter(|(_, known)| {
            same(&known.vendor_id, &entry.vendor_id) == Some(true)
                && !(shared && same(&known.email, &entry.email) == Some(false))
        });
        if let Some(place) = only(owned.map(|(place, _)| place).collect(), "vendor's id")? {
            return Ok(Some(place));
        }
        let by_token = || places().find(|(_, known)| known.prints.contains(&print)).map(|(place, _)| place);
        let addressed = logins().filter(|(_, known)| {
            same(&known.email, &entry.email) == Some(true) && same(&known.vendor_id, &entry.vendor_id) != Some(false)
        });
        let addressed: Vec<usize> = addressed.map(|(place, _)| place).collect();
        if addressed.len() > 1 {
            // one address, several workspaces: the token tells which
            return by_token().map_or_else(|| only(addressed, "address"), |place| Ok(Some(place)));
        }
        Ok(addressed.first().copied().or_else(by_token))
    }

    fn names(&self, places: &[usize]) -> String {
        places.iter().map(|place| self.known[*place].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, entry: &Entry, print: Fingerprint) -> Step {
        let link = match self.link_of(entry) {
            Ok(link) => link,
            Err(why) => return Step::refused(why),
        };
        let place = self.known.len();
        let label = self.free_label(entry);
        let mut sentence = match &link {
            Some(link) => meaning(link.mode, entry),
            None if entry.credential.kind == CredentialKind::Oauth => {
                "copied: this login does not rotate, so both can use it".to_owned()
            }
            None => "copied".to_owned(),
        };
        if entry.rotates && link.is_none() {
            sentence = "copied: from now on only lessor must use this login, as each refresh ends the one before it"
                .to_owned();
        }
        if entry.label.is_some() && label.is_none() {
            sentence += "; its label is another account's, so it has none";
        }
        sentence += &self.lacks(entry, link.as_ref());
        let ended = self.is_dead(entry, link.as_ref());
        self.known.push(Known {
            name: label
                .clone()
                .or_else(|| entry.email.clone())
                .unwrap_or_else(|| format!("the one from {}", entry.tool.title())),
            provider: entry.provider.clone(),
            kind: entry.credential.kind,
            vendor_id: entry.vendor_id.clone(),
            email: entry.email.clone(),
            label: label.clone(),
            tier: entry.tier,
            project_id: entry.project_id.clone(),
            current: Some(print),
            prints: HashSet::from([print]),
            kept_at: Some(self.written(entry)),
            expires_at: entry.credential.expires_at,
            ended,
            link: link.clone(),
            limits: entry.limits.clone(),
        });
        let linked = link.as_ref().is_some_and(Link::is_followed);
        Step {
            outcome: if linked { Outcome::Linked } else { Outcome::Added },
            account: Some(place),
            takes_token: true,
            follow: link.map_or(Follow::Keep, Follow::Set),
            learnt: Learnt { label, ..Learnt::default() },
            message: sentence,
        }
    }

    fn meet(&mut self, place: usize, entry: &Entry, print: Fingerprint) -> Step {
        let wanted = match self.link_of(entry) {
            Ok(link) => link,
            Err(why) => return Step::refused(why),
        };
        let known = &self.known[place];
        let age = self.age(known, entry, print);
        let elsewhere = known
            .link
            .as_ref()
            .filter(|link| link.is_followed() && wanted.as_ref().is_none_or(|wanted| !wanted.same_place(link)));
        // a login is followed in one place; only when that has come to its end another one is better
        let takes_token = age == Age::Newer && (elsewhere.is_none() || known.ended);
        let follow = self.follow(known, wanted, takes_token);
        let learnt = self.learn(known, entry);
        let mut parts = Vec::new();
        if takes_token {
            parts.push("a newer token".to_owned());
        }
        if let Follow::Set(link) = &follow {
            parts.push(meaning(link.mode, entry));
        }
        parts.extend(learnt.words());
        let message = if !parts.is_empty() {
            parts.join("; ")
        } else if let Some(link) = elsewhere.filter(|_| entry.rotates) {
            format!("it is linked to {} already; two programs refresh one login here: see `lessor doctor`", link.path)
        } else if age == Age::Older {
            "what is kept is newer".to_owned()
        } else {
            "nothing new".to_owned()
        };
        let changed = takes_token || follow != Follow::Keep || learnt != Learnt::default();
        self.remember(place, entry, print, takes_token, &follow, &learnt);
        Step {
            outcome: if changed { Outcome::Updated } else { Outcome::Same },
            account: Some(place),
            takes_token,
            follow,
            learnt,
            message,
        }
    }

    fn age(&self, known: &Known, entry: &Entry, print: Fingerprint) -> Age {
        let ends = entry.credential.expires_at;
        let no_access = entry.credential.access.expose().is_empty();
        if known.current == Some(print) {
            let later = !no_access && ends.zip(known.expires_at).is_some_and(|(ends, known)| ends > known);
            return if later { Age::Newer } else { Age::Same };
        }
        if known.prints.contains(&print) || entry.login_ended.is_some() {
            return Age::Older;
        }
        // where the refresh token stays, when an access token ends tells nothing of which login is the newer one
        let stays = !entry.rotates && entry.credential.refresh.is_some();
        if !no_access
            && !stays
            && let (Some(ends), Some(known)) = (ends, known.expires_at)
        {
            return if ends > known { Age::Newer } else { Age::Older };
        }
        let written_since = entry.as_of.zip(known.kept_at).is_some_and(|(written, kept)| written > kept);
        if known.ended || known.current.is_none() || written_since { Age::Newer } else { Age::Older }
    }

    /// How the login is to be linked, if it must be.
    fn link_of(&self, entry: &Entry) -> Result<Option<Link>, String> {
        if !entry.rotates {
            return Ok(None);
        }
        let mode = self.mode.or(entry.mode).unwrap_or(LinkMode::Link);
        if mode == LinkMode::Share && !entry.tool.has_locks() {
            return Err(format!(
                "{} takes no locks that could be shared, so two refreshes would end each other's login; leave --share \
                 out to follow its file, or let lessor own the login: --take-over",
                entry.tool.title()
            ));
        }
        if mode == LinkMode::Share && entry.file.as_ref().is_some_and(|path| path.starts_with(KEYCHAIN)) {
            return Err(format!(
                "lessor does not write into the keychain of {}; leave --share out to follow it, or let lessor own the \
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
                "each refresh ends the login that {} has, and there is no file to follow; let lessor own it: --take-over",
                entry.tool.title()
            )),
        }
    }

    /// What becomes of the link of a known account. Who once took a login over keeps it until told otherwise.
    fn follow(&self, known: &Known, wanted: Option<Link>, takes_token: bool) -> Follow {
        let Some(wanted) = wanted else { return Follow::Keep };
        let told = self.mode.is_some_and(|mode| mode != LinkMode::Link);
        match &known.link {
            Some(link) if link.same_place(&wanted) => {
                if told && wanted.mode != link.mode {
                    Follow::Set(wanted)
                } else {
                    Follow::Keep
                }
            }
            Some(link) if link.is_followed() && (takes_token || told) => Follow::Set(wanted),
            Some(_) => Follow::Keep,
            // a login of lessor's own is left alone, unless its tool turns out to be ahead of it
            None if takes_token || told => Follow::Set(wanted),
            None => Follow::Keep,
        }
    }

    fn learn(&self, known: &Known, entry: &Entry) -> Learnt {
        let new = |known: &Option<String>, given: &Option<String>| given.clone().filter(|_| known.is_none());
        let longer = |limit: &&Limited| {
            let place = |known: &&Limited| known.scope == limit.scope && known.key == limit.key;
            !known.limits.iter().any(|known| place(&known) && known.until >= limit.until)
        };
        Learnt {
            vendor_id: new(&known.vendor_id, &entry.vendor_id),
            email: new(&known.email, &entry.email),
            label: if known.label.is_none() { self.free_label(entry) } else { None },
            tier: Some(entry.tier).filter(|tier| known.tier == Tier::Unknown && *tier != Tier::Unknown),
            project_id: new(&known.project_id, &entry.project_id),
            limits: entry.limits.iter().filter(longer).cloned().collect(),
        }
    }

    fn free_label(&self, entry: &Entry) -> Option<String> {
        entry.label.clone().filter(|label| !self.known.iter().any(|known| known.label.as_ref() == Some(label)))
    }

    fn has_expired(&self, entry: &Entry) -> bool {
        entry.credential.expires_at.is_some_and(|ends| ends <= self.now)
    }

    /// Whether lessor can do nothing more with it.
    fn is_dead(&self, entry: &Entry, link: Option<&Link>) -> bool {
        entry.login_ended.is_some() || (self.has_expired(entry) && !may_refresh(&entry.credential, link))
    }

    /// When it was written down, as far as is known.
    fn written(&self, entry: &Entry) -> Wall {
        entry.as_of.map_or(self.now, |at| at.min(self.now))
    }

    /// What it lacks to be leased at once, as the end of a sentence.
    fn lacks(&self, entry: &Entry, link: Option<&Link>) -> String {
        if let Some(why) = &entry.login_ended {
            return format!("; {why}");
        }
        if !self.has_expired(entry) {
            return String::new();
        }
        let tool = entry.tool.title();
        match (entry.credential.access.expose(), may_refresh(&entry.credential, link)) {
            ("", true) => "; it comes without an access token: the first refresh makes one".to_owned(),
            (_, true) => "; its access token has ended: the next refresh makes a new one".to_owned(),
            (_, false) if link.is_some() => {
                format!("; its access token has ended: it serves once {tool} has refreshed it")
            }
            (_, false) => "; its access token has ended, and nothing can refresh it: log in anew".to_owned(),
        }
    }

    fn remember(
        &mut self,
        place: usize,
        entry: &Entry,
        print: Fingerprint,
        takes: bool,
        follow: &Follow,
        learnt: &Learnt,
    ) {
        let link = match follow {
            Follow::Set(link) => Some(link.clone()),
            Follow::Keep => self.known[place].link.clone(),
        };
        let ended = self.is_dead(entry, link.as_ref());
        let written = self.written(entry);
        let known = &mut self.known[place];
        known.link = link;
        if takes {
            known.current = Some(print);
            known.prints.insert(print);
            known.kept_at = Some(written);
            known.expires_at = entry.credential.expires_at;
            known.ended = ended;
        }
        let Learnt { vendor_id, email, label, tier, project_id, limits } = learnt.clone();
        known.vendor_id = known.vendor_id.take().or(vendor_id);
        known.email = known.email.take().or(email);
        known.label = known.label.take().or(label);
        known.tier = tier.unwrap_or(known.tier);
        known.project_id = known.project_id.take().or(project_id);
        known.limits.extend(limits);
    }
}

/// What a mode means, in a sentence.
fn meaning(mode: LinkMode, entry: &Entry) -> String {
    let tool = entry.tool.title();
    match mode {
        LinkMode::Link => {
            format!("linked: {tool} goes on refreshing this login, lessor follows its file and never refreshes it")
        }
        LinkMode::TakeOver if entry.tool.is_agent() => {
            format!("taken over: lessor refreshes this login, so {tool} must from now on run through `lessor run`")
        }
        LinkMode::TakeOver => {
            format!("taken over: lessor refreshes this login, so {tool} must no longer use it by itself")
        }
        LinkMode::Share => format!("shared: lessor and {tool} both refresh this login, each under {tool}'s own locks"),
    }
}
