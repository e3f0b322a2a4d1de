//! `statusline`: Claude Code's status line. It must be quick and say something useful whatever happens: without a daemon, with
//! input of another version, or with none.

use std::io::{self, IsTerminal, Read, Write};
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::status::one_line_of;
use crate::cli::ui::{Output, Tint, account, clean, columns, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::config::AppPaths;
use crate::protocol::{AgentSessionInfo, AgentSessionParams, AgentWindow, Call, SecretText, looks_like_key};

pub(super) const EXAMPLE: &str = "\
Examples:
  \"statusLine\": {\"type\": \"command\", \"command\": \"lessor statusline\"}
  \"statusLine\": {\"type\": \"command\", \"command\": \"lessor statusline -- ~/.claude/my-line.sh\"}";

/// More input is not read; Claude Code sends a few KiB.
const MAX_INPUT: u64 = 1 << 20;
/// More output of the other command is not printed.
const MAX_OUTPUT: u64 = 64 << 10;
/// A daemon that does not answer in this time is left out.
const PATIENCE: Duration = Duration::from_millis(700);
/// The windows that are shown, as Claude Code calls them, and their short names.
const WINDOWS: [(&str, &str); 2] = [("five_hour", "5h"), ("seven_day", "7d")];
/// How much of a window can be used, in percent; what states more, or less than nothing, has another meaning.
const MOST_USED: RangeInclusive<f64> = 0.0..=200.0;
/// The variables that can hold a gateway key. Claude Code hides the last one from its children.
const KEYS: [&str; 3] = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"];

#[derive(Debug, Args)]
pub(crate) struct StatuslineArgs {
    /// Print no colours (also NO_COLOR=1)
    #[arg(long)]
    no_color: bool,
    /// A status line command of yours: gets the same input, and its lines are printed first
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What Claude Code feeds, as far as it is used. Whatever has another type than expected counts as missing.
#[derive(Debug, Default)]
struct AgentInput {
    session: Option<String>,
    windows: Vec<AgentWindow>,
    cache: Option<PromptCache>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct PromptCache {
    is_warm: bool,
    /// Epoch ms.
    expires_at: Option<u64>,
    /// When the last request was, epoch ms.
    read_at: Option<u64>,
}

pub(super) fn execute(args: StatuslineArgs, context: &Context) -> Result<(), CliError> {
    if io::stdin().is_terminal() {
        let error = CliError::usage("this command reads what Claude Code feeds its status line, not a terminal");
        let entry = r#""statusLine": {"type": "command", "command": "lessor statusline"}"#;
        return Err(error.hint(format!("put it into ~/.claude/settings.json: {entry}")));
    }
    let mut text = Vec::new();
    // what was read so far is better than nothing
    let _broken = io::stdin().lock().take(MAX_INPUT).read_to_end(&mut text);
    let own = start_own(&args.command, &text, &context.output);
    let input = AgentInput::read(&text);
    let answer = ask(context.places()?, input.params());
    if context.output.json {
        return context.output.document(&answer.unwrap_or_default());
    }
    let output = context.output.coloured(!args.no_color);
    let own = own.map(output_of).unwrap_or_default();
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(usize::MAX);
    let line = fitting(&parts(&input, answer.as_ref(), format::now(), &output), width);
    let line = if line.is_empty() { line } else { line + "\n" };
    output.text(&(own + &line))
}

/// Asks the daemon, if there is one that answers.
fn ask(places: AppPaths, params: AgentSessionParams) -> Option<AgentSessionInfo> {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        let call = Call::AgentSession(Box::new(params.clone()));
        let asked = Client::connect_ahead(&places, &call).and_then(|mut client| client.agent_session(params));
        let _too_late = answer.send(asked.map_err(|_: ClientError| ()));
    });
    answered.recv_timeout(PATIENCE).ok()?.ok()
}

impl AgentInput {
    fn read(text: &[u8]) -> Self {
        let Ok(document) = serde_json::from_slice::<serde_json::Value>(text) else { return Self::default() };
        let windows = WINDOWS.iter().filter_map(|(name, _)| {
            let window = document.get("rate_limits")?.get(name)?;
            Some(AgentWindow {
                name: (*name).to_owned(),
                used_percentage: window.get("used_percentage")?.as_f64().filter(|used| MOST_USED.contains(used))?,
                resets_at: window.get("resets_at").and_then(epoch_ms),
            })
        });
        let session = document.get("session_id").and_then(|session| session.as_str()).map(str::to_owned);
        Self { session, windows: windows.collect(), cache: PromptCache::read(&document) }
    }

    fn params(&self) -> AgentSessionParams {
        let key = KEYS.iter().find_map(|name| std::env::var(name).ok().filter(|value| looks_like_key(value)));
        AgentSessionParams {
            session: self.session.clone(),
            pid: Some(std::process::id()),
            key: key.map(|key| SecretText(key.into())),
            windows: self.windows.clone(),
            read_at: self.cache.and_then(|cache| cache.read_at),
            ..AgentSessionParams::default()
        }
    }
}

impl PromptCache {
    fn read(document: &serde_json::Value) -> Option<Self> {
        let cache = document.get("prompt_cache")?;
        let expires_at = cache.get("expires_at").and_then(epoch_ms);
        let ttl = match cache.get("ttl").and_then(|ttl| ttl.as_str()) {
            Some("5m") => Some(300_000),
            Some("1h") => Some(3_600_000),
            _ => None,
        };
        let read_at = expires_at.zip(ttl).and_then(|(expires_at, ttl)| expires_at.checked_sub(ttl));
        Some(Self { is_warm: cache.get("warm")?.as_bool()?, expires_at, read_at })
    }
}

/// Seconds since 1970, as milliseconds.
fn epoch_ms(value: &serde_json::Value) -> Option<u64> {
    let seconds = value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    Some((seconds * 1000.0) as u64)
}

/// Starts the user's own command with the same input.
fn start_own(command: &[String], input: &[u8], output: &Output) -> Option<Child> {
    let (program, arguments) = command.split_first()?;
    let started = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let note = |error| output.note(&format!("lessor: cannot start {}: {error}", clean(program)));
    let mut child = started.map_err(note).ok()?;
    let (stdin, input) = (child.stdin.take(), input.to_vec());
    thread::spawn(move || {
        // a command that does not read its input closes it
        let _closed = stdin.map(|mut stdin| stdin.write_all(&input));
    });
    Some(child)
}

/// What the user's own command prints, in whole lines.
fn output_of(mut child: Child) -> String {
    let mut text = Vec::new();
    let _broken = child.stdout.take().map(|stdout| stdout.take(MAX_OUTPUT).read_to_end(&mut text));
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The parts of the line, the most important first.
fn parts(input: &AgentInput, answer: Option<&AgentSessionInfo>, now: u64, output: &Output) -> Vec<String> {
    let mut parts = Vec::new();
    let named = answer.and_then(|answer| Some((answer, answer.account.as_ref()?)));
    match (named, answer) {
        (Some((answer, label)), _) => {
            let name = clean(account::label(label));
            parts.push(match answer.state.as_deref() {
                Some("ready" | "partly_limited") | None => output.tint(Tint::Strong, &name),
                Some("limited") => {
                    let until = answer.limited_until.map(|at| format!(" until {}", format::day_and_clock(now, at)));
                    output.tint(Tint::Bad, &format!("{name} limited{}", until.unwrap_or_default()))
                }
                Some(state) => output.tint(Tint::Bad, &format!("{name} {}", clean(&format::spaced(state)))),
            });
        }
        (None, Some(answer)) => parts.extend(answer.provider.as_ref().map(|provider| one_line_of(provider, now))),
        (None, None) => {}
    }
    parts.extend(WINDOWS.iter().filter_map(|window| window_part(*window, input, answer, now, output)));
    if let Some(waiting) = answer.map(|answer| answer.waiting).filter(|waiting| *waiting > 0) {
        parts.push(output.tint(Tint::Warn, &format!("{waiting} waiting")));
    }
    if let Some(expires) = input.cache.filter(|cache| cache.is_warm).and_then(|cache| cache.expires_at) {
        parts.push(output.tint(Tint::Faint, &format!("cache until {}", format::day_and_clock(now, expires))));
    }
    parts
}

/// A window: as lessor knows it of the session's account, else as Claude Code states it.
fn window_part(
    (stated, short): (&str, &str),
    input: &AgentInput,
    answer: Option<&AgentSessionInfo>,
    now: u64,
    output: &Output,
) -> Option<String> {
    let is_live = |resets_at: Option<u64>| resets_at.is_none_or(|at| at > now);
    let known = answer.filter(|answer| answer.account.is_some()).and_then(|answer| {
        let is_it = |window: &&crate::protocol::UsageInfo| window.window == short && window.key.is_empty();
        answer.usage.iter().find(is_it).filter(|window| is_live(window.resets_at))
    });
    let said = input.windows.iter().find(|window| window.name == stated).filter(|window| is_live(window.resets_at));
    let (used, resets_at) = match (known, said) {
        (Some(known), _) => (known.utilization, known.resets_at),
        (None, Some(said)) => (said.used_percentage / 100.0, said.resets_at),
        (None, None) => return None,
    };
    let tint = match used {
        used if used >= 0.9 => Tint::Bad,
        used if used >= 0.7 => Tint::Warn,
        _ => Tint::Good,
    };
    let reset = resets_at.map(|at| format!(" → {}", format::day_and_clock(now, at))).unwrap_or_default();
    Some(format!("{short} {}{reset}", output.tint(tint, &account::percent(used))))
}

/// As many of the parts as fit.
fn fitting(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let longer = if line.is_empty() { part.clone() } else { format!("{line} · {part}") };
        if columns(&longer) > width && !line.is_empty() {
            break;
        }
        line = longer;
    }
    line
}
