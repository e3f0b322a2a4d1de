//! launchd, of a user of macOS.

use std::path::PathBuf;

use super::call::{Call, Said};
use super::error::ServiceError;
use super::person::Person;
use super::template::{fill, read, unxml, xml};
use super::unit::{Unit, Wanted, plain};
use super::{Action, Manager, Reading, State};

const LABEL: &str = "lessor";
const TEMPLATE: &str = include_str!("../../launchd/lessor.plist");
/// After a `bootout` launchd needs a moment before it takes the same label again.
const TRIES: u32 = 10;

/// The user's launchd.
#[derive(Clone, Debug)]
pub struct Launchd {
    person: Person,
}

impl Launchd {
    /// Of this user.
    #[must_use]
    pub fn of(person: Person) -> Self {
        Self { person }
    }

    fn path(&self) -> PathBuf {
        self.person.home.join("Library").join("LaunchAgents").join(format!("{LABEL}.plist"))
    }

    fn domain(&self) -> String {
        format!("gui/{}", self.person.uid)
    }

    fn target(&self) -> String {
        format!("gui/{}/{LABEL}", self.person.uid)
    }

    fn bootstrap(&self) -> Call {
        Call::new("launchctl", &["bootstrap", &self.domain(), &self.path().to_string_lossy()])
    }
}

impl Manager for Launchd {
    fn name(&self) -> &'static str {
        "launchd"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn units(&self, wanted: &Wanted) -> Result<Vec<Unit>, ServiceError> {
        let program = xml(plain("this program", &wanted.program)?);
        let state = xml(plain("the directory of state", &self.person.state)?);
        let mut variables = Vec::new();
        for (name, value) in &wanted.variables {
            variables.push(format!("\t\t<key>{name}</key>\n\t\t<string>{}</string>", xml(plain(name, value)?)));
        }
        let words = [("PROGRAM", program.as_str()), ("STATE", &state), ("VARIABLES", &variables.join("\n"))];
        Ok(vec![Unit { path: self.path(), text: fill(TEMPLATE, &words), wide: false, stays_in_use: true }])
    }

    fn calls(&self, action: Action) -> Vec<Call> {
        let (domain, target) = (self.domain(), self.target());
        let call = |arguments: &[&str]| Call::new("launchctl", arguments);
        let bootout = || call(&["bootout", &target]).may_fail();
        match action {
            Action::Check => vec![call(&["print", &domain]).asks_for_manager()],
            Action::Load { anew: false } | Action::Forget => Vec::new(),
            Action::Load { anew: true } => vec![bootout()],
            // one that is loaded is not loaded again: launchd calls that a failure
            Action::Enable { loaded: true } => vec![call(&["enable", &target])],
            Action::Enable { loaded: false } => {
                vec![call(&["enable", &target]), self.bootstrap().tries(TRIES)]
            }
            Action::Uninstall => vec![bootout()],
            Action::Start => vec![self.bootstrap().may_fail(), call(&["kickstart", &target])],
            Action::Stop => vec![call(&["kill", "SIGTERM", &target]).may_fail()],
            Action::Restart => vec![self.bootstrap().may_fail(), call(&["kickstart", "-k", &target])],
        }
    }

    fn questions(&self) -> Vec<Call> {
        let call = |arguments: &[&str]| Call::new("launchctl", arguments).may_fail();
        vec![call(&["print", &self.target()]), call(&["print-disabled", &self.domain()])]
    }

    fn understand(&self, answers: &[Said]) -> State {
        let (loaded, disabled) = match answers {
            [loaded, disabled] => (loaded.ok.then_some(loaded.out.as_str()), disabled.out.as_str()),
            _ => (None, ""),
        };
        let Some(text) = loaded else { return State { word: "not installed".to_owned(), ..State::default() } };
        let value = |name: &str| {
            text.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')).map(str::trim)
        };
        let word = value("state").unwrap_or("unknown").to_owned();
        let off = disabled.lines().any(|line| {
            let line = line.trim();
            line.starts_with("\"lessor\"") && (line.ends_with("true") || line.ends_with("disabled"))
        });
        State {
            installed: true,
            enabled: !off,
            active: word == "running",
            pid: value("pid").and_then(|pid| pid.parse().ok()),
            restarts: value("runs").and_then(|runs| runs.parse::<u32>().ok()).map(|runs| runs.saturating_sub(1)),
            files: value("path").map(str::to_owned).into_iter().collect(),
            word,
            ..State::default()
        }
    }

    fn read(&self, unit: &str) -> Reading {
        let (program, is_current) = read(TEMPLATE, unit, "PROGRAM");
        Reading { program: program.map(unxml), is_current }
    }

    fn hints(&self, _wanted: &Wanted, _state: &State) -> Vec<String> {
        Vec::new()
    }
}
