//! Secrets from standard input: never from an argument, which every process of the machine can read.

use std::io::{IsTerminal, Read};

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::Output;
use super::prompt;

/// No key, token or login is longer.
const LONGEST: usize = 64 * 1024;

/// Reads one key or token: a line.
pub(super) fn line(what: &str, output: &Output) -> Result<Zeroizing<String>, Failure> {
    let text = if std::io::stdin().is_terminal() {
        output.note(&format!("Paste the {what}, then press Enter; it is not shown."));
        prompt::hidden_line().map_err(|error| Failure::new("bad_request", format!("reading the {what}: {error}")))?
    } else {
        everything(what)?
    };
    one_line(&text).map_err(|why| Failure::new("bad_request", format!("this is no {what}: {why}")))
}

/// Reads all of standard input.
pub(super) fn document(what: &str, output: &Output) -> Result<Zeroizing<String>, Failure> {
    if std::io::stdin().is_terminal() {
        output.note(&format!("Paste the {what}, then press Enter and Ctrl-D."));
    }
    everything(what)
}

fn everything(what: &str) -> Result<Zeroizing<String>, Failure> {
    let bad = |why: String| Failure::new("bad_request", format!("reading the {what} from standard input: {why}"));
    // room for all of it, so that no copy of it stays behind in memory that was outgrown
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    let most = LONGEST as u64 + 1;
    std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
    if bytes.len() > LONGEST {
        return Err(bad(format!("it is longer than {} KiB", LONGEST / 1024)));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(bad("it is not UTF-8".to_owned())),
    }
}

/// The one line of the text, without its end.
fn one_line(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty");
    }
    if line.contains(['\n', '\r']) {
        return Err("it has more than one line");
    }
    if line.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it has blanks or control characters in it");
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_goes_and_nothing_else() {
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
