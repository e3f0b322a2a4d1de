//! Another tool's settings as a change of the configuration: shown, and made when the user agrees.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::edit::{self, NamedKey};
use crate::config::{Config, ConfigValue, LockedFile};
use crate::credential::import::{PREFERRED, Proposal};

use super::super::config;
use super::super::failure::Failure;
use super::gather::Gathered;

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
    /// Whether this version of lessor acts on it.
    pub(in crate::cli) active: bool,
    /// What holds now, as TOML.
    #[serde(skip)]
    pub(in crate::cli) now_toml: String,
    /// What would hold, as TOML.
    #[serde(skip)]
    pub(in crate::cli) toml: String,
}

/// A setting of another tool that is not taken over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct LeftOut {
    /// The other tool's key.
    pub(in crate::cli) from: String,
    /// The file it is in.
    pub(in crate::cli) file: String,
    /// Why.
    pub(in crate::cli) why: String,
}

/// What would change; and what is not taken over.
pub(in crate::cli) fn changes(gathered: &Gathered, config: &Config) -> (Vec<Change>, Vec<LeftOut>) {
    let (mut changes, mut left_out): (Vec<Change>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    for file in &gathered.files {
        let mut leave = |from: &str, why: String| {
            left_out.push(LeftOut { from: from.to_owned(), file: file.name.clone(), why });
        };
        for (from, why) in &file.unmatched {
            leave(from, format!("it has no counterpart: {why}"));
        }
        for proposal in &file.settings {
            let (toml, proposed) = match read(proposal, gathered) {
                Ok(read) => read,
                Err(why) => {
                    leave(&proposal.from, why);
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
                    active: NamedKey::find(proposal.key).is_ok_and(|named| named.row().active),
                    now_toml: literal(config, proposal.key),
                    toml,
                });
            }
        }
    }
    (changes, left_out)
}

/// The value as TOML and as JSON, if it can hold.
fn read(proposal: &Proposal, gathered: &Gathered) -> Result<(String, serde_json::Value), String> {
    let toml = if proposal.key == PREFERRED { address(&proposal.value, gathered)? } else { proposal.value.clone() };
    let text = format!("{} = {toml}\n", proposal.key);
    match Config::parse(&text, Path::new("import")) {
        Ok(config) => Ok((toml, value_of(&config, proposal.key))),
        Err(errors) => Err(errors.problems.first().map(|problem| problem.message.clone()).unwrap_or_default()),
    }
}

/// The address of an account that is known by its tool's own id of it.
fn address(id: &str, gathered: &Gathered) -> Result<String, String> {
    let id = id.trim_matches('"');
    let entry = gathered.entries.iter().map(|(entry, _)| entry).find(|entry| entry.item == id);
    let address = entry.and_then(|entry| entry.email.as_ref().or(entry.label.as_ref()));
    address.map(|address| format!("{address:?}")).ok_or_else(|| "the account it names was not found".to_owned())
}

fn value_of(config: &Config, key: &str) -> serde_json::Value {
    let setting = config.show().into_iter().find(|setting| setting.key == key);
    setting.and_then(|setting| setting.value.as_ref().map(ConfigValue::json)).unwrap_or_default()
}

fn literal(config: &Config, key: &str) -> String {
    config.get(key).ok().and_then(|setting| setting.literal()).unwrap_or_default()
}

/// Makes the changes in the file: the rest of it stays as it is, comments included.
pub(in crate::cli) fn accept(changes: &[Change], path: &Path) -> Result<(), Failure> {
    let held = LockedFile::lock(path).map_err(config::set_failure)?;
    let before = String::from_utf8(held.bytes().unwrap_or_default().to_vec());
    let before = before.map_err(|_| Failure::config(format!("{} is not UTF-8", path.display())))?;
    let after = edited(before, changes, path)?;
    held.replace(&after).map_err(config::set_failure)
}

fn edited(mut text: String, changes: &[Change], path: &Path) -> Result<String, Failure> {
    for change in changes {
        let named = NamedKey::find(&change.key).map_err(Failure::config)?;
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
            active: true,
            now_toml: String::new(),
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
