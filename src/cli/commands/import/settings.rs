//! Settings of other tools as changes of the configuration, made if the user agrees.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::find::FoundCredentials;
use crate::cli::{commands::config::swap_error, error::CliError};
use crate::config::edit::{self, NamedKey};
use crate::config::{Config, ConfigValue, LockedFile};
use crate::credential::import::{PREFERRED, SettingProposal};

/// A key for which another tool has a different value.
#[derive(Clone, PartialEq, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct SettingChange {
    /// The key of lessor.
    pub(crate) key: String,
    /// The value now.
    pub(crate) now: serde_json::Value,
    /// The proposed value.
    pub(crate) proposed: serde_json::Value,
    /// The key of the other tool.
    pub(crate) from: String,
    /// The file of the other tool.
    pub(crate) file: String,
    /// The value now, as TOML.
    #[serde(skip)]
    pub(crate) now_toml: String,
    /// The proposed value, as TOML.
    #[serde(skip)]
    pub(crate) toml: String,
}

/// A setting of another tool that is not imported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct SkippedSetting {
    /// The other tool's key.
    pub(crate) from: String,
    /// The file it is in.
    pub(crate) file: String,
    /// The reason.
    pub(crate) why: String,
}

pub(crate) fn changes(found: &FoundCredentials, config: &Config) -> (Vec<SettingChange>, Vec<SkippedSetting>) {
    let (mut changes, mut skipped): (Vec<SettingChange>, Vec<SkippedSetting>) = (Vec::new(), Vec::new());
    for file in &found.files {
        let mut skip = |from: &str, why: String| {
            skipped.push(SkippedSetting { from: from.to_owned(), file: file.name.clone(), why });
        };
        for (from, why) in &file.unmatched {
            skip(from, format!("lessor has no such setting: {why}"));
        }
        for proposal in &file.settings {
            let (toml, proposed) = match read(proposal, found) {
                Ok(read) => read,
                Err(why) => {
                    skip(&proposal.from, why);
                    continue;
                }
            };
            let now = value_of(config, proposal.key);
            let known = changes.iter().any(|change| change.key == proposal.key);
            if now != proposed && !known {
                changes.push(SettingChange {
                    key: proposal.key.to_owned(),
                    now,
                    proposed,
                    from: proposal.from.clone(),
                    file: file.name.clone(),
                    now_toml: literal(config, proposal.key),
                    toml,
                });
            }
        }
    }
    (changes, skipped)
}

/// The value as TOML and as JSON, if it is valid.
fn read(proposal: &SettingProposal, found: &FoundCredentials) -> Result<(String, serde_json::Value), String> {
    let toml = if proposal.key == PREFERRED { address(&proposal.value, found)? } else { proposal.value.clone() };
    let text = format!("{} = {toml}\n", proposal.key);
    match Config::parse(&text, Path::new("import")) {
        Ok(config) => Ok((toml, value_of(&config, proposal.key))),
        Err(errors) => Err(errors.problems.first().map(|problem| problem.message.clone()).unwrap_or_default()),
    }
}

fn address(id: &str, found: &FoundCredentials) -> Result<String, String> {
    let id = id.trim_matches('"');
    let entry = found.entries.iter().map(|(entry, _)| entry).find(|entry| entry.item == id);
    let address = entry.and_then(|entry| entry.email.as_ref().or(entry.label.as_ref()));
    address.map(|address| format!("{address:?}")).ok_or_else(|| "its account was not found".to_owned())
}

fn value_of(config: &Config, key: &str) -> serde_json::Value {
    let setting = config.show().into_iter().find(|setting| setting.key == key);
    setting.and_then(|setting| setting.value.as_ref().map(ConfigValue::json)).unwrap_or_default()
}

fn literal(config: &Config, key: &str) -> String {
    config.get(key).ok().and_then(|setting| setting.literal()).unwrap_or_default()
}

/// Makes the changes in the file; the rest, comments included, is kept.
pub(crate) fn accept(changes: &[SettingChange], path: &Path) -> Result<(), CliError> {
    let held = LockedFile::lock(path).map_err(swap_error)?;
    let before = String::from_utf8(held.bytes().unwrap_or_default().to_vec());
    let before = before.map_err(|_| CliError::config(format!("{} is not UTF-8", path.display())))?;
    let after = edited(before, changes, path)?;
    held.replace(&after).map_err(swap_error)
}

fn edited(mut text: String, changes: &[SettingChange], path: &Path) -> Result<String, CliError> {
    for change in changes {
        let named = NamedKey::find(&change.key).map_err(CliError::config)?;
        let changed = edit::set(&text, path, &named, &change.toml);
        text = changed.map_err(|error| CliError::config(format!("{}: {error}", change.key)))?.0;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, toml: &str) -> SettingChange {
        SettingChange { key: key.into(), toml: toml.into(), ..SettingChange::default() }
    }

    #[test]
    fn a_change_keeps_the_rest_of_the_file() {
        let before = "# mine\n[selection]\nmode = \"balance\"   # of course\n\n[leases]\nper_account = 2\n";
        let changes = [
            change("selection.mode", "\"cache-first\""),
            change("selection.health.min_usable", "40"),
            change("quota.poll", "\"off\""),
        ];
        let edited = |text: &str, changes: &[SettingChange]| edited(text.to_owned(), changes, Path::new("x"));
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
