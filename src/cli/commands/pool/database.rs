//! The database on the command line: its URL, which holds no password, and where the password is read from.

use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::{context::Context, error::CliError, ui::prompt};
use crate::protocol::SecretText;

/// No password is longer, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

#[derive(Debug, Default, Args)]
pub(crate) struct DatabaseArgs {
    /// Read the password of the database's role from standard input
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password of the database's role from this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Trust this certificate of the server's CA, if the system does not
    #[arg(long, value_name = "FILE")]
    root_certificate: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The password: from where the options say, else from the terminal, else none.
    pub(super) fn password(&self, url: &str, context: &Context) -> Result<Option<SecretText<'static>>, CliError> {
        let text = match &self.password_file {
            Some(file) => secret_file("database password", file)?,
            None if self.password_stdin => prompt::secret_line("database password", &context.output)?,
            None if prompt::can_ask() && !context.output.json => {
                let what = format!("password for {}, or nothing if it needs none", in_short(url));
                let text = prompt::pasted_secret(&what, &context.output)?;
                if text.trim().is_empty() {
                    return Ok(None);
                }
                text
            }
            None => return Ok(None),
        };
        Ok(Some(SecretText(text.as_str().to_owned().into())))
    }

    /// The file of the certificate, as an absolute path: the daemon has another working directory.
    pub(super) fn root_certificate(&self) -> Result<Option<String>, CliError> {
        self.root_certificate.as_deref().map(absolute).transpose()
    }
}

/// A file as an absolute path.
pub(super) fn absolute(path: &Path) -> Result<String, CliError> {
    let found = path.canonicalize().map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    let not_text = |_| CliError::usage(format!("{} is not the name of a file in UTF-8", path.display()));
    found.into_os_string().into_string().map_err(not_text)
}

/// A secret that is the only line of a file.
pub(super) fn secret_file(what: &str, path: &Path) -> Result<Zeroizing<String>, CliError> {
    let bad = |why: String| CliError::bad_request(format!("reading the {what} from {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if size > LONGEST_FILE {
        return Err(bad(format!("it is longer than {} KiB", LONGEST_FILE / 1024)));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| bad(error.to_string()))?);
    let text = str::from_utf8(&bytes).map_err(|_| bad("it is not UTF-8".to_owned()))?;
    prompt::one_line(text).map_err(|why| bad(why.to_owned()))
}

/// Refuses a URL that holds a password, which every user of the machine can read on a command line, and one of another
/// kind. The URL is not repeated in the error.
pub(super) fn check_url(url: &str) -> Result<(), CliError> {
    let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        let error = CliError::usage("the URL of the database begins with postgres://");
        return Err(error.hint("postgres://USER@HOST:PORT/DATABASE"));
    };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = address.split('/').next().and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    let in_query = query.split('&').any(|pair| pair.split('=').next() == Some("password"));
    if in_query || user.is_some_and(|user| user.contains(':')) {
        let message = "a password is not taken from the command line, where other users of this machine can read it";
        return Err(CliError::usage(message)
            .hint("leave it out of the URL, and add --password-stdin or --password-file FILE; this one is no longer secret: change it"));
    }
    Ok(())
}

/// The server and the database of a URL, for people: without role and options.
pub(super) fn in_short(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    match (server, database) {
        ("", database) => database.to_owned(),
        (server, "") => server.to_owned(),
        (server, database) => format!("{server}/{database}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        for url in
            ["postgres://me:s3cret@db/lessor", "postgresql://me:s3cret@db", "postgres://db/x?user=me&password=s3cret"]
        {
            let error = check_url(url).unwrap_err();
            assert_eq!(error.exit, crate::cli::error::USAGE, "{url}");
            let hint = error.info.data.hint.clone().unwrap_or_default();
            assert!(hint.contains("--password-stdin") && hint.contains("--password-file"), "{hint}");
            assert!(!format!("{}{hint}", error.message()).contains("s3cret"), "{url}");
        }
        assert!(check_url("mysql://db/lessor").unwrap_err().message().contains("postgres://"));
    }

    #[test]
    fn a_url_without_a_password_is_accepted() {
        for url in [
            "postgres://me@db.example:5433/lessor?sslmode=verify-full",
            "postgresql:///lessor?host=/run/postgresql",
            "postgres://me@[::1]:5432/lessor",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_database_is_named_by_server_and_name() {
        for (url, short) in [
            ("postgres://me@db.example:5433/lessor?sslmode=verify-full", "db.example:5433/lessor"),
            ("postgres://db.example", "db.example"),
            ("postgresql:///lessor?host=/run/postgresql", "lessor"),
        ] {
            assert_eq!(in_short(url), short);
        }
    }

    #[test]
    fn a_password_file_has_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        assert_eq!(secret_file("database password", &file).unwrap().as_str(), "s3cret");
        std::fs::write(&file, "s3cret\nmore\n").unwrap();
        let error = secret_file("database password", &file).unwrap_err();
        assert!(error.message().contains("more than one line") && !error.message().contains("s3cret"));
        assert!(secret_file("database password", &directory.path().join("none")).is_err());
    }
}
