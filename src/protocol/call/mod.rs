//! Calls: one table of methods, and the parameters of each.

mod account;
mod daemon;
mod guest;
mod lease;
mod pool;
mod secrets;
mod transfer;

use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use account::{
    AccountRef, AddAccountParams, DisableAccountParams, ListAccountsParams, SetAccountParams, VerifyAccountParams,
};
pub use daemon::{
    AgentSessionParams, AgentWindow, GatewayKeyParams, HelloParams, HistoryParams, NoParams, OpenPageParams,
    RestartParams, RevokeKeyParams, SubscribeParams,
};
pub use guest::{
    GUEST_MAGIC, GuestAddresses, GuestGreeting, GuestHolder, GuestHoldersParams, GuestRole, LONGEST_GUEST_GREETING,
};
pub use lease::{
    AcquireParams, BindTo, CredentialParams, ExplainParams, ForecastParams, LeaseCall, LeaseRef, MoveLeaseParams,
    ReportParams,
};
pub use pool::{
    EvictHostParams, InitPoolParams, JoinPoolParams, JoinTokenParams, LeavePoolParams, MigrateParams, SetPoolParams,
};
pub use secrets::{ListSecretsParams, RemoveSecretParams, SetSecretParams};
pub use transfer::{ExportAccountsParams, ImportAccountsParams, ImportEntry, ImportLimit, ImportWindow};

use super::answer::{
    AccountInfo, AgentSessionInfo, CheckInfo, CredentialInfo, DaemonStatus, DecisionInfo, Empty, EvictedHostInfo,
    ExplainInfo, ExportInfo, ForecastInfo, GatewayAccess, GatewayKeyInfo, HelloInfo, HistoryInfo, ImportInfo,
    JoinTokenInfo, LeaseInfo, LeaseRow, LeftPoolInfo, MigratedInfo, MovedInfo, PageAccess, PoolHostInfo,
    PoolMemberInfo, PoolRekeyInfo, PoolRulesInfo, PoolStatusInfo, RekeyInfo, ReloadInfo, RestartInfo, RevokedKeyInfo,
    StoredClientInfo, UsedResetInfo,
};

/// What `config.get` answers: a JSON document.
type ConfigDocument = serde_json::Value;

/// A method of the protocol: what its parameters and its result look like.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it does: a sentence, and perhaps a paragraph.
    pub doc: &'static str,
    /// The schema of its parameters.
    pub params: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of its result.
    pub result: fn(&mut SchemaGenerator) -> Schema,
}

/// Declares each method once: its variant, its parameters, its result, its name on the wire.
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $variant:ident($params:ty) -> $result:ty = $name:literal;)*) => {
        /// A call. The order of the variants is part of the binary protocol.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        pub enum Call {
            $($(#[doc = $doc])* $variant($params),)*
        }

        impl Call {
            /// All methods, as on the wire.
            pub const METHODS: &[&str] = &[$($name),*];

            /// All methods, described, in the same order.
            pub const CATALOG: &[MethodInfo] = &[$(MethodInfo {
                name: $name,
                doc: concat!($($doc, "\n"),*),
                params: SchemaGenerator::subschema_for::<$params>,
                result: SchemaGenerator::subschema_for::<$result>,
            }),*];

            /// The method's name on the wire.
            #[must_use]
            pub fn method(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Appends its parameters as a JSON object.
            pub(super) fn write_params(&self, out: &mut Vec<u8>) {
                // our own types have string keys and are written to memory: this cannot fail
                let written = match self {
                    $(Self::$variant(params) => serde_json::to_writer(out, params),)*
                };
                debug_assert!(written.is_ok(), "{written:?}");
            }

            /// Reads the parameters of `method`; `None` when there is no such method.
            pub(super) fn parse(method: &str, params: &RawValue) -> Option<Result<Self, serde_json::Error>> {
                match method {
                    $($name => Some(serde_json::from_str(params.get()).map(Self::$variant)),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    /// Exchanges versions; must be the first call on a binary connection, and is optional in JSON.
    ///
    /// A daemon that starts answers the first one at once; any other call, and a second `hello`, wait until it has read its
    /// accounts.
    Hello(HelloParams) -> HelloInfo = "hello";
    /// Lease an account, or wait for one.
    Acquire(Box<AcquireParams>) -> LeaseInfo<'static> = "lease.acquire";
    /// Extend a lease by its TTL.
    Renew(LeaseRef) -> LeaseInfo<'static> = "lease.renew";
    /// Release a lease.
    Release(LeaseRef) -> Empty = "lease.release";
    /// Resume a lease after a restart of the daemon.
    Resume(LeaseRef) -> LeaseInfo<'static> = "lease.resume";
    /// Get the current credential of a lease.
    Credential(CredentialParams) -> CredentialInfo<'static> = "lease.credential";
    /// Report an upstream response, and get the next action.
    Report(ReportParams) -> DecisionInfo<'static> = "lease.report";
    /// List all leases, with the program and directory of each holder.
    ListLeases(NoParams) -> Vec<LeaseRow> = "lease.list";
    /// List accounts, with their limits and usage.
    ListAccounts(ListAccountsParams) -> Vec<AccountInfo> = "account.list";
    /// Add an account.
    AddAccount(Box<AddAccountParams>) -> AccountInfo = "account.add";
    /// Remove an account.
    RemoveAccount(AccountRef) -> AccountInfo = "account.remove";
    /// Change an account, or replace its key or token in place.
    SetAccount(Box<SetAccountParams>) -> AccountInfo = "account.set";
    /// Allow leases of an account.
    EnableAccount(AccountRef) -> AccountInfo = "account.enable";
    /// Stop leases of an account.
    DisableAccount(DisableAccountParams) -> AccountInfo = "account.disable";
    /// The state of the daemon: its accounts by provider, leases, queue and warnings.
    Status(NoParams) -> DaemonStatus = "status";
    /// Subscribe to events: from now on they come as notifications of the method `event`.
    Subscribe(SubscribeParams) -> Empty = "events.subscribe";
    /// Get the effective configuration.
    GetConfig(NoParams) -> ConfigDocument = "config.get";
    /// Stop the daemon gracefully.
    Stop(NoParams) -> Empty = "daemon.stop";
    /// Reload the configuration.
    ReloadConfig(NoParams) -> ReloadInfo = "config.reload";
    /// Import logins and keys of other tools.
    ImportAccounts(Box<ImportAccountsParams>) -> ImportInfo = "account.import";
    /// Export all accounts.
    ExportAccounts(ExportAccountsParams) -> ExportInfo = "account.export";
    /// Forecast which leases are available now and next.
    Forecast(ForecastParams) -> ForecastInfo = "forecast";
    /// Clear an account's limits.
    ClearLimits(AccountRef) -> AccountInfo = "account.clear_limits";
    /// Explain why an account was chosen.
    Explain(ExplainParams) -> ExplainInfo = "explain";
    /// Refresh a login's token now.
    RefreshAccount(AccountRef) -> AccountInfo = "account.refresh";
    /// Create a key for the gateway, of a lease or a lasting one, and get its addresses.
    GatewayKey(GatewayKeyParams) -> GatewayAccess = "gateway.key";
    /// Lease an account, or return the lease that the same process holds for the same purpose.
    ///
    /// Needs a `bind` to a process.
    Token(Box<AcquireParams>) -> LeaseInfo<'static> = "lease.token";
    /// Query an account's usage now, within its provider's request budget.
    AskUsage(AccountRef) -> AccountInfo = "account.usage";
    /// Make an account usable again, after its owner has confirmed something with the provider.
    VerifyAccount(VerifyAccountParams) -> AccountInfo = "account.verify";
    /// Seal all secrets with a new key.
    Rekey(NoParams) -> RekeyInfo = "secrets.rekey";
    /// Restart the daemon when the requests in flight have ended; its socket, its gateway and its leases stay.
    Restart(RestartParams) -> RestartInfo = "daemon.restart";
    /// Try an account's credential with a request that costs nothing.
    CheckAccount(AccountRef) -> CheckInfo = "account.check";
    /// List the lasting keys of the gateway, without the keys themselves.
    GatewayKeys(NoParams) -> Vec<GatewayKeyInfo> = "gateway.keys";
    /// Revoke a lasting key of the gateway.
    ///
    /// The answer comes when that is on disk.
    RevokeGatewayKey(RevokeKeyParams) -> RevokedKeyInfo = "gateway.revoke";
    /// Query the requests, leases and events of the past, the newest first, with sums over the requests that match.
    ///
    /// An answer has at most `limit` rows, and as many as fit into a message.
    QueryHistory(Box<HistoryParams>) -> HistoryInfo = "history.query";
    /// Move a lease to another account.
    MoveLease(MoveLeaseParams) -> MovedInfo = "lease.move";
    /// Open the gateway's page for a browser, or wait until it was opened.
    ///
    /// With `wait_for` it waits for at most 20 s.
    OpenPage(OpenPageParams) -> PageAccess = "page.open";
    /// Store an OAuth client with its secret, or replace the secret of one.
    SetSecret(Box<SetSecretParams>) -> StoredClientInfo = "secrets.set";
    /// List the stored OAuth clients.
    ListSecrets(ListSecretsParams) -> Vec<StoredClientInfo> = "secrets.list";
    /// Remove a stored OAuth client.
    RemoveSecret(RemoveSecretParams) -> StoredClientInfo = "secrets.remove";
    /// Use one of the limit resets that an account has banked, then ask for its usage.
    ResetLimits(AccountRef) -> UsedResetInfo = "account.reset";
    /// State what an agent knows of its session's quota, and get the account of the session's last request.
    AgentSession(Box<AgentSessionParams>) -> AgentSessionInfo = "session.report";
    /// Create the pool that several hosts share, in a database.
    ///
    /// Answers what this host is there.
    InitPool(Box<InitPoolParams>) -> PoolMemberInfo = "pool.init";
    /// Join a pool, with a token of one of its admins.
    ///
    /// Answers what this host is there.
    JoinPool(Box<JoinPoolParams>) -> PoolMemberInfo = "pool.join";
    /// Create a token with which one host can join the pool, once.
    CreateJoinToken(JoinTokenParams) -> JoinTokenInfo = "pool.join_token";
    /// List the hosts of the pool.
    ListPoolHosts(NoParams) -> Vec<PoolHostInfo> = "pool.hosts";
    /// The state of the pool: the connection to its database, its hosts, seats by account and host, settings and warnings.
    PoolStatus(NoParams) -> PoolStatusInfo = "pool.status";
    /// Remove a host from the pool, seal the pool's secrets with new keys, and list what the host has read.
    EvictHost(EvictHostParams) -> EvictedHostInfo = "pool.evict";
    /// Seal the pool's secrets with new keys.
    RekeyPool(NoParams) -> PoolRekeyInfo = "pool.rekey";
    /// Leave the pool.
    LeavePool(LeavePoolParams) -> LeftPoolInfo = "pool.leave";
    /// Change the settings of the pool.
    SetPool(SetPoolParams) -> PoolRulesInfo = "pool.set";
    /// Move accounts into the pool, or back to this host.
    MigrateAccounts(MigrateParams) -> MigratedInfo = "pool.migrate";
    /// State which holders a guest vouches for; only on a guest's own connections.
    GuestHolders(Box<GuestHoldersParams>) -> Empty = "guest.holders";
}
