//! Another tool's settings as a change of the configuration: shown, and made when the user agrees.

use std::io::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::config::{Config, Value};

use super::super::failure::Failure;
use super::gather::File;

/// A key that another tool's setting would change.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Change {
    /// lessor's key.
    pub(in crate::cli) key: String,
    /// What holds now.
    pub(in crate::cli) now: serde_json::Value,
    /// What would hold.
    pub(in crate::cli) proposed: serde_json::Value,
    /// The key it comes from.
    pub(in crate::cli) from: String,
    /// The file it comes from.
    pub(in crate::cli) file: String,
    #[serde(skip)]
    toml: String,
}

/// What would change; and what cannot be taken over, each with why.
pub(in crate::cli) fn changes(files: &[File], config: &Config) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut left_out): (Vec<Change>, Vec<String>) = (Vec::new(), Vec::new());
    for file in files {
        for proposal in &file.settings {
            let text = format!("{} = {}\n", proposal.key, proposal.value);
            let proposed = match Config::parse(&text, Path::new("import")) {
                Ok(config) => value_of(&config, proposal.key),
                Err(errors) => {
                    let why = errors.problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
                    left_out.push(format!("{}: `{}` is left out: {why}", file.name, proposal.from));
                    continue;
                }
            };
            let now = value_of(config, proposal.key);
            let known = changes.iter().any(|change| change.key == proposal.key);
            if now != proposed && !known {
                changes.push(Change {
                    key: proposal.key.to_owned(),
                    now,
                    proposed,
                    from: proposal.from.clone(),
                    file: file.name.clone(),
                    toml: proposal.value.clone(),
                });
            }
        }
    }
    (changes, left_out)
}

fn value_of(config: &Config, key: &str) -> serde_json::Value {
    let setting = config.show().into_iter().find(|setting| setting.key == key);
    setting.and_then(|setting| setting.value.as_ref().map(Value::json)).unwrap_or_default()
}

/// Makes the changes in the file: the rest of it stays as it is, comments included.
pub(in crate::cli) fn accept(changes: &[Change], path: &Path) -> Result<(), Failure> {
    let failed = |doing: &str, why: String| Failure::new("internal", format!("{doing} {}: {why}", path.display()));
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed("reading", error.to_string())),
    };
    let text = edited(&before, changes).map_err(Failure::config)?;
    Config::parse(&text, path).map_err(|errors| Failure::config(errors.to_string()))?;
    // through a link, to the file it leads to
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        if let Ok(about) = std::fs::metadata(&target) {
            file.as_file().set_permissions(about.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&target)?;
        Ok(())
    };
    write().map_err(|error| failed("writing", error.to_string()))
}

fn edited(text: &str, changes: &[Change]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("the configuration is not TOML: {error}"))?;
    for change in changes {
        let value: toml_edit::Value = change.toml.parse().map_err(|_| format!("{} has no such value", change.key))?;
        let (tables, name) = change.key.rsplit_once('.').unwrap_or(("", &change.key));
        let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
        for part in tables.split('.').filter(|part| !part.is_empty()) {
            let item = table.entry(part).or_insert_with(|| {
                let mut table = Table::new();
                // only what has keys of its own gets a header
                table.set_implicit(true);
                Item::Table(table)
            });
            table = item.as_table_like_mut().ok_or_else(|| format!("{part} is no table in the configuration"))?;
        }
        match table.get_mut(name) {
            Some(Item::Value(old)) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            _ => drop(table.insert(name, Item::Value(value))),
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, toml: &str) -> Change {
        let nothing = serde_json::Value::Null;
        Change {
            key: key.into(),
            now: nothing.clone(),
            proposed: nothing,
            from: "x".into(),
            file: "f".into(),
            toml: toml.into(),
        }
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        let before = "# mine\n[selection]\nmode = \"balance\"   # of course\n\n[leases]\nper_account = 2\n";
        let changes = [
            change("selection.mode", "\"cache-first\""),
            change("selection.health.min_usable", "40"),
            change("quota.poll", "\"off\""),
        ];
        let after = edited(before, &changes).unwrap();
        for part in [
            "# mine\n",
            "mode = \"cache-first\"   # of course",
            "per_account = 2",
            "[selection.health]\nmin_usable = 40",
            "[quota]\npoll = \"off\"",
        ] {
            assert!(after.contains(part), "{part}: {after}");
        }
        assert!(Config::parse(&after, Path::new("x")).is_ok(), "{after}");
        assert_eq!(edited(&after, &changes).unwrap(), after);
        let dotted = edited("selection.mode = \"balance\"\n", &changes[..2]).unwrap();
        assert!(Config::parse(&dotted, Path::new("x")).is_ok(), "{dotted}");
        assert!(edited("selection = 3\n", &changes).is_err());
    }
}
