//! Requests of the gateway: what was asked, which attempts they took, and what they used.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::AccountLabel;
use super::lease::HolderInfo;
use crate::limits::Scope;

// what many have in common is shared between them, and not copied
/// A request of the gateway that has ended.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestRow {
    /// Its number, which grows with time.
    pub id: u64,
    /// When it was received, epoch ms.
    pub at: u64,
    /// The agent that sent it.
    pub agent: Option<Arc<str>>,
    /// Its process and program.
    pub holder: Option<Arc<HolderInfo>>,
    /// The directory that it runs in.
    pub directory: Option<Arc<str>>,
    /// Its session.
    pub session: Option<Arc<str>>,
    /// The lease that served it last.
    pub lease: Option<String>,
    /// The label of that lease or of the gateway's key.
    pub label: Option<Arc<str>>,
    /// The account whose response the client got; none if lessor answered.
    pub account: Option<Arc<AccountLabel>>,
    /// The upstream.
    pub provider: Arc<str>,
    /// The quota pool, for providers with several.
    pub pool: Option<Arc<str>>,
    /// The model.
    pub model: Option<Arc<str>>,
    /// The path at the provider, without its query.
    pub path: Arc<str>,
    /// The HTTP status that the client got; none if it closed its connection before.
    pub status: Option<u16>,
    /// `ok`, `refused`, `broken` or `cancelled`.
    pub outcome: Cow<'static, str>,
    /// Why it was refused or broken, in a few words.
    pub reason: Option<String>,
    /// The attempts at the provider, in order.
    pub attempts: Vec<AttemptRow>,
    /// How long it waited for an account, in ms.
    pub waited_ms: u64,
    /// From the request to the first byte of the response, in ms.
    pub first_byte_ms: Option<u64>,
    /// From the request to the end of the response, in ms.
    pub duration_ms: u64,
    /// The tokens that the provider stated.
    pub tokens: Option<TokenSums>,
    /// What they cost by the table of prices, in US dollars, if it knows the model.
    pub cost_usd: Option<f64>,
}

/// One attempt of a request at the provider.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRow {
    /// The account.
    pub account: Arc<AccountLabel>,
    /// When it was sent, in ms after the request was received.
    pub after_ms: u64,
    /// How long until its response began or its failure was known, in ms.
    pub duration_ms: u64,
    /// The HTTP status; none if there was no response.
    pub status: Option<u16>,
    /// Why it was refused or failed; none if it succeeded.
    pub reason: Option<String>,
    /// What the refusal applies to.
    pub scope: Option<String>,
    /// Until when that is limited, epoch ms.
    pub until: Option<u64>,
    /// The provider's words, or the error of the connection, shortened.
    pub evidence: Option<String>,
}

impl AttemptRow {
    /// Whether it met a limit of its account, and not only of this request or of the whole service.
    #[must_use]
    pub fn met_limit(&self) -> bool {
        let scopes = [Scope::Account, Scope::Pool, Scope::Model];
        self.scope.as_deref().is_some_and(|scope| scopes.iter().any(|limited| limited.name() == scope))
    }
}

/// Tokens, as the provider states them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TokenSums {
    /// Of the request, the cached ones included.
    pub input: u64,
    /// Of the response.
    pub output: u64,
    /// The part of the input that was read from a cache.
    pub cached: u64,
    /// The part of the input that was written to a cache.
    pub cache_written: u64,
}

impl std::ops::AddAssign for TokenSums {
    fn add_assign(&mut self, more: Self) {
        self.input += more.input;
        self.output += more.output;
        self.cached += more.cached;
        self.cache_written += more.cache_written;
    }
}
