//! A line typed at the terminal that is not shown.

use std::io;

use zeroize::Zeroizing;

/// More than a terminal takes in one line; a longer secret comes through a pipe.
const LONGEST: usize = 64 * 1024;

/// Reads a line from the terminal without showing it.
///
/// The terminal is set to hand over single letters, Ctrl-C among them: were that left to the system, it would end this
/// process and leave the user a terminal that shows nothing.
#[cfg(unix)]
pub(super) fn hidden_line() -> io::Result<Zeroizing<String>> {
    use std::io::Read;

    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

    struct Restore(rustix::termios::Termios);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
            eprintln!();
        }
    }

    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
    let _restore = Restore(before);
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut letter = [0u8];
    let mut stdin = io::stdin().lock();
    while stdin.read(&mut letter)? == 1 {
        match letter[0] {
            b'\n' | b'\r' => break,
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "given up")),
            CTRL_D => break,
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.clear(),
            _ if line.len() == LONGEST => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long")),
            other => line.push(other),
        }
    }
    let text = str::from_utf8(&line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(unix)]
const CTRL_C: u8 = 3;
#[cfg(unix)]
const CTRL_D: u8 = 4;
#[cfg(unix)]
const BACKSPACE: u8 = 8;
#[cfg(unix)]
const CTRL_U: u8 = 21;
#[cfg(unix)]
const DELETE: u8 = 127;

/// Not hidden: the console's modes are out of reach without unsafe code.
#[cfg(not(unix))]
pub(super) fn hidden_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(LONGEST));
    io::stdin().read_line(&mut line)?;
    Ok(line)
}
