//! The HTTP client for requests to providers: TLS, proxy and trusted roots in one place. Redirects are never followed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::ownership::{self, UntrustedPath};

/// What lessor's own requests name as their program. The gateway forwards what the agent names.
const USER_AGENT: &str = concat!("lessor/", env!("CARGO_PKG_VERSION"));
/// A server that does not accept a connection within this time is unreachable.
const CONNECT: Duration = Duration::from_secs(10);

/// How to connect to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectOptions {
    /// The URL of a proxy for this provider; otherwise the proxy variables of the environment apply.
    pub proxy: Option<String>,
    /// A PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why no client could be created.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, Error)]
pub enum HttpError {
    /// The certificate file cannot be read.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// Other users could change the certificate file.
    #[error("the certificates in {} are not used, because other users could change them: {source}", path.display())]
    Untrusted { path: PathBuf, source: UntrustedPath },
    /// The file contains no PEM certificates.
    #[error("{} contains no PEM certificates: {source}", path.display())]
    NoCertificates { path: PathBuf, source: reqwest::Error },
    /// The proxy is not a valid URL.
    #[error("the proxy {url:?} is not a URL like http://host:port: {source}")]
    Proxy { url: String, source: reqwest::Error },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// Creates a client. It keeps connections open, so callers keep one for each set of options.
///
/// # Errors
/// When the certificates or the proxy in `reach` are unusable, or the system has no trusted roots.
pub fn client(reach: &ConnectOptions) -> Result<reqwest::Client, HttpError> {
    // another part of the process may have installed the same provider before
    let _ = rustls::crypto::ring::default_provider().install_default();
    // a redirect could send a credential to another server
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .referer(false)
        .retry(reqwest::retry::never());
    if let Some(url) = &reach.proxy {
        let proxy = reqwest::Proxy::all(url)
            .map_err(|source| HttpError::Proxy { url: without_password(url), source: source.without_url() })?;
        builder = builder.proxy(proxy);
    } else {
        builder = environment_proxies().into_iter().fold(builder.no_proxy(), reqwest::ClientBuilder::proxy);
    }
    if let Some(path) = &reach.ca_file {
        let pem = read_certificates(path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|source| HttpError::NoCertificates { path: path.clone(), source })?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| HttpError::Tls(error.to_string()))
}

/// The proxies that the environment names. They never apply to this machine, as in the gateway.
fn environment_proxies() -> Vec<reqwest::Proxy> {
    let variable = |name: &str| {
        let text = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok();
        text.filter(|text| !text.is_empty())
    };
    let mut direct = variable("NO_PROXY").unwrap_or_default();
    direct.push_str(",localhost,127.0.0.0/8,::1");
    let all = variable("ALL_PROXY");
    // a web server that runs a CGI program sets HTTP_PROXY from a header of the client
    let http = variable("HTTP_PROXY").filter(|_| std::env::var_os("REQUEST_METHOD").is_none()).or_else(|| all.clone());
    let proxies = [
        http.and_then(|url| reqwest::Proxy::http(url).ok()),
        variable("HTTPS_PROXY").or(all).and_then(|url| reqwest::Proxy::https(url).ok()),
    ];
    proxies.into_iter().flatten().map(|proxy| proxy.no_proxy(reqwest::NoProxy::from_string(&direct))).collect()
}

/// The TLS configuration of [`client`], for other HTTP clients.
///
/// # Errors
/// When the certificates in `reach` are unusable, or the system has no trusted roots.
pub fn tls(reach: &ConnectOptions) -> Result<rustls::ClientConfig, HttpError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let failed = |error: &dyn std::fmt::Display| HttpError::Tls(error.to_string());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = &reach.ca_file {
        let pem = read_certificates(path)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        extra = read.map_err(|error| HttpError::Tls(format!("{}: {error}", path.display())))?;
        if extra.is_empty() {
            return Err(HttpError::Tls(format!("{} contains no PEM certificates", path.display())));
        }
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone());
    let verifier = std::sync::Arc::new(verifier.map_err(|error| failed(&error))?);
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // "dangerous" means a verifier other than that of rustls: here the system's
    let builder = builder.map_err(|error| failed(&error))?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// The content of a file that no other user can change: its certificates can stand for any server.
///
/// # Errors
/// When it cannot be read, or other users could change it.
pub fn read_certificates(path: &Path) -> Result<Vec<u8>, HttpError> {
    let mut pem = Vec::new();
    let unreadable = |source| HttpError::Unreadable { path: path.to_owned(), source };
    let mut file = ownership::open(path).map_err(unreadable)?;
    ownership::check_opened(path, &file).map_err(|source| HttpError::Untrusted { path: path.to_owned(), source })?;
    file.read_to_end(&mut pem).map_err(unreadable)?;
    Ok(pem)
}

/// The URL without user and password.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// Why a request failed: its innermost cause, because the outer ones only say that a request to its URL failed.
#[must_use]
pub fn failure_cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("http://user:canary@proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_for_certificates_does_not_block() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.pem");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let piped = ConnectOptions { ca_file: Some(path), ..ConnectOptions::default() };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(tls(&piped).unwrap_err().to_string()));
        let said = receiver.recv_timeout(Duration::from_secs(20)).expect("opening must not block");
        assert!(said.contains("no PEM certificates"), "{said}");
    }

    #[test]
    fn errors_name_the_file_or_proxy_and_show_no_password() {
        client(&ConnectOptions::default()).expect("a client");
        let missing = ConnectOptions { ca_file: Some("/nowhere/ca.pem".into()), ..ConnectOptions::default() };
        assert!(client(&missing).unwrap_err().to_string().contains("/nowhere/ca.pem"));
        let proxy = ConnectOptions { proxy: Some("http://u:canary@[bad".into()), ..ConnectOptions::default() };
        let said = client(&proxy).unwrap_err().to_string();
        assert!(!said.contains("canary"), "{said}");
    }
}
