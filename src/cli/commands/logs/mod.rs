//! `logs`: the daemon's log, from its file or from the journal. No daemon is needed, and none is started.

mod file;
mod journal;

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::ui::{Output, Tint, clean};
use crate::cli::{context::Context, error::CliError};
use crate::daemon::log::{Journal, Line};
use crate::limits::rfc3339;
use crate::visible::escape_json;

use file::{LineCount, LogFile, line_count};

/// How often a log that is followed is checked for new lines.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Print new lines as they are logged
    #[arg(long, short)]
    follow: bool,
    /// How many of the latest lines to print, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "100", value_parser = line_count)]
    lines: LineCount,
}

/// `logs --json`, each line
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogLine {
    /// When it was logged, in ms since 1970; null if another program wrote the line.
    at: Option<u64>,
    /// `error`, `warn`, `info`, `debug` or `trace`; null if another program wrote the line.
    level: Option<String>,
    /// What happened.
    message: String,
    /// The fields, by name.
    fields: BTreeMap<String, String>,
}

pub(super) fn execute(options: &LogsArgs, context: &Context) -> Result<(), CliError> {
    let path = context.places()?.log;
    let mut show = |line: &Line| show(line, &context.output);
    let mut log = LogFile::open(&path);
    let failed = |error| CliError::internal(format!("reading the log {}: {error}", path.display()));
    let latest = log.latest(options.lines).map_err(failed)?;
    // the last line of the file says whether the daemon now logs to the journal
    if let Some(journal) = log.last_line().as_deref().map(Line::parse).as_ref().and_then(Journal::announced) {
        return journal::read(&journal, options, &mut show);
    }
    if !log.exists() {
        let path = path.display();
        context
            .output
            .note(&format!("there is no log yet: the daemon writes {path}, and has not been started with it"));
    }
    for line in &latest {
        show(&Line::parse(line))?;
    }
    while options.follow && !stdout_is_closed() {
        std::thread::sleep(POLL);
        for line in log.next().map_err(failed)? {
            show(&Line::parse(&line))?;
        }
    }
    Ok(())
}

/// Whether the reader of standard output has closed it; without new lines to write, only polling shows that.
#[cfg(unix)]
fn stdout_is_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&no_wait)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

#[cfg(not(unix))]
fn stdout_is_closed() -> bool {
    false
}

fn show(line: &Line, output: &Output) -> Result<(), CliError> {
    output.text(&(if output.json { json(line)? } else { output.prose(&text(line, output)) } + "\n"))
}

/// The line as in the file, safe for a terminal.
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

fn json(line: &Line) -> Result<String, CliError> {
    let document = LogLine {
        at: line.at.as_deref().and_then(rfc3339),
        level: line.level.map(str::to_lowercase),
        message: line.message.clone(),
        fields: line.fields.iter().cloned().collect(),
    };
    let text = serde_json::to_string(&document).map_err(|error| CliError::internal(error.to_string()))?;
    Ok(escape_json(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_as_text_and_as_json() {
        let logged = "2026-03-04T05:06:07.089Z INFO  work is ready  account=ac_1 path=\"/a b\"";
        let line = Line::parse(logged);
        assert_eq!(text(&line, &Output::plain(80)), logged);
        assert_eq!(
            json(&line).unwrap(),
            r#"{"at":1772600767089,"level":"info","message":"work is ready","fields":{"account":"ac_1","path":"/a b"}}"#
        );
        let other = Line::parse("thread\u{1b}[31m panicked");
        assert_eq!(text(&other, &Output::plain(80)), "thread\\u{1b}[31m panicked");
        assert!(json(&other).unwrap().starts_with(r#"{"at":null,"level":null,"#));
    }
}
