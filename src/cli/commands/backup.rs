//! `backup` and `restore`: a copy of the database, without its key.

use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::launch::create_private_directory;
use crate::cli::ui::{clean, format, progress, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::config::AppPaths;
use crate::daemon::{key_location, lock};
use crate::store::{self, BackupSummary, RestoreSummary, StoreError, StorePaths};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write, readable by you only
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also write the key to this new file; keep it in another place than the backup
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key of the backup, if it is another than the present one; `-` for standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Replace a database that has accounts; it is renamed, not removed
    #[arg(long)]
    force: bool,
}

/// What was backed up.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BackupResult {
    /// The backup.
    file: String,
    /// The number of accounts in it.
    accounts: usize,
    /// Where the key is that opens its secrets.
    key: String,
    /// Where a copy of the key was written.
    key_file: Option<String>,
    /// The configuration file, which is not in the backup.
    config: String,
    /// What is damaged.
    warnings: Vec<String>,
}

/// What was restored.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RestoreResult {
    /// The number of accounts.
    accounts: usize,
    /// When the backup was made, in milliseconds since 1970, if that is known.
    made_at: Option<u64>,
    /// Where the key is that opens the secrets.
    key: String,
    /// The database from before, under its new name.
    set_aside: Option<String>,
    /// The leases that were held when the backup was made, which have ended.
    ended_leases: usize,
    /// What is damaged.
    warnings: Vec<String>,
}

/// `backup FILE`
pub(super) fn back_up(args: &BackupArgs, context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let paths = store_paths(&places, context)?;
    if let Some(file) = args.key_file.as_ref().filter(|file| file.symlink_metadata().is_ok()) {
        return Err(CliError::bad_request(format!("{} exists already and was not changed", file.display())));
    }
    let made = {
        let _progress = progress::spinner("copying the database");
        store::back_up(&paths, &args.file, args.force).map_err(failed)?
    };
    if let Some(file) = &args.key_file {
        store::copy_key(&paths, file).map_err(failed)?;
    }
    let BackupSummary { accounts, key_location, warnings, .. } = made;
    let result = BackupResult {
        file: args.file.display().to_string(),
        accounts,
        key: key_location,
        key_file: args.key_file.as_ref().map(|file| file.display().to_string()),
        config: places.config.display().to_string(),
        warnings,
    };
    context.output.result(&result, || backup_text(&result, context))?;
    warn(&result.warnings, context);
    Ok(())
}

fn backup_text(result: &BackupResult, context: &Context) -> String {
    let accounts = format::count(result.accounts, "account");
    let key = match &result.key_file {
        Some(file) => format!("its secrets are sealed with the key in {}: keep that in another place", clean(file)),
        None => format!(
            "not in it: the key that its secrets are sealed with, in {}; keep a copy in another place (--key-file FILE \
             writes one)",
            clean(&result.key)
        ),
    };
    let lines = [
        format!("{accounts} backed up to {}", clean(&result.file)),
        key,
        format!("not in it: the configuration, {}", clean(&result.config)),
    ];
    context.output.prose(&lines.join("\n"))
}

/// `restore FILE`
pub(super) fn restore(args: &RestoreArgs, context: &Context) -> Result<(), CliError> {
    let places = context.places()?;
    let paths = store_paths(&places, context)?;
    let key = args.key_file.as_deref().map(|file| read_key(file, context)).transpose()?;
    for directory in [&places.data, &places.state] {
        let failed = |error| CliError::internal(format!("creating {}: {error}", directory.display()));
        create_private_directory(directory).map_err(failed)?;
    }
    // until the new database is in its place no daemon starts
    let _lock = take_lock(&places)?;
    let is_given = key.is_some();
    let restore = |key| {
        let _progress = progress::spinner("checking and restoring the database");
        store::restore(&paths, &args.file, key, args.force)
    };
    let restored = match restore(key) {
        Err(StoreError::KeyOfBackup { .. }) if !is_given && prompt::can_ask() => {
            let digits = prompt::secret_line("key of the backup (the 64 digits of its key file)", &context.output)?;
            let text = Zeroizing::new(digits.as_bytes().to_vec());
            restore(Some(text))
        }
        restored => restored,
    };
    let RestoreSummary { backup, set_aside, ended_leases } = restored.map_err(failed)?;
    let result = RestoreResult {
        accounts: backup.accounts,
        made_at: backup.made_at.map(|at| at.0),
        key: backup.key_location,
        set_aside: set_aside.map(|path| path.display().to_string()),
        ended_leases,
        warnings: backup.warnings,
    };
    context.output.result(&result, || restore_text(&result, context))?;
    warn(&result.warnings, context);
    Ok(())
}

fn restore_text(result: &RestoreResult, context: &Context) -> String {
    let accounts = format::count(result.accounts, "account");
    let made = result.made_at.map(|at| format!(", as of {}", format::ago(format::now(), at))).unwrap_or_default();
    let aside = result.set_aside.as_ref().map(|path| format!("; the database from before is now {}", clean(path)));
    let leases = match result.ended_leases {
        0 => String::new(),
        number => format!("; {} from then ended", format::count(number, "lease")),
    };
    let text = format!(
        "{accounts} restored{made}{}{leases}; a login that was refreshed after the backup was made may need: lessor login",
        aside.unwrap_or_default()
    );
    context.output.prose(&text)
}

fn warn(warnings: &[String], context: &Context) {
    for warning in warnings {
        context.output.note(&format!("warning: {}", clean(warning)));
    }
}

fn store_paths(places: &AppPaths, context: &Context) -> Result<StorePaths, CliError> {
    let key_backend = key_location(&context.config()?);
    Ok(StorePaths { database: places.database.clone(), key: places.key.clone(), key_backend })
}

fn take_lock(places: &AppPaths) -> Result<lock::Lock, CliError> {
    let in_use = || {
        let message = format!("a daemon uses {}; nothing was changed", places.data.display());
        CliError::bad_request(message).hint("stop it, then try again: lessor stop")
    };
    if lock::is_held(&places.lock) {
        return Err(in_use());
    }
    let failed = |error| CliError::internal(format!("cannot lock {}: {error}", places.lock.display()));
    match lock::Lock::take(&places.lock).map_err(failed)? {
        lock::Taken::Ours(lock) => Ok(lock),
        lock::Taken::Theirs(_) => Err(in_use()),
    }
}

fn read_key(file: &Path, context: &Context) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if file == Path::new("-") {
        let text = prompt::secret_document("key", &context.output)?;
        return Ok(Zeroizing::new(text.as_bytes().to_vec()));
    }
    let failed = |error| CliError::bad_request(format!("reading the key {}: {error}", file.display()));
    std::fs::read(file).map(Zeroizing::new).map_err(failed)
}

fn failed(error: StoreError) -> CliError {
    let hint = match &error {
        StoreError::Exists { .. } => "choose another name, or replace it: --force",
        StoreError::NoDatabase { .. } => "see: lessor config path",
        StoreError::WouldReplace { .. } => "replace it all the same; it is renamed, not removed: --force",
        StoreError::KeyOfBackup { .. } => "give the key that the backup was made with: --key-file FILE",
        StoreError::KeyDamaged { .. } => "a key file begins with lessor-key-1, followed by 64 digits",
        StoreError::BadBackup { .. } => return CliError::bad_request(error.to_string()),
        _ => return CliError::internal(error.to_string()),
    };
    CliError::bad_request(error.to_string()).hint(hint)
}
