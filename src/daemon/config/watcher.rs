//! The worker: reads the configuration file whenever it may have changed. It is not on the thread of the sockets, so that a
//! slow disk delays no lease.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::apply::apply;
use crate::config::{Config, ConfigErrors, LoadedConfig, read_file};
use crate::daemon::state::{ConfigMessage, Daemon, Mailbox};
use crate::daemon::view;
use crate::daemon::worker::{Worker, WorkerThread};
use crate::daemon::{os::clock::since_boot, os::service_manager};
use crate::watch::{Completeness, Debounce, DebounceTiming, Watcher};

/// Overrides `daemon.log`.
pub(crate) const LOG_VARIABLE: &str = "LESSOR_LOG";

/// The text of the file, `None` if there is no file, or why it cannot be read.
type FileText = Result<Option<String>, ConfigErrors>;

/// Reads the file, first before the daemon exists.
#[derive(Debug)]
pub(crate) struct ConfigWatcher {
    path: PathBuf,
    /// `LESSOR_LOG`, which overrides the file.
    log: Option<String>,
    /// The result of the first reading.
    text: FileText,
}

impl ConfigWatcher {
    /// Reads the file for the first time.
    pub(crate) fn load(path: PathBuf, log: Option<String>) -> (Self, Result<LoadedConfig, ConfigErrors>) {
        let text = read_file(&path);
        let watcher = Self { path, log, text };
        let loaded = watcher.parse(&watcher.text);
        (watcher, loaded)
    }

    pub(crate) fn start(self, thread: &Arc<WorkerThread>, daemon: &Arc<Daemon>) -> Worker<ConfigMessage> {
        Worker::start(thread, daemon, &daemon.mailboxes.config, |daemon, mailbox| self.run(daemon, mailbox))
    }

    async fn run(self, daemon: Weak<Daemon>, mailbox: Mailbox<ConfigMessage>) {
        let mut watcher = watcher(&mailbox);
        let mut file = Debounce::new(DebounceTiming::USUAL, self.text.clone(), since_boot());
        // the file may have changed since the first reading
        file.on_event(since_boot());
        self.watch(&mut watcher, &mut file);
        loop {
            let mail = mailbox.next(file.next_read().saturating_sub(since_boot())).await;
            let Some(daemon) = daemon.upgrade().filter(|_| !mail.stop) else { return };
            if mail.messages.is_empty() && file.next_read() <= since_boot() {
                self.watch(&mut watcher, &mut file);
                let (text, completeness) = self.read(file.accepted());
                if file.on_read(since_boot(), text, completeness) {
                    apply(&daemon, self.parse(file.accepted()));
                }
            }
            for message in mail.messages {
                self.handle(&daemon, message, &mut file, &mut watcher);
            }
        }
    }

    fn handle(
        &self,
        daemon: &Arc<Daemon>,
        message: ConfigMessage,
        file: &mut Debounce<FileText>,
        watcher: &mut Option<Watcher>,
    ) {
        match message {
            ConfigMessage::FileChanged => file.on_event(since_boot()),
            ConfigMessage::ReadOnSignal => {
                service_manager::reloading();
                self.read_now(daemon, file, watcher);
                service_manager::ready();
            }
            ConfigMessage::Read(answer) => {
                let changed = self.read_now(daemon, file, watcher);
                let info = {
                    let state = &*daemon.state();
                    let mut info = state.config.reload_info(changed);
                    if info.error.is_none() {
                        info.notes.extend(view::unmatched_accounts(&state.config.config, &state.pool));
                    }
                    info
                };
                let _client_disconnected = answer.send(info);
            }
        }
    }

    /// Reads the file now; returns whether it has changed.
    fn read_now(&self, daemon: &Arc<Daemon>, file: &mut Debounce<FileText>, watcher: &mut Option<Watcher>) -> bool {
        self.watch(watcher, file);
        let (text, _) = self.read(file.accepted());
        let changed = file.on_forced_read(since_boot(), text);
        if changed {
            apply(daemon, self.parse(file.accepted()));
        }
        changed
    }

    fn watch(&self, watcher: &mut Option<Watcher>, file: &mut Debounce<FileText>) {
        let outcome = watcher.as_mut().map_or(Ok(()), |watcher| watcher.watch(&[&self.path]));
        if let Err(error) = outcome {
            tracing::warn!("{UNWATCHED}: {error}");
        }
        if let Some(watcher) = watcher {
            file.set_poll(watcher.poll());
        }
    }

    /// The text of the file, and whether it seems complete.
    fn read(&self, accepted: &FileText) -> (FileText, Completeness) {
        let text = read_file(&self.path);
        let completeness = match &text {
            Err(_) => Completeness::Uncertain,
            Ok(None) => {
                // a removed directory does not mean that the user wants the defaults
                if accepted != &Ok(None) && !self.path.parent().is_some_and(Path::is_dir) {
                    let message = "its directory is gone; the last good configuration stays in force";
                    return (Err(ConfigErrors::of_file(&self.path, message)), Completeness::Missing);
                }
                Completeness::Missing
            }
            // an editor may empty the file before it writes
            Ok(Some(text)) if text.trim().is_empty() => Completeness::Uncertain,
            Ok(Some(_)) if self.parse(&text).is_err() => Completeness::Uncertain,
            Ok(Some(_)) => Completeness::Complete,
        };
        (text, completeness)
    }

    fn parse(&self, text: &FileText) -> Result<LoadedConfig, ConfigErrors> {
        let text = text.as_ref().map_err(Clone::clone)?;
        let mut loaded = Config::from_text(text.as_deref(), &self.path)?;
        if let Some(log) = &self.log {
            // checked at the start
            let _valid = loaded.config.set_from_environment("daemon.log", LOG_VARIABLE, log);
        }
        Ok(loaded)
    }
}

fn watcher(mailbox: &Mailbox<ConfigMessage>) -> Option<Watcher> {
    let mailbox = mailbox.clone();
    let watcher = Watcher::new(move || mailbox.send(ConfigMessage::FileChanged));
    watcher.map_err(|error| tracing::warn!("{UNWATCHED}: {error}")).ok()
}

const UNWATCHED: &str = "file events are not available; the configuration file is read every 20 s instead";
