//! The terminal: taken for the time of the dashboard, and given back whatever ends it. Signals end or suspend the
//! program only after that.

use std::io::{self, Stdout, Write};
use std::sync::Once;
use std::sync::mpsc::SyncSender;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::message::ScreenMessage;

/// The screen; gives the terminal back when it is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        restore_after_panic();
        let taken = enter(&mut io::stdout());
        if taken.is_err() {
            leave(&mut io::stdout());
        }
        taken?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }

    /// Gives the terminal back until the shell continues the program.
    #[cfg(unix)]
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        leave(&mut io::stdout());
        signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
        self.restore()
    }

    /// No shell of Windows suspends a program.
    #[cfg(windows)]
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.restore()
    }

    /// Takes the terminal again; all of it is drawn next.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        enter(&mut io::stdout())?;
        execute!(io::stdout(), Clear(ClearType::All))?;
        // `Terminal::clear` would ask the terminal for its cursor, and the thread that reads keys would get the answer
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave(&mut io::stdout());
    }
}

fn enter(out: &mut impl Write) -> io::Result<()> {
    enable_raw_mode()?;
    execute!(out, EnterAlternateScreen, Hide)?;
    mouse::on(out)
}

/// Gives the terminal back. Nothing can be done about a terminal that is gone.
fn leave(out: &mut impl Write) {
    let _no_mouse = mouse::off(out);
    let _gone = execute!(out, Show, LeaveAlternateScreen);
    let _gone = disable_raw_mode();
}

/// A panic of any thread ends the program, with the terminal as it was before.
fn restore_after_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            const PANICKED: i32 = 101;
            leave(&mut io::stdout());
            report(panic);
            std::process::exit(PANICKED);
        }));
    });
}

/// Buttons and the wheel. A pointer that only moves would wake the program up for nothing.
#[cfg(unix)]
mod mouse {
    use std::io::{self, Write};

    pub(super) fn on(out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"\x1b[?1000h\x1b[?1006h")?;
        out.flush()
    }

    pub(super) fn off(out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"\x1b[?1006l\x1b[?1000l")?;
        out.flush()
    }
}

#[cfg(windows)]
mod mouse {
    use std::io::{self, Write};

    use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
    use ratatui::crossterm::execute;

    pub(super) fn on(out: &mut impl Write) -> io::Result<()> {
        execute!(out, EnableMouseCapture)
    }

    pub(super) fn off(out: &mut impl Write) -> io::Result<()> {
        execute!(out, DisableMouseCapture)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const PANIC: &str = "LESSOR_TEST_PANIC_ON_THE_SCREEN";

    #[test]
    fn leaving_undoes_what_entering_did() {
        let mut out = Vec::new();
        leave(&mut out);
        let text = String::from_utf8(out).unwrap();
        for end in ["\x1b[?1006l", "\x1b[?1000l", "\x1b[?25h", "\x1b[?1049l"] {
            assert!(text.contains(end), "{end:?} in {text:?}");
        }
    }

    /// Not a test: the process of the next one.
    #[test]
    fn panic_on_another_thread() {
        if std::env::var_os(PANIC).is_some() {
            restore_after_panic();
            let _ended = std::thread::spawn(|| panic!("on another thread")).join();
            unreachable!("the panic ends the process");
        }
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_then_says_what_happened() {
        let name = "cli::commands::top::terminal::tests::panic_on_another_thread";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(PANIC, "1").stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(101));
        assert!(String::from_utf8_lossy(&output.stdout).contains("\x1b[?1049l"), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("on another thread"), "{output:?}");
    }
}

/// Sends a message for each signal that would end or suspend the program.
#[cfg(unix)]
pub(super) fn forward_signals(into: &SyncSender<ScreenMessage>) -> io::Result<()> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

    use super::message::Stop;

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let into = into.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let stop = match signal {
                SIGTSTP => Stop::Suspend,
                SIGCONT => Stop::Continued,
                other => Stop::End(other),
            };
            if into.send(ScreenMessage::Signal(stop)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The console of Windows sends keys instead, and ends the program when its window is closed.
#[cfg(windows)]
pub(super) fn forward_signals(_into: &SyncSender<ScreenMessage>) -> io::Result<()> {
    Ok(())
}

/// Ends the process as by this signal, so that its parent sees why.
#[cfg(unix)]
pub(super) fn end_by(signal: i32) {
    let _does_not_return = signal_hook::low_level::emulate_default_handler(signal);
}

#[cfg(windows)]
pub(super) fn end_by(_signal: i32) {}
