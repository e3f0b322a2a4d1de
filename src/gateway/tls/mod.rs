//! TLS on loopback: the certificate that the gateway shows, and the files by which the programs that `run` starts trust
//! it. Nothing is installed in the system's store.
//!
//! Each certificate has a CA of its own, which can sign no other one: a renewal makes another CA. So that programs that
//! run do not lose the gateway, the successor is made long before it is shown, and its CA is in the files from then on.

mod files;
mod issue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::daemon::SecureGateway;
use crate::pool::Wall;
use files::TlsFiles;
use issue::{DAY, IssuedCertificate};

/// How long before the end of a certificate its successor is made; clients that start from then on trust both.
const SUCCESSOR_BEFORE: u64 = 90 * DAY;
/// How long before its end a certificate is replaced by its successor.
const SHOWN_UNTIL_BEFORE: u64 = 7 * DAY;
/// How often to look whether a certificate has to be replaced.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Why there is no TLS; with the next step.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Directory(#[from] crate::daemon::SocketError),
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("the certificate in {} cannot be used ({why}); remove that file", path.display())]
    Unusable { path: PathBuf, why: String },
}

/// The certificate that is shown, and its successor once there is one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct KeptCertificates {
    current: IssuedCertificate,
    next: Option<IssuedCertificate>,
}

impl KeptCertificates {
    /// What holds at this time: the same, the successor in its place, or a new one.
    fn at(now: Wall, kept: Option<&Self>) -> Result<Self, rcgen::Error> {
        let is_good = |issued: &&IssuedCertificate| {
            issued.valid_from <= now && now.0.saturating_add(SHOWN_UNTIL_BEFORE) < issued.valid_until.0
        };
        let current = kept.map(|kept| &kept.current).filter(is_good);
        let next = kept.and_then(|kept| kept.next.as_ref()).filter(is_good);
        let (current, next) = match (current, next) {
            (Some(current), next) => (current.clone(), next.cloned()),
            (None, Some(next)) => (next.clone(), None),
            (None, None) => (issue::issue(now)?, None),
        };
        let is_due = now.0.saturating_add(SUCCESSOR_BEFORE) >= current.valid_until.0;
        let next = if next.is_none() && is_due { Some(issue::issue(now)?) } else { next };
        Ok(Self { current, next })
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// When one of them cannot be shown, or not trusted.
    fn check(&self) -> Result<(), String> {
        for issued in [&self.current].into_iter().chain(&self.next) {
            server_config(issued)?;
            issued.check()?;
        }
        Ok(())
    }

    /// The CAs that clients should trust, the one of the shown certificate first.
    fn authorities(&self) -> String {
        let next = self.next.as_ref().map(|next| next.ca.as_str());
        format!("{}{}", self.current.ca, next.unwrap_or_default())
    }
}

/// The certificate of the gateway.
#[derive(Debug)]
pub(super) struct TlsCertificates {
    files: TlsFiles,
    kept: KeptCertificates,
    config: Arc<ServerConfig>,
}

impl TlsCertificates {
    /// The certificate that is kept in a directory; made on first use.
    ///
    /// # Errors
    /// When it cannot be made or stored.
    pub(super) fn open(directory: &Path, now: Wall) -> Result<Self, TlsError> {
        let files = TlsFiles::in_directory(directory)?;
        let before = files.read().filter(|kept| {
            let unusable = kept.check().err();
            let path = files.certificates.display();
            unusable.iter().for_each(|why| tracing::warn!("another certificate for TLS is made: {path}: {why}"));
            unusable.is_none()
        });
        let kept = KeptCertificates::at(now, before.as_ref())?;
        if before.as_ref() != Some(&kept) {
            files.save(&kept)?;
        }
        files.publish(&kept.authorities())?;
        let config = server_config(&kept.current);
        let config = config.map_err(|why| TlsError::Unusable { path: files.certificates.clone(), why })?;
        Ok(Self { files, kept, config })
    }

    /// Whether a certificate has to be made or replaced now.
    pub(super) fn is_due(&self, now: Wall) -> bool {
        !KeptCertificates::at(now, Some(&self.kept)).is_ok_and(|kept| kept == self.kept) || !self.files.are_there()
    }

    /// For connections that come from now on.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// What clients need, at this address.
    pub(super) fn published(&self, url: String) -> SecureGateway {
        SecureGateway {
            url,
            ca_file: self.files.ca.display().to_string(),
            ca_bundle: self.files.bundle.display().to_string(),
            valid_from: self.kept.current.valid_from,
            valid_until: self.kept.current.valid_until,
        }
    }
}

fn server_config(issued: &IssuedCertificate) -> Result<Arc<ServerConfig>, String> {
    let invalid = |error: &dyn std::fmt::Display| error.to_string();
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).map_err(|error| invalid(&error))?;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|error| invalid(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| invalid(&error))?.with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_796_000_000_000;

    fn kept_at(day: u64, kept: Option<&KeptCertificates>) -> KeptCertificates {
        KeptCertificates::at(Wall(START + day * DAY), kept).unwrap()
    }

    #[test]
    fn a_successor_is_trusted_long_before_it_is_shown() {
        let first = kept_at(0, None);
        assert_eq!(kept_at(274, Some(&first)), first, "nothing is due");
        let both = kept_at(275, Some(&first));
        assert_eq!(both.current, first.current, "clients that run keep the certificate that they trust");
        let next = both.next.clone().unwrap();
        assert!(both.authorities().starts_with(&first.current.ca) && both.authorities().ends_with(&next.ca));
        assert_eq!(kept_at(357, Some(&both)), both);
        let later = kept_at(358, Some(&both));
        assert_eq!((&later.current, &later.next), (&next, &None));
    }

    #[test]
    fn a_certificate_that_does_not_fit_the_clock_is_replaced() {
        let first = kept_at(0, None);
        for day in [-2, 358, 400, 4000] {
            let now = Wall((START as i64 + day * DAY as i64) as u64);
            let replaced = KeptCertificates::at(now, Some(&first)).unwrap();
            assert_ne!(replaced.current, first.current, "day {day}");
            assert!(replaced.current.valid_from <= now && now < replaced.current.valid_until, "day {day}");
        }
    }

    #[test]
    fn the_certificate_is_kept_and_what_is_damaged_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("tls");
        let open = || TlsCertificates::open(&directory, Wall(START)).unwrap();
        let first = open();
        assert!(!first.is_due(Wall(START)) && first.is_due(Wall(START + 300 * DAY)));
        assert_eq!(open().kept, first.kept);
        std::fs::remove_file(&first.files.ca).unwrap();
        assert!(first.is_due(Wall(START)), "clients cannot trust it");
        assert_eq!(open().kept, first.kept);
        assert!(first.files.ca.exists());
        std::fs::write(&first.files.certificates, "{").unwrap();
        let mut kept = open().kept;
        assert_ne!(kept, first.kept);
        // a file that can be read, with what cannot be shown, or not trusted
        for (old, new) in [("BEGIN PRIVATE", "BEGIN X"), ("BEGIN CERTIFICATE", "BEGIN X")] {
            let text = std::fs::read_to_string(&first.files.certificates).unwrap();
            assert!(text.contains(old));
            std::fs::write(&first.files.certificates, text.replacen(old, new, 1)).unwrap();
            let replaced = open().kept;
            assert_ne!(replaced, kept, "{old}");
            kept = replaced;
        }
        let others = KeptCertificates::at(Wall(START), None).unwrap().current;
        for damaged in [
            IssuedCertificate { key: others.key.clone(), ..kept.current.clone() },
            IssuedCertificate { ca: others.ca, ..kept.current.clone() },
            IssuedCertificate { valid_until: Wall(START + 4000 * DAY), ..kept.current },
        ] {
            let damaged = KeptCertificates { current: damaged, next: None };
            first.files.save(&damaged).unwrap();
            assert_ne!(open().kept, damaged);
            assert_eq!(open().kept, open().kept);
        }
    }
}
