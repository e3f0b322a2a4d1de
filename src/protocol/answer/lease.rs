//! Leases: what the holder gets, what others see, and the decision after a report.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Text;
use super::account::{AccountLabel, AccountName};
use crate::pool::CredentialKind;

/// Secret text: it is sent over the wire, but never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretText<'a>(pub Text<'a>);

/// A lease that is held.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseInfo<'a> {
    /// Its id.
    pub lease: Text<'a>,
    /// Its fencing token; monotonic.
    pub fence: u64,
    /// The leased account.
    pub account: AccountName<'a>,
    /// The upstream.
    pub provider: Text<'a>,
    /// The quota pool, for providers with several.
    pub pool: Option<Text<'a>>,
    /// The model, by the upstream's name.
    pub model: Option<Text<'a>>,
    /// The key of the quota that its limits apply to.
    pub quota_key: Text<'a>,
    /// How many other leases the account has.
    pub shared_with: u32,
    /// When it expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The credential, unless the caller did not want it.
    pub credential: Option<CredentialInfo<'a>>,
    /// The cloud project.
    pub project_id: Option<Text<'a>>,
}

/// A credential and how to send it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CredentialInfo<'a> {
    /// Its kind.
    pub kind: CredentialKind,
    /// The secret itself.
    pub secret: SecretText<'a>,
    /// When it expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The header to send it in.
    pub header: Text<'a>,
    /// The authentication scheme before it.
    pub scheme: Option<Text<'a>>,
    /// The API that a login is for, if it is the provider's public API: it is sent there, like a key.
    pub resource: Option<Text<'a>>,
    /// The provider's own id of the account, which requests with a login name beside it.
    pub account_id: Option<Text<'a>>,
}

impl CredentialInfo<'_> {
    /// The value of its header: the secret, after the scheme if there is one.
    #[must_use]
    pub fn header_value(&self) -> Zeroizing<String> {
        let secret = &*self.secret.0;
        Zeroizing::new(match &self.scheme {
            Some(scheme) => format!("{} {secret}", &**scheme),
            None => secret.to_owned(),
        })
    }
}

/// What to do next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionInfo<'a> {
    /// `continue`, `retry`, `switch`, `wait` or `stop`.
    pub action: Text<'a>,
    /// How long to wait before it, ms.
    pub after_ms: u64,
    /// Why the upstream refused.
    pub reason: Option<Text<'a>>,
    /// What it applies to.
    pub scope: Option<Text<'a>>,
    /// With `switch`, the new lease.
    pub lease: Option<LeaseInfo<'a>>,
    /// The evidence for the reason, in a few words.
    pub evidence: Option<Text<'a>>,
    /// The URL where the user can resolve it.
    pub link: Option<Text<'a>>,
}

/// One row of `lease.list`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseRow {
    /// Its id.
    pub lease: String,
    /// Its fencing token.
    pub fence: u64,
    /// The leased account.
    pub account: AccountLabel,
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The quota pool, for providers with several.
    pub pool: Option<String>,
    /// Its session.
    pub session: Option<String>,
    /// The label that the holder chose.
    pub label: Option<String>,
    /// `connection`, `pid` or `ttl`.
    pub bind: String,
    /// Its holder.
    pub holder: Option<HolderInfo>,
    /// When it was granted, epoch ms.
    pub granted_at: u64,
    /// When it ends, epoch ms.
    pub expires_at: Option<u64>,
    /// The agent that the holder stated.
    pub agent: Option<String>,
    /// The directory that its holder is in now.
    pub directory: Option<String>,
    /// The id of the sub-agent that it is for, as its agent names it.
    pub subagent: Option<String>,
    /// With a shared pool: what this host, whose lease it is, is called there.
    pub host: Option<String>,
}

/// A lease whose account was changed, or will be at its next request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MovedInfo {
    /// The lease as it is now.
    pub lease: String,
    /// Its fencing token.
    pub fence: u64,
    /// The account that it had.
    pub from: AccountLabel,
    /// The account that it has, or will have.
    pub to: AccountLabel,
    /// Its holder.
    pub holder: Option<HolderInfo>,
    /// Whether it follows at the next request of its holder: `false` if it has moved already.
    pub at_next_request: bool,
}

/// The holder of a lease.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HolderInfo {
    /// Process id.
    pub pid: u32,
    /// The program's name.
    pub program: Option<String>,
}

/// A waiting request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueueRow {
    /// Its position, from 1.
    pub position: u64,
    /// The earliest time it could be served, epoch ms, if known.
    pub eta_at: Option<u64>,
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The label that the holder chose.
    pub label: Option<String>,
}

impl fmt::Debug for SecretText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Any lease, for the tests of what writes one.
#[cfg(test)]
pub(crate) fn any_lease() -> impl proptest::strategy::Strategy<Value = LeaseInfo<'static>> {
    use crate::pool::Tier;
    use proptest::prelude::*;
    let text = || "[ -~]{0,12}|\\PC{0,6}|[\u{0}-\u{20}\"\\\\]{1,3}|[a-z]{249,252}";
    let number = || prop_oneof![0..300_u64, any::<u64>(), 65_000..66_000_u64];
    let texts = prop::array::uniform6(text());
    let options = prop::array::uniform8(prop::option::of(text()));
    let numbers = (number(), any::<u32>(), prop::array::uniform2(prop::option::of(number())));
    let tier = prop::sample::select(vec![Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown]);
    let kinds = vec![CredentialKind::Oauth, CredentialKind::ApiKey, CredentialKind::Token];
    let rest = (tier, prop::sample::select(kinds), any::<bool>());
    (texts, options, numbers, rest).prop_map(|(texts, options, numbers, (tier, kind, with_credential))| {
        let [lease, id, provider, quota_key, secret, header] = texts.map(Cow::from);
        let [label, email, pool, model, scheme, resource, project_id, account_id] =
            options.map(|text| text.map(Cow::from));
        let (fence, shared_with, [expires_at, ends]) = numbers;
        let secret = SecretText(secret);
        let credential = CredentialInfo { kind, secret, expires_at: ends, header, scheme, resource, account_id };
        LeaseInfo {
            lease,
            fence,
            account: AccountName { id, label, email, tier },
            provider,
            pool,
            model,
            quota_key,
            shared_with,
            expires_at,
            credential: with_credential.then_some(credential),
            project_id,
        }
    })
}
