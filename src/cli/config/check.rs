//! `config check`

use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Config, ConfigErrors, ConfigProblem, LoadState, MAX_FILE};

use super::super::context::Context;
use super::super::failure::{self, Failure};
use super::super::output::Tint;
use super::super::words;

/// `config check --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Checked {
    /// Whether there are no errors.
    ok: bool,
    /// What was checked.
    path: String,
    /// What is wrong, in the order of the file.
    errors: Vec<ConfigProblem>,
    /// What is accepted, but does not do what one may expect.
    warnings: Vec<ConfigProblem>,
}

/// Finds everything that is wrong with a file.
pub(super) fn check(file: Option<&Path>, context: &Context) -> Result<u8, Failure> {
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
        Ok((_, false)) if file.is_some() => Err(ConfigErrors::of_file(path, "there is no such file")),
        read => read,
    };
    let (errors, warnings, is_there) = match read {
        Ok((config, is_there)) => (Vec::new(), config.check().to_vec(), is_there),
        Err(errors) => (errors.problems, Vec::new(), true),
    };
    let checked = Checked { ok: errors.is_empty(), path: path.display().to_string(), errors, warnings };
    let exit = if checked.ok { 0 } else { failure::CONFIG };
    if context.output.json {
        context.output.document(&checked)?;
    } else if checked.ok {
        context.output.text(&good(&checked, is_there, context))?;
    } else {
        let count = words::count(checked.errors.len() as u64, "error");
        let errors = ConfigErrors { problems: checked.errors };
        context.output.note(&format!("{errors}\n{} {count} in {}", context.output.bad("error:"), checked.path));
    }
    Ok(exit)
}

fn standard_input(path: &Path) -> Result<Result<Config, ConfigErrors>, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new("bad_request", format!("reading standard input: {error}")))?;
    Ok(Config::parse_bytes(bytes, path))
}

fn good(checked: &Checked, is_there: bool, context: &Context) -> String {
    let mut text = String::new();
    for warning in &checked.warnings {
        text += &format!("{} {warning}\n", context.output.tint(Tint::Warn, "warning:"));
    }
    let ok = context.output.tint(Tint::Good, "ok:");
    let path = &checked.path;
    text + &match checked.warnings.len() as u64 {
        _ if !is_there => format!("{ok} there is no {path}, so the defaults hold\n"),
        0 => format!("{ok} {path}\n"),
        number => format!("{ok} {path}, with {}\n", words::count(number, "warning")),
    }
}
