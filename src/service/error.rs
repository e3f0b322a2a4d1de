//! Why a service cannot be installed, or asked about.

use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// There is nobody to tell.
    #[error("{manager} cannot be reached: {why}")]
    NoManager {
        /// Who.
        manager: &'static str,
        /// What happened instead.
        why: String,
    },
    /// A manager refused.
    #[error("`{call}` failed: {said}")]
    Call {
        /// What it was asked.
        call: String,
        /// Its answer.
        said: String,
    },
    /// The units are written, and the manager does not see them.
    #[error("{manager} does not look for its units where {} is", path.display())]
    NotSeen {
        /// Who.
        manager: &'static str,
        /// The first of them.
        path: PathBuf,
    },
    /// Something cannot be written into a unit.
    #[error("{what} is {path:?}, which {why}")]
    Path {
        /// What it is.
        what: String,
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file.
    #[error("{doing} {}: {error}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which one.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

impl ServiceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoManager { manager: "systemd", .. } => Some(
                "log in as this user (ssh, machinectl shell), or as root: loginctl enable-linger USER; where there is \
                 no systemd, the first command that needs the daemon starts it",
            ),
            Self::NoManager { .. } => Some("the first command that needs the daemon starts it, without a service"),
            Self::NotSeen { manager: "systemd", .. } => Some(
                "it was started with another XDG_CONFIG_HOME: install again with the one that \
                 `systemctl --user show-environment` prints, or without",
            ),
            _ => None,
        }
    }
}
