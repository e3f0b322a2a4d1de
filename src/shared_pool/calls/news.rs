//! What has changed in the pool since a position.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::hosts::{PoolHost, hex_text};
use super::records::{LimitRow, record_of};
use crate::limits::Scope;
use crate::pool::{AccountId, AccountRecord, LimitRecord, LoginState, Usage, Wall, Window};
use crate::shared_pool::database::client::{PoolClient, int8};
use crate::shared_pool::database::error::SharedPoolError;
use crate::shared_pool::ids::{KeyGeneration, NewsPosition, TermId, TokenGeneration, account_id};

/// What has changed since a position. The same news may come twice; none is left out.
#[derive(Debug)]
pub struct PoolNews {
    /// Where the next reading begins.
    pub position: NewsPosition,
    /// The database's clock.
    pub db_time: Wall,
    /// Rises whenever the database is found to be another one than before.
    pub incarnation: i64,
    /// The generation of the pool's keys.
    pub keys: KeyGeneration,
    /// Whether this is everything that the pool has: what is not in it does not exist.
    pub full: bool,
    /// Whether the settings of the pool have changed: see [`PoolClient::pool_info`].
    pub settings_changed: bool,
    /// Accounts that were added or changed.
    pub accounts: Vec<SharedAccount>,
    /// Accounts that were removed.
    pub removed: Vec<AccountId>,
    /// Limits that were set or cleared.
    pub limits: Vec<SharedLimit>,
    /// Windows that were read.
    pub usage: Vec<SharedUsage>,
    /// How many seats others hold, of accounts where a seat has changed.
    pub elsewhere: Vec<(AccountId, u32)>,
    /// Hosts that have changed.
    pub hosts: Vec<PoolHost>,
    /// The heartbeats of all terms that are not over, this host's own included.
    pub beats: Vec<(TermId, u64)>,
    /// Accounts on which this host's term holds seats and another host waits for one.
    pub wanted: Vec<AccountId>,
}

/// An account of the pool.
#[derive(Clone, PartialEq)]
pub struct SharedAccount {
    /// Its record and the state of its login.
    pub record: AccountRecord,
    /// Its capacity on all hosts together.
    pub capacity: u32,
    /// The leases that it never exceeds on all hosts together.
    pub ceiling: u32,
    /// The generation of its credential.
    pub generation: TokenGeneration,
    /// The keys that sealed its credential.
    pub keys: KeyGeneration,
    /// The credential without the refresh token, sealed.
    pub access: Vec<u8>,
    /// Whether the pool has a refresh token of it.
    pub has_refresh: bool,
    /// The ceiling was raised while this term held all seats, and no other one claims the new seats before this host has
    /// claimed them, or has called [`PoolClient::release_kept_seats`].
    pub has_kept_seats: bool,
    /// When the access token ends.
    pub expires_at: Option<Wall>,
    /// How long the access token lives in all, if a refresh brought it.
    pub token_life: Option<Duration>,
}

impl fmt::Debug for SharedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, generation, .. } = self;
        f.debug_struct("SharedAccount").field("id", &record.id).field("generation", generation).finish_non_exhaustive()
    }
}

/// A change of the limits of an account. Times are on the database's clock.
#[derive(Clone, PartialEq, Debug)]
pub enum SharedLimit {
    /// A limit is set, or has changed.
    Set(LimitRecord),
    /// Limits that were set before `at` are cleared: one, or all of the account.
    Cleared {
        /// The account.
        account: AccountId,
        /// Its scope and key; `None` for all.
        which: Option<(Scope, String)>,
        /// When.
        at: Wall,
    },
}

/// Windows of an account's usage that were read. Times are on the database's clock.
#[derive(Clone, PartialEq, Debug)]
pub struct SharedUsage {
    /// The account.
    pub account: AccountId,
    /// Only windows that have changed.
    pub usage: Usage,
    /// When the newest of them was read.
    pub read_at: Wall,
}

/// The answer of the database.
#[derive(Deserialize)]
struct NewsRow {
    position: i64,
    db_time: u64,
    incarnation: i64,
    key_generation: i32,
    full: bool,
    settings_changed: bool,
    accounts: Vec<AccountRow>,
    removed: Vec<i64>,
    limits: Vec<LimitChangeRow>,
    usage: Vec<UsageRow>,
    elsewhere: Vec<(i64, u32)>,
    hosts: Vec<PoolHost>,
    beats: Vec<(i64, u64)>,
    wanted: Vec<i64>,
}

#[derive(Deserialize)]
struct AccountRow {
    record: Value,
    login_state: LoginState,
    capacity: u32,
    ceiling: u32,
    generation: i64,
    keys: i32,
    access: String,
    has_refresh: bool,
    kept_for_us: bool,
    expires_at: Option<u64>,
    token_life: Option<u64>,
}

/// One of both.
#[derive(Deserialize)]
struct LimitChangeRow {
    set: Option<LimitRow>,
    cleared: Option<ClearedRow>,
}

#[derive(Deserialize)]
struct ClearedRow {
    account: i64,
    scope: Option<Scope>,
    key: Option<String>,
    at: u64,
}

#[derive(Deserialize)]
struct UsageRow {
    account: i64,
    windows: Vec<Window>,
    read_at: u64,
}

impl PoolClient {
    /// What has changed since a position; without one, everything. `term` is this host's: seats of other terms are
    /// elsewhere, and what others want is looked up for it.
    ///
    /// # Errors
    /// When the database is away, this host is no member, or a newer version has written what this one does not know.
    pub async fn news(&self, since: Option<NewsPosition>, term: Option<TermId>) -> Result<PoolNews, SharedPoolError> {
        let (since, term) = (since.map(|since| since.0), term.map(|term| term.0));
        let json: String = self.value("select lessor.news($1, $2)::text", &[int8(&since), int8(&term)]).await?;
        news_of(&json).map_err(|why| self.bad_answer(why))
    }
}

fn news_of(json: &str) -> Result<PoolNews, String> {
    let row: NewsRow = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let seats = |(account, seats): (i64, u32)| (account_id(account), seats);
    Ok(PoolNews {
        position: NewsPosition(row.position),
        db_time: Wall(row.db_time),
        incarnation: row.incarnation,
        keys: KeyGeneration(row.key_generation),
        full: row.full,
        settings_changed: row.settings_changed,
        accounts: row.accounts.into_iter().map(AccountRow::account).collect::<Result<_, _>>()?,
        removed: row.removed.into_iter().map(account_id).collect(),
        limits: row.limits.into_iter().map(LimitChangeRow::change).collect::<Result<_, _>>()?,
        usage: row.usage.into_iter().map(UsageRow::usage).collect(),
        elsewhere: row.elsewhere.into_iter().map(seats).collect(),
        hosts: row.hosts,
        beats: row.beats.into_iter().map(|(term, beat)| (TermId(term), beat)).collect(),
        wanted: row.wanted.into_iter().map(account_id).collect(),
    })
}

impl AccountRow {
    fn account(self) -> Result<SharedAccount, String> {
        Ok(SharedAccount {
            record: record_of(self.record, self.login_state).map_err(|error| error.to_string())?,
            capacity: self.capacity,
            ceiling: self.ceiling,
            generation: TokenGeneration(self.generation),
            keys: KeyGeneration(self.keys),
            access: hex_text::bytes(&self.access).ok_or("a credential that is not in hexadecimal digits")?,
            has_refresh: self.has_refresh,
            has_kept_seats: self.kept_for_us,
            expires_at: self.expires_at.map(Wall),
            token_life: self.token_life.map(Duration::from_millis),
        })
    }
}

impl LimitChangeRow {
    fn change(self) -> Result<SharedLimit, String> {
        match (self.set, self.cleared) {
            (Some(set), None) => {
                set.record().map(SharedLimit::Set).ok_or_else(|| "a limit of an unknown source".to_owned())
            }
            (None, Some(cleared)) => Ok(SharedLimit::Cleared {
                account: account_id(cleared.account),
                which: cleared.scope.zip(cleared.key),
                at: Wall(cleared.at),
            }),
            _ => Err("a limit that is neither set nor cleared".to_owned()),
        }
    }
}

impl UsageRow {
    fn usage(self) -> SharedUsage {
        SharedUsage { account: account_id(self.account), usage: self.windows.into(), read_at: Wall(self.read_at) }
    }
}
