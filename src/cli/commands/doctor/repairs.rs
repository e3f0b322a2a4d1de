//! What `doctor --fix` repairs: modes, the socket of a dead daemon, and files that interrupted work has left behind. While
//! a daemon runs, no file of its directories is removed.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{DoctorFinding, FindingLevel};
use crate::cli::commands::login::{is_abandoned_home, unused_homes};
use crate::cli::launch::is_abandoned;
use crate::config::AppPaths;
use crate::daemon::lock::{self, Lock, Taken};
use crate::protocol::AccountInfo;

/// A temporary file that is older than this belongs to no work that is under way.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// One thing to repair.
#[derive(Debug)]
struct Repair {
    path: PathBuf,
    /// What is wrong.
    problem: String,
    change: FileChange,
}

#[derive(Debug, Default)]
struct FoundRepairs {
    /// Safe while a daemon runs, too.
    any_time: Vec<Repair>,
    /// Of files that are written only under the lock of the data directory.
    under_lock: Vec<Repair>,
}

#[derive(Debug)]
enum FileChange {
    /// Set this mode.
    #[cfg_attr(windows, expect(dead_code, reason = "there, files have no modes"))]
    Mode(u32),
    /// Remove the file, or the directory with everything in it.
    Remove,
}

/// Repairs what is safe to repair, or with `fix` unset says what would be repaired.
pub(super) fn all(places: &AppPaths, fix: bool, findings: &mut Vec<DoctorFinding>) {
    set_aside(places, findings);
    let FoundRepairs { any_time, mut under_lock } = find(places);
    // held until everything is done, so that no daemon starts meanwhile
    let mut _lock = None;
    if fix && !under_lock.is_empty() {
        match Lock::take(&places.lock) {
            Ok(Taken::Ours(lock)) => _lock = Some(lock),
            // one has started meanwhile, and has done it itself
            Ok(Taken::Theirs(_)) => under_lock.clear(),
            Err(error) => {
                let path = places.lock.display().to_string();
                findings.push(DoctorFinding::broken("file", format!("it cannot be locked: {error}")).of(path));
                under_lock.clear();
            }
        }
    }
    for repair in under_lock.into_iter().chain(any_time) {
        findings.push(if fix { repair.fix() } else { repair.finding().remedy("lessor doctor --fix") });
    }
}

impl Repair {
    fn finding(&self) -> DoctorFinding {
        DoctorFinding::new(FindingLevel::Warning, "file", self.problem.clone()).of(self.path.display().to_string())
    }

    fn fix(&self) -> DoctorFinding {
        match self.change.apply(&self.path) {
            Ok(()) => {
                let done = match self.change {
                    FileChange::Mode(mode) => format!("its mode is {mode:04o} now"),
                    FileChange::Remove => "it was removed".to_owned(),
                };
                let message = format!("{}; {done}", self.problem);
                DoctorFinding { fixed: true, message, level: FindingLevel::Ok, ..self.finding() }
            }
            Err(error) => {
                let path = self.path.display();
                let command = match self.change {
                    FileChange::Mode(mode) => format!("chmod {mode:o} '{path}'"),
                    FileChange::Remove => format!("rm -r '{path}'"),
                };
                let message = format!("{}; repairing it failed: {error}", self.problem);
                DoctorFinding { message, ..self.finding() }.remedy(command)
            }
        }
    }
}

impl FileChange {
    fn apply(&self, path: &Path) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Mode(mode) => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(*mode)),
            #[cfg(windows)]
            Self::Mode(_) => Ok(()),
            Self::Remove if fs::symlink_metadata(path)?.is_dir() => fs::remove_dir_all(path),
            Self::Remove => fs::remove_file(path),
        }
    }
}

fn find(places: &AppPaths) -> FoundRepairs {
    let mut found = FoundRepairs::default();
    let remove =
        |path: PathBuf, problem: &str| Repair { path, problem: problem.to_owned(), change: FileChange::Remove };
    // of programs that have ended; they belong to no daemon
    for entry in entries(&places.run.join("agents")).filter(|entry| is_abandoned(&entry.path())) {
        found.any_time.push(remove(entry.path(), "the program that it was made for has ended"));
    }
    let abandoned = "interrupted work has left it behind";
    let of_config = |entry: &DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(".lessor-") && name.ends_with(".tmp") && is_old(entry)
    };
    let config = places.config.parent().unwrap_or(Path::new("."));
    found.any_time.extend(entries(config).filter(of_config).map(|entry| remove(entry.path(), abandoned)));
    if !lock::is_held(&places.lock) {
        for path in [&places.database, &places.key] {
            let halves = [".new", ".new-wal", ".new-shm", ".new-journal"].map(|suffix| beside(path, suffix));
            let halves = halves.into_iter().filter(|path| path.is_file());
            found.under_lock.extend(halves.map(|path| remove(path, abandoned)));
        }
        for entry in [&places.data, &places.state].into_iter().flat_map(|directory| entries(directory)) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if (name.starts_with(".tmp") || name.starts_with(".lessor-")) && is_old(&entry) {
                found.under_lock.push(remove(entry.path(), abandoned));
            }
        }
        #[cfg(unix)]
        unix::find_dead_socket(places, &mut found.under_lock);
    }
    #[cfg(unix)]
    unix::find_modes(places, &mut found);
    found
}

/// Directories that logins of vendors' programs have left behind: they belong to no account.
pub(super) fn login_homes(places: &AppPaths, accounts: &[AccountInfo], fix: bool, findings: &mut Vec<DoctorFinding>) {
    for home in unused_homes(&places.state, accounts) {
        let path = home.root().display().to_string();
        let finding = |message: &str| DoctorFinding::warning("login", message).of(&path);
        let left = "a login of no account: it was not completed";
        findings.push(if !is_abandoned_home(&home) {
            finding("a login that is not complete; it may still be under way, so --fix removes it after an hour")
        } else if !fix {
            finding(left).remedy("lessor doctor --fix")
        } else {
            match home.remove() {
                Ok(()) => DoctorFinding {
                    fixed: true,
                    ..DoctorFinding::ok("login", format!("{left}; it was removed")).of(&path)
                },
                Err(error) => {
                    finding(&format!("{left}; removing it failed: {error}")).remedy(format!("rm -r '{path}'"))
                }
            }
        });
    }
}

/// Files that lessor has renamed to keep them: only the user knows whether they are still of use.
fn set_aside(places: &AppPaths, findings: &mut Vec<DoctorFinding>) {
    for entry in [&places.data, &places.state].into_iter().flat_map(|directory| entries(directory)) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        if name.rsplit_once(".old").is_some_and(|(_, rest)| is_number(rest)) {
            let path = entry.path().display().to_string();
            let finding = DoctorFinding::ok("file", "it was set aside when another took its place");
            findings.push(finding.of(&path).remedy(format!("if you need it no more: rm '{path}'")));
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_old(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|facts: Metadata| facts.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > ABANDONED_AFTER))
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixStream;

    use super::*;

    pub(super) fn find_modes(places: &AppPaths, found: &mut FoundRepairs) {
        for directory in [&places.data, &places.state, &places.run] {
            mode_of(directory, 0o700, &mut found.any_time);
        }
        let tls = places.state.join("tls");
        mode_of(&tls, 0o700, &mut found.any_time);
        for entry in [&places.data, &places.state, &tls].into_iter().flat_map(|directory| entries(directory)) {
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && found.under_lock.iter().all(|removed| removed.path != entry.path())
            {
                mode_of(&entry.path(), 0o600, &mut found.any_time);
            }
        }
    }

    pub(super) fn find_dead_socket(places: &AppPaths, found: &mut Vec<Repair>) {
        let is_socket =
            fs::symlink_metadata(&places.socket).is_ok_and(|facts| facts.file_type().is_socket() && is_mine(&facts));
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_socket && UnixStream::connect(&places.socket).is_err_and(refused) {
            let problem = "no daemon listens on this socket any more".to_owned();
            found.push(Repair { path: places.socket.clone(), problem, change: FileChange::Remove });
        }
    }

    /// A file or directory of the user that others can read or write. Links and other users' files are not touched.
    fn mode_of(path: &Path, wanted: u32, found: &mut Vec<Repair>) {
        let Ok(facts) = fs::symlink_metadata(path) else { return };
        let mode = facts.mode() & 0o777;
        if (facts.is_file() || facts.is_dir()) && is_mine(&facts) && mode & 0o077 != 0 {
            let problem = format!("it is open to other users (mode {mode:04o})");
            found.push(Repair { path: path.to_owned(), problem, change: FileChange::Mode(wanted) });
        }
    }

    fn is_mine(facts: &Metadata) -> bool {
        facts.uid() == rustix::process::geteuid().as_raw()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::Environment;

    fn home() -> (tempfile::TempDir, AppPaths) {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment { home: Some(home.path().as_os_str().to_owned()), ..Environment::default() };
        let places = AppPaths::resolve(&environment).unwrap();
        for directory in [&places.data, &places.state, &places.run] {
            fs::create_dir_all(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        (home, places)
    }

    fn file(path: &Path, mode: u32, age: Duration) {
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = fs::File::open(path).unwrap();
        opened.set_modified(SystemTime::now() - age).unwrap();
    }

    fn messages(places: &AppPaths, fix: bool) -> Vec<String> {
        let mut findings = Vec::new();
        all(places, fix, &mut findings);
        findings
            .into_iter()
            .map(|finding| format!("{} {}: {}", finding.fixed, finding.subject.unwrap(), finding.message))
            .collect()
    }

    #[test]
    fn what_is_safe_is_repaired_once() {
        let (_home, places) = home();
        let (new, old) = (Duration::ZERO, ABANDONED_AFTER * 2);
        fs::set_permissions(&places.data, fs::Permissions::from_mode(0o755)).unwrap();
        file(&places.key, 0o644, new);
        fs::create_dir_all(places.state.join("tls")).unwrap();
        fs::set_permissions(places.state.join("tls"), fs::Permissions::from_mode(0o755)).unwrap();
        file(&places.state.join("tls/certificates.json"), 0o640, new);
        file(&places.database, 0o600, new);
        file(&places.data.join("lessor.db.new"), 0o600, new);
        file(&places.state.join(".tmpAbc"), 0o600, old);
        file(&places.state.join(".tmpDef"), 0o600, new);
        drop(UnixListener::bind(&places.socket).unwrap());
        let agent = places.run.join("agents").join(format!("{}-1-7", u32::MAX / 3));
        fs::create_dir_all(&agent).unwrap();
        let said = messages(&places, false);
        assert_eq!(said.len(), 8, "{said:#?}");
        assert_eq!(messages(&places, false), said, "looking changes nothing");
        let fixed = messages(&places, true);
        assert!(fixed.len() == 8 && fixed.iter().all(|message| message.starts_with("true ")), "{fixed:#?}");
        assert_eq!(messages(&places, true), Vec::<String>::new());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&places.data), mode(&places.key)), (0o700, 0o600));
        let tls = places.state.join("tls");
        assert_eq!((mode(&tls), mode(&tls.join("certificates.json"))), (0o700, 0o600));
        assert!(!places.socket.exists() && !agent.exists() && places.state.join(".tmpDef").exists());
        assert!(places.database.exists());
    }

    #[test]
    fn while_a_daemon_runs_modes_are_repaired_and_none_of_its_files_is_removed() {
        let (_home, places) = home();
        let Ok(Taken::Ours(_lock)) = Lock::take(&places.lock) else { panic!() };
        file(&places.key, 0o644, Duration::ZERO);
        file(&places.data.join("lessor.db.new"), 0o600, ABANDONED_AFTER * 2);
        drop(UnixListener::bind(&places.socket).unwrap());
        let agent = places.run.join("agents").join(format!("{}-1-7", u32::MAX / 3));
        fs::create_dir_all(&agent).unwrap();
        assert_eq!(messages(&places, false).len(), 2);
        let fixed = messages(&places, true);
        assert!(fixed.len() == 2 && fixed.iter().all(|message| message.starts_with("true ")), "{fixed:#?}");
        assert_eq!(fs::metadata(&places.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!agent.exists() && places.socket.exists() && places.data.join("lessor.db.new").exists());
    }

    #[test]
    fn what_was_set_aside_is_named_and_stays() {
        let (_home, places) = home();
        let aside = places.data.join("lessor.db.old1-wal");
        file(&aside, 0o600, ABANDONED_AFTER * 2);
        file(&places.data.join("lessor.db.older"), 0o600, Duration::ZERO);
        let said = messages(&places, true);
        assert!(said.len() == 1 && said[0].contains("set aside"), "{said:?}");
        assert!(aside.exists());
    }
}
