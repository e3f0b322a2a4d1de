//! A line of the log: `2026-03-04T05:06:07.089Z INFO  what happened  account=ac_1 reason=quota_exhausted`.
//!
//! One event is one line: control characters are escaped, so a name cannot forge a line. Two spaces separate the
//! message from the fields, and occur nowhere else.

use std::fmt::{self, Debug};

use tracing::Level;
use tracing::field::{Field, Visit};

use crate::pool::Wall;
use crate::visible::is_hidden;

/// The longest message, and the longest value of a field, in bytes.
const LONGEST: usize = 4096;
/// Separates the message from the fields.
const SEPARATOR: &str = "  ";
const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// When, in RFC 3339; `None` for a line that another program wrote to the file.
    pub at: Option<String>,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: Option<&'static str>,
    /// What happened.
    pub message: String,
    /// The facts, by name.
    pub fields: Vec<(String, String)>,
}

impl Line {
    /// A line without fields.
    pub(super) fn at(at: Wall, level: Level, message: String) -> Self {
        Self { at: Some(instant(at.0)), level: Some(level.as_str()), message, fields: Vec::new() }
    }

    /// Parses a line; text in another format becomes the message of a line without time and level.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::parse_own(text).unwrap_or_else(|| Self { message: text.to_owned(), ..Self::default() })
    }

    fn parse_own(text: &str) -> Option<Self> {
        let (at, rest) = text.split_once(' ')?;
        let is_instant = at.len() == "2026-03-04T05:06:07.089Z".len() && at.ends_with('Z') && at.as_bytes()[10] == b'T';
        let (level, rest) = rest.split_once(' ')?;
        let level = LEVELS.into_iter().find(|known| *known == level).filter(|_| is_instant)?;
        // shorter level names are padded
        let rest = if level.len() == 4 { rest.strip_prefix(' ')? } else { rest };
        let (message, fields) = match rest.split_once(SEPARATOR) {
            Some((message, fields)) => (message, parse_fields(fields)?),
            None => (rest, Vec::new()),
        };
        Some(Self { at: Some(at.to_owned()), level: Some(level), message: message.to_owned(), fields })
    }

    /// For a terminal: a coloured level; time and fields are dimmed.
    pub(super) fn coloured(&self) -> String {
        let colour = match self.level {
            Some("ERROR") => "31",
            Some("WARN") => "33",
            Some("INFO") => "32",
            _ => "2",
        };
        let at = self.at.as_deref().unwrap_or_default();
        let level = self.level.unwrap_or_default();
        let mut text = format!("\u{1b}[2m{at}\u{1b}[0m \u{1b}[{colour}m{level:<5}\u{1b}[0m {}", self.message_text());
        if !self.fields.is_empty() {
            text += &format!("{SEPARATOR}\u{1b}[2m{}\u{1b}[0m", self.fields_text());
        }
        text
    }

    /// The message on one line, without two spaces in a row.
    #[must_use]
    pub fn message_text(&self) -> String {
        let mut text = String::with_capacity(self.message.len());
        for letter in self.message.chars() {
            match letter {
                ' ' if text.is_empty() || text.ends_with(' ') => {}
                _ if is_hidden(letter) => text.extend(letter.escape_default()),
                _ => text.push(letter),
            }
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// The fields alone, on one line: `account=ac_1 path="/a b"`.
    #[must_use]
    pub fn fields_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
            if !text.is_empty() {
                text.push(' ');
            }
            text += name;
            text.push('=');
            quote(value, &mut text);
        }
        text
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(at), Some(level)) = (&self.at, self.level) {
            write!(f, "{at} {level:<5} ")?;
        }
        f.write_str(&self.message_text())?;
        if !self.fields.is_empty() {
            write!(f, "{SEPARATOR}{}", self.fields_text())?;
        }
        Ok(())
    }
}

/// Collects the message and the fields of an event.
#[derive(Default)]
pub(super) struct FieldCollector {
    message: String,
    fields: Vec<(String, String)>,
}

impl FieldCollector {
    pub(super) fn line(self, at: Wall, level: Level) -> Line {
        Line { fields: self.fields, ..Line::at(at, level, self.message) }
    }

    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name().to_owned(), value));
        }
    }
}

impl Visit for FieldCollector {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, shortened(value).into_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, shortened(&format!("{value:?}")).into_owned());
    }
}

pub(super) fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)]).into()
}

/// A time in epoch ms as RFC 3339: `2026-03-04T05:06:07.089Z`.
#[must_use]
pub fn instant(epoch_ms: u64) -> String {
    let (days, ms) = (epoch_ms / 86_400_000, epoch_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// The date this many days after 1 January 1970. Years start in March, so the leap day is the last day of a year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_days = day_of_era / 1460 + day_of_era / (DAYS_OF_400_YEARS - 1);
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // from March on, months of 31 and 30 days repeat every five months, or 153 days
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Appends a value, in quotes if it is empty or holds blanks, quotes or control characters.
fn quote(value: &str, out: &mut String) {
    let is_plain = |letter: char| !(is_hidden(letter) || letter.is_whitespace() || matches!(letter, '"' | '\\'));
    if !value.is_empty() && value.chars().all(is_plain) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if is_hidden(letter) => out.extend(letter.escape_default()),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

/// Parses `a=1 b="2 3"`; `None` if the text is something else.
fn parse_fields(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let (name, rest) = text.split_once('=')?;
        if name.is_empty() || !name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.')) {
            return None;
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push((name.to_owned(), value));
        if rest.is_empty() {
            return Some(fields);
        }
        text = rest.strip_prefix(' ')?;
    }
}

/// The value up to the closing quote, and the rest.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'u' => {
                    let digits = letters.as_str().strip_prefix('{')?.split_once('}')?.0;
                    value.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    letters.nth(digits.chars().count() + 1)?;
                }
                plain => value.push(plain),
            },
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_time_level_message_and_fields() {
        let mut line = Line::at(Wall(1_772_600_767_089), Level::INFO, "work is\nlimited  now".to_owned());
        assert_eq!(line.to_string(), "2026-03-04T05:06:07.089Z INFO  work is\\nlimited now");
        line.level = Some("ERROR");
        line.fields = [("account", "ac_1"), ("path", "/a b"), ("said", "\u{1b}[31m\"\n"), ("none", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        assert_eq!(
            line.to_string(),
            r#"2026-03-04T05:06:07.089Z ERROR work is\nlimited now  account=ac_1 path="/a b" said="\u{1b}[31m\"\n" none="""#
        );
        assert!(!line.coloured().contains('\n') && line.coloured().contains("\u{1b}[31mERROR\u{1b}[0m"));
    }

    #[test]
    fn text_of_other_programs_is_a_message() {
        let others = ["", "ready: pid 1, socket /s", "thread main panicked", "2026-03-04T05:06:07.089Z LOUD  x"];
        for text in others {
            assert_eq!(Line::parse(text), Line { message: text.to_owned(), ..Line::default() });
        }
        let forged = "2026-03-04T05:06:07.089Z INFO  a  b=\"unfinished";
        assert_eq!(Line::parse(forged).message, forged);
    }

    #[test]
    fn times_are_written_in_rfc_3339() {
        for (epoch_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_772_600_767_089, "2026-03-04T05:06:07.089Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(epoch_ms), expected);
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "ä".repeat(LONGEST);
        let short = shortened(&long);
        assert!(short.len() <= LONGEST + 3 && short.ends_with('…'));
    }

    proptest! {
        #[test]
        fn parsing_a_line_restores_it(
            ms in 0..253_402_300_800_000_u64,
            level in 0..5_usize,
            message in "[a-z=\"\\\\.:]{1,9}( [a-z=\"]{1,5}){0,3}",
            fields in prop::collection::vec(("[a-z_.]{1,9}", ".*|[\\s\\S]{0,9}"), 0..4),
        ) {
            let line = Line { at: Some(instant(ms)), level: Some(LEVELS[level]), message, fields };
            let text = line.to_string();
            prop_assert!(!text.chars().any(is_hidden));
            prop_assert_eq!(Line::parse(&text), line);
        }

        #[test]
        fn no_message_forges_a_line_or_fields(message in "[\\s\\S]{0,40}") {
            let line = Line::at(Wall(0), Level::WARN, message);
            let text = line.to_string();
            prop_assert!(!text.chars().any(is_hidden));
            let read = Line::parse(&text);
            prop_assert_eq!((read.level, read.fields.len()), (Some("WARN"), 0));
        }
    }
}
