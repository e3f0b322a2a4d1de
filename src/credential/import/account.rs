//! One login or key of another tool.

use super::Tool;
use crate::credential::{Credential, LinkMode, Secret, claims::LoginClaims};
use crate::limits::{Reason, Scope};
use crate::pool::{AccountIdentity, AccountOwner, CredentialKind, Tier, Wall, Window};
use crate::provider::plan_tier;

/// One login or key, and everything that its tool knows about it.
#[derive(PartialEq, Debug)]
pub struct DiscoveredAccount {
    /// The tool.
    pub tool: Tool,
    /// Its name within the file, which stays the same when the file is rewritten.
    pub item: String,
    /// The provider.
    pub provider: String,
    /// The credential.
    pub credential: Credential,
    /// Whether each refresh invalidates the previous refresh token, so that two copies would break each other.
    pub rotates: bool,
    /// Whether it does not rotate, but only its tool can refresh it: lessor does not have its OAuth client.
    pub needs_its_tool: bool,
    /// The email address.
    pub email: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// Who it belongs to at the provider.
    pub owner: AccountOwner,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// Limits that have not ended.
    pub limits: Vec<DiscoveredLimit>,
    /// The known quota windows.
    pub usage: Vec<Window>,
    /// When it was last used.
    pub last_used_at: Option<Wall>,
    /// Why it is disabled in the tool, if it is.
    pub disabled: Option<String>,
    /// What the provider wants to be confirmed, with the link if known.
    pub verification: Option<String>,
    /// Why the login has ended, if it is known to have.
    pub login_ended: Option<String>,
    /// Which agents may hold it.
    pub allowed_agents: Option<Vec<String>>,
    /// Its capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// The part of its windows that is kept for requests that name it.
    pub reserve: f64,
    /// Whether it is used only while no other account can serve.
    pub fallback_only: bool,
    /// The file that contains the login, and that lessor can watch for its changes, if there is one.
    pub file: Option<String>,
    /// Who refreshes it, if the file says so; the user's choice overrides this.
    pub mode: Option<LinkMode>,
    /// Whether it was just made, in a directory of its own, to be the login of its account.
    pub is_new_login: bool,
    /// When this state of the login was written.
    pub as_of: Option<Wall>,
}

/// A limit that another tool met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveredLimit {
    /// The scope: model, pool or account.
    pub scope: Scope,
    /// The quota key, or a model within it; empty for the whole account.
    pub key: String,
    /// The reason.
    pub reason: Reason,
    /// When it ends.
    pub until: Wall,
}

impl DiscoveredAccount {
    /// An account of which only the credential is known.
    #[must_use]
    pub fn new(tool: Tool, item: String, provider: &str, credential: Credential) -> Self {
        Self {
            tool,
            item,
            provider: provider.to_owned(),
            credential,
            rotates: false,
            needs_its_tool: false,
            email: None,
            label: None,
            owner: AccountOwner::default(),
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
            reserve: 0.0,
            fallback_only: false,
            file: None,
            mode: None,
            is_new_login: false,
            as_of: None,
        }
    }

    /// Adds what the tokens say, where its file does not say it.
    pub(super) fn learn(&mut self, claims: LoginClaims) {
        self.email = self.email.take().or(claims.email);
        self.owner.learn(&AccountOwner {
            person: claims.person,
            organization: claims.organisation,
            organization_name: None,
        });
        self.credential.client_id = self.credential.client_id.take().or(claims.client_id);
        if self.tier == Tier::Unknown {
            self.tier = claims.plan.map_or(Tier::Unknown, |plan| plan_tier(&self.provider, &plan));
        }
    }

    /// Who it belongs to, as far as its tool says.
    #[must_use]
    pub fn identity(&self) -> AccountIdentity<'_> {
        self.owner.identity(&self.provider, self.email.as_deref())
    }
}

/// The credential of an API key.
pub(super) fn key(secret: Secret) -> Credential {
    Credential::new(CredentialKind::ApiKey, secret)
}

/// The credential of a login. Without an access token it counts as expired, so that the next refresh creates one.
pub(super) fn login(access: Option<Secret>, refresh: Option<Secret>, expires_at: Option<Wall>) -> Option<Credential> {
    let (access, expires_at) = match (access, &refresh) {
        (Some(access), _) => (access, expires_at),
        (None, Some(_)) => (Secret::new(String::new()), Some(Wall(0))),
        (None, None) => return None,
    };
    Some(Credential { refresh, expires_at, ..Credential::new(CredentialKind::Oauth, access) })
}
