//! The daemon's log: the journal under systemd; elsewhere a file of bounded size, and standard error.

mod file;
mod journal;
mod level;
mod line;
mod pool_events;
mod spanless;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::daemon::os::{blocking, clock};

pub use journal::Journal;
pub(crate) use level::LogLevelHandle;
pub use line::{Line, instant};
pub(crate) use pool_events::{event_line, lease_end_line, login_words};

use file::RotatingFile;
use line::FieldCollector;
use spanless::Spanless;

/// The file is rotated at this size, in bytes. One old file is kept, so the log takes at most twice as much.
const MAX_BYTES: u64 = 5 * 1024 * 1024;
/// The prefix of field names in the journal.
const FIELD_PREFIX: &str = "LESSOR";

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) level: LogLevelHandle,
    /// Whether standard error is neither the log file nor the journal: a person may be reading it.
    pub(crate) stderr_is_separate: bool,
    journal: Option<Journal>,
    file: Arc<Mutex<RotatingFile>>,
}

impl Log {
    /// Writes into the log file that the log continues in the journal, for readers of the file such as `lessor logs`.
    /// To be called when it is certain that this daemon is the one of the data directory.
    pub(crate) fn announce_journal(&self) {
        let Some(journal) = &self.journal else { return };
        write_line(&self.file, &Line::at(clock::now().wall, tracing::Level::INFO, journal.announcement()));
    }
}

/// Starts the log of this process: `tracing` events and panics.
pub(crate) fn start(path: &Path) -> Log {
    let (filter, level) = LogLevelHandle::filter();
    let stderr_is_log = journal::stderr_is(path);
    let file = Arc::new(Mutex::new(RotatingFile::new(path, MAX_BYTES, stderr_is_log)));
    let filtered = Spanless.with(filter);
    let journal = journal::stderr_is_journal().then(journal_layer).flatten();
    let log = Log {
        level,
        stderr_is_separate: !stderr_is_log && journal.is_none(),
        journal: journal.is_some().then(Journal::of_process),
        file: file.clone(),
    };
    let started = match journal {
        Some(layer) => filtered.with(journal::EscapedEvents(layer)).try_init(),
        None => filtered.with(LineLayer { file, stderr: log.stderr_is_separate }).try_init(),
    };
    // a second daemon in one process, as in tests, uses the log of the first
    if started.is_ok() {
        log_panics();
    }
    log
}

/// Writes to the journal; `None` where no journal runs, as in containers.
fn journal_layer() -> Option<tracing_journald::Layer> {
    use tracing_journald::{Priority, PriorityMappings};
    let layer = tracing_journald::layer().ok()?;
    // the default priority of `info` is "notice", which `journalctl` shows in bold
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = layer.with_syslog_identifier(journal::IDENTIFIER.to_owned()).with_priority_mappings(priorities);
    Some(layer.with_field_prefix(Some(FIELD_PREFIX.to_owned())))
}

/// Logs each panic as one line; with `RUST_BACKTRACE` set, the backtrace is printed to standard error, too.
fn log_panics() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, thread, "a bug in lessor, please report it: panicked: {message}");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default_hook(panic);
        }
    }));
}

/// Writes each event as a line to the file, and to standard error if that is not the file.
struct LineLayer {
    file: Arc<Mutex<RotatingFile>>,
    stderr: bool,
}

fn write_to_stderr(line: &Line) {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let coloured = !no_colour && std::io::stderr().is_terminal();
    let text = if coloured { line.coloured() } else { line.to_string() };
    // a closed standard error must not end the daemon
    let _closed = std::io::stderr().write_all((text + "\n").as_bytes());
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        blocking::check();
        let mut fields = FieldCollector::default();
        event.record(&mut fields);
        let line = fields.line(clock::now().wall, *event.metadata().level());
        if self.stderr {
            write_to_stderr(&line);
        }
        write_line(&self.file, &line);
    }
}

fn write_line(file: &Mutex<RotatingFile>, line: &Line) {
    // formatted before the file is locked: a panic while it is locked would be logged, and wait for the lock for ever
    let text = line.to_string();
    file.lock().unwrap_or_else(PoisonError::into_inner).write(&text);
}
