//! What `account.import` did, the document that `account.export` writes, and stored OAuth clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::{AccountLabel, LimitInfo};
use super::lease::SecretText;
use crate::pool::{CredentialKind, Tier};

/// The result of an import.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportInfo {
    /// One for each entry, in order.
    pub entries: Vec<ImportedEntry>,
}

/// The result for one entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportedEntry {
    /// `added`, `updated`, `same`, `linked` or `refused`.
    pub outcome: String,
    /// The account; none if the entry was refused, or with `dry_run` would be added.
    pub account: Option<AccountLabel>,
    /// The explanation, in one sentence.
    pub message: String,
}

/// All accounts with their state, in a form that `account.import` accepts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportInfo {
    /// The version of this document.
    pub lessor_export: u64,
    /// When it was created, epoch ms.
    pub exported_at: u64,
    /// The accounts.
    pub accounts: Vec<ExportedAccount>,
}

/// An account with its state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedAccount {
    /// Its id.
    pub id: String,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The provider's id of the account.
    pub account_id: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// The cloud project.
    pub project_id: Option<String>,
    /// Which agents may use it, if not the default.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: i32,
    /// Whether the user enables it.
    pub enabled: bool,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// Why the user must log in again.
    pub needs_login: Option<String>,
    /// What the user must verify with the provider.
    pub needs_verification: Option<String>,
    /// Its current limits.
    pub limits: Vec<LimitInfo>,
    /// Its known quota windows.
    pub usage: Vec<ExportedWindow>,
    /// When it was last leased, epoch ms.
    pub last_used_at: Option<u64>,
    /// The other tool that has the same login.
    pub link: Option<ExportedLink>,
    /// When this credential was stored, epoch ms.
    pub as_of: Option<u64>,
    /// Its credential, only if requested.
    pub credential: Option<ExportedCredential>,
    /// The provider's id of the person.
    pub person_id: Option<String>,
    /// The provider's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
    /// The part of its windows that is kept for requests that name it.
    #[serde(default)]
    pub reserve: f64,
    /// Whether it is used only while no other account can serve.
    #[serde(default)]
    pub fallback_only: bool,
}

/// A quota window of an exported account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedWindow {
    /// Its name.
    pub window: String,
    /// The quota key it belongs to; empty for the whole account.
    pub key: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was reported, epoch ms.
    pub as_of: u64,
}

/// The other tool that has an exported login.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedLink {
    /// The tool.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// The login's name within the file.
    pub item: String,
    /// Which side refreshes it: `link` (the tool), `take-over` (lessor), `share` (both) or `start-tool` (the tool, when
    /// lessor starts it).
    pub mode: String,
}

/// The credential of an exported account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedCredential {
    /// The key, the token, or the login's access token.
    pub access: SecretText<'static>,
    /// The login's refresh token.
    pub refresh: Option<SecretText<'static>>,
    /// When `access` expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The id of the OAuth client that made the login.
    pub client_id: Option<String>,
    /// The API that the login is for, if it is one for the provider's public API.
    pub resource: Option<String>,
    /// When it may be refreshed, epoch ms, if the server rejects an earlier refresh.
    pub refresh_from: Option<u64>,
}

/// A stored OAuth client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StoredClientInfo {
    /// Its name.
    pub name: String,
    /// Its provider; null if the configuration says which, by naming the client.
    pub provider: Option<String>,
    /// Its id; null if the configuration says it.
    pub client_id: Option<String>,
    /// Whether a secret is stored; a public client has none.
    pub has_secret: bool,
    /// When it was stored, epoch ms.
    pub added_at: u64,
    /// The accounts whose logins are refreshed with it.
    pub used_by: Vec<AccountLabel>,
    /// The secret, only if requested.
    pub secret: Option<SecretText<'static>>,
}
