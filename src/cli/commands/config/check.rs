//! `config check`: every error in a configuration file.

use std::{io::Read, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::error::{self, CliError};
use crate::cli::ui::{Tint, format};
use crate::client::Client;
use crate::config::{AppPaths, Config, ConfigErrors, ConfigProblem, LoadState, MAX_FILE, format_key};
use crate::protocol::{AccountInfo, ListAccountsParams};

/// `config check --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigCheckResult {
    /// Whether there are no errors.
    ok: bool,
    /// The file that was checked.
    path: String,
    /// The errors, in the order of the file.
    errors: Vec<ConfigProblem>,
    /// What is valid, but may not have the expected effect.
    warnings: Vec<ConfigProblem>,
}

pub(super) fn check(file: Option<&Path>, context: &Context) -> Result<u8, CliError> {
    let places = context.places()?;
    let path = match file {
        Some(file) if file == Path::new("-") => Path::new("standard input"),
        Some(file) => file,
        None => &places.config,
    };
    let read = match file {
        Some(file) if file == Path::new("-") => standard_input(path)?.map(|config| (config, true)),
        _ => Config::load(path).map(|loaded| (loaded.config, loaded.state == LoadState::Ok)),
    };
    let read = match read {
        Ok((_, false)) if file.is_some() => Err(ConfigErrors::of_file(path, "the file does not exist")),
        read => read,
    };
    let (errors, warnings, is_there) = match read {
        Ok((config, is_there)) => {
            let unmatched = unmatched_accounts(&config, path, &places);
            (Vec::new(), config.check().iter().cloned().chain(unmatched).collect(), is_there)
        }
        Err(errors) => (errors.problems, Vec::new(), true),
    };
    let checked = ConfigCheckResult { ok: errors.is_empty(), path: path.display().to_string(), errors, warnings };
    let exit = if checked.ok { 0 } else { error::CONFIG };
    if context.output.json {
        context.output.document(&checked)?;
    } else if checked.ok {
        context.output.text(&good(&checked, is_there, context))?;
    } else {
        let count = format::count(checked.errors.len(), "error");
        let errors = ConfigErrors { problems: checked.errors };
        context.output.note(&errors.to_string());
        context.output.labelled_note(Tint::Bad, "error:", &format!("{count} in {}", checked.path));
    }
    Ok(exit)
}

/// Sections and a preferred account that match none of the daemon's accounts. Without a daemon the accounts are not
/// known, and nothing is said.
fn unmatched_accounts(config: &Config, path: &Path, places: &AppPaths) -> Vec<ConfigProblem> {
    let names =
        config.pool.accounts.iter().map(|section| (section.name.as_str(), format_key(&["accounts", &section.name])));
    let preferred = config.pool.selection.preferred_account.as_deref();
    let preferred = preferred.map(|name| (name, "selection.preferred_account".to_owned()));
    let mut names = names.chain(preferred).peekable();
    if names.peek().is_none() {
        return Vec::new();
    }
    let accounts = Client::connect(places).and_then(|mut client| client.accounts(ListAccountsParams::default()));
    let Ok(accounts) = accounts else { return Vec::new() };
    let is_named = |info: &AccountInfo, name: &str| {
        // an address that two accounts have has their organisation behind it
        let address = info.email.as_deref().map(|email| email.split(" (").next().unwrap_or(email));
        info.id == name || info.label.as_deref() == Some(name) || address == Some(name)
    };
    let unmatched = names.filter(|(name, _)| !accounts.iter().any(|info| is_named(info, name)));
    let problems = unmatched.flat_map(|(name, key)| {
        let message = format!("{key}: no account has the label, email address or id {name:?}");
        let problems = ConfigErrors::of_file(path, message).problems.into_iter();
        problems.map(move |mut problem| {
            problem.key.clone_from(&key);
            problem
        })
    });
    problems.collect()
}

fn standard_input(path: &Path) -> Result<Result<Config, ConfigErrors>, CliError> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::bad_request(format!("reading standard input: {error}")))?;
    Ok(Config::parse_bytes(bytes, path))
}

fn good(checked: &ConfigCheckResult, is_there: bool, context: &Context) -> String {
    let mut text = String::new();
    for warning in &checked.warnings {
        text += &context.output.labelled(Tint::Warn, "warning:", &warning.to_string());
    }
    let path = &checked.path;
    let result = match checked.warnings.len() {
        _ if !is_there => format!("{path} does not exist, so the defaults apply"),
        0 => path.clone(),
        number => format!("{path}, with {}", format::count(number, "warning")),
    };
    text + &context.output.labelled(Tint::Good, "ok:", &result)
}
