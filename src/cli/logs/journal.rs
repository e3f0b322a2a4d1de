//! The journal, read by `journalctl`: its entries become the lines that the file would have.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use serde_json::{Map, Value};

use crate::daemon::log::{Journal, Line, instant};

use super::super::failure::Failure;
use super::{LOOK, Lines, Logs, is_closed};

/// How many lines are read ahead.
const AHEAD: usize = 1000;
/// What the names of lessor's own fields begin with.
const FIELDS: &str = "LESSOR_";

/// Shows what the journal has.
pub(super) fn read(
    journal: &Journal,
    options: &Logs,
    show: &mut impl FnMut(&Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--all", "--output=json"]).args(journal.arguments());
    command.arg(match options.lines {
        Lines::All => "--lines=all".to_owned(),
        Lines::Last(lines) => format!("--lines={lines}"),
    });
    if options.follow {
        command.arg("--follow");
    }
    let failed = |error: String| {
        let failure =
            Failure::new("internal", format!("the daemon logs to the journal, and journalctl failed: {error}"));
        failure.hint(format!("see for yourself: journalctl {journal}"))
    };
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(error.to_string()))?;
    let shown = child.stdout.take().map_or(Ok(()), |stdout| pass_on(&entries(stdout), show));
    // it may follow for ever
    let ended = if matches!(shown, Ok(())) && !options.follow { child.wait() } else { end(&mut child) };
    shown?;
    match ended {
        Ok(status) if status.success() || options.follow => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn end(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let _ended_already = child.kill();
    child.wait()
}

/// Reads entries on a thread of its own, so that a reader that goes away is seen while the journal is silent.
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

fn pass_on(entries: &Receiver<Line>, show: &mut impl FnMut(&Line) -> Result<(), Failure>) -> Result<(), Failure> {
    loop {
        match entries.recv_timeout(LOOK) {
            Ok(line) => show(&line)?,
            Err(RecvTimeoutError::Timeout) if is_closed() => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// An entry as a line; those of the service manager about the unit are among them.
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

/// A value: a text, or its bytes where it is none, or the last of several.
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
