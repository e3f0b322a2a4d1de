//! Being started by the system: what its service manager must be told, and what it knows.
//!
//! A [`Manager`] says what to write and what to call, and understands the answers; it does neither itself. So what
//! macOS and Windows would be told is tested everywhere. [`Service`] carries it out.

mod call;
mod error;
mod launchd;
mod person;
mod systemd;
mod tasks;
mod template;
mod unit;

pub use call::{Call, Runner, Said, System};
pub use error::ServiceError;
pub use launchd::Launchd;
pub use person::Person;
pub use systemd::Systemd;
pub use tasks::Tasks;
pub use unit::{Change, Unit, Wanted};

use std::fmt::Debug;
use std::path::PathBuf;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// See whether the manager can be reached at all.
    Check,
    /// Take in the units that have been written.
    Load {
        /// What is in use is another one and must end first.
        anew: bool,
    },
    /// Start by itself from now on.
    Enable {
        /// The manager has it as it should be already.
        loaded: bool,
    },
    /// End the service and take it out, before its units are removed.
    Uninstall,
    /// Notice that the units are gone.
    Forget,
    /// Start it.
    Start,
    /// End it, until somebody starts it again.
    Stop,
    /// End it and start it.
    Restart,
}

/// A service manager.
pub trait Manager: Debug {
    /// What people call it.
    fn name(&self) -> &'static str;
    /// Where its units are.
    fn paths(&self) -> Vec<PathBuf>;
    /// The units.
    ///
    /// # Errors
    /// When something cannot be written in them.
    fn units(&self, wanted: &Wanted) -> Result<Vec<Unit>, ServiceError>;
    /// What to call for an action, in this order.
    fn calls(&self, action: Action) -> Vec<Call>;
    /// What to call to know how it stands.
    fn questions(&self) -> Vec<Call>;
    /// What the answers to the questions say.
    fn understand(&self, answers: &[Said]) -> State;
    /// The program that an installed unit starts, and whether the rest is as this version would write it.
    fn read(&self, unit: &str) -> Reading;
    /// Whether the daemon must be asked to end, because the manager lets go of it once it is started.
    fn lets_go(&self) -> bool {
        false
    }
    /// Whether it looks for units by itself, and may look elsewhere.
    fn looks_for_units(&self) -> bool {
        false
    }
    /// What a user should know after installing.
    fn hints(&self, wanted: &Wanted, state: &State) -> Vec<String>;
}

/// How a service stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The manager knows it.
    pub installed: bool,
    /// It starts by itself: at login, or when a client comes.
    pub enabled: bool,
    /// The daemon runs.
    pub active: bool,
    /// The manager's own word for that.
    pub word: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Whether the manager holds the socket; `None` where managers do not.
    pub listening: Option<bool>,
    /// Where it listens, if the manager knows.
    pub socket: Option<String>,
    /// Whether it goes on when the user is logged out; `None` where nobody can tell.
    pub lingers: Option<bool>,
    /// What the daemon has told the manager of itself.
    pub said: Option<String>,
    /// How often the manager had to start it anew.
    pub restarts: Option<u32>,
    /// The units' files, changes by the user included.
    pub files: Vec<String>,
}

/// What an installed unit says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// The program it starts, if this unit says so.
    pub program: Option<String>,
    /// The rest is as this version would write it.
    pub is_current: bool,
}

/// A service, and the way to its manager.
#[derive(Debug)]
pub struct Service<R> {
    manager: Box<dyn Manager>,
    runner: R,
}

/// What was done to one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub change: Change,
}

impl Service<System> {
    /// The service of this user, at the manager that this system has.
    #[must_use]
    pub fn of(person: Person) -> Self {
        let manager: Box<dyn Manager> = if cfg!(windows) {
            Box::new(Tasks::of(person))
        } else if cfg!(target_os = "macos") {
            Box::new(Launchd::of(person))
        } else {
            Box::new(Systemd::of(person))
        };
        Self { manager, runner: System }
    }
}

impl<R: Runner> Service<R> {
    /// With another manager, and another way to it.
    pub fn with(manager: Box<dyn Manager>, runner: R) -> Self {
        Self { manager, runner }
    }

    /// The manager.
    #[must_use]
    pub fn manager(&self) -> &dyn Manager {
        &*self.manager
    }

    /// Writes the units and has the manager take them in; the same again changes nothing.
    ///
    /// # Errors
    /// When the manager cannot be reached or does not take them.
    pub fn install(&self, wanted: &Wanted) -> Result<(Vec<Done>, State), ServiceError> {
        let units = self.manager.units(wanted)?;
        self.act(Action::Check)?;
        let done = units
            .iter()
            .map(|unit| Ok(Done { path: unit.path.clone(), change: unit.write()? }))
            .collect::<Result<Vec<_>, ServiceError>>()?;
        let mut changes = units.iter().zip(&done);
        let anew = changes.any(|(unit, done)| unit.stays_in_use && done.change == Change::Replaced);
        self.act(Action::Load { anew })?;
        let loaded = self.state()?.installed;
        if self.manager.looks_for_units() && !loaded {
            let path = units.into_iter().next().map(|unit| unit.path).unwrap_or_default();
            return Err(ServiceError::NotSeen { manager: self.manager.name(), path });
        }
        self.act(Action::Enable { loaded: loaded && !anew })?;
        Ok((done, self.state()?))
    }

    /// Ends the service and removes its units; that there are none is as good.
    ///
    /// # Errors
    /// When a file cannot be removed, or the manager holds on to it.
    pub fn uninstall(&self) -> Result<Vec<Done>, ServiceError> {
        let reachable = self.act(Action::Check);
        if reachable.is_ok() {
            self.act(Action::Uninstall)?;
        }
        let mut done = Vec::new();
        for path in self.manager.paths() {
            if unit::remove(&path)? {
                done.push(Done { path, change: Change::Removed });
            }
        }
        match reachable {
            Ok(()) => self.act(Action::Forget)?,
            // nothing was there, and nobody to tell
            Err(error) if done.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(done)
    }

    /// Has the manager do something.
    ///
    /// # Errors
    /// When a call fails that should not.
    pub fn act(&self, action: Action) -> Result<(), ServiceError> {
        self.manager.calls(action).iter().try_for_each(|call| self.run(call).map(drop))
    }

    /// How the service stands.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub fn state(&self) -> Result<State, ServiceError> {
        let answers = self.manager.questions().iter().map(|call| self.run(call)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.manager.understand(&answers))
    }

    /// What the installed units say: the program, and whether this version would write the same.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let units = self.manager.paths().into_iter().filter_map(|path| unit::text(&path));
        let all = units.map(|text| self.manager.read(&text));
        all.fold(Reading { program: None, is_current: true }, |sum, one| Reading {
            program: sum.program.or(one.program),
            is_current: sum.is_current && one.is_current,
        })
    }

    fn run(&self, call: &Call) -> Result<Said, ServiceError> {
        let manager = self.manager.name();
        let failed = |said: String| ServiceError::Call { call: call.to_string(), said };
        let mut said = Said::default();
        for number in 0..call.tries.max(1) {
            if number > 0 {
                self.runner.rest();
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
