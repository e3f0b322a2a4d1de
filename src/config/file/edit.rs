//! Sets and removes a key in a file's text; every other byte stays the same.

use std::{ops::Range, path::Path};

use toml_edit::{Document, Item, Table, TableLike, Value as Toml};

use super::problem::ConfigErrors;
use crate::config::schema::keys::KeySpec;
use crate::config::schema::lookup::{self, format_key};
use crate::config::schema::value::ConfigValue;
use crate::config::setting::SettingSource;
use crate::config::settings::Config;

/// Why a text could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The text was not a valid configuration before the change.
    #[error(transparent)]
    Invalid(ConfigErrors),
    /// The value is not valid for the key.
    #[error("{0}")]
    Refused(String),
    /// The changed value is not allowed together with another one.
    #[error(transparent)]
    Together(ConfigErrors),
    /// The key is written in a form that is not edited automatically.
    #[error("`{0}` is written in a form that lessor cannot edit; use: lessor config edit")]
    ByHand(String),
}

/// A key that the user named.
#[derive(Debug)]
pub struct NamedKey {
    path: Vec<String>,
    row: &'static KeySpec,
}

/// The text and its parsed document.
struct Draft {
    document: Document<String>,
}

/// Where a new line goes.
struct InsertPoint {
    /// The offset of the line's beginning.
    at: usize,
    /// The indentation of the neighbouring lines.
    indent: String,
}

impl NamedKey {
    /// Finds a key by its path: `leases.ttl`, `accounts."a@b.c".use`.
    pub fn find(key: &str) -> Result<Self, String> {
        lookup::find_key(key).map(|(path, row)| Self { path, row })
    }

    /// Its path as TOML writes it.
    #[must_use]
    pub fn key(&self) -> String {
        format_key(&self.path)
    }

    /// Its row in the table of keys.
    #[must_use]
    pub fn row(&self) -> &'static KeySpec {
        self.row
    }

    fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// The text with a key set to a value as it is typed; the path is for messages only.
pub fn set(text: &str, path: &Path, named: &NamedKey, typed: &str) -> Result<(String, ConfigValue), EditError> {
    let read = named.row.kind.read_argument(typed);
    let (value, literal) = read.map_err(|why| EditError::Refused(format!("`{}` {why}", named.key())))?;
    let (changed, config) = edited(text, path, named, |draft| draft.set(&named.parts(), &literal))?;
    // The new value must be the effective one.
    let holds = config.get(&named.key()).is_ok_and(|setting| setting.value.as_ref() == Some(&value));
    if holds { Ok((changed, value)) } else { Err(EditError::ByHand(named.key())) }
}

/// The text without a key, so that its default applies.
pub fn unset(text: &str, path: &Path, named: &NamedKey) -> Result<String, EditError> {
    let (changed, config) = edited(text, path, named, |draft| draft.unset(&named.parts()))?;
    let gone = config.get(&named.key()).is_ok_and(|setting| setting.source == SettingSource::Default);
    if gone { Ok(changed) } else { Err(EditError::ByHand(named.key())) }
}

/// The changed text, and its configuration. A byte order mark stays.
fn edited(
    text: &str,
    path: &Path,
    named: &NamedKey,
    change: impl FnOnce(Draft) -> Option<String>,
) -> Result<(String, Config), EditError> {
    Config::parse(text, path).map_err(EditError::Invalid)?;
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let changed = Draft::of(rest).and_then(change).ok_or_else(|| EditError::ByHand(named.key()))?;
    let changed = format!("{}{changed}", &text[..text.len() - rest.len()]);
    Config::parse(&changed, path).map_err(EditError::Together).map(|config| (changed, config))
}

impl Draft {
    fn of(text: &str) -> Option<Self> {
        Document::parse(text.to_owned()).ok().map(|document| Self { document })
    }

    fn text(&self) -> &str {
        self.document.raw()
    }

    fn find(&self, path: &[&str]) -> Option<&Item> {
        let (last, above) = path.split_last()?;
        let table = above.iter().try_fold(self.document.as_table() as &dyn TableLike, |table, name| {
            table.get(name).and_then(Item::as_table_like)
        })?;
        table.get(last).filter(|item| !item.is_none())
    }

    fn set(self, path: &[&str], literal: &str) -> Option<String> {
        match self.find(path) {
            Some(Item::Value(old)) => Some(self.replace(old.span()?, literal)),
            Some(Item::ArrayOfTables(_)) => Self::of(&self.unset(path)?)?.set(path, literal),
            Some(_) => None,
            None => self.insert(path, literal),
        }
    }

    fn replace(&self, range: Range<usize>, with: &str) -> String {
        format!("{}{with}{}", &self.text()[..range.start], &self.text()[range.end..])
    }

    /// Adds a key to its section, in the form in which that section is written.
    fn insert(&self, path: &[&str], literal: &str) -> Option<String> {
        // The deepest section with a header, or the beginning of the file, and how far it reaches into the path.
        let (mut section, mut depth) = (self.document.as_table(), 0);
        // The table below it that is made by dotted keys.
        let mut dotted: Option<&Table> = None;
        let mut here = self.document.as_table();
        for (index, name) in path[..path.len() - 1].iter().enumerate() {
            match here.get(name) {
                Some(Item::Value(Toml::InlineTable(inline))) => {
                    return self.insert_inline(inline, &path[index + 1..], literal);
                }
                Some(Item::Table(table)) => {
                    here = table;
                    if table.is_dotted() {
                        dotted = Some(table);
                    } else if !table.is_implicit() {
                        (section, depth, dotted) = (table, index + 1, None);
                    }
                }
                Some(Item::None) | None => break,
                Some(_) => return None,
            }
        }
        if let Some(table) = dotted {
            let place = self.after(values(table).into_iter().map(|span| span.end).max()?);
            return Some(self.insert_line(&place, &path[depth..], literal));
        }
        if depth + 1 < path.len() {
            return Some(self.append_section(path, literal));
        }
        let place = self.place_in(section, path[depth])?;
        Some(self.insert_line(&place, &path[depth..], literal))
    }

    /// After the comment that shows the key, else after the last key of the section, else after its header.
    fn place_in(&self, section: &Table, name: &str) -> Option<InsertPoint> {
        let header = section.span()?;
        let taken = values(section);
        let region = self.line_end(header.end)..self.region_end(header.end);
        let mut at = region.start;
        for line in self.text()[region].split_inclusive('\n') {
            let is_text = taken.iter().any(|span| span.contains(&at));
            let comment = line.trim_start().strip_prefix('#').map(|rest| rest.trim_start_matches(['#', ' ', '\t']));
            if let Some(comment) = comment.filter(|_| !is_text) {
                if comment.starts_with('[') && comment.trim_end().ends_with(']') {
                    break;
                }
                if comment.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('=')) {
                    return Some(self.after(at));
                }
            }
            at += line.len();
        }
        let last = taken.into_iter().map(|span| span.end).max();
        Some(self.after(last.unwrap_or(header.end)))
    }

    /// The line after the one at an offset.
    fn after(&self, offset: usize) -> InsertPoint {
        let line = &self.text()[self.line_start(offset)..];
        let indent = line.chars().take_while(|c| *c == ' ' || *c == '\t').collect();
        InsertPoint { at: self.line_end(offset), indent }
    }

    fn insert_line(&self, place: &InsertPoint, path: &[&str], literal: &str) -> String {
        let (before, after) = self.text().split_at(place.at);
        let end = self.line_ending();
        let begin = if before.is_empty() || before.ends_with('\n') { "" } else { end };
        format!("{before}{begin}{}{} = {literal}{end}{after}", place.indent, format_key(path))
    }

    /// A new section, at the end of the file.
    fn append_section(&self, path: &[&str], literal: &str) -> String {
        let (text, end) = (self.text(), self.line_ending());
        let mut begin = String::new();
        if !text.is_empty() {
            begin += if text.ends_with('\n') { "" } else { end };
            let last = text.lines().next_back().unwrap_or_default();
            begin += if last.trim().is_empty() { "" } else { end };
        }
        let (header, name) = path.split_at(path.len() - 1);
        format!("{text}{begin}[{}]{end}{} = {literal}{end}", format_key(header), format_key(name))
    }

    fn insert_inline(&self, table: &toml_edit::InlineTable, path: &[&str], literal: &str) -> Option<String> {
        // Deeper inline tables come first.
        if let [name, rest @ ..] = path
            && !rest.is_empty()
            && let Some(Toml::InlineTable(inner)) = table.get(name)
            && !inner.is_dotted()
        {
            return self.insert_inline(inner, rest, literal);
        }
        let last = values(table).into_iter().map(|span| span.end).max();
        let entry = format!("{} = {literal}", format_key(path));
        Some(match last {
            Some(end) => self.replace(end..end, &format!(", {entry}")),
            None => self.replace(table.span()?, &format!("{{ {entry} }}")),
        })
    }

    fn unset(&self, path: &[&str]) -> Option<String> {
        let (name, above) = path.split_last()?;
        // The innermost inline table is rewritten; otherwise lines are removed.
        for depth in 1..path.len() {
            if let Some(Item::Value(Toml::InlineTable(inline))) = self.find(&path[..depth]) {
                return self.unset_inline(inline, &path[depth..]);
            }
        }
        match self.find(path)? {
            Item::Value(value) => {
                let table = self.find_table(above)?;
                let line = self.line_start(table.key(name)?.span()?.start)..self.line_end(value.span()?.end);
                Some(self.without_empty_section(above, line))
            }
            Item::ArrayOfTables(list) => {
                let mut text = self.text().to_owned();
                let tables: Vec<&Table> = list.iter().collect();
                for table in tables.into_iter().rev() {
                    let header = table.span()?;
                    let end = values(table).into_iter().map(|span| span.end).max().unwrap_or(header.end);
                    text.replace_range(self.line_start(header.start)..self.line_end(end), "");
                }
                Some(text)
            }
            _ => None,
        }
    }

    fn unset_inline(&self, table: &toml_edit::InlineTable, path: &[&str]) -> Option<String> {
        let [name, rest @ ..] = path else { return None };
        if let Some(Toml::InlineTable(inner)) = table.get(name)
            && !rest.is_empty()
            && !inner.is_dotted()
        {
            return self.unset_inline(inner, rest);
        }
        let item = rest.iter().try_fold(table.get(name)?, |value, name| value.as_inline_table()?.get(name))?;
        let gone = item.span()?;
        let before = values(table).into_iter().map(|span| span.end).filter(|end| *end <= gone.start).max();
        Some(match before {
            Some(before) => self.replace(before..gone.end, ""),
            None => {
                let open = table.span()?.start + 1;
                let after = self.text()[gone.end..].trim_start();
                let end = if after.starts_with(',') { self.text().len() - after.len() + 1 } else { gone.end };
                self.replace(open..end, "")
            }
        })
    }

    fn find_table(&self, path: &[&str]) -> Option<&dyn TableLike> {
        if path.is_empty() { Some(self.document.as_table()) } else { self.find(path)?.as_table_like() }
    }

    /// Removes a line, and the header above it if nothing else is below the header, not even a comment.
    fn without_empty_section(&self, section: &[&str], line: Range<usize>) -> String {
        let header =
            self.find(section).and_then(Item::as_table).filter(|table| !table.is_dotted() && !table.is_implicit());
        let Some(header) = header.and_then(Table::span) else { return self.replace(line, "") };
        let (start, mut end) = (self.line_start(header.start), self.region_end(header.end));
        let text = self.text();
        let rest = [&text[header.end..line.start], &text[line.end..end]].concat();
        let above = text[..start].lines().next_back().unwrap_or_default();
        if !rest.trim().is_empty() || above.trim_start().starts_with('#') {
            return self.replace(line, "");
        }
        let mut start = start;
        if end == text.len() && above.trim().is_empty() {
            start = self.line_start(start.saturating_sub(1));
            end = text.len();
        }
        self.replace(start..end, "")
    }

    /// Where the next header after an offset begins.
    fn region_end(&self, from: usize) -> usize {
        let next = headers(self.document.as_table()).into_iter().filter(|start| *start >= from).min();
        next.map_or(self.text().len(), |start| self.line_start(start))
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text()[..offset].rfind('\n').map_or(0, |end| end + 1)
    }

    /// The offset after the line's end.
    fn line_end(&self, offset: usize) -> usize {
        self.text()[offset..].find('\n').map_or(self.text().len(), |end| offset + end + 1)
    }

    /// The file's most frequent line ending.
    fn line_ending(&self) -> &'static str {
        let all = self.text().matches('\n').count();
        if self.text().matches("\r\n").count() * 2 > all { "\r\n" } else { "\n" }
    }
}

/// The ranges of a table's values below its own header.
fn values(table: &dyn TableLike) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (_, item) in table.iter() {
        match item {
            Item::Value(Toml::InlineTable(inline)) if inline.is_dotted() => spans.extend(values(inline)),
            Item::Value(value) => spans.extend(value.span()),
            Item::Table(table) if table.is_dotted() => spans.extend(values(table)),
            _ => {}
        }
    }
    spans
}

fn headers(table: &Table) -> Vec<usize> {
    let mut starts = Vec::new();
    for (_, item) in table.iter() {
        match item {
            Item::Table(table) => {
                let has_header = !table.is_dotted() && !table.is_implicit();
                starts.extend(table.span().filter(|_| has_header).map(|span| span.start));
                starts.extend(headers(table));
            }
            Item::ArrayOfTables(list) => {
                for table in list.iter() {
                    starts.extend(table.span().map(|span| span.start));
                    starts.extend(headers(table));
                }
            }
            _ => {}
        }
    }
    starts
}

#[cfg(test)]
mod tests;
