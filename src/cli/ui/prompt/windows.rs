//! Hides what is typed at a console.

use std::io;

use winsafe::{HSTD, co};

/// Restores the console when dropped.
pub(super) struct Restore(co::CONSOLE);

impl Drop for Restore {
    fn drop(&mut self) {
        let _gone = set(self.0);
        eprintln!();
    }
}

pub(super) fn hide_input() -> io::Result<Restore> {
    let before = input()?.GetConsoleMode().map_err(io::Error::other)?;
    let shown = [co::CONSOLE::ENABLE_ECHO_INPUT, co::CONSOLE::ENABLE_LINE_INPUT, co::CONSOLE::ENABLE_PROCESSED_INPUT];
    let hidden = shown.into_iter().fold(before, |mode, flag| mode & !flag);
    set(hidden)?;
    Ok(Restore(before))
}

fn set(mode: co::CONSOLE) -> io::Result<()> {
    input()?.SetConsoleMode(mode).map_err(io::Error::other)
}

fn input() -> io::Result<HSTD> {
    let mut guard = HSTD::GetStdHandle(co::STD_HANDLE::INPUT).map_err(io::Error::other)?;
    // dropping it would close standard input
    Ok(guard.leak())
}
