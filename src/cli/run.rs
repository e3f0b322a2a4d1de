//! `run`: a command on a leased account.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal};
use std::process::Command;

use clap::Args;

use crate::client::SERVICE_MANAGER_VARIABLES;
use crate::daemon::find_process;

use super::agent::{is_agent, purpose, runs_scripts};
use super::context::Context;
use super::failure::Failure;
use super::hand_out::{Order, Ready, Way, make_ready};
use super::lease::Wanted;
use super::output::clean;

/// As a shell says it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// `run`
#[derive(Debug, Args)]
#[command(override_usage = "lessor run [AGENT-OR-PROVIDER] [OPTIONS] -- CMD [ARGS]...")]
pub(super) struct Run {
    /// Whose account: anthropic, openai, google, or one that the configuration names [default: the agent's own]
    #[arg(short, long, value_name = "PROVIDER", conflicts_with = "word")]
    provider: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    way: Way,
    /// A provider or an agent (claude, codex, gemini), instead of -p
    #[arg(value_name = "AGENT-OR-PROVIDER")]
    word: Option<String>,
    /// The command and its arguments, after `--`; an agent that was named need not be named again
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Leases, and becomes the command.
pub(super) fn run(mut options: Run, context: &Context) -> Result<u8, Failure> {
    let word = options.word.take();
    let (program, arguments) = command(options.command, word.as_deref())?;
    let purpose = purpose(options.provider.as_deref(), word.as_deref(), &program).map_err(Failure::usage)?;
    // this process becomes the command
    let this = find_process(std::process::id()).ok().flatten();
    let this = this.ok_or_else(|| Failure::new("internal", "the system does not tell who this process is"))?;
    let mut client = context.connect()?;
    let order = Order {
        wanted: options.wanted,
        purpose: &purpose,
        way: options.way,
        holder: this.process,
        arguments: &arguments,
        is_shell: runs_scripts(&program),
    };
    let ready = make_ready(&mut client, order, context)?;
    tell(&ready, context);
    let name = std::path::Path::new(&program).file_name().unwrap_or(&program);
    let started = ready.leave_a_keeper(Some(name), context).and_then(|()| {
        become_command(made(&program, &arguments, purpose.within, &ready), || ready.take_back(&mut client)).map_err(
            |error| {
                let exit = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
                Failure::new("cannot_run", format!("{}: {error}", program.to_string_lossy())).exit(exit)
            },
        )
    });
    ready.take_back(&mut client);
    started
}

/// The program and its arguments: what comes after `--`, or the agent that was named.
fn command(command: Vec<OsString>, word: Option<&str>) -> Result<(OsString, Vec<OsString>), Failure> {
    let agent = word.filter(|word| is_agent(word));
    let mut words = command.into_iter().peekable();
    let only_options = words.peek().is_none_or(|first| first.to_string_lossy().starts_with('-'));
    let program = match agent.filter(|_| only_options) {
        Some(agent) => Some(agent.into()),
        None => words.next(),
    };
    let program =
        program.ok_or_else(|| Failure::usage("no command; it comes after `--`, as in: lessor run -- claude"))?;
    Ok((program, words.collect()))
}

fn made(program: &OsStr, arguments: &[OsString], within: bool, ready: &Ready) -> Command {
    let mut command = command_of(program);
    // before a launcher's arguments ours would be the launcher's
    if within {
        command.args(arguments).args(&ready.filled.arguments);
    } else {
        command.args(&ready.filled.arguments).args(arguments);
    }
    for name in &ready.filled.cleared {
        command.env_remove(name);
    }
    command.envs(ready.filled.set.iter().map(|(name, value)| (name, value)));
    if !is_service(std::process::id(), |name| std::env::var(name).ok()) {
        for name in SERVICE_MANAGER_VARIABLES {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a service manager speaks to this very process, whose place the command takes; what it says to an ancestor of
/// ours is not for the command.
fn is_service(pid: u32, variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["SYSTEMD_EXEC_PID", "LISTEN_PID", "WATCHDOG_PID"];
    names.iter().any(|name| variable(name).is_some_and(|value| value.parse() == Ok(pid)))
}

/// Says on standard error which account it is, to a person, and what of the environment was cleared, to anybody.
fn tell(ready: &Ready, context: &Context) {
    if std::io::stderr().is_terminal() {
        context.output.note(&format!("lessor: {} on {}", clean(&ready.lease.provider), ready.account()));
    }
    ready.tell_cleared(context);
}

/// The command takes this process's place, so that signals, job control, terminal and exit status are its own and the
/// lease lives exactly as long as it does; returns only when it cannot be started.
#[cfg(unix)]
fn become_command(mut command: Command, _ended: impl FnOnce()) -> std::io::Result<u8> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs the command, waits for it and ends as it did: this system cannot replace a process. The lease is bound to this
/// one. Ctrl-C goes to both, and is the command's to heed.
#[cfg(windows)]
fn become_command(mut command: Command, ended: impl FnOnce()) -> std::io::Result<u8> {
    use tokio::signal::windows::{ctrl_break, ctrl_c};
    let _deaf = (ctrl_c()?, ctrl_break()?);
    let status = command.status()?;
    ended();
    // all 32 bits of it
    std::process::exit(status.code().unwrap_or(1))
}

/// The command, found as a shell finds it: what npm installs are scripts (`claude.cmd`).
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
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn parse(line: &str) -> Result<Run, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.run)
    }

    #[test]
    fn word_options_and_command() {
        let run = parse("x claude --direct -- claude -p hi --model x").unwrap();
        assert_eq!(run.word.as_deref(), Some("claude"));
        assert_eq!(run.command, ["claude", "-p", "hi", "--model", "x"]);
        let run = parse("x -p openai -m gpt-5 --wait 5m --session s --direct -- python x.py -- y").unwrap();
        assert_eq!((run.provider.as_deref(), run.wanted.model.as_deref()), (Some("openai"), Some("gpt-5")));
        assert_eq!(run.command, ["python", "x.py", "--", "y"]);
        assert!(parse("x --direct -- claude").unwrap().word.is_none());
        assert!(parse("x -p openai claude -- claude").is_err(), "two providers");
        assert!(parse("x claude x.py").is_err(), "a command without `--`");
        assert!(parse("x claude --direct --profile -- claude").is_err(), "two ways");
    }

    #[test]
    fn an_agent_that_was_named_need_not_be_named_again() {
        for (line, expected) in [
            ("x claude -- claude -p hi", Some("claude -p hi")),
            ("x claude -- -p hi", Some("claude -p hi")),
            ("x claude", Some("claude")),
            ("x claude -- npx x", Some("npx x")),
            ("x -- codex exec hi", Some("codex exec hi")),
            ("x anthropic -- -p", Some("-p")),
            ("x anthropic", None),
            ("x", None),
        ] {
            let run = parse(line).unwrap();
            let made = command(run.command, run.word.as_deref()).ok().map(|(program, arguments)| {
                let all: Vec<_> = [program].into_iter().chain(arguments).collect();
                all.join(OsStr::new(" ")).into_string().unwrap()
            });
            assert_eq!(made.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_service_is_told_from_the_child_of_one() {
        let told = |set: &str, value: &str| is_service(77, |name| (name == set).then(|| value.to_owned()));
        for name in ["SYSTEMD_EXEC_PID", "LISTEN_PID", "WATCHDOG_PID"] {
            assert!(told(name, "77"));
            assert!(!told(name, "7") && !told(name, "") && !told(name, "777"));
        }
        assert!(!told("NOTIFY_SOCKET", "77"));
    }
}
