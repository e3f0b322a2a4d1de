//! The picture of the running demo: a table that is redrawn on a terminal; elsewhere one line per second.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::upstream::{DemoKey, ProviderEvent};
use crate::cli::{context::Context, ui::Output, ui::Tint, ui::cut, ui::format::count};
use crate::protocol::AccountInfo;

const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);
const BAR: usize = 24;
/// Events that are kept; a terminal shows the last of them.
const EVENTS: usize = 100;
/// The size of a terminal that does not tell it.
const USUAL_SIZE: (usize, usize) = (80, 24);
/// Lines without the accounts and events: title, header, queue, sums, and the blank ones between.
const OTHER_LINES: usize = 7;
/// At least so many events are shown, if not all accounts fit.
const LEAST_EVENTS: usize = 4;

/// Leaves the terminal as it was, with the cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// An own screen without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// A frame is shown at once, where the terminal can do that.
const BEGIN_FRAME: &str = "\x1b[?2026h\x1b[H";
const END_FRAME: &str = "\x1b[J\x1b[?2026l";

/// The characters of the picture.
#[derive(Clone, Copy, Debug)]
struct Glyphs {
    full: &'static str,
    free: &'static str,
    dot: &'static str,
    arrow: &'static str,
    /// Where text was cut.
    ellipsis: &'static str,
}

const UNICODE: Glyphs = Glyphs { full: "█", free: "░", dot: "·", arrow: "→", ellipsis: "…" };
const ASCII: Glyphs = Glyphs { full: "#", free: ".", dot: "-", arrow: "->", ellipsis: "~" };

/// What one frame shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) states: &'a BTreeMap<String, DemoKey>,
    pub(super) accounts: &'a [DemoAccount],
    pub(super) waiting: usize,
    pub(super) agents: usize,
    pub(super) left: Duration,
    /// Until the provider's next window.
    pub(super) resets_in: Duration,
    /// How long the daemon grants no new lease, because it was killed.
    pub(super) grace: Option<Duration>,
}

/// An account as the daemon shows it.
#[derive(Clone, Debug)]
pub(super) struct DemoAccount {
    pub(super) label: String,
    pub(super) leases: u32,
}

impl DemoAccount {
    pub(super) fn of(account: &AccountInfo) -> Self {
        Self { label: account.label.clone().unwrap_or_else(|| account.id.clone()), leases: account.leases }
    }
}

pub(super) struct DemoPicture {
    output: Output,
    live: bool,
    silent: bool,
    glyphs: Glyphs,
    begun: Instant,
    events: VecDeque<(Tint, String)>,
    size: Option<(usize, usize)>,
    last: Option<Instant>,
}

impl DemoPicture {
    pub(super) fn new(context: &Context) -> Self {
        let live = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            output: context.output,
            live,
            silent: context.output.json && !live,
            glyphs: if shows_unicode() { UNICODE } else { ASCII },
            begun: Instant::now(),
            events: VecDeque::new(),
            size: None,
            last: None,
        }
    }

    pub(super) fn show(&mut self, scene: &Scene<'_>) {
        let pause = if self.live { FRAME } else { LINE };
        if self.silent || self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        if !self.live {
            return self.output.note(&summary(scene, "·"));
        }
        let size = terminal_size::terminal_size_of(stderr())
            .map_or(USUAL_SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let mut text = String::new();
        match self.size.replace(size) {
            None => text += ENTER,
            // what the terminal has made of the lines from before
            Some(before) if before != size => text += "\x1b[2J",
            Some(_) => {}
        }
        text += BEGIN_FRAME;
        let lines: Vec<String> = self.frame(scene, size).into_iter().map(|line| line + "\x1b[K").collect();
        text += &lines.join("\r\n");
        print(&(text + END_FRAME));
    }

    /// The lines of a frame, none wider and no more of them than the terminal.
    fn frame(&self, scene: &Scene<'_>, (width, height): (usize, usize)) -> Vec<String> {
        let dot = self.glyphs.dot;
        let paint = |tint, text: &str| self.output.tint_note(tint, text);
        let title = format!(
            "lessor demo {dot} {} agents, {} accounts {dot} {} s left",
            scene.agents,
            scene.accounts.len(),
            scene.left.as_secs()
        );
        let mut lines = vec![paint(Tint::Strong, &cut(&title, width)), String::new()];
        let header = format!(
            "{:<11} {:<bar$} {:>6} {:>6} {}",
            "ACCOUNT",
            "QUOTA NOW",
            "SERVED",
            "LIMITS",
            "AGENT",
            bar = bar(width) + 8
        );
        lines.push(paint(Tint::Faint, &cut(&header, width)));
        let room = height.saturating_sub(OTHER_LINES + LEAST_EVENTS).max(1);
        let shown = if scene.accounts.len() > room { room - 1 } else { scene.accounts.len() };
        for (account, key) in scene.accounts.iter().zip(scene.states.values()).take(shown) {
            lines.push(self.account(account, key, scene.resets_in, width));
        }
        if scene.accounts.len() > shown {
            lines.push(cut(&format!("and {} more accounts", scene.accounts.len() - shown), width));
        }
        lines.push(String::new());
        let grace = scene.grace.map(|left| format!(": no new lease for {:.1} s of grace", left.as_secs_f64()));
        let waits = if scene.waiting == 1 { "waits" } else { "wait" };
        let waiting = format!("{} {waits} for an account{}", count(scene.waiting, "agent"), grace.unwrap_or_default());
        lines.push(cut(&waiting, width));
        lines.push(cut(&summary_of_requests(scene, dot), width));
        lines.push(String::new());
        let room = height.saturating_sub(lines.len());
        for (tint, event) in self.events.iter().skip(self.events.len().saturating_sub(room)) {
            lines.push(paint(*tint, &cut(event, width)));
        }
        lines.truncate(height);
        lines.into_iter().map(|line| line.replace('…', self.glyphs.ellipsis)).collect()
    }

    /// The line of one account.
    fn account(&self, account: &DemoAccount, key: &DemoKey, resets_in: Duration, width: usize) -> String {
        let name = cut(&account.label, 11);
        let bar = bar(width);
        let filled = usize::try_from(key.used * bar as u64 / key.quota.max(1)).unwrap_or(bar).min(bar);
        let is_full = key.used >= key.quota;
        let tint = if is_full {
            Tint::Bad
        } else if key.used * 5 >= key.quota * 4 {
            Tint::Warn
        } else {
            Tint::Good
        };
        let (user, user_tint) = match key.agents.keys().next() {
            Some(agent) => (agent.clone(), Tint::Strong),
            None if is_full => (format!("limited for {:.1} s", resets_in.as_secs_f64()), Tint::Bad),
            None if account.leases > 0 => ("leased".to_owned(), Tint::Strong),
            None => ("free".to_owned(), Tint::Faint),
        };
        let used = format!("{}/{}", key.used, key.quota);
        let middle = format!(" {used:>7}  {:>5} {:>6} ", key.served, key.refused);
        let before = 11 + 1 + bar + middle.chars().count();
        if before >= width {
            return cut(&format!("{name:<11} {used:>7} {user}"), width);
        }
        let user = cut(&user, width - before);
        format!(
            "{name:<11} {}{}{middle}{}",
            self.output.tint_note(tint, &self.glyphs.full.repeat(filled)),
            self.output.tint_note(Tint::Faint, &self.glyphs.free.repeat(bar - filled)),
            self.output.tint_note(user_tint, &user)
        )
    }

    /// Adds what the provider has seen.
    pub(super) fn provider_events(&mut self, events: Vec<ProviderEvent>, names: &BTreeMap<String, String>) {
        let arrow = self.glyphs.arrow;
        let name = |key: &str| names.get(key).cloned().unwrap_or_else(|| key.to_owned());
        for event in events {
            let (tint, text) = match event {
                ProviderEvent::Limited { agent, key, wait } => {
                    (Tint::Warn, format!("{}: limit met by {agent}, resets in {:.1} s", name(&key), wait.as_secs_f64()))
                }
                ProviderEvent::Moved { agent, from, to, after } => {
                    let after = after.as_millis();
                    (Tint::Good, format!("{agent}: {} {arrow} {}, {after} ms after the limit", name(&from), name(&to)))
                }
            };
            self.event(tint, &text);
        }
    }

    /// Adds that more agents were started.
    pub(super) fn started(&mut self, agents: usize) {
        let more = if agents == 1 { "1 more agent starts".to_owned() } else { format!("{agents} more agents start") };
        self.event(Tint::Strong, &more);
    }

    /// Adds what the demo itself has done.
    pub(super) fn killed(&mut self, story: &str) {
        self.event(Tint::Bad, story);
        // the next frame shows it at once
        self.last = None;
        if !self.live && !self.silent {
            self.output.note(&format!("  {story}"));
        }
    }

    fn event(&mut self, tint: Tint, text: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        self.events.push_back((tint, format!("{at:>5.1} s  {text}")));
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    fn leave(&mut self) {
        if self.size.take().is_some() {
            print(LEAVE);
        }
    }
}

/// Also after an error.
impl Drop for DemoPicture {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The columns of a bar on a terminal of this width.
fn bar(width: usize) -> usize {
    BAR.min(width.saturating_sub(56))
}

fn summary(scene: &Scene<'_>, dot: &str) -> String {
    format!("{} {dot} {} waiting {dot} {} s left", summary_of_requests(scene, dot), scene.waiting, scene.left.as_secs())
}

fn summary_of_requests(scene: &Scene<'_>, dot: &str) -> String {
    let sum =
        |of: fn(&DemoKey) -> u64| usize::try_from(scene.states.values().map(of).sum::<u64>()).unwrap_or(usize::MAX);
    let (served, limits) = (count(sum(|key| key.served), "request"), count(sum(|key| key.refused), "limit"));
    format!("{served} served {dot} {limits} at the provider")
}

/// Whether the locale has more than ASCII.
fn shows_unicode() -> bool {
    let value =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    cfg!(windows) || value.is_some_and(|value| is_unicode_locale(&value))
}

fn is_unicode_locale(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn print(text: &str) {
    // a closed standard error is not an error
    let _unread = stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    fn picture(glyphs: Glyphs) -> DemoPicture {
        DemoPicture {
            output: Output::plain(80),
            live: true,
            silent: false,
            glyphs,
            begun: Instant::now(),
            events: VecDeque::new(),
            size: None,
            last: None,
        }
    }

    fn key(quota: u64, used: u64, agent: Option<&str>) -> DemoKey {
        let agents = agent.into_iter().map(|agent| (agent.to_owned(), 1)).collect();
        DemoKey { quota, used, served: used, refused: u64::from(used >= quota), agents, ..DemoKey::default() }
    }

    fn frames(picture: &DemoPicture, count: usize, size: (usize, usize)) -> Vec<String> {
        let states: BTreeMap<String, DemoKey> = (0..count)
            .map(|number| match number % 3 {
                0 => (format!("k{number:02}"), key(40, 40, None)),
                1 => (format!("k{number:02}"), key(40, 10, Some("agent-7"))),
                _ => (format!("k{number:02}"), key(40, 0, None)),
            })
            .collect();
        let account = |number| DemoAccount { label: format!("account-{number}"), leases: 0 };
        let accounts: Vec<DemoAccount> = (1..=count).map(account).collect();
        let left = Duration::from_secs(9);
        let resets_in = Duration::from_millis(1_240);
        let scene =
            Scene { states: &states, accounts: &accounts, waiting: 7, agents: 12, left, resets_in, grace: None };
        picture.frame(&scene, size)
    }

    #[test]
    fn the_picture_says_who_uses_which_account_and_what_is_limited() {
        let mut picture = picture(UNICODE);
        picture.killed("killed agent-3 (-9): account-2 was leased again 1.2 ms later");
        let text = frames(&picture, 3, (80, 24)).join("\n");
        for part in [
            "lessor demo · 12 agents, 3 accounts · 9 s left",
            "account-1   ████████████████████████   40/40     40      1 limited for 1.2 s",
            "account-2   ██████░░░░░░░░░░░░░░░░░░   10/40     10      0 agent-7",
            "   0/40      0      0 free",
            "7 agents wait for an account",
            "50 requests served · 1 limit at the provider",
            "killed agent-3 (-9)",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn a_frame_fits_every_terminal() {
        let mut picture = picture(UNICODE);
        for number in 0..200 {
            picture.event(
                Tint::Warn,
                &format!("event {number}, with a long text that is wider than a small terminal {}", "x".repeat(80)),
            );
        }
        for (width, height) in [(80, 24), (20, 5), (40, 10), (200, 50), (57, 12), (1, 1)] {
            for accounts in [1, 5, 32] {
                let lines = frames(&picture, accounts, (width, height));
                assert!(lines.len() <= height, "{} lines of {height}", lines.len());
                assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:#?}");
            }
        }
        let lines = frames(&picture, 32, (80, 24));
        assert!(lines.iter().any(|line| line == "and 20 more accounts"), "{lines:#?}");
        assert!(lines.last().unwrap().contains("event 199"), "the last event is shown: {lines:#?}");
    }

    #[test]
    fn without_unicode_the_picture_is_ascii() {
        let mut picture = picture(ASCII);
        let event =
            ProviderEvent::Moved { agent: "agent-1".into(), from: "a".into(), to: "b".into(), after: Duration::ZERO };
        picture.provider_events(vec![event], &BTreeMap::new());
        picture.killed(&"long ".repeat(40));
        assert!(frames(&picture, 3, (80, 24)).iter().all(|line| line.is_ascii()));
        assert!(is_unicode_locale("de_DE.UTF-8") && is_unicode_locale("C.utf8") && !is_unicode_locale("C"));
    }
}
