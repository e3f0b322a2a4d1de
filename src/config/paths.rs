//! The paths of all files and sockets.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use directories::BaseDirs;

/// The paths of one daemon and its clients; all absolute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppPaths {
    /// The configuration file; it need not exist.
    pub config: PathBuf,
    /// Directory of the database and the lock.
    pub data: PathBuf,
    /// Directory of the log and the key.
    pub state: PathBuf,
    /// The lease socket, or the pipe on Windows.
    pub socket: PathBuf,
    /// Whether the user has named the socket (`--socket`, `LESSOR_SOCKET`). That of a container may belong to another user.
    pub socket_is_named: bool,
    /// Directory of files that last no longer than a program that `run` starts.
    pub run: PathBuf,
    /// The database file.
    pub database: PathBuf,
    /// The history's file.
    pub history: PathBuf,
    /// `daemon.lock`: one daemon per data directory.
    pub lock: PathBuf,
    /// The key that seals secrets; deliberately not in the database's directory.
    pub key: PathBuf,
    /// The daemon's log.
    pub log: PathBuf,
}

/// The paths given on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
}

/// Everything that the paths depend on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// The command line.
    pub flags: Flags,
    /// `LESSOR_CONFIG`
    pub config: Option<OsString>,
    /// `LESSOR_SOCKET`
    pub socket: Option<OsString>,
    /// `LESSOR_HOME`
    pub home: Option<OsString>,
    /// `XDG_RUNTIME_DIR`
    pub runtime: Option<OsString>,
    /// The system's base directories, if the user has a home.
    pub base: Option<BaseDirectories>,
    /// The current directory, for relative paths.
    pub current: Option<PathBuf>,
    /// The user's name; only the Windows pipe needs it.
    pub user: String,
}

/// The system's base directories.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseDirectories {
    /// Of configuration.
    pub config: PathBuf,
    /// Of data.
    pub data: PathBuf,
    /// Of state; not every system has one.
    pub state: Option<PathBuf>,
}

/// Why the paths could not be determined.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathsError {
    /// Neither a home directory nor `LESSOR_HOME`.
    #[error("the home directory is not known; set HOME to an absolute path, or LESSOR_HOME to a directory for lessor")]
    NoHome,
    /// A relative path, and no directory to resolve it against.
    #[error("{what} is the relative path {path:?}, and the current directory is not known; give an absolute path")]
    NoCurrent {
        /// Which variable or flag.
        what: &'static str,
        /// The relative path.
        path: PathBuf,
    },
}

impl AppPaths {
    /// The paths for this process.
    pub fn from_process(flags: &Flags) -> Result<Self, PathsError> {
        Self::resolve(&Environment::from_process(flags))
    }

    /// The paths for an environment; reads nothing else.
    pub fn resolve(environment: &Environment) -> Result<Self, PathsError> {
        let home = path(environment.home.as_deref()).map(|p| environment.absolute("LESSOR_HOME", p)).transpose()?;
        let (config, data, state, run) = match (&home, &environment.base) {
            (Some(home), _) => (home.join("config.toml"), home.join("data"), home.join("state"), home.join("run")),
            // A relative base directory would depend on the current directory.
            (None, Some(base)) if base.config.is_absolute() && base.data.is_absolute() => {
                let data = base.data.join("lessor");
                let state = match &base.state {
                    Some(state) if state.is_absolute() => state.join("lessor"),
                    _ => data.join("state"),
                };
                let run = path(environment.runtime.as_deref())
                    .filter(|p| p.is_absolute())
                    .map_or_else(|| state.join("run"), |runtime| runtime.join("lessor"));
                (base.config.join("lessor").join("config.toml"), data, state, run)
            }
            _ => return Err(PathsError::NoHome),
        };
        let given = |flag: &'static str, said: &Option<PathBuf>, variable: &'static str, value: &Option<OsString>| {
            let said = said.as_deref().filter(|p| !p.as_os_str().is_empty()).map(|p| (flag, p));
            let found = said.or_else(|| path(value.as_deref()).map(|p| (variable, p)));
            found.map(|(what, p)| environment.absolute(what, p)).transpose()
        };
        let config =
            given("--config", &environment.flags.config, "LESSOR_CONFIG", &environment.config)?.unwrap_or(config);
        let socket = given("--socket", &environment.flags.socket, "LESSOR_SOCKET", &environment.socket)?;
        let socket_is_named = socket.is_some();
        let socket = socket.unwrap_or_else(|| default_socket(&run, &environment.user, home.as_deref()));
        Ok(Self {
            database: data.join("lessor.db"),
            history: data.join("history.db"),
            lock: data.join("daemon.lock"),
            key: state.join("key"),
            log: state.join("lessor.log"),
            config,
            data,
            state,
            socket,
            socket_is_named,
            run,
        })
    }
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_process(flags: &Flags) -> Self {
        Self {
            flags: flags.clone(),
            config: std::env::var_os("LESSOR_CONFIG"),
            socket: std::env::var_os("LESSOR_SOCKET"),
            home: std::env::var_os("LESSOR_HOME"),
            runtime: std::env::var_os("XDG_RUNTIME_DIR"),
            base: BaseDirs::new().map(|base| BaseDirectories {
                config: base.config_dir().to_owned(),
                data: base.data_dir().to_owned(),
                state: base.state_dir().map(Path::to_owned),
            }),
            current: std::env::current_dir().ok(),
            user: std::env::var("USERNAME").unwrap_or_default(),
        }
    }

    /// What determines the configuration file: a flag, a variable, or the default.
    #[must_use]
    pub fn config_source(&self) -> &'static str {
        let flag = self.flags.config.as_deref().is_some_and(|path| !path.as_os_str().is_empty());
        match () {
            () if flag => "--config",
            () if path(self.config.as_deref()).is_some() => "LESSOR_CONFIG",
            () if path(self.home.as_deref()).is_some() => "LESSOR_HOME",
            () => "default",
        }
    }

    /// Makes a path absolute; `..` stays, because a symbolic link may come before it.
    fn absolute(&self, what: &'static str, path: &Path) -> Result<PathBuf, PathsError> {
        // A pipe's name is not relative to the current directory; a Unix-like shell writes it with slashes.
        let pipe = path.to_str().map(|text| text.replace('/', r"\")).filter(|text| text.starts_with(r"\\.\pipe\"));
        if let Some(pipe) = pipe.filter(|_| cfg!(windows)) {
            return Ok(pipe.into());
        }
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let Some(current) = &self.current else {
            return Err(PathsError::NoCurrent { what, path: path.to_owned() });
        };
        Ok(current.join(path).components().filter(|part| *part != Component::CurDir).collect())
    }
}

/// An empty variable counts as unset.
fn path(value: Option<&std::ffi::OsStr>) -> Option<&Path> {
    value.filter(|value| !value.is_empty()).map(Path::new)
}

#[cfg(unix)]
fn default_socket(run: &Path, _user: &str, _home: Option<&Path>) -> PathBuf {
    run.join("lessor.sock")
}

/// `\\.\pipe\lessor-USER`. Pipes are in no directory, so `LESSOR_HOME` becomes part of the name, as
/// 16 hexadecimal digits: `\\.\pipe\lessor-USER-0123456789abcdef`. They are the FNV-1a of the path in lower case,
/// because the file system ignores case.
#[cfg(windows)]
fn default_socket(_run: &Path, user: &str, home: Option<&Path>) -> PathBuf {
    let user: String = user.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let home = home.map(|home| {
        let same: PathBuf = home.components().collect();
        let path = same.to_string_lossy().to_lowercase();
        // the standard hasher may differ between builds
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("-{:016x}", path.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    });
    PathBuf::from(format!(r"\\.\pipe\lessor-{user}{}", home.unwrap_or_default()))
}

#[cfg(test)]
#[cfg_attr(unix, path = "paths/unix_tests.rs")]
#[cfg_attr(windows, path = "paths/windows_tests.rs")]
mod tests;
