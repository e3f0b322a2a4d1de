//! The connection for calls: one round trip per call, many calls at once.

use std::fmt;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::address::PoolAddress;
use super::connect;
use super::error::{SharedPoolError, SharedPoolErrorKind};
use super::notices::PoolNotices;

/// A call that has no answer by then has failed. The server gives up earlier, see `connect`.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a call passes to the database.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A `bigint`, or none.
pub(super) fn int8<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::INT8)
}

/// An `integer`, or none.
pub(super) fn int4<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::INT4)
}

/// A `text`, or none.
pub(super) fn text<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::TEXT)
}

/// A `bytea`, or none.
pub(super) fn bytea<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::BYTEA)
}

/// A `boolean`.
pub(super) fn boolean(value: &bool) -> Parameter<'_> {
    (value, Type::BOOL)
}

/// The calls to the pool's database, over one connection. Calls may run at once; they are sent at once and answered in
/// order. When it [is closed](Self::is_closed), connect again.
pub struct PoolClient {
    client: Client,
    place: String,
}

impl fmt::Debug for PoolClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolClient").field("place", &self.place).finish_non_exhaustive()
    }
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

    pub(super) fn new(client: Client, place: String) -> Self {
        Self { client, place }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Host, port and database, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
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

    /// A call that answers with exactly one row.
    pub(super) async fn row(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row, SharedPoolError> {
        let mut rows = self.rows(sql, parameters).await?;
        match rows.pop() {
            Some(row) if rows.is_empty() => Ok(row),
            _ => Err(SharedPoolError::bad_answer(&self.place, "not one row")),
        }
    }

    /// A call that answers with rows.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, SharedPoolError> {
        match tokio::time::timeout(PATIENCE, self.client.query_typed(sql, parameters)).await {
            Ok(answer) => answer.map_err(|error| SharedPoolError::of_driver(&self.place, &error)),
            Err(_) => Err(self.error(SharedPoolErrorKind::Unreachable, "no answer in time")),
        }
    }

    /// Several statements as one text, in one transaction unless they say otherwise.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), SharedPoolError> {
        match tokio::time::timeout(PATIENCE, self.client.batch_execute(sql)).await {
            Ok(answer) => answer.map_err(|error| SharedPoolError::of_driver(&self.place, &error)),
            Err(_) => Err(self.error(SharedPoolErrorKind::Unreachable, "no answer in time")),
        }
    }

    /// A call that answers with one value.
    pub(super) async fn value<T>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<T, SharedPoolError>
    where
        T: for<'r> tokio_postgres::types::FromSql<'r>,
    {
        let row = self.row(sql, parameters).await?;
        self.get(&row, 0)
    }

    /// One column of a row.
    pub(super) fn get<'r, T>(&self, row: &'r Row, column: usize) -> Result<T, SharedPoolError>
    where
        T: tokio_postgres::types::FromSql<'r>,
    {
        row.try_get(column).map_err(|error| SharedPoolError::bad_answer(&self.place, error))
    }

    pub(super) fn error(&self, kind: SharedPoolErrorKind, what: impl Into<String>) -> SharedPoolError {
        SharedPoolError::new(kind, self.place.as_str(), what)
    }

    pub(super) fn bad_answer(&self, what: impl fmt::Display) -> SharedPoolError {
        SharedPoolError::bad_answer(&self.place, what)
    }
}
