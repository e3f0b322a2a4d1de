//! The grammar of one command alone. Scripts run some commands so often, and so short are these, that building the
//! grammar of all commands would take longer than the command itself.

use std::ffi::OsString;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use super::{CliCommand, GlobalArgs, daemon, env, explain, forecast, lease, run, shim, status, statusline};
use crate::cli::launch::SuperviseArgs;

/// Lists the commands, each with the type of its arguments if it has any.
macro_rules! commands {
    ($($name:literal => $command:ident $(($args:ty))?,)*) => {
        /// The grammar of a command, if it is one of these.
        fn grammar(name: &str) -> Option<Command> {
            match name {
                $($name => Some(Command::new($name)$(.augmented::<$args>())?),)*
                _ => None,
            }
        }

        fn command_of(name: &str, matches: &ArgMatches) -> Option<CliCommand> {
            match name {
                $($name => Some(CliCommand::$command$((<$args>::from_arg_matches(matches).ok()?))?),)*
                _ => None,
            }
        }
    };
}

commands! {
    "acquire" => Acquire(lease::AcquireArgs),
    "daemon" => Daemon(daemon::DaemonArgs),
    "env" => Env(env::EnvArgs),
    "explain" => Explain(explain::ExplainArgs),
    "forecast" => Forecast(forecast::ForecastArgs),
    "leases" => Leases,
    "ping" => Ping,
    "release" => Release(lease::LeaseArg),
    "renew" => Renew(lease::LeaseArg),
    "report" => Report(lease::ReportArgs),
    "run" => Run(run::RunArgs),
    "shim" => Shim(shim::ShimArgs),
    "status" => Status(status::StatusArgs),
    "statusline" => Statusline(statusline::StatuslineArgs),
    "stop" => Stop(daemon::stop::StopArgs),
    "supervise" => Supervise(SuperviseArgs),
    "token" => Token(lease::TokenArgs),
}

trait Augmented {
    /// With these arguments.
    fn augmented<T: clap::Args>(self) -> Self;
}

impl Augmented for Command {
    fn augmented<T: clap::Args>(self) -> Self {
        T::augment_args(self)
    }
}

/// Parses a command line that begins with one of these commands and has no fault. Everything else, such as a request for
/// help, is for the grammar of all commands.
pub(super) fn parse(words: &[OsString]) -> Option<(GlobalArgs, CliCommand)> {
    let name = words.get(1)?.to_str()?;
    let command = grammar(name)?;
    let grammar = GlobalArgs::augment_args(Command::new("lessor")).subcommand(command);
    let matches = grammar.try_get_matches_from(words).ok()?;
    let global = GlobalArgs::from_arg_matches(&matches).ok()?;
    let (_, of_command) = matches.subcommand()?;
    Some((global, command_of(name, of_command)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::commands::Cli;

    fn words(line: &str) -> Vec<OsString> {
        ["lessor"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect()
    }

    #[test]
    fn a_command_is_read_as_by_the_grammar_of_all_commands() {
        for line in [
            "ping",
            "ping --json --no-start",
            "token anthropic",
            "token anthropic -m claude --json",
            "acquire anthropic --pid 1 --json --socket /s",
            "acquire anthropic --priority -5 --exclude a --exclude b --wait 5s",
            "release ls_1",
            "renew ls_1 --config /c",
            "report ls_1 --ok",
            "report ls_1 --status 429 --header retry-after:5",
            "daemon",
            "daemon --detached",
            "daemon --launch --launch-ms 5",
            "stop --yes",
            "status",
            "status --oneline --format {line}",
            "statusline --no-color -- line.sh -x",
            "env claude --shell fish",
            "run claude --resume",
            "run -p openai -m gpt-5 -- python agent.py --json",
            "shim claude --provider a,b -- -p hi",
            "supervise --pid 1 --start 1 --watch",
            "leases --json",
            "forecast claude --count 5",
            "explain work --model m",
        ] {
            let Ok(all) = Cli::try_parse_from(words(line)) else {
                assert!(parse(&words(line)).is_none(), "{line}");
                continue;
            };
            let (global, command) = parse(&words(line)).unwrap_or_else(|| panic!("{line} is not read"));
            assert_eq!(
                format!("{global:?} {command:?}"),
                format!("{:?} {:?}", all.global, all.command.unwrap()),
                "{line}"
            );
        }
    }

    #[test]
    fn faults_help_and_other_commands_are_for_the_grammar_of_all_commands() {
        for line in
            ["", "top", "pin", "ping x", "ping --help", "token", "token -h", "--json ping", "report ls_1", "--version"]
        {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }
}
