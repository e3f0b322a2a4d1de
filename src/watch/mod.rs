//! Noticing that a file of somebody else's has changed, however its editor writes it.
//!
//! Directories are watched, never the file: a watch on a file is lost with the first rename over it. Events only say
//! when to look; what counts is what is then read ([`Debounce`]), and a slow poll finds what no event tells of.

mod settle;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

pub use settle::{Completeness, Debounce, DebounceTiming};

/// WatchedNames of files and directories that matter.
type WatchedNames = Arc<Mutex<BTreeSet<OsString>>>;

/// Tells that one of its files may have changed.
#[derive(Debug)]
pub struct Watcher {
    system: RecommendedWatcher,
    /// Watched directories, each as it was when the watch began: a new one in its place needs a new watch.
    directories: BTreeMap<PathBuf, DirectoryId>,
    names: WatchedNames,
}

/// What tells a directory from another one in its place.
type DirectoryId = (u64, u64);

impl Watcher {
    /// Watches nothing yet; `tell` is called on a thread of the system's watcher and must not block.
    ///
    /// # Errors
    /// When the system has no watches left: then only the poll notices.
    pub fn new(tell: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let names = WatchedNames::default();
        let matter = names.clone();
        let system = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => is_change(&event) && concerns(&event, &matter),
                // something was lost: a look tells
                Err(_) => true,
            };
            if matters {
                tell();
            }
        })?;
        Ok(Self { system, directories: BTreeMap::new(), names })
    }

    /// Watches for changes of these files from now on, as their paths lead today; to be called before each look.
    ///
    /// # Errors
    /// The first directory that could not be watched; the others are.
    pub fn watch(&mut self, files: &[&Path]) -> notify::Result<()> {
        let steps: Vec<steps::WatchedEntry> = files.iter().flat_map(|file| steps::of(file)).collect();
        let wanted: BTreeMap<PathBuf, DirectoryId> = steps
            .iter()
            .filter_map(|step| {
                // through no link: two names of one directory would share one watch of the system's
                let directory = fs::canonicalize(&step.directory).ok()?;
                let identity = identity(&directory)?;
                Some((directory, identity))
            })
            .collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = steps.into_iter().map(|step| step.name).collect();
        let old: Vec<PathBuf> = self
            .directories
            .iter()
            .filter(|(directory, identity)| wanted.get(*directory) != Some(identity))
            .map(|(directory, _)| directory.clone())
            .collect();
        for directory in old {
            // a removed directory took its watch along
            let _already_gone = self.system.unwatch(&directory);
            self.directories.remove(&directory);
        }
        let mut outcome = Ok(());
        for (directory, identity) in wanted {
            if self.directories.contains_key(&directory) {
                continue;
            }
            match self.system.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(directory, identity)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }
}

/// Our own looks are no changes.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn concerns(event: &Event, names: &WatchedNames) -> bool {
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let is_named = |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
    event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(is_named)
}

#[cfg(unix)]
fn identity(directory: &Path) -> Option<DirectoryId> {
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(directory).ok()?;
    about.is_dir().then(|| (about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn identity(directory: &Path) -> Option<DirectoryId> {
    let about = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
    let made = about.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((made.as_secs(), u64::from(made.subsec_nanos())))
}
