//! The grammar of one command alone. Scripts run some commands so often, and so short are these, that building the
//! grammar of all commands would take longer than the command itself.

use std::ffi::OsString;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use super::{CliCommand, GlobalArgs, daemon, lease};

const COMMANDS: [&str; 8] = ["ping", "token", "acquire", "release", "renew", "report", "daemon", "stop"];

/// Parses a command line that begins with one of these commands and has no fault. Everything else, such as a request for
/// help, is for the grammar of all commands.
pub(super) fn parse(words: &[OsString]) -> Option<(GlobalArgs, CliCommand)> {
    let first = words.get(1)?.to_str()?;
    let name = COMMANDS.into_iter().find(|name| *name == first)?;
    let bare = Command::new(name);
    let command = match name {
        "ping" => bare,
        "token" => lease::TokenArgs::augment_args(bare),
        "acquire" => lease::AcquireArgs::augment_args(bare),
        "release" | "renew" => lease::LeaseArg::augment_args(bare),
        "report" => lease::ReportArgs::augment_args(bare),
        "daemon" => daemon::DaemonArgs::augment_args(bare),
        "stop" => daemon::stop::StopArgs::augment_args(bare),
        _ => return None,
    };
    let grammar = GlobalArgs::augment_args(Command::new("lessor")).subcommand(command);
    let matches = grammar.try_get_matches_from(words).ok()?;
    let global = GlobalArgs::from_arg_matches(&matches).ok()?;
    let (_, of_command) = matches.subcommand()?;
    Some((global, command_of(name, of_command)?))
}

fn command_of(name: &str, matches: &ArgMatches) -> Option<CliCommand> {
    Some(match name {
        "ping" => CliCommand::Ping,
        "token" => CliCommand::Token(lease::TokenArgs::from_arg_matches(matches).ok()?),
        "acquire" => CliCommand::Acquire(lease::AcquireArgs::from_arg_matches(matches).ok()?),
        "release" => CliCommand::Release(lease::LeaseArg::from_arg_matches(matches).ok()?),
        "renew" => CliCommand::Renew(lease::LeaseArg::from_arg_matches(matches).ok()?),
        "report" => CliCommand::Report(lease::ReportArgs::from_arg_matches(matches).ok()?),
        "daemon" => CliCommand::Daemon(daemon::DaemonArgs::from_arg_matches(matches).ok()?),
        "stop" => CliCommand::Stop(daemon::stop::StopArgs::from_arg_matches(matches).ok()?),
        _ => return None,
    })
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
        for line in [
            "",
            "status",
            "pin",
            "ping x",
            "ping --help",
            "token",
            "token -h",
            "--json ping",
            "report ls_1",
            "--version",
        ] {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }
}
