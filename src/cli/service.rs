//! `service`: units for the system's service manager, and how the service stands.

mod wanted;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::daemon::lock::{self, LockHolder, StartedBy};
use crate::service::{self, Action, Change, Done, Person, Reading, ServiceError, State, System};

use super::context::Context;
use super::daemon::end;
use super::failure::Failure;
use super::output::{Output, Tint, clean};
use super::words;

/// `service`
#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// Write the units and have them taken in; again after an update, or with other settings
    Install(Install),
    /// End the service and remove its units
    Uninstall,
    /// Start the daemon as a service
    Start,
    /// End it, and keep clients from having it started again as a service
    Stop,
    /// End it and start it
    Restart,
    /// How it stands
    Status,
}

/// `service install`
#[derive(Debug, Args)]
pub(super) struct Install {
    /// Print what would be written, and change nothing
    #[arg(long)]
    print: bool,
}

/// `service install --json`, and of the others that change something
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Outcome {
    /// The unit files.
    files: Vec<UnitFile>,
    /// What was done, in words.
    done: Vec<String>,
    /// What the user should know or do.
    hints: Vec<String>,
}

/// A unit file.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UnitFile {
    /// Where it is.
    path: String,
    /// What became of it: `written`, `replaced`, `unchanged`, `removed`; `printed` with `--print`.
    change: &'static str,
    /// What it says, with `--print`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// `service status --json`
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct ServiceStatus {
    /// The service manager: `systemd`, `launchd` or `the task scheduler`.
    manager: &'static str,
    /// The manager knows the service.
    installed: bool,
    /// It starts by itself: at login, or when a client comes.
    enabled: bool,
    /// The daemon runs as a service.
    active: bool,
    /// The manager's own word for that.
    state: String,
    /// The daemon's process, as a service or otherwise.
    pid: Option<u32>,
    /// What the daemon told the manager of itself.
    says: Option<String>,
    /// How often the manager had to start it anew.
    restarts: Option<u32>,
    /// Where it listens, if the manager knows.
    socket: Option<String>,
    /// Whether the manager holds the socket; `null` where managers do not.
    listening: Option<bool>,
    /// Whether it goes on when the user is logged out; `null` where nobody can tell.
    linger: Option<bool>,
    /// The units are not as this version of lessor writes them.
    outdated: bool,
    /// The program that the service starts.
    program: Option<String>,
    /// The units' files, changes by the user included.
    files: Vec<String>,
    /// What is not as it should be, and what to do.
    warnings: Vec<String>,
}

type Ours = service::Service<System>;

/// Does what is asked.
pub(super) fn service(command: &Service, context: &Context) -> Result<(), Failure> {
    let places = context.places()?;
    let person = Person::of_process(&places.state)
        .ok_or_else(|| Failure::new("bad_request", "no home directory is known; set HOME to an absolute path"))?;
    let ours = service::Service::of(person);
    match command {
        Service::Install(options) => install(options, &ours, context),
        Service::Uninstall => uninstall(&ours, context),
        Service::Start => act(&ours, Action::Start, context),
        Service::Stop => act(&ours, Action::Stop, context),
        Service::Restart => act(&ours, Action::Restart, context),
        Service::Status => status(&ours, context),
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let kind = match &error {
            ServiceError::NoManager { .. } => "no_service_manager",
            _ => "service_failed",
        };
        let failure = Self::new(kind, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn install(options: &Install, ours: &Ours, context: &Context) -> Result<(), Failure> {
    let (wanted, mut hints) = wanted::wanted(context)?;
    if options.print {
        return print(&ours.manager().units(&wanted)?, &context.output);
    }
    let mut done = Vec::new();
    ours.act(Action::Check)?;
    match holder(context)? {
        // its clients find the service where they found it
        Some(LockHolder { started_by: StartedBy::Client, .. }) => {
            if let Some(pid) = end(context)? {
                done.push(format!("ended the daemon that a client had started (pid {pid})"));
            }
        }
        Some(LockHolder { started_by: StartedBy::User, pid, .. }) => hints.push(format!(
            "a daemon runs that the service did not start (pid {pid}): end it, or the service cannot start its own"
        )),
        _ => {}
    }
    make_state_directory(context)?;
    let (files, state) = ours.install(&wanted)?;
    if state.pid.is_some() && files.iter().any(|file| file.change == Change::Replaced) {
        hints
            .push("the daemon still runs as it was installed before; for the new units: lessor service restart".into());
    }
    hints.extend(ours.manager().hints(&wanted, &state));
    done.push(match (ours.manager().name(), &state.socket) {
        ("systemd", Some(socket)) => format!("systemd holds {socket} and starts the daemon when a client comes"),
        (manager, _) => format!("{manager} starts the daemon when you log in"),
    });
    tell(files, done, hints, &context.output)
}

/// launchd does not make the directory that it is to write to.
fn make_state_directory(context: &Context) -> Result<(), Failure> {
    let places = context.places()?;
    let mut directory = std::fs::DirBuilder::new();
    directory.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory
        .create(&places.state)
        .map_err(|error| Failure::new("service_failed", format!("making {}: {error}", places.state.display())))
}

fn print(units: &[service::Unit], output: &Output) -> Result<(), Failure> {
    let files = units.iter().map(|unit| UnitFile {
        path: unit.path.display().to_string(),
        change: "printed",
        text: Some(unit.text.clone()),
    });
    let outcome = Outcome { files: files.collect(), ..Outcome::default() };
    output.result(&outcome, || {
        let one = |file: &UnitFile| format!("# {}\n{}", file.path, file.text.as_deref().unwrap_or_default());
        outcome.files.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

fn uninstall(ours: &Ours, context: &Context) -> Result<(), Failure> {
    let files = ours.uninstall()?;
    let mut done = Vec::new();
    if files.is_empty() {
        done.push("no service is installed".to_owned());
    } else if ours.manager().lets_go()
        && let Some(pid) = end(context)?
    {
        done.push(format!("ended the daemon (pid {pid})"));
    }
    tell(files, done, Vec::new(), &context.output)
}

fn act(ours: &Ours, action: Action, context: &Context) -> Result<(), Failure> {
    let state = ours.state()?;
    if !state.installed {
        let message = format!("{} knows no service of lessor", ours.manager().name());
        return Err(Failure::new("service_failed", message).hint("lessor service install"));
    }
    if ours.manager().lets_go() && action != Action::Start {
        end(context)?;
    }
    ours.act(action).map_err(|error| match ours.manager().name() {
        "systemd" => Failure::from(error).hint("see: journalctl --user -u lessor.service -n 20"),
        _ => error.into(),
    })?;
    let state = ours.state()?;
    let done = match (action, state.pid) {
        (Action::Stop, _) => "stopped".to_owned(),
        (_, Some(pid)) => format!("started (pid {pid})"),
        (_, None) => "started".to_owned(),
    };
    tell(Vec::new(), vec![done], Vec::new(), &context.output)
}

fn tell(files: Vec<Done>, done: Vec<String>, hints: Vec<String>, output: &Output) -> Result<(), Failure> {
    let files = files.into_iter().map(|file| UnitFile {
        path: file.path.display().to_string(),
        change: match file.change {
            Change::Written => "written",
            Change::Replaced => "replaced",
            Change::Unchanged => "unchanged",
            Change::Removed => "removed",
        },
        text: None,
    });
    let outcome = Outcome { files: files.collect(), done, hints };
    output.result(&outcome, || {
        let mut text = String::new();
        for file in &outcome.files {
            text += &format!("{} {}\n", file.change, clean(&file.path));
        }
        for line in &outcome.done {
            text += &format!("{}\n", clean(line));
        }
        for hint in &outcome.hints {
            text += &format!("{} {}\n", output.tint(Tint::Strong, "hint:"), clean(hint));
        }
        text
    })
}

/// The daemon that has the data directory, whoever started it.
fn holder(context: &Context) -> Result<Option<LockHolder>, Failure> {
    let path = context.places()?.lock;
    Ok(lock::is_held(&path).then(|| lock::read(&path)).flatten())
}

fn status(ours: &Ours, context: &Context) -> Result<(), Failure> {
    let program = wanted::program()?;
    let status = picture(ours, ours.state()?, ours.reading(), holder(context)?, &program);
    context.output.result(&status, || text(&status, &context.output))
}

fn picture(
    ours: &Ours,
    state: State,
    reading: Reading,
    holder: Option<LockHolder>,
    this_program: &std::path::Path,
) -> ServiceStatus {
    let (manager, lets_go) = (ours.manager().name(), ours.manager().lets_go());
    let mut status = ServiceStatus {
        manager,
        installed: state.installed,
        enabled: state.enabled,
        active: state.active || (lets_go && state.installed && holder.is_some()),
        state: state.word,
        pid: state.pid.or(holder.as_ref().map(|holder| holder.pid)),
        says: state.said,
        restarts: state.restarts,
        socket: state.socket,
        listening: state.listening,
        linger: state.lingers,
        outdated: state.installed && !reading.is_current,
        program: reading.program,
        files: state.files,
        warnings: Vec::new(),
    };
    status.warnings = warnings(&status, holder.filter(|_| !status.active).as_ref(), this_program);
    status
}

/// What is not as it should be.
fn warnings(status: &ServiceStatus, other: Option<&LockHolder>, this_program: &std::path::Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |is_so: bool, text: String| {
        if is_so {
            warnings.push(text);
        }
    };
    if !status.installed {
        return Vec::new();
    }
    let program = status.program.as_deref().map(std::path::Path::new);
    let gone = program.is_some_and(|program| !program.exists());
    let anew = "lessor service install";
    warn(gone, format!("the program of the service is gone; for this one: {anew}"));
    let same = |one: &std::path::Path| one.canonicalize().ok() == this_program.canonicalize().ok();
    let differs = !gone && program.is_some_and(|program| !same(program));
    warn(differs, format!("this lessor is another one ({}); to make it the service: {anew}", this_program.display()));
    warn(status.outdated, format!("the units are not as this version writes them: {anew}"));
    warn(!status.enabled, format!("it does not start by itself: {anew}"));
    warn(status.listening == Some(false), "clients cannot reach it: lessor service start".to_owned());
    let failed = status.manager == "systemd" && status.state.starts_with("failed");
    warn(failed, "it failed; why: journalctl --user -u lessor.service -n 20".to_owned());
    if let Some(other) = other {
        let who = if other.started_by == StartedBy::Client { "a client started it" } else { "somebody started it" };
        warn(true, format!("a daemon runs that is not the service's (pid {}, {who})", other.pid));
    }
    warnings
}

fn text(status: &ServiceStatus, output: &Output) -> String {
    if !status.installed {
        let pid = status.pid.map_or_else(String::new, |pid| format!("; a daemon runs without (pid {pid})"));
        return format!("no service is installed at {}{pid}: lessor service install\n", status.manager);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<9}{}\n", clean(value));
    let pid = status.pid.filter(|_| status.active).map_or_else(String::new, |pid| format!(", pid {pid}"));
    let again = status
        .restarts
        .filter(|times| *times > 0)
        .map_or_else(String::new, |times| format!(", started anew {}", words::count(times.into(), "time")));
    line("service", &format!("{}: {}{pid}{again}", status.manager, status.state));
    if let Some(says) = &status.says {
        line("says", says);
    }
    if let Some(socket) = &status.socket {
        line("socket", &format!("{socket}{}", if status.listening == Some(false) { ", not listening" } else { "" }));
    }
    line(
        "by itself",
        match (status.enabled, status.linger) {
            (false, _) => " no",
            (true, Some(true)) => " yes, and it goes on when you log out",
            (true, Some(false)) => " yes, until you log out (loginctl enable-linger)",
            (true, None) => " yes",
        },
    );
    if let Some(program) = &status.program {
        line("program", program);
    }
    for file in &status.files {
        line("file", file);
    }
    for warning in &status.warnings {
        text += &format!("{} {}\n", output.tint(Tint::Warn, "warning:"), clean(warning));
    }
    text
}
