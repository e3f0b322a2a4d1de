//! Makes the pool in a database, once, and brings its schema up to date.

use super::records::{overflow_name, small_millis};
use super::settings::{SCHEMA, SharedPoolSettings};
use crate::credential::Secret;
use crate::shared_pool::database::address::PoolAddress;
use crate::shared_pool::database::client::{PoolClient, bytea, int4, int8, text};
use crate::shared_pool::database::error::{SharedPoolError, SharedPoolErrorKind};
use crate::shared_pool::database::{connect, password};
use crate::shared_pool::ids::HostId;

/// The steps of the schema: the first makes version 1, and so on.
const STEPS: &[&str] = &[concat!(
    include_str!("../schema/1/tables.sql"),
    include_str!("../schema/1/identity.sql"),
    include_str!("../schema/1/terms.sql"),
    include_str!("../schema/1/seats.sql"),
    include_str!("../schema/1/limits.sql"),
    include_str!("../schema/1/accounts.sql"),
    include_str!("../schema/1/refresh.sql"),
    include_str!("../schema/1/hosts.sql"),
    include_str!("../schema/1/news.sql"),
    include_str!("../schema/1/grants.sql"),
)];
/// Any number; only one program changes the schema at a time.
const LOCK: i64 = 0x6c65_7373_6f72;
/// The oldest server that has all that the schema uses.
const OLDEST_SERVER: i32 = 140_000;

/// The first host of a pool.
pub struct NewHost<'a> {
    /// The name of the pool: see [`new_pool_id`].
    pub pool: &'a str,
    /// The name of the host.
    pub name: &'a str,
    /// The public half of its key pair.
    pub public_key: &'a [u8],
    /// The first keys of the pool (generation 1), wrapped for it.
    pub wrapped: &'a [u8],
    /// The password of the database role that is made for it. Without one the host connects with the role that makes the
    /// pool, which owns the schema and can do everything.
    pub password: Option<&'a Secret>,
}

/// A pool that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedPool {
    /// Its first host, which is an admin and a refresher.
    pub host: HostId,
    /// The database role with which that host connects.
    pub user: String,
}

/// A name for a new pool: eight letters and digits. The database roles of its hosts begin with it, because roles belong
/// to all databases of a server.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_pool_id() -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bits = [0; 8];
    getrandom::fill(&mut bits)?;
    Ok(bits.iter().map(|bits| char::from(LETTERS[usize::from(bits & 31)])).collect())
}

/// Makes the pool in a database, with its first host. `admin` connects as the role that will own the schema: it needs
/// `CREATE` on the database and `CREATEROLE`.
///
/// # Errors
/// When the server is not reached or too old, the role may not do it, or there is a pool already. Nothing is changed then.
pub async fn create_pool(
    admin: &PoolAddress,
    settings: &SharedPoolSettings,
    host: &NewHost<'_>,
) -> Result<CreatedPool, SharedPoolError> {
    let client = owner(admin).await?;
    if found_schema(&client).await?.is_some() {
        return Err(client.error(SharedPoolErrorKind::PoolExists, "this database has a pool already"));
    }
    install(&client, host.pool, 0).await?;
    let verifier = host.password.map(password::verifier).transpose();
    let verifier =
        verifier.map_err(|error| client.error(SharedPoolErrorKind::Refused, format!("no random numbers: {error}")))?;
    let [per_account, most] = [settings.per_account, settings.max_per_account].map(u32::cast_signed);
    let (overflow, ttl, margin) =
        (overflow_name(settings.overflow), small_millis(settings.ttl), small_millis(settings.margin));
    let parameters = [
        text(&host.pool),
        int4(&per_account),
        int4(&most),
        text(&overflow),
        int8(&ttl),
        int8(&margin),
        text(&host.name),
        bytea(&host.public_key),
        bytea(&host.wrapped),
        text(&verifier),
    ];
    let sql = "select host, login from lessor.found_pool($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let row = client.row(sql, &parameters).await.map_err(not_owner)?;
    let created = CreatedPool { host: HostId(client.get(&row, 0)?), user: client.get(&row, 1)? };
    client.batch("commit").await?;
    Ok(created)
}

/// Brings the schema of a pool up to date, as the role that owns it. Returns whether there was anything to do.
///
/// # Errors
/// When the server is not reached, the role does not own the schema, there is no pool, or it is of a newer version.
pub async fn upgrade_pool(admin: &PoolAddress) -> Result<bool, SharedPoolError> {
    let client = owner(admin).await?;
    let found = found_schema(&client).await?;
    let found = found.ok_or_else(|| client.error(SharedPoolErrorKind::NoPool, "there is no pool in this database"))?;
    if found > SCHEMA {
        let what = format!("its schema is {found}, and this version of lessor knows {SCHEMA}");
        return Err(client.error(SharedPoolErrorKind::SchemaNewer, what));
    }
    if found == SCHEMA {
        return Ok(false);
    }
    let pool: String = client.value("select id from lessor.pool", &[]).await.map_err(not_owner)?;
    install(&client, &pool, found).await?;
    client.row("update lessor.pool set schema = $1 returning id", &[int4(&SCHEMA)]).await.map_err(not_owner)?;
    client.batch("commit").await?;
    Ok(true)
}

/// A connection in a transaction that holds the lock. Dropping it without a commit changes nothing.
async fn owner(admin: &PoolAddress) -> Result<PoolClient, SharedPoolError> {
    let opened = connect::open(admin, |_| ()).await?;
    let client = PoolClient::new(opened.client, opened.place);
    let version: i32 = client.value("select current_setting('server_version_num')::integer", &[]).await?;
    if version < OLDEST_SERVER {
        let what = format!("the server is PostgreSQL {}; lessor needs 14 or newer", version / 10_000);
        return Err(client.error(SharedPoolErrorKind::Refused, what));
    }
    client.check_durability().await?;
    client.batch("begin; set local statement_timeout = '60s'; set local lock_timeout = '30s'").await?;
    client.row("select pg_advisory_xact_lock($1)::text", &[int8(&LOCK)]).await?;
    Ok(client)
}

/// The version of the schema that is there.
async fn found_schema(client: &PoolClient) -> Result<Option<i32>, SharedPoolError> {
    let is_there: bool = client.value("select to_regproc('lessor.schema_version') is not null", &[]).await?;
    if !is_there {
        return Ok(None);
    }
    client.value("select lessor.schema_version()", &[]).await.map(Some)
}

/// Runs the steps after version `found`.
async fn install(client: &PoolClient, pool: &str, found: i32) -> Result<(), SharedPoolError> {
    client.row("select set_config('lessor.pool_id', $1, true)", &[text(&pool)]).await?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        client.batch(step).await.map_err(not_owner)?;
    }
    Ok(())
}

/// What the role may not do, in words that fit its task.
fn not_owner(error: SharedPoolError) -> SharedPoolError {
    match error.kind() {
        SharedPoolErrorKind::NotPermitted => error.with_kind(SharedPoolErrorKind::NotOwner),
        _ => error,
    }
}
