//! Parameters of the calls about accounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::{CredentialKind, Tier};
use crate::protocol::answer::SecretText;

/// `account.list`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListAccountsParams {
    /// Of this upstream only.
    pub provider: Option<String>,
}

/// `account.add`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAccountParams {
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token.
    pub secret: SecretText<'static>,
    /// The login's refresh token.
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// Which agents may use it.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The provider's id of the account: at OpenAI that of the workspace, else that of the person.
    pub account_id: Option<String>,
    /// The id of the OAuth client that made the login [default: the one that its token names, else the provider's].
    pub client_id: Option<String>,
    /// The provider's id of the person.
    pub person_id: Option<String>,
    /// The provider's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
    /// The API that the login is for, if it is one for the provider's public API; it needs a `client_id` of its own.
    pub resource: Option<String>,
    /// When it may be refreshed, epoch ms, if the server rejects an earlier refresh.
    pub refresh_from: Option<u64>,
    /// With a shared pool: a new account is this host's own, and not shared.
    #[serde(default)]
    pub own: bool,
}

/// An account by id, unique prefix of an id, email or label.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRef {
    /// The account.
    pub account: String,
}

/// `account.verify`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyAccountParams {
    /// The account.
    pub account: String,
    /// Whether the owner confirms it; the provider is not queried then.
    #[serde(default)]
    pub confirmed: bool,
}

/// `account.set`; omitted fields do not change.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAccountParams {
    /// The account.
    pub account: String,
    /// The label; empty removes it.
    pub label: Option<String>,
    /// The email address of the login; empty removes it.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project; empty removes it.
    pub project_id: Option<String>,
    /// Its own capacity; 0 removes it.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// Which agents may use it; empty restores the default.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// A new key or token in place of the account's; the account keeps its id, settings and limits.
    pub secret: Option<SecretText<'static>>,
    /// What the new secret is, `api_key` or `token`; must be what the account has [default: that].
    pub kind: Option<CredentialKind>,
    /// The OAuth client that made the account's login, by its id or its name in the configuration; empty for the
    /// provider's default.
    pub client_id: Option<String>,
    /// When the new secret expires, epoch ms [default: it does not].
    pub expires_at: Option<u64>,
    /// The part of its windows that is kept for requests that name it, 0 to 1.
    pub reserve: Option<f64>,
    /// Whether it is used only while no other account can serve.
    pub fallback_only: Option<bool>,
}

/// `account.disable`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableAccountParams {
    /// The account.
    pub account: String,
    /// The reason, for people.
    pub reason: Option<String>,
}
