//! Connecting: TLS, passwords, the version of the schema, what the server keeps.

use lessor::credential::Secret;
use lessor::shared_pool::{
    NewHost, PoolAddress, PoolClient, SharedPoolErrorKind, create_pool, new_pool_id, upgrade_pool,
};

use crate::harness::{TestPool, hard, with_pool};

/// The address of the first host with another query in its URL.
fn with_query(pool: &TestPool, query: &str) -> PoolAddress {
    let address = pool.address_of(&pool.first_user);
    PoolAddress { url: format!("{}?{query}", address.url), ..address }
}

async fn kind(address: &PoolAddress) -> Result<(), (SharedPoolErrorKind, String)> {
    match PoolClient::connect(address).await {
        Ok(_) => Ok(()),
        Err(error) => Err((error.kind(), error.to_string())),
    }
}

#[test]
fn certificates_are_verified_as_sslmode_says() {
    let Some(root) = std::env::var_os("LESSOR_TEST_PG_CA") else { return };
    let root = root.into_string().unwrap();
    with_pool(hard(1), async |pool| {
        let is_tls = async |address: &PoolAddress| {
            PoolClient::connect(address).await.unwrap();
            let sql =
                "select bool_or(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) where a.usename = $1";
            pool.root().await.query_one(sql, &[&pool.first_user]).await.unwrap().get::<_, Option<bool>>(0)
        };
        assert_ne!(is_tls(&with_query(pool, "sslmode=disable")).await, Some(true));
        for query in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={root}")] {
            assert_eq!(kind(&with_query(pool, &query)).await, Ok(()), "{query}");
        }
        // the system does not know this root
        let (found, said) = kind(&with_query(pool, "sslmode=verify-full")).await.unwrap_err();
        assert_eq!(found, SharedPoolErrorKind::Tls, "{said}");
        assert!(said.contains("pool.root_certificate"), "{said}");
        // the certificate is not for this name: 127.0.0.2 is this machine too
        let elsewhere = |query: &str| {
            let address = with_query(pool, query);
            PoolAddress { url: address.url.replace("127.0.0.1", "localhost"), ..address }
        };
        assert_eq!(kind(&elsewhere(&format!("sslmode=verify-full&sslrootcert={root}"))).await, Ok(()));
        let missing = with_query(pool, "sslmode=verify-full&sslrootcert=/nowhere/root.pem");
        let (found, said) = kind(&missing).await.unwrap_err();
        assert!(found == SharedPoolErrorKind::Tls && said.contains("/nowhere/root.pem"), "{said}");
    });
}

#[test]
fn a_server_without_tls_is_refused_where_it_is_required() {
    use std::io::{Read as _, Write as _};
    // answers that it has no TLS, and keeps what comes after that in plain text
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        // the other end may have closed it already
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("postgres://u@127.0.0.1:{port}/p?sslmode=require");
    let address = PoolAddress { url, password: Some(Secret::new("canary".into())), root_certificate: None };
    let error = runtime.block_on(PoolClient::connect(&address)).unwrap_err();
    assert_eq!(error.kind(), SharedPoolErrorKind::Tls, "{error}");
    assert_eq!(serving.join().unwrap(), b"", "nothing was sent without TLS");
}

#[test]
fn a_wrong_password_is_named_as_such_and_not_shown() {
    with_pool(hard(1), async |pool| {
        let mut address = pool.address_of(&pool.first_user);
        address.password = Some(Secret::new("canary-of-a-password".into()));
        for password in [Some(Secret::new("canary-of-a-password".into())), None] {
            address.password = password;
            let (found, said) = kind(&address).await.unwrap_err();
            assert_eq!(found, SharedPoolErrorKind::Auth, "{said}");
            assert!(said.contains("lessor pool join --token-stdin") && !said.contains("canary"), "{said}");
            assert!(!format!("{address:?}").contains("canary"));
        }
    });
}

#[test]
fn a_server_that_forgets_is_refused() {
    with_pool(hard(1), async |pool| {
        let set = |value: &str| format!("alter database {} set synchronous_commit = {value}", pool.database);
        pool.root().await.batch_execute(&set("off")).await.unwrap();
        let (found, said) = kind(&pool.address_of(&pool.first_user)).await.unwrap_err();
        assert_eq!(found, SharedPoolErrorKind::Unsafe);
        assert!(said.contains("synchronous_commit = on"), "{said}");
        pool.root().await.batch_execute(&set("on")).await.unwrap();
        assert_eq!(kind(&pool.address_of(&pool.first_user)).await, Ok(()));
    });
}

#[test]
fn other_versions_of_the_schema_are_refused() {
    with_pool(hard(1), async |pool| {
        let root = pool.root().await;
        for (version, expected) in [(2, SharedPoolErrorKind::SchemaNewer), (0, SharedPoolErrorKind::SchemaOlder)] {
            root.execute("update lessor.pool set schema = $1", &[&version]).await.unwrap();
            let (found, said) = kind(&pool.address_of(&pool.first_user)).await.unwrap_err();
            assert_eq!(found, expected, "{said}");
            assert!(said.contains(&format!("schema is {version}")), "{said}");
        }
        root.batch_execute("update lessor.pool set schema = 2").await.unwrap();
        assert_eq!(upgrade_pool(&pool.admin).await.unwrap_err().kind(), SharedPoolErrorKind::SchemaNewer);
        root.batch_execute("update lessor.pool set schema = 1").await.unwrap();
        assert!(!upgrade_pool(&pool.admin).await.unwrap());
    });
}

#[test]
fn a_pool_is_made_once_and_by_a_role_that_may() {
    with_pool(hard(1), async |pool| {
        let name = new_pool_id().unwrap();
        let host = NewHost { pool: &name, name: "x", public_key: b"k", wrapped: b"w", password: None };
        let error = create_pool(&pool.admin, &hard(1), &host).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::PoolExists);
        let root = pool.root().await;
        root.batch_execute("drop schema lessor cascade").await.unwrap();
        let (found, said) = kind(&pool.address_of(&pool.first_user)).await.unwrap_err();
        assert_eq!(found, SharedPoolErrorKind::NoPool, "{said}");
        // without the right to make roles nothing is left behind
        root.batch_execute(&format!("alter role {} nocreaterole", pool.database)).await.unwrap();
        let error = create_pool(&pool.admin, &hard(1), &host).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotOwner, "{error}");
        let left = root.query_one("select to_regnamespace('lessor') is null", &[]).await.unwrap();
        assert!(left.get::<_, bool>(0));
        root.batch_execute(&format!("alter role {} createrole", pool.database)).await.unwrap();
        // two at once: one makes it
        let settings = hard(1);
        let (one, two) =
            tokio::join!(create_pool(&pool.admin, &settings, &host), create_pool(&pool.admin, &settings, &host));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        // the owner itself is the host
        let created = one.or(two).unwrap();
        assert_eq!(created.user, pool.database);
        let (client, _) = PoolClient::connect(&pool.admin).await.unwrap();
        assert_eq!(client.own_host().await.unwrap().host, created.host);
        for role in ["member", "refresher", "admin"] {
            root.batch_execute(&format!("drop owned by lessor_{name}_{role}; drop role lessor_{name}_{role}"))
                .await
                .unwrap();
        }
        root.batch_execute("drop schema lessor cascade").await.unwrap();
    });
}

#[test]
fn an_unreachable_server_is_temporary() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let address =
        PoolAddress { url: format!("postgres://u@127.0.0.1:{port}/p"), password: None, root_certificate: None };
    let error = runtime.block_on(PoolClient::connect(&address)).unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains(&format!("127.0.0.1:{port}/p")), "{error}");
}
