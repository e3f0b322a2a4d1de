//! What a lease is wanted for, and the quotas of an account that can serve it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Pool;
use super::account::CredentialKind;
use super::glob;
use super::settings::{Fallback, Protect};

/// What a lease is wanted for, resolved by the provider's table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The upstream.
    pub provider: Arc<str>,
    /// Models that share a quota; the place of the current account.
    pub family: Arc<str>,
    /// What a limit is filed under.
    pub key: Arc<str>,
    /// One of several quotas of an account, where the provider has them.
    pub pool: Option<Arc<str>>,
    /// The model, as the upstream names it.
    pub model: Option<Box<str>>,
    /// What an upstream with several names for a model, or with two quotas, needs beside these.
    pub names: Option<Arc<TargetNames>>,
}

/// The other names of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct TargetNames {
    /// The name the model's limits are filed under, where that is another one.
    pub billed: Option<Box<str>>,
    /// The model's name for accounts without pools, where that is another one: those with a key.
    pub plain: Option<Box<str>>,
    /// The same request in the account's other quota, where the provider has two and the caller pinned none.
    pub other: Option<OtherQuota>,
}

/// A request in another quota of the same account.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OtherQuota {
    /// What a limit is filed under.
    pub key: Box<str>,
    /// Which quota.
    pub pool: Box<str>,
    /// The model, as it is named there.
    pub model: Option<Box<str>>,
    /// Whether the request started here, and is leased on its second quota.
    pub first: bool,
}

/// A quota of an account, as a limit or a window is held against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota<'a> {
    /// The quota key.
    pub key: &'a str,
    /// The model's name.
    pub model: Option<&'a str>,
    /// The name its limits are filed under.
    pub billed: Option<&'a str>,
}

impl Target {
    /// The quota it uses.
    #[must_use]
    pub fn quota(&self) -> Quota<'_> {
        Quota { key: &self.key, model: self.model.as_deref(), billed: self.billed() }
    }

    /// The model, as an account of this kind names it.
    #[must_use]
    pub fn model_for(&self, kind: CredentialKind) -> Option<&str> {
        let plain = self.names.as_deref().and_then(|names| names.plain.as_deref());
        plain.filter(|_| kind == CredentialKind::ApiKey).or(self.model.as_deref())
    }

    /// The same request on its other quota, if it has one.
    #[must_use]
    pub fn other_pool(&self) -> Option<Self> {
        let names = self.names.as_deref()?;
        let other = names.other.as_ref()?;
        let back = OtherQuota {
            key: (&*self.key).into(),
            pool: self.pool.as_deref().unwrap_or_default().into(),
            model: self.model.clone(),
            first: !other.first,
        };
        Some(Self {
            provider: self.provider.clone(),
            family: self.family.clone(),
            key: (&*other.key).into(),
            pool: Some((&*other.pool).into()),
            model: other.model.clone(),
            names: Some(Arc::new(TargetNames { other: Some(back), ..names.clone() })),
        })
    }

    /// The request as it was made, whichever quota serves it.
    #[must_use]
    pub fn as_asked(&self) -> Self {
        self.is_other_pool().then(|| self.other_pool()).flatten().unwrap_or_else(|| self.clone())
    }

    /// Whether it is on the request's second quota.
    #[must_use]
    pub fn is_other_pool(&self) -> bool {
        self.other().is_some_and(|other| other.first)
    }

    /// Whether both came of the same request.
    pub(super) fn asks_like(&self, other: &Self) -> bool {
        if self.is_other_pool() || other.is_other_pool() { self.as_asked() == other.as_asked() } else { self == other }
    }

    fn billed(&self) -> Option<&str> {
        self.names.as_deref()?.billed.as_deref()
    }

    fn other(&self) -> Option<&OtherQuota> {
        self.names.as_deref()?.other.as_ref()
    }
}

impl Quota<'_> {
    /// The name the model's limits are filed under.
    #[must_use]
    pub fn limited_as(&self) -> Option<&str> {
        self.billed.or(self.model)
    }

    /// Whether what is filed under `key` counts for this quota: a key, or a key and a pattern of models behind a colon.
    #[must_use]
    pub fn is_under(&self, key: &str) -> bool {
        // compared in pieces, so that choosing allocates nothing
        let Some(rest) = key.strip_prefix(self.key) else { return key.is_empty() };
        match rest.strip_prefix(':') {
            Some(pattern) => self.named_by(pattern),
            None => rest.is_empty(),
        }
    }

    /// Whether a pattern names the model.
    pub(super) fn named_by(&self, pattern: &str) -> bool {
        let names = [self.model, self.billed];
        names.into_iter().flatten().any(|name| glob::matches(pattern, name))
    }
}

/// A quota that may serve a request, and how much of it is kept back from the request's model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane<'a> {
    pub(super) quota: Quota<'a>,
    /// Fraction; 0 for nothing.
    pub(super) reserve: f64,
}

/// The quotas of an account that may serve a request, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes<'a> {
    pub(super) first: Lane<'a>,
    pub(super) second: Option<Lane<'a>>,
    /// These are the request's second ones: only an account with pools has them.
    pub(super) pools_only: bool,
}

impl<'a> Lanes<'a> {
    /// Only this one.
    pub(super) fn only(lane: Lane<'a>) -> Self {
        Self { first: lane, second: None, pools_only: false }
    }
}

impl Pool {
    /// Every quota that may serve `target`: its own, and the other one where falling back is allowed.
    #[inline]
    pub(super) fn lanes<'t>(&self, target: &'t Target) -> Lanes<'t> {
        let settings = &self.settings.quota;
        let other = target.other().filter(|_| settings.fallback != Fallback::Off);
        let quota_of =
            |route: &'t OtherQuota| Quota { key: &route.key, model: route.model.as_deref(), billed: target.billed() };
        Lanes {
            first: lane(&settings.protect, target.quota()),
            second: other.map(|other| lane(&settings.protect, quota_of(other))),
            pools_only: false,
        }
    }
}

fn lane<'t>(protect: &[Protect], quota: Quota<'t>) -> Lane<'t> {
    let named = |entry: &&Protect| entry.models.iter().any(|pattern| quota.named_by(pattern));
    let reserve = protect.iter().filter(named).map(|entry| entry.below).fold(0.0, f64::max);
    Lane { quota, reserve }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            provider: "google".into(),
            family: "gemini".into(),
            key: "gemini-antigravity".into(),
            pool: Some("antigravity".into()),
            model: Some("gemini-3-pro-low".into()),
            names: Some(Arc::new(TargetNames {
                billed: Some("gemini-3-pro".into()),
                plain: None,
                other: Some(OtherQuota {
                    key: "gemini-cli".into(),
                    pool: "gemini-cli".into(),
                    model: Some("gemini-3-pro-preview".into()),
                    first: false,
                }),
            })),
        }
    }

    #[test]
    fn a_target_turns_and_remembers_where_it_began() {
        let asked = target();
        let turned = asked.other_pool().unwrap();
        assert_eq!((&*turned.key, turned.model.as_deref()), ("gemini-cli", Some("gemini-3-pro-preview")));
        assert_eq!(turned.as_asked(), asked);
        assert_eq!(asked.as_asked(), asked);
        assert!(turned.asks_like(&asked) && asked.asks_like(&turned));
        let pinned = Target { names: None, ..asked.clone() };
        assert!(!pinned.asks_like(&asked) && pinned.other_pool().is_none());
    }

    #[test]
    fn keys_name_quotas_and_models() {
        let target = target();
        for (key, under) in [
            ("", true),
            ("gemini-antigravity", true),
            ("gemini-antigravity:gemini-3-pro", true),
            ("gemini-antigravity:gemini-3-pro-low", true),
            ("gemini-antigravity:*-pro*", true),
            ("gemini-antigravity:*flash*", false),
            ("gemini-antigravity:", false),
            ("gemini", false),
            ("gemini-antigravityx", false),
            ("gemini-cli", false),
        ] {
            assert_eq!(target.quota().is_under(key), under, "{key}");
        }
    }
}
