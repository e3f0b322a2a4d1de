//! `config set` and `config unset`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::edit::{self, EditError, NamedKey};
use crate::config::{Config, LockedFile, ReplaceError};

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::output::clean;
use super::invalid;
use super::verdict::Verdict;

/// `config set --json` and `config unset --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Change {
    /// The key's path, as TOML writes it.
    key: String,
    /// What holds in the file now; null where unset means something of its own.
    value: serde_json::Value,
    /// The file.
    path: String,
    /// Whether the file is another one than before.
    changed: bool,
    /// What a running daemon makes of it.
    daemon: Verdict,
}

/// Sets a key, or takes it out.
pub(super) fn set(key: &str, typed: Option<&str>, context: &Context) -> Result<u8, Failure> {
    let named = NamedKey::find(key).map_err(Failure::usage)?;
    if let Some(typed) = typed {
        // before anything is made or waited for
        let refused = |why| Failure::usage(format!("`{}` {why}", named.key()));
        named.row().kind.read_argument(typed).map_err(refused)?;
    }
    let places = context.places()?;
    let path = &places.config;
    let (changed, config) = if typed.is_none() && !path.exists() && path.symlink_metadata().is_err() {
        (false, Config::default())
    } else {
        change(path, &named, typed)?
    };
    let setting = config.get(&named.key()).map_err(|why| Failure::new("internal", why))?;
    let shown = setting.literal().unwrap_or_else(|| "not set".to_owned());
    let change = Change {
        key: named.key(),
        value: setting.json(),
        path: path.display().to_string(),
        changed,
        daemon: Verdict::of_daemon(&places).beyond(config.check()),
    };
    if !named.row().active {
        context.output.note(&format!("{} {}", context.output.strong("note:"), inactive(&change.key)));
    }
    context.output.result(&change, || {
        let key = clean(&change.key);
        let by_default = if typed.is_none() { " by default" } else { "" };
        let already = if changed { "" } else { ", as before" };
        format!("{key} = {shown}{by_default}{already}\n{}", change.daemon.words())
    })?;
    Ok(change.daemon.exit())
}

fn inactive(key: &str) -> String {
    format!("`{key}` is not active yet in this version; it is checked, and otherwise ignored")
}

/// Changes the file while no other command does.
fn change(path: &Path, named: &NamedKey, typed: Option<&str>) -> Result<(bool, Config), Failure> {
    let held = LockedFile::lock(path).map_err(failure)?;
    let bytes = held.bytes().unwrap_or_default().to_vec();
    Config::parse_bytes(bytes.clone(), path).map_err(|errors| invalid(path, &errors))?;
    let text = String::from_utf8(bytes).map_err(|error| Failure::new("internal", error.to_string()))?;
    let changed = match typed {
        Some(typed) => edit::set(&text, path, named, typed).map(|(text, _)| text),
        None if !is_set(&text, path, named) => Ok(text.clone()),
        None => edit::unset(&text, path, named),
    };
    let changed = changed.map_err(|error| match error {
        EditError::Invalid(errors) => invalid(path, &errors),
        EditError::Together(errors) => {
            let messages: Vec<_> = errors.problems.iter().map(|problem| problem.message.as_str()).collect();
            Failure::usage(format!("the file would not be valid, and stays as it is: {}", messages.join("; ")))
        }
        EditError::ByHand(_) => Failure::new("bad_request", error.to_string()),
        _ => Failure::usage(error.to_string()),
    })?;
    let config = Config::parse(&changed, path).map_err(|errors| invalid(path, &errors))?;
    let is_new = changed != text || held.bytes().is_none();
    if is_new {
        held.replace(&changed).map_err(failure)?;
    }
    Ok((is_new, config))
}

fn is_set(text: &str, path: &Path, named: &NamedKey) -> bool {
    Config::parse(text, path).is_ok_and(|config| {
        config.get(&named.key()).is_ok_and(|setting| setting.source != crate::config::SettingSource::Default)
    })
}

/// Why the file could not be replaced.
pub(in crate::cli) fn failure(error: ReplaceError) -> Failure {
    match error {
        ReplaceError::NotAFile(errors) => Failure::config(errors.to_string()),
        ReplaceError::Changed(_) => Failure::new("changed_meanwhile", error.to_string()),
        _ => Failure::new("internal", error.to_string()),
    }
}
