//! `export`: all accounts as a document that `import` reads.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::protocol::{ExportAccountsParams, ExportInfo};

use super::context::Context;
use super::failure::Failure;
use super::output::Output;

/// `export`
#[derive(Debug, Args)]
pub(super) struct Export {
    /// With every key and token, refresh tokens among them
    #[arg(long)]
    secrets: bool,
    /// Really, without being asked
    #[arg(long, requires = "secrets")]
    yes: bool,
    /// Write to a file that only you can read, instead of to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or writes the document.
pub(super) fn export(options: &Export, context: &Context) -> Result<(), Failure> {
    if options.secrets && !options.yes {
        confirm(&context.output)?;
    }
    let secrets = options.secrets;
    let document = context.ask(|client| client.export_accounts(ExportAccountsParams { secrets }))?;
    if secrets {
        warn_of_rotation(&document, &context.output);
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

fn confirm(output: &Output) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--secrets needs --yes where nobody can be asked"));
    }
    output.note("This writes out every key and token in clear, refresh tokens included. Type yes to go on:");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::new("bad_request", format!("reading the answer: {error}")))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::new("bad_request", "nothing was exported")) }
}

/// A login that rotates is one program's at a time.
fn warn_of_rotation(document: &ExportInfo, output: &Output) {
    let has_refresh = |account: &&crate::protocol::ExportedAccount| {
        let credential = account.credential.as_ref();
        account.provider != "google" && credential.is_some_and(|credential| credential.refresh.is_some())
    };
    let rotating = document.accounts.iter().filter(has_refresh).count();
    if rotating > 0 {
        let logins = super::words::count(rotating as u64, "login");
        output.note(&format!(
            "note: {logins} in it rotate: used in two places, the refresh of one ends the other's; export to move, not to copy"
        ));
    }
}

fn write(path: &Path, document: &ExportInfo) -> Result<(), Failure> {
    let failed = |error: String| Failure::new("internal", format!("writing {}: {error}", path.display()));
    let mut text = Zeroizing::new(serde_json::to_string_pretty(document).map_err(|error| failed(error.to_string()))?);
    text.push('\n');
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // only for its owner from the first moment
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| failed(error.to_string()))
}
