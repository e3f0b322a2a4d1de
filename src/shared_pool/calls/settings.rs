//! What holds for the whole pool, which database it is, and what a host checks before it uses it.

use std::time::Duration;

use serde::Deserialize;

use super::records::{overflow_name, small_millis};
use crate::pool::{Overflow, Wall};
use crate::shared_pool::database::address::PoolAddress;
use crate::shared_pool::database::client::{PoolClient, int4, int8, text};
use crate::shared_pool::database::connect;
use crate::shared_pool::database::error::{SharedPoolError, SharedPoolErrorKind};
use crate::shared_pool::database::notices::PoolNotices;
use crate::shared_pool::ids::KeyGeneration;

/// The schema that this version knows.
pub const SCHEMA: i32 = 1;

/// The settings of the pool. A host's own configuration may only lower them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedPoolSettings {
    /// The capacity of an account that states none.
    pub per_account: u32,
    /// What no account's ceiling exceeds.
    pub max_per_account: u32,
    /// What happens when every account is at its capacity.
    pub overflow: Overflow,
    /// How long seats are valid after their heartbeat was sent, plus the margin.
    pub ttl: Duration,
    /// What clocks may differ in their speed, and how long a last request may take.
    pub margin: Duration,
}

impl Default for SharedPoolSettings {
    fn default() -> Self {
        Self {
            per_account: 1,
            max_per_account: 16,
            overflow: Overflow::default(),
            ttl: Duration::from_secs(30),
            margin: Duration::from_secs(5),
        }
    }
}

/// Which pool this is, in which database, and what holds in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolInfo {
    /// The name that the pool got when it was made: eight letters.
    pub id: String,
    /// The version of its schema.
    pub schema: i32,
    /// Its settings.
    pub settings: SharedPoolSettings,
    /// The generation of its keys.
    pub keys: KeyGeneration,
    /// The system identifier of the server.
    pub system: i64,
    /// The timeline of the server.
    pub timeline: i64,
    /// Rises whenever the database is found to be another one than before.
    pub incarnation: i64,
    /// Until when nothing is claimed.
    pub paused_until: Option<Wall>,
    /// The database's clock.
    pub db_time: Wall,
    /// Whether the server's files survive a crash of its machine (`fsync`).
    pub fsync: bool,
}

/// The row of the database.
#[derive(Deserialize)]
struct InfoRow {
    id: String,
    schema: i32,
    per_account: u32,
    max_per_account: u32,
    overflow: Overflow,
    ttl_ms: u64,
    margin_ms: u64,
    key_generation: i32,
    system: i64,
    timeline: i64,
    incarnation: i64,
    paused_until: u64,
    db_time: u64,
    fsync: bool,
}

impl PoolClient {
    /// Opens both connections and checks the rule for TLS, the version of the schema and that confirmed writes are kept.
    /// Their tasks run on the runtime of the caller.
    ///
    /// # Errors
    /// When the server is not reached, not trusted or not fit, or this host is no member.
    pub async fn connect(address: &PoolAddress) -> Result<(Self, PoolNotices), SharedPoolError> {
        let opened = connect::open(address, |_| ()).await?;
        let client = Self::new(opened.client, opened.place);
        client.check_schema().await?;
        client.check_durability().await?;
        // whether the database is another one than before is decided before anything is claimed
        client.pool_info().await?;
        let notices = PoolNotices::listen(address).await?;
        Ok((client, notices))
    }

    /// Which pool this is, in which database. Finds out whether the database is another one than before.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn pool_info(&self) -> Result<PoolInfo, SharedPoolError> {
        let json: String = self.value("select lessor.pool_info()::text", &[]).await?;
        let row: InfoRow = serde_json::from_str(&json).map_err(|error| self.bad_answer(error))?;
        let settings = SharedPoolSettings {
            per_account: row.per_account,
            max_per_account: row.max_per_account,
            overflow: row.overflow,
            ttl: Duration::from_millis(row.ttl_ms),
            margin: Duration::from_millis(row.margin_ms),
        };
        Ok(PoolInfo {
            id: row.id,
            schema: row.schema,
            settings,
            keys: KeyGeneration(row.key_generation),
            system: row.system,
            timeline: row.timeline,
            incarnation: row.incarnation,
            paused_until: Some(Wall(row.paused_until)).filter(|until| until.0 > row.db_time),
            db_time: Wall(row.db_time),
            fsync: row.fsync,
        })
    }

    /// Changes the settings of the pool (admins). A lower ceiling takes no seat from a host; they are not claimed again.
    ///
    /// # Errors
    /// When the database is away, or this host is no admin.
    pub async fn set_settings(&self, settings: &SharedPoolSettings) -> Result<(), SharedPoolError> {
        let [per_account, most] = [settings.per_account, settings.max_per_account].map(u32::cast_signed);
        let (overflow, ttl, margin) =
            (overflow_name(settings.overflow), small_millis(settings.ttl), small_millis(settings.margin));
        let parameters = [int4(&per_account), int4(&most), text(&overflow), int8(&ttl), int8(&margin)];
        self.row("select lessor.set_settings($1, $2, $3, $4, $5)::text", &parameters).await.map(drop)
    }

    /// Refuses a schema that this version does not know, in both directions.
    pub(super) async fn check_schema(&self) -> Result<(), SharedPoolError> {
        let found: i32 = match self.value("select lessor.schema_version()", &[]).await {
            Err(error) if error.kind() == SharedPoolErrorKind::NotPermitted => {
                let what = "this database role is no host of the pool";
                return Err(self.error(SharedPoolErrorKind::NotMember, what));
            }
            Err(error) if error.kind() == SharedPoolErrorKind::NoPool => {
                return Err(self.error(SharedPoolErrorKind::NoPool, "there is no pool in this database"));
            }
            answer => answer?,
        };
        let what = format!("its schema is {found}, and this version of lessor knows {SCHEMA}");
        match found.cmp(&SCHEMA) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(self.error(SharedPoolErrorKind::SchemaNewer, what)),
            std::cmp::Ordering::Less => Err(self.error(SharedPoolErrorKind::SchemaOlder, what)),
        }
    }

    /// Whether the server confirms only what it keeps.
    pub(super) async fn check_durability(&self) -> Result<(), SharedPoolError> {
        let row = self
            .row("select current_setting('synchronous_commit'), current_setting('synchronous_standby_names')", &[])
            .await?;
        let (commit, standbys): (String, String) = (self.get(&row, 0)?, self.get(&row, 1)?);
        let lost_at_failover = !standbys.is_empty() && matches!(commit.as_str(), "local" | "remote_write");
        if commit == "off" || lost_at_failover {
            let what = format!("it can lose what it has confirmed (synchronous_commit = {commit})");
            return Err(self.error(SharedPoolErrorKind::Unsafe, what));
        }
        Ok(())
    }
}
