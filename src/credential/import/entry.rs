//! One login or key of another tool.

use crate::credential::{Credential, LinkMode, Secret};
use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, Tier, Wall, Window};

use super::Tool;

/// One login or key, and all that its tool knows of it.
#[derive(PartialEq, Debug)]
pub struct Entry {
    /// Whose it is.
    pub tool: Tool,
    /// What names it within its file, also after the file was written anew.
    pub item: String,
    /// The upstream.
    pub provider: String,
    /// What authenticates.
    pub credential: Credential,
    /// Whether each refresh ends the refresh token before it: a copy would then be a race.
    pub rotates: bool,
    /// The login's address.
    pub email: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// The vendor's own id of the account.
    pub vendor_id: Option<String>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// Limits that are not over.
    pub limits: Vec<Limited>,
    /// What was known of its quota windows.
    pub usage: Vec<Window>,
    /// When it was last used.
    pub last_used_at: Option<Wall>,
    /// Turned off there, and why.
    pub disabled: Option<String>,
    /// The provider wants something confirmed: what, and where.
    pub verification: Option<String>,
    /// Its login is known to have ended, and why.
    pub login_ended: Option<String>,
    /// Which agents may hold it.
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Higher is preferred.
    pub priority: Option<i32>,
    /// The file its tool keeps it in, where there is one that can be followed.
    pub file: Option<String>,
    /// Who refreshes it, where that is known already; what the user says goes before.
    pub mode: Option<LinkMode>,
    /// When this state of the login was written down.
    pub as_of: Option<Wall>,
}

/// A limit that another tool has met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limited {
    /// How far it reaches: model, pool or account.
    pub scope: Scope,
    /// The quota key, or the model within it; empty for the account.
    pub key: String,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Wall,
}

impl Entry {
    /// An entry of which nothing is known but its credential.
    #[must_use]
    pub fn new(tool: Tool, item: String, provider: &str, credential: Credential) -> Self {
        Self {
            tool,
            item,
            provider: provider.to_owned(),
            credential,
            rotates: false,
            email: None,
            label: None,
            vendor_id: None,
            project_id: None,
            tier: Tier::Unknown,
            limits: Vec::new(),
            usage: Vec::new(),
            last_used_at: None,
            disabled: None,
            verification: None,
            login_ended: None,
            allowed_agents: None,
            max_leases: None,
            priority: None,
            file: None,
            mode: None,
            as_of: None,
        }
    }
}

/// A key.
pub(super) fn key(secret: Secret) -> Credential {
    Credential { kind: CredentialKind::ApiKey, access: secret, refresh: None, expires_at: None }
}

/// A login. Without an access token it has one that has ended: the next refresh makes one.
pub(super) fn login(access: Option<Secret>, refresh: Option<Secret>, expires_at: Option<Wall>) -> Option<Credential> {
    let (access, expires_at) = match (access, &refresh) {
        (Some(access), _) => (access, expires_at),
        (None, Some(_)) => (Secret::new(String::new()), Some(Wall(0))),
        (None, None) => return None,
    };
    Some(Credential { kind: CredentialKind::Oauth, access, refresh, expires_at })
}
