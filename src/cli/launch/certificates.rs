//! The file of certificates for a program that trusts the gateway's https port. Where the user has named a file of their
//! own, the program gets both: in a private file, beside lessor's.

use std::ffi::OsString;
use std::path::Path;

use super::directory::PrivateDirectory;
use crate::cli::error::CliError;
use crate::provider::CertificateVariable;

/// The name of the private file.
const FILE: &str = "certificates.pem";

/// The value of the variable: lessor's file, or one that contains the user's certificates as well.
///
/// # Errors
/// When one of the files cannot be read: the program could not read the user's either.
pub(super) fn file(
    trusting: CertificateVariable,
    ours: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
    directory: &mut PrivateDirectory,
) -> Result<OsString, CliError> {
    let mut names = [trusting.name].into_iter().chain(trusting.instead_of.iter().copied());
    let Some((name, theirs)) = names.find_map(|name| Some((name, variable(name)?))) else { return Ok(ours.into()) };
    if theirs == ours {
        return Ok(theirs);
    }
    let ours = read(Path::new(ours)).map_err(|why| CliError::internal(format!("{ours}: {why}")))?;
    let theirs = read(Path::new(&theirs)).map_err(|why| {
        let message = format!("{name} names {}, which cannot be used: {why}", Path::new(&theirs).display());
        CliError::usage(message).hint(format!("correct it, or unset it for this command: env -u {name} lessor run …"))
    })?;
    Ok(directory.write(FILE, &format!("{ours}\n{theirs}"))?.into())
}

fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.contains("-----BEGIN ") { Ok(text) } else { Err("it contains no PEM certificate".to_owned()) }
}
