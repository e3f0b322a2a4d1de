//! What one sees while the demo runs: on a terminal a few lines drawn again and again, else a line a second.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::protocol::AccountInfo;

use super::upstream::KeyState;
use crate::cli::context::Context;

/// How often a terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often anything else gets a line.
const LINE: Duration = Duration::from_secs(1);
/// Letters of a bar.
const BAR: usize = 24;

/// Draws on standard error.
pub(super) struct Progress {
    live: bool,
    silent: bool,
    drawn: usize,
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn new(context: &Context) -> Self {
        let live = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { live, silent: context.output.json && !live, drawn: 0, last: None }
    }

    /// Shows how things stand, if it is time to.
    pub(super) fn show(
        &mut self,
        states: &BTreeMap<String, KeyState>,
        accounts: &[AccountInfo],
        waiting: usize,
        left: Duration,
    ) {
        let pause = if self.live { FRAME } else { LINE };
        if self.silent || self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let served: u64 = states.values().map(|key| key.served).sum();
        let limits: u64 = states.values().map(|key| key.refused).sum();
        let summary =
            format!("{served} requests served · {limits} limits met · {waiting} waiting · {} s left", left.as_secs());
        if !self.live {
            return print(&format!("{summary}\n"));
        }
        let mut lines = Vec::new();
        for (account, key) in accounts.iter().zip(states.values()) {
            let name = account.label.as_deref().unwrap_or(&account.id);
            let filled = usize::try_from(key.used * BAR as u64 / key.quota.max(1)).unwrap_or(BAR).min(BAR);
            let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
            let who = match (account.state.as_str(), key.agents.first()) {
                (_, Some(agent)) => agent.clone(),
                ("limited", None) => "spent, until its window ends".to_owned(),
                _ if account.leases > 0 => "leased".to_owned(),
                _ => "free".to_owned(),
            };
            lines.push(format!("  {name:<11} {bar} {:>3}/{:<3} {who}", key.used, key.quota));
        }
        lines.push(format!("  {summary}"));
        self.redraw(&lines);
    }

    /// Leaves a line above what is drawn.
    pub(super) fn note(&mut self, text: &str) {
        if !self.silent {
            self.clear();
            print(&format!("  {text}\n"));
        }
    }

    /// Takes away what is drawn.
    pub(super) fn end(&mut self) {
        self.clear();
    }

    fn redraw(&mut self, lines: &[String]) {
        self.clear();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        print(&text);
        self.drawn = lines.len();
    }

    fn clear(&mut self) {
        if self.drawn > 0 {
            print(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

fn print(text: &str) {
    // nobody reads any more: no reason to end
    let _unread = stderr().lock().write_all(text.as_bytes());
}
