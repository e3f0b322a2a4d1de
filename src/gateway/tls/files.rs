//! The files of TLS, in a directory that only its user can enter: the certificates with their keys, the CAs alone, and
//! the CAs with the system's certificates.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::issue::pem;
use super::{KeptCertificates, TlsError};
use crate::daemon::private_directory;

#[derive(Debug)]
pub(super) struct TlsFiles {
    directory: PathBuf,
    /// The certificates and their keys.
    pub(super) certificates: PathBuf,
    /// The CAs, for programs that add them to the system's.
    pub(super) ca: PathBuf,
    /// The CAs and the system's, for programs that replace the system's.
    pub(super) bundle: PathBuf,
}

impl TlsFiles {
    /// # Errors
    /// When the directory cannot be made, or is not safe.
    pub(super) fn in_directory(directory: &Path) -> Result<Self, TlsError> {
        private_directory(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            certificates: directory.join("certificates.json"),
            ca: directory.join("ca.pem"),
            bundle: directory.join("ca-bundle.pem"),
        })
    }

    /// The certificates that are kept, unless other users could read their keys.
    pub(super) fn read(&self) -> Option<KeptCertificates> {
        let path = self.certificates.display();
        let text = match fs::read(&self.certificates) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("another certificate for TLS is made: reading {path}: {error}");
                return None;
            }
        };
        if !is_private(&self.certificates) {
            tracing::warn!("another certificate for TLS is made: other users could read the key in {path}");
            return None;
        }
        let read = serde_json::from_slice(&text);
        read.inspect_err(|error| tracing::warn!("another certificate for TLS is made: {path}: {error}")).ok()
    }

    /// # Errors
    /// When the disk refuses it.
    pub(super) fn save(&self, kept: &KeptCertificates) -> Result<(), TlsError> {
        let written = |error| TlsError::File { doing: "writing", path: self.certificates.clone(), error };
        let text = serde_json::to_vec(kept).map(Zeroizing::new).map_err(|error| written(error.into()))?;
        self.replace(&self.certificates, &text)
    }

    /// Writes the files that clients read.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub(super) fn publish(&self, authorities: &str) -> Result<(), TlsError> {
        // some programs read the first certificate only
        let mut bundle = authorities.to_owned();
        let system = rustls_native_certs::load_native_certs();
        if system.certs.is_empty() {
            let why = system.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            tracing::warn!("the system has no certificates for {}{why}", self.bundle.display());
        }
        bundle.extend(system.certs.iter().map(|certificate| pem("CERTIFICATE", certificate)));
        for (path, text) in [(&self.ca, authorities), (&self.bundle, &bundle)] {
            if !is_private(path) || fs::read(path).ok().as_deref() != Some(text.as_bytes()) {
                self.replace(path, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Whether clients find the files.
    pub(super) fn are_there(&self) -> bool {
        self.ca.is_file() && self.bundle.is_file()
    }

    /// A reader finds the old content or the new one; other users, nothing.
    fn replace(&self, path: &Path, text: &[u8]) -> Result<(), TlsError> {
        let replace = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(text)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        replace().map_err(|error| TlsError::File { doing: "writing", path: path.to_owned(), error })
    }
}

/// Whether no other user may read or change a file.
#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 == 0)
}

/// Files inherit the rights of the user's profile, which keep others out.
#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::super::TlsCertificates;
    use crate::pool::Wall;

    const NOW: Wall = Wall(1_796_000_000_000);

    #[test]
    fn the_bundle_begins_with_the_ca_and_contains_the_system_s_certificates() {
        let directory = tempfile::tempdir().unwrap();
        TlsCertificates::open(directory.path(), NOW).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        let (ca, bundle) = (read("ca.pem"), read("ca-bundle.pem"));
        assert!(bundle.starts_with(&ca));
        let system = rustls_native_certs::load_native_certs().certs.len();
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1 + system);
    }

    #[test]
    #[cfg(unix)]
    fn only_their_user_can_read_the_files_and_a_key_that_others_could_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("tls");
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let first = TlsCertificates::open(&directory, NOW).unwrap();
        let entries: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(entries.len(), 3, "{entries:?}");
        for path in &entries {
            assert_eq!(mode(path), 0o600, "{}", path.display());
            let keys = std::fs::read_to_string(path).unwrap().matches("PRIVATE KEY-----\\n").count();
            assert_eq!(keys / 2, usize::from(path.ends_with("certificates.json")), "the CA's key is nowhere");
            set(path, 0o644);
        }
        set(&directory, 0o755);
        let second = TlsCertificates::open(&directory, NOW).unwrap();
        assert_ne!(second.kept, first.kept);
        assert!(entries.iter().all(|path| mode(path) == 0o600) && mode(&directory) == 0o700);
    }
}
