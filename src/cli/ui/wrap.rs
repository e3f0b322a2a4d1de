//! Prose that fits the terminal: lines break between words, but never inside a URL, a command or JSON.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Programs that the hints of lessor name; with their arguments they stay on one line, so that they can be copied.
const PROGRAMS: [&str; 7] = ["lessor", "cargo", "chmod", "journalctl", "kill", "loginctl", "unset"];
/// How far the second and later lines stand to the right of the first.
const HANGING: usize = 2;

/// Wraps each line of the text at `width` columns; later lines are indented like the first, and two more.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let (leading, rest) = line.split_at(line.len() - line.trim_start().len());
        if rest.starts_with(['{', '[']) {
            return line.to_owned();
        }
        wrap_after(leading, rest, width, leading.len() + HANGING)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Wraps one line at `width` columns: `first` stays as it is, the text behind it is wrapped, and later lines are
/// indented by `indent`.
pub(crate) fn wrap_after(first: &str, text: &str, width: usize, indent: usize) -> String {
    let mut line = first.to_owned();
    let mut used = columns(first);
    if used + columns(text) <= width {
        return line + text;
    }
    let room = |number| width.saturating_sub(if number == 0 { used } else { indent });
    let units = units(text).into_iter().enumerate().flat_map(|(number, unit)| pieces(unit, room(number)));
    let units: Vec<String> = units.collect();
    for (number, unit) in units.iter().enumerate() {
        let size = columns(unit);
        if number > 0 && used + 1 + size > width {
            line += &format!("\n{:indent$}", "");
            used = indent;
        } else if number > 0 {
            line.push(' ');
            used += 1;
        }
        line += unit;
        used += size;
    }
    line
}

/// A unit that is wider than a line, in words, and a word in pieces; a command, a URL and text with colour stay whole.
fn pieces(unit: String, width: usize) -> Vec<String> {
    if columns(&unit) <= width || width < 2 || unit.contains('\u{1b}') || unit.contains("://") || is_command(&unit) {
        return vec![unit];
    }
    if unit.contains(' ') {
        return unit.split(' ').flat_map(|word| pieces(word.to_owned(), width)).collect();
    }
    broken(&unit, width)
}

fn is_command(unit: &str) -> bool {
    let first = unit.trim_start_matches('(').split(' ').next().unwrap_or_default();
    unit.contains(' ') && (PROGRAMS.contains(&first) || is_assignment(first))
}

/// A text in lines of at most `width` columns, broken between any letters.
pub(super) fn broken(text: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for letter in text.chars() {
        let size = letter.width().unwrap_or(0);
        if used + size > width {
            pieces.push(String::new());
            used = 0;
        }
        used += size;
        pieces.last_mut().into_iter().for_each(|piece| piece.push(letter));
    }
    pieces
}

/// The words of a line; a command with its arguments, or text between backticks, is one of them.
fn units(line: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    let (mut in_quotes, mut in_command, mut after_colon) = (false, false, true);
    for word in line.split_whitespace() {
        if in_quotes || in_command {
            let unit = units.last_mut();
            unit.into_iter().for_each(|unit| *unit += &format!(" {word}"));
        } else {
            units.push(word.to_owned());
            let bare = word.trim_start_matches('(');
            let is_program = PROGRAMS.contains(&bare.trim_end_matches([';', ',', ')'])) || is_assignment(bare);
            in_command = is_program && (after_colon || word.starts_with('('));
        }
        in_quotes ^= word.matches('`').count() % 2 == 1;
        in_command &= !word.ends_with([';', ',', ')']);
        after_colon = word.ends_with(':');
    }
    units
}

/// Whether a word sets a variable for a command: `EDITOR=vi`.
fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The columns that a text takes on a terminal; colour takes none.
pub(crate) fn columns(text: &str) -> usize {
    let mut in_escape = false;
    let mut columns = 0;
    for letter in text.chars() {
        match letter {
            '\u{1b}' => in_escape = true,
            _ if in_escape => in_escape = letter != 'm',
            _ => columns += letter.width().unwrap_or(0),
        }
    }
    columns
}

/// The text in at most `width` columns, with an ellipsis if it was shortened.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut short = String::new();
    for letter in text.chars() {
        taken += letter.width().unwrap_or(0);
        if taken + 1 > width {
            break;
        }
        short.push(letter);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_wraps_between_words() {
        assert_eq!(wrap("error: one two three\nshort", 13), "error: one\n  two three\nshort");
        assert_eq!(wrap("  indented by two", 10), "  indented\n    by two");
        assert_eq!(wrap("漢字 漢字 漢字", 9), "漢字 漢字\n  漢字");
        assert_eq!(wrap("\u{1b}[1mhint:\u{1b}[0m abc def", 9), "\u{1b}[1mhint:\u{1b}[0m abc\n  def");
        assert_eq!(wrap("unlimited is one line", usize::MAX), "unlimited is one line");
    }

    #[test]
    fn urls_commands_and_json_stay_whole() {
        let url = "https://example.com/a/very/long/address?with=many&parameters=that&no=break";
        assert_eq!(wrap(&format!("open {url} now"), 20), format!("open\n  {url}\n  now"));
        let hint =
            "log in: lessor login anthropic --device; or add a key: lessor account add anthropic --api-key-stdin";
        assert_eq!(
            wrap(hint, 30),
            "log in:\n  lessor login anthropic --device;\n  or add a key:\n  \
             lessor account add anthropic --api-key-stdin"
        );
        assert_eq!(wrap("the daemon runs (kill 42), end it", 20), "the daemon runs\n  (kill 42), end it");
        assert_eq!(wrap("start it with `lessor run -- x` or so", 20), "start it with\n  `lessor run -- x`\n  or so");
        assert_eq!(wrap("name one: EDITOR=vi lessor config edit", 12), "name one:\n  EDITOR=vi lessor config edit");
        let json = "{\"error\": {\"kind\": \"internal\", \"message\": \"it failed\"}}";
        assert_eq!(wrap(json, 20), json);
    }

    #[test]
    fn shortening_counts_columns_not_bytes() {
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
    }
}
