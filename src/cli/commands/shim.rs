//! `shim`: what the scripts with the names of agents call (internal).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Args;

use super::run::{LeasedCommand, not_found, start, start_without_lease};
use crate::cli::launch::agent::{is_neutral, purpose_of_word, uses_no_account};
use crate::cli::launch::outer_run::OuterRun;
use crate::cli::launch::programs::programs;
use crate::cli::launch::shims::{self, PROCESS_WRAPPER, users_process_wrapper};
use crate::cli::launch::{LaunchMode, LeaseOptions};
use crate::cli::{context::Context, error::CliError, error::FAILED, ui::clean};
use crate::protocol::ErrorKind;

/// Claude Code keeps a process ready for the next session in the background, and gives it the variables of the program
/// that asks for the session: the key of a lease that ends with that program. Without a spare process it starts a session
/// through the launcher.
const SPARE: &str = "--bg-spare";

#[derive(Debug, Args)]
pub(crate) struct ShimArgs {
    /// The agent
    agent: String,
    /// The providers, for an agent that works with any
    #[arg(long, value_delimiter = ',')]
    provider: Vec<String>,
    /// Start a process of the agent, which gives its own command
    #[arg(long)]
    process: bool,
    /// The agent's arguments, or with --process the whole command
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub(super) fn execute(args: ShimArgs, context: &Context) -> Result<u8, CliError> {
    let outer = OuterRun::of_this_process();
    if args.process {
        return start_process(args, outer.as_ref(), context);
    }
    let agent = args.agent;
    if uses_no_account(&agent, &args.arguments) {
        return start_itself(&agent, &args.arguments, &process_wrapper(&agent, context));
    }
    let purpose = purpose_of_word(&args.provider, Some(&agent)).map_err(CliError::usage)?;
    let run = LeasedCommand {
        purpose,
        options: LeaseOptions::default(),
        mode: LaunchMode::default(),
        quiet: false,
        program: agent.clone().into(),
        head: Vec::new(),
        arguments: args.arguments.clone(),
    };
    match start(run, context) {
        // in daily use the agent starts even if lessor does not work; inside a run it has no account without lessor
        Err(error) if outer.is_none() && is_of_lessor(&error) => {
            let why = clean(error.message().lines().next().unwrap_or_default());
            let (why, remedy) = match error.kind() {
                // the error names an option of `run`
                ErrorKind::Usage if is_neutral(&agent) => (
                    format!("{agent} works with any provider"),
                    format!("lessor alias install {agent} --provider PROVIDER"),
                ),
                ErrorKind::Usage => (why, clean(error.info.data.hint.as_deref().unwrap_or("lessor doctor"))),
                _ => (why, "lessor doctor".to_owned()),
            };
            context.output.note(&format!("lessor: {why}; {agent} runs without lessor: {remedy}"));
            start_itself(&agent, &args.arguments, &[])
        }
        done => done,
    }
}

/// Whether lessor cannot do its work, or has no work: nothing of this is about an account that could serve. An error of
/// usage is one of the script or of the configuration: what the user has typed is for the agent.
fn is_of_lessor(error: &CliError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NoDaemon
            | ErrorKind::ConfigInvalid
            | ErrorKind::UnsupportedVersion
            | ErrorKind::LostConnection
            | ErrorKind::Internal
            | ErrorKind::NoAccount
            | ErrorKind::Usage
    )
}

fn start_itself(agent: &str, arguments: &[OsString], set: &[(&str, String)]) -> Result<u8, CliError> {
    let file = programs(OsStr::new(agent)).next().ok_or_else(|| not_found(OsStr::new(agent)))?;
    start_without_lease(&[file.into()], arguments, set)
}

/// Claude Code's service has no lease, but the sessions that it starts get some. A launcher of the user's is left alone:
/// nothing would tell lessor's which one that was.
fn process_wrapper(agent: &str, context: &Context) -> Vec<(&'static str, String)> {
    let is_free = agent == "claude" && cfg!(unix) && std::env::var_os(PROCESS_WRAPPER).is_none();
    let launcher = context.places().ok().filter(|_| is_free).and_then(|places| shims::process_wrapper(&places).ok());
    launcher.map(|launcher| (PROCESS_WRAPPER, shims::wrapper_value(&launcher))).into_iter().collect()
}

/// A process that Claude Code starts beside itself: a session in the background, its service, or itself once more. Those
/// that send requests get a lease that lasts as long as they do.
fn start_process(args: ShimArgs, outer: Option<&OuterRun>, context: &Context) -> Result<u8, CliError> {
    let mut words = args.arguments.into_iter();
    let program = words.next().ok_or_else(|| CliError::usage("no command is given"))?;
    let mut head: Vec<OsString> = users_process_wrapper(outer).into_iter().map(OsString::from).collect();
    head.push(program.clone());
    let mut arguments: Vec<OsString> = words.collect();
    // node runs a file of Claude Code's
    if arguments.first().is_some_and(|first| Path::new(first).is_absolute()) {
        head.push(arguments.remove(0));
    }
    if arguments.iter().any(|argument| argument == SPARE) {
        context
            .output
            .note("lessor: a session in the background leases when it starts; no process is kept ready for one");
        return Ok(FAILED);
    }
    if uses_no_account(&args.agent, &arguments) {
        return start_without_lease(&head, &arguments, &[]);
    }
    let purpose = purpose_of_word(&[], Some(&args.agent)).map_err(CliError::usage)?;
    let run = LeasedCommand {
        purpose,
        options: LeaseOptions::default(),
        mode: LaunchMode::default(),
        quiet: true,
        program,
        head,
        arguments,
    };
    start(run, context)
}
