//! What a lease is for, and which quotas of an account can serve it.

use super::credential::CredentialKind;
use super::glob;
use super::settings::{Fallback, Protect, QuotaSettings};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The quota key of requests that take from no quota.
const NO_QUOTA: &str = "no-quota";

/// What a lease is for, resolved by the provider's table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The upstream.
    pub provider: Arc<str>,
    /// Models that share a quota and a current account.
    pub family: Arc<str>,
    /// The quota key.
    pub key: Arc<str>,
    /// The quota pool, where the provider has several.
    pub pool: Option<Arc<str>>,
    /// The model, as the upstream names it.
    pub model: Option<Arc<str>>,
    /// Other names, where the upstream has several names for a model, or two quota pools.
    pub names: Option<Arc<TargetNames>>,
}

/// The other names of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct TargetNames {
    /// The name that the model's limits use, where it differs.
    pub billed: Option<Box<str>>,
    /// The model's name for accounts with an API key, where it differs: they have one quota.
    pub plain: Option<Box<str>>,
    /// The same request in the account's other quota pool, where the provider has two and the caller chose none.
    pub other: Option<OtherQuota>,
}

/// A request in another quota of the same account.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OtherQuota {
    /// The quota key.
    pub key: Box<str>,
    /// The quota pool.
    pub pool: Box<str>,
    /// The model, as it is named there.
    pub model: Option<Arc<str>>,
    /// Whether this is the request's first pool, and the lease is on its second one.
    pub first: bool,
}

/// A quota of an account, to which limits and windows apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota<'a> {
    /// The quota key.
    pub key: &'a str,
    /// The model's name.
    pub model: Option<&'a str>,
    /// The name that its limits use.
    pub billed: Option<&'a str>,
}

impl Target {
    /// The same for a request that takes from no quota.
    #[must_use]
    pub fn without_quota(self) -> Self {
        Self { key: NO_QUOTA.into(), pool: None, model: None, names: None, ..self }
    }

    /// Whether its requests take from a quota.
    pub(crate) fn uses_quota(&self) -> bool {
        &*self.key != NO_QUOTA
    }

    /// The quota it uses.
    pub fn quota(&self) -> Quota<'_> {
        Quota { key: &self.key, model: self.model.as_deref(), billed: self.billed() }
    }

    /// The model, as an account of this kind names it.
    pub fn model_for(&self, kind: CredentialKind) -> Option<&str> {
        let plain = self.names.as_deref().and_then(|names| names.plain.as_deref());
        plain.filter(|_| kind == CredentialKind::ApiKey).or(self.model.as_deref())
    }

    /// The same request in its other quota pool, if it has one.
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

    /// The request as it was made, whichever pool serves it.
    #[must_use]
    pub fn as_asked(&self) -> Self {
        self.is_other_pool().then(|| self.other_pool()).flatten().unwrap_or_else(|| self.clone())
    }

    /// Whether it is in the request's second pool.
    pub fn is_other_pool(&self) -> bool {
        self.other().is_some_and(|other| other.first)
    }

    /// Whether both come from the same request.
    pub(crate) fn is_same_request(&self, other: &Self) -> bool {
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
    /// The name that the model's limits use.
    pub fn limited_as(&self) -> Option<&str> {
        self.billed.or(self.model)
    }

    /// Whether a limit or window with this key applies to the quota: a quota key, or one followed by a colon and a pattern
    /// of models.
    pub fn is_under(&self, key: &str) -> bool {
        // compared in pieces, so that selection allocates nothing
        let Some(rest) = key.strip_prefix(self.key) else { return key.is_empty() };
        match rest.strip_prefix(':') {
            Some(pattern) => self.matches(pattern),
            None => rest.is_empty(),
        }
    }

    pub(crate) fn matches(&self, pattern: &str) -> bool {
        let names = [self.model, self.billed];
        names.into_iter().flatten().any(|name| glob::matches(pattern, name))
    }
}

/// A quota that may serve a request, and how much of it is reserved from the request's model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaChoice<'a> {
    pub(crate) quota: Quota<'a>,
    /// A fraction; 0 for no reserve.
    pub(crate) reserve: f64,
}

/// The quotas of an account that may serve a request, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaChoices<'a> {
    pub(crate) first: QuotaChoice<'a>,
    pub(crate) second: Option<QuotaChoice<'a>>,
    /// These are the request's second pools: only accounts with pools have them.
    pub(crate) pools_only: bool,
}

impl<'a> QuotaChoices<'a> {
    pub(crate) fn only(choice: QuotaChoice<'a>) -> Self {
        Self { first: choice, second: None, pools_only: false }
    }

    /// The same, with at least this part of each quota reserved.
    pub(crate) fn reserving(mut self, reserve: f64) -> Self {
        self.first.reserve = self.first.reserve.max(reserve);
        if let Some(second) = &mut self.second {
            second.reserve = second.reserve.max(reserve);
        }
        self
    }
}

impl Target {
    fn second(&self, settings: &QuotaSettings) -> Option<&OtherQuota> {
        self.other().filter(|_| settings.fallback != Fallback::Off)
    }

    /// Whether the other pool may serve it as well.
    pub(crate) fn has_two_quotas(&self, settings: &QuotaSettings) -> bool {
        self.second(settings).is_some()
    }

    /// Every quota that may serve this target: its own, and the other pool where falling back is allowed.
    #[inline]
    pub(crate) fn quotas<'t>(&'t self, settings: &QuotaSettings) -> QuotaChoices<'t> {
        let other = self.second(settings);
        let quota_of =
            |other: &'t OtherQuota| Quota { key: &other.key, model: other.model.as_deref(), billed: self.billed() };
        QuotaChoices {
            first: QuotaChoice::of(self.quota(), &settings.protect),
            second: other.map(|other| QuotaChoice::of(quota_of(other), &settings.protect)),
            pools_only: false,
        }
    }
}

impl<'t> QuotaChoice<'t> {
    fn of(quota: Quota<'t>, protect: &[Protect]) -> Self {
        let matching = |entry: &&Protect| entry.models.iter().any(|pattern| quota.matches(pattern));
        let reserve = protect.iter().filter(matching).map(|entry| entry.below).fold(0.0, f64::max);
        Self { quota, reserve }
    }
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
    fn a_target_in_the_other_pool_still_knows_the_original_request() {
        let asked = target();
        let turned = asked.other_pool().unwrap();
        assert_eq!((&*turned.key, turned.model.as_deref()), ("gemini-cli", Some("gemini-3-pro-preview")));
        assert_eq!(turned.as_asked(), asked);
        assert_eq!(asked.as_asked(), asked);
        assert!(turned.is_same_request(&asked) && asked.is_same_request(&turned));
        let pinned = Target { names: None, ..asked.clone() };
        assert!(!pinned.is_same_request(&asked) && pinned.other_pool().is_none());
    }

    #[test]
    fn a_key_applies_to_its_quota_and_to_the_models_it_matches() {
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
