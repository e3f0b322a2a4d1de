//! `run`: a command on a leased account.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal};
use std::process::Command;

use clap::Args;

use crate::client::{Client, MANAGERS_WORDS};
use crate::pool::millis;
use crate::protocol::{Acquire, BindTo, LeaseInfo, LeaseRef};
use crate::provider::{Environment, environment};

use super::agent::{Purpose, purpose};
use super::context::Context;
use super::failure::Failure;
use super::lease::Wanted;
use super::output::clean;
use super::waiting;

/// As a shell says it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// `run`
#[derive(Debug, Args)]
#[command(override_usage = "lessor run [AGENT-OR-PROVIDER] --direct [OPTIONS] -- CMD [ARGS]...")]
pub(super) struct Run {
    /// Whose account: anthropic, openai, google, or one that the configuration names [default: the agent's own]
    #[arg(short, long, value_name = "PROVIDER", conflicts_with = "word")]
    provider: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Put the account's own token or key into the command's environment
    #[arg(long)]
    direct: bool,
    /// A provider or an agent (claude, codex, gemini), instead of -p
    #[arg(value_name = "AGENT-OR-PROVIDER")]
    word: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Leases, and becomes the command.
pub(super) fn run(options: Run, context: &Context) -> Result<u8, Failure> {
    let Some((program, arguments)) = options.command.split_first() else {
        return Err(Failure::usage("no command; it comes after `--`, as in: lessor run --direct -- claude"));
    };
    if !options.direct {
        let message = "this version hands out accounts directly only: it has no gateway yet";
        return Err(
            Failure::usage(message).hint("add --direct: the account's own token goes into the command's environment")
        );
    }
    let purpose = purpose(options.provider.as_deref(), options.word.as_deref(), program).map_err(Failure::usage)?;
    let mut client = context.connect()?;
    let lease = waiting::acquire(&mut client, request(options.wanted, &purpose), context)?;
    let release = |client: &mut Client, failure: Failure| {
        // if this fails, the lease ends with this process
        let _ended = client.release(LeaseRef { lease: lease.lease.clone().into_owned(), fence: Some(lease.fence) });
        failure
    };
    let Some(credential) = &lease.credential else {
        return Err(release(&mut client, Failure::new("internal", "the lease came without its credential")));
    };
    let variables = environment(&purpose.provider, credential.kind, purpose.agent.as_deref());
    let mut command = command_of(program);
    command.args(arguments);
    for name in &variables.secret {
        command.env(name, &*credential.secret.0);
    }
    command.envs(variables.fixed.iter().copied());
    for name in &variables.unset {
        command.env_remove(name);
    }
    if !is_service(std::process::id(), |name| std::env::var(name).ok()) {
        for name in MANAGERS_WORDS {
            command.env_remove(name);
        }
    }
    tell(&lease, &variables, context);
    become_command(command).map_err(|error| {
        let exit = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        let message = format!("{}: {error}", program.to_string_lossy());
        release(&mut client, Failure::new("cannot_run", message).exit(exit))
    })
}

fn request(wanted: Wanted, purpose: &Purpose) -> Acquire {
    Acquire {
        provider: purpose.provider.clone(),
        model: wanted.model,
        pool: wanted.pool,
        session: wanted.session,
        label: wanted.label,
        account: wanted.account,
        wait_ms: wanted.wait.map(millis),
        // this process becomes the command
        bind: BindTo::Pid(std::process::id()),
        credential: true,
        agent: purpose.agent.clone(),
        ..Acquire::default()
    }
}

/// Whether a service manager speaks to this very process, whose place the command takes; what it says to an ancestor of
/// ours is not for the command.
fn is_service(pid: u32, variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["SYSTEMD_EXEC_PID", "LISTEN_PID", "WATCHDOG_PID"];
    names.iter().any(|name| variable(name).is_some_and(|value| value.parse() == Ok(pid)))
}

/// Says on standard error which account it is, to a person, and what of the environment was cleared, to anybody.
fn tell(lease: &LeaseInfo<'_>, variables: &Environment, context: &Context) {
    let account = &lease.account;
    let name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id);
    if std::io::stderr().is_terminal() {
        context.output.note(&format!("lessor: {} on {}", clean(&lease.provider), clean(name)));
    }
    let cleared: Vec<&str> = variables.unset.iter().copied().filter(|name| std::env::var_os(name).is_some()).collect();
    if !cleared.is_empty() {
        context
            .output
            .note(&format!("lessor: not passed on, because it would speak against the lease: {}", cleared.join(", ")));
    }
}

/// The command takes this process's place, so that signals, job control, terminal and exit status are its own and the
/// lease lives exactly as long as it does; returns only when it cannot be started.
#[cfg(unix)]
fn become_command(mut command: Command) -> std::io::Result<u8> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs the command, waits for it and ends as it did: this system cannot replace a process. The lease is bound to this
/// one. Ctrl-C goes to both, and is the command's to heed.
#[cfg(windows)]
fn become_command(mut command: Command) -> std::io::Result<u8> {
    use tokio::signal::windows::{ctrl_break, ctrl_c};
    let _deaf = (ctrl_c()?, ctrl_break()?);
    let status = command.status()?;
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
