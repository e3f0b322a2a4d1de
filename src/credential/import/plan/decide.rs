//! Decides which account a discovered login belongs to, and what that account takes from it.

use std::collections::HashSet;
use std::path::Path;

use super::super::{DiscoveredAccount, DiscoveredLimit};
use super::links::meaning;
use super::{AccountUpdate, ImportOutcome, ImportStep, KnownAccount, LinkChange};
use crate::credential::{Fingerprint, LabelSource, Link, LinkMode, LoginHome, SETTLE, may_refresh, numbered};
use crate::pool::{CredentialKind, IdentityMatch, LoginCandidate, Tier, Wall};

/// All accounts, including those that earlier steps added.
#[derive(Debug)]
pub struct ImportPlan {
    pub(super) known: Vec<KnownAccount>,
    pub(super) mode: Option<LinkMode>,
    now: Wall,
    labels: HashSet<String>,
}

/// The age of a credential, compared with the stored one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TokenAge {
    Same,
    Newer,
    Older,
}

impl ImportPlan {
    /// Starts with the known accounts; `mode` is the user's choice for rotating logins, if given.
    #[must_use]
    pub fn new(known: Vec<KnownAccount>, mode: Option<LinkMode>, now: Wall) -> Self {
        let labels = known.iter().filter_map(|known| known.label.clone()).collect();
        Self { known, mode, now, labels }
    }

    /// Decides about one discovered account, whose credential has this fingerprint. Later decisions see the result.
    pub fn next(&mut self, entry: &DiscoveredAccount, print: Fingerprint) -> ImportStep {
        let found = self.find(entry, print).and_then(|found| Ok((found, self.wrong_holder(entry, print)?)));
        let (found, wrong_holder) = match found {
            Err(why) => return ImportStep::refused(why),
            Ok(found) => found,
        };
        let mut step = match found {
            Some(index) => self.meet(index, entry, print),
            None => self.add(entry, print),
        };
        if let Some(index) = wrong_holder.filter(|_| step.takes_token) {
            step.message += &format!("; {} gets its own login back", self.known[index].name);
            step.taken_from = Some(index);
            self.known[index].current = None;
            self.known[index].prints.remove(&print);
        }
        step
    }

    /// The known account it belongs to: by its owner, then by its token.
    fn find(&self, entry: &DiscoveredAccount, print: Fingerprint) -> Result<Option<usize>, String> {
        let login = entry.credential.kind == CredentialKind::Oauth;
        let registration = entry.credential.registration();
        // a login for the public API belongs to its registration: another one may have the same address
        let is_comparable = |known: &KnownAccount| known.registration.as_deref() == registration;
        let candidates = self.known.iter().map(|known| LoginCandidate {
            identity: (login && known.kind == CredentialKind::Oauth && is_comparable(known)).then(|| known.identity()),
            has_token: known.provider == entry.provider
                && is_comparable(known)
                && (registration.is_some() || known.prints.contains(&print) || has_lost_refresh_of(entry, known)),
        });
        let several = |indices: Vec<usize>| format!("several accounts have the same owner: {}", self.names(&indices));
        entry.identity().owner_among(candidates).map_err(several)
    }

    /// The account that has this credential now, but belongs to another owner: it must have adopted the credential a
    /// moment ago, before its tool named the owner.
    fn wrong_holder(&self, entry: &DiscoveredAccount, print: Fingerprint) -> Result<Option<usize>, String> {
        let holds = |known: &KnownAccount| known.provider == entry.provider && known.current == Some(print);
        let Some(index) = self.known.iter().position(holds) else { return Ok(None) };
        let holder = &self.known[index];
        let contradicts = entry.identity().compare(&holder.identity()) == IdentityMatch::Contradicts;
        if !contradicts || !entry.tool.names_owner_later() {
            return Ok(None);
        }
        if holder.is_on_trial {
            return Ok(Some(index));
        }
        let other = entry.email.as_deref().unwrap_or("another account");
        Err(format!(
            "its token is that of {}, but {} names {other} as the owner: log in again with the one that you want",
            holder.name,
            entry.tool.title()
        ))
    }

    fn names(&self, indices: &[usize]) -> String {
        indices.iter().map(|index| self.known[*index].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, entry: &DiscoveredAccount, print: Fingerprint) -> ImportStep {
        let link = match self.link_of(entry) {
            Ok(link) => link,
            Err(why) => return ImportStep::refused(why),
        };
        let index = self.known.len();
        let label = Some(self.free_label(entry).unwrap_or_else(|| self.made_label(entry)));
        self.labels.extend(label.clone());
        let mut sentence = match &link {
            Some(link) => meaning(link.mode, entry),
            None if entry.credential.kind == CredentialKind::Oauth => {
                "copied: this login does not rotate, so both can use it".to_owned()
            }
            None => "copied".to_owned(),
        };
        if entry.rotates && link.is_none() {
            sentence = "copied: from now on only lessor must use this login, because each refresh invalidates the previous token"
                .to_owned();
        }
        if entry.label.is_some()
            && entry.label != label
            && let Some(label) = &label
        {
            sentence += &format!("; its label is used by another account, so it is called {label}");
        }
        sentence += &self.lacks(entry, link.as_ref());
        let ended = self.is_dead(entry, link.as_ref());
        self.known.push(KnownAccount {
            name: label
                .clone()
                .or_else(|| entry.email.clone())
                .unwrap_or_else(|| format!("the account from {}", entry.tool.title())),
            provider: entry.provider.clone(),
            kind: entry.credential.kind,
            registration: entry.credential.registration().map(str::to_owned),
            owner: entry.owner.clone(),
            email: entry.email.clone(),
            label: label.clone(),
            tier: entry.tier,
            project_id: entry.project_id.clone(),
            current: Some(print),
            prints: HashSet::from([print]),
            kept_at: Some(self.written(entry)),
            expires_at: entry.credential.expires_at,
            ended,
            rejected: false,
            login_remedy: None,
            other_remedy: None,
            is_on_trial: false,
            link: link.clone(),
            limits: entry.limits.clone(),
        });
        let linked = link.as_ref().is_some_and(Link::is_followed);
        ImportStep {
            outcome: if linked { ImportOutcome::Linked } else { ImportOutcome::Added },
            account: Some(index),
            takes_token: true,
            keeps_former: false,
            tries_again: false,
            taken_from: None,
            link_change: link.map_or(LinkChange::Keep, LinkChange::Set),
            update: AccountUpdate { label, ..AccountUpdate::default() },
            message: sentence,
        }
    }

    fn meet(&mut self, index: usize, entry: &DiscoveredAccount, print: Fingerprint) -> ImportStep {
        let wanted = match self.link_of(entry) {
            Ok(link) => link,
            Err(why) => return ImportStep::refused(why),
        };
        let known = &self.known[index];
        let is_new_login = entry.is_new_login && (wanted.is_none() || wanted != known.link);
        let age = match self.age(known, entry, print) {
            TokenAge::Older if is_new_login => TokenAge::Newer,
            age => age,
        };
        let elsewhere = known.link.as_ref().filter(|link| {
            link.is_followed()
                && !is_new_login
                && wanted.as_ref().is_none_or(|wanted| !wanted.same_place(link) && !link.is_replaced_by(wanted))
        });
        // a login is linked to one place; another one is better only when the current credential has ended
        let is_newer = age == TokenAge::Newer && (elsewhere.is_none() || known.ended);
        let settles = is_newer && self.owner_may_change(known, entry);
        let takes_token = is_newer && !settles;
        let follow = match wanted {
            Some(wanted) if is_new_login => LinkChange::Set(wanted),
            wanted => self.follow(known, (entry, print), wanted, takes_token),
        };
        let learnt = self.learn(known, entry);
        let tries_again = known.rejected && age == TokenAge::Same && !self.has_expired(entry);
        let mut parts = Vec::new();
        if settles {
            parts.push(format!(
                "a newer token, to be used within {} s, as soon as it is certain that it is of the same account",
                SETTLE.as_secs()
            ));
        } else if takes_token {
            parts.push("a newer token".to_owned());
        }
        if tries_again {
            parts.push("its credential was rejected, and is tried again".to_owned());
        }
        if let LinkChange::Set(link) = &follow {
            parts.push(meaning(link.mode, entry));
        }
        parts.extend(learnt.words());
        let mut message = if !parts.is_empty() {
            parts.join("; ")
        } else if let Some(link) = elsewhere.filter(|_| entry.rotates) {
            is_kept_elsewhere(link)
        } else if age == TokenAge::Older {
            "the stored token is newer".to_owned()
        } else {
            "nothing new".to_owned()
        };
        let remedy = known.login_remedy.as_ref().filter(|_| !is_newer && !tries_again);
        for remedy in [remedy, known.other_remedy.as_ref()].into_iter().flatten() {
            message += &format!("; {remedy}");
        }
        let step = ImportStep {
            outcome: if is_newer || tries_again || follow != LinkChange::Keep || learnt != AccountUpdate::default() {
                ImportOutcome::Updated
            } else {
                ImportOutcome::Same
            },
            account: Some(index),
            takes_token,
            keeps_former: takes_token
                && !is_new_login
                && known.current.is_some()
                && entry.tool.names_owner_later()
                && entry.rotates,
            tries_again,
            taken_from: None,
            link_change: follow,
            update: learnt,
            message,
        };
        self.remember(index, entry, print, &step);
        step
    }

    /// Whether the tool may still name another owner of the login, and the account's watcher waits for that.
    fn owner_may_change(&self, known: &KnownAccount, entry: &DiscoveredAccount) -> bool {
        let is_watched = known.link.as_ref().is_some_and(|link| {
            link.is_followed() && Some(&link.path) == entry.file.as_ref() && link.item == entry.item
        });
        let is_young = entry.as_of.is_some_and(|written| self.now.since(written) < SETTLE);
        entry.tool.names_owner_later() && is_watched && is_young && !known.identity().is_unknown()
    }

    fn age(&self, known: &KnownAccount, entry: &DiscoveredAccount, print: Fingerprint) -> TokenAge {
        let ends = entry.credential.expires_at;
        let no_access = entry.credential.access.expose().is_empty();
        if known.current == Some(print) {
            let later = !no_access && ends.zip(known.expires_at).is_some_and(|(ends, known)| ends > known);
            return if later { TokenAge::Newer } else { TokenAge::Same };
        }
        if known.prints.contains(&print) || entry.login_ended.is_some() {
            return TokenAge::Older;
        }
        // a file that has lost its refresh token is recognised by the expiry of the access token
        if entry.credential.refresh.is_none() && known.current.is_some() && ends.is_some() && ends == known.expires_at {
            return TokenAge::Same;
        }
        // if the refresh token stays the same, the expiry of the access token does not tell which login is newer
        let stays = !entry.rotates && entry.credential.refresh.is_some();
        if !no_access
            && !stays
            && let (Some(ends), Some(last)) = (ends, known.expires_at)
        {
            // of a login that has ended nothing can be lost
            let is_better = ends > last || known.ended && !self.is_dead(entry, known.link.as_ref());
            return if is_better { TokenAge::Newer } else { TokenAge::Older };
        }
        let written_since = entry.as_of.zip(known.kept_at).is_some_and(|(written, kept)| written > kept);
        if known.ended || known.current.is_none() || written_since { TokenAge::Newer } else { TokenAge::Older }
    }

    fn learn(&self, known: &KnownAccount, entry: &DiscoveredAccount) -> AccountUpdate {
        let new = |known: &Option<String>, given: &Option<String>| given.clone().filter(|_| known.is_none());
        let longer = |limit: &&DiscoveredLimit| {
            let same = |known: &&DiscoveredLimit| known.scope == limit.scope && known.key == limit.key;
            !known.limits.iter().any(|known| same(&known) && known.until >= limit.until)
        };
        AccountUpdate {
            owner: {
                let mut owner = known.owner.clone();
                owner.learn(&entry.owner).then_some(owner)
            },
            email: new(&known.email, &entry.email),
            label: if known.label.is_none() { self.free_label(entry) } else { None },
            tier: Some(entry.tier).filter(|tier| known.tier == Tier::Unknown && *tier != Tier::Unknown),
            project_id: new(&known.project_id, &entry.project_id),
            limits: entry.limits.iter().filter(longer).cloned().collect(),
        }
    }

    fn free_label(&self, entry: &DiscoveredAccount) -> Option<String> {
        entry.label.clone().filter(|label| !self.labels.contains(label))
    }

    /// A label for a new account whose tool has none for it, or one that is used already.
    fn made_label(&self, entry: &DiscoveredAccount) -> String {
        let is_taken = |label: &str| self.labels.contains(label);
        if let Some(label) = &entry.label {
            return numbered(label, 2, is_taken);
        }
        let source = LabelSource {
            provider: &entry.provider,
            tool: Some(entry.tool),
            kind: entry.credential.kind,
            email: entry.email.as_deref(),
            organization: entry.owner.organization_name.as_deref(),
        };
        source.label(is_taken)
    }

    fn has_expired(&self, entry: &DiscoveredAccount) -> bool {
        entry.credential.expires_at.is_some_and(|ends| ends <= self.now)
    }

    /// Whether lessor cannot use or refresh the credential.
    fn is_dead(&self, entry: &DiscoveredAccount, link: Option<&Link>) -> bool {
        entry.login_ended.is_some() || (self.has_expired(entry) && !may_refresh(&entry.credential, link))
    }

    /// When it was written, as far as known.
    fn written(&self, entry: &DiscoveredAccount) -> Wall {
        entry.as_of.map_or(self.now, |at| at.min(self.now))
    }

    /// What is missing before it can be leased, as the end of a sentence.
    fn lacks(&self, entry: &DiscoveredAccount, link: Option<&Link>) -> String {
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
            (_, false) => "; its access token has ended, and it cannot be refreshed: log in again".to_owned(),
        }
    }

    fn remember(&mut self, index: usize, entry: &DiscoveredAccount, print: Fingerprint, step: &ImportStep) {
        let link = match &step.link_change {
            LinkChange::Set(link) => Some(link.clone()),
            LinkChange::Keep => self.known[index].link.clone(),
        };
        let ended = self.is_dead(entry, link.as_ref());
        let written = self.written(entry);
        let known = &mut self.known[index];
        known.link = link;
        if step.takes_token {
            known.current = Some(print);
            known.prints.insert(print);
            known.kept_at = Some(written);
            known.expires_at = entry.credential.expires_at;
            known.ended = ended;
            known.login_remedy = None;
        }
        known.rejected &= !step.takes_token && !step.tries_again;
        let AccountUpdate { owner, email, label, tier, project_id, limits } = step.update.clone();
        known.owner = owner.unwrap_or_else(|| known.owner.clone());
        known.email = known.email.take().or(email);
        self.labels.extend(label.clone());
        known.label = known.label.take().or(label);
        known.tier = tier.unwrap_or(known.tier);
        known.project_id = known.project_id.take().or(project_id);
        known.limits.extend(limits);
    }
}

/// Whether the entry is the login of the account that is linked to it, without its refresh token.
fn has_lost_refresh_of(entry: &DiscoveredAccount, known: &KnownAccount) -> bool {
    let is_linked =
        known.link.as_ref().is_some_and(|link| Some(&link.path) == entry.file.as_ref() && link.item == entry.item);
    let ends = entry.credential.expires_at;
    is_linked && entry.credential.refresh.is_none() && ends.is_some() && ends == known.expires_at
}

/// Why a login is not taken from a second place.
fn is_kept_elsewhere(link: &Link) -> String {
    match LoginHome::program_of(Path::new(&link.path)) {
        Some(program) => format!("the account has a login of its own, from lessor login {}", program.name()),
        None => format!("it is already linked to {}; two programs refresh this login: see `lessor doctor`", link.path),
    }
}
