//! The calls, each with its own type of answer.

use std::time::{Duration, Instant};

use crate::protocol::{
    AccountInfo, AccountRef, AcquireParams, AddAccountParams, Answer, Call, CredentialInfo, CredentialParams,
    DaemonStatus, DecisionInfo, DisableAccountParams, ExplainInfo, ExplainParams, ExportAccountsParams, ExportInfo,
    ForecastInfo, ForecastParams, GatewayAccess, GatewayKeyParams, HelloInfo, ImportAccountsParams, ImportInfo,
    LeaseInfo, LeaseRef, LeaseRow, ListAccountsParams, NoParams, RekeyInfo, ReloadInfo, ReportParams, SetAccountParams,
    SubscribeParams, VerifyAccountParams,
};

use super::connection::{Client, greeting, unexpected};
use super::error::ClientError;
use super::events::EventStream;

/// How long a call may take that waits for nobody.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer than asked a lease may be waited for, before the daemon is taken for dead.
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
    /// Greets once more: the smallest call there is.
    ping() Call::Hello(greeting()) => Answer::Hello(hello) => hello, HelloInfo;
    /// Adds the lease's life to its time.
    renew(lease: LeaseRef) Call::Renew(lease) => Answer::Lease(lease) => lease, LeaseInfo<'static>;
    /// Gives a lease back.
    release(lease: LeaseRef) Call::Release(lease) => Answer::Done(_) => (), ();
    /// Takes a lease up again after a restart of the daemon, bound to this connection.
    resume(lease: LeaseRef) Call::Resume(lease) => Answer::Lease(lease) => lease, LeaseInfo<'static>;
    /// The credential of a lease as it is now.
    credential(of: CredentialParams) Call::Credential(of) => Answer::Credential(found) => found, CredentialInfo<'static>;
    /// Tells what the upstream answered, and hears what to do.
    report(report: ReportParams) Call::Report(report) => Answer::Decision(decision) => *decision, DecisionInfo<'static>;
    /// All leases.
    leases() Call::ListLeases(NoParams {}) => Answer::Leases(leases) => leases, Vec<LeaseRow>;
    /// All accounts, or one provider's.
    accounts(list: ListAccountsParams) Call::ListAccounts(list) => Answer::Accounts(accounts) => accounts, Vec<AccountInfo>;
    /// Takes in an account.
    add_account(account: AddAccountParams) Call::AddAccount(Box::new(account)) => Answer::Account(info) => *info, AccountInfo;
    /// Takes out an account.
    remove_account(account: AccountRef) Call::RemoveAccount(account) => Answer::Account(info) => *info, AccountInfo;
    /// Changes an account.
    set_account(change: SetAccountParams) Call::SetAccount(Box::new(change)) => Answer::Account(info) => *info, AccountInfo;
    /// Lets an account be leased again.
    enable_account(account: AccountRef) Call::EnableAccount(account) => Answer::Account(info) => *info, AccountInfo;
    /// Lets an account be leased no more.
    disable_account(what: DisableAccountParams) Call::DisableAccount(what) => Answer::Account(info) => *info, AccountInfo;
    /// The whole picture.
    status() Call::Status(NoParams {}) => Answer::Status(status) => *status, DaemonStatus;
    /// The effective configuration, a JSON document.
    config() Call::GetConfig(NoParams {}) => Answer::Config(document) => document, String;
    /// Has the configuration read now, and hears what came of it.
    reload() Call::ReloadConfig(NoParams {}) => Answer::Reloaded(info) => info, ReloadInfo;
    /// Takes in what other tools keep, or says what would become of it.
    import_accounts(import: ImportAccountsParams) Call::ImportAccounts(Box::new(import)) => Answer::Imported(info) => info, ImportInfo;
    /// What could be had, now and next.
    forecast(of: ForecastParams) Call::Forecast(of) => Answer::Forecast(info) => info, ForecastInfo;
    /// Forgets an account's limits.
    clear_limits(account: AccountRef) Call::ClearLimits(account) => Answer::Account(info) => *info, AccountInfo;
    /// Why an account was chosen, and the others were not.
    explain(what: ExplainParams) Call::Explain(what) => Answer::Explained(info) => *info, ExplainInfo;
    /// Has a login refreshed now, and waits for it.
    refresh_account(account: AccountRef) Call::RefreshAccount(account) => Answer::Account(info) => *info, AccountInfo;
    /// Learns now what an account has used, as far as that is allowed.
    usage(account: AccountRef) Call::AskUsage(account) => Answer::Account(info) => *info, AccountInfo;
    /// Finds out whether its owner has confirmed an account.
    verify_account(what: VerifyAccountParams) Call::VerifyAccount(what) => Answer::Account(info) => *info, AccountInfo;
    /// Seals all secrets with a new key.
    rekey() Call::Rekey(NoParams {}) => Answer::Rekeyed(info) => info, RekeyInfo;
    /// All that is known of all accounts.
    export_accounts(export: ExportAccountsParams) Call::ExportAccounts(export) => Answer::Exported(info) => info, ExportInfo;
    /// Makes a key to the gateway: of a lease, or one that lasts.
    gateway_key(of: GatewayKeyParams) Call::GatewayKey(of) => Answer::GatewayAccess(access) => access, GatewayAccess;
}

impl Client {
    /// Leases an account, or waits for one as long as the request says.
    ///
    /// # Errors
    /// When none can be had, or the connection is lost.
    pub fn acquire(&mut self, request: AcquireParams) -> Result<LeaseInfo<'static>, ClientError> {
        self.lease(request, |request| Call::Acquire(Box::new(request)))
    }

    /// Leases an account as [`Self::acquire`] does, or has again what the same process holds for the same purpose.
    ///
    /// # Errors
    /// When none can be had, or the connection is lost.
    pub fn token(&mut self, request: AcquireParams) -> Result<LeaseInfo<'static>, ClientError> {
        self.lease(request, |request| Call::Token(Box::new(request)))
    }

    fn lease(
        &mut self,
        request: AcquireParams,
        call: fn(AcquireParams) -> Call,
    ) -> Result<LeaseInfo<'static>, ClientError> {
        // without `wait_ms` only the daemon knows how long; its end is noticed all the same
        let patience = request.wait_ms.map(|wait| Duration::from_millis(wait).saturating_add(MARGIN));
        let patience = patience.filter(|patience| Instant::now().checked_add(*patience).is_some());
        let call = call(request);
        let name = call.method();
        match self.call(call, patience)? {
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
            Answer::Done(_) => Ok(EventStream::new(self)),
            other => Err(unexpected("events.subscribe", &other)),
        }
    }

    /// Asks the daemon to end, and waits until it closes the connection; `false` when it does not in time.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn stop(mut self, patience: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now() + patience;
        match self.call(Call::Stop(NoParams {}), Some(patience)) {
            Ok(Answer::Done(_)) => Ok(self.wait_for_close(deadline)),
            Ok(other) => Err(unexpected("daemon.stop", &other)),
            // it was faster than its answer
            Err(ClientError::Lost(error)) if !super::connection::is_timeout(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
