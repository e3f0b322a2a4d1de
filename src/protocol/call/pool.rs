//! Parameters of the calls about the pool that several hosts share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::answer::SecretText;

/// `pool.init`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitPoolParams {
    /// The database, `postgres://USER@HOST:PORT/DATABASE?sslmode=…`, without a password.
    pub url: String,
    /// The password of the role, which may create roles; none if the server needs none.
    pub password: Option<SecretText<'static>>,
    /// A file with the certificate of the server's CA, if the system does not know it.
    pub root_certificate: Option<String>,
    /// What this host is called in the pool [default: the name of the machine].
    pub name: Option<String>,
    /// How many leases an account takes on all hosts together [default: as this host's configuration says].
    pub per_account: Option<u32>,
    /// How many it never exceeds, with `share` [default: as this host's configuration says].
    pub max_per_account: Option<u32>,
    /// `wait`, `fail` or `share` [default: as this host's configuration says].
    pub overflow: Option<String>,
}

/// `pool.join`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinPoolParams {
    /// What `pool.join_token` has answered.
    pub token: SecretText<'static>,
    /// A file with the certificate of the server's CA, if the system does not know it.
    pub root_certificate: Option<String>,
}

/// `pool.join_token`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JoinTokenParams {
    /// What the host will be called [default: host-2, host-3, …].
    pub name: Option<String>,
    /// Whether it may add, change, export and remove accounts, and evict hosts.
    pub admin: bool,
    /// Whether it may refresh logins: only such a host can read refresh tokens.
    pub refresher: bool,
    /// How long the token is valid, in ms [default: an hour].
    pub valid_ms: Option<u64>,
}

/// `pool.evict`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvictHostParams {
    /// The host: its name, or its id.
    pub host: String,
    /// Also if the pool is left without an admin or a refresher.
    #[serde(default)]
    pub force: bool,
}

/// `pool.leave`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeavePoolParams {
    /// Also as the last admin or refresher, while agents work on shared accounts, or while the database is away.
    pub force: bool,
}

/// `pool.set`; omitted fields do not change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetPoolParams {
    /// How many leases an account takes on all hosts together, before `overflow` applies.
    pub per_account: Option<u32>,
    /// How many it never exceeds, with `share`.
    pub max_per_account: Option<u32>,
    /// `wait`, `fail` or `share`.
    pub overflow: Option<String>,
}

/// `pool.migrate`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateParams {
    /// `pool`: accounts of this host become shared; `local`: shared accounts become this host's own.
    pub to: String,
    /// Which: ids, labels or email addresses [default: all; to the pool without those of `pool.own_accounts`, and without
    /// those whose login another tool keeps].
    #[serde(default)]
    pub accounts: Option<Vec<String>>,
    /// Also accounts with leases, which end: to the pool those of this host, back those of other hosts.
    #[serde(default)]
    pub force: bool,
}
