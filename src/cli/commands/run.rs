//! `run`: a command on a leased account.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{io::IsTerminal, process::Command};

use clap::Args;

use crate::cli::launch::agent::{LeasePurpose, is_agent, purpose, runs_scripts};
use crate::cli::launch::outer_run::OuterRun;
use crate::cli::launch::programs::find_program;
use crate::cli::launch::shims::users_process_wrapper;
use crate::cli::launch::{
    CommandRole, LaunchMode, LaunchRequest, LaunchRole, LeaseOptions, Messages, PreparedLaunch, is_printing, prepare,
    providers_with_accounts, without_settings_of_runs,
};
use crate::cli::{context::Context, error::CliError, ui::clean};
use crate::{client::SERVICE_MANAGER_VARIABLES, daemon::find_process, pool::Process, protocol::ErrorKind};

/// The exit codes of shells.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

#[derive(Debug, Args)]
#[command(override_usage = "lessor run [AGENT-OR-PROVIDER] [OPTIONS] -- CMD [ARGS]...")]
pub(crate) struct RunArgs {
    /// The provider: anthropic, openai, google, or one from the configuration; several with commas [default: that of
    /// the agent, or the only one with accounts]
    #[arg(short, long, value_name = "PROVIDER", value_delimiter = ',', conflicts_with = "word")]
    provider: Vec<String>,
    #[command(flatten)]
    options: LeaseOptions,
    #[command(flatten)]
    mode: LaunchMode,
    /// Print nothing beside the command: not the account, nor its changes
    #[arg(short, long)]
    quiet: bool,
    /// An agent (claude, codex, gemini) or provider, instead of -p
    #[arg(value_name = "AGENT-OR-PROVIDER")]
    word: Option<String>,
    /// The command and its arguments, after `--` [default: the agent]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A command to be started on leased accounts.
#[derive(Debug)]
pub(super) struct LeasedCommand {
    pub(super) purpose: LeasePurpose,
    pub(super) options: LeaseOptions,
    pub(super) mode: LaunchMode,
    pub(super) quiet: bool,
    /// The program, as it was named.
    pub(super) program: OsString,
    /// Words of the command line before those that lessor adds; without any, the program's file.
    pub(super) head: Vec<OsString>,
    pub(super) arguments: Vec<OsString>,
}

/// Leases an account, and replaces this process by the command.
pub(super) fn execute(mut args: RunArgs, context: &Context) -> Result<u8, CliError> {
    let word = args.word.take();
    let (program, arguments) = split_command(args.command, word.as_deref())?;
    let purpose = purpose(&args.provider, word.as_deref(), &program).map_err(CliError::usage)?;
    let RunArgs { options, mode, quiet, .. } = args;
    start(LeasedCommand { purpose, options, mode, quiet, program, head: Vec::new(), arguments }, context)
}

/// Leases accounts, and replaces this process by the command.
pub(super) fn start(mut run: LeasedCommand, context: &Context) -> Result<u8, CliError> {
    let this = find_process(std::process::id()).ok().flatten();
    let this = this.ok_or_else(|| CliError::internal("the system does not report this process"))?.process;
    let outer = OuterRun::of_this_process();
    let outer = outer.as_ref();
    let mut client = context.connect()?;
    if run.purpose.providers.is_empty()
        && let Some(outer) = outer
    {
        run.purpose.providers.clone_from(&outer.providers);
    }
    if run.purpose.providers.is_empty() {
        let known = providers_with_accounts(&mut client, context)?;
        run.purpose = run.purpose.or_only_of(&known).map_err(CliError::usage)?;
    }
    let file = find_file(&run, this, outer)?;
    if run.head.is_empty() {
        run.head.push(file.clone().into());
    }
    let LeasedCommand { purpose, mut options, mut mode, mut quiet, program, head, mut arguments } = run;
    if let Some(outer) = outer {
        outer.complete(&mut options, &purpose.providers);
        mode = mode.or_of(outer);
        quiet |= outer.quiet;
        outer.take_back(&mut arguments);
        without_settings_of_runs(&mut arguments, &context.places()?);
    }
    let process_wrapper = users_process_wrapper(outer);
    let role = CommandRole {
        outer,
        is_agent: purpose.is_agent(),
        takes_arguments: !runs_scripts(&program),
        program: &file,
        quiet,
        process_wrapper: &process_wrapper,
    };
    let request = LaunchRequest {
        options,
        purpose: &purpose,
        mode,
        holder: this,
        arguments: &arguments,
        role: LaunchRole::Command(role),
    };
    let prepared = prepare(&mut client, request, context)?;
    let name = Path::new(&program).file_name().unwrap_or(&program);
    if !quiet {
        note_accounts(&prepared, name, context);
    }
    let switches = is_printing(purpose.agent.as_deref(), &arguments);
    let messages = Messages { program: (!quiet).then_some(name), switches };
    let started = prepared.start_supervisor(messages, context).and_then(|()| {
        let command = build(&head, &arguments, purpose.is_launcher, &prepared, context);
        become_command(command, || prepared.undo(&mut client)).map_err(|error| cannot_run(&program, &error))
    });
    prepared.undo(&mut client);
    started
}

/// The program's file. A program of the user's that starts lessor in turn is not found twice by the same process.
fn find_file(run: &LeasedCommand, this: Process, outer: Option<&OuterRun>) -> Result<PathBuf, CliError> {
    let name = run.program.to_string_lossy();
    if outer.is_some_and(OuterRun::is_too_deep) {
        let message = format!("{name} starts lessor, which starts {name}, and so on");
        return Err(CliError::usage(message).hint("in a script with the name of an agent, give the path of the agent"));
    }
    let before = outer.filter(|outer| run.purpose.is_agent() && outer.process() == this);
    let skipped = before.map_or(&[][..], |outer| &outer.programs);
    find_program(&run.program, skipped).ok_or_else(|| not_found(&run.program))
}

/// The program is not there: what a shell says, and its exit code.
pub(super) fn not_found(program: &OsStr) -> CliError {
    let message = format!("{}: not found", program.to_string_lossy());
    CliError::new(ErrorKind::CannotRun, message).exit(NOT_FOUND)
}

fn cannot_run(program: &OsStr, error: &std::io::Error) -> CliError {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    CliError::new(ErrorKind::CannotRun, format!("{}: {error}", program.to_string_lossy())).exit(exit)
}

/// Replaces this process by a program, without a lease.
pub(super) fn start_without_lease(
    head: &[OsString],
    arguments: &[OsString],
    set: &[(&str, String)],
) -> Result<u8, CliError> {
    let (program, before) = head.split_first().ok_or_else(|| CliError::usage("no command is given"))?;
    let mut command = command_of(program);
    command.args(before).args(arguments).envs(set.iter().map(|(name, value)| (*name, value)));
    become_command(command, || {}).map_err(|error| cannot_run(program, &error))
}

/// The program and its arguments: what follows `--`, or the agent that the first word names.
fn split_command(command: Vec<OsString>, word: Option<&str>) -> Result<(OsString, Vec<OsString>), CliError> {
    let agent = word.filter(|word| is_agent(word));
    let mut words = command.into_iter().peekable();
    let only_options = words.peek().is_none_or(|first| first.to_string_lossy().starts_with('-'));
    let program = match agent.filter(|_| only_options) {
        Some(agent) => Some(agent.into()),
        None => words.next(),
    };
    let program =
        program.ok_or_else(|| CliError::usage("no command is given; write it after `--`: lessor run -- claude"))?;
    Ok((program, words.collect()))
}

fn build(
    head: &[OsString],
    arguments: &[OsString],
    is_launcher: bool,
    prepared: &PreparedLaunch,
    context: &Context,
) -> Command {
    let mut command = command_of(head.first().map_or(OsStr::new(""), |program| program));
    command.args(head.iter().skip(1));
    let environment = &prepared.environment;
    // before the arguments of a launcher, ours would be the launcher's
    if is_launcher {
        command.args(arguments).args(&environment.arguments);
    } else {
        command.args(&environment.arguments).args(arguments);
    }
    for name in &environment.cleared {
        command.env_remove(name);
    }
    command.envs(environment.set.iter().map(|(name, value)| (name, value)));
    // the runs that it starts use the same daemon
    command.envs(context.variables());
    if !is_service(std::process::id(), |name| std::env::var(name).ok()) {
        for name in SERVICE_MANAGER_VARIABLES {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a service manager started this very process, and so its variables are for the command; a manager's variables
/// that were inherited from an ancestor are not.
fn is_service(pid: u32, variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["SYSTEMD_EXEC_PID", "LISTEN_PID", "WATCHDOG_PID"];
    names.iter().any(|name| variable(name).is_some_and(|value| value.parse() == Ok(pid)))
}

/// Prints the accounts, on a terminal, and always the variables that were unset, and what the command itself has not got.
fn note_accounts(prepared: &PreparedLaunch, program: &OsStr, context: &Context) {
    if std::io::stderr().is_terminal() {
        let accounts = prepared.accounts().into_iter().map(|(provider, account)| format!("{provider} on {account}"));
        let accounts: Vec<String> = accounts.collect();
        if !accounts.is_empty() {
            context.output.note(&format!("lessor: {}", accounts.join(", ")));
        }
    }
    if !prepared.withheld.is_empty() {
        let program = clean(&program.to_string_lossy());
        let providers = clean(&prepared.withheld.join(", "));
        context.output.note(&format!(
            "lessor: {program} itself gets no account of {providers}: they are for agents; each agent it starts gets one"
        ));
    }
    prepared.note_cleared(context);
}

/// The command replaces this process: it gets signals, job control and the terminal itself, and the lease lives exactly
/// as long as the command. Returns only if the command cannot be started.
#[cfg(unix)]
fn become_command(mut command: Command, _ended: impl FnOnce()) -> std::io::Result<u8> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs the command, waits for it and exits with its code, because Windows cannot replace a process. The lease is bound
/// to this process. Ctrl-C goes to both, and only the command handles it.
#[cfg(windows)]
fn become_command(mut command: Command, ended: impl FnOnce()) -> std::io::Result<u8> {
    use tokio::signal::windows::{ctrl_break, ctrl_c};
    let _ignored = (ctrl_c()?, ctrl_break()?);
    let status = command.status()?;
    ended();
    // an exit code of Windows has 32 bits
    std::process::exit(status.code().unwrap_or(1))
}

/// On Windows, programs of npm are scripts (`claude.cmd`), which are found by their stem.
#[cfg(windows)]
fn command_of(program: &OsStr) -> Command {
    Command::new(crate::client::find_program(program).unwrap_or_else(|| program.into()))
}

#[cfg(unix)]
fn command_of(program: &OsStr) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::parse_args;

    fn parse(line: &'static str) -> Result<RunArgs, clap::Error> {
        parse_args(line.split_whitespace())
    }

    #[test]
    fn a_word_options_and_a_command_are_parsed() {
        let run = parse("claude --direct -- claude -p hi --model x").unwrap();
        assert_eq!(run.word.as_deref(), Some("claude"));
        assert_eq!(run.command, ["claude", "-p", "hi", "--model", "x"]);
        let run = parse("-p openai -m gpt-5 --wait 5m --session s --direct -- python x.py -- y").unwrap();
        assert_eq!(
            (run.provider.as_slice(), run.options.model.as_deref()),
            (&["openai".to_owned()][..], Some("gpt-5"))
        );
        assert_eq!(run.command, ["python", "x.py", "--", "y"]);
        assert!(parse("--direct -- claude").unwrap().word.is_none());
        assert_eq!(parse("-p a,b -p c -- x").unwrap().provider, ["a", "b", "c"]);
        assert!(parse("-p openai claude -- claude").is_err(), "two providers");
        assert!(parse("claude x.py").is_err(), "a command without `--`");
        assert!(parse("claude --direct --profile -- claude").is_err(), "two modes");
    }

    #[test]
    fn the_agent_is_the_default_command() {
        for (line, expected) in [
            ("claude -- claude -p hi", Some("claude -p hi")),
            ("claude -- -p hi", Some("claude -p hi")),
            ("claude", Some("claude")),
            ("claude -- npx x", Some("npx x")),
            ("-- codex exec hi", Some("codex exec hi")),
            ("anthropic -- -p", Some("-p")),
            ("anthropic", None),
            ("", None),
        ] {
            let run = parse(line).unwrap();
            let split = split_command(run.command, run.word.as_deref()).ok().map(|(program, arguments)| {
                let all: Vec<_> = [program].into_iter().chain(arguments).collect();
                all.join(OsStr::new(" ")).into_string().unwrap()
            });
            assert_eq!(split.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_service_is_distinguished_from_the_child_of_one() {
        let for_us = |set: &str, value: &str| is_service(77, |name| (name == set).then(|| value.to_owned()));
        for name in ["SYSTEMD_EXEC_PID", "LISTEN_PID", "WATCHDOG_PID"] {
            assert!(for_us(name, "77"));
            assert!(!for_us(name, "7") && !for_us(name, "") && !for_us(name, "777"));
        }
        assert!(!for_us("NOTIFY_SOCKET", "77"));
    }
}
