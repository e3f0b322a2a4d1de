//! A leased account made ready for a program: variables, arguments, and files in a private directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::directory::{self, PrivateDirectory};
use super::{Messages, settings, supervisor};
use crate::cli::{context::Context, error::CliError, ui::clean};
use crate::protocol::{LeaseInfo, LeaseRef};
use crate::provider::{AgentSetup, HandOut};
use crate::{client::Client, pool::Process};

/// The subdirectory with the wrapper of an agent that a script starts.
const PROGRAMS: &str = "bin";

pub(crate) struct PreparedLaunch {
    pub(crate) lease: LeaseInfo<'static>,
    pub(crate) environment: LaunchEnvironment,
    pub(super) hand_out: HandOut,
    pub(super) holder: Process,
    pub(super) directory: Option<PathBuf>,
}

pub(crate) struct LaunchEnvironment {
    pub(crate) set: Vec<(String, OsString)>,
    /// Variables to unset: they are set now, and conflict with the lease.
    pub(crate) cleared: Vec<&'static str>,
    pub(crate) arguments: Vec<OsString>,
    /// Variables in the user's settings that are overridden.
    overridden: Vec<String>,
}

/// Prepares variables, arguments and files. If a shell will start the agent, a wrapper with the agent's name, first in
/// `PATH`, adds the arguments.
pub(super) fn prepare_environment(
    outfit: &AgentSetup,
    directory: &mut PrivateDirectory,
    given: &[OsString],
    agent_of_shell: Option<&str>,
) -> Result<LaunchEnvironment, CliError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let owned = |(name, value): &(String, String)| (name.clone(), OsString::from(value));
    let mut set: Vec<(String, OsString)> = outfit.set.iter().map(owned).collect();
    set.extend(outfit.unless_set.iter().filter(|(name, _)| std::env::var_os(name).is_none()).map(owned));
    for (path, text) in &outfit.files {
        directory.write(path, text)?;
    }
    for addition in &outfit.additions {
        let (name, text, path) = settings::with_addition(addition, &variable)?;
        let value = match path {
            Some(path) => directory.write(path, &text)?.into(),
            None => text.into(),
        };
        set.push((name.to_owned(), value));
    }
    let mut arguments: Vec<OsString> = outfit.arguments.iter().map(OsString::from).collect();
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let overridden = settings::conflicts(outfit, &variable, home.as_deref());
    if let Some(last) = outfit.overriding.filter(|_| !overridden.is_empty()) {
        if given.iter().any(|argument| argument.to_string_lossy().split('=').next() == Some(last.argument)) {
            let message = format!("{} in your settings would override the lease", overridden.join(", "));
            return Err(
                CliError::usage(message).hint(format!("remove it from the settings, or omit {}", last.argument))
            );
        }
        let path = directory.write(settings::FILE, &settings::overrides(outfit, &overridden))?;
        arguments.extend([last.argument.into(), path.into()]);
    }
    if let Some(agent) = agent_of_shell.filter(|_| cfg!(unix) && !arguments.is_empty()) {
        let programs = directory.path().join(PROGRAMS);
        directory.write_program(&format!("{PROGRAMS}/{agent}"), &wrapper(agent, &programs, &arguments))?;
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&others)));
        set.push(("PATH".to_owned(), path.unwrap_or(others)));
        arguments.clear();
    }
    let is_set = |name: &&str| std::env::var_os(name).is_some();
    let cleared = outfit.unset.iter().copied().filter(is_set).collect();
    Ok(LaunchEnvironment { set, cleared, arguments, overridden })
}

fn wrapper(agent: &str, programs: &Path, arguments: &[OsString]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
    let own = quoted(&programs.to_string_lossy());
    format!("#!/bin/sh\nPATH=${{PATH#{own}:}}\nexport PATH\nexec {agent} {} \"$@\"\n", arguments.join(" "))
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Releases the lease; if that fails, the lease ends with its process.
pub(super) fn release(client: &mut Client, lease: &LeaseInfo<'_>) {
    let _ended = client.release(LeaseRef { lease: lease.lease.clone().into_owned(), fence: Some(lease.fence) });
}

impl PreparedLaunch {
    pub(crate) fn account(&self) -> String {
        let account = &self.lease.account;
        clean(account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id))
    }

    pub(crate) fn note_cleared(&self, context: &Context) {
        let settings = self.environment.overridden.iter().map(|name| format!("{name} (in settings)"));
        let cleared = self.environment.cleared.iter().map(|name| (*name).to_owned());
        let all: Vec<String> = cleared.chain(settings).collect();
        if !all.is_empty() {
            let all = clean(&all.join(", "));
            context.output.note(&format!("lessor: not passed on because of conflicts with the lease: {all}"));
        }
    }

    /// Starts the supervisor, if the program uses the gateway or has a private directory.
    pub(crate) fn start_supervisor(&self, messages: Messages<'_>, context: &Context) -> Result<(), CliError> {
        if self.directory.is_none() && self.hand_out != HandOut::Gateway {
            return Ok(());
        }
        let directory = self.directory.as_deref();
        let watches = self.hand_out == HandOut::Gateway;
        supervisor::start(self.holder, directory, watches, messages, context)
            .map_err(|error| CliError::internal(format!("cannot start a process: {error}")))
    }

    /// Releases the lease and removes the directory: the program could not be started.
    pub(crate) fn undo(&self, client: &mut Client) {
        release(client, &self.lease);
        if let Some(directory) = &self.directory {
            directory::remove(directory);
        }
    }
}
