//! A line typed at the terminal that is not shown.

use std::io::{self, Read};

use zeroize::Zeroizing;

#[cfg_attr(unix, path = "prompt/unix.rs")]
#[cfg_attr(windows, path = "prompt/windows.rs")]
mod system;

/// More than a terminal takes in one line; a longer secret comes through a pipe.
const LONGEST: usize = 64 * 1024;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const CTRL_Z: u8 = 26;
const DELETE: u8 = 127;

/// Reads a line from the terminal without showing it.
///
/// The terminal is set to hand over single letters, Ctrl-C among them: were that left to the system, it would end this
/// process and leave the user a terminal that shows nothing.
pub(super) fn hidden_line() -> io::Result<Zeroizing<String>> {
    let _restored_when_dropped = system::be_quiet()?;
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut letter = [0u8];
    let mut stdin = io::stdin().lock();
    while stdin.read(&mut letter)? == 1 {
        match letter[0] {
            b'\n' | b'\r' => break,
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "given up")),
            CTRL_D => break,
            CTRL_Z if cfg!(windows) => break,
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.clear(),
            _ if line.len() == LONGEST => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long")),
            other => line.push(other),
        }
    }
    let text = str::from_utf8(&line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
