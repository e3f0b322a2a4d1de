//! The macOS keychain, read with the system's `security` program, which asks the user for permission when necessary.

use super::{file::DiscoveredFile, paths::HostEnvironment};
use crate::pool::Wall;

#[cfg(target_os = "macos")]
pub(super) fn look(service: &str, of: &HostEnvironment<'_>, now: Wall) -> Option<DiscoveredFile> {
    item::look(std::path::Path::new("/usr/bin/security"), service, of, now)
}

#[cfg(not(target_os = "macos"))]
pub(super) fn look(_: &str, _: &HostEnvironment<'_>, _: Wall) -> Option<DiscoveredFile> {
    None
}

#[cfg(any(target_os = "macos", all(test, unix)))]
mod item {
    use std::process::{Command, Stdio};
    use std::{io, path::Path};

    use zeroize::Zeroizing;

    use super::super::super::tools::claude_code;
    use super::super::super::{FileContent, FileFormat, ParsedFile, read};
    use super::super::file::{DiscoveredFile, DiscoveryError, DiscoverySource, followed, take};
    use super::super::paths::{HostEnvironment, KEYCHAIN_KEY};
    use super::super::profiles::beside_keychain;
    use crate::pool::Wall;

    /// The program's exit code when the item does not exist.
    const NO_SUCH_ITEM: i32 = 44;

    pub(super) fn look(program: &Path, service: &str, of: &HostEnvironment<'_>, now: Wall) -> Option<DiscoveredFile> {
        let source = DiscoverySource::Keychain(service.to_owned());
        let trouble = |error| Some(DiscoveredFile::new(source.clone(), Err(DiscoveryError::System(error))));
        let mut command = Command::new(program);
        command.args(["find-generic-password", "-w", "-s", service]).stdin(Stdio::null());
        let bytes = match command.output() {
            Ok(output) if output.status.success() => Zeroizing::new(output.stdout),
            Ok(output) if output.status.code() == Some(NO_SUCH_ITEM) => return None,
            Ok(output) => return trouble(io::Error::other(format!("the keychain refused ({})", output.status))),
            Err(error) => return trouble(error),
        };
        let plain = plain(bytes.trim_ascii());
        if service == KEYCHAIN_KEY {
            let entries = claude_code::managed_key(&plain).into_iter().collect();
            let reading = ParsedFile { entries, ..ParsedFile::default() };
            return Some(DiscoveredFile::new(source, Ok((FileFormat::ClaudeCode, reading))));
        }
        let beside = beside_keychain(service, of).and_then(|path| take(&path).ok());
        let beside = beside.as_ref().map(|taken| taken.bytes.as_slice());
        let content = FileContent { bytes: &plain, beside, written: None, now };
        let reading = followed(read(&content).map_err(DiscoveryError::from), &source);
        Some(DiscoveredFile::new(source, reading))
    }

    /// The program prints an item that is not plain ASCII as hexadecimal digits.
    fn plain(printed: &[u8]) -> Zeroizing<Vec<u8>> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let pair = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = printed.chunks(2).map(pair).collect();
        Zeroizing::new(bytes.unwrap_or_else(|| printed.to_vec()))
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::fs::PermissionsExt as _;

        use super::super::super::paths::{KEYCHAIN_LOGIN, Platform};
        use super::*;
        use crate::pool::CredentialKind;

        #[test]
        fn items_are_parsed_as_the_program_prints_them() {
            let home = tempfile::tempdir().unwrap();
            let program = home.path().join("security");
            // answers by the name of the item, like the system's program
            let script = "#!/bin/sh\ncase \"$4\" in\n\
                \"Claude Code-credentials\") echo '{\"claudeAiOauth\":{\"accessToken\":\"at\",\"refreshToken\":\"rt\"}}';;\n\
                Claude\\ Code-credentials-hex) echo 7b22636c61756465416952656164223a312c226d63704f41757468223a7b7d7d;;\n\
                \"Claude Code\") echo sk-ant-api03-FAKE;;\n\
                locked) exit 36;;\n\
                *) exit 44;;\nesac\n";
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
            let owner = r#"{"oauthAccount":{"emailAddress":"a@b.c"}}"#;
            std::fs::write(home.path().join(".claude.json"), owner).unwrap();
            let variable = |_: &str| None;
            let of = HostEnvironment { system: Platform::MacOs, home: home.path().into(), variable: &variable };
            let look = |service: &str| look(&program, service, &of, Wall(1));

            let (_, reading) = look(KEYCHAIN_LOGIN).unwrap().reading.unwrap();
            let login = &reading.entries[0];
            assert_eq!((login.email.as_deref(), login.rotates), (Some("a@b.c"), true));
            assert_eq!(login.file.as_deref(), Some("keychain:Claude Code-credentials"));
            let (format, _) = look("Claude Code-credentials-hex").unwrap().reading.unwrap();
            assert_eq!(format, FileFormat::ClaudeCode);
            let (_, reading) = look(KEYCHAIN_KEY).unwrap().reading.unwrap();
            assert_eq!(reading.entries[0].credential.kind, CredentialKind::ApiKey);
            assert!(look("nothing").is_none());
            assert!(look("locked").unwrap().reading.unwrap_err().to_string().contains("refused"));
        }
    }
}
