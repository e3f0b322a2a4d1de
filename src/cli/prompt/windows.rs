//! The console's modes.

use std::io;

use winsafe::{HSTD, co};

/// Puts the console back as it was.
pub(super) struct Restore(co::CONSOLE);

impl Drop for Restore {
    fn drop(&mut self) {
        let _gone = set(self.0);
        eprintln!();
    }
}

pub(super) fn be_quiet() -> io::Result<Restore> {
    let before = input()?.GetConsoleMode().map_err(io::Error::other)?;
    let loud = [co::CONSOLE::ENABLE_ECHO_INPUT, co::CONSOLE::ENABLE_LINE_INPUT, co::CONSOLE::ENABLE_PROCESSED_INPUT];
    let quiet = loud.into_iter().fold(before, |mode, flag| mode & !flag);
    set(quiet)?;
    Ok(Restore(before))
}

fn set(mode: co::CONSOLE) -> io::Result<()> {
    input()?.SetConsoleMode(mode).map_err(io::Error::other)
}

fn input() -> io::Result<HSTD> {
    let mut guard = HSTD::GetStdHandle(co::STD_HANDLE::INPUT).map_err(io::Error::other)?;
    // it would close standard input, which is not ours to close
    Ok(guard.leak())
}
