//! Numbers of hosts, terms, tokens and keys in the shared pool.

use serde::{Deserialize, Serialize};

use crate::pool::AccountId;

/// A host of the pool. Never given to another host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct HostId(pub i64);

/// A period in which a host holds seats, kept by its heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TermId(pub i64);

/// How often the credential of an account was replaced: a refresh is written only over the generation that it used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TokenGeneration(pub i64);

/// How often the keys of the pool were replaced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct KeyGeneration(pub i32);

/// Up to where a host has read the news: a transaction id of the database, below which nothing is still under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NewsPosition(pub i64);

/// The id of an account as a `bigint`.
pub(super) fn sql_id(account: AccountId) -> i64 {
    account.bits().cast_signed()
}

/// The account with this `bigint`.
pub(super) fn account_id(bits: i64) -> AccountId {
    AccountId::from_bits(bits.cast_unsigned())
}
