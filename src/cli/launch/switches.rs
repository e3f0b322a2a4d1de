//! What `run` prints while a program runs that does not draw a full screen: one line for each change of its account, and
//! for each wait for one.

// on Windows, `run` waits for its command itself, and prints no switches yet
#![cfg_attr(windows, allow(dead_code))]

use std::cell::Cell;
use std::ffi::OsString;

use crate::cli::ui::{clean, format};
use crate::protocol::{AccountLabel, EventInfo};

/// The events that are printed.
pub(super) const PRINTED: [&str; 2] = [MOVED, WAITING];
const MOVED: &str = "lease.moved";
const WAITING: &str = "request.waiting";
/// A wait is printed again after this time, in ms: agents send their requests again meanwhile.
const WAIT_AGAIN: u64 = 60_000;

/// Agents, and the arguments with which they print their answer and end, instead of drawing a full screen.
const PRINTING: [(&str, &[&str]); 5] = [
    ("claude", &["-p", "--print"]),
    ("codex", &["exec", "e"]),
    ("gemini", &["-p", "--prompt"]),
    ("opencode", &["run"]),
    ("agy", &["-p", "--print", "--prompt"]),
];

/// Whether a command is an agent that prints its answer and ends. Other programs may draw a full screen, which lines
/// from elsewhere would spoil.
pub(crate) fn is_printing(agent: Option<&str>, arguments: &[OsString]) -> bool {
    let Some((_, marks)) = PRINTING.iter().find(|(name, _)| Some(*name) == agent) else { return false };
    let own = arguments.iter().map(|argument| argument.to_string_lossy()).take_while(|argument| argument != "--");
    let is_mark = |argument: &str| marks.contains(&argument.split('=').next().unwrap_or(argument));
    own.into_iter().any(|argument| is_mark(&argument))
}

/// The line for a change of the account of a lease that this process holds. The moves of a sub-agent do not count.
fn line(event: &EventInfo, pid: u32, now: u64) -> Option<String> {
    let is_held = event.holder.as_ref().is_some_and(|holder| holder.pid == pid);
    let is_its = event.kind == MOVED && is_held && event.subagent.is_none();
    let (Some(from), Some(to)) = (event.from.as_ref().filter(|_| is_its), &event.account) else { return None };
    let (from, to) = (name(from), name(to));
    let why = match (event.reason.as_deref(), event.until) {
        (Some("requested"), _) => return Some(format!("lessor: moved from {from} to {to}")),
        // each request takes the next account: that is no news
        (Some("turn"), _) => return None,
        (_, Some(until)) => format!("{from} limited {}", format::until_clock(now, until)),
        (Some("overage"), None) => format!("the plan of {from} is used up"),
        (Some(reason), None) => format!("{from}: {}", clean(&format::spaced(reason))),
        (None, None) => from,
    };
    Some(format!("lessor: {why}: now on {to}"))
}

/// The line for a request of this process that waits for an account.
fn waiting_line(event: &EventInfo, pid: u32, now: u64) -> Option<String> {
    let is_its = event.kind == WAITING && event.holder.as_ref().is_some_and(|holder| holder.pid == pid);
    let first_free = event.until.map(|until| format!(", first free {}", format::clock_and_span(now, until)));
    is_its.then(|| format!("lessor: waiting for an account{}", first_free.unwrap_or_default()))
}

/// The lines of a process: a wait is printed once, until the time changes at which it ends, or for a minute.
#[derive(Debug)]
pub(super) struct SwitchLines {
    pid: u32,
    /// When the last wait was printed, and until when it was.
    waited: Cell<Option<(u64, Option<u64>)>>,
}

impl SwitchLines {
    pub(super) fn of(pid: u32) -> Self {
        Self { pid, waited: Cell::new(None) }
    }

    /// The line for an event, if it is to be printed.
    pub(super) fn line(&self, event: &EventInfo, now: u64) -> Option<String> {
        if let Some(line) = line(event, self.pid, now) {
            self.waited.set(None);
            return Some(line);
        }
        let line = waiting_line(event, self.pid, now)?;
        let is_known = |(at, until): (u64, Option<u64>)| until == event.until && now.saturating_sub(at) < WAIT_AGAIN;
        if self.waited.get().is_some_and(is_known) {
            return None;
        }
        self.waited.set(Some((now, event.until)));
        Some(line)
    }
}

fn name(account: &AccountLabel) -> String {
    clean(account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::HolderInfo;

    #[test]
    fn only_agents_that_print_their_answer_get_lines() {
        for (line, expected) in [
            ("claude -p hi", true),
            ("claude --model x --print hi", true),
            ("claude", false),
            ("claude -- -p", false),
            ("claude hi", false),
            ("codex exec fix", true),
            ("codex -m gpt-5 exec fix", true),
            ("codex", false),
            ("gemini --prompt=hi", true),
            ("gemini", false),
            ("opencode run hi", true),
            ("opencode", false),
            ("vim -p a b", false),
        ] {
            let mut words = line.split(' ').map(OsString::from);
            let agent = words.next().unwrap();
            let arguments: Vec<OsString> = words.collect();
            assert_eq!(is_printing(agent.to_str(), &arguments), expected, "{line}");
        }
        assert!(!is_printing(None, &["-p".into()]));
    }

    #[test]
    fn a_line_names_both_accounts_and_the_reason() {
        let account = |label: &str| Some(AccountLabel { label: Some(label.to_owned()), ..AccountLabel::default() });
        let event = |reason: &str, until| EventInfo {
            kind: MOVED.to_owned(),
            from: account("work"),
            account: account("ho\u{1b}me"),
            reason: Some(reason.to_owned()),
            until,
            holder: Some(HolderInfo { pid: 7, program: None }),
            ..EventInfo::default()
        };
        let text = |reason, until| line(&event(reason, until), 7, 1_000_000);
        let limited = text("quota_exhausted", Some(1_076_000)).unwrap();
        assert!(limited.starts_with("lessor: work limited until "), "{limited}");
        assert!(limited.ends_with(": now on ho\\u{1b}me"), "{limited}");
        assert_eq!(text("requested", None).unwrap(), "lessor: moved from work to ho\\u{1b}me");
        assert_eq!(text("server_error", None).unwrap(), "lessor: work: server error: now on ho\\u{1b}me");
        assert_eq!(text("turn", None), None);
        assert_eq!(line(&event("requested", None), 8, 0), None, "of another process");
        let of_subagent = EventInfo { subagent: Some("x".to_owned()), ..event("quota_exhausted", None) };
        assert_eq!(line(&of_subagent, 7, 0), None, "of a sub-agent");
    }

    #[test]
    fn a_wait_is_printed_once() {
        let lines = SwitchLines::of(7);
        let waits = |pid, until| EventInfo {
            kind: WAITING.to_owned(),
            until,
            holder: Some(HolderInfo { pid, program: None }),
            ..EventInfo::default()
        };
        let first = lines.line(&waits(7, Some(1_076_000)), 1_000_000).unwrap();
        assert!(first.starts_with("lessor: waiting for an account, first free "), "{first}");
        assert!(first.ends_with(", in 76 s"), "{first}");
        assert_eq!(lines.line(&waits(7, Some(1_076_000)), 1_030_000), None, "the agent has sent it again");
        assert_eq!(lines.line(&waits(8, None), 1_030_000), None, "of another process");
        assert_eq!(lines.line(&waits(7, None), 1_030_000).unwrap(), "lessor: waiting for an account");
        assert!(lines.line(&waits(7, None), 1_090_000).is_some(), "after a minute");
    }
}
