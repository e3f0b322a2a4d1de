//! `reload`, and what happens when a running daemon reads a changed configuration.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::error::{self, CliError};
use crate::cli::{context::Context, ui::clean};
use crate::client::{Client, ClientError};
use crate::config::{AppPaths, ConfigProblem};
use crate::protocol::ReloadInfo;

/// What happened when a running daemon read the configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReloadOutcome {
    /// `live`: the daemon uses it; `rejected`: the daemon keeps the previous one; `no_daemon`: it takes effect at the
    /// next start; `elsewhere`: the daemon reads another file; `unknown`: the daemon did not answer.
    state: ReloadState,
    /// Why it was rejected, or why the state is not known.
    error: Option<String>,
    /// What takes effect later, and why.
    notes: Vec<String>,
    /// The daemon's process id.
    pid: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ReloadState {
    Live,
    Rejected,
    NoDaemon,
    Elsewhere,
    Unknown,
}

impl ReloadOutcome {
    /// Makes the daemon, if one is running, read the file now.
    pub(crate) fn of_daemon(places: &AppPaths) -> Self {
        let failed = |state, error| Self { state, error, notes: Vec::new(), pid: None };
        let mut client = match Client::connect(places) {
            Ok(client) => client,
            Err(ClientError::NoDaemon(_)) => return failed(ReloadState::NoDaemon, None),
            Err(error) => return failed(ReloadState::Unknown, Some(error.to_string())),
        };
        let pid = Some(client.server().pid);
        match client.reload() {
            Ok(info) => match other_file(&info.path, places) {
                Some(other) => Self { pid, ..failed(ReloadState::Elsewhere, Some(other)) },
                None => Self { pid, ..Self::from(info) },
            },
            Err(error) => Self { pid, ..failed(ReloadState::Unknown, Some(error.to_string())) },
        }
    }

    /// The outcome without the notes that repeat one of these problems.
    pub(super) fn without(mut self, shown: &[ConfigProblem]) -> Self {
        self.notes.retain(|note| !shown.iter().any(|problem| problem.headline() == *note));
        self
    }

    /// The exit code: a configuration that the daemon rejects is an error.
    pub(crate) fn exit(&self) -> u8 {
        if self.state == ReloadState::Rejected { error::CONFIG } else { 0 }
    }

    /// Whether the daemon uses it, and has nothing to say of it.
    pub(crate) fn is_live_without_notes(&self) -> bool {
        self.state == ReloadState::Live && self.notes.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        let pid = self.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let error = self.error.as_deref().unwrap_or_default();
        let text = match self.state {
            ReloadState::Live => format!("live: the daemon{pid} uses it\n"),
            ReloadState::Rejected => format!("rejected by the daemon{pid}, which keeps the previous one:\n{error}\n"),
            ReloadState::NoDaemon => "no daemon is running; it takes effect at the next start\n".to_owned(),
            ReloadState::Elsewhere => format!("the running daemon{pid} reads another file: {}\n", clean(error)),
            ReloadState::Unknown => format!("the daemon{pid} did not confirm it: {error}\n"),
        };
        text + &notes(&self.notes)
    }
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {}\n", clean(note))).collect()
}

impl From<ReloadInfo> for ReloadOutcome {
    fn from(info: ReloadInfo) -> Self {
        let state = if info.state == "rejected" { ReloadState::Rejected } else { ReloadState::Live };
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

/// `reload`: makes the daemon read its configuration now.
pub(crate) fn reload(context: &Context) -> Result<u8, CliError> {
    let places = context.places()?;
    // a daemon that is started now would read it anyway
    let mut client = Client::connect(&places)
        .map_err(|error| CliError::from(error).hint("a daemon reads its configuration whenever it starts"))?;
    let pid = client.server().pid;
    let info = client.reload()?;
    let rejected = info.state == "rejected";
    if rejected && !context.output.json {
        let why = info.error.as_deref().unwrap_or_default();
        let message = format!("the daemon (pid {pid}) rejected the configuration, and keeps the previous one:\n{why}");
        return Err(CliError::config(message).hint("correct it: lessor config edit"));
    }
    context.output.result(&info, || {
        let text = match (info.changed, info.state.as_str()) {
            (true, "default") => format!("reloaded: the file does not exist, so the defaults are live (pid {pid})\n"),
            (true, _) => format!("reloaded: the new configuration is live (pid {pid})\n"),
            (false, _) => format!("live: the daemon (pid {pid}) already uses it\n"),
        };
        context.output.prose(&(text + &notes(&info.notes)))
    })?;
    Ok(if rejected { error::CONFIG } else { 0 })
}
