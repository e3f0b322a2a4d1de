//! Live reload: a thread of its own reads the file whenever it may have changed, so that a slow disk holds nobody up.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::{Config, ConfigErrors, LoadedConfig, read_file};
use crate::protocol::{Answer, ErrorInfo};
use crate::watch::{Completeness, Debounce, DebounceTiming, Watcher};

use crate::daemon::os::clock;
use crate::daemon::run::LOG_VARIABLE;
use crate::daemon::state::{Daemon, Responder};

/// What the file holds: its text, none, or why it cannot be read.
type Content = Result<Option<String>, ConfigErrors>;

/// Something for the thread to do.
#[derive(Debug)]
enum Note {
    Touched,
    Asked(Option<Responder>),
    End,
}

/// Asks the thread.
#[derive(Clone, Debug)]
pub(crate) struct ConfigHandle(Sender<Note>);

/// What the thread is made of, before there is a daemon to tell.
#[derive(Debug)]
pub(crate) struct Reloader {
    notes: Receiver<Note>,
    to_itself: Sender<Note>,
    path: PathBuf,
    /// `LESSOR_LOG`, which goes before the file.
    log: Option<String>,
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Running {
    notes: Sender<Note>,
    thread: JoinHandle<()>,
}

impl ConfigHandle {
    /// Has the file read now, and the answer sent to whoever asked.
    pub(crate) fn ask(&self, responder: Option<Responder>) {
        if let Err(unsent) = self.0.send(Note::Asked(responder))
            && let Note::Asked(Some(responder)) = unsent.0
        {
            let error = ErrorInfo::new("shutting_down", "the daemon is about to end");
            responder.say(|out| responder.codec.refusal(&responder.id, &error, out));
        }
    }
}

impl Reloader {
    pub(crate) fn new(path: PathBuf, log: Option<String>) -> (ConfigHandle, Self) {
        let (to_itself, notes) = channel();
        (ConfigHandle(to_itself.clone()), Self { notes, to_itself, path, log })
    }

    /// Reads the file for the first time.
    pub(crate) fn load(&self) -> (Content, Result<LoadedConfig, ConfigErrors>) {
        let content = read_file(&self.path);
        let understood = self.understand(&content);
        (content, understood)
    }

    /// Begins to watch; `content` is what `load` has found.
    pub(crate) fn begin(self, daemon: &Arc<Daemon>, content: Content) -> std::io::Result<Running> {
        let notes = self.to_itself.clone();
        let daemon = Arc::downgrade(daemon);
        let thread = std::thread::Builder::new().name("config".to_owned());
        let thread = thread.spawn(move || self.run(&daemon, content, DebounceTiming::USUAL))?;
        Ok(Running { notes, thread })
    }

    fn run(self, daemon: &Weak<Daemon>, content: Content, rhythm: DebounceTiming) {
        let mut watcher = self.watcher();
        let mut settle = Debounce::new(rhythm, content, time());
        // what was written between the first reading and now
        settle.on_event(time());
        self.watch(&mut watcher);
        loop {
            let note = self.notes.recv_timeout(settle.next_read().saturating_sub(time()));
            let Some(daemon) = daemon.upgrade() else { return };
            match note {
                Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Note::Touched) => settle.on_event(time()),
                Ok(Note::Asked(responder)) => {
                    let asked_by_signal = responder.is_none();
                    if asked_by_signal {
                        crate::daemon::os::service_manager::reloading();
                    }
                    self.watch(&mut watcher);
                    let (content, _) = self.look(settle.accepted());
                    let changed = settle.on_forced_read(time(), content);
                    if changed {
                        daemon.configure(self.understand(settle.accepted()));
                    }
                    if let Some(responder) = responder {
                        let told = Answer::Reloaded(daemon.state().configured.told(changed));
                        responder.say(|out| responder.codec.answer(&responder.id, &told, out));
                        responder.outbox.end_wait();
                    }
                    if asked_by_signal {
                        crate::daemon::os::service_manager::ready();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.watch(&mut watcher);
                    let (content, trust) = self.look(settle.accepted());
                    if settle.on_read(time(), content, trust) {
                        daemon.configure(self.understand(settle.accepted()));
                    }
                }
            }
        }
    }

    fn watcher(&self) -> Option<Watcher> {
        let notes = self.to_itself.clone();
        // the thread has ended: nobody wants to know
        let tell = move || drop(notes.send(Note::Touched));
        Watcher::new(tell).map_err(|error| tracing::warn!("{UNWATCHED}: {error}")).ok()
    }

    fn watch(&self, watcher: &mut Option<Watcher>) {
        let outcome = watcher.as_mut().map_or(Ok(()), |watcher| watcher.watch(&[&self.path]));
        if let Err(error) = outcome {
            tracing::warn!("{UNWATCHED}: {error}");
        }
    }

    /// What the file holds, and how far that can be believed.
    fn look(&self, believed: &Content) -> (Content, Completeness) {
        let content = read_file(&self.path);
        let trust = match &content {
            Err(_) => Completeness::Uncertain,
            Ok(None) => {
                // a directory that went away says nothing of what its owner wants
                if believed != &Ok(None) && !self.path.parent().is_some_and(Path::is_dir) {
                    let message = "its directory is gone; the last good configuration is kept";
                    return (Err(ConfigErrors::of_file(&self.path, message)), Completeness::Missing);
                }
                Completeness::Missing
            }
            // how every file begins that is about to be written
            Ok(Some(text)) if text.trim().is_empty() => Completeness::Uncertain,
            Ok(Some(_)) if self.understand(&content).is_err() => Completeness::Uncertain,
            Ok(Some(_)) => Completeness::Complete,
        };
        (content, trust)
    }

    fn understand(&self, content: &Content) -> Result<LoadedConfig, ConfigErrors> {
        let text = content.as_ref().map_err(Clone::clone)?;
        let mut loaded = Config::from_text(text.as_deref(), &self.path)?;
        if let Some(log) = &self.log {
            // checked at the start
            let _known = loaded.config.set_from_environment("daemon.log", LOG_VARIABLE, log);
        }
        Ok(loaded)
    }
}

impl Running {
    /// Ends the thread.
    pub(crate) fn end(self) {
        let _already_ended = self.notes.send(Note::End);
        // it reads a file at most
        let _panicked = self.thread.join();
    }
}

const UNWATCHED: &str = "changes of the configuration are noticed by looking every 20 s only";

/// Since boot.
fn time() -> Duration {
    Duration::from_millis(clock::now().mono.0)
}
