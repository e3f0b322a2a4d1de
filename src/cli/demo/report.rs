//! What the demo has found, and the table at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::protocol::AccountInfo;

use super::agent::Tally;
use super::upstream::KeyState;

/// After the daemon was killed, new grants wait for holders to come back.
const GRACE: Duration = Duration::from_millis(2500);
/// A limit that was reported late, on a busy machine, ends as late: a window's first moments are not judged.
const REPORTED_LATE: Duration = Duration::from_millis(250);

/// What was found; every number was counted, most of them by the simulated provider.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Findings {
    agents: usize,
    accounts: usize,
    seconds: f64,
    /// Requests the provider served.
    requests: u64,
    /// Requests it refused because a key's quota was spent.
    limits_met: u64,
    /// Of those: the agent went on with another account at once.
    limits_moved_on: u64,
    /// Of those: every account was held or spent; its next lease was another account's.
    limits_moved_later: u64,
    /// Of those: its next lease was the same account's, whose window came first.
    limits_came_back: u64,
    /// Time in which some agent waited while an account lay idle with quota left: limits another account could have
    /// absorbed.
    idle_while_waited_ms: u64,
    /// Most agents that ever used one key at one time.
    most_agents_on_one_key: usize,
    /// What all windows of all keys would have served.
    quota_offered: u64,
    /// Which share of it was used.
    quota_used: f64,
    /// From the kill of an agent until its account was leased again.
    pub(super) agent_killed_ms: Option<f64>,
    /// From the kill of the daemon until it served again.
    pub(super) daemon_killed_ms: Option<f64>,
    /// Leases held at that moment, and how many of them their holders took up again (others' turns had ended).
    leases_held: Option<usize>,
    leases_resumed: Option<usize>,
    #[serde(skip)]
    idle_since: Option<Instant>,
    #[serde(skip)]
    grace_until: Option<Instant>,
}

impl Findings {
    pub(super) fn new(agents: usize, accounts: usize, time: Duration) -> Self {
        Self {
            agents,
            accounts,
            seconds: time.as_secs_f64(),
            requests: 0,
            limits_met: 0,
            limits_moved_on: 0,
            limits_moved_later: 0,
            limits_came_back: 0,
            idle_while_waited_ms: 0,
            most_agents_on_one_key: 0,
            quota_offered: 0,
            quota_used: 0.0,
            agent_killed_ms: None,
            daemon_killed_ms: None,
            leases_held: None,
            leases_resumed: None,
            idle_since: None,
            grace_until: None,
        }
    }

    pub(super) fn agent_killed(&mut self, free_again_after: Option<Duration>) {
        self.agent_killed_ms = free_again_after.map(millis);
    }

    pub(super) fn daemon_killed(&mut self, served_again_after: Duration, held: usize, resumed: usize) {
        self.daemon_killed_ms = Some(millis(served_again_after));
        self.leases_held = Some(held);
        self.leases_resumed = Some(resumed);
        self.grace_until = Some(Instant::now() + GRACE);
        self.idle_since = None;
    }

    /// Looks whether somebody waits beside an idle account; seen twice in a row it counts, for the two sides are not
    /// asked in the same instant.
    pub(super) fn look(
        &mut self,
        states: &BTreeMap<String, KeyState>,
        accounts: &[AccountInfo],
        waiting: usize,
        of_window: Duration,
    ) {
        let grace = self.grace_until.is_some_and(|until| Instant::now() < until) || of_window < REPORTED_LATE;
        let is_idle = |(account, key): (&AccountInfo, &KeyState)| {
            account.leases == 0 && key.agents.is_empty() && key.used < key.quota
        };
        let idle = accounts.iter().zip(states.values()).any(is_idle);
        if waiting == 0 || !idle || grace {
            self.idle_since = None;
            return;
        }
        let now = Instant::now();
        if let Some(before) = self.idle_since.replace(now) {
            self.idle_while_waited_ms += u64::try_from((now - before).as_millis()).unwrap_or_default();
        }
    }

    /// Takes the last numbers.
    pub(super) fn close(&mut self, states: &BTreeMap<String, KeyState>, tallies: &[Tally], window: Duration) {
        self.requests = states.values().map(|key| key.served).sum();
        self.limits_met = states.values().map(|key| key.refused).sum();
        self.most_agents_on_one_key = states.values().map(|key| key.most_agents).max().unwrap_or_default();
        self.limits_moved_on = tallies.iter().map(|tally| tally.switched).sum();
        self.limits_moved_later = tallies.iter().map(|tally| tally.moved_later).sum();
        self.limits_came_back = tallies.iter().map(|tally| tally.came_back).sum();
        let a_window: u64 = states.values().map(|key| key.quota).sum();
        let windows = (self.seconds / window.as_secs_f64()).ceil();
        self.quota_offered = (a_window as f64 * windows) as u64;
        self.quota_used = self.requests as f64 / self.quota_offered.max(1) as f64;
    }

    /// Limits after which the demo was over before an account came free.
    fn ended_first(&self) -> u64 {
        let went_on = self.limits_moved_on + self.limits_moved_later + self.limits_came_back;
        self.limits_met.saturating_sub(went_on)
    }

    /// The first promise that was not kept.
    pub(super) fn broken(&self) -> Option<String> {
        if self.most_agents_on_one_key > 1 {
            return Some(format!("{} agents used one key at one time", self.most_agents_on_one_key));
        }
        if self.idle_while_waited_ms > 0 {
            return Some(format!("agents waited {} ms beside an idle account", self.idle_while_waited_ms));
        }
        (self.requests == 0).then(|| "no request was served".to_owned())
    }
}

/// The table at the end.
pub(super) fn table(findings: &Findings) -> String {
    let f = findings;
    let mut rows = vec![
        ("agents · accounts · time".to_owned(), format!("{} · {} · {:.0} s", f.agents, f.accounts, f.seconds)),
        ("requests served".to_owned(), f.requests.to_string()),
        ("share of the pooled quota used".to_owned(), format!("{:.1} % of {}", 100.0 * f.quota_used, f.quota_offered)),
        ("most agents on one account at a time".to_owned(), f.most_agents_on_one_key.to_string()),
        ("limits met at the upstream".to_owned(), f.limits_met.to_string()),
        ("  agent went on with another account at once".to_owned(), f.limits_moved_on.to_string()),
        ("  with another account, when one was free".to_owned(), f.limits_moved_later.to_string()),
        ("  with the same one, its window came first".to_owned(), f.limits_came_back.to_string()),
        ("  the demo ended before one was".to_owned(), f.ended_first().to_string()),
        ("limits another account could have absorbed¹".to_owned(), format!("{} ms", f.idle_while_waited_ms)),
    ];
    if let Some(after) = f.agent_killed_ms {
        rows.push(("agent killed (-9): its account leased again after".to_owned(), format!("{after:.1} ms")));
    }
    if let (Some(after), Some(held), Some(resumed)) = (f.daemon_killed_ms, f.leases_held, f.leases_resumed) {
        rows.push(("daemon killed (-9): serves again after".to_owned(), format!("{after:.1} ms")));
        rows.push(("  leases taken up again by their holders²".to_owned(), format!("{resumed} of {held}")));
    }
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default();
    let mut text = String::from("\n");
    for (what, value) in rows {
        let gap = " ".repeat(width - what.chars().count());
        text += &format!("  {what}{gap}  {value}\n");
    }
    text += "\n  ¹ time in which an agent waited while an account lay idle with quota left\n    (a window's first 250 ms aside: a limit ends as late as it was reported)\n";
    if f.daemon_killed_ms.is_some() {
        text += "  ² the others' turns ended in between; new grants waited for at most 2 s\n";
    }
    text
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
