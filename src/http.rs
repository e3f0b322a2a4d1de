//! The client for all that goes upstream: TLS, proxy and roots in one place, and never a redirect followed.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A server that does not even accept the connection in this time counts as unreachable.
const CONNECT: Duration = Duration::from_secs(10);

/// How a provider is reached, where that is not the straight way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    /// The URL of a proxy for this provider. Without one, the proxy variables of the environment count.
    pub proxy: Option<String>,
    /// A PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Why no client could be made.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The file with certificates cannot be read.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Unreadable {
        /// Where they should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It holds no certificates in PEM form.
    #[error("{} holds no PEM certificates: {source}", path.display())]
    NoCertificates {
        /// Where they should be.
        path: PathBuf,
        /// What the TLS library says.
        source: reqwest::Error,
    },
    /// The proxy's URL is none.
    #[error("the proxy {url:?} is not a URL like http://host:port: {source}")]
    Proxy {
        /// What the config says, without user and password.
        url: String,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(reqwest::Error),
    /// The same, of a client that is not reqwest's.
    #[error("cannot set up TLS: {0}")]
    Failed(String),
}

/// Makes a client. It keeps connections open, so one is made for each way to reach a provider and kept.
///
/// # Errors
/// When the certificates or the proxy in `reach` are unusable, or the system has no trusted roots.
pub fn client(reach: &Reach) -> Result<reqwest::Client, HttpError> {
    // another part of the process may have chosen the same before: that is no error
    let _ = rustls::crypto::ring::default_provider().install_default();
    // a redirect could carry a credential elsewhere
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .referer(false)
        .retry(reqwest::retry::never());
    if let Some(url) = &reach.proxy {
        let proxy = reqwest::Proxy::all(url)
            .map_err(|source| HttpError::Proxy { url: without_password(url), source: source.without_url() })?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &reach.ca_file {
        let pem = std::fs::read(path).map_err(|source| HttpError::Unreadable { path: path.clone(), source })?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|source| HttpError::NoCertificates { path: path.clone(), source })?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(HttpError::Tls)
}

/// The same TLS as that of [`client`], for a client of another kind: the system's roots, and those of `reach`.
///
/// # Errors
/// When the certificates in `reach` are unusable, or the system has no trusted roots.
pub fn tls(reach: &Reach) -> Result<rustls::ClientConfig, HttpError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let failed = |error: &dyn std::fmt::Display| HttpError::Failed(error.to_string());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = &reach.ca_file {
        let pem = std::fs::read(path).map_err(|source| HttpError::Unreadable { path: path.clone(), source })?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        extra = read.map_err(|error| HttpError::Failed(format!("{}: {error}", path.display())))?;
        if extra.is_empty() {
            return Err(HttpError::Failed(format!("{} holds no PEM certificates", path.display())));
        }
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone());
    let verifier = std::sync::Arc::new(verifier.map_err(|error| failed(&error))?);
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // the dangerous part is another verifier than rustls' own: the system's
    let builder = builder.map_err(|error| failed(&error))?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// What may be shown of a URL: a password in it is nobody's business.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// An error and all that caused it, in one line: reqwest names only the outermost.
#[must_use]
pub fn in_full(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("http://user:canary@proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
    }

    #[test]
    fn a_client_needs_nothing_and_says_what_is_wrong() {
        client(&Reach::default()).expect("a client");
        let missing = Reach { ca_file: Some("/nowhere/ca.pem".into()), ..Reach::default() };
        assert!(client(&missing).unwrap_err().to_string().contains("/nowhere/ca.pem"));
        let proxy = Reach { proxy: Some("http://u:canary@[bad".into()), ..Reach::default() };
        let said = client(&proxy).unwrap_err().to_string();
        assert!(!said.contains("canary"), "{said}");
    }
}
