//! A lease that is given back when its holder lets go of it.

use crate::config::AppPaths;
use crate::protocol::{
    AcquireParams, BindTo, CredentialInfo, CredentialParams, DecisionInfo, LeaseInfo, LeaseRef, ReportParams,
};

use super::connection::Client;
use super::error::ClientError;
use super::start::DaemonStarter;

/// A lease and the connection it hangs on; dropping it gives the lease back.
///
/// When the connection is lost, because the daemon was restarted or updated, the next call connects again (with
/// [`LeaseGuard::reconnect_by`], it starts a daemon if need be), presents the lease to the new daemon
/// (`lease.resume`) and repeats the call. The daemon takes it back as long as its account is still there; if it does
/// not, the call fails with `stale_lease`, and the holder must acquire a new one.
#[derive(Debug)]
pub struct LeaseGuard {
    /// `None` while the connection is lost.
    client: Option<Client>,
    lease: LeaseInfo<'static>,
    /// Where to look for a daemon, beside the socket the lease was granted at, and how to start one.
    again: Option<(AppPaths, DaemonStarter)>,
    socket: std::path::PathBuf,
    bound_here: bool,
}

impl LeaseGuard {
    /// Leases an account.
    ///
    /// # Errors
    /// When none can be had.
    pub fn acquire(mut client: Client, request: AcquireParams) -> Result<Self, ClientError> {
        let bound_here = request.bind == BindTo::Connection;
        let lease = client.acquire(request)?;
        let socket = client.socket().to_owned();
        Ok(Self { client: Some(client), lease, again: None, socket, bound_here })
    }

    /// Where to find or start a daemon when the connection is lost.
    #[must_use]
    pub fn reconnect_by(mut self, places: AppPaths, start: DaemonStarter) -> Self {
        self.again = Some((places, start));
        self
    }

    /// The lease as it was granted, renewed or resumed last.
    #[must_use]
    pub fn lease(&self) -> &LeaseInfo<'static> {
        &self.lease
    }

    /// Adds the lease's life to its time.
    ///
    /// # Errors
    /// When the lease has ended, or no daemon can be reached.
    pub fn renew(&mut self) -> Result<&LeaseInfo<'static>, ClientError> {
        let lease = self.reference();
        self.lease = self.with(|client| client.renew(lease.clone()))?;
        Ok(&self.lease)
    }

    /// The credential as it is now; a new one with `force`, after the upstream refused the old.
    ///
    /// # Errors
    /// When the lease has ended, there is no credential, or no daemon can be reached.
    pub fn credential(&mut self, force: bool) -> Result<CredentialInfo<'static>, ClientError> {
        let lease = self.lease.lease.clone().into_owned();
        self.with(|client| client.credential(CredentialParams { lease: lease.clone(), force }))
    }

    /// Tells what the upstream answered; with `switch`, the guard holds the new lease from then on.
    ///
    /// The lease that the report names is the guard's own, whatever it says.
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

    /// Calls; when the connection turns out to be lost, once more on a new one.
    fn with<T>(&mut self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        if let Some(client) = &mut self.client {
            match call(client) {
                Err(ClientError::Lost(_)) => self.client = None,
                answered => return answered,
            }
        }
        let mut client = self.reconnect()?;
        let answered = call(&mut client);
        self.client = Some(client);
        answered
    }

    fn reconnect(&mut self) -> Result<Client, ClientError> {
        let mut client = match &self.again {
            Some((places, start)) => Client::connect_or_start(places, start)?,
            None => Client::connect_at(&self.socket)?,
        };
        // a lease bound to a process or to its time is the daemon's to remember
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
            // if this fails, the lease has ended already, or ends with the connection
            let _ended = client.release(lease);
        }
    }
}
