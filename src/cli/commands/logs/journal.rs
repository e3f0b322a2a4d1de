//! The systemd journal, read with `journalctl`: each entry becomes a line as in the log file.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use serde_json::{Map, Value};

use super::file::LineCount;
use super::{LogsArgs, POLL, stdout_is_closed};
use crate::cli::error::CliError;
use crate::daemon::log::{Journal, Line, instant};

const AHEAD: usize = 1000;
/// The prefix of the names of lessor's fields.
const FIELDS: &str = "LESSOR_";

pub(super) fn read(
    journal: &Journal,
    options: &LogsArgs,
    show: &mut impl FnMut(&Line) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--all", "--output=json"]).args(journal.arguments());
    command.arg(match options.lines {
        LineCount::All => "--lines=all".to_owned(),
        LineCount::Last(lines) => format!("--lines={lines}"),
    });
    if options.follow {
        command.arg("--follow");
    }
    let failed = |error: String| {
        let error = CliError::internal(format!("the daemon logs to the journal, and journalctl failed: {error}"));
        error.hint(format!("try it: journalctl {journal}"))
    };
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(error.to_string()))?;
    let shown = child.stdout.take().map_or(Ok(()), |stdout| forward(&entries(stdout), show));
    // with --follow it does not end
    if shown.is_err() || options.follow {
        let _ended_already = child.kill();
    }
    let ended = child.wait();
    shown?;
    match ended {
        Ok(status) if status.success() || options.follow => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Reads entries on a thread, so that a closed standard output is noticed while there are no new entries.
fn entries(stdout: ChildStdout) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        for entry in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if let Ok(entry) = serde_json::from_slice(&entry)
                && sender.send(line(&entry)).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn forward(entries: &Receiver<Line>, show: &mut impl FnMut(&Line) -> Result<(), CliError>) -> Result<(), CliError> {
    loop {
        match entries.recv_timeout(POLL) {
            Ok(line) => show(&line)?,
            Err(RecvTimeoutError::Timeout) if !stdout_is_closed() => {}
            Err(_) => return Ok(()),
        }
    }
}

/// An entry as a line; entries of the service manager about the unit are included.
fn line(entry: &Map<String, Value>) -> Line {
    let micros = entry.get("__REALTIME_TIMESTAMP").and_then(text).and_then(|micros| micros.parse::<u64>().ok());
    let level = match entry.get("PRIORITY").and_then(text).as_deref() {
        Some("0" | "1" | "2" | "3") => "ERROR",
        Some("4") => "WARN",
        Some("7") => "DEBUG",
        _ => "INFO",
    };
    let fields =
        entry.iter().filter_map(|(name, value)| Some((name.strip_prefix(FIELDS)?.to_lowercase(), text(value)?)));
    Line {
        at: Some(instant(micros.unwrap_or_default() / 1000)),
        level: Some(level),
        message: entry.get("MESSAGE").and_then(text).unwrap_or_default(),
        fields: fields.collect(),
    }
}

/// A value: a string, its bytes if it is not valid UTF-8, or the last of several values.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let bytes = values.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok());
            Some(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
        }
        Value::Array(values) => values.last().and_then(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_become_lines() {
        let cases = [
            (
                json!({
                    "__REALTIME_TIMESTAMP": "1772600767089123", "PRIORITY": "6", "MESSAGE": "work is disabled",
                    "LESSOR_ACCOUNT": "ac_1", "LESSOR_REASON": ["a", "b"], "_PID": "7", "TARGET": "lessor"
                }),
                "2026-03-04T05:06:07.089Z INFO  work is disabled  account=ac_1 reason=b",
            ),
            (
                json!({"__REALTIME_TIMESTAMP": "0", "PRIORITY": "3", "MESSAGE": [97, 10, 255]}),
                "1970-01-01T00:00:00.000Z ERROR a\\n\u{fffd}",
            ),
            (json!({"PRIORITY": "4", "MESSAGE": null}), "1970-01-01T00:00:00.000Z WARN  "),
        ];
        for (entry, expected) in cases {
            assert_eq!(line(entry.as_object().unwrap()).to_string(), expected);
        }
    }
}
