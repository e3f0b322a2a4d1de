//! The one error of the command line: what went wrong, where, what to do, and the exit code.

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::ClientError;
use crate::protocol::ErrorInfo;

use super::output::Output;
use super::{context, words};

/// The command was not understood.
pub(super) const USAGE: u8 = 2;
/// The thing asked for failed.
const FAILED: u8 = 1;
const NO_DAEMON: u8 = 3;
const NOBODY_NOW: u8 = 4;
const NEEDS_USER: u8 = 5;
/// The configuration is not valid.
pub(super) const CONFIG: u8 = 6;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: u8,
    error: Box<ErrorInfo>,
    /// Nothing to tell: the reader went away.
    quiet: bool,
}

/// Any command's failure, on standard error.
#[derive(Serialize, JsonSchema)]
pub(super) struct Document<'a> {
    /// What went wrong.
    error: &'a ErrorInfo,
}

impl Failure {
    pub(super) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { exit: exit_code(kind), error: Box::new(ErrorInfo::new(kind, message)), quiet: false }
    }

    /// The command line is at fault.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", message)
    }

    /// The configuration is at fault.
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::new("config_invalid", message)
    }

    /// Writing failed; a reader that has seen enough is no failure.
    pub(super) fn of_output(error: &std::io::Error) -> Self {
        let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
        let failure = Self::new("internal", format!("writing the output: {error}"));
        Self { exit: if closed { 0 } else { failure.exit }, quiet: closed, ..failure }
    }

    /// What to do about it, unless something better is known.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.data.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// What to do about it, better than what was known.
    pub(super) fn hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.error.data.hint = Some(hint.into());
        self
    }

    pub(super) fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    pub(super) fn message(&self) -> &str {
        &self.error.message
    }

    pub(super) fn kind(&self) -> &str {
        &self.error.data.kind
    }

    /// Says it on standard error.
    pub(super) fn tell(&self, output: &Output) {
        if self.quiet {
            return;
        }
        if output.json {
            let document = Document { error: &self.error };
            output.note(&serde_json::to_string(&document).unwrap_or_default());
        } else {
            output.note(self.text(context::now(), output).trim_end());
        }
    }

    fn text(&self, now: u64, output: &Output) -> String {
        let ErrorInfo { message, data, .. } = &*self.error;
        let mut text = format!("{} {message}\n", output.bad("error:"));
        for account in &data.accounts {
            let until = account.until.map(|until| format!(", free {}", words::until(now, until))).unwrap_or_default();
            text += &format!("  {}  {}{until}\n", account.id, account.why.replace('_', " "));
        }
        if let Some(after) = data.retry_after_ms {
            text += &format!("  earliest: {}\n", words::until(now, now.saturating_add(after)));
        }
        if let Some(hint) = &data.hint {
            text += &format!("{} {hint}\n", output.strong("hint:"));
        }
        text
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::NoDaemon(_) => Self::new("no_daemon", message),
            ClientError::Mismatch { hint, .. } => Self::new("unsupported_version", message).hint(hint),
            ClientError::Refused(error) => {
                Self { exit: exit_code(&error.data.kind), error, quiet: false }.with_own_hint()
            }
            ClientError::Lost(_) => Self::new("lost_connection", message).hint("try again; see: lessor status"),
            _ => Self::new("internal", message),
        }
    }
}

impl Failure {
    /// What the command line can say that the daemon, which knows no commands, did not.
    fn with_own_hint(self) -> Self {
        match self.kind() {
            "no_account" => self.hint("add one: lessor account add PROVIDER --api-key-stdin"),
            "unknown_account" => self.hint("see: lessor account list"),
            "unknown_lease" | "stale_lease" => self.hint("see: lessor leases"),
            "needs_login" | "needs_verification" => self.hint("see: lessor status"),
            _ => self,
        }
    }
}

/// The exit code that belongs to a kind of error.
fn exit_code(kind: &str) -> u8 {
    match kind {
        "usage" => USAGE,
        "no_daemon" => NO_DAEMON,
        "all_limited" | "no_capacity" | "wait_timeout" => NOBODY_NOW,
        "no_account" | "needs_login" | "needs_verification" => NEEDS_USER,
        "config_invalid" => CONFIG,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorAccount;

    #[test]
    fn kinds_have_their_exit_codes() {
        for (kind, code) in [
            ("all_limited", 4),
            ("no_capacity", 4),
            ("wait_timeout", 4),
            ("no_account", 5),
            ("needs_login", 5),
            ("needs_verification", 5),
            ("unknown_account", 1),
            ("unknown_provider", 1),
            ("not_allowed", 1),
            ("stale_lease", 1),
            ("bad_request", 1),
            ("internal", 1),
            ("usage", 2),
            ("no_daemon", 3),
            ("config_invalid", 6),
        ] {
            assert_eq!(Failure::from(ClientError::from(ErrorInfo::new(kind, "x"))).exit, code, "{kind}");
        }
    }

    #[test]
    fn a_refusal_tells_each_account_the_time_and_the_way_out() {
        let mut error = ErrorInfo::new("all_limited", "every account is limited").hint("wait");
        error.data.retry_after_ms = Some(240_000);
        error.data.accounts = vec![ErrorAccount { id: "ac_1".into(), why: "limited".into(), until: Some(1_060_000) }];
        let failure = Failure::from(ClientError::from(error));
        assert_eq!(
            failure.text(1_000_000, &Output::plain(80)),
            "error: every account is limited\n  ac_1  limited, free in 60 s\n  earliest: in 4 min\nhint: wait\n"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::of_output(&std::io::ErrorKind::BrokenPipe.into()).exit, 0);
        assert_eq!(Failure::of_output(&std::io::ErrorKind::StorageFull.into()).exit, 1);
    }
}
