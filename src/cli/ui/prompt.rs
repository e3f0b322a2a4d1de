//! Input from the user: confirmations, and secrets from standard input, never from an argument, which every process of
//! the machine can read.

use std::io::{self, BufRead, IsTerminal, Read};

use zeroize::Zeroizing;

use super::output::Output;
use crate::cli::error::CliError;

#[cfg_attr(unix, path = "prompt/unix.rs")]
#[cfg_attr(windows, path = "prompt/windows.rs")]
mod system;

/// No key, token or login is longer, in bytes.
const MAX_SECRET: usize = 64 * 1024;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const CTRL_Z: u8 = 26;
const DELETE: u8 = 127;

/// Whether a question can be asked: standard input and standard error are terminals.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; the answer is trimmed and in lower case, `None` at the end of the input.
pub(crate) fn ask(question: &str, output: &Output) -> Result<Option<String>, CliError> {
    Ok(ask_text(question, output)?.map(|answer| answer.to_ascii_lowercase()))
}

/// Asks for a text; the answer is trimmed, `None` at the end of the input.
pub(crate) fn ask_text(question: &str, output: &Output) -> Result<Option<String>, CliError> {
    output.note(question);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    let read = read.map_err(|error| CliError::bad_request(format!("reading the answer: {error}")))?;
    Ok((read > 0).then(|| answer.trim().to_owned()))
}

/// Reads one key or token: a single line.
pub(crate) fn secret_line(what: &str, output: &Output) -> Result<Zeroizing<String>, CliError> {
    let text = pasted_secret(what, output)?;
    one_line(&text).map_err(|why| CliError::bad_request(format!("this is not a valid {what}: {why}")))
}

pub(crate) fn secret_document(what: &str, output: &Output) -> Result<Zeroizing<String>, CliError> {
    if io::stdin().is_terminal() {
        output.note(&format!("Paste the {what}, then press Enter and Ctrl-D."));
    }
    all_of_stdin(what)
}

/// Reads a secret as it was pasted, which a terminal may have wrapped: on a terminal one line that is not shown, else
/// all of standard input.
pub(crate) fn pasted_secret(what: &str, output: &Output) -> Result<Zeroizing<String>, CliError> {
    if !io::stdin().is_terminal() {
        return all_of_stdin(what);
    }
    // what is pasted as soon as this is shown is already hidden
    let ask = || output.note(&format!("Paste the {what}, then press Enter; it is not shown."));
    hidden_line(ask).map_err(|error| CliError::bad_request(format!("reading the {what}: {error}")))
}

/// Reads the answer to a question from the terminal without showing it.
///
/// The terminal passes on every key, Ctrl-C among them: if Ctrl-C ended this process at once, the user would be left
/// with a terminal that shows no input.
fn hidden_line(ask: impl FnOnce()) -> io::Result<Zeroizing<String>> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let _restored_when_dropped = system::hide_input()?;
    ask();
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_SECRET));
    let mut letter = [0u8];
    let mut stdin = io::stdin().lock();
    while stdin.read(&mut letter)? == 1 {
        match letter[0] {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")),
            CTRL_Z if cfg!(windows) => break,
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.clear(),
            _ if line.len() == MAX_SECRET => return Err(invalid("it is too long")),
            other => line.push(other),
        }
    }
    let text = str::from_utf8(&line).map_err(|_| invalid("it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn all_of_stdin(what: &str) -> Result<Zeroizing<String>, CliError> {
    let bad = |why: String| CliError::bad_request(format!("reading the {what} from standard input: {why}"));
    // allocated at once: a buffer that grows leaves copies of the secret in freed memory
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 2));
    let most = MAX_SECRET as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
    if bytes.len() > MAX_SECRET {
        return Err(bad(format!("it is longer than {} KiB", MAX_SECRET / 1024)));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(bad("it is not UTF-8".to_owned())),
    }
}

/// The text without its line end, if it is one line.
pub(crate) fn one_line(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty");
    }
    if line.contains(['\n', '\r']) {
        return Err("it has more than one line");
    }
    if line.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it contains blanks or control characters");
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_without_its_line_end() {
        for text in ["sk-1", "sk-1\n", "sk-1\r\n"] {
            assert_eq!(one_line(text).unwrap().as_str(), "sk-1");
        }
        for (text, part) in [
            ("", "empty"),
            ("\n", "empty"),
            ("\r\n", "empty"),
            ("a\n\n", "more than one line"),
            ("a\nb", "more than one line"),
            ("a\rb", "more than one line"),
            (" a", "blanks"),
            ("a\u{0}b", "control"),
        ] {
            assert!(one_line(text).unwrap_err().contains(part), "{text:?}");
        }
    }
}
