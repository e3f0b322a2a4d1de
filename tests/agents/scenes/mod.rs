//! Scenes with several real agents and a trouble of their provider. Each prints a table of what was measured.
//!
//! `LESSOR_SCENE_AGENTS=N` sets the number of agents of every scene, `LESSOR_SCENE_FULL=1` runs each with the number that
//! its figures are promised for. Without either, a scene runs with a few.

mod killed;
mod minute;
mod mixed;
mod outage;
mod spent;

use std::io::Write;
use std::process::Child;
use std::time::{Duration, Instant};

use super::fleet::{Fleet, Ran};

/// An agent, and how it reaches its provider.
#[derive(Clone, Copy, Debug)]
pub struct AgentKind {
    pub name: &'static str,
    pub provider: &'static str,
    pub is_login: bool,
}

pub const CLAUDE: AgentKind = AgentKind { name: "claude", provider: "anthropic", is_login: false };
pub const CLAUDE_LOGIN: AgentKind = AgentKind { name: "claude", provider: "anthropic", is_login: true };
pub const CODEX: AgentKind = AgentKind { name: "codex", provider: "openai", is_login: false };
pub const CODEX_LOGIN: AgentKind = AgentKind { name: "codex", provider: "openai", is_login: true };
pub const GEMINI: AgentKind = AgentKind { name: "gemini", provider: "google", is_login: false };
pub const GEMINI_LOGIN: AgentKind = AgentKind { name: "gemini", provider: "google", is_login: true };
pub const OPENCODE: AgentKind = AgentKind { name: "opencode", provider: "anthropic", is_login: false };

impl AgentKind {
    /// Starts `lessor run` with this agent and a prompt of so many tool calls.
    pub fn start(self, fleet: &Fleet, run: u64, steps: u64, more: &[&str]) -> (u64, Child) {
        let prompt = fleet.prompt(run, steps);
        let command: Vec<&str> = match self.name {
            "codex" => {
                vec![
                    "codex",
                    "exec",
                    "--skip-git-repo-check",
                    "-m",
                    "gpt-5.1-codex",
                    "-s",
                    "danger-full-access",
                    &prompt,
                ]
            }
            "gemini" => vec!["gemini", "--skip-trust", "-m", "gemini-2.5-pro", "-p", &prompt],
            "opencode" => vec!["opencode", "run", "-m", "anthropic/claude-sonnet-4-5", &prompt],
            _ => vec!["claude", "-p", &prompt],
        };
        let arguments = [&["-p", self.provider], more].concat();
        (run, fleet.start(&format!("user-{run}"), &arguments, &command))
    }
}

/// The number of agents in a scene.
pub fn count(few: u64, full: u64) -> u64 {
    let number = std::env::var("LESSOR_SCENE_AGENTS").ok().and_then(|text| text.parse().ok());
    number.unwrap_or(if is_full() { full } else { few })
}

pub fn is_full() -> bool {
    std::env::var_os("LESSOR_SCENE_FULL").is_some()
}

/// Prints a table past the test harness, which shows the output of failed tests only.
pub fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> =
            cells.iter().enumerate().map(|(at, cell)| format!("{cell:w$}", w = width(at))).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    let mut text = format!("\n{title}\n{}\n", line(head.to_vec()));
    for row in rows {
        text += &format!("{}\n", line(row.iter().map(String::as_str).collect()));
    }
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

/// Waits until the trouble begins.
pub fn trouble(fleet: &Fleet) -> Instant {
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        if let Some(began) = fleet.upstream.trouble_began() {
            return began;
        }
        assert!(Instant::now() < deadline, "no agent sends a request: {:#?}", fleet.upstream.seen());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// From one time to another, in seconds; negative if the other way round.
pub fn seconds(from: Instant, to: Instant) -> String {
    match to.checked_duration_since(from) {
        Some(after) => format!("{:.1}", after.as_secs_f64()),
        None => format!("-{:.1}", from.duration_since(to).as_secs_f64()),
    }
}

/// How a run ended, in one word.
pub fn outcome(ran: &Ran) -> String {
    let word = if ran.ok {
        "finished"
    } else if ran.hung {
        "HUNG"
    } else {
        "stopped"
    };
    word.to_owned()
}
