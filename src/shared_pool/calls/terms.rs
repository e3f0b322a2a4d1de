//! Terms: the periods in which a host holds seats, and their heartbeats.

use crate::pool::{AccountId, Wall};
use crate::shared_pool::database::client::{PoolClient, int8};
use crate::shared_pool::database::error::{SharedPoolError, SharedPoolErrorKind};
use crate::shared_pool::ids::{TermId, account_id};

/// A heartbeat that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeatAnswer {
    /// The database's clock.
    pub db_time: Wall,
    /// The timeline of the server: another one after a failover or a restore.
    pub timeline: i64,
    /// Rises whenever the database is found to be another one than before, by its system, timeline or position: then
    /// everything is read again. The database itself refuses claims for one ttl.
    pub incarnation: i64,
    /// The number of this heartbeat.
    pub beat: u64,
}

impl PoolClient {
    /// Begins a term, without seats. `life` is a random number of this connection: older terms that it has begun end, because
    /// their leases have ended. Terms of other connections end by silence, or by [`end_term`](Self::end_term): this call
    /// may be carried out long after its connection has broken, and must not end a term of a later one.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn begin_term(&self, life: u64) -> Result<TermId, SharedPoolError> {
        self.value("select lessor.begin_term($1)", &[int8(&life.cast_signed())]).await.map(TermId)
    }

    /// Goes on with the term of an earlier connection or process of this host, with its seats. What was sent with the life
    /// before and arrives later changes nothing. `None` when that term is over, or another one goes on with it.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn resume_term(
        &self,
        term: TermId,
        life: u64,
        new_life: u64,
    ) -> Result<Option<Vec<(AccountId, u32)>>, SharedPoolError> {
        let (life, new_life) = (life.cast_signed(), new_life.cast_signed());
        let sql = "select account, seats from lessor.resume_term($1, $2, $3)";
        // the first row is that of the term itself
        let rows = self.rows(sql, &[int8(&term.0), int8(&life), int8(&new_life)]).await?;
        let Some((_, seats)) = rows.split_first() else { return Ok(None) };
        let seats =
            seats.iter().map(|row| Ok((account_id(self.get(row, 0)?), self.get::<i32>(row, 1)?.cast_unsigned())));
        seats.collect::<Result<_, _>>().map(Some)
    }

    /// Ends a term of this host whose leases have all ended. Seats with a token that was handed out stay taken until the
    /// token ends; give seats back before, where the holder of the token is known to have ended.
    ///
    /// # Errors
    /// When the database is away or this host is no member. A term that is over already is no error.
    pub async fn end_term(&self, term: TermId, life: u64) -> Result<(), SharedPoolError> {
        let sql = "select lessor.end_term($1, $2)::text";
        self.row(sql, &[int8(&term.0), int8(&life.cast_signed())]).await.map(drop)
    }

    /// One heartbeat: all seats of the term stay this host's until the time at which it was sent + ttl − margin. `None`:
    /// the term is over, was taken over by another process, or this host was evicted.
    ///
    /// # Errors
    /// When the database is away. Whether the heartbeat was counted is not known then.
    pub async fn beat(&self, term: TermId, life: u64) -> Result<Option<BeatAnswer>, SharedPoolError> {
        let sql = "select beat, db_time, timeline, incarnation from lessor.beat($1, $2)";
        let rows = match self.rows(sql, &[int8(&term.0), int8(&life.cast_signed())]).await {
            Err(error) if error.kind() == SharedPoolErrorKind::Evicted => return Ok(None),
            answer => answer?,
        };
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(BeatAnswer {
            beat: self.get::<i64>(row, 0)?.cast_unsigned(),
            db_time: Wall(self.get::<i64>(row, 1)?.cast_unsigned()),
            timeline: self.get(row, 2)?,
            incarnation: self.get(row, 3)?,
        }))
    }

    /// Ends the term of a silent host if its heartbeat still has this number, and frees its seats, but not those whose
    /// token was handed out and has not ended. Returns whether this call ended it.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn end_silent_term(&self, term: TermId, beat: u64) -> Result<bool, SharedPoolError> {
        let sql = "select lessor.end_silent_term($1, $2)";
        self.value(sql, &[int8(&term.0), int8(&beat.cast_signed())]).await
    }
}
