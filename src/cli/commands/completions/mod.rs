//! `completions`: a script for the shell that asks this program what can follow on a line, so that the names of accounts
//! and leases are those of now.
//!
//! The script sets [`VARIABLE`] to the name of the shell and passes the words of the line. No daemon is started for it;
//! without one, or if it does not answer soon, names that only it knows are left out.

mod shells;
mod sources;

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::cli::{context::Context, error::CliError};
use shells::{Typed, answer, registration};
use sources::attach;

/// Set by the scripts: the shell that asks.
const VARIABLE: &str = "LESSOR_COMPLETE";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// `completions SHELL`
pub(super) fn execute(args: &CompletionsArgs, context: &Context) -> Result<(), CliError> {
    let script = registration(args.shell).map_err(|error| CliError::of_output(&error))?;
    context.output.text(&script)
}

/// Answers a shell that completes a line; `false` if this process was not started for that.
pub(super) fn answer_shell(grammar: impl FnOnce() -> clap::Command) -> bool {
    let Some(shell) = std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty()) else { return false };
    // an answer that cannot be given is no answer: the user is typing
    let _nothing = print_candidates(&shell, grammar());
    true
}

fn print_candidates(shell: &OsString, grammar: clap::Command) -> Option<()> {
    let shell: Shell = shell.to_str()?.parse().ok()?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).skip_while(|word| word != "--").skip(1).collect();
    let typed = Typed::new(shell, arguments)?;
    let mut grammar = attach(grammar, &typed.words);
    let words = typed.words.iter().map(OsString::from).collect();
    let directory = std::env::current_dir().ok();
    let mut found =
        clap_complete::engine::complete(&mut grammar, words, typed.words.len() - 1, directory.as_deref()).ok()?;
    if !typed.current().starts_with('-') && found.iter().any(|one| !is_option(one)) {
        // the names that are meant, without the dozen options of every command
        found.retain(|one| !is_option(one));
    }
    std::io::stdout().write_all(answer(shell, &typed, &found).as_bytes()).ok()
}

fn is_option(candidate: &clap_complete::CompletionCandidate) -> bool {
    candidate.get_value().to_string_lossy().starts_with('-')
}
