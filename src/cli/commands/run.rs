//! `run`: a command on a leased account.

use std::ffi::{OsStr, OsString};
use std::{io::IsTerminal, path::Path, process::Command};

use clap::Args;

use crate::cli::launch::agent::{is_agent, purpose, runs_scripts};
use crate::cli::launch::{LaunchMode, LaunchRequest, LeaseOptions, Messages, PreparedLaunch, is_printing, prepare};
use crate::cli::{context::Context, error::CliError, ui::clean};
use crate::{client::SERVICE_MANAGER_VARIABLES, daemon::find_process, protocol::ErrorKind};

/// The exit codes of shells.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

#[derive(Debug, Args)]
#[command(override_usage = "lessor run [AGENT-OR-PROVIDER] [OPTIONS] -- CMD [ARGS]...")]
pub(crate) struct RunArgs {
    /// The provider: anthropic, openai, google, or one from the configuration [default: that of the agent]
    #[arg(short, long, value_name = "PROVIDER", conflicts_with = "word")]
    provider: Option<String>,
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

/// Leases an account, and replaces this process by the command.
pub(super) fn execute(mut args: RunArgs, context: &Context) -> Result<u8, CliError> {
    let word = args.word.take();
    let (program, arguments) = split_command(args.command, word.as_deref())?;
    let purpose = purpose(args.provider.as_deref(), word.as_deref(), &program).map_err(CliError::usage)?;
    let this = find_process(std::process::id()).ok().flatten();
    let this = this.ok_or_else(|| CliError::internal("the system does not report this process"))?;
    let mut client = context.connect()?;
    let request = LaunchRequest {
        options: args.options,
        purpose: &purpose,
        mode: args.mode,
        holder: this.process,
        arguments: &arguments,
        is_shell: runs_scripts(&program),
    };
    let prepared = prepare(&mut client, request, context)?;
    if !args.quiet {
        note_account(&prepared, context);
    }
    let name = Path::new(&program).file_name().unwrap_or(&program);
    let switches = is_printing(purpose.agent.as_deref(), &arguments);
    let messages = Messages { program: (!args.quiet).then_some(name), switches };
    let cannot_run = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        CliError::new(ErrorKind::CannotRun, format!("{}: {error}", program.to_string_lossy())).exit(exit)
    };
    let started = prepared.start_supervisor(messages, context).and_then(|()| {
        let command = build(&program, &arguments, purpose.is_launcher, &prepared);
        become_command(command, || prepared.undo(&mut client)).map_err(cannot_run)
    });
    prepared.undo(&mut client);
    started
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

fn build(program: &OsStr, arguments: &[OsString], is_launcher: bool, prepared: &PreparedLaunch) -> Command {
    let mut command = command_of(program);
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

/// Prints the account, on a terminal, and always the variables that were unset.
fn note_account(prepared: &PreparedLaunch, context: &Context) {
    if std::io::stderr().is_terminal() {
        context.output.note(&format!("lessor: {} on {}", clean(&prepared.lease.provider), prepared.account()));
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

/// The command, found as a shell finds it: npm installs scripts (`claude.cmd`).
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
        assert_eq!((run.provider.as_deref(), run.options.model.as_deref()), (Some("openai"), Some("gpt-5")));
        assert_eq!(run.command, ["python", "x.py", "--", "y"]);
        assert!(parse("--direct -- claude").unwrap().word.is_none());
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
