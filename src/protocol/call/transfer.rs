//! Parameters of `account.import` and `account.export`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, Tier};
use crate::protocol::answer::SecretText;

/// `account.import`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportAccountsParams {
    /// The logins and keys, imported in this order: later ones see the result of earlier ones.
    pub entries: Vec<ImportEntry>,
    /// The mode for logins with rotating refresh tokens: `link`, `take-over`, `share` or `start-tool` [default: as the
    /// entry says, else `link`].
    pub mode: Option<String>,
    /// Reports what would happen, without changes.
    #[serde(default)]
    pub dry_run: bool,
    /// With a shared pool: new accounts are this host's own, and not shared.
    #[serde(default)]
    pub own: bool,
}

/// One login or key of another tool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    /// The stable name of the tool.
    pub tool: String,
    /// Its name within the tool's file.
    #[serde(default)]
    pub item: String,
    /// The tool's file, if the tool still writes it.
    pub file: Option<String>,
    /// Whether each refresh invalidates the previous refresh token.
    #[serde(default)]
    pub rotates: bool,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token; empty if only the login's refresh token is known.
    pub secret: SecretText<'static>,
    /// The login's refresh token.
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The provider's id of the account.
    pub account_id: Option<String>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// Limits that have not ended.
    #[serde(default)]
    pub limits: Vec<ImportLimit>,
    /// Its known quota windows.
    #[serde(default)]
    pub usage: Vec<ImportWindow>,
    /// When it was last used, epoch ms.
    pub last_used_at: Option<u64>,
    /// Why the tool has disabled it, if it has.
    pub disabled: Option<String>,
    /// What the owner must verify with the provider, and where.
    pub verification: Option<String>,
    /// Why its login is invalid, if that is known.
    pub login_ended: Option<String>,
    /// Which agents may use it.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// When this state was saved, epoch ms.
    pub as_of: Option<u64>,
    /// Which side refreshes it, if already known: `link`, `take-over`, `share` or `start-tool`; the call's `mode`
    /// overrides it.
    pub mode: Option<String>,
    /// The id of the OAuth client that made the login.
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
    /// The part of its windows that is kept for requests that name it.
    #[serde(default)]
    pub reserve: f64,
    /// Whether it is used only while no other account can serve.
    #[serde(default)]
    pub fallback_only: bool,
}

/// A limit that another tool recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportLimit {
    /// How far it reaches: `model`, `pool` or `account`.
    pub scope: Scope,
    /// The quota key, or the model; empty for the account.
    #[serde(default)]
    pub key: String,
    /// Why.
    pub reason: Reason,
    /// When it ends, epoch ms.
    pub until: u64,
}

/// A quota window that another tool recorded.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportWindow {
    /// Its name.
    pub window: String,
    /// The quota key it belongs to; empty for the whole account.
    #[serde(default)]
    pub key: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was reported, epoch ms.
    pub as_of: u64,
}

/// `account.export`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportAccountsParams {
    /// Whether to include keys and tokens, also refresh tokens.
    pub secrets: bool,
}
