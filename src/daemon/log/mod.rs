//! The daemon's log: the journal under systemd; elsewhere a file of bounded size, and standard error.
//!
//! Of libraries only warnings and failures are logged, whatever the level: what they tell below that may hold whole
//! requests, and with them secrets.

mod changes;
mod file;
mod level;
mod line;
mod place;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::daemon::os::{blocking, clock};

pub(crate) use changes::{event_line, lease_end_line, login_words};
pub(crate) use level::LogLevelHandle;
pub use line::{Line, instant};
pub use place::Journal;

use file::BoundedFile;
use line::Collect;

/// The size at which the file is set aside; with the one set aside before, there is never more than twice as much.
const MOST_BYTES: u64 = 5 * 1024 * 1024;
/// What the names of fields begin with in the journal.
const FIELDS: &str = "LESSOR";

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    /// How much is logged.
    pub(crate) level: LogLevelHandle,
    /// Whether standard error is neither the log file nor the journal: somebody may be reading it.
    pub(crate) stderr_is_apart: bool,
    journal: Option<Journal>,
    file: Arc<Mutex<BoundedFile>>,
}

impl Log {
    /// Says in the file that the journal has the log, so that whoever looks there, `lessor logs` among them, knows.
    /// Not before it is certain that this daemon is the one whose log is asked for.
    pub(crate) fn say_where(&self) {
        let Some(journal) = &self.journal else { return };
        write_line(&self.file, &Line::at(clock::now().wall, tracing::Level::INFO, journal.announcement()));
    }
}

/// Starts the log of this process: what is written by `tracing`, and panics.
pub(crate) fn start(path: &Path) -> Log {
    let level = LogLevelHandle::new();
    let stderr_is_log = place::stderr_is(path);
    let file = Arc::new(Mutex::new(BoundedFile::new(path, MOST_BYTES, stderr_is_log)));
    let filtered = tracing_subscriber::registry().with(level.clone());
    let journal = place::stderr_is_journal().then(journal_layer).flatten();
    let log = Log {
        level,
        stderr_is_apart: !stderr_is_log && journal.is_none(),
        journal: journal.is_some().then(Journal::of_process),
        file: file.clone(),
    };
    let started = match journal {
        Some(layer) => filtered.with(layer).try_init(),
        None => filtered.with(Lines { file, stderr: log.stderr_is_apart.then(Stderr::of_process) }).try_init(),
    };
    // a second daemon in one process, as in tests, keeps the first one's log
    if started.is_ok() {
        log_panics();
    }
    log
}

/// The journal; `None` when nobody listens there, as in containers.
fn journal_layer() -> Option<tracing_journald::Layer> {
    use tracing_journald::{Priority, PriorityMappings};
    let layer = tracing_journald::layer().ok()?;
    // what happens is no "notice", which journals show in bold
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = layer.with_syslog_identifier(place::IDENTIFIER.to_owned()).with_priority_mappings(priorities);
    Some(layer.with_field_prefix(Some(FIELDS.to_owned())))
}

/// A panic is a line of the log like any other; who asks for a backtrace gets it on standard error.
fn log_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        let said = panic.payload_as_str().unwrap_or("without a word");
        tracing::error!(place, thread, "a bug in lessor, please report it: panicked: {said}");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            usual(panic);
        }
    }));
}

/// Writes lines to the file, and to standard error if that is something else.
struct Lines {
    file: Arc<Mutex<BoundedFile>>,
    stderr: Option<Stderr>,
}

/// Standard error, for people.
struct Stderr {
    coloured: bool,
}

impl Stderr {
    fn of_process() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { coloured: !unwanted && std::io::stderr().is_terminal() }
    }

    fn write(&self, line: &Line) {
        let mut text = if self.coloured { line.coloured() } else { line.to_string() };
        text.push('\n');
        // a standard error that is closed or full is no reason to end, or to tell of on itself
        let _nobody_reads = std::io::stderr().write_all(text.as_bytes());
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        blocking::check();
        let mut collect = Collect::default();
        event.record(&mut collect);
        let line = collect.line(clock::now().wall, *event.metadata().level());
        if let Some(stderr) = &self.stderr {
            stderr.write(&line);
        }
        write_line(&self.file, &line);
    }
}

fn write_line(file: &Mutex<BoundedFile>, line: &Line) {
    // made before the file is locked: whatever panics in there would be logged, and wait for the lock for ever
    let text = line.to_string();
    file.lock().unwrap_or_else(PoisonError::into_inner).write(&text);
}
