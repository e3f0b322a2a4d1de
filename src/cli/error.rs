//! The error of the command line: what failed, where, a hint, and the exit code.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::protocol::{ErrorInfo, ErrorKind};
use crate::{client::ClientError, config::ConfigErrors};

/// Exit code: the command line is not valid.
pub(crate) const USAGE: u8 = 2;
/// Exit code: the configuration is not valid.
pub(crate) const CONFIG: u8 = 6;
pub(crate) const FAILED: u8 = 1;
const NO_DAEMON: u8 = 3;
const NO_ACCOUNT_NOW: u8 = 4;
pub(crate) const NEEDS_USER: u8 = 5;

#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: u8,
    pub(crate) info: Box<ErrorInfo>,
    /// Standard output was closed by its reader: nothing is printed.
    pub(crate) quiet: bool,
}

/// The error of any command, on standard error.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorDocument<'a> {
    /// What failed.
    pub(crate) error: &'a ErrorInfo,
}

impl CliError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { exit: exit_code(&kind), info: Box::new(ErrorInfo::new(kind, message)), quiet: false }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ConfigInvalid, message)
    }

    /// The configuration file is not valid: every problem in it.
    pub(crate) fn invalid_config(path: &Path, errors: &ConfigErrors) -> Self {
        let hint = if path.is_file() {
            "correct it: lessor config edit; see every error: lessor config check"
        } else {
            "see: lessor config path"
        };
        Self::config(format!("the configuration is not valid:\n{errors}")).hint(hint)
    }

    /// Writing failed; a closed pipe is not an error.
    pub(crate) fn of_output(error: &std::io::Error) -> Self {
        let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
        let failed = Self::internal(format!("writing the output: {error}"));
        Self { exit: if closed { 0 } else { failed.exit }, quiet: closed, ..failed }
    }

    /// Adds a hint, unless there is one.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.info.data.hint.get_or_insert_with(|| hint.into());
        self
    }

    pub(crate) fn replace_hint(mut self, hint: impl Into<String>) -> Self {
        self.info.data.hint = Some(hint.into());
        self
    }

    /// Says what the error is about, in front of it.
    pub(crate) fn about(mut self, what: &str) -> Self {
        if !self.info.message.contains(what) {
            self.info.message = format!("{what}: {}", self.info.message);
        }
        self
    }

    /// Sets the exit code only: the result says what is wrong, and is printed already.
    pub(crate) fn silent(self) -> Self {
        Self { quiet: true, ..self }
    }

    pub(crate) fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        self.info.data.retry_after_ms
    }

    pub(crate) fn message(&self) -> &str {
        &self.info.message
    }

    pub(crate) fn kind(&self) -> &ErrorKind {
        &self.info.data.kind
    }

    /// Adds the hints that name commands; the daemon does not know the command line.
    fn with_command_hint(self) -> Self {
        match self.kind() {
            ErrorKind::NoAccount => self.hint("add one: lessor account add PROVIDER --api-key-stdin"),
            ErrorKind::UnknownAccount => self.hint("see: lessor account list"),
            ErrorKind::UnknownLease | ErrorKind::StaleLease => self.hint("see: lessor leases"),
            ErrorKind::NeedsLogin | ErrorKind::NeedsVerification => self.hint("see: lessor status"),
            _ => self,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::NoDaemon(_) => Self::new(ErrorKind::NoDaemon, message),
            ClientError::Mismatch { hint, .. } => Self::new(ErrorKind::UnsupportedVersion, message).hint(hint),
            ClientError::Refused(info) => {
                Self { exit: exit_code(&info.data.kind), info, quiet: false }.with_command_hint()
            }
            ClientError::Lost(_) => Self::new(ErrorKind::LostConnection, message).hint("try again; see: lessor status"),
            _ => Self::internal(message),
        }
    }
}

/// The exit code of an error kind.
fn exit_code(kind: &ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::NoDaemon | ErrorKind::HostUnreachable => NO_DAEMON,
        ErrorKind::AllLimited | ErrorKind::NoCapacity | ErrorKind::WaitTimeout => NO_ACCOUNT_NOW,
        ErrorKind::NoAccount | ErrorKind::NeedsLogin | ErrorKind::NeedsVerification | ErrorKind::NotAllowed => {
            NEEDS_USER
        }
        ErrorKind::ConfigInvalid => CONFIG,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_kind_has_its_exit_code() {
        use ErrorKind as Kind;
        let unknown = Kind::Other("from_tomorrow".to_owned());
        let failures =
            [Kind::UnknownAccount, Kind::UnknownProvider, Kind::StaleLease, Kind::BadRequest, Kind::Internal, unknown];
        for (code, kinds) in [
            (1, &failures[..]),
            (2, &[Kind::Usage]),
            (3, &[Kind::NoDaemon, Kind::HostUnreachable]),
            (4, &[Kind::AllLimited, Kind::NoCapacity, Kind::WaitTimeout]),
            (5, &[Kind::NoAccount, Kind::NeedsLogin, Kind::NeedsVerification, Kind::NotAllowed]),
            (6, &[Kind::ConfigInvalid]),
        ] {
            for kind in kinds {
                assert_eq!(CliError::from(ClientError::from(ErrorInfo::new(kind.clone(), "x"))).exit, code, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        assert_eq!(CliError::of_output(&std::io::ErrorKind::BrokenPipe.into()).exit, 0);
        assert_eq!(CliError::of_output(&std::io::ErrorKind::StorageFull.into()).exit, 1);
    }
}
