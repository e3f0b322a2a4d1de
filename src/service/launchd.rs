//! launchd on macOS, for one user.

use std::path::PathBuf;

use super::call::{CallOutput, ManagerCall};
use super::template::{fill, read, unxml, xml};
use super::unit::{ServiceUnit, UnitSettings, plain};
use super::user::ServiceUser;
use super::{InstalledUnit, ServiceAction, ServiceError, ServiceManager, ServiceState};

const LABEL: &str = "lessor";
const TEMPLATE: &str = include_str!("../../launchd/lessor.plist");
/// After a `bootout`, launchd needs a moment before it accepts the same label again.
const TRIES: u32 = 10;

/// The launchd of one user.
#[derive(Clone, Debug)]
pub struct Launchd {
    user: ServiceUser,
}

impl Launchd {
    /// For this user.
    #[must_use]
    pub fn of(user: ServiceUser) -> Self {
        Self { user }
    }

    fn path(&self) -> PathBuf {
        self.user.home.join("Library").join("LaunchAgents").join(format!("{LABEL}.plist"))
    }

    fn domain(&self) -> String {
        format!("gui/{}", self.user.uid)
    }

    fn target(&self) -> String {
        format!("gui/{}/{LABEL}", self.user.uid)
    }

    fn bootstrap(&self) -> ManagerCall {
        ManagerCall::new("launchctl", &["bootstrap", &self.domain(), &self.path().to_string_lossy()])
    }
}

impl ServiceManager for Launchd {
    fn name(&self) -> &'static str {
        "launchd"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn units(&self, settings: &UnitSettings) -> Result<Vec<ServiceUnit>, ServiceError> {
        let program = xml(plain("this program", &settings.program)?);
        let state = xml(plain("the state directory", &self.user.state)?);
        let mut variables = Vec::new();
        for (name, value) in &settings.variables {
            variables.push(format!("\t\t<key>{name}</key>\n\t\t<string>{}</string>", xml(plain(name, value)?)));
        }
        let words = [("PROGRAM", program.as_str()), ("STATE", &state), ("VARIABLES", &variables.join("\n"))];
        Ok(vec![ServiceUnit { path: self.path(), text: fill(TEMPLATE, &words), wide: false, stays_in_use: true }])
    }

    fn calls(&self, action: ServiceAction) -> Vec<ManagerCall> {
        let (domain, target) = (self.domain(), self.target());
        let call = |arguments: &[&str]| ManagerCall::new("launchctl", arguments);
        let bootout = || call(&["bootout", &target]).may_fail();
        match action {
            ServiceAction::Check => vec![call(&["print", &domain]).asks_for_manager()],
            ServiceAction::Load { replaces: false } | ServiceAction::Forget => Vec::new(),
            ServiceAction::Load { replaces: true } => vec![bootout()],
            // loading a loaded service again is an error for launchd
            ServiceAction::Enable { loaded: true } => vec![call(&["enable", &target])],
            ServiceAction::Enable { loaded: false } => {
                vec![call(&["enable", &target]), self.bootstrap().tries(TRIES)]
            }
            ServiceAction::Uninstall => vec![bootout()],
            ServiceAction::Start => vec![self.bootstrap().may_fail(), call(&["kickstart", &target])],
            ServiceAction::Stop => vec![call(&["kill", "SIGTERM", &target]).may_fail()],
            ServiceAction::Restart => vec![self.bootstrap().may_fail(), call(&["kickstart", "-k", &target])],
        }
    }

    fn status_calls(&self) -> Vec<ManagerCall> {
        let call = |arguments: &[&str]| ManagerCall::new("launchctl", arguments).may_fail();
        vec![call(&["print", &self.target()]), call(&["print-disabled", &self.domain()])]
    }

    fn parse_status(&self, answers: &[CallOutput]) -> ServiceState {
        let (loaded, disabled) = match answers {
            [loaded, disabled] => (loaded.ok.then_some(loaded.out.as_str()), disabled.out.as_str()),
            _ => (None, ""),
        };
        let Some(text) = loaded else {
            return ServiceState { summary: "not installed".to_owned(), ..ServiceState::default() };
        };
        let value = |name: &str| {
            text.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')).map(str::trim)
        };
        let word = value("state").unwrap_or("unknown").to_owned();
        let off = disabled.lines().any(|line| {
            let line = line.trim();
            line.starts_with("\"lessor\"") && (line.ends_with("true") || line.ends_with("disabled"))
        });
        ServiceState {
            installed: true,
            enabled: !off,
            active: word == "running",
            pid: value("pid").and_then(|pid| pid.parse().ok()),
            restarts: value("runs").and_then(|runs| runs.parse::<u32>().ok()).map(|runs| runs.saturating_sub(1)),
            files: value("path").map(str::to_owned).into_iter().collect(),
            summary: word,
            ..ServiceState::default()
        }
    }

    fn parse_unit(&self, unit: &str) -> InstalledUnit {
        let (program, is_current) = read(TEMPLATE, unit, "PROGRAM");
        InstalledUnit { program: program.map(unxml), is_current }
    }
}
