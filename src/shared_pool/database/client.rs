//! The connection for calls: one round trip per call, many calls at once.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::{SharedPoolError, SharedPoolErrorKind};

/// A call that has no answer by then has failed. The server gives up earlier, see `connect`.
const PATIENCE: Duration = Duration::from_secs(15);
/// After so many deadlocks in turn, a call has failed. The server finds each after a second.
const MOST_DEADLOCKS: u32 = 3;

/// What a call passes to the database.
pub(in crate::shared_pool) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A `bigint`, or none.
pub(in crate::shared_pool) fn int8<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::INT8)
}

/// An `integer`, or none.
pub(in crate::shared_pool) fn int4<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::INT4)
}

/// A `text`, or none.
pub(in crate::shared_pool) fn text<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::TEXT)
}

/// A `bytea`, or none.
pub(in crate::shared_pool) fn bytea<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::BYTEA)
}

/// A `boolean`.
pub(in crate::shared_pool) fn boolean(value: &bool) -> Parameter<'_> {
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
    pub(in crate::shared_pool) fn new(client: Client, place: String) -> Self {
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

    /// A call that answers with exactly one row.
    pub(in crate::shared_pool) async fn row(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, SharedPoolError> {
        let mut rows = self.rows(sql, parameters).await?;
        match rows.pop() {
            Some(row) if rows.is_empty() => Ok(row),
            _ => Err(SharedPoolError::bad_answer(&self.place, "not one row")),
        }
    }

    /// A call that answers with rows. One that the server ends because of a deadlock has changed nothing, and is repeated.
    pub(in crate::shared_pool) async fn rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, SharedPoolError> {
        let answered = async {
            let mut left = MOST_DEADLOCKS;
            loop {
                match self.client.query_typed(sql, parameters).await {
                    Err(error) if left > 0 && error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => left -= 1,
                    answer => return answer,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answer) => answer.map_err(|error| SharedPoolError::of_driver(&self.place, &error)),
            Err(_) => Err(self.error(SharedPoolErrorKind::Unreachable, "no answer in time")),
        }
    }

    /// Several statements as one text, in one transaction unless they say otherwise.
    pub(in crate::shared_pool) async fn batch(&self, sql: &str) -> Result<(), SharedPoolError> {
        match tokio::time::timeout(PATIENCE, self.client.batch_execute(sql)).await {
            Ok(answer) => answer.map_err(|error| SharedPoolError::of_driver(&self.place, &error)),
            Err(_) => Err(self.error(SharedPoolErrorKind::Unreachable, "no answer in time")),
        }
    }

    /// A call that answers with one value.
    pub(in crate::shared_pool) async fn value<T>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<T, SharedPoolError>
    where
        T: for<'r> tokio_postgres::types::FromSql<'r>,
    {
        let row = self.row(sql, parameters).await?;
        self.get(&row, 0)
    }

    /// One column of a row.
    pub(in crate::shared_pool) fn get<'r, T>(&self, row: &'r Row, column: usize) -> Result<T, SharedPoolError>
    where
        T: tokio_postgres::types::FromSql<'r>,
    {
        row.try_get(column).map_err(|error| SharedPoolError::bad_answer(&self.place, error))
    }

    pub(in crate::shared_pool) fn error(&self, kind: SharedPoolErrorKind, what: impl Into<String>) -> SharedPoolError {
        SharedPoolError::new(kind, self.place.as_str(), what)
    }

    pub(in crate::shared_pool) fn bad_answer(&self, what: impl fmt::Display) -> SharedPoolError {
        SharedPoolError::bad_answer(&self.place, what)
    }
}
