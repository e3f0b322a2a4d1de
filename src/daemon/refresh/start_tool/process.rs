//! The program as a process: alone in its group, with an environment of its home only, and for a limited time.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::words::{ToolOutput, ToolPipe};
use crate::credential::LoginHome;

/// What a program gets of the daemon's environment: what every program needs, and how to reach the network; nothing that
/// names a credential, another home or a terminal.
const VARIABLES: &[&str] = &[
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_SYSTEM_CA",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // an enterprise login needs it
    "GOOGLE_CLOUD_PROJECT",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERNAME",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "COMMONPROGRAMFILES",
];
/// The time between two looks at whether the program has done its work.
const LOOK: Duration = Duration::from_millis(250);
/// How long it may go on after that.
const FINISHES: Duration = Duration::from_secs(10);
/// How long it may take to end when it is asked to.
const ENDS: Duration = Duration::from_secs(2);
/// Without a daemon that ends it, the program's group ends itself after this time.
const ALONE: Duration = Duration::from_secs(180);

/// How long the last of its output may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
/// The directory in a home in which programs start: empty, so that no file in it changes what they do.
const EMPTY: &str = "start";

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ToolEnd {
    /// lessor did not end it.
    Exited(ExitStatus),
    /// lessor ended it, because it went on for too long after its work was done.
    Done,
    /// lessor ended it, because it waited for a person.
    AskedForLogin,
    /// lessor ended it, because its time was over.
    TooLong,
}

/// A program, and those that it has started; they end when this is dropped.
struct ToolProcess {
    child: Child,
    #[cfg(unix)]
    group: Option<rustix::process::Pid>,
}

/// Starts the home's program with these arguments, and waits for its end: at most until `deadline`, or until `is_done`.
pub(super) async fn run<F: Future<Output = bool> + Send>(
    home: &LoginHome,
    (arguments, variables): (&[&str], &[(&str, &str)]),
    deadline: Instant,
    is_done: impl Fn() -> F + Send,
) -> io::Result<(ToolEnd, ToolOutput)> {
    let mut process = ToolProcess::start(home, arguments, variables)?;
    let output = Arc::new(Mutex::new(ToolOutput::default()));
    let readers = [
        process.child.stdout.take().map(|pipe| collect(pipe, ToolPipe::Output, output.clone())),
        process.child.stderr.take().map(|pipe| collect(pipe, ToolPipe::Errors, output.clone())),
    ];
    let so_far = || output.lock().unwrap_or_else(PoisonError::into_inner);
    let mut looks = interval(LOOK);
    let mut finishes: Option<Instant> = None;
    let end = loop {
        tokio::select! {
            status = process.child.wait() => break ToolEnd::Exited(status?),
            _ = looks.tick(), if finishes.is_none() => {
                if is_done().await {
                    finishes = Some(after(FINISHES));
                } else if so_far().asks_for_login() {
                    break ToolEnd::AskedForLogin;
                }
            }
            () = sleep_until(finishes.map_or(deadline, |at| at.min(deadline))) => {
                break if finishes.is_some() { ToolEnd::Done } else { ToolEnd::TooLong };
            }
        }
    };
    process.end().await;
    for reader in readers.into_iter().flatten() {
        // a program that left the group may hold the pipe open
        let stopped = reader.abort_handle();
        let _ended_or_not = timeout(LAST_OUTPUT, reader).await;
        stopped.abort();
    }
    let output = std::mem::take(&mut *so_far());
    Ok((end, output))
}

/// The time after this duration, for a timer.
#[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
pub(super) fn after(duration: Duration) -> Instant {
    Instant::now() + duration
}

/// Reads a pipe to its end.
fn collect(
    mut pipe: impl AsyncRead + Unpin + Send + 'static,
    which: ToolPipe,
    output: Arc<Mutex<ToolOutput>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut bytes).await {
            output.lock().unwrap_or_else(PoisonError::into_inner).push(which, bytes.get(..length).unwrap_or_default());
        }
    })
}

impl ToolProcess {
    fn start(home: &LoginHome, arguments: &[&str], variables: &[(&str, &str)]) -> io::Result<Self> {
        let of_home = home.command()?;
        let mut command = command(Path::new(of_home.get_program()), arguments, ALONE);
        command.env_clear();
        for name in VARIABLES {
            if let Some(value) = std::env::var_os(name).filter(|_| !home.program().is_diverted_by(name)) {
                command.env(name, value);
            }
        }
        // what the home has set; what it has removed is not there
        command.envs(of_home.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(variables.iter().copied());
        command.current_dir(empty_directory(home.root())?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        #[cfg(windows)]
        command.creation_flags(CREATE_NO_WINDOW);
        let child = command.spawn()?;
        #[cfg(unix)]
        let group = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?));
        Ok(Self {
            child,
            #[cfg(unix)]
            group,
        })
    }

    /// Asks the program to end, then ends it and the programs that it has started.
    async fn end(&mut self) {
        #[cfg(unix)]
        if self.child.id().is_some() {
            self.signal(rustix::process::Signal::TERM);
            let _ended_or_not = timeout(ENDS, self.child.wait()).await;
        }
        #[cfg(windows)]
        self.end_tree().await;
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
        // a program that has ended is not left behind
        let _already_ended = self.child.kill().await;
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = self.group {
            let _already_ended = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Windows has no groups of this kind: its own program ends a process with those that it has started.
    #[cfg(windows)]
    async fn end_tree(&mut self) {
        if let Some(pid) = self.child.id() {
            let mut command = Command::new("taskkill");
            command.args(["/T", "/F", "/PID", &pid.to_string()]).creation_flags(CREATE_NO_WINDOW);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ended_or_not = timeout(ENDS, command.status()).await;
        }
    }
}

#[cfg(unix)]
impl Drop for ToolProcess {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }
}

/// The program gets no console window.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// The program in a shell that first starts a guard of its group: a daemon that crashes leaves no program behind that
/// runs for ever. The guard is in the group that it ends, so that its number is not another group's by then.
#[cfg(unix)]
fn command(program: &Path, arguments: &[&str], alone: Duration) -> Command {
    let mut command = Command::new("/bin/sh");
    // the `PATH` of the login may lack `sleep`
    let seconds = alone.as_secs();
    let guard = format!("(PATH=/usr/bin:/bin:$PATH; sleep {seconds} && kill -9 -$$) <&- >&- 2>&- & exec \"$@\"");
    command.args(["-c", &guard, "sh"]).arg(program).args(arguments);
    command
}

#[cfg(not(unix))]
fn command(program: &Path, arguments: &[&str], _: Duration) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The directory in which the program starts, without what an earlier start has left there.
fn empty_directory(home: &Path) -> io::Result<std::path::PathBuf> {
    let directory = home.join(EMPTY);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(&directory)?;
    Ok(directory)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _};
    use std::{ffi::OsStr, path::PathBuf};

    use super::*;
    use crate::{credential::LoginProgram, pool::Wall};

    /// A home whose program is this script.
    fn home(script: &str) -> (tempfile::TempDir, LoginHome) {
        let state = tempfile::tempdir().unwrap();
        let program = state.path().join("gemini");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let path = OsStr::new("/usr/bin:/bin");
        let home = LoginHome::create(state.path(), LoginProgram::Gemini, &program, path, Wall(5)).unwrap();
        (state, home)
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn run_for(home: &LoginHome, limit: Duration, is_done: bool) -> (ToolEnd, ToolOutput) {
        let variables: &[(&str, &str)] = &[("MINE", "x")];
        block_on(async {
            run(home, (&["--list"], variables), after(limit), || std::future::ready(is_done)).await.unwrap()
        })
    }

    /// Also if its parent has not asked how it ended.
    fn has_ended(pid: &str) -> bool {
        let output = std::process::Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap();
        let state = String::from_utf8_lossy(&output.stdout);
        state.trim().is_empty() || state.trim().starts_with('Z')
    }

    #[expect(clippy::disallowed_methods, reason = "a test gives up at some time")]
    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_starts_in_an_empty_directory_with_its_homes_environment_only() {
        let script =
            "echo $PWD; ls -A; cat; echo \"$@\"; env | cut -d= -f1 | sort | tr '\\n' ' '; echo; env | grep ^GEMINI";
        let (_state, home) = home(script);
        fs::create_dir(home.root().join(EMPTY)).unwrap();
        fs::write(home.root().join(EMPTY).join("GEMINI.md"), "do something else").unwrap();
        let (end, output) = run_for(&home, Duration::from_secs(20), false);
        assert!(matches!(end, ToolEnd::Exited(status) if status.success()), "{end:?}");
        let text = output.text();
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(PathBuf::from(lines[0]).canonicalize().unwrap(), home.root().join(EMPTY).canonicalize().unwrap());
        assert_eq!(lines[1], "--list", "nothing is in the directory, and nothing on its input");
        let names: Vec<&str> = lines[2].split_whitespace().collect();
        let known = ["GEMINI_CLI_HOME", "MINE", "PATH", "PWD", "SHLVL", "OLDPWD", "_"];
        let others: Vec<&&str> =
            names.iter().filter(|name| !known.contains(name) && !VARIABLES.contains(name)).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(lines[3], format!("GEMINI_CLI_HOME={}", home.tool_home().display()));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_with_those_that_it_has_started() {
        // it ignores the request to end, and so does its child
        let (_state, home) = home("trap '' TERM; (trap '' TERM; sleep 600) & echo child $!; echo own $$; sleep 600");
        let (end, output) = run_for(&home, Duration::from_secs(1), false);
        assert_eq!(end, ToolEnd::TooLong);
        let text = output.text();
        for line in ["child ", "own "] {
            let pid = text.lines().find_map(|known| known.strip_prefix(line)).unwrap_or_else(|| panic!("{text}"));
            wait_until(line, || has_ended(pid));
        }
    }

    #[test]
    fn a_program_that_waits_for_a_person_is_ended_at_once() {
        let words =
            "Authentication required. Please visit the URL to log in: https://accounts.google.com/o/oauth2/auth";
        let (_state, home) = home(&format!("echo '{words}'; sleep 600"));
        let (end, output) = run_for(&home, Duration::from_secs(60), false);
        assert_eq!(end, ToolEnd::AskedForLogin);
        assert!(output.line().unwrap().starts_with("Authentication required"), "{output:?}");
    }

    #[test]
    fn a_program_that_has_done_its_work_is_given_time_to_end() {
        let (_state, home) = home("echo done; exit 3");
        let (end, output) = run_for(&home, Duration::from_secs(20), true);
        assert!(matches!(end, ToolEnd::Exited(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!(output.text().trim(), "done");
    }

    #[test]
    fn what_is_given_up_ends() {
        let (state, home) = home("echo $$ > \"$GEMINI_CLI_HOME/pid\"; sleep 600");
        let written = home.tool_home().join("pid");
        block_on(async {
            let never = after(Duration::from_secs(600));
            let running = run(&home, (&[], &[]), never, || std::future::ready(false));
            let is_written = async {
                while fs::read_to_string(&written).unwrap_or_default().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { _ = running => panic!("it ends"), () = is_written => {} }
        });
        let pid = fs::read_to_string(&written).unwrap();
        wait_until("the program ends", || has_ended(&pid));
        drop(state);
    }

    #[test]
    fn without_the_daemon_the_group_ends_itself() {
        let (_state, home) = home("sleep 600");
        let program = home.record().unwrap().program;
        let mut command = command(&program, &[], Duration::from_secs(1));
        let status = block_on(async { command.process_group(0).status().await.unwrap() });
        assert_eq!(status.signal(), Some(9));
    }
}
