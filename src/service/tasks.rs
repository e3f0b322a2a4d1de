//! Windows' task scheduler: a task at logon, with no more rights than its user has.
//!
//! The task starts the daemon without a window and is over when that serves; so the daemon is ended by asking it, and
//! started anew by the next client.

use std::path::PathBuf;

use super::call::{Call, Said};
use super::error::ServiceError;
use super::person::Person;
use super::template::{fill, read, unxml, xml};
use super::unit::{Unit, Wanted, plain};
use super::{Action, Manager, Reading, State};

const NAME: &str = "lessor";
const TEMPLATE: &str = include_str!("../../windows/lessor.xml");

/// The task scheduler.
#[derive(Clone, Debug)]
pub struct Tasks {
    person: Person,
}

impl Tasks {
    /// Of this user.
    #[must_use]
    pub fn of(person: Person) -> Self {
        Self { person }
    }

    /// What the scheduler reads; it keeps a copy of its own.
    fn path(&self) -> PathBuf {
        self.person.state.join("logon-task.xml")
    }
}

impl Manager for Tasks {
    fn name(&self) -> &'static str {
        "the task scheduler"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn units(&self, wanted: &Wanted) -> Result<Vec<Unit>, ServiceError> {
        let program = xml(plain("this program", &wanted.program)?);
        let user = xml(self.person.name.as_deref().unwrap_or_default());
        let mut arguments = String::new();
        // a task has no variables of its own
        for (flag, name) in [("--config", "LESSOR_CONFIG"), ("--socket", "LESSOR_SOCKET")] {
            if let Some((_, value)) = wanted.variables.iter().find(|(known, _)| *known == name) {
                arguments += &format!("{flag} {} ", argument(plain(name, value)?));
            }
        }
        arguments += "daemon --launch";
        let words = [("PROGRAM", program.as_str()), ("USER", &user), ("ARGUMENTS", &xml(&arguments))];
        Ok(vec![Unit { path: self.path(), text: fill(TEMPLATE, &words), wide: true, stays_in_use: false }])
    }

    fn calls(&self, action: Action) -> Vec<Call> {
        let call = |arguments: &[&str]| Call::new("schtasks", arguments);
        match action {
            Action::Check => vec![call(&["/Query"]).asks_for_manager()],
            Action::Load { anew: _ } => {
                vec![call(&["/Create", "/TN", NAME, "/XML", &self.path().to_string_lossy(), "/F"])]
            }
            Action::Uninstall => vec![call(&["/Delete", "/TN", NAME, "/F"]).may_fail()],
            Action::Forget | Action::Stop => Vec::new(),
            Action::Enable { loaded: _ } | Action::Start | Action::Restart => vec![call(&["/Run", "/TN", NAME])],
        }
    }

    fn questions(&self) -> Vec<Call> {
        // every other format is in the user's language
        vec![Call::new("schtasks", &["/Query", "/TN", NAME, "/XML"]).may_fail()]
    }

    fn understand(&self, answers: &[Said]) -> State {
        let Some(task) = answers.first().filter(|said| said.ok) else {
            return State { word: "not installed".to_owned(), ..State::default() };
        };
        // what is on is left out of what is printed
        let settings = task.out.split_once("<Settings>").map_or("", |(_, rest)| rest);
        let enabled = !settings.split("</Settings>").next().unwrap_or_default().contains("<Enabled>false</Enabled>");
        let word = if enabled { "at logon" } else { "switched off" };
        State { installed: true, enabled, word: word.to_owned(), ..State::default() }
    }

    fn read(&self, unit: &str) -> Reading {
        let (program, is_current) = read(TEMPLATE, unit, "PROGRAM");
        Reading { program: program.map(unxml), is_current }
    }

    fn lets_go(&self) -> bool {
        true
    }

    fn hints(&self, wanted: &Wanted, _state: &State) -> Vec<String> {
        let home = wanted.variables.iter().find(|(name, _)| *name == "LESSOR_HOME");
        let hint = |(_, home): &(&str, PathBuf)| {
            let home = home.display();
            format!("a task has no variables of its own; for all of your programs: setx LESSOR_HOME \"{home}\"")
        };
        home.map(hint).into_iter().collect()
    }
}

/// An argument as Windows' programs read it: in quotes, where backslashes count only before a quote.
fn argument(text: &str) -> String {
    let trailing = text.len() - text.trim_end_matches('\\').len();
    format!("\"{text}{}\"", "\\".repeat(trailing))
}
