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
    match with_users(trusting, ours, variable)? {
        Some(both) => Ok(directory.write(FILE, &both)?.into()),
        None => Ok(ours.into()),
    }
}

/// Both files in one; `None` if the user has named none.
fn with_users(
    trusting: CertificateVariable,
    ours: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, CliError> {
    let mut names = [trusting.name].into_iter().chain(trusting.instead_of.iter().copied());
    let Some((name, theirs)) = names.find_map(|name| Some((name, variable(name)?))) else { return Ok(None) };
    if theirs == ours {
        return Ok(None);
    }
    let ours = read(Path::new(ours)).map_err(|why| CliError::internal(format!("{ours}: {why}")))?;
    let theirs = read(Path::new(&theirs)).map_err(|why| {
        let message = format!("{name} names {}, which cannot be used: {why}", Path::new(&theirs).display());
        CliError::usage(message).hint(format!("correct it, or unset it for this command: env -u {name} lessor run …"))
    })?;
    Ok(Some(format!("{ours}\n{theirs}")))
}

fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.contains("-----BEGIN ") { Ok(text) } else { Err("it contains no PEM certificate".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{CredentialKind, Tier};
    use crate::provider::{HandOut, HandOutRequest, agent_setup};

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n";

    #[test]
    fn the_user_s_certificates_are_trusted_as_well() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
        let (ours, theirs) = (path("ours.pem"), path("theirs.pem"));
        std::fs::write(&ours, format!("{CERTIFICATE}ours")).unwrap();
        std::fs::write(&theirs, format!("{CERTIFICATE}theirs")).unwrap();
        std::fs::write(path("empty.pem"), "").unwrap();
        let setup = agent_setup(&HandOutRequest {
            websocket: true,
            hand_out: HandOut::Gateway,
            provider: "openai",
            kind: CredentialKind::Oauth,
            tier: Tier::Unknown,
            agent: Some("codex"),
            key: "k",
            base: Some("http://h"),
            secure_base: Some("https://h"),
            socket: None,
            ca_file: Some(&ours),
            ca_bundle: Some("b"),
            directory: "d",
            expires_at: None,
            project: None,
            account_id: None,
            now: "",
        });
        let (trusting, file_of_ours) = setup.unwrap().certificates.remove(0);
        let given = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = set.iter().find(|(of, _)| *of == name);
                found.map(|(_, value)| OsString::from(value))
            };
            with_users(trusting, &file_of_ours, &variable)
        };
        assert_eq!(given(&[]).ok(), Some(None));
        assert_eq!(given(&[("OTHER", &theirs)]).ok(), Some(None));
        for name in ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"] {
            assert_eq!(given(&[(name, &ours)]).ok(), Some(None), "by an outer run");
            let both = given(&[(name, &theirs)]).ok().flatten().unwrap();
            assert!(both.contains("ours") && both.contains("theirs"), "{name}: {both}");
            for wrong in ["empty.pem", "missing.pem"] {
                let error = given(&[(name, &path(wrong))]).err().unwrap();
                assert!(error.message().contains(name) && error.message().contains(wrong), "{}", error.message());
            }
        }
    }
}
