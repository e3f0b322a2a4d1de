//! What a question to an account's provider needs: where it goes, and a token that is valid.

use crate::credential::{Fingerprint, Secret};
use crate::daemon::state::{State, connect_options};
use crate::http::ConnectOptions;
use crate::pool::{AccountId, AccountRecord, Now, Wall};
use crate::provider::{base_for_path, vendor_account_id};
use crate::usage::UsageQuery;

/// A token that expires earlier may have expired when the query arrives.
const MIN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Identifies an access token.
pub(super) type TokenPrint = (Fingerprint, Option<Wall>);

/// An account, and how its provider is asked about it.
pub(super) struct AccountQuery {
    pub(super) record: AccountRecord,
    pub(super) token: Secret,
    pub(super) reach: ConnectOptions,
    pub(super) print: TokenPrint,
    url: Option<String>,
    base_url: Option<String>,
}

impl AccountQuery {
    /// `None` without a valid token.
    pub(super) fn of(state: &State, id: AccountId, now: Now) -> Option<Self> {
        let print = valid_token(state, id, now)?;
        let record = state.pool.account(id)?.record.clone();
        let credential = state.credentials.get(id)?;
        let provider = state.config.config.providers.get(&record.provider);
        let base_url =
            provider.and_then(|provider| provider.oauth.base_url.as_deref().or(provider.base_url.as_deref()));
        // usage is beside the versions of the API
        let base_url =
            base_url.map(|url| base_for_path(&record.provider, url.trim_end_matches('/'), "/api").to_owned());
        Some(Self {
            reach: connect_options(provider),
            url: provider.and_then(|provider| provider.usage_url.clone()),
            base_url,
            token: credential.access.duplicate(),
            print,
            record,
        })
    }

    /// The question; `wants_plan`: about the plan, too, if that needs another request.
    pub(super) fn question(&self, wants_plan: bool, now: Now) -> UsageQuery<'_> {
        UsageQuery {
            provider: &self.record.provider,
            url: self.url.as_deref(),
            base_url: self.base_url.as_deref(),
            vendor_id: vendor_account_id(&self.record.provider, &self.record.owner),
            project: self.record.project_id.as_deref(),
            wants_plan,
            now: now.wall,
        }
    }
}

/// The account's token, if it is valid: an expired one is not sent.
pub(super) fn valid_token(state: &State, id: AccountId, now: Now) -> Option<TokenPrint> {
    let credential = state.credentials.get(id)?;
    let ends = credential.expires_at.is_some_and(|end| end <= now.wall.after(MIN_LIFETIME));
    let is_valid = !ends && !credential.access.expose().is_empty();
    is_valid.then(|| (state.credentials.fingerprints.of(credential), credential.expires_at))
}
