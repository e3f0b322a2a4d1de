//! A lease that is released when its guard is dropped.

use super::{connection::Client, error::ClientError, start::DaemonStarter};
use crate::config::AppPaths;
use crate::protocol::{
    AcquireParams, BindTo, CredentialInfo, CredentialParams, DecisionInfo, LeaseInfo, LeaseRef, ReportParams,
};

/// A lease and its connection; dropping the guard releases the lease.
///
/// When the connection is lost, because the daemon was restarted or updated, the next call connects again (with
/// [`LeaseGuard::reconnect_by`] or from [`super::acquire`], it starts a daemon if need be), presents the lease to the new daemon
/// (`lease.resume`) and repeats the call. The daemon accepts it while its account still exists; if it does
/// not, the call fails with `stale_lease`, and the holder must acquire a new one.
#[derive(Debug)]
pub struct LeaseGuard {
    /// `None` while the connection is lost.
    client: Option<Client>,
    lease: LeaseInfo<'static>,
    /// Where to find a daemon, besides the socket where the lease was granted, and how to start one.
    reconnect_to: Option<(AppPaths, DaemonStarter)>,
    socket: std::path::PathBuf,
    bound_here: bool,
}

impl LeaseGuard {
    /// Leases an account.
    ///
    /// # Errors
    /// When no account is available.
    pub fn acquire(mut client: Client, request: AcquireParams) -> Result<Self, ClientError> {
        let bound_here = request.bind == BindTo::Connection;
        let lease = client.acquire(request)?;
        let socket = client.socket().to_owned();
        Ok(Self { client: Some(client), lease, reconnect_to: None, socket, bound_here })
    }

    /// Where to find or start a daemon when the connection is lost.
    #[must_use]
    pub fn reconnect_by(mut self, paths: AppPaths, start: DaemonStarter) -> Self {
        self.reconnect_to = Some((paths, start));
        self
    }

    /// The lease as it was last granted, renewed or resumed.
    #[must_use]
    pub fn lease(&self) -> &LeaseInfo<'static> {
        &self.lease
    }

    /// Extends a lease by its TTL.
    ///
    /// # Errors
    /// When the lease has ended, or no daemon can be reached.
    pub fn renew(&mut self) -> Result<&LeaseInfo<'static>, ClientError> {
        let lease = self.reference();
        self.lease = self.with(|client| client.renew(lease.clone()))?;
        Ok(&self.lease)
    }

    /// The current credential; with `force` a new one, after the upstream refused the old one.
    ///
    /// # Errors
    /// When the lease has ended, there is no credential, or no daemon can be reached.
    pub fn credential(&mut self, force: bool) -> Result<CredentialInfo<'static>, ClientError> {
        let lease = self.lease.lease.clone().into_owned();
        self.with(|client| client.credential(CredentialParams { lease: lease.clone(), force }))
    }

    /// Reports an upstream response; after a `switch`, the guard holds the new lease.
    ///
    /// The report's `lease` is replaced by the guard's own.
    ///
    /// # Errors
    /// When the lease has ended, or no daemon can be reached.
    pub fn report(&mut self, report: ReportParams) -> Result<DecisionInfo<'static>, ClientError> {
        let report = ReportParams { lease: self.lease.lease.clone().into_owned(), ..report };
        let decision = self.with(|client| client.report(report.clone()))?;
        if let Some(lease) = &decision.lease {
            self.lease = lease.clone();
        }
        Ok(decision)
    }

    fn reference(&self) -> LeaseRef {
        LeaseRef { lease: self.lease.lease.clone().into_owned(), fence: Some(self.lease.fence) }
    }

    /// Calls; if the connection is lost or the daemon is ending, once more on a new one.
    fn with<T>(&mut self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        if let Some(client) = &mut self.client {
            match call(client) {
                Err(error) if matches!(error, ClientError::Lost(_)) || error.is_end_of_daemon() => self.client = None,
                answered => return answered,
            }
        }
        let mut client = self.reconnect()?;
        let answered = call(&mut client);
        self.client = Some(client);
        answered
    }

    fn reconnect(&mut self) -> Result<Client, ClientError> {
        let mut client = match &self.reconnect_to {
            Some((paths, start)) => Client::connect_or_start(paths, start)?,
            None => Client::connect_at(&self.socket)?,
        };
        // the daemon remembers leases that are bound to a process or to their TTL
        if self.bound_here {
            self.lease = client.resume(self.reference())?;
        }
        Ok(client)
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let lease = self.reference();
        if let Some(client) = &mut self.client {
            // if this fails, the lease has already ended, or ends with the connection
            let _ended = client.release(lease);
        }
    }
}
