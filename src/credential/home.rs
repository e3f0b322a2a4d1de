//! Login homes: the directory of a login that a vendor's own program made for lessor, `STATE/logins/TOOL-N`. It
//! contains `home.json`, and `home`: the directory in which the program keeps its files.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::LoginProgram;
use super::import::discover::keychain_service;
use crate::pool::Wall;

/// The directory of all login homes, in the state directory.
const HOMES: &str = "logins";
/// What lessor knows about a login home.
const RECORD: &str = "home.json";
/// The most homes of one tool.
const MOST_HOMES: u32 = 10_000;

/// What lessor knows about a login home.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HomeRecord {
    /// The name of the program: claude, codex, gemini or agy.
    pub tool: String,
    /// The program's file; an absolute path.
    pub program: PathBuf,
    /// The `PATH` at login, with which the program is started.
    pub path: String,
    /// When it was created, epoch ms.
    pub created_at: u64,
}

/// The directory of one login.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LoginHome {
    root: PathBuf,
    program: LoginProgram,
}

impl LoginHome {
    /// Creates a home for a login that this program file makes.
    ///
    /// # Errors
    /// When it cannot be created or written; then nothing of it is left.
    pub fn create(state: &Path, program: LoginProgram, file: &Path, path: &OsStr, now: Wall) -> io::Result<Self> {
        let homes = state.join(HOMES);
        create_private(&homes, true)?;
        let home = Self::next(&homes, program)?;
        home.fill(file, path, now).inspect_err(|_| drop(home.remove()))?;
        Ok(home)
    }

    /// Writes what lessor knows about it, and creates the program's directory.
    fn fill(&self, file: &Path, path: &OsStr, now: Wall) -> io::Result<()> {
        create_private(&self.tool_home(), true)?;
        let record = HomeRecord {
            tool: self.program.name().to_owned(),
            program: std::path::absolute(file)?,
            path: path.to_string_lossy().into_owned(),
            created_at: now.0,
        };
        fs::write(self.root.join(RECORD), serde_json::to_vec_pretty(&record).map_err(io::Error::other)?)?;
        self.make_private()
    }

    /// Creates the directory with the first free number.
    fn next(homes: &Path, program: LoginProgram) -> io::Result<Self> {
        for number in 1..=MOST_HOMES {
            let root = homes.join(format!("{}-{number}", program.name()));
            match create_private(&root, false) {
                Ok(()) => return Ok(Self { root, program }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{} contains too many logins", homes.display())))
    }

    /// All homes, also those that belong to no account.
    #[must_use]
    pub fn all(state: &Path) -> Vec<Self> {
        let entries = fs::read_dir(state.join(HOMES)).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let home = |root: PathBuf| Some(Self { program: program_of_home(&root)?, root });
        let mut homes: Vec<Self> = directories.filter_map(|entry| home(entry.path())).collect();
        homes.sort_unstable();
        homes
    }

    /// The home that contains a file, whether or not it still exists.
    #[must_use]
    pub fn containing(state: &Path, path: &Path) -> Option<Self> {
        let homes = state.join(HOMES);
        let within = path.strip_prefix(&homes).ok()?;
        // the file can be elsewhere
        if within.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let name = within.components().next()?;
        let root = homes.join(name);
        Some(Self { program: program_of_home(&root)?, root })
    }

    /// The program that logs in in the home of this file, also if that was the home of another machine.
    #[must_use]
    pub fn program_of(path: &Path) -> Option<LoginProgram> {
        let root = path.ancestors().find(|above| {
            let parent = above.parent().and_then(Path::file_name);
            parent == Some(OsStr::new(HOMES)) && program_of_home(above).is_some()
        });
        root.and_then(program_of_home)
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The program that logs in here.
    #[must_use]
    pub fn program(&self) -> LoginProgram {
        self.program
    }

    /// The directory that the program uses.
    #[must_use]
    pub fn tool_home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The file that contains the login, once the program has made one.
    #[must_use]
    pub fn login_file(&self) -> PathBuf {
        self.tool_home().join(self.program.login_file())
    }

    /// The item of the macOS keychain in which the program stores a login of this directory.
    #[must_use]
    pub fn keychain_item(&self) -> Option<String> {
        (self.program == LoginProgram::Claude).then(|| keychain_service(&self.tool_home().to_string_lossy()))
    }

    /// Removes the login from the macOS keychain, because lessor has it now: a program that still finds it there could
    /// refresh it, too.
    pub fn forget_keychain_item(&self) {
        if cfg!(target_os = "macos")
            && let Some(item) = self.keychain_item()
        {
            let mut security = Command::new("/usr/bin/security");
            security.args(["delete-generic-password", "-s", &item]).stdin(Stdio::null());
            // there is none if the login is in the file
            let _no_item = security.output();
        }
    }

    /// What lessor knows about it.
    ///
    /// # Errors
    /// When it cannot be read, or was changed into something that lessor does not write.
    pub fn record(&self) -> io::Result<HomeRecord> {
        let record: HomeRecord =
            serde_json::from_slice(&fs::read(self.root.join(RECORD))?).map_err(io::Error::other)?;
        if record.tool != self.program.name() {
            return Err(io::Error::other(format!("{RECORD} names another tool: {}", record.tool)));
        }
        if !record.program.is_absolute() {
            return Err(io::Error::other(format!("{RECORD} has no absolute path of the program")));
        }
        Ok(record)
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Option<Wall> {
        let of_directory = || {
            let modified = fs::metadata(&self.root).and_then(|about| about.modified()).ok()?;
            let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(Wall(crate::pool::millis(since)))
        };
        self.record().map(|record| Wall(record.created_at)).ok().or_else(of_directory)
    }

    /// A command that starts the program in this home: with its directory and the `PATH` of the login, and without the
    /// variables that would divert it.
    ///
    /// # Errors
    /// When the home does not say which program it belongs to.
    pub fn command(&self) -> io::Result<Command> {
        let record = self.record()?;
        let mut command = Command::new(&record.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| self.program.is_diverted_by(name)) {
                command.env_remove(name);
            }
        }
        command.env("PATH", &record.path);
        for name in self.program.home_variables() {
            command.env(name, self.tool_home());
        }
        if self.program == LoginProgram::Agy {
            command.env("XDG_CONFIG_HOME", self.tool_home().join(".config"));
        }
        Ok(command)
    }

    /// Closes all its files and directories to other users, whatever the program's umask was.
    ///
    /// # Errors
    /// When a file cannot be changed.
    pub fn make_private(&self) -> io::Result<()> {
        close_to_others(&self.root)
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    /// When something in it cannot be removed. That it does not exist is no error.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The program of a home with this directory; `None` if the name is not that of a home.
fn program_of_home(root: &Path) -> Option<LoginProgram> {
    let (program, number) = root.file_name()?.to_str()?.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    LoginProgram::from_name(program)
}

fn create_private(directory: &Path, recursive: bool) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(recursive);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Takes all rights from the group and from others; links are not followed.
#[cfg(unix)]
fn close_to_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let about = fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Ok(());
    }
    let mode = about.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
    }
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            match close_to_others(&entry?.path()) {
                // the program may still remove a file of its own
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// The files are in the user's profile, which is as private.
#[cfg(not(unix))]
fn close_to_others(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(state: &Path, program: LoginProgram) -> LoginHome {
        LoginHome::create(state, program, Path::new("/opt/vendor/program"), OsStr::new("/bin:/usr/bin"), Wall(5))
            .unwrap()
    }

    #[test]
    fn each_login_has_the_first_free_directory_of_its_program() {
        let state = tempfile::tempdir().unwrap();
        let names = |homes: &[LoginHome]| -> Vec<String> {
            homes.iter().map(|home| home.root().file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        let made = [LoginProgram::Claude, LoginProgram::Claude, LoginProgram::Codex]
            .map(|program| create(state.path(), program));
        assert_eq!(names(&made), ["claude-1", "claude-2", "codex-1"]);
        made[0].remove().unwrap();
        made[0].remove().unwrap();
        assert_eq!(names(&[create(state.path(), LoginProgram::Claude)]), ["claude-1"]);
        let record = made[1].record().unwrap();
        assert_eq!((record.tool.as_str(), record.path.as_str(), record.created_at), ("claude", "/bin:/usr/bin", 5));
        // other directories are none
        fs::create_dir(state.path().join("logins/claude-x")).unwrap();
        fs::create_dir(state.path().join("logins/other-1")).unwrap();
        assert_eq!(names(&LoginHome::all(state.path())), ["claude-1", "claude-2", "codex-1"]);
    }

    #[test]
    fn a_home_that_cannot_be_written_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let failed = LoginHome::create(state.path(), LoginProgram::Codex, Path::new(""), OsStr::new(""), Wall(5));
        assert!(failed.is_err(), "an empty path is not absolute");
        assert_eq!(LoginHome::all(state.path()), []);
    }

    #[test]
    fn a_home_is_found_by_a_file_in_it() {
        let state = tempfile::tempdir().unwrap();
        let home = create(state.path(), LoginProgram::Claude);
        let found = |path: &Path| LoginHome::containing(state.path(), path);
        assert_eq!(found(&home.login_file()), Some(home.clone()));
        let logins = state.path().join("logins");
        for (outside, of) in [
            ("../x", None),
            ("claude-1x/y", None),
            ("claude-1/../../x", Some(LoginProgram::Claude)),
            ("../../other/logins/claude-7/home/.credentials.json", Some(LoginProgram::Claude)),
            ("../../other/logins/codex-2/home/auth.json", Some(LoginProgram::Codex)),
            ("../../me/.claude/.credentials.json", None),
        ] {
            assert_eq!(found(&logins.join(outside)), None, "{outside}");
            assert_eq!(LoginHome::program_of(&logins.join(outside)), of, "{outside}");
        }
        assert_eq!(LoginHome::program_of(&home.login_file()), Some(LoginProgram::Claude));
    }

    #[cfg(unix)]
    #[test]
    fn a_record_that_lessor_has_not_written_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let home = create(state.path(), LoginProgram::Gemini);
        for (record, words) in [
            ("", "EOF"),
            (r#"{"tool":"gemini"}"#, "program"),
            (r#"{"tool":"claude","program":"/x","path":"","created_at":1}"#, "names another tool: claude"),
            (r#"{"tool":"gemini","program":"./gemini","path":"","created_at":1}"#, "no absolute path"),
        ] {
            fs::write(home.root().join(RECORD), record).unwrap();
            let why = home.command().unwrap_err().to_string();
            assert!(why.contains(words), "{record}: {why}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn everything_in_a_home_is_closed_to_other_users() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = tempfile::tempdir().unwrap();
        let outside = state.path().join("outside");
        fs::write(&outside, "").unwrap();
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        open(&outside, 0o644);
        let home = create(state.path(), LoginProgram::Codex);
        let folder = home.tool_home().join("sessions");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("run"), "").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        open(&folder, 0o755);
        open(&folder.join("run"), 0o755);
        open(home.root(), 0o777);
        home.make_private().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let modes = [home.root(), &folder, &folder.join("run"), &home.root().join(RECORD), &outside].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600, 0o644]);
    }
}
