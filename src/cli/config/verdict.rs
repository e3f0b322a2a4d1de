//! What a running daemon makes of the file; and `reload`, which is only that question.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::{Client, ClientError};
use crate::config::{AppPaths, ConfigProblem};
use crate::protocol::ReloadInfo;

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::output::clean;

/// What a running daemon makes of the file.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Verdict {
    /// `live`; `rejected`: the one before still holds; `no_daemon`: it holds at the next start; `elsewhere`: the daemon
    /// reads another file; `unknown`: the daemon did not say.
    state: State,
    /// Why it was rejected, or is not known.
    error: Option<String>,
    /// What the daemon does not do at once, and why.
    notes: Vec<String>,
    /// The daemon's process id.
    pid: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Live,
    Rejected,
    NoDaemon,
    Elsewhere,
    Unknown,
}

impl Verdict {
    /// Asks the daemon, if there is one, to read the file now.
    pub(in crate::cli) fn of_daemon(places: &AppPaths) -> Self {
        let nothing = |state, error| Self { state, error, notes: Vec::new(), pid: None };
        let mut client = match Client::connect(places) {
            Ok(client) => client,
            Err(ClientError::NoDaemon(_)) => return nothing(State::NoDaemon, None),
            Err(error) => return nothing(State::Unknown, Some(error.to_string())),
        };
        let pid = Some(client.server().pid);
        match client.reload() {
            Ok(info) => match other_file(&info.path, places) {
                Some(other) => Self { pid, ..nothing(State::Elsewhere, Some(other)) },
                None => Self { pid, ..Self::from(info) },
            },
            Err(error) => Self { pid, ..nothing(State::Unknown, Some(error.to_string())) },
        }
    }

    /// Without what was said already.
    pub(super) fn beyond(mut self, said: &[ConfigProblem]) -> Self {
        self.notes.retain(|note| !said.iter().any(|problem| problem.headline() == *note));
        self
    }

    /// The exit code: what is not taken is a failure, for the file is meant for the daemon.
    pub(in crate::cli) fn exit(&self) -> u8 {
        if self.state == State::Rejected { super::super::failure::CONFIG } else { 0 }
    }

    /// In words, for after a change.
    pub(in crate::cli) fn words(&self) -> String {
        let pid = self.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let error = self.error.as_deref().unwrap_or_default();
        let mut text = match self.state {
            State::Live => format!("live: the daemon{pid} has it\n"),
            State::Rejected => format!("rejected by the daemon{pid}, which keeps what it has:\n{error}\n"),
            State::NoDaemon => "no daemon is running; it holds at the next start\n".to_owned(),
            State::Elsewhere => {
                format!("the running daemon{pid} reads another file: {}\n", clean(error))
            }
            State::Unknown => format!("the daemon{pid} did not say whether it has it: {error}\n"),
        };
        for note in &self.notes {
            text += &format!("note: {}\n", clean(note));
        }
        text
    }
}

impl From<ReloadInfo> for Verdict {
    fn from(info: ReloadInfo) -> Self {
        let state = if info.state == "rejected" { State::Rejected } else { State::Live };
        Self { state, error: info.error, notes: info.notes, pid: None }
    }
}

/// The file that a daemon reads, if it is not ours.
pub(super) fn other_file(theirs: &str, places: &AppPaths) -> Option<String> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let theirs = Path::new(theirs);
    let same = theirs == places.config || real(theirs) == real(&places.config);
    (!same).then(|| theirs.display().to_string())
}

/// `reload`: has the daemon read its configuration now.
pub(in crate::cli) fn reload(context: &Context) -> Result<u8, Failure> {
    let places = context.places()?;
    // a daemon that is only started now would have read it anyway
    let mut client =
        Client::connect(&places).map_err(|error| Failure::from(error).hint("it is read at every start"))?;
    let pid = client.server().pid;
    let info = client.reload()?;
    if info.state == "rejected" && !context.output.json {
        let why = info.error.as_deref().unwrap_or_default();
        let message = format!("the daemon (pid {pid}) has rejected the configuration, and keeps what it has:\n{why}");
        return Err(Failure::config(message).hint("mend it: lessor config edit"));
    }
    let exit = if info.state == "rejected" { super::super::failure::CONFIG } else { 0 };
    context.output.result(&info, || {
        let mut text = match (info.changed, info.state.as_str()) {
            (true, "default") => format!("reloaded: there is no file, so the defaults are live (pid {pid})\n"),
            (true, _) => format!("reloaded: the new configuration is live (pid {pid})\n"),
            (false, _) => format!("live: the daemon (pid {pid}) has it already\n"),
        };
        text.extend(info.notes.iter().map(|note| format!("note: {}\n", clean(note))));
        text
    })?;
    Ok(exit)
}
