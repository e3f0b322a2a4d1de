//! Why an upstream refused, and what the refusal applies to.

use serde::{Deserialize, Serialize};

named_enum! {
    /// Why an upstream refused.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Reason {
        /// A window of the quota is used up.
        QuotaExhausted = "quota_exhausted",
        /// Too many requests in a short time.
        RateLimitExceeded = "rate_limit_exceeded",
        /// The model is overloaded for all accounts.
        ModelCapacityExhausted = "model_capacity_exhausted",
        /// The service failed.
        ServerError = "server_error",
        /// The reason could not be determined.
        Unknown = "unknown",
        /// The credential was not accepted.
        AuthFailed = "auth_failed",
        /// The user must verify the account with the provider.
        VerificationRequired = "verification_required",
        /// The account may not do this.
        Forbidden = "forbidden",
        /// The account's credit is used up.
        OutOfCredit = "out_of_credit",
        /// The request itself is invalid.
        RequestRejected = "request_rejected",
    }
}

named_enum! {
    /// What a refusal applies to, narrowest first.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Scope {
        /// This request alone.
        Request = "request",
        /// One model of the account.
        Model = "model",
        /// One quota of the account.
        Pool = "pool",
        /// The whole account.
        Account = "account",
        /// The service, for all accounts.
        Service = "service",
    }
}

impl Reason {
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
}
