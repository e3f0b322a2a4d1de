//! What is known of an account, without its secret.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::Scope;

use super::health::{Bucket, Health};
use super::id::{AccountId, Fence};
use super::limit::Limit;
use super::settings::{AccountSettings, HealthSettings, LeaseSettings, TokenSettings};
use super::time::{Mono, Past, Wall};
use super::usage::Usage;

/// How an account authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// Access and refresh token of a login.
    Oauth,
    /// A key that does not expire.
    ApiKey,
    /// A long-lived token without refresh.
    Token,
}

/// The plan of an account, best first.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The largest plan.
    Ultra,
    /// A paid plan.
    Pro,
    /// No payment.
    Free,
    /// Not told yet.
    #[default]
    Unknown,
}

/// Whether the login itself works, regardless of limits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginState {
    /// The account can be leased.
    #[default]
    Ready,
    /// The user must log in again.
    NeedsLogin(LoginProblem),
    /// The user must confirm something with the provider.
    NeedsVerification(Verification),
}

/// Why the user must log in again. Whether an ended access token can be refreshed is not part of it: that depends on
/// the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginProblem {
    /// The access token has ended.
    AccessTokenEnded,
    /// The token endpoint rejected the refresh token.
    RefreshRejected {
        /// The OAuth error code, such as `invalid_grant`.
        code: String,
        /// When an earlier refresh was sent whose answer was lost: the server may have replaced the token then.
        answer_lost_at: Option<Wall>,
    },
    /// The provider's API rejected the credential.
    RejectedByProvider {
        /// A page of the provider where the user can act.
        link: Option<String>,
    },
    /// In the words of the tool that the account was imported from, or of an earlier version of lessor.
    Described(String),
}

/// What the user must confirm with the provider.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verification {
    /// The words of the tool that the account was imported from, or of an earlier version of lessor.
    pub text: Option<String>,
    /// The page where the user confirms it.
    pub link: Option<String>,
}

impl Verification {
    /// A confirmation on this page of the provider.
    #[must_use]
    pub fn at(link: Option<&str>) -> Self {
        Self { text: None, link: link.map(str::to_owned) }
    }

    /// A confirmation described in words, which may contain the link.
    #[must_use]
    pub fn described(text: String) -> Self {
        Self { link: link_in(&text), text: Some(text) }
    }
}

impl LoginState {
    /// The page where the user can act, if it is known.
    #[must_use]
    pub fn link(&self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::NeedsLogin(LoginProblem::AccessTokenEnded | LoginProblem::RefreshRejected { .. }) => None,
            Self::NeedsLogin(LoginProblem::RejectedByProvider { link }) => link.clone(),
            Self::NeedsLogin(LoginProblem::Described(text)) => link_in(text),
            Self::NeedsVerification(verification) => verification.link.clone(),
        }
    }
}

/// The first `https` link in a text.
fn link_in(text: &str) -> Option<String> {
    let start = text.find("https://")?;
    let link = text[start..].split_whitespace().next()?;
    Some(link.trim_end_matches(['.', ',', ')', ';']).to_owned())
}

/// The durable facts of an account: what the store keeps beside the sealed credential.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// The cloud project requests are billed to.
    pub project_id: Option<String>,
    /// The vendor's own id of the account.
    pub vendor_id: Option<String>,
    /// When it was added.
    pub created_at: Wall,
    /// When it was last leased.
    pub last_used_at: Option<Wall>,
}

/// An account in the pool: its record, and what changes while it serves.
#[derive(Debug)]
pub struct Account {
    /// The durable facts.
    pub record: AccountRecord,
    /// What configuration and record together allow.
    pub(super) policy: EffectivePolicy,
    /// Its token cannot be handed out, and nothing is granted on it meanwhile.
    pub(super) renewing: Option<Renewing>,
    /// Live leases.
    pub(super) leases: u32,
    /// Whether one of them is alone by right.
    pub(super) exclusive: bool,
    /// Leases it may carry beyond its bound, because the bound was lowered under them.
    pub(super) tolerated: u32,
    /// Live limits, at most one per scope and key.
    pub(super) limits: Vec<Limit>,
    /// How well it has done lately.
    pub(super) health: Health,
    /// How much of its allowance of attempts is left.
    pub(super) bucket: Bucket,
    /// What is known of its quota windows.
    pub(super) usage: Usage,
    /// When it was last granted in this run or, from the record, before.
    pub(super) last_used: Option<Past>,
    /// The newest fence granted on it in this run.
    pub(super) newest_fence: Option<Fence>,
    /// Whether leases from before this run may come back: until one is granted anew.
    pub(super) resumable: bool,
    /// Quota failures in a row, for the back-off ladder.
    pub(super) quota_failures: u32,
    /// When the last limit by the ladder ends.
    pub(super) quota_until: Mono,
    /// What was refused lately, so that one event reported by many counts once.
    pub(super) refused: Vec<Refused>,
}

/// An account whose token is being renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewing {
    /// When it can be different, where that is known.
    pub until: Option<Mono>,
}

/// A refusal that was counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    /// Of which model, pool or account.
    pub(super) scope: Scope,
    /// As in the limit.
    pub(super) key: String,
    /// When.
    pub(super) at: Mono,
    /// Whose report it was.
    pub(super) fence: Fence,
    /// Whether its holder was told to try again.
    pub(super) retried: bool,
    /// Failures in a row: the retry counter.
    pub(super) failures: u32,
}

/// What holds for an account after configuration and record are combined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct EffectivePolicy {
    pub(super) enabled: bool,
    pub(super) capacity: u32,
    pub(super) priority: i32,
    /// Shared by accounts of the same policy, so that it is compared once.
    pub(super) allowed_agents: Option<Arc<[String]>>,
}

impl Account {
    /// How many leases it carries.
    #[must_use]
    pub fn leases(&self) -> u32 {
        self.leases
    }

    /// How many leases it takes before others are shared or waited for.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.policy.capacity
    }

    /// Whether user and configuration both want it used.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.policy.enabled
    }

    /// Higher is preferred among equally loaded accounts.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.policy.priority
    }

    /// Which agents may hold it; `None` means anybody.
    #[must_use]
    pub fn allowed_agents(&self) -> Option<&[String]> {
        self.policy.allowed_agents.as_deref()
    }

    /// Whether its token is being renewed, and nothing is granted on it meanwhile.
    #[must_use]
    pub fn renewing(&self) -> Option<Renewing> {
        self.renewing
    }

    /// What it may not be used for, and until when.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// How well it has done lately, in points.
    #[must_use]
    pub fn health(&self, settings: &HealthSettings, now: Mono) -> f64 {
        self.health.score(settings, now)
    }

    /// What is left of its allowance of attempts.
    #[must_use]
    pub fn tokens(&self, settings: &TokenSettings, now: Mono) -> f64 {
        self.bucket.tokens(settings, now)
    }

    /// What is known of its quota windows.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether the user wants it used and its login works.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.policy.enabled && self.record.login_state == LoginState::Ready && self.renewing.is_none()
    }

    /// The name a person knows it by: label, else email, else id.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.record.display_name()
    }

    /// Whether an agent of this name may hold it; no name gets no restricted account.
    #[must_use]
    pub fn allows(&self, agent: Option<&str>) -> bool {
        let Some(allowed_agents) = &self.policy.allowed_agents else { return true };
        allowed_agents.iter().any(|allowed| Some(allowed.as_str()) == agent)
    }
}

impl AccountRecord {
    /// The name a person knows it by: label, else email, else id.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.label.clone().or_else(|| self.email.clone()).unwrap_or_else(|| self.id.to_string())
    }

    /// Whether `reference` names this account: its id, label or email, exactly.
    #[must_use]
    pub fn is_named(&self, reference: &str) -> bool {
        self.label.as_deref() == Some(reference)
            || self.email.as_deref() == Some(reference)
            || reference.parse() == Ok(self.id)
    }

    pub(super) fn policy(&self, leases: &LeaseSettings, configured: Option<&AccountSettings>) -> EffectivePolicy {
        let max_leases = configured.and_then(|c| c.max_leases).or(self.max_leases);
        EffectivePolicy {
            enabled: self.enabled && configured.and_then(|c| c.enabled).unwrap_or(true),
            capacity: max_leases.unwrap_or(leases.per_account).clamp(1, leases.max_per_account.max(1)),
            priority: configured.and_then(|c| c.priority).unwrap_or(self.priority),
            allowed_agents: configured
                .and_then(|c| c.allowed_agents.clone())
                .or_else(|| self.allowed_agents.clone())
                .filter(|allowed_agents| !allowed_agents.iter().any(|one| one == "any"))
                .map(Arc::from),
        }
    }
}
