//! Where results and messages go, and whether in colour.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// The width of a table where no terminal says otherwise.
const WIDTH: usize = 80;
/// Narrower ones are written as if they were this wide: the terminal wraps them.
const NARROWEST: usize = 60;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) width: usize,
    /// Standard output is a terminal.
    pub(super) terminal: bool,
    /// Colour on standard output.
    colour: bool,
    /// Colour on standard error.
    colour_notes: bool,
}

/// A colour, by what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tint {
    Good,
    Warn,
    Bad,
    Faint,
    Strong,
}

impl Output {
    pub(super) fn of_process(json: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = io::stdout().is_terminal();
        let width = comfy_table::Table::new().width().filter(|_| terminal).map_or(WIDTH, usize::from);
        Self {
            json,
            width: width.max(NARROWEST),
            terminal,
            colour: colour && terminal,
            colour_notes: colour && io::stderr().is_terminal(),
        }
    }

    /// Without colour, at a given width.
    #[cfg(test)]
    pub(super) fn plain(width: usize) -> Self {
        Self { json: false, width, terminal: false, colour: false, colour_notes: false }
    }

    /// Prints a result as it is.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::of_output(&error))
    }

    /// Prints a result: the document for programs, the text for people.
    pub(super) fn result(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            return self.document(document);
        }
        let mut text = text();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.text(&text)
    }

    /// Prints a document: indented for a reader at a terminal, a line for programs.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = if self.terminal { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        let mut text = text.map_err(|error| Failure::new("internal", error.to_string()))?;
        text.push('\n');
        let printed = self.text(&text);
        // a lease carries its secret
        zeroize::Zeroize::zeroize(&mut text);
        printed
    }

    /// Says something beside the result, on standard error; nobody there is no failure.
    pub(super) fn note(&self, text: &str) {
        let _closed = writeln!(io::stderr(), "{text}");
    }

    pub(super) fn tint(&self, tint: Tint, text: &str) -> String {
        paint(self.colour, tint, text)
    }

    /// For standard error.
    pub(super) fn bad(&self, text: &str) -> String {
        paint(self.colour_notes, Tint::Bad, text)
    }

    /// For standard error.
    pub(super) fn strong(&self, text: &str) -> String {
        paint(self.colour_notes, Tint::Strong, text)
    }
}

/// Text from elsewhere, made safe for a terminal and for a line: without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn paint(colour: bool, tint: Tint, text: &str) -> String {
    if !colour || text.is_empty() {
        return text.to_owned();
    }
    let code = match tint {
        Tint::Good => "32",
        Tint::Warn => "33",
        Tint::Bad => "31",
        Tint::Faint => "2",
        Tint::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(clean("ünï 漢字"), "ünï 漢字");
    }
}
