//! Errors of installing or querying a service.

use std::io;
use std::path::PathBuf;

/// Why an operation failed.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The manager cannot be reached.
    #[error("{manager} cannot be reached: {why}")]
    NoManager { manager: &'static str, why: String },
    /// A call of the manager failed.
    #[error("`{call}` failed: {said}")]
    Call { call: String, said: String },
    /// The units were written, but the manager does not find them.
    #[error("{manager} does not find the unit {}", path.display())]
    NotSeen { manager: &'static str, path: PathBuf },
    /// A path cannot be written into a unit.
    #[error("{what} is {path:?}, which {why}")]
    Path { what: String, path: PathBuf, why: &'static str },
    /// A file operation failed.
    #[error("{doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: io::Error },
}

impl ServiceError {
    /// The remedy.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoManager { manager: "systemd", .. } => Some(
                "log in as this user (ssh, machinectl shell), or as root: loginctl enable-linger USER; where there is \
                 no systemd, the first command that needs the daemon starts it",
            ),
            Self::NoManager { .. } => Some("the first command that needs the daemon starts it, without a service"),
            Self::NotSeen { manager: "systemd", .. } => Some(
                "it was started with another XDG_CONFIG_HOME: install again with the value that \
                 `systemctl --user show-environment` prints, or without",
            ),
            _ => None,
        }
    }
}
