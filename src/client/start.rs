//! Starts a daemon from a client.
//!
//! The client runs `lessor daemon --launch` and waits for it; that process starts the daemon itself, and ends as soon
//! as the daemon serves (see [`launch`]). So the daemon is not a child of the client: a program that the client becomes
//! by `exec` has no unexpected child, and does not have to reap the daemon.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::error::{ClientError, NoDaemon};
use super::{RetryTimer, connection::Client, spawn};
use crate::config::{AppPaths, Flags};

/// How long a client goes on while daemons are killed before they serve it. A daemon that ends with an exit code is
/// reported at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a daemon that has been started is looked for before another one is started: it was killed, or is busy.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a daemon may take until it serves.
const SERVE_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for another daemon after ours exited because of it, before ours is started again: the other one may
/// be shutting down.
const RESTART_DELAY: Duration = Duration::from_millis(250);
/// How much of the log is shown.
const SHOWN_BYTES: u64 = 4096;
const SHOWN_LINES: usize = 10;
/// Variables that the daemon's paths depend on; relative paths are made absolute, because the daemon changes its
/// directory.
const PLACES: [&str; 3] = ["LESSOR_HOME", "LESSOR_CONFIG", "LESSOR_SOCKET"];

/// Variables by which a service manager talks to one process; they must not be inherited by another one.
pub const SERVICE_MANAGER_VARIABLES: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// Variables that mark a process as a service; a daemon started by a client is not one.
const SERVICE_MARKERS: [&str; 4] = ["SYSTEMD_EXEC_PID", "INVOCATION_ID", "JOURNAL_STREAM", "MANAGERPID"];

/// What a run hands to the runs inside of it.
pub(crate) const RUN: &str = "LESSOR_RUN";

/// How to start a daemon.
#[derive(Clone, Debug)]
pub struct DaemonStarter {
    program: PathBuf,
    flags: Flags,
}

impl DaemonStarter {
    /// With this program, and the paths given on the command line.
    #[must_use]
    pub fn program(program: impl Into<PathBuf>, flags: &Flags) -> Self {
        Self { program: program.into(), flags: flags.clone() }
    }

    /// With the current program, which must be `lessor`.
    ///
    /// # Errors
    /// When the path of the current program is not known.
    pub fn this_program(flags: &Flags) -> io::Result<Self> {
        Ok(Self::program(std::env::current_exe()?, flags))
    }

    /// Why the program could not be executed.
    fn failure(&self, error: &io::Error) -> String {
        let program = self.program.display();
        let is_name = self.program.components().count() == 1;
        if is_name && error.kind() == io::ErrorKind::NotFound {
            return format!("no program {program} is in PATH; install it, or add its directory to PATH");
        }
        format!("{program}: {error}")
    }

    /// The launcher; it gives up after this time, or after [`SERVE_DEADLINE`].
    fn launcher(&self, within: Option<Duration>) -> Command {
        let mut command = self.command(&["daemon".as_ref(), "--launch".as_ref()]);
        if let Some(within) = within {
            command.arg("--launch-ms").arg(within.as_millis().to_string());
        }
        command
    }

    /// `program [--config FILE] [--socket PATH] ARGUMENTS`, without a terminal and without a service manager's
    /// variables.
    pub(crate) fn command(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, value) in [("--config", &self.flags.config), ("--socket", &self.flags.socket)] {
            if let Some(value) = value {
                let path = std::path::absolute(value).unwrap_or_else(|_| value.clone());
                command.arg(name).arg(path);
            }
        }
        for name in PLACES {
            let relative = std::env::var_os(name).filter(|value| !value.is_empty() && !Path::new(value).is_absolute());
            if let Some(Ok(path)) = relative.map(|value: OsString| std::path::absolute(value)) {
                command.env(name, path);
            }
        }
        for name in SERVICE_MANAGER_VARIABLES.iter().chain(&SERVICE_MARKERS) {
            command.env_remove(name);
        }
        // it outlives the run that starts it
        command.env_remove(RUN);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// Starts a daemon and connects to it, or to another one that started first.
pub(super) fn start(paths: &AppPaths, starter: &DaemonStarter) -> Result<Client, ClientError> {
    let no_daemon = |why: String, log: Vec<String>| {
        let why = format!("it could not be started: {why}");
        ClientError::from(NoDaemon { socket: paths.socket.clone(), why, log })
    };
    let log = open_log(&paths.state, &paths.log)
        .map_err(|error| no_daemon(format!("{}: {error}", paths.log.display()), Vec::new()))?;
    let before = log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let mut patience = RetryTimer::until(deadline);
    // an older program knows no `--launch-ms`: it is given only to those that follow the first
    let mut within = None;
    loop {
        let log = log.try_clone().map_err(|error| no_daemon(error.to_string(), Vec::new()))?;
        let launched = spawn::launcher(starter.launcher(within), log);
        let launched = launched.map_err(|error| no_daemon(starter.failure(&error), Vec::new()))?;
        let why = if launched.success() {
            match connect_until(paths, Instant::now() + LOOK_AGAIN) {
                // it was running a moment ago: it has been stopped or killed
                Err(ClientError::NoDaemon(error)) => error.why,
                found => return found,
            }
        } else {
            let why = format!("it ended with {launched}");
            if launched.code().is_some() {
                return Err(no_daemon(why, written_since(&paths.log, before)));
            }
            // the launcher itself was killed
            why
        };
        if !patience.wait() {
            return Err(no_daemon(why, written_since(&paths.log, before)));
        }
        within = Some(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Connects to a daemon that may not serve yet, or may be about to end.
fn connect_until(paths: &AppPaths, deadline: Instant) -> Result<Client, ClientError> {
    let mut backoff = RetryTimer::until(deadline);
    loop {
        match Client::connect(paths) {
            Err(error) if matches!(error, ClientError::NoDaemon(_)) || error.is_end_of_daemon() => {
                if !backoff.wait() {
                    return Err(match error {
                        ClientError::NoDaemon(_) => error,
                        ended => {
                            NoDaemon { socket: paths.socket.clone(), why: ended.to_string(), log: Vec::new() }.into()
                        }
                    });
                }
            }
            found => return found,
        }
    }
}

/// Starts a daemon in the background and returns the launcher's exit status, 0 once a daemon serves. It gives up after
/// `within`.
///
/// # Errors
/// When the program could not be started at all.
pub fn launch(paths: &AppPaths, starter: &DaemonStarter, within: Option<Duration>) -> io::Result<u8> {
    let within = within.unwrap_or(SERVE_DEADLINE);
    let mut child = spawn::daemon(starter, paths)?;
    let (mut exited_at, mut killed) = (None, 0);
    let mut backoff = RetryTimer::until(Instant::now() + within);
    loop {
        match Client::connect(paths) {
            // it greets before it has restored its state; a second greeting waits for that
            Ok(mut client) => match client.ping() {
                // it could not be restored: the daemon ends, and its status says why
                Err(ClientError::Lost(_)) => {}
                _ => {
                    if client.server().pid != child.id() {
                        let _later = reap(&mut child);
                    }
                    return Ok(0);
                }
            },
            Err(ClientError::NoDaemon(_)) => {}
            // the client that needs the daemon reports this to the user
            Err(_) => return Ok(0),
        }
        if let Some(status) = child.try_wait()? {
            match status.code() {
                // another daemon has locked the data directory: it is about to serve, or about to end
                Some(0) => {
                    let since = *exited_at.get_or_insert_with(Instant::now);
                    if since.elapsed() >= RESTART_DELAY {
                        child = spawn::daemon(starter, paths)?;
                        exited_at = None;
                    }
                }
                Some(code) => return Ok(u8::try_from(code).unwrap_or(1)),
                // killed, or out of memory: another attempt may succeed
                None => {
                    if killed == 0 {
                        spawn::say(paths, &format!("the daemon was ended by {status}; it is started again"));
                    }
                    killed += 1;
                    child = spawn::daemon(starter, paths)?;
                }
            }
        }
        if !backoff.wait() {
            let seconds = within.as_secs_f64();
            let text = match killed {
                0 => format!("the daemon was started, but does not accept connections after {seconds:.0} s"),
                _ => format!("the daemon was started {} times in {seconds:.0} s, and killed each time", killed + 1),
            };
            spawn::say(paths, &text);
            return Ok(1);
        }
    }
}

/// Waits a moment for a daemon that started too late, so that it does not stay a zombie where process 1 does not reap
/// processes, as in many containers.
fn reap(child: &mut Child) -> io::Result<()> {
    let mut backoff = RetryTimer::until(Instant::now() + RESTART_DELAY);
    while child.try_wait()?.is_none() && backoff.wait() {}
    Ok(())
}

/// The log, for a daemon's standard error; only its owner reads it.
pub(super) fn open_log(state: &Path, log: &Path) -> io::Result<File> {
    let mut directory = std::fs::DirBuilder::new();
    directory.recursive(true);
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        directory.mode(0o700);
        options.mode(0o600);
    }
    crate::ownership::check(log)?;
    directory.create(state)?;
    let file = options.open(log)?;
    crate::ownership::check_opened(log, &file)?;
    Ok(file)
}

/// The last lines of what was written after the first `before` bytes.
fn written_since(log: &Path, before: u64) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        // a log that was cut meanwhile is new from its beginning
        let from = if before > length { 0 } else { before }.max(length.saturating_sub(SHOWN_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_new_lines_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a").join("state");
        let log = state.join("lessor.log");
        drop(open_log(&state, &log).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&state), mode(&log)), (0o700, 0o600));
        }
        std::fs::write(&log, "old\nnew 1\n\nnew 2\n").unwrap();
        assert_eq!(written_since(&log, 4), ["new 1", "new 2"]);
        assert_eq!(written_since(&log, 999), ["old", "new 1", "new 2"]);
        let many: String = (0..50).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, many).unwrap();
        assert_eq!(written_since(&log, 0).len(), SHOWN_LINES);
        assert_eq!(written_since(&log, 0).last().unwrap(), "line 49");
        assert!(written_since(&state.join("none"), 0).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn the_next_launcher_has_what_is_left_of_the_time() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let environment = crate::config::Environment { home: Some(directory.path().into()), ..Default::default() };
        let paths = AppPaths::resolve(&environment).unwrap();
        let (program, calls) = (directory.path().join("program"), directory.path().join("calls"));
        // the first is killed, the second fails
        let script =
            "#!/bin/sh\ncd \"${0%/*}\"\necho \"$*\" >> calls\n[ $(wc -l < calls) = 2 ] || kill -9 $$\nexit 9\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let starter = DaemonStarter::program(&program, &Flags::default());
        Client::connect_or_start(&paths, &starter).unwrap_err();
        let calls = std::fs::read_to_string(calls).unwrap();
        let (first, second) = calls.trim_end().split_once('\n').unwrap();
        assert_eq!(first, "daemon --launch");
        let left = second.strip_prefix("daemon --launch --launch-ms ").unwrap();
        assert!((1..10_000).contains(&left.parse::<u64>().unwrap()), "{left}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let environment = crate::config::Environment { home: Some(directory.path().into()), ..Default::default() };
        let paths = AppPaths::resolve(&environment).unwrap();
        let starter = DaemonStarter::program(directory.path().join("nothing"), &Flags::default());
        let error = Client::connect_or_start(&paths, &starter).unwrap_err();
        assert!(error.to_string().contains("nothing"), "{error}");
    }
}
