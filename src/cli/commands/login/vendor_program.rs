//! The vendor's program that logs in: where it is, how it is called, and how it runs on the user's terminal.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::LoginArgs;
use crate::cli::error::CliError;
use crate::cli::launch::programs::programs;
use crate::cli::ui::Output;
use crate::credential::{LoginHome, LoginProgram};
use crate::protocol::ErrorKind;

/// How long Claude Code may take to print its help.
const HELP_TIME: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);

/// How the program is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LoginCall {
    pub(super) arguments: Vec<&'static str>,
    pub(super) variables: Vec<(&'static str, &'static str)>,
    /// What the user does in it.
    pub(super) advice: Option<&'static str>,
}

/// The program's file on the `PATH`, which is not lessor itself under the program's name.
pub(super) fn find(program: LoginProgram) -> Result<PathBuf, CliError> {
    programs(OsStr::new(program.name())).next().ok_or_else(|| {
        let message = format!("the program {} was not found on the PATH", program.name());
        CliError::new(ErrorKind::CannotRun, message).hint(install_hint(program))
    })
}

fn install_hint(program: LoginProgram) -> &'static str {
    match program {
        LoginProgram::Claude => {
            "install it: npm install -g @anthropic-ai/claude-code; or without it: lessor login claude --token, or lessor \
             account add anthropic --api-key-stdin"
        }
        LoginProgram::Codex => {
            "install it: npm install -g @openai/codex; or without it: lessor account add openai --api-key-stdin"
        }
        LoginProgram::Gemini => {
            "install it: npm install -g @google/gemini-cli; or without it: lessor account add google --api-key-stdin"
        }
        LoginProgram::Agy => {
            "install Antigravity CLI from antigravity.google; or without it: lessor account add google --api-key-stdin"
        }
    }
}

/// How the options are passed on to the program, or which of them it does not support.
pub(super) fn call_of(program: LoginProgram, options: &LoginArgs) -> Result<LoginCall, CliError> {
    let wanted = [("--device", options.device), ("--paste", options.paste), ("--no-browser", options.no_browser)];
    let wanted = wanted.iter().find(|(_, given)| *given).map(|(name, _)| *name);
    let refused = |why: &str| {
        let option = wanted.unwrap_or_default();
        Err(CliError::usage(format!("{option} is not for {}: {why}", program.title())))
    };
    // a program that is started instead of a browser, and does nothing
    const NO_BROWSER: (&str, &str) = ("BROWSER", if cfg!(windows) { "rem" } else { "true" });
    let mut call = LoginCall::default();
    match (program, wanted) {
        (LoginProgram::Claude, Some("--device")) => {
            return refused("its page shows a code that you paste; leave the option out, or use --paste");
        }
        // its page shows a code wherever it is opened
        (LoginProgram::Claude, Some(_)) => call.variables.push(NO_BROWSER),
        (LoginProgram::Codex, Some("--device")) => call.arguments = vec!["login", "--device-auth"],
        (LoginProgram::Codex, Some(_)) => return refused("for a browser on another machine use --device"),
        (LoginProgram::Gemini, Some("--device")) => {
            return refused("its page shows a code that you paste: use --paste");
        }
        (LoginProgram::Gemini, Some(_)) => call.variables.push(("NO_BROWSER", "true")),
        (LoginProgram::Agy, Some(_)) => return refused("it decides itself how it opens the page"),
        (_, None) => {}
    }
    match program {
        LoginProgram::Claude => call.arguments = vec!["auth", "login"],
        LoginProgram::Codex if call.arguments.is_empty() => call.arguments = vec!["login"],
        LoginProgram::Codex => {}
        LoginProgram::Gemini => call.advice = Some("In Gemini CLI choose \"Login with Google\"; then type /quit."),
        LoginProgram::Agy => call.advice = Some("In Antigravity CLI log in with Google; then type /quit."),
    }
    Ok(call)
}

impl LoginCall {
    /// Versions of Claude Code without the command `auth login` log in inside their usual screen.
    pub(super) fn fit_version(&mut self, home: &LoginHome) -> io::Result<()> {
        if home.program() == LoginProgram::Claude && !has_auth_login(home)? {
            self.arguments.clear();
            self.advice = Some("In Claude Code type /login; then, when you are logged in, /exit.");
        }
        Ok(())
    }

    /// Runs the program on this terminal until it ends. Ctrl-C is for the program.
    pub(super) fn run(&self, home: &LoginHome, output: &Output, signals: &Signals) -> io::Result<ExitStatus> {
        let mut command = home.command()?;
        command.args(&self.arguments).envs(self.variables.iter().copied());
        if output.json || !io::stdout().is_terminal() {
            // standard output is for the result of this command
            command.stdout(Stdio::from(io::stderr()));
        }
        signals.wait_for(command.spawn()?)
    }
}

/// Whether Claude Code has the command `auth login`; its help is asked in a directory that is removed again.
fn has_auth_login(home: &LoginHome) -> io::Result<bool> {
    let scratch = tempfile::Builder::new().prefix("help-").tempdir_in(home.root())?;
    let mut command = home.command()?;
    command.args(["auth", "login", "--help"]).env("CLAUDE_CONFIG_DIR", scratch.path());
    let printed = scratch.path().join("printed");
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&printed)?).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > HELP_TIME {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(STEP);
    }
    let help = String::from_utf8_lossy(&std::fs::read(&printed)?).into_owned();
    // an older version prints the help of the whole program
    Ok(!help.contains("Usage: claude") || help.contains("Usage: claude auth login"))
}

/// Signals that end a login. The program gets those that its terminal sends, and from here those that only this process
/// gets; this process goes on, to remove what the program has left.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    shared: std::sync::Arc<unix::SharedSignals>,
    #[cfg(windows)]
    _ignored: (tokio::signal::windows::CtrlC, tokio::signal::windows::CtrlBreak),
}

#[cfg(windows)]
impl Signals {
    pub(super) fn begin() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { _ignored: (ctrl_c()?, ctrl_break()?) })
    }

    fn wait_for(&self, mut child: Child) -> io::Result<ExitStatus> {
        child.wait()
    }

    /// The user's answer to a question; `None` at the end of the input.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "here, the console ends the question")]
    pub(super) fn answer(&self, ask: impl FnOnce() -> Option<String> + Send + 'static) -> Result<Option<String>, ()> {
        Ok(ask())
    }
}

#[cfg(unix)]
mod unix {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::sync::{Arc, Mutex, PoisonError};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals as Arriving;

    use super::{Child, ExitStatus, STEP, Signals, io};

    #[derive(Debug, Default)]
    pub(super) struct SharedSignals {
        /// Whether one has arrived since the last look.
        arrived: AtomicBool,
        program: Mutex<ProgramUnderSignals>,
    }

    #[derive(Debug, Default)]
    struct ProgramUnderSignals {
        /// The program, while it runs.
        pid: Option<Pid>,
        /// The last signal for it that came while it did not run.
        unsent: Option<Signal>,
    }

    impl SharedSignals {
        fn handle(&self, signal: i32) {
            self.arrived.store(true, Ordering::SeqCst);
            let passed_on = match signal {
                SIGTERM => Some(Signal::TERM),
                SIGHUP => Some(Signal::HUP),
                // the terminal has sent it to the program, too
                _ => None,
            };
            let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
            match (program.pid, passed_on) {
                (Some(pid), Some(signal)) => _ = kill_process(pid, signal),
                (None, Some(signal)) => program.unsent = Some(signal),
                (_, None) => {}
            }
        }
    }

    impl Signals {
        pub(in super::super) fn begin() -> io::Result<Self> {
            let shared = Arc::new(SharedSignals::default());
            let mut arriving = Arriving::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
            let handled = shared.clone();
            std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
                arriving.forever().for_each(|signal| handled.handle(signal));
            })?;
            Ok(Self { shared })
        }

        pub(super) fn wait_for(&self, mut child: Child) -> io::Result<ExitStatus> {
            let program = || self.shared.program.lock().unwrap_or_else(PoisonError::into_inner);
            let pid = Pid::from_child(&child);
            let unsent = {
                let program = &mut *program();
                program.pid = Some(pid);
                program.unsent.take()
            };
            if let Some(signal) = unsent {
                // it came while the program was started
                let _has_ended = kill_process(pid, signal);
            }
            // no signal is sent to the number once another process may have it
            let _ended =
                rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            program().pid = None;
            self.shared.arrived.store(false, Ordering::SeqCst);
            child.wait()
        }

        /// The user's answer to a question: `Err` if a signal arrives first.
        pub(in super::super) fn answer(
            &self,
            ask: impl FnOnce() -> Option<String> + Send + 'static,
        ) -> Result<Option<String>, ()> {
            let (sender, answers) = channel();
            // a thread that still reads standard input ends with the process
            std::thread::spawn(move || sender.send(ask()));
            loop {
                match answers.recv_timeout(STEP) {
                    Ok(answer) => return Ok(answer),
                    Err(RecvTimeoutError::Disconnected) => return Ok(None),
                    Err(RecvTimeoutError::Timeout) if self.shared.arrived.load(Ordering::SeqCst) => return Err(()),
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        }
    }
}
