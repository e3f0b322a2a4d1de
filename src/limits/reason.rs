//! Why an upstream refused, and what the refusal applies to.

use serde::{Deserialize, Serialize};

/// Why an upstream refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A window of the quota is used up.
    QuotaExhausted,
    /// Too many requests in a short time.
    RateLimitExceeded,
    /// The model is overloaded for all accounts.
    ModelCapacityExhausted,
    /// The service failed.
    ServerError,
    /// The reason could not be determined.
    Unknown,
    /// The credential was not accepted.
    AuthFailed,
    /// The user must verify the account with the provider.
    VerificationRequired,
    /// The account may not do this.
    Forbidden,
    /// The account's credit is used up.
    OutOfCredit,
    /// The request itself is invalid.
    RequestRejected,
}

/// What a refusal applies to, narrowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This request alone.
    Request,
    /// One model of the account.
    Model,
    /// One quota of the account.
    Pool,
    /// The whole account.
    Account,
    /// The service, for all accounts.
    Service,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::QuotaExhausted,
        Self::RateLimitExceeded,
        Self::ModelCapacityExhausted,
        Self::ServerError,
        Self::Unknown,
        Self::AuthFailed,
        Self::VerificationRequired,
        Self::Forbidden,
        Self::OutOfCredit,
        Self::RequestRejected,
    ];

    /// What this reason applies to by default.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::QuotaExhausted | Self::RateLimitExceeded | Self::Unknown => Scope::Pool,
            Self::ModelCapacityExhausted | Self::ServerError => Scope::Service,
            Self::AuthFailed | Self::VerificationRequired | Self::Forbidden | Self::OutOfCredit => Scope::Account,
            Self::RequestRejected => Scope::Request,
        }
    }

    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QuotaExhausted => "quota_exhausted",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::ModelCapacityExhausted => "model_capacity_exhausted",
            Self::ServerError => "server_error",
            Self::Unknown => "unknown",
            Self::AuthFailed => "auth_failed",
            Self::VerificationRequired => "verification_required",
            Self::Forbidden => "forbidden",
            Self::OutOfCredit => "out_of_credit",
            Self::RequestRejected => "request_rejected",
        }
    }
}

impl Scope {
    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Model => "model",
            Self::Pool => "pool",
            Self::Account => "account",
            Self::Service => "service",
        }
    }
}
