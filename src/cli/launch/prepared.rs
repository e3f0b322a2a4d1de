//! Leased accounts made ready for a program: variables, arguments, and files in a private directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::directory::{self, AGENTS, PrivateDirectory};
use super::inner_lease::LaunchLease;
use super::outer_run::{self, OuterRun};
use super::{CommandRole, LaunchRequest, LaunchRole, Messages, certificates, settings, shims, supervisor};
use crate::cli::{context::Context, error::CliError, ui::clean};
use crate::config::AppPaths;
use crate::provider::{AgentSetup, HandOut, OverridingSettings};
use crate::{client::Client, pool::Process};

/// The subdirectory that says which agent uses the lease of a script.
const CLAIMS: &str = "claims";

pub(crate) struct PreparedLaunch {
    pub(crate) held: Vec<LaunchLease>,
    /// The providers of which the program got no lease of its own: their accounts are for agents only.
    pub(crate) withheld: Vec<String>,
    pub(crate) environment: LaunchEnvironment,
    pub(super) hand_out: HandOut,
    pub(super) holder: Process,
    pub(super) directory: Option<PathBuf>,
}

#[derive(Default)]
pub(crate) struct LaunchEnvironment {
    pub(crate) set: Vec<(String, OsString)>,
    /// Variables to unset: they are set now, and conflict with the lease.
    pub(crate) cleared: Vec<String>,
    pub(crate) arguments: Vec<OsString>,
    /// Variables in the user's settings that are overridden.
    overridden: Vec<String>,
    /// Conflicting variables that the user has set; those of an outer run are none.
    users: Vec<String>,
}

/// Prepares variables, arguments and files.
pub(super) fn prepare_environment(
    outfit: &AgentSetup,
    directory: &mut PrivateDirectory,
    request: &LaunchRequest<'_>,
    places: &AppPaths,
    has_leases: bool,
) -> Result<LaunchEnvironment, CliError> {
    let owned = |(name, value): &(String, String)| (name.clone(), OsString::from(value));
    let mut set: Vec<(String, OsString)> = outfit.set.iter().map(owned).collect();
    set.extend(outfit.unless_set.iter().filter(|(name, _)| std::env::var_os(name).is_none()).map(owned));
    for (path, text) in &outfit.files {
        directory.write(path, text)?;
    }
    for addition in &outfit.additions {
        // of two providers, the second is added to the first
        let variable = |name: &str| {
            let added = set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value.clone());
            added.or_else(|| users_variable(name))
        };
        let (name, text, path) = settings::with_addition(addition, &variable)?;
        let value = match path {
            Some(path) => directory.write(path, &text)?.into(),
            None => text.into(),
        };
        set.retain(|(set, _)| set != name);
        set.push((name.to_owned(), value));
    }
    for (trusting, ours) in &outfit.certificates {
        set.push((trusting.name.to_owned(), certificates::file(*trusting, ours, &users_variable, directory)?));
    }
    let mut arguments: Vec<OsString> = outfit.arguments.iter().map(OsString::from).collect();
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let overridden = settings::conflicts(outfit, &users_variable, home.as_deref());
    let is_about_lease = overridden.iter().any(|name| *name != shims::PROCESS_WRAPPER);
    let is_given = |last: OverridingSettings| {
        request.arguments.iter().any(|argument| argument.to_string_lossy().split('=').next() == Some(last.argument))
    };
    // a launcher in the user's settings is no reason to refuse the user's --settings
    let overriding = outfit.overriding.filter(|last| is_about_lease || !overridden.is_empty() && !is_given(*last));
    if let Some(last) = overriding {
        if is_given(last) {
            let message = format!("{} in your settings would override the lease", overridden.join(", "));
            return Err(
                CliError::usage(message).hint(format!("remove it from the settings, or omit {}", last.argument))
            );
        }
        let path = directory.write(settings::FILE, &settings::overrides(outfit, &overridden))?;
        arguments.extend([last.argument.into(), path.into()]);
    }
    let cleared = cleared(outfit);
    set.extend(outfit.emptied.iter().map(|name| ((*name).to_owned(), OsString::new())));
    let users = cleared.iter().filter(|name| users_variable(name).is_some()).cloned().collect();
    let mut environment = LaunchEnvironment { set, users, cleared, arguments, overridden };
    if let LaunchRole::Command(command) = request.role {
        environment.lead_to_lessor(command, directory, request, places, has_leases)?;
    }
    Ok(environment)
}

/// The conflicting variables that are set now.
fn cleared(outfit: &AgentSetup) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut cleared: Vec<String> = names.filter(|name| outfit.is_unset(name)).collect();
    cleared.sort();
    cleared
}

/// Removes settings that another run has given to Claude Code, and that Claude Code passes on to its processes: they are
/// of that run.
pub(crate) fn without_settings_of_runs(arguments: &mut Vec<OsString>, places: &AppPaths) {
    const ARGUMENT: &str = "--settings";
    let of_runs = places.run.join(AGENTS);
    let is_own = |pair: &[OsString]| pair[0] == ARGUMENT && Path::new(&pair[1]).starts_with(&of_runs);
    while let Some(at) = arguments.windows(2).position(is_own) {
        arguments.drain(at..at + 2);
    }
}

fn users_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl LaunchEnvironment {
    /// Adds what leads the agents that the command starts to lessor.
    fn lead_to_lessor(
        &mut self,
        command: CommandRole<'_>,
        directory: &mut PrivateDirectory,
        request: &LaunchRequest<'_>,
        places: &AppPaths,
        has_leases: bool,
    ) -> Result<(), CliError> {
        let mut run = OuterRun::new(request.holder, &request.options, command.outer);
        if !command.takes_arguments {
            // the script that the shell runs starts the agent by name, which adds them
            self.arguments.clear();
        }
        let is_outers = |name: &str| {
            let value = std::env::var_os(name).unwrap_or_default();
            command.outer.is_some_and(|outer| outer.has_set(name, &value))
        };
        self.users.retain(|name| !is_outers(name));
        self.set.iter().for_each(|(name, value)| run.remember(name, value));
        run.agent.clone_from(&request.purpose.agent);
        run.is_agent = command.is_agent;
        run.providers.clone_from(&request.purpose.providers);
        run.arguments = self.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        run.quiet = command.quiet;
        run.direct = request.mode.hand_out() == HandOut::Direct;
        run.process_wrapper = command.process_wrapper.to_vec();
        run.programs = command.outer.filter(|outer| outer.process() == request.holder).map_or_else(Vec::new, |outer| {
            // this process was these programs before
            outer.programs.clone()
        });
        run.programs.push(command.program.to_owned());
        if !command.is_agent && has_leases {
            run.claims = Some(directory.create(CLAIMS)?);
        }
        // on a disk that is full or read-only, agents that the command starts use its own lease
        if let Some(path) = shims::directory(places).ok().and_then(|directory| shims::path_with(&directory)) {
            self.set.push(("PATH".to_owned(), path));
        }
        self.set.push((outer_run::VARIABLE.to_owned(), run.to_text().into()));
        Ok(())
    }
}

impl PreparedLaunch {
    /// The accounts, with their providers.
    pub(crate) fn accounts(&self) -> Vec<(String, String)> {
        let named = |lease: &LaunchLease| {
            let account = &lease.info.account;
            let name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id);
            (clean(&lease.info.provider), clean(name))
        };
        self.held.iter().map(named).collect()
    }

    pub(crate) fn note_cleared(&self, context: &Context) {
        // the user's launcher is called behind lessor's
        let lost = self.environment.overridden.iter().filter(|name| *name != shims::PROCESS_WRAPPER);
        let settings = lost.map(|name| format!("{name} (in settings)"));
        let cleared = self.environment.users.iter().cloned();
        let all: Vec<String> = cleared.chain(settings).collect();
        if !all.is_empty() {
            let all = clean(&all.join(", "));
            context.output.note(&format!("lessor: not passed on because of conflicts with the lease: {all}"));
        }
    }

    /// Starts the supervisor, if the program uses the gateway or has a private directory.
    pub(crate) fn start_supervisor(&self, messages: Messages<'_>, context: &Context) -> Result<(), CliError> {
        let directory = self.directory.as_deref();
        let watches = self.hand_out == HandOut::Gateway && !self.held.is_empty();
        if directory.is_none() && !watches {
            return Ok(());
        }
        supervisor::start(self.holder, directory, watches, messages, context)
            .map_err(|error| CliError::internal(format!("cannot start a process: {error}")))
    }

    /// Releases the leases and removes the directory: the program could not be started.
    pub(crate) fn undo(&self, client: &mut Client) {
        self.held.iter().for_each(|lease| lease.release(client));
        if let Some(directory) = &self.directory {
            directory::remove(directory);
        }
    }
}
