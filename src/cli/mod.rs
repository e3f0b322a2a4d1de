//! The command line: parses, calls the client, prints for people or as JSON.

mod account;
mod agent;
mod ancestor;
mod browser;
mod classify;
mod config;
mod context;
mod daemon;
mod demo;
mod doctor;
mod env;
mod events;
mod explain;
mod export;
mod failure;
mod gateway;
mod hand_out;
mod import;
mod lease;
mod login;
mod logs;
mod oauth;
mod output;
mod prompt;
mod report;
mod run;
mod schema;
mod secret;
mod secrets;
mod service;
mod shell;
mod simulate;
mod status;
mod table;
mod token;
mod waiting;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use context::Context;
use failure::Failure;

/// Leases LLM accounts to coding agents.
#[derive(Debug, Parser)]
#[command(name = "lessor", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok · 1 it failed · 2 usage · 3 no daemon · 4 no account can serve now · \
5 needs you (add an account, log in) · 6 config invalid · 126/127 `run` cannot start the command";

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Do not start a daemon when none runs (also LESSOR_NO_START=1)
    #[arg(long, global = true, display_order = 901)]
    no_start: bool,
    /// Configuration file (also LESSOR_CONFIG)
    #[arg(long, global = true, value_name = "FILE", display_order = 902)]
    config: Option<PathBuf>,
    /// The daemon's socket (also LESSOR_SOCKET)
    #[arg(long, global = true, value_name = "PATH", display_order = 903)]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command on a leased account; the lease lives as long as the command
    Run(run::Run),
    /// Print the variables for a program on a leased account; the lease lives as long as the calling shell
    Env(env::Env),
    /// Look after a command that `run` became
    #[command(hide = true)]
    Keep(hand_out::Keep),
    /// Accounts, leases, queue and daemon at a glance
    Status,
    /// List, add, change and remove accounts
    #[command(subcommand)]
    Account(account::Account),
    /// Log in at a provider, or renew a login: in the browser, by pasted code, or by device code
    Login(login::Login),
    /// Change the key that everything secret is sealed with
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Take in the logins and keys that other tools have
    Import(import::Import),
    /// Print all accounts as a document that import reads; without secrets unless told
    Export(export::Export),
    /// Check everything, and say what to do about what is wrong
    Doctor(doctor::Doctor),
    /// Lease an account, for shell scripts
    Acquire(lease::Acquire),
    /// Print one fresh token or key and nothing else, for apiKeyHelper and its like
    Token(token::Token),
    /// Give a lease back
    Release(lease::Which),
    /// Add a lease's life to its time
    Renew(lease::Which),
    /// Tell what an upstream answered, and hear what to do next
    Report(report::Report),
    /// List the leases that are held
    Leases,
    /// Say why an account was chosen, and why the others were not
    Explain(explain::Explain),
    /// Tell what upstreams' answers mean: JSON lines in, a JSON line for each out
    Classify(classify::Classify),
    /// Print what happens
    Events(events::Events),
    /// Print the daemon's log: the journal under systemd, else its file
    Logs(logs::Logs),
    /// Round trip to the daemon, and its version
    Ping,
    /// Look at the configuration, change and check it
    #[command(subcommand)]
    Config(config::Config),
    /// Have the daemon read its configuration now
    Reload,
    /// Be the daemon, in the foreground
    Daemon(daemon::Daemon),
    /// End the daemon
    Stop,
    /// Where the gateway is, and a key to it
    #[command(subcommand)]
    Gateway(gateway::Gateway),
    /// Have systemd, launchd or Windows keep the daemon there
    #[command(subcommand)]
    Service(service::Service),
    /// Show the whole job offline, on a simulated provider
    Demo(demo::Demo),
    /// Compare the strategies, and the rules of others, on a modelled load in virtual time
    Simulate(simulate::Simulate),
    /// One of the demo's agents
    #[command(hide = true)]
    DemoAgent,
    /// Print a shell's completions
    Completions(shell::Completions),
    /// Print the manual page
    Man,
    /// Print the JSON Schema of what a command prints with --json
    Schema(schema::Schema),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help for a closed pipe is no failure either
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let context = Context::new(&cli.global);
    match dispatch(cli.command, &context) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell(&context.output);
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<u8, Failure> {
    match command {
        Command::Run(run) => run::run(run, context),
        Command::Env(options) => env::env(options, context).map(|()| 0),
        Command::Keep(options) => hand_out::keep(options, context),
        Command::Status => status::status(context).map(|()| 0),
        Command::Account(account) => account::account(account, context).map(|()| 0),
        Command::Login(options) => login::login(options, context).map(|()| 0),
        Command::Secrets(command) => secrets::secrets(&command, context).map(|()| 0),
        Command::Import(options) => import::import(options, context),
        Command::Export(options) => export::export(&options, context).map(|()| 0),
        Command::Doctor(options) => doctor::doctor(&options, context),
        Command::Acquire(acquire) => lease::acquire(acquire, context).map(|()| 0),
        Command::Token(options) => token::token(options, context).map(|()| 0),
        Command::Release(which) => lease::release(&which, context).map(|()| 0),
        Command::Renew(which) => lease::renew(&which, context).map(|()| 0),
        Command::Report(options) => report::report(options, context).map(|()| 0),
        Command::Leases => lease::leases(context).map(|()| 0),
        Command::Explain(options) => explain::explain(options, context).map(|()| 0),
        Command::Classify(options) => classify::classify(&options, context),
        Command::Events(events) => events::events(events, context).map(|()| 0),
        Command::Logs(options) => logs::logs(&options, context).map(|()| 0),
        Command::Ping => daemon::ping(context).map(|()| 0),
        Command::Config(config) => config::config(config, context),
        Command::Reload => config::reload(context),
        Command::Daemon(daemon) => daemon::daemon(&daemon, context),
        Command::Stop => daemon::stop(context).map(|()| 0),
        Command::Gateway(gateway) => gateway::gateway(gateway, context).map(|()| 0),
        Command::Service(service) => service::service(&service, context).map(|()| 0),
        Command::Demo(options) => demo::demo(&options, context),
        Command::Simulate(options) => simulate::simulate(&options, context).map(|()| 0),
        Command::DemoAgent => Ok(demo::work_as_agent()),
        Command::Completions(shell) => shell::completions(&shell, context).map(|()| 0),
        Command::Man => shell::man(context).map(|()| 0),
        Command::Schema(options) => schema::schema(&options, context).map(|()| 0),
    }
}

/// A duration as in the configuration: `30s`, `5m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::duration::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_does() {
        use clap::CommandFactory;
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
