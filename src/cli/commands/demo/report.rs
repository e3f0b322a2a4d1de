//! The result of the demo, and the table at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::agent::TURN;
use super::home::{AgentKilled, AgentsEnded, DaemonKilled};
use super::upstream::{DemoKey, DemoUpstream};
use crate::cli::ui::{Output, format::count};
use crate::protocol::AccountInfo;

/// After a restart the daemon grants nothing for a while, so that agents can resume their leases.
const GRACE: Duration = Duration::from_millis(2500);
/// `leases.grace` of the daemon.
const LEASES_GRACE: Duration = Duration::from_secs(2);
/// A limit that was reported late, on a busy machine, also ends late: the start of a window is not judged.
const REPORTED_LATE: Duration = Duration::from_millis(250);
/// Looks at the accounts come every 20 ms; one that comes so long after the one before is late.
const LATE: Duration = Duration::from_millis(100);

/// The result of the demo; every number was counted, most of them by the simulated provider.
#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
pub(crate) struct DemoResult {
    agents: usize,
    accounts: usize,
    seconds: f64,
    /// Requests the provider served.
    requests: u64,
    /// Requests it refused because a key's quota was used up.
    limits_met: u64,
    /// Answers 429 and 5xx that an agent got; the gateway absorbed the other limits by a move or a wait.
    limits_seen_by_agents: u64,
    /// Limits after which the request came again at once, on another account.
    limits_moved_on: u64,
    /// Limits after which no account was free, and the request came again later on another account.
    limits_moved_later: u64,
    /// Limits after which no account was free, and the request came again on the same account after its reset.
    limits_came_back: u64,
    /// Calls and requests that agents made again because the connection broke when the daemon was killed.
    reconnects: u64,
    /// Agents that ended with an error, and which.
    failures: Vec<String>,
    /// Time in which an agent waited while an account with quota left was idle: limits that another account could have
    /// absorbed.
    idle_while_waited_ms: u64,
    /// The most agents that used one key at the same time.
    most_agents_on_one_key: usize,
    /// Accounts that two agents used at the same time.
    shared_accounts: usize,
    /// Requests that all windows of all keys could have served.
    quota_offered: u64,
    /// The share of them that was used.
    quota_used: f64,
    /// From the kill of an agent until its account was leased again.
    pub(super) agent_killed_ms: Option<f64>,
    /// From the kill of the daemon until it served again.
    pub(super) daemon_killed_ms: Option<f64>,
    /// Leases held at that moment, and how many of them the next daemon kept.
    leases_held: Option<usize>,
    leases_kept: Option<usize>,
    /// What each account served, and the limits at it, in the order of the accounts.
    by_account: Vec<AccountTally>,
    #[serde(skip)]
    idle_since: Option<Instant>,
    #[serde(skip)]
    grace_until: Option<Instant>,
}

/// What the provider counted for one account.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct AccountTally {
    /// Its label.
    account: String,
    /// Requests served.
    served: u64,
    /// Requests refused because its quota was used up.
    limits: u64,
    /// The most agents that used it at the same time.
    most_agents: usize,
}

impl DemoResult {
    pub(super) fn new(agents: usize, accounts: usize, time: Duration) -> Self {
        Self { agents, accounts, seconds: time.as_secs_f64(), ..Self::default() }
    }

    pub(super) fn agent_killed(&mut self, killed: &AgentKilled) {
        self.agent_killed_ms = killed.free_again_after.map(millis);
    }

    pub(super) fn daemon_killed(&mut self, killed: &DaemonKilled) {
        self.daemon_killed_ms = Some(millis(killed.served_again_after));
        (self.leases_held, self.leases_kept) = (Some(killed.held), Some(killed.kept));
        self.grace_until = Some(Instant::now() + GRACE);
        self.idle_since = None;
    }

    /// How long the daemon still grants no new lease after it was killed.
    pub(super) fn grace_left(&self) -> Option<Duration> {
        self.grace_until?.checked_duration_since(Instant::now() + (GRACE - LEASES_GRACE))
    }

    /// Counts the time in which an agent waits while an account is idle; it counts if observed twice in a row, because
    /// the two are not read at the same moment. After a look that comes late, as on a busy machine, that is not known.
    pub(super) fn observe(
        &mut self,
        states: &BTreeMap<String, DemoKey>,
        accounts: &[AccountInfo],
        waiting: usize,
        of_window: Duration,
    ) {
        let grace = self.grace_until.is_some_and(|until| Instant::now() < until) || of_window < REPORTED_LATE;
        let is_idle = |(account, key): (&AccountInfo, &DemoKey)| {
            account.leases == 0 && key.agents.is_empty() && key.used < key.quota
        };
        let idle = accounts.iter().zip(states.values()).any(is_idle);
        if waiting == 0 || !idle || grace {
            self.idle_since = None;
            return;
        }
        let now = Instant::now();
        if let Some(before) = self.idle_since.replace(now).filter(|before| now - *before < LATE) {
            self.idle_while_waited_ms += u64::try_from((now - before).as_millis()).unwrap_or_default();
        }
    }

    /// Adds the final counts.
    pub(super) fn finish(&mut self, upstream: &DemoUpstream, ended: &AgentsEnded, window: Duration) {
        let (states, tallies) = (upstream.states(), &ended.tallies);
        self.requests = states.values().map(|key| key.served).sum();
        self.limits_met = states.values().map(|key| key.refused).sum();
        self.most_agents_on_one_key = states.values().map(|key| key.most_agents).max().unwrap_or_default();
        self.shared_accounts = states.values().filter(|key| key.most_agents > 1).count();
        self.limits_seen_by_agents = tallies.iter().map(|tally| tally.limits).sum();
        self.reconnects = tallies.iter().map(|tally| tally.reconnects).sum();
        self.failures.clone_from(&ended.failures);
        let tally = |(number, key): (usize, &DemoKey)| AccountTally {
            account: format!("account-{}", number + 1),
            served: key.served,
            limits: key.refused,
            most_agents: key.most_agents,
        };
        self.by_account = states.values().enumerate().map(tally).collect();
        let continued = upstream.continued();
        self.limits_moved_on = continued.moved;
        self.limits_moved_later = continued.moved_later;
        self.limits_came_back = continued.same_key;
        let a_window: u64 = states.values().map(|key| key.quota).sum();
        let windows = (self.seconds / window.as_secs_f64()).ceil();
        self.quota_offered = (a_window as f64 * windows) as u64;
        self.quota_used = self.requests as f64 / self.quota_offered.max(1) as f64;
    }

    /// Limits after which the demo ended before an account was free.
    fn ended_first(&self) -> u64 {
        let continued = self.limits_moved_on + self.limits_moved_later + self.limits_came_back;
        self.limits_met.saturating_sub(continued)
    }

    /// The first guarantee that was violated.
    pub(super) fn violation(&self) -> Option<String> {
        if self.most_agents_on_one_key > 1 {
            return Some(format!("{} agents used one key at the same time", self.most_agents_on_one_key));
        }
        if self.idle_while_waited_ms > 0 {
            return Some(format!("agents waited {} ms while an account was idle", self.idle_while_waited_ms));
        }
        if let Some(failure) = self.failures.first() {
            return Some(format!("an agent ended with an error: {failure}"));
        }
        (self.requests == 0).then(|| "no request was served".to_owned())
    }
}

/// The result for people: the four numbers that matter, the accounts, and the rest; with five accounts it fits 24 lines.
pub(super) fn text(result: &DemoResult, output: &Output) -> String {
    let f = result;
    let quota = format!("{:.1} % of {} requests", 100.0 * f.quota_used, f.quota_offered);
    let mut text = rows(&[
        ("limits at the provider", f.limits_met.to_string()),
        ("limits seen by an agent", f.limits_seen_by_agents.to_string()),
        ("accounts that agents shared", f.shared_accounts.to_string()),
        ("share of the pooled quota used", quota),
    ]);
    text += &output.prose(&format!(
        "\n{} sent {} through the gateway, {TURN} on each lease.\n",
        count(f.agents, "agent"),
        count(usize::try_from(f.requests).unwrap_or(usize::MAX), "request"),
    ));
    if let (Some(held), Some(kept)) = (f.leases_held, f.leases_kept) {
        text += &output.prose(&format!(
            "For 2 s after it was killed, the daemon grants no new lease: in this grace the agents go on with theirs \
             ({kept} of {held} were kept), so that no account is used twice.\n"
        ));
    }
    text += &format!("\n{:<12} {:>6} {:>6}  {}\n", "ACCOUNT", "SERVED", "LIMITS", "AGENTS AT ONCE");
    for one in &f.by_account {
        text += &format!("{:<12} {:>6} {:>6}  {:>14}\n", one.account, one.served, one.limits, one.most_agents);
    }
    let moves = format!("{} at once, {} when one was free", f.limits_moved_on, f.limits_moved_later);
    let stays = format!("{} until its reset, {} until the end", f.limits_came_back, f.ended_first());
    let mut rest = vec![
        ("limits: moved to another account", moves),
        ("limits: stayed on the account", stays),
        ("agents waited while an account was idle", format!("{} ms", f.idle_while_waited_ms)),
    ];
    if let Some(after) = f.agent_killed_ms {
        rest.push(("agent killed (-9): account leased after", format!("{after:.1} ms")));
    }
    if let Some(after) = f.daemon_killed_ms {
        rest.push(("daemon killed (-9): served again after", format!("{after:.1} ms")));
        rest.push(("calls and requests made again after that", f.reconnects.to_string()));
    }
    text.push('\n');
    text + &rows(&rest)
}

fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default();
    rows.iter().map(|(what, value)| format!("{what:width$}  {value}\n")).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
