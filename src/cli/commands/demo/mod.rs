//! `demo`: shows how lessor works, offline, in a temporary directory. A real daemon, real agent processes, and a
//! simulated provider that records which agent used which key at what time.

mod agent;
mod home;
mod messages;
mod picture;
mod report;
mod serve;
mod upstream;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, builder::RangedU64ValueParser};

use super::account::new_account;
use crate::cli::{context::Context, error::CliError};
use crate::pool::CredentialKind;
use crate::protocol::{AddAccountParams, ListAccountsParams};

pub(super) use agent::work as work_as_agent;
pub(super) use home::TemporaryHome;
use picture::{DemoAccount, DemoPicture, Scene};
pub(super) use report::DemoResult;
pub(super) use serve::ServedDemo;
use upstream::DemoUpstream;

const PROVIDER: &str = "sim";
const WINDOW: Duration = Duration::from_secs(4);
/// Requests per window of the accounts, repeated if there are more: one agent needs less than half a window for them.
const QUOTAS: [u64; 5] = [48, 40, 32, 44, 24];
const POLL: Duration = Duration::from_millis(20);
/// From so many seconds on, a demo shows everything.
const LONG: u64 = 10;
/// The time in a window at which a process is killed: all agents are working.
const KILL_TIME: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The number of agents, each a process
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64), conflicts_with = "serve")]
    agents: usize,
    /// The number of accounts, each with its own quota
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..=32))]
    accounts: usize,
    /// The duration in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = RangedU64ValueParser::<u64>::new().range(2..=600), conflicts_with = "serve")]
    seconds: u64,
    /// Serve the simulated accounts to programs of your own, until Ctrl-C
    ///
    /// Starts a daemon with accounts of the provider anthropic, prints the variables that lead to it and to the simulated
    /// provider, and runs until Ctrl-C, or until its standard input ends if that is a pipe. The provider answers
    /// requests of the Messages API with a fixed text, and with 429 when the quota of a key is used up.
    #[arg(long)]
    serve: bool,
    /// With --serve: requests per window of each account; a list is repeated [default: 48,40,32,44,24]
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "serve", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    quota: Vec<u64>,
    /// With --serve: the length of a window in seconds [default: 4]
    #[arg(long, value_name = "SECONDS", requires = "serve", value_parser = RangedU64ValueParser::<u64>::new().range(1..=86_400))]
    window: Option<u64>,
    /// With --serve: run this command with the variables set, and end with it
    #[arg(last = true, value_name = "COMMAND", requires = "serve")]
    command: Vec<OsString>,
}

pub(super) fn execute(options: &DemoArgs, context: &Context) -> Result<u8, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| failed(&error.into()))?;
    }
    if options.serve {
        return serve::run(options, context, &stop);
    }
    let outcome = run(options, context, &stop).map_err(|error| failed(&error))?;
    let Some(result) = outcome else { return Ok(INTERRUPTED) };
    context.output.result(&result, || report::text(&result, &context.output))?;
    if !context.output.json {
        context.output.note("next: lessor import --dry-run");
    }
    match result.violation() {
        None => Ok(0),
        Some(violation) => Err(CliError::internal(format!("the demo failed: {violation}"))),
    }
}

/// The exit code of shells after Ctrl-C.
const INTERRUPTED: u8 = 130;

fn failed(error: &anyhow::Error) -> CliError {
    CliError::internal(format!("the demo was interrupted by an error: {error:#}"))
}

/// Runs the demo; `None` if the user ended it.
fn run(options: &DemoArgs, context: &Context, stop: &AtomicBool) -> anyhow::Result<Option<DemoResult>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut home = TemporaryHome::new(PROVIDER, listener.local_addr()?)?;
    home.start_daemon()?;
    let keys = add_accounts(&mut home, PROVIDER, options.accounts, &QUOTAS)?;
    // the first window begins with the agents
    let whole = Duration::from_secs(options.seconds);
    let upstream = DemoUpstream::new(keys.iter().cloned(), WINDOW, whole);
    upstream.serve_in_background(listener)?;
    let end = upstream.end();
    let mut started = first_agents(options);
    home.start_agents(1..=started, end)?;
    let mut result = DemoResult::new(options.agents, options.accounts, whole);
    let mut picture = DemoPicture::new(context);
    let labels: BTreeMap<String, String> =
        keys.iter().enumerate().map(|(number, (key, _))| (key.clone(), format!("account-{}", number + 1))).collect();
    let plan = kills(options.seconds, options.agents);
    let mut done = 0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let past = whole.saturating_sub(left);
        if started < options.agents && past >= WINDOW {
            home.start_agents(started + 1..=options.agents, end)?;
            picture.started(options.agents - started);
            started = options.agents;
        }
        if let Some((at, target)) = plan.get(done)
            && past >= *at
            && upstream.time_of_window() >= KILL_TIME
        {
            match target {
                // only while another agent waits, and the account has quota left
                PlannedKill::Agent => {
                    if let Some(killed) = home.kill_an_agent(&upstream)? {
                        done += 1;
                        picture.killed(&killed.story);
                        result.agent_killed(&killed);
                    }
                }
                PlannedKill::Daemon => {
                    done += 1;
                    let killed = home.kill_the_daemon()?;
                    picture.killed(&killed.story);
                    result.daemon_killed(&killed);
                }
            }
        }
        let states = upstream.states();
        let accounts = home.client()?.accounts(ListAccountsParams::default())?;
        let waiting = home.client()?.status()?.queue.len();
        result.observe(&states, &accounts, waiting, upstream.time_of_window());
        picture.provider_events(upstream.take_events(), &labels);
        let resets_in = WINDOW.saturating_sub(upstream.time_of_window());
        let accounts: Vec<DemoAccount> = accounts.iter().map(DemoAccount::of).collect();
        let (states, accounts) = (&states, accounts.as_slice());
        let grace = result.grace_left();
        picture.show(&Scene { states, accounts, waiting, agents: started, left, resets_in, grace });
        std::thread::sleep(POLL.min(left));
    }
    drop(picture);
    let ended = home.finish_agents();
    result.finish(&upstream, &ended, WINDOW);
    Ok(Some(result))
}

/// Adds the accounts `account-1`, `account-2`, …; returns their keys with their quotas.
fn add_accounts(
    home: &mut TemporaryHome,
    provider: &str,
    accounts: usize,
    quotas: &[u64],
) -> anyhow::Result<Vec<(String, u64)>> {
    let keys: Vec<(String, u64)> =
        (0..accounts).map(|number| (format!("sim-key-{number:02}"), quotas[number % quotas.len()])).collect();
    for (number, (key, _)) in keys.iter().enumerate() {
        let label = Some(format!("account-{}", number + 1));
        let account = AddAccountParams { label, ..new_account(provider, CredentialKind::ApiKey, key) };
        home.client()?.add_account(account)?;
    }
    Ok(keys)
}

/// How many agents start at once. In the first window of a longer demo there are fewer of them than accounts, so that
/// limits move agents at once; then there are more, and limits are waited for.
fn first_agents(options: &DemoArgs) -> usize {
    let few = options.agents.min(options.accounts.saturating_sub(1)).max(1);
    if options.seconds >= LONG { few } else { options.agents }
}

#[derive(Clone, Copy)]
enum PlannedKill {
    Agent,
    Daemon,
}

/// When a process is killed on purpose; a short demo has fewer kills.
fn kills(seconds: u64, agents: usize) -> Vec<(Duration, PlannedKill)> {
    let whole = Duration::from_secs(seconds);
    let mut plan = Vec::new();
    if agents > 1 {
        plan.push((whole / 6, PlannedKill::Agent));
    }
    if seconds >= LONG {
        plan.push((whole * 2 / 3, PlannedKill::Daemon));
    }
    plan
}
