//! Parameters of the calls about leases, and about what could be leased.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::Reason;
use crate::protocol::upstream_response::{BodyText, HeaderList, ObjectText};

/// `lease.acquire`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcquireParams<T = String> {
    /// The upstream.
    pub provider: T,
    /// The model that the lease is for.
    pub model: Option<T>,
    /// Requires this quota pool.
    pub pool: Option<T>,
    /// The session that should stay on one account.
    pub session: Option<T>,
    /// A label for people.
    pub label: Option<T>,
    /// Requires this account.
    pub account: Option<T>,
    /// Excludes these accounts.
    #[serde(default)]
    pub exclude: Vec<T>,
    /// From -10 to 10; higher is served first.
    #[serde(default)]
    pub priority: i8,
    /// How long to wait, in ms; 0 does not wait [default: `limits.max_rate_limit_wait`].
    pub wait_ms: Option<u64>,
    /// The TTL of the lease, in ms.
    pub ttl_ms: Option<u64>,
    /// What ends the lease.
    #[serde(default)]
    pub bind: BindTo,
    /// Whether the answer carries the credential.
    #[serde(default = "yes")]
    pub credential: bool,
    /// The agent's name, for the `use` policy.
    pub agent: Option<T>,
    /// Whether the account must have no other lease meanwhile.
    #[serde(default)]
    pub exclusive: bool,
    /// Calls with the same id get the same answer for 60 s.
    pub request_id: Option<T>,
    /// Only these accounts, of whatever provider; also when the lease moves, and for the other providers that its
    /// gateway key uses.
    pub only: Option<Vec<T>>,
    /// The holder's working directory, an absolute path: `[directories]` may have a set of accounts for it [default:
    /// that of the process, if the system says it].
    pub directory: Option<T>,
}

/// What ends a lease, besides a release and its TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BindTo {
    /// The end of this connection.
    #[default]
    Connection,
    /// The end of this process.
    Pid(u32),
    /// Its TTL only.
    Ttl,
}

/// A lease, and optionally its fencing token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRef<T = String> {
    /// The id.
    pub lease: T,
    /// The fencing token it was granted with.
    pub fence: Option<u64>,
}

/// `lease.credential`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialParams {
    /// The id.
    pub lease: String,
    /// Forces a refresh, because the upstream refused the credential.
    #[serde(default)]
    pub force: bool,
}

/// `lease.report`: one of `ok` (with `usage` and `headers`), `status` (with `headers` and `body`), or a `reason` (with
/// `retry_after_ms`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {
    /// The id.
    pub lease: String,
    /// Whether the request succeeded.
    pub ok: Option<bool>,
    /// Why the upstream refused.
    pub reason: Option<Reason>,
    /// The wait the upstream stated, in ms.
    pub retry_after_ms: Option<u64>,
    /// The account's usage: one window in the form of `account.list`, or several by name.
    pub usage: Option<ObjectText>,
    /// The HTTP status of the upstream's response.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Option<HeaderList>,
    /// Its body or the beginning of it.
    pub body: Option<BodyText>,
}

/// `forecast`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForecastParams {
    /// The upstream.
    pub provider: String,
    /// The model that the leases are for.
    pub model: Option<String>,
    /// How many leases are wanted.
    pub count: Option<u32>,
    /// Only these accounts.
    pub only: Option<Vec<String>>,
    /// The agent's name, for the `use` policy; without it the policies are ignored.
    pub agent: Option<String>,
    /// The working directory of those that would be started: `[directories]` may have a set of accounts for it.
    pub directory: Option<String>,
}

/// `explain`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainParams {
    /// A lease or a prefix of its id, an account, or `LAST` for the last decision [default: `LAST`].
    pub what: Option<String>,
    /// For an account: the model to explain it for.
    pub model: Option<String>,
    /// For an account: the request may use these accounts only.
    pub only: Option<Vec<String>>,
    /// For an account: the directory that the request comes from.
    pub directory: Option<String>,
}

/// `lease.move`: one of `lease` and `pid`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MoveLeaseParams {
    /// The lease, or a unique prefix of its id.
    pub lease: Option<String>,
    /// The holder's process, if it holds one lease.
    pub pid: Option<u32>,
    /// The account to move to [default: the best other one].
    pub to: Option<String>,
}

/// A call about one lease, as most come: its texts are those of the message.
#[derive(Debug, PartialEq)]
pub enum LeaseCall<'a> {
    /// `lease.acquire`
    Acquire(AcquireParams<&'a str>),
    /// `lease.token`
    Token(AcquireParams<&'a str>),
    /// `lease.renew`
    Renew(LeaseRef<&'a str>),
    /// `lease.release`
    Release(LeaseRef<&'a str>),
    /// `lease.report`
    Report(ReportParams),
    /// `lease.credential`
    Credential(CredentialParams),
}

impl AcquireParams {
    /// Of an account of this provider, with its credential, and otherwise with the defaults.
    #[must_use]
    pub fn new(provider: impl Into<String>) -> Self {
        Self { provider: provider.into(), credential: true, ..Self::default() }
    }
}

impl ReportParams {
    /// What the upstream answered; `lease` is still to be set, unless a guard of the Rust client does that.
    #[must_use]
    pub fn response<N: Into<String>, V: Into<String>>(
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
        body: impl Into<String>,
    ) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let (headers, body) = (Some(HeaderList(headers)), Some(BodyText(body.into())));
        Self { status: Some(status), headers, body, ..Self::default() }
    }
}

impl<T> AcquireParams<T> {
    /// The same with other texts.
    pub(crate) fn with_texts<'a, U>(&'a self, text: impl Fn(&'a T) -> U) -> AcquireParams<U> {
        AcquireParams {
            provider: text(&self.provider),
            model: self.model.as_ref().map(&text),
            pool: self.pool.as_ref().map(&text),
            session: self.session.as_ref().map(&text),
            label: self.label.as_ref().map(&text),
            account: self.account.as_ref().map(&text),
            exclude: self.exclude.iter().map(&text).collect(),
            priority: self.priority,
            wait_ms: self.wait_ms,
            ttl_ms: self.ttl_ms,
            bind: self.bind,
            credential: self.credential,
            agent: self.agent.as_ref().map(&text),
            exclusive: self.exclusive,
            request_id: self.request_id.as_ref().map(&text),
            only: self.only.as_ref().map(|only| only.iter().map(&text).collect()),
            directory: self.directory.as_ref().map(&text),
        }
    }
}

impl<T> LeaseRef<T> {
    /// The same with another text.
    pub(crate) fn with_text<'a, U>(&'a self, text: impl Fn(&'a T) -> U) -> LeaseRef<U> {
        LeaseRef { lease: text(&self.lease), fence: self.fence }
    }
}

#[cfg(test)]
impl LeaseCall<'_> {
    /// The call as `serde` reads it.
    pub(crate) fn into_call(self) -> super::Call {
        use super::Call;
        let owned = |text: &&str| (*text).to_owned();
        match self {
            Self::Acquire(params) => Call::Acquire(Box::new(params.with_texts(owned))),
            Self::Token(params) => Call::Token(Box::new(params.with_texts(owned))),
            Self::Renew(params) => Call::Renew(params.with_text(owned)),
            Self::Release(params) => Call::Release(params.with_text(owned)),
            Self::Report(params) => Call::Report(params),
            Self::Credential(params) => Call::Credential(params),
        }
    }
}

fn yes() -> bool {
    true
}
