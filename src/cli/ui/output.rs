//! Where results and messages go, how wide they may be, and whether they are coloured.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use zeroize::Zeroize as _;

use super::format;
use super::wrap::{columns, wrap, wrap_after};
use crate::cli::error::{CliError, ErrorDocument};
use crate::visible;

/// The width of a table if standard output is not a terminal.
const DEFAULT_WIDTH: usize = 80;
/// No terminal is taken to be narrower.
const MIN_WIDTH: usize = 20;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) width: usize,
    pub(crate) terminal: bool,
    /// Where prose wraps on standard output; `usize::MAX` if that is not a terminal.
    prose_width: usize,
    /// Where prose wraps on standard error; `usize::MAX` if that is not a terminal.
    note_width: usize,
    colour: bool,
    colour_notes: bool,
    /// Notes that nothing depends on are left out.
    pub(crate) silent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tint {
    Good,
    Warn,
    Bad,
    Faint,
    Strong,
}

impl Output {
    pub(crate) fn of_process(json: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let prose_width = width_of(&stdout, terminal_size::terminal_size_of(&stdout));
        let note_width = width_of(&stderr, terminal_size::terminal_size_of(&stderr));
        Self {
            json,
            width: prose_width.unwrap_or(DEFAULT_WIDTH),
            terminal: stdout.is_terminal(),
            prose_width: prose_width.unwrap_or(usize::MAX),
            note_width: note_width.unwrap_or(usize::MAX),
            colour: colour && stdout.is_terminal(),
            colour_notes: colour && stderr.is_terminal(),
            silent: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn plain(width: usize) -> Self {
        Self { width, prose_width: width, note_width: width, ..Self::default() }
    }

    /// For a program that shows colours, although standard output is not a terminal.
    pub(crate) fn coloured(self, colour: bool) -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: colour && !is_refused, ..self }
    }

    /// Prints a result unchanged.
    pub(crate) fn text(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| CliError::of_output(&error))
    }

    /// Prints a result: the document with `--json`, else the text.
    pub(crate) fn result(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.json {
            return self.document(document);
        }
        let mut text = visible::escape_coloured(&text()).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.text(&text)
    }

    /// Prints a document: indented on a terminal, else on one line.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), CliError> {
        let text = if self.terminal { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        let mut text = text.map_err(|error| CliError::internal(error.to_string()))?;
        text.push('\n');
        let escaped = visible::escape_json(&text);
        let printed = self.text(&escaped);
        // a lease contains its secret
        if let Cow::Owned(mut escaped) = escaped {
            escaped.zeroize();
        }
        text.zeroize();
        printed
    }

    /// Prints a message on standard error; a closed standard error is not an error.
    pub(crate) fn note(&self, text: &str) {
        let text = visible::escape_coloured(text);
        let _closed = writeln!(io::stderr(), "{}", wrap(&text, self.note_width));
    }

    /// Prints a message with a coloured label, such as `warning:`, on standard error.
    pub(crate) fn labelled_note(&self, tint: Tint, label: &str, text: &str) {
        self.note(&format!("{} {text}", paint(self.colour_notes, tint, label)));
    }

    pub(crate) fn error(&self, error: &CliError) {
        if error.quiet {
            return;
        }
        if self.json {
            let document = ErrorDocument { error: &error.info };
            self.note(&visible::escape_json(&serde_json::to_string(&document).unwrap_or_default()));
        } else {
            self.note(self.error_text(error, format::now()).trim_end());
        }
    }

    fn error_text(&self, error: &CliError, now: u64) -> String {
        let data = &error.info.data;
        let label = |tint, label| paint(self.colour_notes, tint, label);
        let mut text = format!("{} {}\n", label(Tint::Bad, "error:"), visible::escape_lines(error.message()));
        // which accounts may be used, the message says
        for account in data.accounts.iter().filter(|account| account.why != format::NOT_IN_SET) {
            let until = account.until.map(|until| format!(" {}", format::until_clock(now, until))).unwrap_or_default();
            let name = account.name.as_ref().unwrap_or(&account.id);
            text += &format!("  {}: {}{until}\n", clean(name), clean(&format::obstacle(&account.why)));
        }
        if let Some(after) = data.retry_after_ms {
            text += &format!("  first free: {}\n", format::clock_and_span(now, now.saturating_add(after)));
        }
        if let Some(hint) = &data.hint {
            text += &format!("{} {}\n", label(Tint::Strong, "hint:"), visible::escape_lines(hint));
        }
        text
    }

    pub(crate) fn prose(&self, text: &str) -> String {
        wrap(text, self.prose_width)
    }

    /// A line with a coloured label, such as `warning:`, wrapped for standard output.
    pub(crate) fn labelled(&self, tint: Tint, label: &str, text: &str) -> String {
        self.prose(&format!("{} {text}", self.tint(tint, label))) + "\n"
    }

    /// A line that begins with `first`; the text wraps beside it.
    pub(crate) fn hanging(&self, first: &str, text: &str) -> String {
        wrap_after(first, text, self.prose_width, columns(first)) + "\n"
    }

    /// A line that begins with a name in a column of `column` letters; the value wraps beside it.
    pub(crate) fn field(&self, name: &str, column: usize, value: &str) -> String {
        let blanks = " ".repeat(column.saturating_sub(columns(name)));
        self.hanging(&(self.tint(Tint::Faint, name) + &blanks), &clean(value))
    }

    /// Whether a person reads standard error, and the result is not for a program.
    pub(crate) fn says_notes(&self) -> bool {
        !self.json && !self.silent && io::stderr().is_terminal()
    }

    /// Colour for standard error.
    pub(crate) fn tint_note(&self, tint: Tint, text: &str) -> String {
        paint(self.colour_notes, tint, text)
    }

    pub(crate) fn tint(&self, tint: Tint, text: &str) -> String {
        paint(self.colour, tint, text)
    }
}

/// The width of a stream that is a terminal: `COLUMNS` if set, else what the terminal reports.
fn width_of(stream: &impl IsTerminal, size: Option<(terminal_size::Width, terminal_size::Height)>) -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = columns.or(size.map(|(width, _)| usize::from(width.0))).unwrap_or(DEFAULT_WIDTH);
    stream.is_terminal().then_some(width.max(MIN_WIDTH))
}

/// The width of help texts, which go to standard output; at most `most`.
pub(crate) fn help_width(most: usize) -> usize {
    let stdout = io::stdout();
    width_of(&stdout, terminal_size::terminal_size_of(&stdout)).map_or(most, |width| width.min(most))
}

/// Text from outside in one line, with all characters visible.
pub(crate) fn clean(text: &str) -> String {
    visible::escape(text).into_owned()
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
    use crate::client::ClientError;
    use crate::protocol::{ErrorAccount, ErrorInfo, ErrorKind};

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{202e}"), r"a\u{1b}[31mb\nc\u{202e}");
        assert_eq!(clean("ünï 漢字"), "ünï 漢字");
    }

    #[test]
    fn an_error_lists_the_accounts_the_earliest_time_and_a_hint() {
        let mut error = ErrorInfo::new(ErrorKind::AllLimited, "every account is limited").hint("wait");
        error.data.retry_after_ms = Some(240_000);
        error.data.accounts = vec![ErrorAccount {
            id: "ac_1".into(),
            why: "limited".into(),
            until: Some(1_060_000),
            name: Some("work".into()),
        }];
        assert_eq!(
            Output::plain(80).error_text(&CliError::from(ClientError::from(error)), 1_000_000),
            "error: every account is limited\n  work: limited until 00:17, in 60 s\n  first free: 00:20, in 4 min\nhint: wait\n"
        );
    }

    #[test]
    fn a_field_wraps_beside_its_name() {
        assert_eq!(Output::plain(20).field("limit", 8, "one two three four"), "limit   one two\n        three four\n");
    }
}
