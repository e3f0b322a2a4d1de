//! A file's text into a configuration, or everything that is wrong with it.

use std::ops::Range;
use std::path::Path;

use toml_edit::{Item, TableLike};

use super::keys::{account, provider};
use super::load::MAX_FILE;
use super::place::LineIndex;
use super::problem::{ConfigErrors, ConfigProblem};
use super::schema::{self, KeySpec, PathMatch, format_key};
use super::settings::Config;
use super::show::{Origin, SetValue};
use super::{check, syntax};

/// What is read, and what was found wrong with it so far.
pub(super) struct Reader<'t> {
    path: &'t Path,
    lines: LineIndex<'t>,
    /// Where nothing can be said, because the header above is broken.
    unknown: Vec<Range<usize>>,
    problems: Vec<ConfigProblem>,
}

impl Config {
    /// Reads a file's text; the path is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        if text.len() > MAX_FILE {
            return Err(ConfigErrors::too_large(path));
        }
        let lines = LineIndex::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        let parsed = syntax::parse(&lines);
        let mut reader = Reader { path, lines, unknown: parsed.unknown, problems: Vec::new() };
        let mut config = Self::default();
        config.origins.path = path.to_owned();
        let whole = parsed.errors.is_empty();
        for (span, key, message) in parsed.errors {
            let problem = ConfigProblem::at(path, &reader.lines, &span, key, message);
            reader.problems.push(problem);
        }
        if let Some(document) = parsed.document {
            reader.section(&mut config, document.as_table(), &mut Vec::new());
        }
        if whole {
            // A broken line may have held the other half of what is compared here.
            check::together(&config, &mut reader);
        }
        reader.finish(config)
    }
}

impl Reader<'_> {
    /// Notes a problem of a key.
    pub(super) fn problem(&mut self, key: &str, span: &Range<usize>, message: String) {
        if !self.unknown.iter().any(|range| range.contains(&span.start)) {
            self.problems.push(ConfigProblem::at(self.path, &self.lines, span, key.to_owned(), message));
        }
    }

    /// Whether a key has a problem already.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    fn section(&mut self, config: &mut Config, table: &dyn TableLike, path: &mut Vec<String>) {
        for (name, item) in table.iter().filter(|(_, item)| !item.is_none()) {
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span()).unwrap_or_default();
            path.push(name.to_owned());
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let key = format_key(&parts);
            match schema::find(&parts) {
                PathMatch::Key(row) => self.value(config, row, &parts, item, &span),
                PathMatch::Section => match item.as_table_like() {
                    Some(inner) if self.enter(config, &parts, &key, &span) => self.section(config, inner, path),
                    Some(_) => {}
                    None => {
                        let message = format!("`{key}` is a section; write [{key}] once, with its keys below");
                        self.problem(&key, &span, message);
                    }
                },
                PathMatch::Nothing => {
                    let message = schema::unknown(&parts, item.is_table_like() || item.is_array_of_tables());
                    self.problem(&key, &span, message);
                }
            }
            path.pop();
        }
    }

    /// Opens a section; false if its name will not do.
    fn enter(&mut self, config: &mut Config, parts: &[&str], key: &str, span: &Range<usize>) -> bool {
        match parts {
            ["accounts", name] => {
                if name.is_empty() || name.chars().any(char::is_control) || name.chars().count() > 254 {
                    self.problem(key, span, "not the name of an account; use its label, email or id".to_owned());
                    return false;
                }
                account(config, name);
            }
            ["providers", name] => {
                if let Err(message) = check::provider_name(name) {
                    self.problem(key, span, message);
                    return false;
                }
                provider(config, name);
            }
            _ => {}
        }
        config.origins.sections.insert(key.to_owned(), (span.clone(), self.lines.position(span.start).0));
        true
    }

    fn value(&mut self, config: &mut Config, row: &'static KeySpec, parts: &[&str], item: &Item, span: &Range<usize>) {
        let key = format_key(parts);
        let value = match row.kind.read(item) {
            Ok(value) => value,
            Err(refusal) => {
                // A section in a value's place has its span elsewhere.
                let place = refusal.at.or_else(|| item.span().filter(|_| item.is_value()));
                let message = format!("`{key}` {}; allowed: {}", refusal.what, row.kind.allowed());
                self.problem(&key, &place.unwrap_or_else(|| span.clone()), message);
                return;
            }
        };
        if !(row.set)(config, schema::name_in(row, parts), &value) {
            self.problem(&key, span, format!("`{key}` cannot be stored; this is a defect of lessor"));
            return;
        }
        let line = self.lines.position(span.start).0;
        if !row.active {
            let message = format!("`{key}` is not active yet in this version; it is checked, and otherwise ignored");
            let warning = ConfigProblem::at(self.path, &self.lines, span, key.clone(), message);
            config.origins.warnings.push(warning);
        }
        // Sections in a value's place have no literal.
        let literal = item.as_value().and_then(toml_edit::Value::span).and_then(|span| self.lines.text().get(span));
        let written = literal.filter(|literal| !literal.contains(char::is_control)).map(str::to_owned);
        config.origins.set.insert(key, SetValue { value, origin: Origin::File { line, span: span.clone() }, written });
    }

    /// Notes a warning of a key that the file sets.
    pub(super) fn warning(&self, key: &str, span: &Range<usize>, message: String) -> ConfigProblem {
        ConfigProblem::at(self.path, &self.lines, span, key.to_owned(), message)
    }

    fn finish(mut self, mut config: Config) -> Result<Config, ConfigErrors> {
        if self.problems.is_empty() {
            config.origins.warnings.extend(check::warnings(&config, &self));
            config.origins.warnings.sort_by_key(|warning| (warning.line, warning.column));
            return Ok(config);
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(ConfigErrors { problems: self.problems })
    }
}
