//! The durable facts of an account, and changes to them.

use crate::pool::model::{
    AccountId, AccountIdentity, AccountOwner, AccountSettings, AttestPolicy, CredentialKind, LoginState, PoolSettings,
    Tier, Wall,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The durable facts of an account: what the store keeps beside the sealed credential.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its stable id.
    pub id: AccountId,
    /// The upstream it belongs to.
    pub provider: String,
    /// The user's name for it; unique among all accounts.
    pub label: Option<String>,
    /// The login's address.
    pub email: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// Whether the login works.
    pub login_state: LoginState,
    /// Whether the user wants it used.
    pub enabled: bool,
    /// Why it is disabled, in the user's words.
    pub disabled_reason: Option<String>,
    /// Its own capacity; else the configured one.
    pub max_leases: Option<u32>,
    /// Higher is preferred among equally loaded accounts.
    pub priority: i32,
    /// Which agents may hold it; `None` means the default of its kind.
    pub allowed_agents: Option<Vec<String>>,
    /// The part of its windows that is kept for requests that name it, 0 to 1.
    #[serde(default)]
    pub reserve: f64,
    /// Whether it is used only while no other account can serve.
    #[serde(default)]
    pub fallback_only: bool,
    /// The cloud project that requests are billed to.
    pub project_id: Option<String>,
    /// Who it belongs to at the provider.
    #[serde(default)]
    pub owner: AccountOwner,
    /// When it was added.
    pub created_at: Wall,
    /// When it was last leased.
    pub last_used_at: Option<Wall>,
}

/// A change of an account's record; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AccountChange {
    /// The user's name for it; empty removes it.
    pub label: Option<String>,
    /// The login's address; empty removes it.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project; empty removes it.
    pub project_id: Option<String>,
    /// Capacity; 0 removes it.
    pub max_leases: Option<u32>,
    /// Preference.
    pub priority: Option<i32>,
    /// Agents; empty restores the default of its kind.
    pub allowed_agents: Option<Vec<String>>,
    /// The part of its windows that is kept for requests that name it.
    pub reserve: Option<f64>,
    /// Whether it is used only while no other account can serve.
    pub fallback_only: Option<bool>,
    /// Whether it is enabled, and why not.
    pub enabled: Option<(bool, Option<String>)>,
    /// Whether the login works.
    pub login_state: Option<LoginState>,
    /// Who it belongs to at the provider.
    pub owner: Option<AccountOwner>,
}

/// What the settings and the record of an account together allow.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EffectivePolicy {
    pub(crate) enabled: bool,
    pub(crate) capacity: u32,
    pub(crate) priority: i32,
    /// Shared by accounts of the same policy, so that a scan compares it once.
    pub(crate) allowed_agents: Option<Arc<[String]>>,
    pub(crate) attest: AttestPolicy,
    /// The part of its windows that is kept for requests that name it.
    pub(crate) reserve: f64,
    pub(crate) fallback_only: bool,
    /// The sets of directories that it is in, by their index in the settings.
    pub(crate) directories: Box<[usize]>,
}

impl AccountRecord {
    /// An enabled account whose login works, with nothing else known.
    #[must_use]
    pub fn new(id: AccountId, provider: impl Into<String>, kind: CredentialKind, created_at: Wall) -> Self {
        Self {
            id,
            provider: provider.into(),
            label: None,
            email: None,
            tier: Tier::Unknown,
            kind,
            login_state: LoginState::Ready,
            enabled: true,
            disabled_reason: None,
            max_leases: None,
            priority: 0,
            allowed_agents: None,
            reserve: 0.0,
            fallback_only: false,
            project_id: None,
            owner: AccountOwner::default(),
            created_at,
            last_used_at: None,
        }
    }

    /// The name a person knows it by: label, else email, else id.
    pub fn display_name(&self) -> String {
        self.label.clone().or_else(|| self.email.clone()).unwrap_or_else(|| self.id.to_string())
    }

    /// Who its login belongs to; `None` if it is no login.
    #[must_use]
    pub fn login_identity(&self) -> Option<AccountIdentity<'_>> {
        let is_login = self.kind == CredentialKind::Oauth;
        is_login.then(|| self.owner.identity(&self.provider, self.email.as_deref()))
    }

    /// Whether `reference` is its id, label or email, exactly.
    pub fn is_named(&self, reference: &str) -> bool {
        self.label.as_deref() == Some(reference)
            || self.email.as_deref() == Some(reference)
            || reference.parse() == Ok(self.id)
    }

    /// Its section in the settings.
    pub(crate) fn configured<'s>(&self, settings: &'s PoolSettings) -> Option<&'s AccountSettings> {
        let id = self.id.to_string();
        let names = [self.label.as_deref(), self.email.as_deref(), Some(id.as_str())];
        let sections = &settings.accounts;
        let at = |name: &str| sections.binary_search_by(|section| section.name.as_str().cmp(name)).ok();
        sections.get(names.into_iter().flatten().filter_map(at).min()?)
    }

    pub(crate) fn policy(&self, settings: &PoolSettings) -> EffectivePolicy {
        let (leases, configured) = (&settings.leases, self.configured(settings));
        let sets = settings.directories.iter().enumerate();
        let is_in = |accounts: &[String]| accounts.iter().any(|name| self.is_named(name));
        let max_leases = configured.and_then(|c| c.max_leases).or(self.max_leases);
        EffectivePolicy {
            enabled: self.enabled && configured.and_then(|c| c.enabled).unwrap_or(true),
            capacity: max_leases.unwrap_or(leases.per_account).clamp(1, leases.max_per_account.max(1)),
            priority: configured.and_then(|c| c.priority).unwrap_or(self.priority),
            allowed_agents: configured
                .and_then(|c| c.allowed_agents.clone())
                .or_else(|| self.allowed_agents.clone())
                .filter(|agents| !agents.iter().any(|agent| agent == "any"))
                .map(Arc::from),
            attest: configured.and_then(|c| c.attest).unwrap_or_default(),
            reserve: configured.and_then(|c| c.reserve).unwrap_or(self.reserve).clamp(0.0, 1.0),
            fallback_only: configured.and_then(|c| c.fallback_only).unwrap_or(self.fallback_only),
            directories: sets.filter(|(_, set)| is_in(&set.accounts)).map(|(at, _)| at).collect(),
        }
    }

    pub(crate) fn apply(&mut self, change: AccountChange) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        set(&mut self.label, change.label.map(text));
        set(&mut self.email, change.email.map(text));
        set(&mut self.project_id, change.project_id.map(text));
        set(&mut self.owner, change.owner);
        set(&mut self.tier, change.tier);
        set(&mut self.max_leases, change.max_leases.map(|most| Some(most).filter(|most| *most > 0)));
        set(&mut self.priority, change.priority);
        set(&mut self.allowed_agents, change.allowed_agents.map(|agents| Some(agents).filter(|a| !a.is_empty())));
        set(&mut self.reserve, change.reserve);
        set(&mut self.fallback_only, change.fallback_only);
        set(&mut self.login_state, change.login_state);
        if let Some((enabled, reason)) = change.enabled {
            (self.enabled, self.disabled_reason) = (enabled, reason);
        }
    }
}
