//! Reads a file's text into a configuration, or reports every error in it.

use std::{ops::Range, path::Path};

use toml_edit::{Item, TableLike};

use super::problem::{ConfigErrors, ConfigProblem, ProblemLog};
use super::{check, syntax};
use super::{load::MAX_FILE, position::LineIndex};
use crate::config::directory as directory_paths;
use crate::config::origins::{Origin, SetValue};
use crate::config::schema::keys::{KeySpec, account, client, directory, price, provider};
use crate::config::schema::lookup::{self, PathMatch, format_key};
use crate::config::settings::Config;
use crate::pool::AccountSettings;

impl Config {
    /// Reads a file's text; the path is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        if text.len() > MAX_FILE {
            return Err(ConfigErrors::too_large(path));
        }
        let lines = LineIndex::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        let parsed = syntax::parse(&lines);
        let mut log = ProblemLog { path, lines, unknown: parsed.unknown, problems: Vec::new(), omitted: 0 };
        let mut config = Self::default();
        config.origins.path = path.to_owned();
        let whole = parsed.errors.is_empty();
        for (span, key, message) in parsed.errors {
            let problem = ConfigProblem::at(path, &log.lines, &span, key, message);
            log.problems.push(problem);
        }
        if let Some(document) = parsed.document {
            log.section(&mut config, document.as_table(), &mut Vec::new());
        }
        if whole {
            // A broken line may contain one of the keys that are compared here.
            check::together(&config, &mut log);
        }
        log.finish(config)
    }
}

fn is_account_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control) && name.chars().count() <= 254
}

impl ProblemLog<'_> {
    fn section(&mut self, config: &mut Config, table: &dyn TableLike, path: &mut Vec<String>) {
        for (name, item) in table.iter().filter(|(_, item)| !item.is_none()) {
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span()).unwrap_or_default();
            path.push(name.to_owned());
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let key = format_key(&parts);
            match lookup::find(&parts) {
                PathMatch::Key(row) => self.value(config, row, &parts, item, &span),
                PathMatch::Section => match item.as_table_like() {
                    Some(inner) if self.enter(config, &parts, &key, &span) => {
                        if parts == ["accounts"] {
                            Self::create_accounts(config, inner);
                        }
                        self.section(config, inner, path);
                    }
                    Some(_) => {}
                    None => {
                        let message = format!("`{key}` is a section; write [{key}] once, with its keys below it");
                        self.problem(&key, &span, message);
                    }
                },
                PathMatch::Nothing if self.omits_one() => {}
                PathMatch::Nothing => {
                    let message = lookup::unknown(&parts, item.is_table_like() || item.is_array_of_tables());
                    self.problem(&key, &span, message);
                }
            }
            path.pop();
        }
    }

    /// Creates the sections of all accounts at once, in the order of their names: one at a time, each would move all
    /// that come after it.
    fn create_accounts(config: &mut Config, table: &dyn TableLike) {
        let names = table.iter().filter(|(name, item)| item.is_table_like() && is_account_name(name));
        let section = |name: &str| AccountSettings { name: name.to_owned(), ..AccountSettings::default() };
        config.pool.accounts = names.map(|(name, _)| section(name)).collect();
        config.pool.accounts.sort_by(|one, other| one.name.cmp(&other.name));
    }

    /// Enters a section; false if its name is not valid.
    fn enter(&mut self, config: &mut Config, parts: &[&str], key: &str, span: &Range<usize>) -> bool {
        match parts {
            ["accounts", name] => {
                if !is_account_name(name) {
                    self.problem(
                        key,
                        span,
                        "not a valid account name; use the account's label, email or id".to_owned(),
                    );
                    return false;
                }
                account(config, &[name]);
            }
            ["providers", name] => {
                if let Err(message) = check::provider_name(name) {
                    self.problem(key, span, message);
                    return false;
                }
                provider(config, &[name]);
            }
            ["directories", name] => {
                if let Some(message) = directory_paths::name_problem(name) {
                    self.problem(key, span, message.to_owned());
                    return false;
                }
                directory(config, &[name]);
            }
            ["prices", model] => {
                if model.is_empty() || model.chars().any(char::is_control) || model.len() > 256 {
                    self.problem(key, span, "not a valid name of a model".to_owned());
                    return false;
                }
                price(config, &[model]);
            }
            ["providers", name, "oauth", "clients", client_name] => {
                if client_name.is_empty() || client_name.chars().any(char::is_control) || client_name.len() > 64 {
                    self.problem(key, span, "not a valid name of an OAuth client".to_owned());
                    return false;
                }
                client(config, &[name, client_name]);
            }
            _ => {}
        }
        config.origins.sections.insert(key.to_owned(), (span.clone(), self.lines.line(span.start)));
        true
    }

    fn value(&mut self, config: &mut Config, row: &'static KeySpec, parts: &[&str], item: &Item, span: &Range<usize>) {
        let key = format_key(parts);
        let value = match row.kind.read(item) {
            Ok(value) => value,
            Err(refusal) => {
                // A section where a value is expected has no span of its own.
                let place = refusal.at.or_else(|| item.span().filter(|_| item.is_value()));
                let message = format!("`{key}` {}; allowed: {}", refusal.what, row.kind.allowed());
                self.problem(&key, &place.unwrap_or_else(|| span.clone()), message);
                return;
            }
        };
        if !(row.set)(config, &row.names_in(parts), &value) {
            self.problem(&key, span, format!("`{key}` cannot be stored; this is a bug in lessor"));
            return;
        }
        let line = self.lines.line(span.start);
        // A section where a value is expected has no literal.
        let literal = item.as_value().and_then(toml_edit::Value::span).and_then(|span| self.lines.text().get(span));
        let written = literal.filter(|literal| !literal.contains(char::is_control)).map(str::to_owned);
        config.origins.set.insert(key, SetValue { value, origin: Origin::File { line, span: span.clone() }, written });
    }

    fn finish(mut self, mut config: Config) -> Result<Config, ConfigErrors> {
        for set in &mut config.pool.directories {
            set.paths = directory_paths::paths_of(&set.name, self.path);
        }
        if self.problems.is_empty() {
            config.origins.warnings.extend(check::warnings(&config, &self));
            config.origins.warnings.sort_by_key(|warning| (warning.line, warning.column));
            return Ok(config);
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.omitted > 0 {
            let message = format!("{} more problems are not listed", self.omitted);
            self.problems.extend(ConfigErrors::of_file(self.path, message).problems);
        }
        Err(ConfigErrors { problems: self.problems })
    }
}
