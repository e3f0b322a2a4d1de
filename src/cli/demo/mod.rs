//! `lessor demo`: the whole job, offline, in a throw-away home. A real daemon, real agents in processes of their own,
//! and a simulated provider that knows better than anybody who used which key when.

mod agent;
mod home;
mod progress;
mod report;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, builder::RangedU64ValueParser};

use crate::pool::CredentialKind;
use crate::protocol::{AddAccountParams, ListAccountsParams, SecretText};

use super::context::Context;
use super::failure::Failure;

use home::Home;
use progress::Progress;
pub(super) use report::Findings;
use upstream::Upstream;

/// The provider's name in the throw-away configuration.
const PROVIDER: &str = "sim";
/// How long a window of the simulated quotas is.
const WINDOW: Duration = Duration::from_secs(4);
/// Requests of a window, by account, over and over: one agent at a time needs less than half a window for them.
const QUOTAS: [u64; 5] = [48, 40, 32, 44, 24];
/// How often the demo looks at everything.
const LOOK: Duration = Duration::from_millis(20);
/// When in its window an accident happens: everybody is at work.
const ACCIDENT: Duration = Duration::from_millis(300);

/// Show the whole job offline on a simulated provider
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Agents, each a process of its own
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    agents: usize,
    /// Accounts, each with a quota of its own
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..=32))]
    accounts: usize,
    /// How long it runs
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = RangedU64ValueParser::<u64>::new().range(2..=600))]
    seconds: u64,
}

/// Runs the demo.
pub(super) fn demo(options: &Demo, context: &Context) -> Result<u8, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| failed(&error.into()))?;
    }
    let findings = run(options, context, &stop).map_err(|error| failed(&error))?;
    let Some(findings) = findings else { return Ok(INTERRUPTED) };
    context.output.result(&findings, || report::table(&findings))?;
    if !context.output.json {
        context.output.note("next: lessor account add anthropic --api-key-stdin --label work < key-file");
        context.output.note("      lessor run -- claude -p \"say hi\"");
    }
    match findings.broken() {
        None => Ok(0),
        Some(promise) => Err(Failure::new("internal", format!("a promise was not kept: {promise}"))),
    }
}

/// Works as one of the agents.
pub(super) fn work_as_agent() -> u8 {
    agent::work()
}

/// As a shell says that Ctrl-C ended something.
const INTERRUPTED: u8 = 130;

fn failed(error: &anyhow::Error) -> Failure {
    Failure::new("internal", format!("the demo could not go on: {error:#}"))
}

/// Everything from the first file to the last; `None` when the user ended it.
fn run(options: &Demo, context: &Context, stop: &AtomicBool) -> anyhow::Result<Option<Findings>> {
    let mut home = Home::new(PROVIDER)?;
    home.start_daemon()?;
    let keys: Vec<(String, u64)> =
        (0..options.accounts).map(|number| (format!("sim-key-{number:02}"), QUOTAS[number % QUOTAS.len()])).collect();
    for (number, (key, _)) in keys.iter().enumerate() {
        home.client()?.add_account(account(number, key))?;
    }
    // the first window begins with the agents
    let upstream = Upstream::new(keys.iter().cloned(), WINDOW);
    let address = upstream.serve_in_background()?;
    let end = Instant::now() + Duration::from_secs(options.seconds);
    home.start_agents(options.agents, &address.to_string(), end)?;
    let mut findings = Findings::new(options.agents, options.accounts, Duration::from_secs(options.seconds));
    let mut progress = Progress::new(context);
    let plan = accidents(options.seconds, options.agents);
    let mut done = 0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if stop.load(Ordering::Relaxed) {
            progress.end();
            return Ok(None);
        }
        let past = Duration::from_secs(options.seconds).saturating_sub(left);
        if let Some((at, accident)) = plan.get(done)
            && past >= *at
            && upstream.time_of_window() >= ACCIDENT
        {
            match accident {
                // only while somebody waits for the account, which still has something to give
                Accident::Agent => {
                    if let Some(told) = home.kill_an_agent(&upstream.states())? {
                        done += 1;
                        progress.note(&told.story);
                        findings.agent_killed(told.free_again_after);
                    }
                }
                Accident::Daemon => {
                    done += 1;
                    let told = home.kill_the_daemon()?;
                    progress.note(&told.story);
                    findings.daemon_killed(told.served_again_after, told.held, told.resumed);
                }
            }
        }
        let states = upstream.states();
        let accounts = home.client()?.accounts(ListAccountsParams::default())?;
        let waiting = home.client()?.status()?.queue.len();
        findings.look(&states, &accounts, waiting, upstream.time_of_window());
        progress.show(&states, &accounts, waiting, left);
        std::thread::sleep(LOOK.min(left));
    }
    progress.end();
    let tallies = home.finish_agents();
    findings.close(&upstream.states(), &tallies, WINDOW);
    Ok(Some(findings))
}

/// What happens on purpose, and when; a short demo has fewer accidents.
#[derive(Clone, Copy)]
enum Accident {
    Agent,
    Daemon,
}

fn accidents(seconds: u64, agents: usize) -> Vec<(Duration, Accident)> {
    let whole = Duration::from_secs(seconds);
    let mut plan = Vec::new();
    if agents > 1 {
        plan.push((whole / 6, Accident::Agent));
    }
    if seconds >= 10 {
        plan.push((whole * 2 / 3, Accident::Daemon));
    }
    plan
}

fn account(number: usize, key: &str) -> AddAccountParams {
    AddAccountParams {
        provider: PROVIDER.to_owned(),
        kind: CredentialKind::ApiKey,
        secret: SecretText(key.to_owned().into()),
        refresh_token: None,
        expires_at: None,
        label: Some(format!("account-{}", number + 1)),
        email: None,
        tier: None,
        max_leases: None,
        priority: None,
        allowed_agents: None,
        project_id: None,
        account_id: None,
    }
}
