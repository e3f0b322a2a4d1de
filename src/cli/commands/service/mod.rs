//! `service`: installs the daemon as a service, controls the service, and shows its state.

mod definition;

use std::path::Path;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::daemon::stop::{StopArgs, confirm, stop_running};
use crate::cli::ui::{Output, Tint, clean, format};
use crate::cli::{context::Context, error::CliError, launch::create_private_directory};
use crate::daemon::lock::{self, LockHolder, StartedBy};
use crate::protocol::ErrorKind;
use crate::service::{
    self, InstalledUnit, ServiceAction, ServiceError, ServiceState, ServiceUser, SystemRunner, UnitChange, UnitResult,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Install the service, or update it to new settings
    ///
    /// Writes the unit files and makes the service manager load them. Repeat it after an update of lessor.
    #[command(after_help = "Examples:\n  lessor service install\n  lessor service install --print")]
    Install(ServiceInstallArgs),
    /// Stop the service and remove its files
    #[command(after_help = "Example: lessor service uninstall")]
    Uninstall,
    /// Start the daemon as a service
    #[command(after_help = "Example: lessor service start")]
    Start,
    /// Stop the service; clients do not restart it
    #[command(after_help = "Example: lessor service stop")]
    Stop(StopArgs),
    /// Stop the service and start it again
    #[command(after_help = "Example: lessor service restart")]
    Restart,
    /// Show the state of the service
    #[command(after_help = "Example: lessor service status")]
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceInstallArgs {
    /// Print the files that would be written, and change nothing
    #[arg(long)]
    print: bool,
}

/// The output with `--json` of the commands that change the service
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ServiceChange {
    /// The unit files.
    files: Vec<UnitFileChange>,
    /// What was done, as sentences.
    done: Vec<String>,
    /// What the user should know or do.
    hints: Vec<String>,
}

/// A unit file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UnitFileChange {
    /// The path of the file.
    path: String,
    /// What was done with it: `written`, `replaced`, `unchanged`, `removed`; `printed` with `--print`.
    change: &'static str,
    /// Its content, with `--print`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// `service status --json`
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ServiceStatus {
    /// The service manager: `systemd`, `launchd` or `the task scheduler`.
    manager: &'static str,
    #[serde(flatten)]
    state: ServiceState,
    /// Whether the unit files differ from those of this version of lessor.
    outdated: bool,
    /// The program that the service starts.
    program: Option<String>,
    /// Problems, each with its remedy.
    warnings: Vec<String>,
}

/// The width of the names in `service status`.
const NAMES: usize = 11;

type UserService = service::ServiceControl<SystemRunner>;

pub(super) fn execute(command: &ServiceCommand, context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let person = ServiceUser::current(&places.state)
        .ok_or_else(|| CliError::bad_request("the home directory is not known; set HOME to an absolute path"))?;
    let ours = service::ServiceControl::of(person);
    match command {
        ServiceCommand::Install(options) => install(options, &ours, context),
        ServiceCommand::Uninstall => uninstall(&ours, context),
        ServiceCommand::Start => act(&ours, ServiceAction::Start, context),
        ServiceCommand::Stop(args) => {
            confirm(args.yes, context)?;
            act(&ours, ServiceAction::Stop, context)
        }
        ServiceCommand::Restart => act(&ours, ServiceAction::Restart, context),
        ServiceCommand::Status => status(&ours, context),
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        let kind = match &error {
            ServiceError::NoManager { .. } => ErrorKind::NoServiceManager,
            _ => ErrorKind::ServiceFailed,
        };
        error.hint().into_iter().fold(Self::new(kind, error.to_string()), Self::hint)
    }
}

fn install(options: &ServiceInstallArgs, ours: &UserService, context: &Context) -> Result<(), CliError> {
    let (wanted, mut hints) = definition::of_this_program(context)?;
    if options.print {
        return print(&ours.units(&wanted)?, &context.output);
    }
    let mut done = Vec::new();
    ours.act(ServiceAction::Check)?;
    match holder(context)? {
        // the service uses the same socket, so clients find it
        Some(LockHolder { started_by: StartedBy::Client, .. }) => {
            if let Some(pid) = stop_running(context)? {
                done.push(format!("stopped the daemon that a client had started (pid {pid})"));
            }
        }
        Some(LockHolder { started_by: StartedBy::User, pid, .. }) => hints.push(format!(
            "a daemon is running that the service did not start (pid {pid}); stop it, or the service cannot start: lessor stop"
        )),
        _ => {}
    }
    // the directory of the log, which launchd does not create
    let state = context.places()?.state;
    create_private_directory(&state)
        .map_err(|error| CliError::new(ErrorKind::ServiceFailed, format!("creating {}: {error}", state.display())))?;
    let (files, state) = ours.install(&wanted)?;
    if state.pid.is_some() && files.iter().any(|file| file.change == UnitChange::Replaced) {
        hints.push("the daemon still runs with the old units; to use the new ones: lessor service restart".into());
    }
    hints.extend(ours.manager().hints(&wanted, &state));
    done.push(match (ours.manager().name(), &state.socket) {
        ("systemd", Some(socket)) => {
            format!("systemd listens on {socket} and starts the daemon when a client connects")
        }
        (manager, _) => format!("{manager} starts the daemon when you log in"),
    });
    print_change(files, done, hints, &context.output)
}

fn print(units: &[service::ServiceUnit], output: &Output) -> Result<(), CliError> {
    let files = units.iter().map(|unit| UnitFileChange {
        path: unit.path.display().to_string(),
        change: "printed",
        text: Some(unit.text.clone()),
    });
    let outcome = ServiceChange { files: files.collect(), ..ServiceChange::default() };
    output.result(&outcome, || {
        let one = |file: &UnitFileChange| format!("# {}\n{}", file.path, file.text.as_deref().unwrap_or_default());
        outcome.files.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

fn uninstall(ours: &UserService, context: &Context) -> Result<(), CliError> {
    let files = ours.uninstall()?;
    let mut done = Vec::new();
    if files.is_empty() {
        done.push("no service is installed".to_owned());
    } else if ours.manager().detaches()
        && let Some(pid) = stop_running(context)?
    {
        done.push(format!("stopped the daemon (pid {pid})"));
    }
    print_change(files, done, Vec::new(), &context.output)
}

fn act(ours: &UserService, action: ServiceAction, context: &Context) -> Result<(), CliError> {
    let state = ours.state()?;
    if !state.installed {
        let message = format!("no service of lessor is installed at {}", ours.manager().name());
        return Err(CliError::new(ErrorKind::ServiceFailed, message).hint("install it: lessor service install"));
    }
    // launchd kills a daemon that it restarts
    let is_killed = ours.manager().name() == "launchd" && action == ServiceAction::Restart;
    if ours.manager().detaches() && action != ServiceAction::Start || is_killed {
        stop_running(context)?;
    }
    ours.act(action).map_err(|error| match ours.manager().name() {
        "systemd" => CliError::from(error).hint("see: journalctl --user -u lessor.service -n 20"),
        _ => error.into(),
    })?;
    let state = ours.state()?;
    let done = match (action, state.pid) {
        (ServiceAction::Stop, _) => "stopped".to_owned(),
        (_, Some(pid)) => format!("started (pid {pid})"),
        (_, None) => "started".to_owned(),
    };
    print_change(Vec::new(), vec![done], Vec::new(), &context.output)
}

fn print_change(
    files: Vec<UnitResult>,
    done: Vec<String>,
    hints: Vec<String>,
    output: &Output,
) -> Result<(), CliError> {
    let files = files.into_iter().map(|file| UnitFileChange {
        path: file.path.display().to_string(),
        change: match file.change {
            UnitChange::Written => "written",
            UnitChange::Replaced => "replaced",
            UnitChange::Unchanged => "unchanged",
            UnitChange::Removed => "removed",
        },
        text: None,
    });
    let outcome = ServiceChange { files: files.collect(), done, hints };
    output.result(&outcome, || {
        let mut text = String::new();
        for file in &outcome.files {
            text += &format!("{} {}\n", file.change, clean(&file.path));
        }
        for line in &outcome.done {
            text += &output.prose(&format!("{}\n", clean(line)));
        }
        for hint in &outcome.hints {
            text += &output.labelled(Tint::Strong, "hint:", &clean(hint));
        }
        text
    })
}

fn holder(context: &Context) -> Result<Option<LockHolder>, CliError> {
    let path = context.places()?.lock;
    Ok(lock::is_held(&path).then(|| lock::read(&path)).flatten())
}

fn status(ours: &UserService, context: &Context) -> Result<(), CliError> {
    let program = definition::program()?;
    let status = describe(ours, ours.state()?, ours.installed(), holder(context)?, &program);
    context.output.result(&status, || text(&status, &context.output))
}

fn describe(
    ours: &UserService,
    mut state: ServiceState,
    reading: InstalledUnit,
    holder: Option<LockHolder>,
    this_program: &Path,
) -> ServiceStatus {
    let manager = ours.manager();
    state.active |= manager.detaches() && state.installed && holder.is_some();
    state.pid = state.pid.or(holder.as_ref().map(|holder| holder.pid));
    let mut status = ServiceStatus {
        manager: manager.name(),
        outdated: state.installed && !reading.is_current,
        program: reading.program,
        warnings: Vec::new(),
        state,
    };
    status.warnings = warnings(&status, holder.filter(|_| !status.state.active).as_ref(), this_program);
    status
}

/// Problems, each with its remedy.
fn warnings(status: &ServiceStatus, other: Option<&LockHolder>, this_program: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |is_so: bool, text: String| {
        if is_so {
            warnings.push(text);
        }
    };
    if !status.state.installed {
        return Vec::new();
    }
    let program = status.program.as_deref().map(Path::new);
    let gone = program.is_some_and(|program| !program.exists());
    let remedy = "lessor service install";
    warn(gone, format!("the program of the service does not exist any more; to use this one: {remedy}"));
    let same = |one: &Path| one.canonicalize().ok() == this_program.canonicalize().ok();
    let differs = !gone && program.is_some_and(|program| !same(program));
    warn(differs, format!("this program ({}) is not that of the service; to use it: {remedy}", this_program.display()));
    warn(status.outdated, format!("the units are not those of this version; to update them: {remedy}"));
    warn(!status.state.enabled, format!("the service does not start automatically; to enable it: {remedy}"));
    warn(
        status.state.listening == Some(false),
        "clients cannot reach the service; to start it: lessor service start".to_owned(),
    );
    let failed = status.state.failed;
    warn(failed, "the service failed; see: journalctl --user -u lessor.service -n 20".to_owned());
    if let Some(other) = other {
        let by = if other.started_by == StartedBy::Client { "a client" } else { "the user" };
        warn(true, format!("a daemon is running that the service did not start (pid {}, started by {by})", other.pid));
    }
    warnings
}

fn text(status: &ServiceStatus, output: &Output) -> String {
    if !status.state.installed {
        let pid =
            status.state.pid.map_or_else(String::new, |pid| format!("; a daemon is running without it (pid {pid})"));
        return format!("no service is installed at {}{pid}; to install it: lessor service install\n", status.manager);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &output.field(name, NAMES, value);
    let pid = status.state.pid.filter(|_| status.state.active).map_or_else(String::new, |pid| format!(", pid {pid}"));
    let again = status
        .state
        .restarts
        .filter(|times| *times > 0)
        .map_or_else(String::new, |times| format!(", restarted {}", format::count(times as usize, "time")));
    line("service", &format!("{}: {}{pid}{again}", status.manager, status.state.summary));
    if let Some(says) = &status.state.status_text {
        line("reports", says);
    }
    if let Some(socket) = &status.state.socket {
        line(
            "socket",
            &format!("{socket}{}", if status.state.listening == Some(false) { ", not listening" } else { "" }),
        );
    }
    line(
        "autostart",
        match (status.state.enabled, status.state.lingers) {
            (false, _) => "no",
            (true, Some(true)) => "yes; it keeps running when you log out",
            (true, Some(false)) => "yes; it stops when you log out (loginctl enable-linger)",
            (true, None) => "yes",
        },
    );
    if let Some(program) = &status.program {
        line("program", program);
    }
    for file in &status.state.files {
        line("file", file);
    }
    for warning in &status.warnings {
        text += &output.labelled(Tint::Warn, "warning:", &clean(warning));
    }
    text
}
