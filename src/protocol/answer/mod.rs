//! The answers to calls. Borrowed where the daemon answers from its own state, owned where a client keeps them.

mod account;
mod explanation;
mod history;
mod lease;
mod pool;
mod request;
mod status;
mod transfer;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use account::{
    AccountInfo, AccountLabel, AccountName, AccountTotals, BankedResetsInfo, CheckInfo, HostSeatsInfo, LimitInfo,
    LinkInfo, UsageInfo, UsedResetInfo,
};
pub use explanation::{
    CandidateInfo, ComparedInfo, DecidedInfo, ExplainInfo, ForecastInfo, OutlookInfo, PassedInfo, RequestInfo,
    VerdictInfo,
};
pub use history::{HistoryGroup, HistoryInfo, PastLease, RequestSums};
#[cfg(test)]
pub(crate) use lease::any_lease;
pub use lease::{CredentialInfo, DecisionInfo, HolderInfo, LeaseInfo, LeaseRow, MovedInfo, QueueRow, SecretText};
pub use pool::{
    EvictedHostInfo, ExposedSecretInfo, JoinTokenInfo, LeftPoolInfo, MigratedInfo, PoolHostInfo, PoolMemberInfo,
    PoolRekeyInfo, PoolRulesInfo, PoolSeatsInfo, PoolStatusInfo, PoolSummaryInfo, SkippedAccountInfo,
};
pub use request::{AttemptRow, RequestRow, TokenSums};
pub use status::{
    AgentSessionInfo, ConfigState, DaemonStatus, ENDING, EventInfo, GatewayAccess, GatewayInfo, GatewayKeyInfo,
    GuestInfo, HelloInfo, HistoryStatus, HostInfo, PageAccess, ProviderInfo, RekeyInfo, ReloadInfo, RestartInfo,
    RevokedKeyInfo,
};
pub use transfer::{
    ExportInfo, ExportedAccount, ExportedCredential, ExportedLink, ExportedWindow, ImportInfo, ImportedEntry,
    StoredClientInfo,
};

type Text<'a> = Cow<'a, str>;

/// The answer to a call. The order of the variants is part of the binary protocol.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "most answers are the large one, and none is kept")]
pub enum Answer<'a> {
    /// To `hello`.
    Hello(HelloInfo),
    /// A lease that is held.
    Lease(LeaseInfo<'a>),
    /// Success without a result.
    Done(Empty),
    /// To `lease.credential`.
    Credential(CredentialInfo<'a>),
    /// To `lease.report`.
    Decision(Box<DecisionInfo<'a>>),
    /// To `lease.list`.
    Leases(Vec<LeaseRow>),
    /// To `account.list`.
    Accounts(Vec<AccountInfo>),
    /// To calls that change an account.
    Account(Box<AccountInfo>),
    /// To `status`.
    Status(Box<DaemonStatus>),
    /// To `config.get`: a JSON document.
    Config(String),
    /// To `config.reload`.
    Reloaded(ReloadInfo),
    /// To `account.import`.
    Imported(ImportInfo),
    /// To `account.export`.
    Exported(ExportInfo),
    /// To `forecast`.
    Forecast(ForecastInfo),
    /// To `explain`.
    Explained(Box<ExplainInfo>),
    /// To `gateway.key`.
    GatewayAccess(GatewayAccess),
    /// To `secrets.rekey`.
    Rekeyed(RekeyInfo),
    /// To `daemon.restart`.
    Restarting(RestartInfo),
    /// To `account.check`.
    Checked(Box<CheckInfo>),
    /// To `gateway.keys`.
    GatewayKeys(Vec<GatewayKeyInfo>),
    /// To `gateway.revoke`.
    RevokedKey(Box<RevokedKeyInfo>),
    /// To `history.query`.
    History(Box<HistoryInfo>),
    /// To `lease.move`.
    Moved(Box<MovedInfo>),
    /// To `page.open`.
    PageAccess(Box<PageAccess>),
    /// To `secrets.set` and `secrets.remove`.
    StoredClient(Box<StoredClientInfo>),
    /// To `secrets.list`.
    StoredClients(Vec<StoredClientInfo>),
    /// To `account.reset`.
    UsedReset(Box<UsedResetInfo>),
    /// To `session.report`.
    AgentSession(Box<AgentSessionInfo>),
    /// To `pool.init` and `pool.join`.
    PoolMember(Box<PoolMemberInfo>),
    /// To `pool.join_token`.
    JoinToken(Box<JoinTokenInfo>),
    /// To `pool.hosts`.
    PoolHosts(Vec<PoolHostInfo>),
    /// To `pool.status`.
    PoolStatus(Box<PoolStatusInfo>),
    /// To `pool.evict`.
    EvictedHost(Box<EvictedHostInfo>),
    /// To `pool.rekey`.
    RekeyedPool(PoolRekeyInfo),
    /// To `pool.leave`.
    LeftPool(Box<LeftPoolInfo>),
    /// To `pool.set`.
    PoolRules(PoolRulesInfo),
    /// To `pool.migrate`.
    Migrated(Box<MigratedInfo>),
}

/// No result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}
