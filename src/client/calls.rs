//! The calls, each with its own type of answer, and events as an iterator.

use std::time::{Duration, Instant};

use super::connection::{Client, greeting, unexpected};
use super::error::ClientError;
use crate::protocol::{
    AccountInfo, AccountRef, AcquireParams, AddAccountParams, AgentSessionInfo, AgentSessionParams, Answer, Call,
    CheckInfo, CredentialInfo, CredentialParams, DaemonStatus, DecisionInfo, DisableAccountParams, EventInfo,
    EvictHostParams, EvictedHostInfo, ExplainInfo, ExplainParams, ExportAccountsParams, ExportInfo, ForecastInfo,
    ForecastParams, GatewayAccess, GatewayKeyInfo, GatewayKeyParams, HelloInfo, HistoryInfo, HistoryParams,
    ImportAccountsParams, ImportInfo, InitPoolParams, JoinPoolParams, JoinTokenInfo, JoinTokenParams, LeaseInfo,
    LeaseRef, LeaseRow, LeavePoolParams, LeftPoolInfo, ListAccountsParams, ListSecretsParams, MigrateParams,
    MigratedInfo, MoveLeaseParams, MovedInfo, NoParams, OpenPageParams, PageAccess, PoolHostInfo, PoolMemberInfo,
    PoolRekeyInfo, PoolRulesInfo, PoolStatusInfo, RekeyInfo, ReloadInfo, RemoveSecretParams, ReportParams, RestartInfo,
    RestartParams, RevokeKeyParams, RevokedKeyInfo, SetAccountParams, SetPoolParams, SetSecretParams, StoredClientInfo,
    SubscribeParams, UsedResetInfo, VerifyAccountParams,
};

/// The timeout of a call that does not wait for a lease.
const PATIENCE: Duration = Duration::from_secs(60);
/// The timeout of a call that moves all accounts.
const MIGRATION: Duration = Duration::from_secs(600);
/// How much longer than requested the client waits for a lease before it considers the daemon dead.
const MARGIN: Duration = Duration::from_secs(30);

/// Declares a call: its method, its parameters, the call and the answer.
macro_rules! calls {
    ($($(#[doc = $doc:literal])* $method:ident($($param:ident: $type:ty)?) $call:expr => $answer:pat => $value:expr, $result:ty;)*) => {
        impl Client {
            $(
                $(#[doc = $doc])*
                ///
                /// # Errors
                /// When the daemon refuses, or the connection is lost.
                pub fn $method(&mut self $(, $param: $type)?) -> Result<$result, ClientError> {
                    let call = $call;
                    let name = call.method();
                    match self.call(call, Some(PATIENCE))? {
                        $answer => Ok($value),
                        other => Err(unexpected(name, &other)),
                    }
                }
            )*
        }
    };
}

calls! {
    /// Greets again; the smallest call.
    ping() Call::Hello(greeting()) => Answer::Hello(hello) => hello, HelloInfo;
    /// Extends a lease by its TTL.
    renew(lease: LeaseRef) Call::Renew(lease) => Answer::Lease(lease) => lease, LeaseInfo<'static>;
    /// Releases a lease.
    release(lease: LeaseRef) Call::Release(lease) => Answer::Done(_) => (), ();
    /// Resumes a lease after a restart of the daemon, bound to this connection.
    resume(lease: LeaseRef) Call::Resume(lease) => Answer::Lease(lease) => lease, LeaseInfo<'static>;
    /// The current credential of a lease.
    credential(of: CredentialParams) Call::Credential(of) => Answer::Credential(found) => found, CredentialInfo<'static>;
    /// Reports an upstream response and returns the next action.
    report(report: ReportParams) Call::Report(report) => Answer::Decision(decision) => *decision, DecisionInfo<'static>;
    /// List all leases.
    leases() Call::ListLeases(NoParams {}) => Answer::Leases(leases) => leases, Vec<LeaseRow>;
    /// Lists all accounts, or those of one provider.
    accounts(list: ListAccountsParams) Call::ListAccounts(list) => Answer::Accounts(accounts) => accounts, Vec<AccountInfo>;
    /// Adds an account.
    add_account(account: AddAccountParams) Call::AddAccount(Box::new(account)) => Answer::Account(info) => *info, AccountInfo;
    /// Removes an account.
    remove_account(account: AccountRef) Call::RemoveAccount(account) => Answer::Account(info) => *info, AccountInfo;
    set_account(change: SetAccountParams) Call::SetAccount(Box::new(change)) => Answer::Account(info) => *info, AccountInfo;
    /// Enables an account.
    enable_account(account: AccountRef) Call::EnableAccount(account) => Answer::Account(info) => *info, AccountInfo;
    /// Disables an account.
    disable_account(what: DisableAccountParams) Call::DisableAccount(what) => Answer::Account(info) => *info, AccountInfo;
    /// The state of the daemon.
    status() Call::Status(NoParams {}) => Answer::Status(status) => *status, DaemonStatus;
    /// The effective configuration, a JSON document.
    config() Call::GetConfig(NoParams {}) => Answer::Config(document) => document, String;
    /// Reloads the configuration and returns the result.
    reload() Call::ReloadConfig(NoParams {}) => Answer::Reloaded(info) => info, ReloadInfo;
    /// Imports logins and keys of other tools, or reports what an import would do.
    import_accounts(import: ImportAccountsParams) Call::ImportAccounts(Box::new(import)) => Answer::Imported(info) => info, ImportInfo;
    /// Forecast which leases are available now and next.
    forecast(of: ForecastParams) Call::Forecast(of) => Answer::Forecast(info) => info, ForecastInfo;
    /// Clears an account's limits.
    clear_limits(account: AccountRef) Call::ClearLimits(account) => Answer::Account(info) => *info, AccountInfo;
    /// Explain why an account was chosen.
    explain(what: ExplainParams) Call::Explain(what) => Answer::Explained(info) => *info, ExplainInfo;
    /// Refreshes a login now, and waits for the result.
    refresh_account(account: AccountRef) Call::RefreshAccount(account) => Answer::Account(info) => *info, AccountInfo;
    /// Queries an account's usage now, within the provider's request budget.
    usage(account: AccountRef) Call::AskUsage(account) => Answer::Account(info) => *info, AccountInfo;
    /// Checks whether an account's owner has verified it.
    verify_account(what: VerifyAccountParams) Call::VerifyAccount(what) => Answer::Account(info) => *info, AccountInfo;
    /// Tries an account's credential with a request that costs nothing.
    check_account(account: AccountRef) Call::CheckAccount(account) => Answer::Checked(info) => *info, CheckInfo;
    /// Uses one of the limit resets that an account has banked.
    reset_limits(account: AccountRef) Call::ResetLimits(account) => Answer::UsedReset(info) => *info, UsedResetInfo;
    /// States what an agent knows of its session's quota, and asks for the session's account.
    agent_session(of: AgentSessionParams) Call::AgentSession(Box::new(of)) => Answer::AgentSession(info) => *info, AgentSessionInfo;
    /// Seals all secrets with a new key.
    rekey() Call::Rekey(NoParams {}) => Answer::Rekeyed(info) => info, RekeyInfo;
    /// Stores an OAuth client with its secret, or replaces the secret of one.
    set_secret(client: SetSecretParams) Call::SetSecret(Box::new(client)) => Answer::StoredClient(info) => *info, StoredClientInfo;
    /// Lists the stored OAuth clients.
    stored_clients(list: ListSecretsParams) Call::ListSecrets(list) => Answer::StoredClients(clients) => clients, Vec<StoredClientInfo>;
    /// Removes a stored OAuth client.
    remove_secret(client: RemoveSecretParams) Call::RemoveSecret(client) => Answer::StoredClient(info) => *info, StoredClientInfo;
    /// Begins a restart: the daemon serves until requests in flight have ended, then closes this connection.
    restart(how: RestartParams) Call::Restart(how) => Answer::Restarting(info) => info, RestartInfo;
    /// Export all accounts.
    export_accounts(export: ExportAccountsParams) Call::ExportAccounts(export) => Answer::Exported(info) => info, ExportInfo;
    /// Creates a key for the gateway: of a lease, or a permanent one.
    gateway_key(of: GatewayKeyParams) Call::GatewayKey(of) => Answer::GatewayAccess(access) => access, GatewayAccess;
    /// Lists the lasting keys of the gateway.
    gateway_keys() Call::GatewayKeys(NoParams {}) => Answer::GatewayKeys(keys) => keys, Vec<GatewayKeyInfo>;
    /// Revokes a lasting key of the gateway.
    revoke_gateway_key(key: RevokeKeyParams) Call::RevokeGatewayKey(key) => Answer::RevokedKey(info) => *info, RevokedKeyInfo;
    /// Queries the requests, leases and events of the past.
    history(query: HistoryParams) Call::QueryHistory(Box::new(query)) => Answer::History(info) => *info, HistoryInfo;
    /// Moves a lease to another account.
    move_lease(lease: MoveLeaseParams) Call::MoveLease(lease) => Answer::Moved(info) => *info, MovedInfo;
    /// Creates the pool that several hosts share, in a database.
    init_pool(how: InitPoolParams) Call::InitPool(Box::new(how)) => Answer::PoolMember(info) => *info, PoolMemberInfo;
    /// Joins a pool, with a token of one of its admins.
    join_pool(how: JoinPoolParams) Call::JoinPool(Box::new(how)) => Answer::PoolMember(info) => *info, PoolMemberInfo;
    /// Creates a token with which one host can join the pool.
    create_join_token(of: JoinTokenParams) Call::CreateJoinToken(of) => Answer::JoinToken(info) => *info, JoinTokenInfo;
    /// Lists the hosts of the pool.
    pool_hosts() Call::ListPoolHosts(NoParams {}) => Answer::PoolHosts(hosts) => hosts, Vec<PoolHostInfo>;
    /// The state of the pool: its hosts, seats and settings.
    pool_status() Call::PoolStatus(NoParams {}) => Answer::PoolStatus(info) => *info, PoolStatusInfo;
    /// Removes a host from the pool, and seals the pool's secrets with new keys.
    evict_host(host: EvictHostParams) Call::EvictHost(host) => Answer::EvictedHost(info) => *info, EvictedHostInfo;
    /// Seals the pool's secrets with new keys.
    rekey_pool() Call::RekeyPool(NoParams {}) => Answer::RekeyedPool(info) => info, PoolRekeyInfo;
    /// Leaves the pool.
    leave_pool(how: LeavePoolParams) Call::LeavePool(how) => Answer::LeftPool(info) => *info, LeftPoolInfo;
    /// Changes the settings of the pool.
    set_pool(change: SetPoolParams) Call::SetPool(change) => Answer::PoolRules(info) => info, PoolRulesInfo;
    /// Opens the gateway's page for a browser, or waits until it was opened.
    open_page(how: OpenPageParams) Call::OpenPage(how) => Answer::PageAccess(access) => *access, PageAccess;
}

impl Client {
    /// Moves accounts into the pool, or back to this host. This may take a while: each is acknowledged by the database.
    ///
    /// # Errors
    /// When the daemon refuses, or the connection is lost.
    pub fn migrate_accounts(&mut self, what: MigrateParams) -> Result<MigratedInfo, ClientError> {
        let call = Call::MigrateAccounts(what);
        let name = call.method();
        match self.call(call, Some(MIGRATION))? {
            Answer::Migrated(info) => Ok(*info),
            other => Err(unexpected(name, &other)),
        }
    }

    /// Leases an account, or waits for one as long as the request says.
    ///
    /// # Errors
    /// When no account is available, or the connection is lost.
    pub fn acquire(&mut self, request: AcquireParams) -> Result<LeaseInfo<'static>, ClientError> {
        self.lease(request, |request| Call::Acquire(Box::new(request)))
    }

    /// Leases an account like [`Self::acquire`], but gives up as soon as `stop`, which is asked again and again, says so.
    ///
    /// After that the connection is to be dropped, which takes the request out of the queue.
    ///
    /// # Errors
    /// When no account is available, or the connection is lost.
    pub fn acquire_unless(
        &mut self,
        request: AcquireParams,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<LeaseInfo<'static>>, ClientError> {
        let call = Call::Acquire(Box::new(request));
        let name = call.method();
        match self.call_unless(call, stop)? {
            None => Ok(None),
            Some(Answer::Lease(lease)) => Ok(Some(lease)),
            Some(other) => Err(unexpected(name, &other)),
        }
    }

    /// Leases an account like [`Self::acquire`], or returns the lease that the same process holds for the same purpose.
    ///
    /// # Errors
    /// When no account is available, or the connection is lost.
    pub fn token(&mut self, request: AcquireParams) -> Result<LeaseInfo<'static>, ClientError> {
        self.lease(request, |request| Call::Token(Box::new(request)))
    }

    fn lease(
        &mut self,
        request: AcquireParams,
        call: fn(AcquireParams) -> Call,
    ) -> Result<LeaseInfo<'static>, ClientError> {
        // without `wait_ms` only the daemon knows how long; the end of the daemon is noticed anyway
        let delay = request.wait_ms.map(|wait| Duration::from_millis(wait).saturating_add(MARGIN));
        let delay = delay.filter(|delay| Instant::now().checked_add(*delay).is_some());
        let call = call(request);
        let name = call.method();
        match self.call(call, delay)? {
            Answer::Lease(lease) => Ok(lease),
            other => Err(unexpected(name, &other)),
        }
    }

    /// Turns the connection into a stream of events.
    ///
    /// # Errors
    /// When the daemon refuses, or the connection is lost.
    pub fn subscribe(mut self, to: SubscribeParams) -> Result<EventStream, ClientError> {
        match self.call(Call::Subscribe(to), Some(PATIENCE))? {
            Answer::Done(_) => Ok(EventStream { client: self, ended: false }),
            other => Err(unexpected("events.subscribe", &other)),
        }
    }

    /// Stops the daemon, and waits until it closes the connection; `false` when it does not in time.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn stop(mut self, delay: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now() + delay;
        self.begin_stop(delay)?;
        Ok(self.wait_for_close(deadline))
    }

    /// Asks the daemon to stop. It closes the connection when it does, see [`Self::wait_for_close`].
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn begin_stop(&mut self, delay: Duration) -> Result<(), ClientError> {
        match self.call(Call::Stop(NoParams {}), Some(delay)) {
            Ok(Answer::Done(_)) => Ok(()),
            Ok(other) => Err(unexpected("daemon.stop", &other)),
            // it ended before it answered
            Err(ClientError::Lost(error)) if !super::error::is_timeout(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The daemon's events. Ends with the connection, after an error that says why.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    ended: bool,
}

impl Iterator for EventStream {
    type Item = Result<EventInfo, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.client.next_event();
        self.ended = event.is_err();
        Some(event)
    }
}
