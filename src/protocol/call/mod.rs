//! Calls: one table of methods, and the parameters of each.

mod account;
mod daemon;
mod guest;
mod lease;
mod pool;
mod secrets;
mod transfer;

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

/// Declares each method once: its variant, its parameters, its name on the wire.
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $variant:ident($params:ty) = $name:literal;)*) => {
        /// A call. The order of the variants is part of the binary protocol.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        pub enum Call {
            $($(#[doc = $doc])* $variant($params),)*
        }

        impl Call {
            /// All methods, as on the wire.
            pub const METHODS: &[&str] = &[$($name),*];

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
    /// Exchanges versions; must be the first call on a binary connection.
    Hello(HelloParams) = "hello";
    /// Lease an account, or wait for one.
    Acquire(Box<AcquireParams>) = "lease.acquire";
    /// Extend a lease by its TTL.
    Renew(LeaseRef) = "lease.renew";
    /// Release a lease.
    Release(LeaseRef) = "lease.release";
    /// Resume a lease after a restart of the daemon.
    Resume(LeaseRef) = "lease.resume";
    /// Get the current credential of a lease.
    Credential(CredentialParams) = "lease.credential";
    /// Report an upstream response.
    Report(ReportParams) = "lease.report";
    /// List all leases.
    ListLeases(NoParams) = "lease.list";
    /// List accounts.
    ListAccounts(ListAccountsParams) = "account.list";
    /// Add an account.
    AddAccount(Box<AddAccountParams>) = "account.add";
    /// Remove an account.
    RemoveAccount(AccountRef) = "account.remove";
    /// Change an account.
    SetAccount(Box<SetAccountParams>) = "account.set";
    /// Enable an account.
    EnableAccount(AccountRef) = "account.enable";
    /// Disable an account.
    DisableAccount(DisableAccountParams) = "account.disable";
    /// The state of the daemon.
    Status(NoParams) = "status";
    /// Subscribe to events.
    Subscribe(SubscribeParams) = "events.subscribe";
    /// Get the effective configuration.
    GetConfig(NoParams) = "config.get";
    /// Stop the daemon gracefully.
    Stop(NoParams) = "daemon.stop";
    /// Reload the configuration.
    ReloadConfig(NoParams) = "config.reload";
    /// Import logins and keys of other tools.
    ImportAccounts(Box<ImportAccountsParams>) = "account.import";
    /// Export all accounts.
    ExportAccounts(ExportAccountsParams) = "account.export";
    /// Forecast which leases are available now and next.
    Forecast(ForecastParams) = "forecast";
    /// Clear an account's limits.
    ClearLimits(AccountRef) = "account.clear_limits";
    /// Explain why an account was chosen.
    Explain(ExplainParams) = "explain";
    /// Refresh a login's token now.
    RefreshAccount(AccountRef) = "account.refresh";
    /// Create a key for the gateway.
    GatewayKey(GatewayKeyParams) = "gateway.key";
    /// Lease an account, or return the lease that the same process holds for the same purpose.
    Token(Box<AcquireParams>) = "lease.token";
    /// Query an account's usage now, within its provider's request budget.
    AskUsage(AccountRef) = "account.usage";
    /// Check whether an account's owner has verified it with the provider.
    VerifyAccount(VerifyAccountParams) = "account.verify";
    /// Seal all secrets with a new key.
    Rekey(NoParams) = "secrets.rekey";
    /// Restart the daemon; its socket, its gateway and its leases stay.
    Restart(RestartParams) = "daemon.restart";
    /// Try an account's credential with a request that costs nothing.
    CheckAccount(AccountRef) = "account.check";
    /// List the lasting keys of the gateway.
    GatewayKeys(NoParams) = "gateway.keys";
    /// Revoke a lasting key of the gateway.
    RevokeGatewayKey(RevokeKeyParams) = "gateway.revoke";
    /// Query the requests, leases and events of the past.
    QueryHistory(Box<HistoryParams>) = "history.query";
    /// Move a lease to another account.
    MoveLease(MoveLeaseParams) = "lease.move";
    /// Open the gateway's page for a browser, or wait until it was opened.
    OpenPage(OpenPageParams) = "page.open";
    /// Store an OAuth client with its secret, or replace the secret of one.
    SetSecret(Box<SetSecretParams>) = "secrets.set";
    /// List the stored OAuth clients.
    ListSecrets(ListSecretsParams) = "secrets.list";
    /// Remove a stored OAuth client.
    RemoveSecret(RemoveSecretParams) = "secrets.remove";
    /// Use one of the limit resets that an account has banked.
    ResetLimits(AccountRef) = "account.reset";
    /// State what an agent knows of its session's quota, and get the account of the session's last request.
    AgentSession(Box<AgentSessionParams>) = "session.report";
    /// Create the pool that several hosts share, in a database.
    InitPool(Box<InitPoolParams>) = "pool.init";
    /// Join a pool, with a token of one of its admins.
    JoinPool(Box<JoinPoolParams>) = "pool.join";
    /// Create a token with which one host can join the pool.
    CreateJoinToken(JoinTokenParams) = "pool.join_token";
    /// List the hosts of the pool.
    ListPoolHosts(NoParams) = "pool.hosts";
    /// The state of the pool: its hosts, seats and settings.
    PoolStatus(NoParams) = "pool.status";
    /// Remove a host from the pool, and seal the pool's secrets with new keys.
    EvictHost(EvictHostParams) = "pool.evict";
    /// Seal the pool's secrets with new keys.
    RekeyPool(NoParams) = "pool.rekey";
    /// Leave the pool.
    LeavePool(LeavePoolParams) = "pool.leave";
    /// Change the settings of the pool.
    SetPool(SetPoolParams) = "pool.set";
    /// Move accounts into the pool, or back to this host.
    MigrateAccounts(MigrateParams) = "pool.migrate";
    /// State which holders a guest vouches for; only on a guest's own connections.
    GuestHolders(Box<GuestHoldersParams>) = "guest.holders";
}
