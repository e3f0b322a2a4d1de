//! `export`: all accounts as a document that `import` reads.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::ui::{Output, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{AccountInfo, ExportAccountsParams, ExportInfo, ExportedAccount, ListAccountsParams};
use crate::visible::escape_json;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Include all keys and tokens, even refresh tokens
    #[arg(long)]
    secrets: bool,
    /// Skip the confirmation prompt
    #[arg(long, requires = "secrets")]
    yes: bool,
    /// Write to this file, readable by you only, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn export(options: &ExportArgs, context: &Context) -> Result<(), CliError> {
    if options.secrets && !options.yes {
        confirm(&context.output)?;
    }
    let secrets = options.secrets;
    let document = context.ask(|client| client.export_accounts(ExportAccountsParams { secrets }))?;
    if secrets {
        warn_of_rotation(&document, &context.output);
        note_left_out(&document, context)?;
    }
    match &options.output {
        None => context.output.document(&document),
        Some(path) => {
            write(path, &document)?;
            context.output.note(&format!("wrote {} (mode 0600)", path.display()));
            Ok(())
        }
    }
}

fn confirm(output: &Output) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("--secrets needs --yes if standard input is not a terminal"));
    }
    let question = "This writes every key and token unencrypted, refresh tokens included. Type yes to continue:";
    let confirmed = prompt::ask(question, output)?.is_some_and(|answer| answer == "yes");
    if confirmed { Ok(()) } else { Err(CliError::bad_request("nothing was exported")) }
}

/// The secrets of a shared pool are exported by its admins only.
fn note_left_out(document: &ExportInfo, context: &Context) -> Result<(), CliError> {
    let accounts = context.ask(|client| client.accounts(ListAccountsParams::default()))?;
    let is_out = |account: &&AccountInfo| document.accounts.iter().all(|exported| exported.id != account.id);
    let left_out = accounts.iter().filter(is_out).filter(|account| account.sharing.as_deref() == Some("pool")).count();
    if left_out > 0 {
        let accounts = format::count(left_out, "shared account");
        context.output.note(&format!(
            "note: {accounts} left out: on an admin of the pool (lessor pool hosts shows which hosts are): lessor export \
             --secrets"
        ));
    }
    Ok(())
}

/// A refresh token that rotates can be used by one program only.
fn warn_of_rotation(document: &ExportInfo, output: &Output) {
    let has_refresh = |account: &&ExportedAccount| {
        let credential = account.credential.as_ref();
        account.provider != "google" && credential.is_some_and(|credential| credential.refresh.is_some())
    };
    let rotating = document.accounts.iter().filter(has_refresh).count();
    if rotating > 0 {
        let logins = format::count(rotating, "login");
        output.note(&format!(
            "note: the refresh tokens of {logins} in the export rotate: if two programs use one, each refresh by one \
             logs out the other; export to move accounts, not to copy them"
        ));
    }
}

fn write(path: &Path, document: &ExportInfo) -> Result<(), CliError> {
    let failed = |error: String| CliError::internal(format!("writing {}: {error}", path.display()));
    let mut text = Zeroizing::new(serde_json::to_string_pretty(document).map_err(|error| failed(error.to_string()))?);
    text.push('\n');
    let text = Zeroizing::new(escape_json(&text).into_owned());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // created with mode 0600
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| failed(error.to_string()))
}
