//! Calls of other programs: what to run, and what it said.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between two tries of one call.
const REST: Duration = Duration::from_millis(300);

/// One call of a manager's own program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The program, looked up in `PATH`.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Added to the environment, where that does not say otherwise.
    pub variables: Vec<(&'static str, PathBuf)>,
    /// A failure is no news.
    pub may_fail: bool,
    /// A failure means that there is no manager.
    pub asks_for_manager: bool,
    /// How often it is tried; some managers need a moment between two words.
    pub tries: u32,
}

/// What a program answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// It succeeded.
    pub ok: bool,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

/// What calls programs.
pub trait Runner {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    fn run(&self, call: &Call) -> io::Result<Said>;
    /// Waits a moment before the same is tried again.
    fn rest(&self);
}

/// Calls programs of this system.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Call {
    /// A call with these arguments.
    #[must_use]
    pub fn new(program: &'static str, arguments: &[&str]) -> Self {
        Self {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            variables: Vec::new(),
            may_fail: false,
            asks_for_manager: false,
            tries: 1,
        }
    }

    pub(super) fn may_fail(self) -> Self {
        Self { may_fail: true, ..self }
    }

    pub(super) fn asks_for_manager(self) -> Self {
        Self { asks_for_manager: true, ..self }
    }

    pub(super) fn tries(self, tries: u32) -> Self {
        Self { tries, ..self }
    }
}

/// As a person would type it.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        self.arguments.iter().try_for_each(|argument| {
            if argument.contains(char::is_whitespace) { write!(f, " '{argument}'") } else { write!(f, " {argument}") }
        })
    }
}

impl Said {
    /// The reason it gave for failing, in a line.
    pub(super) fn words(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { "it failed without a word".to_owned() } else { lines.join("; ") }
    }
}

impl Runner for System {
    fn run(&self, call: &Call) -> io::Result<Said> {
        let mut command = Command::new(call.program);
        // what it says is read, not only shown
        command.args(&call.arguments).env("LC_ALL", "C").stdin(Stdio::null());
        for (name, value) in &call.variables {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
    }

    fn rest(&self) {
        std::thread::sleep(REST);
    }
}
