//! Notices changes of files, however their editors write them.
//!
//! Watches directories, never files: a watch on a file is lost with the first rename over it. Events only determine
//! when to read; the content decides ([`Debounce`]), and a slow poll finds changes without events.

mod debounce;
mod file_system;
mod watch_paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{ffi::OsString, fs, time::Duration};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

pub use debounce::{Completeness, Debounce, DebounceTiming};

/// The relevant names of files and directories.
type WatchedNames = Arc<Mutex<BTreeSet<OsString>>>;

/// Calls back when one of its files may have changed.
#[derive(Debug)]
pub struct Watcher {
    system: RecommendedWatcher,
    /// The watched directories with their identities: a new directory at the same path needs a new watch.
    directories: BTreeMap<PathBuf, DirectoryId>,
    names: WatchedNames,
    /// Every change of the files raises an event.
    sees_all: bool,
}

/// How often files are read although every change raises an event: a directory further up may be replaced.
const WITH_EVENTS: Duration = Duration::from_secs(300);

/// Distinguishes a directory from another one at the same path.
type DirectoryId = (u64, u64);

impl Watcher {
    /// Watches nothing yet. `tell` is called on the watcher's thread and must not block.
    ///
    /// # Errors
    /// When the system has no watches left; changes are then noticed by polling only.
    pub fn new(tell: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let names = WatchedNames::default();
        let matter = names.clone();
        let system = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => is_change(&event) && concerns(&event, &matter),
                // events were lost: read the files
                Err(_) => true,
            };
            if matters {
                tell();
            }
        })?;
        Ok(Self { system, directories: BTreeMap::new(), names, sees_all: false })
    }

    /// Watches these files from now on, through the links of their current paths. Call it before each read.
    ///
    /// # Errors
    /// The first directory that could not be watched; the others are watched.
    pub fn watch(&mut self, files: &[&Path]) -> notify::Result<()> {
        self.sees_all = false;
        let steps: Vec<watch_paths::WatchedEntry> = files.iter().flat_map(|file| watch_paths::of(file)).collect();
        let wanted: BTreeMap<PathBuf, DirectoryId> = steps
            .iter()
            .filter_map(|step| {
                // without links: two names of one directory would share one system watch
                let directory = fs::canonicalize(&step.directory).ok()?;
                let identity = identity(&directory)?;
                Some((directory, identity))
            })
            .collect();
        let sees_all = wanted.keys().all(|directory| file_system::reports_changes(directory)) && are_noticed(&steps);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = steps.into_iter().map(|step| step.name).collect();
        let system = &mut self.system;
        self.directories.retain(|directory, identity| {
            let stays = wanted.get(directory) == Some(identity);
            if !stays {
                // removing a directory removes its watch
                let _already_gone = system.unwatch(directory);
            }
            stays
        });
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
        self.sees_all = sees_all && outcome.is_ok();
        outcome
    }

    /// How often the files are to be read without events: rarely where every change raises one.
    #[must_use]
    pub const fn poll(&self) -> Duration {
        if self.sees_all { WITH_EVENTS } else { debounce::WITHOUT_EVENTS }
    }
}

/// Whether each directory can be watched, or its creation is seen in a directory that can.
fn are_noticed(steps: &[watch_paths::WatchedEntry]) -> bool {
    let is_created_in_sight = |directory: &Path| {
        steps.iter().any(|above| above.directory.join(&above.name) == directory && above.directory.is_dir())
    };
    steps.iter().all(|step| step.directory.is_dir() || is_created_in_sight(&step.directory))
}

/// Whether the event is a change; our own reads are not.
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn poll_of(file: &Path) -> Duration {
        let mut watcher = Watcher::new(|| {}).unwrap();
        assert_eq!(watcher.poll(), debounce::WITHOUT_EVENTS, "nothing is watched yet");
        watcher.watch(&[file]).unwrap();
        watcher.poll()
    }

    #[test]
    fn files_are_polled_rarely_only_where_every_change_raises_an_event() {
        let home = tempfile::tempdir().unwrap();
        let expected = match file_system::reports_changes(home.path()) {
            true => WITH_EVENTS,
            false => debounce::WITHOUT_EVENTS,
        };
        assert_eq!(poll_of(&home.path().join("config.toml")), expected);
        assert_eq!(poll_of(&home.path().join("lessor/config.toml")), expected, "its directory can appear");
        // no event tells of this one
        assert_eq!(poll_of(&home.path().join("a/b/config.toml")), debounce::WITHOUT_EVENTS);
        // neither of a file in /proc
        assert_eq!(poll_of(Path::new("/proc/self/status")), debounce::WITHOUT_EVENTS);
    }
}
