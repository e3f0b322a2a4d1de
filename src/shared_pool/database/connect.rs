//! Opens connections to the pool's database, with TLS and with limits of time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{ParsedAddress, PoolAddress, TlsMode};
use super::error::{SharedPoolError, SharedPoolErrorKind};
use crate::http;

/// For each address of each host.
const CONNECT: Duration = Duration::from_secs(4);
/// For everything until the first call can be made.
const OPEN: Duration = Duration::from_secs(12);
/// An idle connection whose other end does not answer is found to be dead after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(8);
/// Unacknowledged data for so long: the connection is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// What the server itself gives up: a call that takes so long, one that waits for a lock, and a transaction that its
/// client has forgotten. The schema is always named, so no search path is needed.
const SETTINGS: &str = "set statement_timeout = '10s'; set lock_timeout = '5s'; \
    set idle_in_transaction_session_timeout = '10s'; set search_path = pg_catalog; set client_min_messages = warning; \
    set timezone = 'UTC'; set default_transaction_isolation = 'read committed'";

/// A connection whose task runs on the caller's runtime; it ends when the client is dropped.
pub(in crate::shared_pool) struct OpenConnection {
    pub(in crate::shared_pool) client: Client,
    pub(in crate::shared_pool) place: String,
}

/// Opens a connection. Notices that come in on it are passed on.
pub(in crate::shared_pool) async fn open(
    address: &PoolAddress,
    on_notice: impl FnMut(Notification) + Send + 'static,
) -> Result<OpenConnection, SharedPoolError> {
    let parsed = address.parse()?;
    let place = parsed.place();
    let mut config = configuration(&parsed);
    if let Some(password) = &address.password {
        config.password(password.expose());
    }
    let tls = tls(&parsed).map_err(|what| SharedPoolError::new(SharedPoolErrorKind::Tls, place.as_str(), what))?;
    match tokio::time::timeout(OPEN, connect(&config, tls, on_notice)).await {
        Ok(Ok(client)) => Ok(OpenConnection { client, place }),
        Ok(Err(error)) => Err(SharedPoolError::of_driver(&place, &error)),
        Err(_) => Err(SharedPoolError::new(SharedPoolErrorKind::Unreachable, place, "no connection in time")),
    }
}

async fn connect(
    config: &Config,
    tls: MakeRustlsConnect,
    mut on_notice: impl FnMut(Notification) + Send + 'static,
) -> Result<Client, tokio_postgres::Error> {
    let (client, mut connection) = config.connect(tls).await?;
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                on_notice(notification);
            }
        }
    });
    client.batch_execute(SETTINGS).await?;
    Ok(client)
}

fn configuration(parsed: &ParsedAddress) -> Config {
    let mut config = Config::new();
    config
        .user(&parsed.user)
        .dbname(&parsed.database)
        .application_name(concat!("lessor ", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(Duration::from_secs(3))
        .keepalives_retries(3)
        .tcp_user_timeout(UNACKNOWLEDGED)
        // a standby would refuse every call
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .ssl_mode(match parsed.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyChain | TlsMode::VerifyFull => SslMode::Require,
        });
    for (host, port) in &parsed.hosts {
        // a path is the directory of a socket
        config.host(host).port(*port);
    }
    config
}

/// TLS with the certificates that the address names, else those of the system.
fn tls(parsed: &ParsedAddress) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusted: Arc<dyn ServerCertVerifier> = match &parsed.root_certificate {
        Some(path) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider.clone());
            verifier.build().map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Arc::new(
            rustls_platform_verifier::Verifier::new(provider.clone())
                .map_err(|error| format!("the system's roots: {error}"))?,
        ),
    };
    let verifier = Arc::new(ServerCertificates { trusted, mode: parsed.tls });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // "dangerous" means a verifier other than that of rustls: here one that follows `sslmode`
    let builder = builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let pem = http::read_certificates(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if roots.is_empty() { Err(format!("{} contains no PEM certificates", path.display())) } else { Ok(roots) }
}

/// Which certificates of servers are accepted, by `sslmode`.
#[derive(Debug)]
struct ServerCertificates {
    trusted: Arc<dyn ServerCertVerifier>,
    mode: TlsMode,
}

impl ServerCertVerifier for ServerCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // only on this machine: see `address`
        if self.mode < TlsMode::VerifyChain {
            return Ok(ServerCertVerified::assertion());
        }
        match self.trusted.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // the chain was verified before the name, by the verifier of rustls, which is used with a named root
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.mode == TlsMode::VerifyChain => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.supported_verify_schemes()
    }
}
