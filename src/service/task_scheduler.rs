//! The Windows task scheduler: a task at logon, with the user's own rights.
//!
//! The task starts the daemon without a window and ends as soon as it serves. So the daemon is stopped by asking it,
//! and the next client starts it again.

use std::path::PathBuf;

use super::call::{CallOutput, ManagerCall};
use super::template::{fill, read, unxml, xml};
use super::unit::{ServiceUnit, UnitSettings, plain};
use super::user::ServiceUser;
use super::{InstalledUnit, ServiceAction, ServiceError, ServiceManager, ServiceState};

const NAME: &str = "lessor";
const TEMPLATE: &str = include_str!("../../windows/lessor.xml");

/// The task scheduler of one user.
#[derive(Clone, Debug)]
pub struct TaskScheduler {
    user: ServiceUser,
}

impl TaskScheduler {
    /// For this user.
    #[must_use]
    pub fn of(user: ServiceUser) -> Self {
        Self { user }
    }

    /// The file that the scheduler reads; it stores its own copy.
    fn path(&self) -> PathBuf {
        self.user.state.join("logon-task.xml")
    }
}

impl ServiceManager for TaskScheduler {
    fn name(&self) -> &'static str {
        "the task scheduler"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn units(&self, settings: &UnitSettings) -> Result<Vec<ServiceUnit>, ServiceError> {
        let program = xml(plain("this program", &settings.program)?);
        let user = xml(self.user.name.as_deref().unwrap_or_default());
        let mut arguments = String::new();
        // a task cannot set environment variables
        for (flag, name) in [("--config", "LESSOR_CONFIG"), ("--socket", "LESSOR_SOCKET")] {
            if let Some((_, value)) = settings.variables.iter().find(|(known, _)| *known == name) {
                arguments += &format!("{flag} {} ", argument(plain(name, value)?));
            }
        }
        arguments += "daemon --launch";
        let words = [("PROGRAM", program.as_str()), ("USER", &user), ("ARGUMENTS", &xml(&arguments))];
        Ok(vec![ServiceUnit { path: self.path(), text: fill(TEMPLATE, &words), wide: true, stays_in_use: false }])
    }

    fn calls(&self, action: ServiceAction) -> Vec<ManagerCall> {
        let call = |arguments: &[&str]| ManagerCall::new("schtasks", arguments);
        match action {
            ServiceAction::Check => vec![call(&["/Query"]).asks_for_manager()],
            ServiceAction::Load { replaces: _ } => {
                vec![call(&["/Create", "/TN", NAME, "/XML", &self.path().to_string_lossy(), "/F"])]
            }
            ServiceAction::Uninstall => vec![call(&["/Delete", "/TN", NAME, "/F"]).may_fail()],
            ServiceAction::Forget | ServiceAction::Stop => Vec::new(),
            ServiceAction::Enable { loaded: _ } | ServiceAction::Start | ServiceAction::Restart => {
                vec![call(&["/Run", "/TN", NAME])]
            }
        }
    }

    fn status_calls(&self) -> Vec<ManagerCall> {
        // the other formats are in the user's language
        vec![ManagerCall::new("schtasks", &["/Query", "/TN", NAME, "/XML"]).may_fail()]
    }

    fn parse_status(&self, answers: &[CallOutput]) -> ServiceState {
        let Some(task) = answers.first().filter(|said| said.ok && said.out.contains("<Task")) else {
            return ServiceState { summary: "not installed".to_owned(), ..ServiceState::default() };
        };
        // enabled settings are omitted in the output
        let settings = task.out.split_once("<Settings>").map_or("", |(_, rest)| rest);
        let enabled = !settings.split("</Settings>").next().unwrap_or_default().contains("<Enabled>false</Enabled>");
        let word = if enabled { "at logon" } else { "disabled" };
        ServiceState { installed: true, enabled, summary: word.to_owned(), ..ServiceState::default() }
    }

    fn parse_unit(&self, unit: &str) -> InstalledUnit {
        let (program, is_current) = read(TEMPLATE, unit, "PROGRAM");
        InstalledUnit { program: program.map(unxml), is_current }
    }

    fn detaches(&self) -> bool {
        true
    }

    fn hints(&self, settings: &UnitSettings, _state: &ServiceState) -> Vec<String> {
        let home = settings.variables.iter().find(|(name, _)| *name == "LESSOR_HOME");
        let hint = |(_, home): &(&str, PathBuf)| {
            let home = home.display();
            format!(
                "a task cannot set environment variables; to set it for all your programs: setx LESSOR_HOME \"{home}\""
            )
        };
        home.map(hint).into_iter().collect()
    }
}

/// Quotes an argument for Windows programs, where backslashes are special only before a quote.
fn argument(text: &str) -> String {
    let trailing = text.len() - text.trim_end_matches('\\').len();
    format!("\"{text}{}\"", "\\".repeat(trailing))
}
