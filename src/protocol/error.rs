//! Errors on the wire: JSON-RPC's codes for malformed calls, one code and a stable kind for all others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::{Refusal, RefusalKind, Wall};
pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
/// All other errors; the kind distinguishes them.
pub(super) const REFUSED: i32 = -32000;

/// An error, in both codecs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ErrorInfo {
    /// JSON-RPC's code.
    pub code: i32,
    /// One sentence.
    pub message: String,
    /// The machine-readable part.
    pub data: ErrorData,
}

/// Declares the kinds of errors, each with its stable name.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal,)+) => {
        /// The stable kind of an error. On the wire it is its name.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(from = "String", into = "String")]
        #[schemars(with = "String")]
        pub enum ErrorKind {
            $($(#[doc = $doc])* $kind,)+
            /// A kind that this version does not know, with its name; a newer version sent it.
            Other(String),
        }

        impl ErrorKind {
            /// All kinds that this version knows: name and meaning.
            pub const CATALOG: &[(&str, &str)] = &[$(($name, concat!($($doc),+))),+];

            /// The stable name.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for ErrorKind {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($name => Self::$kind,)+
                    _ => Self::Other(name),
                }
            }
        }
    };
}

kinds! {
    /// There is no account that could ever serve the request.
    NoAccount = "no_account",
    /// Every suitable account has a limit.
    AllLimited = "all_limited",
    /// Every suitable account has all the leases that it may have.
    NoCapacity = "no_capacity",
    /// The time to wait is over.
    WaitTimeout = "wait_timeout",
    /// The name matches no account, or several.
    UnknownAccount = "unknown_account",
    /// There is no such provider.
    UnknownProvider = "unknown_provider",
    /// The `use` policy of each account excludes this agent, or the program behind the connection is not recognised as
    /// it (`attest = "strict"`); or no account of the provider is in the request's set, or each that could serve is kept
    /// for requests that name it.
    NotAllowed = "not_allowed",
    /// The lease has ended; acquire a new one.
    StaleLease = "stale_lease",
    /// The id matches no lease, or several; or it is from before a reboot, or of another database. Acquire a new one.
    UnknownLease = "unknown_lease",
    /// No key of the gateway has this id or label, or several have it.
    UnknownKey = "unknown_key",
    /// The user must log in.
    NeedsLogin = "needs_login",
    /// The user must confirm something with the provider.
    NeedsVerification = "needs_verification",
    /// The credential cannot be used now.
    CredentialUnavailable = "credential_unavailable",
    /// The call is malformed or contradicts itself.
    BadRequest = "bad_request",
    /// The message is larger than 256 KiB.
    TooLarge = "too_large",
    /// Too many calls or too much data at the moment; `retry_after_ms` says when to try again. lessor's own clients do, for
    /// 5 s.
    Overloaded = "overloaded",
    /// The daemon is stopping.
    ShuttingDown = "shutting_down",
    /// The two programs do not support the same protocol version.
    UnsupportedVersion = "unsupported_version",
    /// The account has no banked limit reset, or none of its windows is used.
    NoReset = "no_reset",
    /// This host shares no pool with other hosts, or is in another one already.
    NotInPool = "not_in_pool",
    /// The database of the shared pool could not be reached, or refused.
    PoolUnavailable = "pool_unavailable",
    /// The provider could not be reached, refused, or gave an answer that is not understood.
    ProviderFailed = "provider_failed",
    /// This machine uses the accounts of another one, and the link has been down for longer than `join.grace`.
    HostUnreachable = "host_unreachable",
    /// A fault of the daemon or the system.
    Internal = "internal",
    /// The command line is not valid. Like all kinds below, only the command line makes it.
    Usage = "usage",
    /// The configuration is not valid.
    ConfigInvalid = "config_invalid",
    /// The configuration file changed while it was edited.
    ChangedMeanwhile = "changed_meanwhile",
    /// No daemon is running, and none could be started.
    NoDaemon = "no_daemon",
    /// The connection to the daemon was lost.
    LostConnection = "lost_connection",
    /// The gateway does not listen.
    NoGateway = "no_gateway",
    /// This system has no service manager that lessor supports.
    NoServiceManager = "no_service_manager",
    /// The system's service manager refused.
    ServiceFailed = "service_failed",
    /// The program could not be started.
    CannotRun = "cannot_run",
    /// A setting that the command needs is missing.
    NotConfigured = "not_configured",
    /// The login failed.
    LoginFailed = "login_failed",
    /// A file could not be written.
    Io = "io",
}

impl From<ErrorKind> for String {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Other(name) => name,
            known => known.name().to_owned(),
        }
    }
}

impl From<RefusalKind> for ErrorKind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::NoAccount => Self::NoAccount,
            RefusalKind::AllLimited => Self::AllLimited,
            RefusalKind::NoCapacity => Self::NoCapacity,
            RefusalKind::WaitTimeout => Self::WaitTimeout,
            RefusalKind::UnknownAccount => Self::UnknownAccount,
            RefusalKind::NotAllowed => Self::NotAllowed,
            RefusalKind::StaleLease => Self::StaleLease,
            RefusalKind::NeedsLogin => Self::NeedsLogin,
            RefusalKind::NeedsVerification => Self::NeedsVerification,
            RefusalKind::BadRequest => Self::BadRequest,
            RefusalKind::Overloaded => Self::Overloaded,
            RefusalKind::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// The machine-readable part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// The stable kind.
    pub kind: ErrorKind,
    /// When a retry can succeed at the earliest, ms from now, if known.
    pub retry_after_ms: Option<u64>,
    /// What blocks each account.
    pub accounts: Vec<ErrorAccount>,
    /// How to fix it.
    pub hint: Option<String>,
}

/// What blocks one account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAccount {
    /// The account's id.
    pub id: String,
    /// What.
    pub why: String,
    /// Until when, epoch ms, if known.
    pub until: Option<u64>,
    /// What people call it.
    pub name: Option<String>,
}

/// When a call that was refused for lack of room may be sent again, in milliseconds.
const OVERLOADED_FOR_MS: u64 = 500;

impl ErrorInfo {
    /// An error of a stable kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let data = ErrorData { kind, retry_after_ms: None, accounts: Vec::new(), hint: None };
        Self { code: REFUSED, message: message.into(), data }
    }

    /// The error for a call that cannot be served for lack of room, and may be sent again.
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Overloaded, message).hint("try again in a moment");
        error.data.retry_after_ms = Some(OVERLOADED_FOR_MS);
        error
    }

    /// Adds a hint how to fix the error.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.data.hint = Some(hint.into());
        self
    }

    /// The error for a refusal of the pool.
    #[must_use]
    pub fn of_refusal(refusal: &Refusal, now: Wall) -> Self {
        let accounts = refusal.accounts.iter().map(|obstacle| ErrorAccount {
            id: obstacle.account.to_string(),
            why: obstacle.why.name().to_owned(),
            until: obstacle.until.map(|until| until.0),
            name: None,
        });
        let mut error = Self::new(refusal.kind.into(), refusal.message.clone());
        error.data.retry_after_ms = refusal.retry_at.map(|at| at.0.saturating_sub(now.0));
        error.data.accounts = accounts.collect();
        error.data.hint.clone_from(&refusal.hint);
        error
    }

    pub(super) fn malformed(code: i32, message: impl Into<String>) -> Self {
        Self { code, ..Self::new(ErrorKind::BadRequest, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_a_newer_version_keeps_its_name() {
        for name in ["stale_lease", "from_tomorrow"] {
            let text = format!("\"{name}\"");
            let kind: ErrorKind = serde_json::from_str(&text).unwrap();
            assert_eq!((kind.name(), serde_json::to_string(&kind).unwrap()), (name, text));
            assert_eq!(matches!(kind, ErrorKind::Other(_)), name == "from_tomorrow");
        }
    }
}
