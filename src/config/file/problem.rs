//! Errors and warnings of a configuration, for people and for programs.

use std::{fmt, ops::Range, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

use super::position::LineIndex;
use crate::visible;

/// One error or warning of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ConfigProblem {
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 means the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 means the file as a whole.
    pub column: u32,
    /// The key, as far as known.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
    /// The line with the marked part, for people only.
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// All errors of a file, in the order of its lines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors {
    /// At least one.
    pub problems: Vec<ConfigProblem>,
}

/// Collects the problems of one file while it is read.
pub(in crate::config) struct ProblemLog<'t> {
    pub(in crate::config) path: &'t Path,
    pub(in crate::config) lines: LineIndex<'t>,
    /// Ranges below a broken header, where no further problem is reported.
    pub(in crate::config) unknown: Vec<Range<usize>>,
    pub(in crate::config) problems: Vec<ConfigProblem>,
    /// The number of problems beyond those.
    pub(in crate::config) omitted: usize,
}

/// A line and the marked part of it, in characters.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Excerpt {
    line: String,
    marked: Range<usize>,
}

/// The number of problems that are kept.
const MOST_KEPT: usize = 1000;
/// The number of problems that are shown.
const MOST_SHOWN: usize = 20;
/// Characters of a line that are shown.
const WIDTH: usize = 100;

impl ConfigErrors {
    /// One error that concerns the file as a whole.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        let file = visible::escape(&path.display().to_string()).into_owned();
        let message = visible::escape(&message.into()).into_owned();
        Self { problems: vec![ConfigProblem { file, line: 0, column: 0, key: String::new(), message, excerpt: None }] }
    }

    /// The file is too large to be a configuration.
    pub(in crate::config) fn too_large(path: &Path) -> Self {
        Self::of_file(path, "larger than 1MiB; a configuration is a few kilobytes")
    }
}

impl ConfigErrors {
    /// The first error in one line, and how many more there are.
    pub fn headline(&self) -> String {
        let first = self.problems.first().map(ConfigProblem::headline).unwrap_or_default();
        match self.problems.len().saturating_sub(1) {
            0 => first,
            more => format!("{first} (and {more} more)"),
        }
    }

    /// The first problems, separated by semicolons in one line.
    pub fn headlines(&self) -> String {
        let shown: Vec<String> = self.problems.iter().take(MOST_SHOWN).map(ConfigProblem::headline).collect();
        match self.problems.len() - shown.len() {
            0 => shown.join("; "),
            more => format!("{} (and {more} more)", shown.join("; ")),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(MOST_SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl ProblemLog<'_> {
    pub(in crate::config) fn problem(&mut self, key: &str, span: &Range<usize>, message: String) {
        if self.unknown.iter().any(|range| range.contains(&span.start)) {
            return;
        }
        if !self.omits_one() {
            self.problems.push(ConfigProblem::at(self.path, &self.lines, span, key.to_owned(), message));
        }
    }

    /// Counts a problem instead of keeping it, if there are many already.
    pub(in crate::config) fn omits_one(&mut self) -> bool {
        let is_full = self.problems.len() >= MOST_KEPT;
        self.omitted += usize::from(is_full);
        is_full
    }

    /// Whether a key already has a problem.
    pub(in crate::config) fn is_wrong(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// A warning about a key that the file sets.
    pub(in crate::config) fn warning(&self, key: &str, span: &Range<usize>, message: String) -> ConfigProblem {
        ConfigProblem::at(self.path, &self.lines, span, key.to_owned(), message)
    }
}

impl ConfigProblem {
    /// A problem at a part of a text.
    pub(in crate::config) fn at(
        path: &Path,
        lines: &LineIndex<'_>,
        span: &Range<usize>,
        key: String,
        message: String,
    ) -> Self {
        let (line, column) = lines.position(span.start);
        let excerpt = Some(Excerpt::new(lines, span, column as usize - 1));
        let file = visible::escape(&path.display().to_string()).into_owned();
        let message = visible::escape(&message).into_owned();
        Self { file, line, column, key, message, excerpt }
    }

    /// The problem in one line, without the excerpt.
    pub fn headline(&self) -> String {
        match self.line {
            0 => format!("{}: {}", self.file, self.message),
            line => format!("{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let Some(excerpt) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        write!(f, "\n  {number} | {}", excerpt.line)?;
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(excerpt.marked.start);
        write!(f, "\n  {gutter} | {indent}{}", "^".repeat(excerpt.marked.len().max(1)))
    }
}

impl Excerpt {
    fn new(lines: &LineIndex<'_>, span: &Range<usize>, column: usize) -> Self {
        let line = lines.line_at(span.start.min(lines.text().len()));
        let text = &lines.text()[line.clone()];
        let length = lines.text().get(span.start..span.end.min(line.end)).map_or(1, |part| part.chars().count());
        // Long lines are cut shortly before the mark.
        let from = if column > WIDTH - 20 { column - 20 } else { 0 };
        let masked = masked(text);
        let letters: Vec<char> = masked.chars().skip(from).take(WIDTH).collect();
        // A tab is shown as one blank; other hidden characters could forge output, and are shown by several.
        let show = |letters: &[char]| -> String {
            let text: String = letters.iter().map(|letter| if *letter == '\t' { ' ' } else { *letter }).collect();
            visible::escape(&text).into_owned()
        };
        let start = (column - from).min(letters.len());
        let end = (start + length).min(letters.len());
        let [before, marked] = [&letters[..start], &letters[start..end]].map(|part| show(part).chars().count());
        let before = before + (column - from - start);
        Self { line: show(&letters), marked: before..before + marked }
    }
}

/// Hides values of names that suggest a secret: users put secrets into the wrong file, and errors are copied into
/// reports.
fn masked(line: &str) -> String {
    let Some((name, value)) = line.split_once('=') else { return line.to_owned() };
    let lower = name.to_ascii_lowercase();
    let secret = ["secret", "token", "key", "password", "auth"].iter().any(|word| lower.contains(word))
        || value.contains("://") && value.contains('@')
        || value.to_ascii_lowercase().contains("pass");
    if secret { format!("{name}= …") } else { line.to_owned() }
}
