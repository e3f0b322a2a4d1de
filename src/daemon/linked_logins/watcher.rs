//! Logins that another tool refreshes: its file is watched, and what it writes is taken over as it comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::credential::LinkMode;
use crate::credential::import::Entry;
use crate::credential::import::discover::{KEYCHAIN, Trouble, look_again};
use crate::credential::import::places::{Surroundings, System, beside};
use crate::watch::{Completeness, Debounce, DebounceTiming, Watcher};

use crate::pool::AccountId;

use crate::daemon::os::clock;
use crate::daemon::state::Daemon;

/// The logins of a file, or why there are none to be seen; nothing before the first look.
type Seen = Option<Result<Vec<Entry>, String>>;

/// The keychain tells nobody when it changes, and each look at it starts a program.
const KEYCHAIN_POLL: Duration = Duration::from_secs(60);

/// Something for the thread to do.
#[derive(Debug)]
enum Note {
    Touched,
    Relinked,
    End,
}

/// Tells the thread.
#[derive(Clone, Debug)]
pub(crate) struct LinkedLoginsHandle(Sender<Note>);

/// The running thread.
#[derive(Debug)]
pub(crate) struct Following {
    notes: Sender<Note>,
    thread: JoinHandle<()>,
}

impl LinkedLoginsHandle {
    /// There is another login to be followed, or one less.
    pub(crate) fn relinked(&self) {
        // at the end of the daemon nobody follows any more
        let _ended = self.0.send(Note::Relinked);
    }
}

impl Following {
    /// Begins to follow what the daemon's accounts are linked to.
    pub(crate) fn begin(daemon: &Arc<Daemon>) -> std::io::Result<Self> {
        let (notes, inbox) = channel();
        let _only_begun_once = daemon.follow.set(LinkedLoginsHandle(notes.clone()));
        let to_itself = notes.clone();
        let daemon = Arc::downgrade(daemon);
        let thread = std::thread::Builder::new().name("follow".to_owned());
        let thread = thread.spawn(move || Follower::new(to_itself).run(&daemon, &inbox))?;
        Ok(Self { notes, thread })
    }

    /// Ends the thread.
    pub(crate) fn end(self) {
        let _already_ended = self.notes.send(Note::End);
        // it reads a few files at most
        let _panicked = self.thread.join();
    }
}

/// The thread's own.
struct Follower {
    watcher: Option<Watcher>,
    files: BTreeMap<String, Debounce<Seen>>,
    home: PathBuf,
}

impl Follower {
    fn new(to_itself: Sender<Note>) -> Self {
        // the thread has ended: nobody wants to know
        let tell = move || drop(to_itself.send(Note::Touched));
        let watcher = Watcher::new(tell);
        let watcher = watcher.map_err(|error| tracing::warn!("{UNWATCHED}: {error}")).ok();
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned()).unwrap_or_default();
        Self { watcher, files: BTreeMap::new(), home }
    }

    fn run(mut self, daemon: &Weak<Daemon>, inbox: &Receiver<Note>) {
        if let Some(daemon) = daemon.upgrade() {
            self.relink(&daemon);
        }
        loop {
            let next = self.files.values().map(Debounce::next_read).min();
            let note = match next {
                Some(next) => inbox.recv_timeout(next.saturating_sub(time())),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let Some(daemon) = daemon.upgrade() else { return };
            match note {
                Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Note::Relinked) => self.relink(&daemon),
                Ok(Note::Touched) => {
                    let now = time();
                    self.files.values_mut().for_each(|file| file.on_event(now));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.watch();
                    self.look(&daemon);
                }
            }
        }
    }

    /// Follows what is linked now. All files are looked at anew: one may have been written between the import's look and
    /// the link.
    fn relink(&mut self, daemon: &Daemon) {
        let linked = daemon.followed();
        self.files.clear();
        for path in linked {
            let poll = if path.starts_with(KEYCHAIN) { KEYCHAIN_POLL } else { DebounceTiming::USUAL.poll };
            let rhythm = DebounceTiming { poll, ..DebounceTiming::USUAL };
            let mut file = Debounce::new(rhythm, None, time());
            file.on_event(time());
            self.files.insert(path, file);
        }
        self.watch();
    }

    fn watch(&mut self) {
        let variable = |name: &str| std::env::var(name).ok();
        let of = surroundings(&self.home, &variable);
        let files = self.files.keys().filter(|path| !path.starts_with(KEYCHAIN)).map(PathBuf::from);
        let all: Vec<PathBuf> = files.flat_map(|path| [vec![path.clone()], beside(&path, &of)].concat()).collect();
        let all: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
        if let Some(watcher) = &mut self.watcher
            && let Err(error) = watcher.watch(&all)
        {
            tracing::warn!("{UNWATCHED}: {error}");
        }
    }

    /// Looks at the files whose time has come.
    fn look(&mut self, daemon: &Daemon) {
        let variable = |name: &str| std::env::var(name).ok();
        let of = surroundings(&self.home, &variable);
        for (path, file) in &mut self.files {
            if file.next_read() > time() {
                continue;
            }
            let (seen, trust) = seen_at(path, &of);
            if file.on_read(time(), Some(seen), trust)
                && let Some(seen) = file.accepted()
            {
                daemon.take_from(path, seen.as_deref().map_err(String::as_str));
            }
        }
    }
}

impl Daemon {
    /// Takes over what a tool has written by now of logins that lessor refreshes; called on a thread that may wait.
    pub(crate) fn look_at_tools_file(&self, path: &str) {
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned()).unwrap_or_default();
        let variable = |name: &str| std::env::var(name).ok();
        // what cannot be read now says nothing: it is followed elsewhere, or no longer the tool's
        if let Ok(entries) = seen_at(path, &surroundings(&home, &variable)).0 {
            let has = |item: &str| entries.iter().any(|entry| entry.item == item);
            self.take_where(path, Ok(&entries), |link| link.mode != LinkMode::Link && has(&link.item));
        }
    }
}

impl Daemon {
    /// Whether a tool's file holds an older login of this account than there is; called on a thread that may wait.
    pub(crate) fn is_tool_behind(&self, id: AccountId, path: &str) -> bool {
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned()).unwrap_or_default();
        let variable = |name: &str| std::env::var(name).ok();
        let Ok(entries) = seen_at(path, &surroundings(&home, &variable)).0 else { return false };
        let state = &*self.state();
        let (Some(link), Some(known)) = (state.links.get(&id), state.credentials.get(&id)) else { return false };
        let theirs =
            entries.iter().find(|entry| entry.item == link.item).map(|entry| state.tokens.of(&entry.credential));
        theirs.is_some_and(|print| print != state.tokens.of(known) && state.tokens.known_since(id, print).is_some())
    }
}

fn surroundings<'a>(home: &Path, variable: &'a dyn Fn(&str) -> Option<String>) -> Surroundings<'a> {
    Surroundings { system: System::here(), home: home.to_owned(), variable }
}

/// The logins there are, and how far that can be believed.
fn seen_at(path: &str, of: &Surroundings<'_>) -> (Result<Vec<Entry>, String>, Completeness) {
    match look_again(path, of, clock::now().wall) {
        Ok(mut entries) => {
            // that it was touched is no change
            entries.iter_mut().for_each(|entry| entry.as_of = None);
            // a tool that logs out writes this, and one that is about to write begins with it
            let trust = if entries.is_empty() { Completeness::Uncertain } else { Completeness::Complete };
            (Ok(entries), trust)
        }
        Err(trouble @ Trouble::Missing) => (Err(trouble.to_string()), Completeness::Missing),
        // as a file is while it is written in place
        Err(trouble) => (Err(trouble.to_string()), Completeness::Uncertain),
    }
}

const UNWATCHED: &str = "changes of other tools' logins are noticed by looking every 20 s only";

/// Since boot.
fn time() -> Duration {
    Duration::from_millis(clock::now().mono.0)
}
