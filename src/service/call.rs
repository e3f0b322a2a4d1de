//! Calls of the service manager's program: what to run, and its output.

use std::process::{Command, Stdio};
use std::{fmt, io, path::PathBuf, time::Duration};

const REST: Duration = Duration::from_millis(300);

/// A call of the service manager's program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ManagerCall {
    /// The program, looked up in `PATH`.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables that are set unless the environment has them.
    pub variables: Vec<(&'static str, PathBuf)>,
    /// Whether a failure is ignored.
    pub may_fail: bool,
    /// Whether a failure means that there is no manager.
    pub asks_for_manager: bool,
    /// The number of attempts; some managers need a moment between two calls.
    pub tries: u32,
}

/// The output of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallOutput {
    /// Whether it succeeded.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the calls.
pub trait CallRunner {
    /// Runs a call to its end.
    ///
    /// # Errors
    /// When the program cannot be started.
    fn run(&self, call: &ManagerCall) -> io::Result<CallOutput>;
    /// Pauses before the next attempt.
    fn pause(&self);
}

/// Runs the programs of this system.
#[derive(Clone, Copy, Debug)]
pub struct SystemRunner;

impl ManagerCall {
    /// A call with these arguments.
    #[must_use]
    pub fn new(program: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { program, arguments, tries: 1, ..Self::default() }
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

/// The command line, as a user would type it.
impl fmt::Display for ManagerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        self.arguments.iter().try_for_each(|argument| {
            if argument.contains(char::is_whitespace) { write!(f, " '{argument}'") } else { write!(f, " {argument}") }
        })
    }
}

impl CallOutput {
    /// The reason of a failure, in one line.
    pub(super) fn words(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { "it failed without a message".to_owned() } else { lines.join("; ") }
    }
}

impl CallRunner for SystemRunner {
    fn run(&self, call: &ManagerCall) -> io::Result<CallOutput> {
        let mut command = Command::new(call.program);
        // in the C locale, because the output is parsed
        command.args(&call.arguments).env("LC_ALL", "C").stdin(Stdio::null());
        for (name, value) in &call.variables {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(CallOutput { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
    }

    fn pause(&self) {
        std::thread::sleep(REST);
    }
}
