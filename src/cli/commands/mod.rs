//! The commands: what the command line accepts, and which function carries out which command.

mod account;
mod alias;
mod backup;
mod bench;
mod classify;
mod completions;
mod config;
mod daemon;
mod demo;
mod doctor;
mod env;
mod events;
mod explain;
mod forecast;
mod gateway;
mod guests;
mod help;
mod history;
mod import;
mod lease;
mod login;
mod logs;
mod man;
mod mcp;
mod monitor;
mod one_command;
mod pool;
mod requests;
mod run;
mod schema;
mod service;
mod shim;
mod simulate;
mod status;
mod statusline;
mod top;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::context::{Context, GlobalArgs};
use super::error::CliError;
use super::launch::{SuperviseArgs, supervise};

/// Lease LLM accounts to coding agents.
#[derive(Debug, Parser)]
#[command(name = "lessor", version, max_term_width = help::MAX_WIDTH, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Option<CliCommand>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success             4  no account is available now
  1  failure             5  user action required: add an account, log in
  2  usage error         6  invalid configuration
  3  no daemon           126, 127  `run` cannot start the command";

/// A command with its options.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run an agent or another command on a leased account
    ///
    /// Leases an account, starts the command with the environment it needs, and releases the lease when the command
    /// ends. By default the command reaches its provider through lessor's gateway, which continues with another
    /// account when one is rate limited. The exit code is that of the command.
    #[command(after_help = "Examples:\n  lessor run claude\n  lessor run -- codex exec 'fix the tests'\n  \
                            lessor run -p openai -m gpt-5 -- python agent.py\n  lessor run --only work,spare claude\n  \
                            lessor run -p anthropic,openai -- ./orchestrator")]
    Run(run::RunArgs),
    /// Print the variables of a leased account for the calling shell
    ///
    /// Prints lines that set the same variables as `lessor run`. The lease is bound to the calling shell and ends with
    /// it. Calling again for the same provider replaces the lease.
    #[command(after_help = "Examples:\n  eval \"$(lessor env claude)\"\n  lessor env codex --shell fish | source")]
    Env(env::EnvArgs),
    /// Let plain `claude`, `codex` and others run through lessor
    #[command(subcommand, after_help = "Example: lessor alias install")]
    Alias(alias::AliasCommand),
    /// Start an agent for a script that has its name (internal)
    #[command(hide = true, after_help = "Example: lessor shim claude -- -p hi")]
    Shim(shim::ShimArgs),
    /// Supervise a command that `run` started (internal)
    #[command(hide = true, after_help = "Example: lessor supervise --pid 4711 --start 123456 --watch")]
    Supervise(SuperviseArgs),
    /// Show whether an agent can start, then accounts, leases, queue
    ///
    /// `lessor` alone shows the same without starting a daemon, and the commands that one needs next.
    #[command(after_help = "Examples:\n  lessor status\n  lessor status --oneline\n  \
                            lessor status --oneline --format '{ready}/{total} {reset}'")]
    Status(status::StatusArgs),
    /// Serve status, forecast and explain to agents as MCP tools
    ///
    /// A server of the Model Context Protocol on standard input and output. Its tools only read, and show no secret.
    #[command(after_help = "Examples:\n  claude mcp add lessor -- lessor mcp\n  codex mcp add lessor -- lessor mcp")]
    Mcp,
    /// Print Claude Code's status line: account, quota, queue
    ///
    /// For Claude Code's settings.json, as in the examples. Reads the JSON that Claude Code feeds such a command, prints one
    /// line, and learns the quota that it states, if it is certain of which account. No daemon is started.
    #[command(after_help = statusline::EXAMPLE)]
    Statusline(statusline::StatuslineArgs),
    /// Watch accounts, leases, queue and requests live
    ///
    /// A dashboard on the whole terminal. From it, accounts can be disabled and refreshed, limits cleared, leases released
    /// and moved to another account; `?` lists the keys. It follows the daemon across restarts.
    #[command(after_help = "Example: lessor top")]
    Top,
    /// List, add, change and remove accounts
    #[command(subcommand, after_help = "Example: lessor account list")]
    Account(account::AccountSubcommand),
    /// Log in at a provider, or renew a login
    ///
    /// With the name of a vendor's program, runs the program's own login in a directory of its own: claude, codex, gemini
    /// or agy. Nothing has to be configured. Once more adds the next account; the same person again renews one.
    ///
    /// With the name of a provider, logs in with an OAuth client of yours, in the browser or with --paste or --device.
    #[command(after_help = "Examples:\n  lessor login claude\n  lessor login claude --label work\n  \
                            lessor login codex --device\n  lessor login claude --token\n  \
                            lessor login google --client client_secret_1234.json")]
    Login(login::LoginArgs),
    /// Share accounts with other machines through a database
    #[command(subcommand, after_help = "Example: lessor pool status")]
    Pool(pool::PoolSubcommand),
    /// Store the secrets of OAuth clients; change the encryption key
    #[command(subcommand, after_help = "Example: lessor secrets list")]
    Secrets(account::SecretsCommand),
    /// Import logins and keys from other tools
    ///
    /// Without a file, reads the usual locations of Claude Code, Codex, Gemini CLI, opencode and others. By default a
    /// login whose refresh token rotates stays with its tool, and lessor reads each new token from the tool's file.
    #[command(after_help = "Examples:\n  lessor import --dry-run\n  lessor import --from claude-code --take-over\n  \
                            lessor import accounts.json")]
    Import(import::ImportArgs),
    /// Print all accounts as a document for `lessor import`
    ///
    /// The document contains no secrets unless --secrets is given.
    #[command(after_help = "Examples:\n  lessor export\n  lessor export --secrets --output accounts.json")]
    Export(account::ExportArgs),
    /// Copy the database to a file, also while the daemon runs
    ///
    /// The secrets stay encrypted, and their key is not in the file: keep a copy of it elsewhere, for example one that
    /// --key-file writes. The configuration is not in the file either.
    #[command(after_help = "Examples:\n  lessor backup ~/lessor.backup\n  \
                            lessor backup ~/lessor.backup --key-file /media/stick/lessor.key")]
    Backup(backup::BackupArgs),
    /// Replace the database by a backup
    ///
    /// The daemon must not be running. The backup is checked first; the database from before is renamed, not removed.
    /// Leases of the time of the backup end.
    #[command(after_help = "Examples:\n  lessor restore ~/lessor.backup\n  \
                            lessor restore ~/lessor.backup --key-file /media/stick/lessor.key --force")]
    Restore(backup::RestoreArgs),
    /// Show accounts, leases, requests and history in the browser
    ///
    /// Opens a page of the gateway. It is opened by a code that is valid once and for a minute, and shows only; with
    /// --actions it can also enable and disable accounts, clear their limits, refresh their logins, and release and
    /// move leases. It ends after 12 hours, or with the daemon.
    #[command(after_help = "Examples:\n  lessor ui\n  lessor ui --no-browser\n  lessor ui --actions")]
    Ui(monitor::UiArgs),
    /// Check the installation and suggest a remedy for each problem
    ///
    /// Checks the configuration, the daemon, the accounts, the files of other tools, and logins that two programs
    /// refresh; counts the accounts that can serve now. The exit code is 1 if something is broken, or no account can serve.
    #[command(after_help = "Examples:\n  lessor doctor\n  lessor doctor --fix")]
    Doctor(doctor::DoctorArgs),
    /// Lease an account and print the lease
    ///
    /// The lease ends with the process it is bound to, or after its --ttl. The secret is printed with --json only.
    #[command(after_help = "Examples:\n  lessor acquire anthropic --pid $$ --json\n  \
                            lessor acquire openai --ttl 10m --wait 0s")]
    Acquire(lease::AcquireArgs),
    /// Print one valid token or key and nothing else
    ///
    /// For programs that run a command to get a token, such as Claude Code's apiKeyHelper. The lease is bound to the
    /// calling program, and every call by that program returns the same account while the account is usable.
    #[command(after_help = "Examples:\n  lessor token anthropic\n  lessor token openai --gateway")]
    Token(lease::TokenArgs),
    /// Release a lease
    #[command(after_help = "Example: lessor release ls_1a2b3c4d")]
    Release(lease::LeaseArg),
    /// Extend a lease by its time to live
    #[command(after_help = "Example: lessor renew ls_1a2b3c4d")]
    Renew(lease::LeaseArg),
    /// Move a lease to another account
    ///
    /// A program that `lessor run` started uses the other account from its next request on; requests under way end on the
    /// old one. The session of the lease stays on the new account.
    #[command(name = "move", after_help = "Examples:\n  lessor move 4711\n  lessor move ls_1a2b3c4d --to work")]
    MoveLease(lease::MoveArgs),
    /// Report an upstream response and print the next action
    ///
    /// The daemon records the rate limit, if there is one, for every lease on the account. The printed action is to
    /// continue, to retry, to wait, to switch to another account, or to stop.
    #[command(after_help = "Examples:\n  lessor report ls_1a2b3c4d --status 429 --header 'retry-after: 30' \
                            --body -\n  lessor report ls_1a2b3c4d --ok\n  \
                            lessor report ls_1a2b3c4d --reason quota_exhausted --retry-after 5m")]
    Report(lease::ReportArgs),
    /// List the leases that are held
    #[command(after_help = "Example: lessor leases")]
    Leases,
    /// Show how many agents can start now, and when the next can
    ///
    /// Counts the leases that could be granted now, on which accounts, and says when the next account can serve. Without a
    /// name, of every provider with accounts. The exit code is 4 if no agent can start now.
    #[command(after_help = "Examples:\n  lessor forecast\n  lessor forecast claude --count 5\n  \
                            lessor forecast openai -m gpt-5 --only work,spare --json")]
    Forecast(forecast::ForecastArgs),
    /// Explain why an account was chosen or refused
    ///
    /// Shows what decided, every account that could have been chosen, and the evidence for each limit.
    #[command(after_help = "Examples:\n  lessor explain\n  lessor explain work --model claude-sonnet-4-5")]
    Explain(explain::ExplainArgs),
    /// Classify upstream responses, given as JSON lines
    ///
    /// Each line of standard input is {"provider", "status", "headers": {}, "body": "…", "now": epoch ms}; everything
    /// but the status is optional. Each line of the output is the classification of one response. A line that cannot be
    /// read gives {"error"}, and the exit code is 1. No daemon is needed.
    #[command(
        after_help = "Example: echo '{\"status\": 429, \"headers\": {\"retry-after\": \"30\"}}' | lessor classify"
    )]
    Classify(classify::ClassifyArgs),
    /// Show what happened: requests, limits, tokens and cost
    ///
    /// Sums over the requests of the gateway, by hour or day, account, model, agent, directory or provider, with bars;
    /// with --leases the leases that have ended. What is kept, and for how long, is set by [history] of the
    /// configuration.
    #[command(after_help = "Examples:\n  lessor history --since 2h\n  lessor history --since 7d --by account\n  \
                            lessor history --since 2026-11-30 --by model --csv")]
    History(history::HistoryArgs),
    /// List the requests of the gateway, each with its attempts
    ///
    /// The latest come last. Below a request is what it went through: each account that was tried, why it refused and
    /// until when, and why no other one served. On a terminal this is text, else JSON lines.
    #[command(after_help = "Examples:\n  lessor requests --since 2h --status refused\n  lessor requests -f")]
    Requests(requests::RequestsArgs),
    /// Print recent events, or follow new ones
    ///
    /// On a terminal each event is a sentence with its time, and a switch is one line. Piped, or with --json, each is a JSON line.
    #[command(after_help = "Examples:\n  lessor events\n  lessor events --follow --kind account.limited")]
    Events(events::EventsArgs),
    /// Print the daemon's log
    ///
    /// Reads the systemd journal if the daemon logs there, else the log file. No daemon is started.
    #[command(after_help = "Examples:\n  lessor logs -n 20\n  lessor logs --follow")]
    Logs(logs::LogsArgs),
    /// Measure the round trip to the daemon and print its version
    #[command(after_help = "Example: lessor ping")]
    Ping,
    /// Show, change and check the configuration
    #[command(subcommand, after_help = "Example: lessor config show")]
    Config(config::ConfigCommand),
    /// Make the daemon read its configuration now
    ///
    /// The daemon also notices changes of the file itself; this command waits for the result and prints it.
    #[command(after_help = "Example: lessor reload")]
    Reload,
    /// Run the daemon in the foreground
    ///
    /// Commands start a daemon in the background when they need one, so this is for debugging and service managers. Under a
    /// service manager the exit code is 75 if another daemon runs already.
    #[command(after_help = "Example: LESSOR_LOG=debug lessor daemon")]
    Daemon(daemon::DaemonArgs),
    /// Stop the daemon
    ///
    /// Prints which agents hold leases, and on a terminal asks whether to stop all the same. Leases that are bound to a
    /// process or a time are kept for the next daemon; `lessor restart` keeps the agents running.
    #[command(after_help = "Examples:\n  lessor stop\n  lessor stop --yes")]
    Stop(daemon::stop::StopArgs),
    /// Restart the daemon without ending the agents that use it
    ///
    /// The next daemon takes over socket, gateway address, leases and keys. Requests in flight are waited for; new ones
    /// wait until it serves. If no daemon is running, one is started. After an update of lessor, the next daemon is the new one.
    #[command(after_help = "Examples:\n  lessor restart\n  lessor restart --drain 5s")]
    Restart(daemon::restart::RestartArgs),
    /// Print the gateway's URL; create, list and revoke its keys
    ///
    /// For clients that `lessor run` does not start.
    #[command(subcommand, after_help = "Example: lessor gateway url")]
    Gateway(gateway::GatewayCommand),
    /// Use the accounts of another machine, over ssh
    ///
    /// From now on this machine's daemon passes on what its agents ask for to the daemon of that machine. No credential is
    /// stored here. The own accounts of this machine are not used until `lessor leave`.
    #[command(after_help = "Examples:\n  lessor join laptop\n  lessor join me@laptop --ssh-option Port=2222\n  \
                            lessor join laptop --program '~/.cargo/bin/lessor'")]
    Join(guests::JoinArgs),
    /// Use this machine's own accounts again
    ///
    /// Leases of the other machine's accounts end.
    #[command(after_help = "Example: lessor leave")]
    Leave,
    /// Let a container or another machine use this one's accounts
    ///
    /// Opens a further socket, which is in the configuration and so survives restarts. Programs of the named user or group
    /// may lease there, and see or change nothing else; a lease belongs to the process that has connected.
    #[command(
        after_help = "Examples:\n  lessor share --uid 100000 --only work --max-leases 4\n  lessor share list\n  \
                            lessor share remove uid-100000\n  lessor share --stdio --only work"
    )]
    Share(guests::ShareArgs),
    /// Run the daemon as a service of systemd, launchd or Windows
    #[command(subcommand, after_help = "Example: lessor service install")]
    Service(service::ServiceCommand),
    /// Show how lessor works, offline, on a simulated provider
    ///
    /// Starts a daemon in a temporary directory, several accounts with small quotas, and more agents than accounts;
    /// kills an agent and the daemon; and prints what the simulated provider counted.
    ///
    /// With --serve it serves the simulated accounts to programs of your own instead.
    #[command(after_help = "Examples:\n  lessor demo\n  lessor demo --agents 20 --accounts 3 --seconds 30\n  \
                            lessor demo --serve\n  lessor demo --serve --accounts 2 --quota 3 -- lessor forecast anthropic")]
    Demo(demo::DemoArgs),
    /// Compare account selection strategies in a simulation
    ///
    /// Runs lessor's strategies, and those of other tools, against a modelled provider in virtual time. The same options
    /// and seed give the same figures on every machine.
    #[command(
        after_help = "Examples:\n  lessor simulate\n  lessor simulate --agents 40 --strategy hybrid --svg chart.svg"
    )]
    Simulate(simulate::SimulateArgs),
    /// Measure lessor on this machine
    ///
    /// Measures leases over the socket, the choice of an account, and requests through the gateway, in a temporary
    /// directory against an upstream on this machine. Other work on the machine changes the figures; the ratios less.
    #[command(after_help = "Examples:\n  lessor bench\n  lessor bench --seconds 60 --json")]
    Bench(bench::BenchArgs),
    /// Work as one agent of the demo (internal)
    #[command(hide = true, after_help = "Example: lessor demo-agent")]
    DemoAgent,
    /// Print the completions for a shell
    ///
    /// The script asks lessor what can follow, so that accounts and leases are those of now. It starts no daemon.
    #[command(after_help = "Example: lessor completions bash > ~/.local/share/bash-completion/completions/lessor")]
    Completions(completions::CompletionsArgs),
    /// Print the manual page of a command, or write all of them
    #[command(after_help = "Examples:\n  lessor man account add | man -l -\n  \
                            lessor man --dir ~/.local/share/man/man1")]
    Man(man::ManArgs),
    /// Print the JSON Schema of a command's --json output
    #[command(after_help = "Example: lessor schema account list")]
    Schema(schema::SchemaArgs),
}

/// The grammar of the command line, with the commands of each group in the order of the overview.
#[must_use]
pub fn grammar() -> (clap::Command, &'static [(&'static str, &'static [&'static str])]) {
    (Cli::command(), &help::GROUPS)
}

/// Answers a shell that completes a line; `false` if this process was not started for that.
pub(super) fn answer_shell() -> bool {
    completions::answer_shell(Cli::command)
}

pub(super) fn parse() -> Result<(GlobalArgs, CliCommand), clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(parsed) = one_command::parse(&words) {
        return Ok(parsed);
    }
    let matches = help::grouped(Cli::command()).try_get_matches_from(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli.global, cli.command.unwrap_or_else(|| CliCommand::Status(status::StatusArgs::overview()))))
}

/// Whether a command prints one value for a program, or restarts the daemon itself: it says nothing else.
pub(super) fn prints_a_value(command: &CliCommand) -> bool {
    let is_restart = matches!(command, CliCommand::Restart(_) | CliCommand::Stop(_) | CliCommand::Daemon(_));
    is_restart || matches!(command, CliCommand::Token(_) | CliCommand::Env(_) | CliCommand::Supervise(_))
}

/// Commands that print no document, so that they refuse `--json`.
const WITHOUT_DOCUMENT: [&str; 9] =
    ["run", "shim", "supervise", "daemon", "demo-agent", "completions", "man", "mcp", "top"];

fn refuse_json(command: &CliCommand) -> Result<(), CliError> {
    let name = match command {
        CliCommand::Run(_) => "run",
        CliCommand::Shim(_) => "shim",
        CliCommand::Supervise(_) => "supervise",
        CliCommand::Daemon(_) => "daemon",
        CliCommand::DemoAgent => "demo-agent",
        CliCommand::Completions(_) => "completions",
        CliCommand::Man(_) => "man",
        CliCommand::Mcp => "mcp",
        CliCommand::Top => "top",
        _ => return Ok(()),
    };
    debug_assert!(WITHOUT_DOCUMENT.contains(&name), "{name}");
    let error = CliError::usage(format!("`lessor {name}` prints no JSON document: leave --json out"));
    Err(if name == "top" { error.hint("the same as a document: lessor status --json") } else { error })
}

pub(super) fn execute(command: CliCommand, context: &Context) -> Result<u8, CliError> {
    if context.output.json {
        refuse_json(&command)?;
    }
    let done = match command {
        CliCommand::Run(args) => return run::execute(args, context),
        CliCommand::Shim(args) => return shim::execute(args, context),
        CliCommand::Supervise(args) => return supervise(args, context),
        CliCommand::Import(args) => return import::execute(args, context),
        CliCommand::Forecast(args) => return forecast::execute(&args, context),
        CliCommand::Doctor(args) => return doctor::execute(&args, context),
        CliCommand::Classify(args) => return classify::execute(&args, context),
        CliCommand::Config(command) => return config::execute(command, context),
        CliCommand::Pool(command) => return pool::execute(command, context),
        CliCommand::Reload => return config::reload(context),
        CliCommand::Daemon(args) => return daemon::execute(&args, context),
        CliCommand::Demo(args) => return demo::execute(&args, context),
        CliCommand::Bench(args) => return bench::execute(&args, context),
        CliCommand::DemoAgent => return Ok(demo::work_as_agent()),
        CliCommand::Alias(command) => alias::execute(command, context),
        CliCommand::Env(args) => env::execute(args, context),
        CliCommand::Status(args) => status::execute(&args, context),
        CliCommand::Mcp => mcp::execute(context),
        CliCommand::Statusline(args) => statusline::execute(args, context),
        CliCommand::Top => top::execute(context),
        CliCommand::Ui(args) => monitor::execute(&args, context),
        CliCommand::Account(command) => account::execute(command, context),
        CliCommand::Login(args) => login::execute(args, context),
        CliCommand::Secrets(command) => account::secrets(command, context),
        CliCommand::Backup(args) => backup::back_up(&args, context),
        CliCommand::Restore(args) => backup::restore(&args, context),
        CliCommand::Export(args) => account::export(&args, context),
        CliCommand::Acquire(args) => lease::acquire(args, context),
        CliCommand::Token(args) => lease::token(args, context),
        CliCommand::MoveLease(args) => lease::move_lease(args, context),
        CliCommand::Release(lease) => lease::release(&lease, context),
        CliCommand::Renew(lease) => lease::renew(&lease, context),
        CliCommand::Report(args) => lease::report(args, context),
        CliCommand::Leases => lease::leases(context),
        CliCommand::Explain(args) => explain::execute(args, context),
        CliCommand::History(args) => history::execute(&args, context),
        CliCommand::Requests(args) => requests::execute(&args, context),
        CliCommand::Events(args) => events::execute(args, context),
        CliCommand::Logs(args) => logs::execute(&args, context),
        CliCommand::Ping => daemon::ping(context),
        CliCommand::Stop(args) => daemon::stop::stop(&args, context),
        CliCommand::Restart(args) => daemon::restart::execute(&args, context),
        CliCommand::Gateway(command) => gateway::execute(command, context),
        CliCommand::Join(args) => return guests::join(&args, context),
        CliCommand::Leave => guests::leave(context),
        CliCommand::Share(args) => return guests::execute(args, context),
        CliCommand::Service(command) => service::execute(&command, context),
        CliCommand::Simulate(args) => simulate::execute(&args, context),
        CliCommand::Completions(args) => completions::execute(&args, context),
        CliCommand::Man(args) => man::execute(&args, Cli::command(), context),
        CliCommand::Schema(args) => schema::execute(&args, context),
    };
    done.map(|()| 0)
}

/// Parses the options of one command.
#[cfg(test)]
fn parse_args<T: clap::Args>(words: impl IntoIterator<Item = &'static str>) -> Result<T, clap::Error> {
    let command = T::augment_args(clap::Command::new("x").no_binary_name(true));
    T::from_arg_matches(&command.try_get_matches_from(words)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its full name, hidden ones and groups included.
    pub(super) fn commands() -> Vec<(String, clap::Command)> {
        fn add(command: &clap::Command, before: &str, all: &mut Vec<(String, clap::Command)>) {
            for below in command.get_subcommands() {
                let name = format!("{before}{}", below.get_name());
                all.push((name.clone(), below.clone()));
                add(below, &format!("{name} "), all);
            }
        }
        let mut all = Vec::new();
        add(&Cli::command(), "", &mut all);
        all
    }

    #[test]
    fn the_grammar_is_consistent() {
        help::grouped(Cli::command()).debug_assert();
    }

    #[test]
    fn every_command_and_option_has_a_line_of_help_and_every_command_an_example() {
        for (name, command) in commands() {
            let about = command.get_about().unwrap_or_else(|| panic!("{name} has no help")).to_string();
            assert!(!about.contains('\n') && about.len() <= 64, "{name}: {about}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
            let examples = command.get_after_help().unwrap_or_else(|| panic!("{name} has no example")).to_string();
            assert!(examples.starts_with("Example"), "{name}: {examples}");
            assert!(examples.contains(&format!("lessor {name}")), "{name}: {examples}");
            assert!(examples.lines().all(|line| line.len() <= 100), "{name}: {examples}");
        }
    }

    #[test]
    fn every_command_is_in_one_group_of_the_overview() {
        let names: Vec<String> = help::GROUPS.iter().flat_map(|(_, names)| *names).map(ToString::to_string).collect();
        let visible = Cli::command();
        let visible = visible.get_subcommands().filter(|command| !command.is_hide_set());
        for name in visible.map(clap::Command::get_name) {
            assert_eq!(names.iter().filter(|listed| *listed == name).count(), 1, "{name}");
        }
        assert!(names.iter().all(|name| Cli::command().find_subcommand(name).is_some()), "{names:?}");
        let overview = help::overview(&Cli::command(), 80);
        assert!(overview.lines().all(|line| line.chars().count() <= 80), "{overview}");
        assert_eq!(overview.lines().filter(|line| line.starts_with("  ")).count(), names.len(), "{overview}");
    }

    #[test]
    fn every_command_has_a_schema_or_refuses_json() {
        // these print a schema themselves
        let schemas = ["schema", "config schema"];
        for (name, command) in commands() {
            if command.has_subcommands() || schemas.contains(&name.as_str()) {
                continue;
            }
            let refuses = WITHOUT_DOCUMENT.contains(&name.as_str());
            assert_ne!(schema::has(&name), refuses, "{name} either has a schema or refuses --json");
        }
        let words = |name: &'static str| match name {
            "run" => vec!["lessor", "run", "claude"],
            "shim" => vec!["lessor", "shim", "claude"],
            "supervise" => vec!["lessor", "supervise", "--pid", "1", "--start", "1", "--watch"],
            "completions" => vec!["lessor", "completions", "bash"],
            name => vec!["lessor", name],
        };
        for name in WITHOUT_DOCUMENT {
            let cli = Cli::try_parse_from(words(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let error = refuse_json(&cli.command.unwrap()).unwrap_err();
            assert_eq!(error.exit, super::super::error::USAGE, "{name}");
            assert!(error.message().contains(name), "{}", error.message());
        }
    }
}
