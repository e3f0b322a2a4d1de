//! Errors on the wire: JSON-RPC's codes for malformed calls, one code and a stable kind for all others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::{Refusal, RefusalKind, Wall};

/// The line is not JSON.
pub(super) const PARSE_ERROR: i32 = -32700;
/// The JSON is not a call.
pub(super) const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are not valid.
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

/// The machine-readable part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// The stable kind.
    pub kind: String,
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
}

impl ErrorInfo {
    /// An error of a stable kind.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        let data = ErrorData { kind: kind.to_owned(), retry_after_ms: None, accounts: Vec::new(), hint: None };
        Self { code: REFUSED, message: message.into(), data }
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
        });
        let mut error = Self::new(kind_name(refusal.kind), refusal.message.clone());
        error.data.retry_after_ms = refusal.retry_at.map(|at| at.0.saturating_sub(now.0));
        error.data.accounts = accounts.collect();
        error.data.hint.clone_from(&refusal.hint);
        error
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.data.kind == kind
    }

    pub(super) fn malformed(code: i32, message: impl Into<String>) -> Self {
        Self { code, ..Self::new("bad_request", message) }
    }
}

/// The stable name of a kind.
#[must_use]
pub fn kind_name(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NoAccount => "no_account",
        RefusalKind::AllLimited => "all_limited",
        RefusalKind::NoCapacity => "no_capacity",
        RefusalKind::WaitTimeout => "wait_timeout",
        RefusalKind::UnknownAccount => "unknown_account",
        RefusalKind::NotAllowed => "not_allowed",
        RefusalKind::StaleLease => "stale_lease",
        RefusalKind::NeedsLogin => "needs_login",
        RefusalKind::NeedsVerification => "needs_verification",
        RefusalKind::BadRequest => "bad_request",
        RefusalKind::Overloaded => "overloaded",
        RefusalKind::ShuttingDown => "shutting_down",
    }
}
