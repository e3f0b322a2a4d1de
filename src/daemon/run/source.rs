//! Where a run gets its socket and its lock from: from the system, a service manager, or the last run of this process.

use std::path::{Path, PathBuf};

use super::{StartError, system};
use crate::config::AppPaths;
use crate::daemon::os::handover::{GatewayListeners, Handover};
use crate::daemon::os::lock::{Lock, StartedBy, Taken};
use crate::daemon::os::socket::{Socket, SocketError, prepare_directory, private_directory};
use crate::daemon::os::socket_activation::{Inherited, WaitingClients, replace_daemon};
use crate::ownership;

pub(super) enum Source {
    New,
    Manager(Inherited),
    LastRun(Handover),
}

impl Source {
    /// Looks what was handed over to this process. To be called before any thread starts.
    pub(super) fn find() -> Result<Self, StartError> {
        if let Some(handover) = Handover::take().map_err(system("taking over from the last run"))? {
            return Ok(Self::LastRun(handover));
        }
        Ok(Inherited::take()?.map_or(Self::New, Self::Manager))
    }

    /// The clients that wait at a service manager's socket.
    pub(super) fn waiting(&self) -> Option<WaitingClients> {
        match self {
            Self::Manager(inherited) => inherited.waiting(),
            Self::New | Self::LastRun(_) => None,
        }
    }

    /// The path of a socket that exists already.
    pub(super) fn path(&self) -> Result<Option<PathBuf>, StartError> {
        match self {
            Self::New => Ok(None),
            Self::Manager(inherited) => Ok(Some(inherited.path().to_owned())),
            Self::LastRun(handover) => handover.path().map(Some).map_err(system("taking over the socket")),
        }
    }

    /// What has started the daemon.
    pub(super) fn started_by(&self, detached: bool) -> StartedBy {
        let is_managers = match self {
            Self::New => false,
            Self::Manager(_) => true,
            Self::LastRun(handover) => handover.has_managers_socket(),
        };
        match (is_managers, detached) {
            (true, _) => StartedBy::Manager,
            (false, true) => StartedBy::Client,
            (false, false) => StartedBy::User,
        }
    }

    /// Locks the data directory, unless the last run has handed over its lock; a daemon of a service manager replaces one
    /// that a client has started.
    pub(super) fn lock(&self, paths: &AppPaths) -> Result<Taken, StartError> {
        let lock_error = |error| StartError::Lock { path: paths.lock.clone(), error };
        check_files(paths)?;
        if let Self::LastRun(handover) = self {
            return handover.lock().map(Taken::Ours).map_err(lock_error);
        }
        private_directory(&paths.data)?;
        match Lock::take(&paths.lock).map_err(lock_error)? {
            Taken::Theirs(Some(holder)) if matches!(self, Self::Manager(_)) => {
                replace_daemon(holder, &paths.lock).map_err(lock_error)
            }
            taken => Ok(taken),
        }
    }

    /// Binds the socket, or takes over one that exists. To be called within the runtime.
    pub(super) fn open(self, path: &Path) -> Result<OpenedSource, StartError> {
        prepare_directory(path)?;
        match self {
            Self::New => Ok(OpenedSource::of(Socket::bind(path)?)),
            Self::Manager(inherited) => {
                if let Some(socket) = Socket::adopt(inherited)? {
                    return Ok(OpenedSource::of(socket));
                }
                tracing::warn!(
                    path = %path.display(),
                    "the service manager's socket was removed; a new one serves until its unit is restarted"
                );
                Ok(OpenedSource::of(Socket::bind(path)?))
            }
            Self::LastRun(handover) => {
                let may_resume = handover.may_resume();
                let (socket, gateway) = handover.open(path)?;
                Ok(OpenedSource { socket, gateway, may_resume })
            }
        }
    }
}

/// Refuses files that another user has put into a directory while it was open to others.
fn check_files(paths: &AppPaths) -> Result<(), StartError> {
    let beside = |suffix| {
        let mut name = paths.database.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let database = ["", "-wal", "-shm", "-journal"].map(beside);
    let files = database.iter().chain([&paths.lock, &paths.key, &paths.log]).map(PathBuf::as_path);
    ownership::check_all(files).map_err(|untrusted| SocketError::from(untrusted).into())
}

/// The socket, and what else the last run has handed over.
pub(super) struct OpenedSource {
    pub(super) socket: Socket,
    pub(super) gateway: GatewayListeners,
    /// Holders of leases may resume them first.
    pub(super) may_resume: bool,
}

impl OpenedSource {
    fn of(socket: Socket) -> Self {
        Self { socket, gateway: GatewayListeners::default(), may_resume: false }
    }
}
