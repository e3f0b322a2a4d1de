//! What a program gets, laid out in this environment: variables, arguments, and files in a directory of its own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::clean;
use crate::client::Client;
use crate::pool::Process;
use crate::protocol::LeaseInfo;
use crate::provider::{HandOut, Outfit};

use super::directory::{self, Place};
use super::{keep, release, settings};

/// Where an agent is found that a script starts.
const PROGRAMS: &str = "bin";

/// A lease, and everything a program needs to work with it.
pub(in crate::cli) struct Ready {
    pub(in crate::cli) lease: LeaseInfo<'static>,
    pub(in crate::cli) filled: Filled,
    pub(super) hand_out: HandOut,
    pub(super) holder: Process,
    pub(super) directory: Option<PathBuf>,
}

/// What is set, cleared and given.
pub(in crate::cli) struct Filled {
    /// Variables to set.
    pub(in crate::cli) set: Vec<(String, OsString)>,
    /// Variables that would speak against them, and that are there now.
    pub(in crate::cli) cleared: Vec<&'static str>,
    /// Arguments, beside the program's own.
    pub(in crate::cli) arguments: Vec<OsString>,
    /// Names in the user's settings that do not count this time.
    overruled: Vec<String>,
}

/// Lays it out. An agent that a shell will start gets its arguments from a program of its name that is found first.
pub(super) fn fill(
    outfit: &Outfit,
    place: &mut Place,
    given: &[OsString],
    agent_of_shell: Option<&str>,
) -> Result<Filled, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let owned = |(name, value): &(String, String)| (name.clone(), OsString::from(value));
    let mut set: Vec<(String, OsString)> = outfit.set.iter().map(owned).collect();
    set.extend(outfit.unless_set.iter().filter(|(name, _)| std::env::var_os(name).is_none()).map(owned));
    for (path, text) in &outfit.files {
        place.write(path, text)?;
    }
    for addition in &outfit.additions {
        let (name, text, path) = settings::added(addition, &variable)?;
        let value = match path {
            Some(path) => place.write(path, &text)?.into(),
            None => text.into(),
        };
        set.push((name.to_owned(), value));
    }
    let mut arguments: Vec<OsString> = outfit.arguments.iter().map(OsString::from).collect();
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let overruled = settings::overruled(outfit, &variable, home.as_deref());
    if let Some(last) = outfit.overruled.filter(|_| !overruled.is_empty()) {
        if given.iter().any(|argument| argument.to_string_lossy().split('=').next() == Some(last.argument)) {
            let message = format!("{} in your settings would speak against the lease", overruled.join(", "));
            return Err(Failure::usage(message).hint(format!("take it out, or leave {} out", last.argument)));
        }
        let path = place.write(settings::LAST, &settings::last(outfit, &overruled))?;
        arguments.extend([last.argument.into(), path.into()]);
    }
    if let Some(agent) = agent_of_shell.filter(|_| cfg!(unix) && !arguments.is_empty()) {
        let programs = place.path().join(PROGRAMS);
        place.program(&format!("{PROGRAMS}/{agent}"), &stand_in(agent, &programs, &arguments))?;
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&others)));
        set.push(("PATH".to_owned(), path.unwrap_or(others)));
        arguments.clear();
    }
    let there = |name: &&str| std::env::var_os(name).is_some();
    let cleared = outfit.cleared.iter().copied().filter(there).collect();
    Ok(Filled { set, cleared, arguments, overruled })
}

/// A program that runs the agent with the arguments it needs.
fn stand_in(agent: &str, programs: &Path, arguments: &[OsString]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
    let own = quoted(&programs.to_string_lossy());
    format!("#!/bin/sh\nPATH=${{PATH#{own}:}}\nexport PATH\nexec {agent} {} \"$@\"\n", arguments.join(" "))
}

/// A word of a Bourne shell.
pub(in crate::cli) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Ready {
    /// The account, by the name people know it by.
    pub(in crate::cli) fn account(&self) -> String {
        let account = &self.lease.account;
        clean(account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id))
    }

    /// Says, once, what of the user's own does not count this time.
    pub(in crate::cli) fn tell_cleared(&self, context: &Context) {
        let settings = self.filled.overruled.iter().map(|name| format!("{name} (in settings)"));
        let all: Vec<String> = self.filled.cleared.iter().map(|name| (*name).to_owned()).chain(settings).collect();
        if !all.is_empty() {
            let all = clean(&all.join(", "));
            context.output.note(&format!("lessor: not passed on, because it would speak against the lease: {all}"));
        }
    }

    /// Leaves somebody behind, if need be, who looks after the daemon and cleans up when the holder has ended.
    pub(in crate::cli) fn leave_a_keeper(&self, program: Option<&OsStr>, context: &Context) -> Result<(), Failure> {
        if self.directory.is_none() && self.hand_out != HandOut::Gateway {
            return Ok(());
        }
        let directory = self.directory.as_deref();
        let watches = self.hand_out == HandOut::Gateway;
        keep::leave(self.holder, directory, watches, program, context)
            .map_err(|error| Failure::new("internal", format!("no process can be started: {error}")))
    }

    /// Takes back everything: the program could not be started.
    pub(in crate::cli) fn take_back(&self, client: &mut Client) {
        release(client, &self.lease);
        if let Some(directory) = &self.directory {
            directory::remove(directory);
        }
    }
}
