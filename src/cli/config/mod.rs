//! `config …` and `reload`: the file, read and changed without a daemon; a running one is asked what it makes of it.

mod check;
mod edit;
mod editor;
mod set;
mod show;
mod verdict;

pub(super) use check::Checked;
pub(super) use edit::Edited;
pub(super) use set::Change;
pub(super) use set::failure as set_failure;
pub(super) use show::{Shown, Value};
pub(super) use verdict::{Verdict, reload};

use std::path::Path;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{ConfigErrors, Environment, json_schema};

use super::context::Context;
use super::failure::Failure;

/// `config`
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print where the file is
    Path,
    /// Print every value that holds, and where it comes from
    Show,
    /// Print one value, as scripts want it
    Get(Key),
    /// Set a key in the file
    Set(Set),
    /// Take a key out of the file, so that its default holds
    Unset(Key),
    /// Edit the file in $VISUAL or $EDITOR; it takes effect only if it is valid
    Edit,
    /// Find everything that is wrong with a file
    Check(Check),
    /// Print the JSON Schema of the file, for editors
    Schema,
}

/// One key.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// Such as leases.ttl, or accounts."a@b.c".use
    #[arg(value_name = "KEY")]
    key: String,
}

/// `config set`
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    which: Key,
    /// As in TOML, or without its quotes and brackets: 10m, true, claude,codex
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: String,
}

/// `config check`
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Another file than the one that is used; `-` is standard input
    #[arg(value_name = "FILE")]
    file: Option<std::path::PathBuf>,
}

/// Does what one of the commands says.
pub(super) fn config(command: Config, context: &Context) -> Result<u8, Failure> {
    match command {
        Config::Path => path(context).map(|()| 0),
        Config::Show => show::show(context).map(|()| 0),
        Config::Get(Key { key }) => show::get(&key, context).map(|()| 0),
        Config::Set(Set { which, value }) => set::set(&which.key, Some(&value), context),
        Config::Unset(Key { key }) => set::set(&key, None, context),
        Config::Edit => edit::edit(context),
        Config::Check(Check { file }) => check::check(file.as_deref(), context),
        Config::Schema => context.output.document(&json_schema()).map(|()| 0),
    }
}

/// `config path --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Place {
    /// Where the file is, or would be.
    path: String,
    /// Whether it is there.
    exists: bool,
    /// Who says that it is there: `--config`, `LESSOR_CONFIG`, `LESSOR_HOME` or `default`.
    source: &'static str,
}

fn path(context: &Context) -> Result<(), Failure> {
    let places = context.places()?;
    let source = Environment::from_process(&context.flags).config_source();
    let place = Place { path: places.config.display().to_string(), exists: places.config.exists(), source };
    context.output.result(&place, || place.path.clone())
}

/// A file that is no configuration, and what to do.
fn invalid(path: &Path, errors: &ConfigErrors) -> Failure {
    let edit = if path.is_file() { "mend it: lessor config edit" } else { "see: lessor config path" };
    Failure::config(format!("the configuration is not valid:\n{errors}")).hint(edit)
}
