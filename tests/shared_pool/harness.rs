//! A database with a pool for one test, removed afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use lessor::credential::Secret;
use lessor::pool::{AccountId, AccountRecord, CredentialKind, Overflow, Wall};
use lessor::shared_pool::{
    HostId, KeyGeneration, NewHost, NewInvitation, NewsPosition, PoolAddress, PoolClient, PoolCredential,
    SharedPoolSettings, create_pool, new_pool_id,
};
use tokio_postgres::{Client, NoTls};

pub const LIFE: u64 = u64::MAX - 5;
pub const KEYS: KeyGeneration = KeyGeneration(1);
const PASSWORD: &str = "a password of a test";
/// How often a test looks for what must happen soon, and after which time again: 10 s in all.
pub const MOST_LOOKS: u32 = 2000;
pub const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The pool of one test.
pub struct TestPool {
    server: tokio_postgres::Config,
    pub name: String,
    pub database: String,
    pub admin: PoolAddress,
    pub first: HostId,
    pub first_user: String,
}

/// Settings with a capacity of `seats`, which are also the ceiling.
pub fn hard(seats: u32) -> SharedPoolSettings {
    SharedPoolSettings {
        per_account: seats,
        max_per_account: seats,
        overflow: Overflow::Wait,
        ..SharedPoolSettings::default()
    }
}

/// Runs a test with a pool that has these settings.
pub fn with_pool(settings: SharedPoolSettings, test: impl AsyncFnOnce(&TestPool)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(TestPool::create(settings));
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&pool))));
    runtime.block_on(pool.remove());
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

/// The server's address; fails where there is none, because a test that does nothing proves nothing.
pub fn server() -> tokio_postgres::Config {
    let url = std::env::var("LESSOR_TEST_PG").expect("LESSOR_TEST_PG is not set: run .ci/pool");
    url.parse().expect("LESSOR_TEST_PG is no URL")
}

/// A connection as the superuser of the server.
pub async fn superuser(server: &tokio_postgres::Config, database: &str) -> Client {
    let (client, connection) = server.clone().dbname(database).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl TestPool {
    async fn create(settings: SharedPoolSettings) -> Self {
        let server = server();
        let name = new_pool_id().unwrap();
        let database = format!("lessor_test_{name}");
        let root = superuser(&server, "postgres").await;
        // what an operator runs once
        root.batch_execute(&format!("create role {database} login createrole password '{PASSWORD}'")).await.unwrap();
        root.batch_execute(&format!("create database {database} owner {database}")).await.unwrap();
        let admin = address(&server, &database, &database, PASSWORD);
        let password = Secret::new(PASSWORD.to_owned());
        let host =
            NewHost { pool: &name, name: "first", public_key: b"key", wrapped: b"keys", password: Some(&password) };
        let created = create_pool(&admin, &settings, &host).await.unwrap();
        Self { server, name, database, admin, first: created.host, first_user: created.user }
    }

    async fn remove(&self) {
        let root = superuser(&self.server, "postgres").await;
        root.batch_execute(&format!("drop database {} with (force)", self.database)).await.unwrap();
        let roles = format!("select rolname from pg_roles where rolname like 'lessor\\_{}\\_%'", self.name);
        for role in root.query(&roles, &[]).await.unwrap() {
            root.batch_execute(&format!("drop role {}", role.get::<_, &str>(0))).await.unwrap();
        }
        root.batch_execute(&format!("drop role {}", self.database)).await.unwrap();
    }

    /// How a database role connects.
    pub fn address_of(&self, user: &str) -> PoolAddress {
        address(&self.server, user, &self.database, PASSWORD)
    }

    /// The first host, which is an admin and a refresher.
    pub async fn first(&self) -> PoolClient {
        PoolClient::connect(&self.address_of(&self.first_user)).await.unwrap().0
    }

    /// A host that joins now: its client and the name of its database role.
    pub async fn join(&self, name: &str, admin: bool, refresher: bool) -> (PoolClient, String, HostId) {
        let password = Secret::new(PASSWORD.to_owned());
        let invitation = NewInvitation {
            name,
            admin,
            refresher,
            public_key: b"one-time key",
            wrapped: b"keys",
            keys: KEYS,
            lasts: Duration::from_secs(600),
            password: &password,
        };
        let invited = self.first().await.invite(&invitation).await.unwrap();
        let address = self.address_of(&invited.user);
        let joining = PoolClient::connect_to_join(&address).await.unwrap();
        let host = joining.accept_invitation(b"own key", KEYS, b"wrapped keys", &password).await.unwrap();
        assert_eq!(host, invited.host);
        (PoolClient::connect(&address).await.unwrap().0, invited.user, host)
    }

    /// A position after everything that has happened: transactions of other tests on the same server hold it back.
    pub async fn settled(&self, host: &PoolClient) -> NewsPosition {
        let root = self.root().await;
        let sql = "select pg_current_xact_id()::text::bigint";
        let newest: i64 = root.query_one(sql, &[]).await.unwrap().get(0);
        loop {
            let position = host.news(None, None).await.unwrap().position;
            if position.0 > newest {
                return position;
            }
        }
    }

    /// The superuser in this database: for what no host may do.
    pub async fn root(&self) -> Client {
        superuser(&self.server, &self.database).await
    }

    /// How many deadlocks there were, when all hosts have disconnected: a session says so at its end.
    pub async fn deadlocks(&self) -> i64 {
        let root = self.root().await;
        let sql = "select numbackends, deadlocks from pg_stat_database where datname = current_database()";
        for _ in 0..MOST_LOOKS {
            let row = root.query_one(sql, &[]).await.unwrap();
            if row.get::<_, i32>(0) == 1 {
                return row.get(1);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        panic!("some sessions do not end");
    }

    /// As this database role, without the client of lessor.
    pub async fn raw(&self, user: &str) -> Client {
        let mut config = self.server.clone();
        config.user(user).password(PASSWORD).dbname(&self.database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// An address of the server of the tests.
pub fn address(server: &tokio_postgres::Config, user: &str, database: &str, password: &str) -> PoolAddress {
    let host = match server.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        Some(tokio_postgres::config::Host::Unix(path)) => path.to_string_lossy().replace('/', "%2F"),
        None => panic!("LESSOR_TEST_PG names no host"),
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    PoolAddress {
        url: format!("postgres://{user}@{host}:{port}/{database}"),
        password: Some(Secret::new(password.to_owned())),
        root_certificate: None,
    }
}

pub fn id(bits: u64) -> AccountId {
    AccountId::from_bits(bits)
}

/// An account of this number.
pub fn record(bits: u64) -> AccountRecord {
    let mut record = AccountRecord::new(id(bits), "anthropic", CredentialKind::Oauth, Wall(1));
    record.label = Some(format!("label {bits}"));
    record
}

/// A sealed credential with a refresh token that ends at a time of the database's clock.
pub fn sealed(access: &'static [u8], expires_at: u64) -> PoolCredential<'static> {
    PoolCredential { access, refresh: Some(b"refresh"), expires_at: Some(Wall(expires_at)), keys: KEYS }
}

/// Adds the account of this number, whose access token does not end soon.
pub async fn add(admin: &PoolClient, bits: u64) -> AccountId {
    let now = admin.pool_info().await.unwrap().db_time;
    admin.add_account(&record(bits), sealed(b"access", now.0 + 3_600_000), &[]).await.unwrap();
    id(bits)
}
