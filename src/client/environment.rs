//! The daemon that the environment of this process names: what most programs want.

use super::{Client, ClientError, DaemonStarter, LeaseGuard, NoDaemon};
use crate::config::{AppPaths, Flags};
use crate::protocol::AcquireParams;

/// Forbids to start a daemon.
const NO_START: &str = "LESSOR_NO_START";

/// Connects to the daemon of this user, or to the one that `LESSOR_SOCKET` or `LESSOR_HOME` names. Starts it with the
/// `lessor` of the search path if it is not running, unless `LESSOR_NO_START` is set.
///
/// # Errors
/// When there is no daemon and none could be started, or it does not speak this protocol.
pub fn connect() -> Result<Client, ClientError> {
    let (paths, starter) = of_process()?;
    connect_by(&paths, starter.as_ref())
}

/// Leases an account, on a connection of its own like that of [`connect`], and connects again in the same way when the
/// daemon has been restarted.
///
/// # Errors
/// When no account is available, or no daemon can be reached.
pub fn acquire(request: AcquireParams) -> Result<LeaseGuard, ClientError> {
    let (paths, starter) = of_process()?;
    let lease = LeaseGuard::acquire(connect_by(&paths, starter.as_ref())?, request)?;
    Ok(match starter {
        Some(starter) => lease.reconnect_by(paths, starter),
        None => lease,
    })
}

/// The paths, and how to start a daemon if that is allowed.
fn of_process() -> Result<(AppPaths, Option<DaemonStarter>), ClientError> {
    let flags = Flags::default();
    let paths =
        AppPaths::from_process(&flags).map_err(|error| NoDaemon { why: error.to_string(), ..NoDaemon::default() })?;
    let is_refused = std::env::var_os(NO_START).is_some_and(|value| !value.is_empty() && value != "0");
    Ok((paths, (!is_refused).then(|| DaemonStarter::program("lessor", &flags))))
}

fn connect_by(paths: &AppPaths, starter: Option<&DaemonStarter>) -> Result<Client, ClientError> {
    match starter {
        Some(starter) => Client::connect_or_start(paths, starter),
        None => Client::connect(paths),
    }
}
