//! The pool that several hosts share: its hosts, their seats, and the results of the calls about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::AccountLabel;
use super::lease::SecretText;

/// To `pool.init` and `pool.join`: what this host is in the pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolMemberInfo {
    /// The pool's id.
    pub pool: String,
    /// The database, without a password.
    pub url: String,
    /// This host's id in the pool.
    pub host: String,
    /// What it is called there.
    pub name: String,
    /// Whether it may add, change, export and remove accounts, and evict hosts.
    pub admin: bool,
    /// Whether it may refresh logins.
    pub refresher: bool,
    /// Whether the pool was created by this call.
    pub created: bool,
    /// How many accounts are shared.
    pub accounts: u64,
    /// How many leases an account takes on all hosts together.
    pub per_account: u32,
    /// How many it never exceeds, with `share`.
    pub max_per_account: u32,
    /// `wait`, `fail` or `share`.
    pub overflow: String,
}

/// A token with which one host can join the pool, once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenInfo {
    /// The token. It is not stored, so it is shown only now.
    pub token: SecretText<'static>,
    /// What the host will be called.
    pub name: String,
    /// Whether the host may add, change, export and remove accounts, and evict hosts.
    pub admin: bool,
    /// Whether the host may refresh logins.
    pub refresher: bool,
    /// Until when it can be used, epoch ms.
    pub expires_at: u64,
}

/// A host of the pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolHostInfo {
    /// Its id in the pool.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// `online`, `silent` (its last heartbeat is old), `offline` (it holds no seats: its daemon does not run), `invited` (its
    /// token was not used yet) or `gone` (it was evicted, or has left).
    pub state: String,
    /// Whether this is the host that answers.
    pub this: bool,
    /// Whether it may add, change, export and remove accounts, and evict hosts.
    pub admin: bool,
    /// Whether it may refresh logins.
    pub refresher: bool,
    /// How many seats it holds.
    pub seats: u64,
    /// When it joined, epoch ms.
    pub joined_at: Option<u64>,
    /// When its last heartbeat arrived, epoch ms.
    pub last_seen_at: Option<u64>,
    /// Of an invited host: until when its token can be used, epoch ms.
    pub invited_until: Option<u64>,
}

/// Seats of an account that one host holds. It may have as many leases on the account, and may have fewer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolSeatsInfo {
    /// The account.
    pub account: AccountLabel,
    /// The name of the host.
    pub host: String,
    /// How many seats.
    pub seats: u64,
    /// How many of them stay taken because a token has left lessor there, until that token ends.
    pub handed_out: u64,
}

/// The pool in `status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolSummaryInfo {
    /// `connected`, `connecting`, `away` (the database cannot be reached), `refused` (it does not fit this host), `evicted`
    /// (this host was), `not_joined` or `off` (`[pool] url` is not set).
    pub state: String,
    /// What this host is called in the pool.
    pub name: Option<String>,
    /// How many hosts the pool has.
    pub hosts: u64,
    /// How many of them are online.
    pub online: u64,
    /// How many refreshers are online.
    pub refreshers: u64,
    /// How many accounts are shared.
    pub accounts: u64,
    /// How many seats this host holds.
    pub seats: u64,
    /// How many seats the other hosts hold.
    pub elsewhere: u64,
    /// Until when the seats are valid without another heartbeat, epoch ms.
    pub seats_until: Option<u64>,
    /// What is wrong, and what mends it.
    pub trouble: Option<String>,
}

/// To `pool.status`: the pool in full.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolStatusInfo {
    /// The pool's id.
    pub pool: String,
    /// The database, without a password.
    pub url: String,
    /// The state, as `status` shows it.
    pub summary: PoolSummaryInfo,
    /// Whether this host may add, change, export and remove accounts, and evict hosts.
    pub admin: bool,
    /// Whether this host may refresh logins.
    pub refresher: bool,
    /// What the pool's accounts may be used for.
    pub settings: PoolRulesInfo,
    /// The generation of the pool's keys; each `rekey` and `evict` begins another one.
    pub key_generation: u64,
    /// How far the clock of the database is ahead of this host's, in ms.
    pub clock_ahead_ms: i64,
    /// The hosts, as far as the database could be asked.
    pub hosts: Vec<PoolHostInfo>,
    /// The seats that are held, by account and host.
    pub seats: Vec<PoolSeatsInfo>,
    /// The accounts of this host that are not shared.
    pub own_accounts: u64,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The settings of the pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolRulesInfo {
    /// How many leases an account takes on all hosts together, before `overflow` applies.
    pub per_account: u32,
    /// How many it never exceeds, with `share`.
    pub max_per_account: u32,
    /// `wait`, `fail` or `share`.
    pub overflow: String,
    /// How long a host holds its seats after a heartbeat, ms.
    pub ttl_ms: u64,
    /// How much earlier it stops using them than others may take them, ms.
    pub margin_ms: u64,
}

/// To `pool.evict`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EvictedHostInfo {
    /// The host, as it was.
    pub host: PoolHostInfo,
    /// The generation of the keys that protect the pool's secrets now.
    pub key_generation: u64,
    /// How many accounts were sealed with these keys.
    pub resealed: u64,
    /// Why the pool's secrets could not be sealed with new keys, and what does it: the host can read nothing in the database
    /// any more, but still has the old keys.
    pub trouble: Option<String>,
    /// What the host has read and lessor cannot take back: each must be replaced at its provider.
    pub replace: Vec<ExposedSecretInfo>,
}

/// A secret that a host has read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExposedSecretInfo {
    /// The account.
    pub account: AccountLabel,
    /// Its provider.
    pub provider: String,
    /// `api_key`, `token` (long-lived), `login` (with its refresh token: a new login is needed), or `access_token`, which
    /// has an end of its own.
    pub secret: String,
    /// When it ends, epoch ms; null: never.
    pub ends_at: Option<u64>,
    /// The command that stores the replacement.
    pub command: Option<String>,
}

/// To `pool.rekey`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolRekeyInfo {
    /// The generation of the new keys.
    pub key_generation: u64,
    /// How many accounts were sealed with them.
    pub resealed: u64,
    /// How many hosts they were wrapped for.
    pub hosts: u64,
    /// The hosts whose join tokens this has made void: they were not used yet.
    pub void_tokens: Vec<String>,
}

/// To `pool.leave`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LeftPoolInfo {
    /// The pool's id.
    pub pool: String,
    /// What this host was called there.
    pub name: String,
    /// How many shared accounts this host does not have any more.
    pub removed: u64,
    /// How many accounts of its own it keeps.
    pub kept: u64,
    /// How many leases on shared accounts ended.
    pub ended: u64,
    /// Whether the database has noted it: if not, an admin evicts the host.
    pub noted: bool,
}

/// To `pool.migrate`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MigratedInfo {
    /// `pool` or `local`.
    pub to: String,
    /// The accounts that were moved by this call.
    pub moved: Vec<AccountLabel>,
    /// How many were there already.
    pub already: u64,
    /// The accounts that were not moved.
    pub skipped: Vec<SkippedAccountInfo>,
}

/// An account that was not moved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SkippedAccountInfo {
    /// The account.
    pub account: AccountLabel,
    /// Why, and how it can be moved all the same.
    pub why: String,
}
