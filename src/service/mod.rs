//! The system service: systemd, launchd, or the Windows task scheduler starts the daemon.
//!
//! A [`ServiceManager`] says which files to write and which programs to call, and parses their output, but does neither
//! itself. So the macOS and Windows variants are tested on every system. [`ServiceControl`] carries it out.

mod call;
mod launchd;
mod systemd;
mod task_scheduler;
mod template;
mod unit;
mod user;

pub use call::{CallOutput, CallRunner, ManagerCall, SystemRunner};
pub use launchd::Launchd;
pub use systemd::Systemd;
pub use task_scheduler::TaskScheduler;
pub use unit::{ServiceUnit, UnitChange, UnitSettings};
pub use user::ServiceUser;

use std::{fmt::Debug, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

/// Why an operation failed.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The manager cannot be reached.
    #[error("{manager} cannot be reached: {why}")]
    NoManager { manager: &'static str, why: String },
    /// A call of the manager failed.
    #[error("`{call}` failed: {said}")]
    Call { call: String, said: String },
    /// The units were written, but the manager does not find them.
    #[error("{manager} does not find the unit {}", path.display())]
    NotSeen { manager: &'static str, path: PathBuf },
    /// A path cannot be written into a unit.
    #[error("{what} is {path:?}, which {why}")]
    Path { what: String, path: PathBuf, why: &'static str },
    /// A file operation failed.
    #[error("{doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: std::io::Error },
}

impl ServiceError {
    /// The remedy.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoManager { manager: "systemd", .. } => Some(
                "log in as this user (ssh, machinectl shell), or as root: loginctl enable-linger USER; where there is \
                 no systemd, the first command that needs the daemon starts it",
            ),
            Self::NoManager { .. } => Some("the first command that needs the daemon starts it, without a service"),
            Self::NotSeen { manager: "systemd", .. } => Some(
                "it was started with another XDG_CONFIG_HOME: install again with the value that \
                 `systemctl --user show-environment` prints, or without",
            ),
            _ => None,
        }
    }
}

/// An action on the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceAction {
    /// Check whether the manager can be reached.
    Check,
    /// Load the units that were written.
    Load {
        /// Whether a different unit is in use and must be stopped first.
        replaces: bool,
    },
    /// Start the service automatically from now on.
    Enable {
        /// Whether the manager has already loaded the current units.
        loaded: bool,
    },
    /// Stop the service and unload it, before its units are removed.
    Uninstall,
    /// Notice that the units were removed.
    Forget,
    /// Start the service.
    Start,
    /// Stop the service.
    Stop,
    /// Restart the service.
    Restart,
}

/// A service manager.
pub trait ServiceManager: Debug {
    /// The manager's name in messages.
    fn name(&self) -> &'static str;
    /// The paths of its units.
    fn paths(&self) -> Vec<PathBuf>;
    /// The units.
    ///
    /// # Errors
    /// When a path cannot be written into a unit.
    fn units(&self, settings: &UnitSettings) -> Result<Vec<ServiceUnit>, ServiceError>;
    /// The call that queries the manager's version, if the units depend on it.
    fn version_call(&self) -> Option<ManagerCall> {
        None
    }
    /// Parses the output of that call.
    fn parse_version(&self, _answer: &CallOutput) -> Option<u32> {
        None
    }
    /// The calls for an action, in order.
    fn calls(&self, action: ServiceAction) -> Vec<ManagerCall>;
    /// The calls that query the status.
    fn status_calls(&self) -> Vec<ManagerCall>;
    /// Parses the output of the status calls.
    fn parse_status(&self, answers: &[CallOutput]) -> ServiceState;
    /// The program that an installed unit starts, and whether the rest of it is current.
    fn parse_unit(&self, unit: &str) -> InstalledUnit;
    /// Whether the daemon must be asked to stop, because the manager does not track it.
    fn detaches(&self) -> bool {
        false
    }
    /// Whether it searches for units itself, and may search elsewhere.
    fn searches_for_units(&self) -> bool {
        false
    }
    /// Hints for the user after installing.
    fn hints(&self, _settings: &UnitSettings, _state: &ServiceState) -> Vec<String> {
        Vec::new()
    }
}

/// The status of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
pub struct ServiceState {
    /// Whether the service is installed: the manager has loaded it.
    pub installed: bool,
    /// Whether it starts automatically: at login, or when a client connects.
    pub enabled: bool,
    /// Whether the daemon runs.
    pub active: bool,
    /// Whether it ended with an error; only systemd reports it.
    #[serde(skip)]
    pub failed: bool,
    /// The manager's own description of the status.
    #[serde(rename = "state")]
    pub summary: String,
    /// The daemon's process id.
    pub pid: Option<u32>,
    /// Whether the manager listens on the socket; `None` if the manager does not manage sockets.
    pub listening: Option<bool>,
    /// The socket's path, if the manager knows it.
    pub socket: Option<String>,
    /// Whether the service continues after logout; `None` if unknown.
    #[serde(rename = "linger")]
    pub lingers: Option<bool>,
    /// The status text that the daemon sent to the manager.
    #[serde(rename = "says")]
    pub status_text: Option<String>,
    /// How often the manager restarted it.
    pub restarts: Option<u32>,
    /// The unit files, including the user's changes.
    pub files: Vec<String>,
}

/// The content of an installed unit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InstalledUnit {
    /// The program it starts, if this unit contains it.
    pub program: Option<String>,
    /// Whether the rest is as this version writes it.
    pub is_current: bool,
}

/// A service and its manager.
#[derive(Debug)]
pub struct ServiceControl<R> {
    manager: Box<dyn ServiceManager>,
    runner: R,
}

/// The result for one unit file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitResult {
    /// The file.
    pub path: PathBuf,
    /// What was done.
    pub change: UnitChange,
}

impl ServiceControl<SystemRunner> {
    /// The service of this user, with the manager of this system.
    #[must_use]
    pub fn of(user: ServiceUser) -> Self {
        let manager: Box<dyn ServiceManager> = if cfg!(windows) {
            Box::new(TaskScheduler::of(user))
        } else if cfg!(target_os = "macos") {
            Box::new(Launchd::of(user))
        } else {
            Box::new(Systemd::of(user))
        };
        Self { manager, runner: SystemRunner }
    }
}

impl<R: CallRunner> ServiceControl<R> {
    /// A service with another manager and runner.
    pub fn with(manager: Box<dyn ServiceManager>, runner: R) -> Self {
        Self { manager, runner }
    }

    /// The manager.
    #[must_use]
    pub fn manager(&self) -> &dyn ServiceManager {
        &*self.manager
    }

    /// The units for this version of the manager.
    ///
    /// # Errors
    /// When a path cannot be written into a unit.
    pub fn units(&self, settings: &UnitSettings) -> Result<Vec<ServiceUnit>, ServiceError> {
        // without an answer the units are those that every version understands
        let answer = self.manager.version_call().and_then(|call| self.run(&call).ok());
        let manager_version = answer.and_then(|answer| self.manager.parse_version(&answer));
        self.manager.units(&UnitSettings { manager_version, ..settings.clone() })
    }

    /// Writes the units and has the manager load them. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the manager cannot be reached or rejects the units.
    pub fn install(&self, settings: &UnitSettings) -> Result<(Vec<UnitResult>, ServiceState), ServiceError> {
        self.act(ServiceAction::Check)?;
        let units = self.units(settings)?;
        let done = units
            .iter()
            .map(|unit| Ok(UnitResult { path: unit.path.clone(), change: unit.write()? }))
            .collect::<Result<Vec<_>, ServiceError>>()?;
        let mut changes = units.iter().zip(&done);
        let replaces = changes.any(|(unit, done)| unit.stays_in_use && done.change == UnitChange::Replaced);
        self.act(ServiceAction::Load { replaces })?;
        let loaded = self.state()?.installed;
        if self.manager.searches_for_units() && !loaded {
            let path = units.into_iter().next().map(|unit| unit.path).unwrap_or_default();
            return Err(ServiceError::NotSeen { manager: self.manager.name(), path });
        }
        self.act(ServiceAction::Enable { loaded: loaded && !replaces })?;
        Ok((done, self.state()?))
    }

    /// Stops the service and removes its units. It succeeds if there are none.
    ///
    /// # Errors
    /// When a file cannot be removed, or the manager refuses.
    pub fn uninstall(&self) -> Result<Vec<UnitResult>, ServiceError> {
        let reachable = self.act(ServiceAction::Check);
        if reachable.is_ok() {
            self.act(ServiceAction::Uninstall)?;
        }
        let mut done = Vec::new();
        for path in self.manager.paths() {
            if unit::remove(&path)? {
                done.push(UnitResult { path, change: UnitChange::Removed });
            }
        }
        match reachable {
            Ok(()) => self.act(ServiceAction::Forget)?,
            // nothing was installed, and no manager can be reached
            Err(error) if done.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(done)
    }

    /// Carries out an action.
    ///
    /// # Errors
    /// When a required call fails.
    pub fn act(&self, action: ServiceAction) -> Result<(), ServiceError> {
        self.manager.calls(action).iter().try_for_each(|call| self.run(call).map(drop))
    }

    /// Queries the status.
    ///
    /// # Errors
    /// When the manager cannot be queried.
    pub fn state(&self) -> Result<ServiceState, ServiceError> {
        let answers = self.manager.status_calls().iter().map(|call| self.run(call)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.manager.parse_status(&answers))
    }

    /// Reads the installed units: the program, and whether this version would write the same.
    #[must_use]
    pub fn installed(&self) -> InstalledUnit {
        let units = self.manager.paths().into_iter().filter_map(|path| unit::text(&path));
        let all = units.map(|text| self.manager.parse_unit(&text));
        all.fold(InstalledUnit { program: None, is_current: true }, |sum, one| InstalledUnit {
            program: sum.program.or(one.program),
            is_current: sum.is_current && one.is_current,
        })
    }

    fn run(&self, call: &ManagerCall) -> Result<CallOutput, ServiceError> {
        let manager = self.manager.name();
        let failed = |said: String| ServiceError::Call { call: call.to_string(), said };
        let mut said = CallOutput::default();
        for number in 0..call.tries.max(1) {
            if number > 0 {
                self.runner.pause();
            }
            said = self.runner.run(call).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    ServiceError::NoManager { manager, why: format!("there is no {}", call.program) }
                }
                _ => failed(error.to_string()),
            })?;
            if said.ok {
                break;
            }
        }
        match said.ok || call.may_fail {
            true => Ok(said),
            false if call.asks_for_manager => Err(ServiceError::NoManager { manager, why: said.words() }),
            false => Err(failed(said.words())),
        }
    }
}

#[cfg(test)]
mod tests;
