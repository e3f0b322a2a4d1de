//! A disk for SQLite that fails on demand: writes are refused or cut short, syncs fail, the program is killed in the
//! middle of its writes, or the power fails and what was not synced is lost in part.
//!
//! It is a layer over SQLite's own access to files. Only files in the directory of a [`FaultyDisk`] are affected.

mod layer;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

/// The disk writes whole sectors, in bytes.
const SECTOR: usize = 512;

/// What happens to a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No space is left: nothing is written.
    Full,
    /// Only the first half is written.
    ShortWrite,
    /// A sync fails; what was written may be synced later.
    FailedSync,
}

/// The faults of the files in one directory, for as long as it lives.
#[derive(Debug)]
pub struct FaultyDisk {
    directory: PathBuf,
    disk: Arc<Disk>,
}

/// The files of one directory.
#[derive(Debug, Default)]
struct Disk(Mutex<DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    files: BTreeMap<PathBuf, DiskFile>,
    /// How many changes were tried.
    changes: u64,
    /// From this change on, nothing is changed any more.
    ends_at: Option<u64>,
    /// Each change from this one on fails so.
    fault: Option<(u64, Fault)>,
    /// How many changes have failed.
    failed: u64,
}

/// What of a file would be there after a power failure.
#[derive(Debug, Default)]
struct DiskFile {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// What becomes of a change that SQLite asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Ended,
    Failed(Fault),
}

static DISKS: LazyLock<Mutex<HashMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);

impl FaultyDisk {
    /// Watches the databases that are opened in this directory from now on.
    ///
    /// # Errors
    /// When the directory does not exist, or SQLite refuses the layer.
    pub fn watch(directory: &Path) -> io::Result<Self> {
        layer::install()?;
        let (directory, disk) = (directory.canonicalize()?, Arc::new(Disk::default()));
        disks().insert(directory.clone(), disk.clone());
        Ok(Self { directory, disk })
    }

    /// How many changes were tried so far.
    pub fn changes(&self) -> u64 {
        self.disk.state().changes
    }

    /// How many changes have failed so far.
    pub fn failed(&self) -> u64 {
        self.disk.state().failed
    }

    /// After so many more changes, no change has an effect: as if the program had been killed there.
    pub fn end_after(&self, changes: u64) {
        let state = &mut *self.disk.state();
        state.ends_at = Some(state.changes + changes);
    }

    /// Whether the program counts as killed by now.
    pub fn has_ended(&self) -> bool {
        let state = self.disk.state();
        state.ends_at.is_some_and(|end| state.changes >= end)
    }

    /// After so many more changes, each one fails; `None` makes the disk work again.
    pub fn fail_after(&self, fault: Option<(u64, Fault)>) {
        let state = &mut *self.disk.state();
        state.fault = fault.map(|(changes, fault)| (state.changes + changes, fault));
    }

    /// The power fails: of each change that was not synced, `choose(n)`, a number below `n`, decides what is left of
    /// it. To be called when no database is open.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn lose_power(&self, mut choose: impl FnMut(usize) -> usize) -> io::Result<()> {
        let files = std::mem::take(&mut self.disk.state().files);
        for (path, DiskFile { mut synced, unsynced }) in files {
            if !path.exists() {
                continue;
            }
            for change in unsynced {
                match (choose(3), change) {
                    (0, _) => {}
                    (1, Change::Write(at, mut data)) => {
                        data.truncate(choose(data.len() / SECTOR + 1) * SECTOR);
                        Change::Write(at, data).apply(&mut synced);
                    }
                    (_, change) => change.apply(&mut synced),
                }
            }
            fs::write(path, synced)?;
        }
        Ok(())
    }

    /// The next program begins on the disk as it is, without faults.
    pub fn restart(&self) {
        *self.disk.state() = DiskState::default();
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        disks().remove(&self.directory);
    }
}

fn disks() -> MutexGuard<'static, HashMap<PathBuf, Arc<Disk>>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk of a file, if its directory is watched.
fn disk_of(path: &Path) -> Option<Arc<Disk>> {
    let disks = disks();
    if disks.is_empty() {
        return None;
    }
    let directory = path.parent()?.canonicalize().ok()?;
    disks.get(&directory).cloned()
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is opened.
    fn opened(&self, path: &Path) {
        let mut state = self.state();
        if !state.files.contains_key(path) {
            let synced = fs::read(path).unwrap_or_default();
            state.files.insert(path.to_owned(), DiskFile { synced, unsynced: Vec::new() });
        }
    }

    /// A change is tried; `is_sync` says that it is a sync.
    fn change(&self, is_sync: bool) -> Outcome {
        let state = &mut *self.state();
        let number = state.changes;
        state.changes += 1;
        if state.ends_at.is_some_and(|end| number >= end) {
            return Outcome::Ended;
        }
        match state.fault {
            Some((from, fault)) if number >= from && (fault == Fault::FailedSync) == is_sync => {
                state.failed += 1;
                Outcome::Failed(fault)
            }
            _ => Outcome::Done,
        }
    }

    /// A change of a file was made.
    fn changed(&self, path: &Path, change: Change) {
        if let Some(file) = self.state().files.get_mut(path) {
            file.unsynced.push(change);
        }
    }

    /// A file was synced.
    fn synced(&self, path: &Path) {
        if let Some(file) = self.state().files.get_mut(path) {
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.synced);
            }
        }
    }

    /// A file was deleted.
    fn deleted(&self, path: &Path) {
        self.state().files.remove(path);
    }
}

impl Change {
    fn apply(self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(length, 0),
            Self::Write(at, data) => {
                if file.len() < at + data.len() {
                    file.resize(at + data.len(), 0);
                }
                file[at..at + data.len()].copy_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, ErrorCode};

    use super::*;

    struct Home(PathBuf);

    impl Home {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("faulty-disk-{name}-{}", std::process::id()));
            let _old = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> Connection {
            let database = Connection::open(self.0.join("d")).unwrap();
            let mode = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";
            database.execute_batch(mode).unwrap();
            database.execute_batch("CREATE TABLE IF NOT EXISTS t(x)").unwrap();
            database
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _left = fs::remove_dir_all(&self.0);
        }
    }

    fn add(database: &Connection) -> rusqlite::Result<usize> {
        database.execute("INSERT INTO t VALUES (zeroblob(2000))", [])
    }

    fn count(database: &Connection) -> i64 {
        database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn faults_reach_sqlite_and_end() {
        let home = Home::new("faults");
        let disk = FaultyDisk::watch(&home.0).unwrap();
        let database = home.open();
        for (fault, code) in [(Fault::Full, ErrorCode::DiskFull), (Fault::ShortWrite, ErrorCode::SystemIoFailure)] {
            disk.fail_after(Some((1, fault)));
            assert_eq!(add(&database).unwrap_err().sqlite_error_code(), Some(code));
            disk.fail_after(None);
            add(&database).unwrap();
        }
        database.execute_batch("PRAGMA synchronous = FULL").unwrap();
        disk.fail_after(Some((0, Fault::FailedSync)));
        assert_eq!(add(&database).unwrap_err().sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
        disk.fail_after(None);
        add(&database).unwrap();
        assert_eq!((count(&database), disk.failed()), (3, 3));
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_a_power_failure_what_was_synced() {
        let home = Home::new("ends");
        let disk = FaultyDisk::watch(&home.0).unwrap();
        let database = home.open();
        add(&database).unwrap();
        database.execute_batch("PRAGMA synchronous = FULL").unwrap();
        add(&database).unwrap();
        database.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
        add(&database).unwrap();
        disk.end_after(1);
        assert!(add(&database).is_err() && disk.has_ended());
        drop(database);
        let copy = home.0.join("copy");
        fs::create_dir(&copy).unwrap();
        for name in ["d", "d-wal"] {
            fs::copy(home.0.join(name), copy.join(name)).unwrap();
        }
        assert_eq!(count(&Connection::open(copy.join("d")).unwrap()), 3, "killed");
        disk.lose_power(|_| 0).unwrap();
        disk.restart();
        assert_eq!(count(&home.open()), 2, "without power");
    }
}
