//! The worker: watches the files of linked logins, and adopts the logins that their tools write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::{collections::BTreeMap, io, time::Duration};

use super::adopt::{FileSight, Observations, adopt};
use crate::credential::import::DiscoveredAccount;
use crate::credential::import::discover::{DiscoveryError, HostEnvironment, KEYCHAIN_PREFIX, Platform, beside, reread};
use crate::credential::{Link, LinkMode, LoginHome};
use crate::daemon::os::clock::{self, since_boot};
use crate::daemon::state::{Daemon, LinkedLoginsMessage, Mailbox};
use crate::daemon::worker::{WaitsFor, Worker, WorkerThread};
use crate::pool::{AccountId, Wall};
use crate::watch::{Completeness, Debounce, DebounceTiming, Watcher};

/// The logins in a file, or why it cannot be read; `None` before the first reading.
type LoginsRead = Option<Result<Vec<DiscoveredAccount>, String>>;

/// The keychain sends no events, and each reading of it starts a program.
const KEYCHAIN_POLL: Duration = Duration::from_secs(60);
/// The time between two looks at the owner of a login that is to be refreshed.
const AGAIN: Duration = Duration::from_millis(200);
/// The sleep while no file is watched.
const IDLE: Duration = Duration::from_secs(3600);

/// Starts to watch the files that accounts are linked to.
pub(crate) fn start(daemon: &Arc<Daemon>) -> io::Result<Worker<LinkedLoginsMessage>> {
    let thread = WorkerThread::start("linked-logins", WaitsFor::Mail)?;
    Ok(Worker::start(&thread, daemon, &daemon.mailboxes.linked_logins, |daemon, mailbox| {
        LinkedLoginsWatcher::new(mailbox.clone()).run(daemon, mailbox)
    }))
}

struct LinkedLoginsWatcher {
    mailbox: Mailbox<LinkedLoginsMessage>,
    /// None while no file is linked: it has a thread.
    watcher: Option<Watcher>,
    files: BTreeMap<String, Debounce<LoginsRead>>,
    observed: Observations,
    /// When to look again at files with a login whose owner is not certain yet.
    unsettled: BTreeMap<String, Duration>,
}

impl LinkedLoginsWatcher {
    fn new(mailbox: Mailbox<LinkedLoginsMessage>) -> Self {
        let (files, unsettled) = (BTreeMap::new(), BTreeMap::new());
        Self { mailbox, watcher: None, files, observed: Observations::new(), unsettled }
    }

    async fn run(mut self, daemon: Weak<Daemon>, mailbox: Mailbox<LinkedLoginsMessage>) {
        if let Some(daemon) = daemon.upgrade() {
            self.update_files(&daemon);
        }
        loop {
            let next = self.files.values().map(Debounce::next_read).chain(self.unsettled.values().copied()).min();
            let mail = mailbox.next(next.map_or(IDLE, |next| next.saturating_sub(since_boot()))).await;
            let Some(daemon) = daemon.upgrade() else { return };
            if mail.stop {
                return remove_left_homes(&daemon).await;
            }
            if mail.messages.contains(&LinkedLoginsMessage::LinksChanged) {
                self.update_files(&daemon);
                remove_left_homes(&daemon).await;
            } else if mail.messages.contains(&LinkedLoginsMessage::FileChanged) {
                let now = since_boot();
                self.files.values_mut().for_each(|file| file.on_event(now));
            } else {
                self.watch();
                self.read_due(&daemon).await;
                daemon.state().forget_formers(clock::now());
            }
        }
    }

    /// Watches the files that are linked now. All are read again: one may have changed between the import and the link.
    fn update_files(&mut self, daemon: &Daemon) {
        self.files.clear();
        self.unsettled.clear();
        for path in daemon.state().links.followed_files() {
            let poll = if path.starts_with(KEYCHAIN_PREFIX) { KEYCHAIN_POLL } else { DebounceTiming::USUAL.poll };
            let timing = DebounceTiming { poll, ..DebounceTiming::USUAL };
            let mut file = Debounce::new(timing, None, since_boot());
            file.on_event(since_boot());
            self.files.insert(path, file);
        }
        let has_files = self.files.keys().any(|path| !path.starts_with(KEYCHAIN_PREFIX));
        self.watcher = self.watcher.take().filter(|_| has_files).or_else(|| has_files.then(|| self.watcher())?);
        self.watch();
    }

    fn watcher(&self) -> Option<Watcher> {
        let mailbox = self.mailbox.clone();
        let watcher = Watcher::new(move || mailbox.send(LinkedLoginsMessage::FileChanged));
        watcher.map_err(|error| tracing::warn!("{UNWATCHED}: {error}")).ok()
    }

    fn watch(&mut self) {
        let environment = environment();
        let files = self.files.keys().filter(|path| !path.starts_with(KEYCHAIN_PREFIX)).map(PathBuf::from);
        let all: Vec<PathBuf> =
            files.flat_map(|path| [vec![path.clone()], beside(&path, &environment)].concat()).collect();
        let all: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
        if let Some(watcher) = &mut self.watcher
            && let Err(error) = watcher.watch(&all)
        {
            tracing::warn!("{UNWATCHED}: {error}");
        }
        if let Some(watcher) = &self.watcher {
            let files = self.files.iter_mut().filter(|(path, _)| !path.starts_with(KEYCHAIN_PREFIX));
            files.for_each(|(_, file)| file.set_poll(watcher.poll()));
        }
    }

    async fn read_due(&mut self, daemon: &Daemon) {
        for (path, file) in &mut self.files {
            let settles = self.unsettled.get(path).is_some_and(|at| *at <= since_boot());
            if file.next_read() > since_boot() && !settles {
                continue;
            }
            let (reading, completeness) = read(path);
            if (file.on_read(since_boot(), Some(reading), completeness) || settles)
                && let Some(reading) = file.accepted()
            {
                let lock = daemon.account_writes.lock().await;
                let entries = reading.as_deref().map_err(String::as_str);
                let sight = FileSight { path, entries, age: age_of(path) };
                match adopt(daemon, lock, &sight, &mut self.observed, Link::is_followed) {
                    Some(at) => self.unsettled.insert(path.clone(), at),
                    None => self.unsettled.remove(path),
                };
            }
        }
    }
}

/// Removes the homes of logins that no account has any more.
async fn remove_left_homes(daemon: &Daemon) {
    let left = daemon.state().links.take_left();
    let state = &daemon.run.state_directory;
    let mut homes: Vec<LoginHome> =
        left.iter().filter_map(|path| LoginHome::containing(state, Path::new(path))).collect();
    if homes.is_empty() {
        return;
    }
    // the accounts do without their homes on disk, too
    daemon.all_saved().await;
    homes.retain(|home| {
        let state = &*daemon.state();
        let is_of_home = |link: &Link| Path::new(&link.path).starts_with(home.root());
        !state.links.iter().any(|(_, link)| is_of_home(link))
    });
    for home in homes {
        let path = home.root().display();
        match home.remove() {
            Ok(()) => tracing::info!(%path, "removed the directory of a login that no account has any more"),
            Err(error) => {
                tracing::warn!(%path, "the directory of a login that no account has cannot be removed: {error}");
            }
        }
    }
}

/// Adopts what a tool has written of logins that lessor refreshes. To be called on a thread that may block.
pub(crate) fn adopt_for_refresh(daemon: &Daemon, path: &str) {
    let mut observed = Observations::new();
    // a file that cannot be read changes nothing; the worker reports it
    while let Ok(entries) = read(path).0 {
        let has = |item: &str| entries.iter().any(|entry| entry.item == item);
        let sight = FileSight { path, entries: Ok(&entries), age: age_of(path) };
        let lock = daemon.account_writes.blocking_lock();
        let again = adopt(daemon, lock, &sight, &mut observed, |link| link.mode != LinkMode::Link && has(&link.item));
        let Some(at) = again else { return };
        // the tool may name another owner meanwhile
        std::thread::sleep(at.saturating_sub(since_boot()).min(AGAIN));
    }
}

/// How long ago a file was written; that of a keychain item is not known.
fn age_of(path: &str) -> Duration {
    let written = std::fs::metadata(path).and_then(|about| about.modified());
    written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
}

/// Whether a tool's file holds an older login of this account than lessor does. To be called on a thread that may block.
pub(crate) fn is_tool_behind(daemon: &Daemon, id: AccountId, path: &str) -> bool {
    let Ok(entries) = read(path).0 else { return false };
    let state = &*daemon.state();
    let (Some(link), Some(known)) = (state.links.get(id), state.credentials.get(id)) else { return false };
    let prints = &state.credentials.fingerprints;
    let theirs = entries.iter().find(|entry| entry.item == link.item).map(|entry| prints.of(&entry.credential));
    theirs.is_some_and(|print| print != prints.of(known) && prints.known_since(id, print).is_some())
}

/// When the access token of a login in a tool's file ends. To be called on a thread that may block.
pub(crate) fn token_end(path: &str, item: &str) -> Option<Wall> {
    read(path).0.ok()?.iter().find(|entry| entry.item == item)?.credential.expires_at
}

fn environment() -> HostEnvironment<'static> {
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned()).unwrap_or_default();
    HostEnvironment { system: Platform::here(), home, variable: &|name| std::env::var(name).ok() }
}

/// The logins in a file, and whether it seems complete.
fn read(path: &str) -> (Result<Vec<DiscoveredAccount>, String>, Completeness) {
    match reread(path, &environment(), clock::now().wall) {
        Ok(mut entries) => {
            // a new modification time is not a change
            entries.iter_mut().for_each(|entry| entry.as_of = None);
            // a tool writes an empty file when it logs out, but also before it writes a login
            let completeness = if entries.is_empty() { Completeness::Uncertain } else { Completeness::Complete };
            (Ok(entries), completeness)
        }
        Err(error @ DiscoveryError::Missing) => (Err(error.to_string()), Completeness::Missing),
        // the file may be half written
        Err(error) => (Err(error.to_string()), Completeness::Uncertain),
    }
}

const UNWATCHED: &str = "file events are not available; the files of linked logins are read every 20 s instead";
