//! Parameters of the calls about the daemon, its gateway, its events and its history.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::protocol::PROTOCOL;
use crate::protocol::answer::SecretText;

/// No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// `daemon.restart`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartParams {
    /// How long the gateway's requests in flight may take, in ms [default: 50 s].
    pub drain_ms: Option<u64>,
}

/// `hello`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HelloParams {
    /// The client's name and version.
    pub client: String,
    /// The lowest and highest protocol version it speaks.
    pub protocol: (u32, u32),
}

/// `history.query`: everything that is given must match.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryParams {
    /// `requests` (the default), `leases` or `events`.
    pub of: Option<String>,
    /// From then on, epoch ms [default: 24 hours ago].
    pub since: Option<u64>,
    /// Before then, epoch ms [default: now].
    pub until: Option<u64>,
    /// An id, a unique prefix of it, a label or an email address; also of an account that was removed, by its id. A
    /// request matches if one of its attempts used the account.
    pub account: Option<String>,
    /// The upstream.
    pub provider: Option<String>,
    /// The model; `*` stands for any characters.
    pub model: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The directory, or one above it.
    pub directory: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// An HTTP status (`429`), a class of it (`5xx`), or an outcome: `ok`, `refused`, `broken`, `cancelled`; `limited`
    /// matches requests with an attempt that met a limit.
    pub status: Option<String>,
    /// Of events: only these kinds.
    pub kinds: Vec<String>,
    /// Groups the sums: `minute` (of two hours at most), `hour`, `day`, `account`, `model`, `agent`, `dir` or `provider`.
    pub by: Option<String>,
    /// The most rows [default: 100, at most 1000]; 0 asks for sums only.
    pub limit: Option<u32>,
    /// Rows before this one only: `next` of the last answer.
    pub before: Option<u64>,
}

/// `page.open`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenPageParams {
    /// Whether the page may also change something, such as disable an account or release a lease.
    pub actions: bool,
    /// A code of an earlier answer: waits until a browser has used it or it has ended, and makes no new one.
    pub wait_for: Option<SecretText<'static>>,
}

/// `gateway.key`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayKeyParams {
    /// The lease of the key: requests with the key use the lease's account, and the key ends with the lease. Without
    /// a lease, it is a lasting key, for clients that `run` does not start.
    pub lease: Option<String>,
    /// Of a lasting key: the agent's name, for the `use` policy.
    pub agent: Option<String>,
    /// Of a lasting key: a label for people.
    pub label: Option<String>,
    /// The working directory of the clients with the key: `[directories]` may have a set of accounts for it, and the
    /// history shows it. For a lease's key, that of the lease counts before this one.
    pub directory: Option<String>,
    /// Of a lasting key: it ends after this time, in ms.
    pub ttl_ms: Option<u64>,
    /// Of a lasting key: how many leases it may have at the same time, at least 1.
    pub max_leases: Option<u32>,
}

/// `session.report`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSessionParams {
    /// The upstream [default: `anthropic`].
    pub provider: Option<String>,
    /// The session, as the agent names it in its requests.
    pub session: Option<String>,
    /// The process that the agent has started, or the agent itself.
    pub pid: Option<u32>,
    /// The gateway key of the agent, if it is known.
    pub key: Option<SecretText<'static>>,
    /// The quota windows that the agent states.
    pub windows: Vec<AgentWindow>,
    /// When the agent last heard of its provider, epoch ms, if that is known.
    pub read_at: Option<u64>,
}

/// A quota window, as an agent states it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentWindow {
    /// The agent's name for it: `five_hour` or `seven_day`; others are not learnt.
    pub name: String,
    /// How much is used, in percent.
    pub used_percentage: f64,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
}

/// `gateway.revoke`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeKeyParams {
    /// Its id, a unique beginning of the id, its label if no other key has it, or the key itself.
    pub key: SecretText<'static>,
}

/// `events.subscribe`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubscribeParams {
    /// The kinds of events [default: all but those of single requests of the gateway, which are sent only to those that
    /// name them]; `default` stands for the kinds of a subscription that names none.
    pub kinds: Vec<String>,
    /// Whether recent events are replayed first, followed by an event of kind `replay.end`.
    pub recent: bool,
}

impl Default for HelloParams {
    fn default() -> Self {
        Self { client: String::new(), protocol: (PROTOCOL, PROTOCOL) }
    }
}
