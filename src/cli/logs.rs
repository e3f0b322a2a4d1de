//! `logs`: what the daemon has logged, from its file or from the journal; no daemon is needed, and none is started.

mod file;
mod journal;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::daemon::log::{Journal, Line};
use crate::limits::rfc3339;

use super::context::Context;
use super::failure::Failure;
use super::output::{Output, Tint, clean};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// `logs`
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Go on with what is logged from now on
    #[arg(long, short)]
    follow: bool,
    /// How many of the latest lines, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "100", value_parser = lines)]
    lines: Lines,
}

/// How many lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lines {
    All,
    Last(usize),
}

fn lines(text: &str) -> Result<Lines, String> {
    if text == "all" {
        return Ok(Lines::All);
    }
    text.parse().map(Lines::Last).map_err(|_| "is neither a number nor `all`".to_owned())
}

/// `logs --json`, each line
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogLine {
    /// When, epoch ms; null where something other than lessor wrote the line.
    at: Option<u64>,
    /// `error`, `warn`, `info`, `debug` or `trace`; null like the time.
    level: Option<String>,
    /// What happened.
    message: String,
    /// The facts, by name.
    fields: BTreeMap<String, String>,
}

/// Prints the log.
pub(super) fn logs(options: &Logs, context: &Context) -> Result<(), Failure> {
    let path = context.places()?.log;
    let mut show = |line: &Line| show(line, &context.output);
    let mut log = file::Log::open(&path);
    let failed = |error| Failure::new("internal", format!("reading the log {}: {error}", path.display()));
    let latest = log.latest(options.lines).map_err(failed)?;
    // whichever was written to last has what is asked for
    if let Some(journal) = log.last_line().as_deref().map(Line::parse).as_ref().and_then(Journal::announced) {
        return journal::read(&journal, options, &mut show);
    }
    if !log.is_there() {
        let path = path.display();
        context.output.note(&format!("no log yet: {path} is written by the daemon, and none has run with it"));
    }
    for line in &latest {
        show(&Line::parse(line))?;
    }
    while options.follow && !is_closed() {
        std::thread::sleep(LOOK);
        for line in log.next().map_err(failed)? {
            show(&Line::parse(&line))?;
        }
    }
    Ok(())
}

fn show(line: &Line, output: &Output) -> Result<(), Failure> {
    output.text(&(if output.json { json(line)? } else { text(line, output) } + "\n"))
}

/// As it is in the file, and safe for a terminal.
fn text(line: &Line, output: &Output) -> String {
    let tint = match line.level {
        Some("ERROR") => Tint::Bad,
        Some("WARN") => Tint::Warn,
        Some("INFO") => Tint::Good,
        _ => Tint::Faint,
    };
    let (Some(at), Some(level)) = (&line.at, line.level) else { return clean(&line.message) };
    let mut text = format!(
        "{} {} {}",
        output.tint(Tint::Faint, &clean(at)),
        output.tint(tint, &format!("{level:<5}")),
        clean(&line.message_text())
    );
    if !line.fields.is_empty() {
        text += "  ";
        text += &output.tint(Tint::Faint, &clean(&line.fields_text()));
    }
    text
}

fn json(line: &Line) -> Result<String, Failure> {
    let document = LogLine {
        at: line.at.as_deref().and_then(rfc3339),
        level: line.level.map(str::to_lowercase),
        message: line.message.clone(),
        fields: line.fields.iter().cloned().collect(),
    };
    serde_json::to_string(&document).map_err(|error| Failure::new("internal", error.to_string()))
}

/// Whether nobody reads on: a log that is silent would not learn it by writing.
#[cfg(unix)]
fn is_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut looked_at = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut looked_at, Some(&at_once)).is_ok() && looked_at[0].revents().contains(PollFlags::ERR)
}

#[cfg(not(unix))]
fn is_closed() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_lines_or_all() {
        for (text, expected) in [
            ("0", Ok(Lines::Last(0))),
            ("12", Ok(Lines::Last(12))),
            ("all", Ok(Lines::All)),
            ("-1", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(lines(text).map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn a_line_is_printed_as_it_is_and_as_a_document() {
        let ours = "2026-03-04T05:06:07.089Z INFO  work is ready  account=ac_1 path=\"/a b\"";
        let line = Line::parse(ours);
        assert_eq!(text(&line, &Output::plain(80)), ours);
        assert_eq!(
            json(&line).unwrap(),
            r#"{"at":1772600767089,"level":"info","message":"work is ready","fields":{"account":"ac_1","path":"/a b"}}"#
        );
        let other = Line::parse("thread\u{1b}[31m panicked");
        assert_eq!(text(&other, &Output::plain(80)), "thread\u{fffd}[31m panicked");
        assert!(json(&other).unwrap().starts_with(r#"{"at":null,"level":null,"#));
    }
}
