//! Decides what to notify about, and when. Pure: it gets events and what the state looks like, and returns notices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::pool::{Mono, Now};
use crate::protocol::{AccountLabel, EventInfo};

#[cfg(test)]
mod tests;

/// The most events that wait for the worker; what they have changed is read from the state, too.
pub(crate) const MOST_EVENTS: usize = 256;
/// The least time between two notices of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// What a notice is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NoticeKind {
    /// A lease has another account.
    AccountSwitched,
    /// A lease is in the second quota pool of its account.
    SecondPool,
    /// Only the user can make an account serve again.
    LoginNeeded,
    /// All accounts of a provider are limited.
    AllLimited,
    /// An account of that provider is free again.
    FreeAgain,
}

/// A notice, as commands and webhooks get it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct NoticeDocument {
    pub(super) kind: NoticeKind,
    /// When it happened, epoch ms.
    pub(super) at: u64,
    /// In a sentence.
    pub(super) text: String,
    pub(super) provider: Option<String>,
    pub(super) account: Option<AccountLabel>,
    /// Of a switch: the account before.
    pub(super) from: Option<AccountLabel>,
    /// When the limit ends, epoch ms.
    pub(super) until: Option<u64>,
    /// Why.
    pub(super) reason: Option<String>,
    /// The quota pool.
    pub(super) pool: Option<String>,
    pub(super) model: Option<String>,
    pub(super) agent: Option<String>,
    /// Notices of this kind that were left out since the last one.
    pub(super) left_out: u64,
}

/// An event that a notice may be about.
#[derive(Clone, Debug)]
pub(crate) struct NoticeEvent {
    pub(crate) event: EventInfo,
    /// Its lease is in the second quota pool of the request.
    pub(crate) is_second_pool: bool,
}

/// What the state looks like.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Situation {
    /// The providers whose accounts are all limited; the account that is free first, and when.
    pub(crate) limited: BTreeMap<String, FirstFree>,
    /// The accounts that need their user, by id.
    pub(crate) need_login: BTreeMap<String, LoginNeed>,
}

/// The account of a provider that is free first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FirstFree {
    pub(crate) account: Option<AccountLabel>,
    pub(crate) until: Option<u64>,
}

/// An account that needs its user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LoginNeed {
    pub(crate) account: AccountLabel,
    pub(crate) provider: String,
    /// The state of the account.
    pub(crate) state: &'static str,
    /// What to do.
    pub(crate) remedy: Option<String>,
}

/// Whether notices may be about events of this kind.
pub(crate) fn is_news(kind: &str, is_second_pool: bool) -> bool {
    is_second_pool || kind == "lease.moved" || kind.starts_with("account.")
}

/// What was said so far, and what waits until it may be said.
#[derive(Debug)]
pub(super) struct NoticePolicy {
    /// Writes a time of day: now, then.
    clock: fn(u64, u64) -> String,
    /// When a notice of each kind was last sent.
    last: BTreeMap<NoticeKind, Mono>,
    /// The latest switch and the latest use of a second pool that wait, and how many before them are left out.
    waiting: BTreeMap<NoticeKind, (EventInfo, u64)>,
    situation: Situation,
    /// The providers that were called limited.
    called_limited: BTreeSet<String>,
    /// The accounts whose need of a login was said.
    called_for_login: BTreeSet<String>,
    /// The accounts whose second pool was said.
    called_second: BTreeSet<String>,
    /// The accounts that a notice has named, by id.
    named: BTreeSet<String>,
}

impl NoticePolicy {
    /// Begins in a situation that is no news.
    pub(super) fn new(situation: Situation, clock: fn(u64, u64) -> String) -> Self {
        Self {
            clock,
            last: BTreeMap::new(),
            waiting: BTreeMap::new(),
            called_limited: situation.limited.keys().cloned().collect(),
            called_for_login: situation.need_login.keys().cloned().collect(),
            called_second: BTreeSet::new(),
            named: BTreeSet::new(),
            situation,
        }
    }

    /// Something has happened.
    pub(super) fn event(&mut self, NoticeEvent { event, is_second_pool }: NoticeEvent) {
        let Some(account) = event.account.as_ref().map(|account| account.id.clone()) else { return };
        if event.kind == "account.ready" {
            self.called_second.remove(&account);
        }
        if is_second_pool && self.called_second.insert(account.clone()) {
            self.wait(NoticeKind::SecondPool, event.clone());
        }
        let is_switch = event.kind == "lease.moved"
            && event.from.as_ref().is_some_and(|from| from.id != account)
            // each request takes the next account: that is no news
            && event.reason.as_deref() != Some("turn");
        if is_switch {
            self.wait(NoticeKind::AccountSwitched, event);
        }
    }

    fn wait(&mut self, kind: NoticeKind, event: EventInfo) {
        let left_out = self.waiting.get(&kind).map_or(0, |(_, left_out)| left_out + 1);
        self.waiting.insert(kind, (event, left_out));
    }

    /// The state looks like this now.
    pub(super) fn look(&mut self, situation: Situation) {
        self.called_for_login.retain(|id| situation.need_login.contains_key(id));
        self.situation = situation;
    }

    /// The notices that are to be sent now.
    pub(super) fn due(&mut self, now: Now) -> Vec<NoticeDocument> {
        let mut due = Vec::new();
        for kind in [NoticeKind::AccountSwitched, NoticeKind::SecondPool] {
            if self.may_send(kind, now)
                && let Some((event, left_out)) = self.waiting.remove(&kind)
            {
                let notice = self.of_event(kind, event, left_out);
                due.push(notice);
            }
        }
        let need = self.unsaid_need().filter(|_| self.may_send(NoticeKind::LoginNeeded, now)).cloned();
        if let Some(need) = need {
            self.called_for_login.insert(need.account.id.clone());
            due.push(self.login_needed(need, now));
        }
        let limited = self.unsaid_limit().filter(|_| self.may_send(NoticeKind::AllLimited, now));
        if let Some((provider, first)) = limited.map(|(provider, first)| (provider.clone(), first.clone())) {
            self.called_limited.insert(provider.clone());
            due.push(self.all_limited(provider, first, now));
        }
        let free = self.unsaid_free().filter(|_| self.may_send(NoticeKind::FreeAgain, now)).cloned();
        if let Some(provider) = free {
            self.called_limited.remove(&provider);
            let text = format!("{provider} is free again");
            due.push(NoticeDocument { provider: Some(provider), ..notice(NoticeKind::FreeAgain, now.wall.0, text) });
        }
        self.last.extend(due.iter().map(|notice| (notice.kind, now.mono)));
        due
    }

    /// When the next notice may be due without a new event.
    pub(super) fn next(&self) -> Option<Mono> {
        let waits = |kind: &NoticeKind| match kind {
            NoticeKind::AccountSwitched | NoticeKind::SecondPool => self.waiting.contains_key(kind),
            NoticeKind::LoginNeeded => self.unsaid_need().is_some(),
            NoticeKind::AllLimited => self.unsaid_limit().is_some(),
            NoticeKind::FreeAgain => self.unsaid_free().is_some(),
        };
        self.last.iter().filter(|(kind, _)| waits(kind)).map(|(_, last)| last.after(INTERVAL)).min()
    }

    fn may_send(&self, kind: NoticeKind, now: Now) -> bool {
        self.last.get(&kind).is_none_or(|last| now.mono.since(*last) >= INTERVAL)
    }

    fn unsaid_need(&self) -> Option<&LoginNeed> {
        let mut needs = self.situation.need_login.iter();
        needs.find(|(id, _)| !self.called_for_login.contains(*id)).map(|(_, need)| need)
    }

    fn unsaid_limit(&self) -> Option<(&String, &FirstFree)> {
        self.situation.limited.iter().find(|(provider, _)| !self.called_limited.contains(*provider))
    }

    fn unsaid_free(&self) -> Option<&String> {
        self.called_limited.iter().find(|provider| !self.situation.limited.contains_key(*provider))
    }

    fn of_event(&mut self, kind: NoticeKind, event: EventInfo, left_out: u64) -> NoticeDocument {
        let to = event.account.as_ref().map(|account| self.name(account)).unwrap_or_default();
        let agent = event.agent.as_deref().map(|agent| format!("{agent}: ")).unwrap_or_default();
        let text = match (kind, &event.from) {
            (NoticeKind::AccountSwitched, Some(from)) => {
                let from = self.name(from);
                match (event.reason.as_deref(), event.until) {
                    (Some("requested"), _) => format!("{agent}moved from {from} to {to}"),
                    (_, Some(until)) => {
                        format!("{agent}{from} is limited until {}, now on {to}", (self.clock)(event.at, until))
                    }
                    (Some("overage"), None) => format!("{agent}the plan of {from} is used up, now on {to}"),
                    (reason, None) => {
                        let reason = reason.map(|reason| format!(" ({})", reason.replace('_', " ")));
                        format!("{agent}switched from {from} to {to}{}", reason.unwrap_or_default())
                    }
                }
            }
            _ => {
                let pool = event.pool.as_deref().map(|pool| format!(", {pool}")).unwrap_or_default();
                format!("{agent}{to} uses its second quota pool{pool}")
            }
        };
        let more = if left_out > 0 { format!(" (and {left_out} before)") } else { String::new() };
        NoticeDocument {
            provider: event.provider,
            account: event.account,
            from: event.from,
            until: event.until,
            reason: event.reason,
            pool: event.pool,
            model: event.model,
            agent: event.agent,
            left_out,
            ..notice(kind, event.at, text + &more)
        }
    }

    fn login_needed(&mut self, need: LoginNeed, now: Now) -> NoticeDocument {
        let name = self.name(&need.account);
        let what = match need.state {
            "needs_verification" => "must be confirmed with its provider",
            "cannot_renew" => "cannot be renewed",
            _ => "needs a new login",
        };
        let remedy = need.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        NoticeDocument {
            provider: Some(need.provider),
            account: Some(need.account),
            reason: Some(need.state.to_owned()),
            ..notice(NoticeKind::LoginNeeded, now.wall.0, format!("{name} {what}{remedy}"))
        }
    }

    fn all_limited(&mut self, provider: String, FirstFree { account, until }: FirstFree, now: Now) -> NoticeDocument {
        let until_text = until.map(|until| format!(" until {}", (self.clock)(now.wall.0, until))).unwrap_or_default();
        let first = account.as_ref().map(|account| self.name(account)).map(|name| format!("; first free: {name}"));
        let text = format!("every account of {provider} is limited{until_text}{}", first.unwrap_or_default());
        NoticeDocument { provider: Some(provider), account, until, ..notice(NoticeKind::AllLimited, now.wall.0, text) }
    }

    /// The name of an account: at the first time with its email address, so that the user learns which account the label
    /// means.
    fn name(&mut self, account: &AccountLabel) -> String {
        let is_first = self.named.insert(account.id.clone());
        match (&account.label, &account.email) {
            (Some(label), Some(email)) if is_first && label != email => format!("{label} ({email})"),
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => account.id.clone(),
        }
    }
}

fn notice(kind: NoticeKind, at: u64, text: String) -> NoticeDocument {
    NoticeDocument {
        kind,
        at,
        text,
        provider: None,
        account: None,
        from: None,
        until: None,
        reason: None,
        pool: None,
        model: None,
        agent: None,
        left_out: 0,
    }
}
