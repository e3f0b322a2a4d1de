//! `config …` and `reload`: read and change the file without a daemon; a running daemon then reads it.

mod check;
mod edit;
mod editor;
mod reload;
mod set;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{context::Context, error::CliError};
use crate::config::{Environment, json_schema};

pub(super) use check::ConfigCheckResult;
pub(super) use edit::ConfigEditResult;
pub(super) use reload::{ReloadOutcome, reload};
pub(super) use set::{ConfigChange, swap_error, write_settings};
pub(super) use show::{ConfigListing, ConfigSetting};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the path of the configuration file
    #[command(after_help = "Example: lessor config path")]
    Path,
    /// Print every effective value, and where it comes from
    #[command(after_help = "Example: lessor config show")]
    Show,
    /// Print one value, for scripts
    #[command(after_help = "Example: lessor config get leases.ttl")]
    Get(ConfigKeyArg),
    /// Set a key in the file
    #[command(after_help = "Examples:\n  lessor config set leases.per_account 2\n  \
                            lessor config set accounts.work.use claude,codex")]
    Set(ConfigSetArgs),
    /// Remove a key from the file, so that its default applies
    #[command(after_help = "Example: lessor config unset leases.per_account")]
    Unset(ConfigKeyArg),
    /// Edit the file in $VISUAL or $EDITOR
    ///
    /// The editor opens a copy. The copy replaces the file only if it is valid.
    #[command(after_help = "Example: lessor config edit")]
    Edit,
    /// Report every error in the file
    #[command(after_help = "Examples:\n  lessor config check\n  lessor config check new.toml")]
    Check(ConfigCheckArgs),
    /// Print the JSON Schema of the file, for editors
    #[command(after_help = "Example: lessor config schema > lessor.schema.json")]
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigKeyArg {
    /// A key, such as leases.ttl or accounts."a@b.c".use
    #[arg(value_name = "KEY")]
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigSetArgs {
    #[command(flatten)]
    key: ConfigKeyArg,
    /// A value as in TOML, or without quotes and brackets: 10m, true, claude,codex
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// Check this file instead; - is standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn execute(command: ConfigCommand, context: &Context) -> Result<u8, CliError> {
    match command {
        ConfigCommand::Path => path(context).map(|()| 0),
        ConfigCommand::Show => show::show(context).map(|()| 0),
        ConfigCommand::Get(ConfigKeyArg { key }) => show::get(&key, context).map(|()| 0),
        ConfigCommand::Set(ConfigSetArgs { key, value }) => set::set(&key.key, Some(&value), context),
        ConfigCommand::Unset(ConfigKeyArg { key }) => set::set(&key, None, context),
        ConfigCommand::Edit => edit::edit(context),
        ConfigCommand::Check(ConfigCheckArgs { file }) => check::check(file.as_deref(), context),
        ConfigCommand::Schema => context.output.document(&json_schema()).map(|()| 0),
    }
}

/// `config path --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigLocation {
    /// The path of the file.
    path: String,
    /// Whether the file exists.
    exists: bool,
    /// What determines the path: `--config`, `LESSOR_CONFIG`, `LESSOR_HOME` or `default`.
    source: &'static str,
}

fn path(context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let source = Environment::from_process(&context.flags).config_source();
    let location = ConfigLocation { path: places.config.display().to_string(), exists: places.config.exists(), source };
    context.output.result(&location, || location.path.clone())
}
