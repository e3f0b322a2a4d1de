//! Another tool's settings as a change of the configuration: shown, and made when the user agrees.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::edit::{self, Named};
use crate::config::{Config, Held, Value};

use super::super::config;
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
    let held = Held::take(path).map_err(config::set_failure)?;
    let before = String::from_utf8(held.bytes().unwrap_or_default().to_vec());
    let before = before.map_err(|_| Failure::config(format!("{} is not UTF-8", path.display())))?;
    let after = edited(before, changes, path)?;
    held.swap(&after).map_err(config::set_failure)
}

fn edited(mut text: String, changes: &[Change], path: &Path) -> Result<String, Failure> {
    for change in changes {
        let named = Named::find(&change.key).map_err(Failure::config)?;
        let changed = edit::set(&text, path, &named, &change.toml);
        text = changed.map_err(|error| Failure::config(format!("{}: {error}", change.key)))?.0;
    }
    Ok(text)
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
        let edited = |text: &str, changes: &[Change]| edited(text.to_owned(), changes, Path::new("x"));
        let after = edited(before, &changes).unwrap();
        for part in
            ["# mine\n", "mode = \"cache-first\"   # of course", "per_account = 2", "min_usable = 40", "poll = \"off\""]
        {
            assert!(after.contains(part), "{part}: {after}");
        }
        let config = Config::parse(&after, Path::new("x")).unwrap();
        assert_eq!(value_of(&config, "selection.health.min_usable"), 40.0);
        assert_eq!(edited(&after, &changes).unwrap(), after);
        assert!(edited("selection = 3\n", &changes).is_err());
    }
}
