//! The progress of the demo: on a terminal, a few lines that are redrawn; else one line per second.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::upstream::DemoKey;
use crate::cli::{context::Context, ui::Output};
use crate::protocol::AccountInfo;

const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);
const BAR: usize = 24;

pub(super) struct DemoProgress {
    output: Output,
    live: bool,
    silent: bool,
    drawn: usize,
    last: Option<Instant>,
}

impl DemoProgress {
    pub(super) fn new(context: &Context) -> Self {
        let live = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { output: context.output, live, silent: context.output.json && !live, drawn: 0, last: None }
    }

    pub(super) fn show(
        &mut self,
        states: &BTreeMap<String, DemoKey>,
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
            format!("{served} requests served · {limits} limits hit · {waiting} waiting · {} s left", left.as_secs());
        if !self.live {
            return self.output.note(&summary);
        }
        let mut lines = Vec::new();
        for (account, key) in accounts.iter().zip(states.values()) {
            let name = account.label.as_deref().unwrap_or(&account.id);
            let filled = usize::try_from(key.used * BAR as u64 / key.quota.max(1)).unwrap_or(BAR).min(BAR);
            let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
            let user = match (account.state.as_str(), key.agents.keys().next()) {
                (_, Some(agent)) => agent.clone(),
                ("limited", None) => "limited until its reset".to_owned(),
                _ if account.leases > 0 => "leased".to_owned(),
                _ => "free".to_owned(),
            };
            lines.push(format!("  {name:<11} {bar} {:>3}/{:<3} {user}", key.used, key.quota));
        }
        lines.push(format!("  {summary}"));
        self.clear();
        // a wrapped line would be counted wrongly when it is cleared
        let text: String = lines.iter().map(|line| self.output.cut_note(line) + "\n").collect();
        print(&text);
        self.drawn = lines.len();
    }

    /// Prints a line above the redrawn lines.
    pub(super) fn note(&mut self, text: &str) {
        if !self.silent {
            self.clear();
            self.output.note(&format!("  {text}"));
        }
    }

    /// Removes the redrawn lines.
    pub(super) fn clear(&mut self) {
        if self.drawn > 0 {
            print(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

fn print(text: &str) {
    // a closed standard error is not an error
    let _unread = stderr().lock().write_all(text.as_bytes());
}
