//! `config set` and `config unset`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::reload::ReloadOutcome;
use crate::cli::ui::clean;
use crate::cli::{context::Context, error::CliError};
use crate::config::edit::{self, EditError, NamedKey};
use crate::config::{Config, LockedFile, ReplaceError};
use crate::protocol::ErrorKind;

/// `config set --json` and `config unset --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigChange {
    /// The key's path, as TOML writes it.
    key: String,
    /// The value now; null if the key is unset and has no default.
    value: serde_json::Value,
    /// The file.
    path: String,
    /// Whether the file was changed.
    changed: bool,
    /// What happened when a running daemon read it.
    daemon: ReloadOutcome,
}

pub(super) fn set(key: &str, typed: Option<&str>, context: &Context) -> Result<u8, CliError> {
    let named = NamedKey::find(key).map_err(CliError::usage)?;
    if let Some(typed) = typed {
        // checked first: nothing is created or locked for an invalid value
        let refused = |why| CliError::usage(format!("`{}` {why}", named.key()));
        named.row().kind.read_argument(typed).map_err(refused)?;
    }
    let places = context.places()?;
    let path = &places.config;
    let (changed, config) = if typed.is_none() && !path.exists() && path.symlink_metadata().is_err() {
        (false, Config::default())
    } else {
        change(path, &[(&named, typed)])?
    };
    let setting = config.get(&named.key()).map_err(CliError::internal)?;
    let shown = setting.literal().unwrap_or_else(|| "not set".to_owned());
    let change = ConfigChange {
        key: named.key(),
        value: setting.json(),
        path: path.display().to_string(),
        changed,
        daemon: ReloadOutcome::of_daemon(&places).without(config.check()),
    };
    context.output.result(&change, || {
        let key = clean(&change.key);
        let remark = match (typed.is_none(), changed) {
            (true, true) => " (default)",
            (true, false) => " (default, unchanged)",
            (false, true) => "",
            (false, false) => " (unchanged)",
        };
        format!("{key} = {shown}{remark}\n{}", context.output.prose(&change.daemon.text()))
    })?;
    Ok(change.daemon.exit())
}

/// Sets or, without a value, unsets keys in a file, all at once; `false` if the file says so already.
pub(in crate::cli::commands) fn write_settings(
    path: &Path,
    settings: &[(&str, Option<String>)],
) -> Result<bool, CliError> {
    let named =
        |(key, typed): &(&str, Option<String>)| Ok((NamedKey::find(key).map_err(CliError::internal)?, typed.clone()));
    let named: Vec<(NamedKey, Option<String>)> = settings.iter().map(named).collect::<Result<_, CliError>>()?;
    let unsets = named.iter().all(|(_, typed)| typed.is_none());
    if unsets && !path.exists() && path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let changes: Vec<(&NamedKey, Option<&str>)> = named.iter().map(|(key, typed)| (key, typed.as_deref())).collect();
    Ok(change(path, &changes)?.0)
}

fn change(path: &Path, changes: &[(&NamedKey, Option<&str>)]) -> Result<(bool, Config), CliError> {
    let held = LockedFile::lock(path).map_err(swap_error)?;
    let bytes = held.bytes().unwrap_or_default().to_vec();
    Config::parse_bytes(bytes.clone(), path).map_err(|errors| CliError::invalid_config(path, &errors))?;
    let text = String::from_utf8(bytes).map_err(|error| CliError::internal(error.to_string()))?;
    let mut changed = text.clone();
    for (named, typed) in changes {
        changed = changed_key(&changed, path, named, *typed)?;
    }
    let config = Config::parse(&changed, path).map_err(|errors| CliError::invalid_config(path, &errors))?;
    let is_new = changed != text || held.bytes().is_none();
    if is_new {
        held.replace(&changed).map_err(swap_error)?;
    }
    Ok((is_new, config))
}

fn changed_key(text: &str, path: &Path, named: &NamedKey, typed: Option<&str>) -> Result<String, CliError> {
    let changed = match typed {
        Some(typed) => edit::set(text, path, named, typed).map(|(text, _)| text),
        None if !is_set(text, path, named) => Ok(text.to_owned()),
        None => edit::unset(text, path, named),
    };
    changed.map_err(|error| match error {
        EditError::Invalid(errors) => CliError::invalid_config(path, &errors),
        EditError::Together(errors) => {
            let messages: Vec<_> = errors.problems.iter().map(|problem| problem.message.as_str()).collect();
            CliError::usage(format!("the file would become invalid, and was not changed: {}", messages.join("; ")))
        }
        EditError::ByHand(_) => CliError::bad_request(error.to_string()),
        _ => CliError::usage(error.to_string()),
    })
}

fn is_set(text: &str, path: &Path, named: &NamedKey) -> bool {
    Config::parse(text, path).is_ok_and(|config| {
        config.get(&named.key()).is_ok_and(|setting| setting.source != crate::config::SettingSource::Default)
    })
}

pub(crate) fn swap_error(error: ReplaceError) -> CliError {
    match error {
        ReplaceError::NotAFile(errors) => CliError::config(errors.to_string()),
        ReplaceError::Changed(_) => CliError::new(ErrorKind::ChangedMeanwhile, error.to_string()),
        _ => CliError::internal(error.to_string()),
    }
}
