//! The macOS keychain, asked by its own program, which asks the user where needed.

use super::discover::Found;
use super::places::Surroundings;
use crate::pool::Wall;

#[cfg(target_os = "macos")]
pub(super) fn look(service: &str, of: &Surroundings<'_>, now: Wall) -> Option<Found> {
    item::look(std::path::Path::new("/usr/bin/security"), service, of, now)
}

#[cfg(not(target_os = "macos"))]
pub(super) fn look(_: &str, _: &Surroundings<'_>, _: Wall) -> Option<Found> {
    None
}

#[cfg(any(target_os = "macos", all(test, unix)))]
mod item {
    use std::io;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use zeroize::Zeroizing;

    use super::super::discover::{Found, Source, Trouble, followed, take};
    use super::super::places::{KEYCHAIN_KEY, Surroundings, beside_keychain};
    use super::super::{Content, Format, Reading, claude_code, read};
    use crate::pool::Wall;

    /// What the program answers when there is no such item.
    const NO_SUCH_ITEM: i32 = 44;

    pub(super) fn look(program: &Path, service: &str, of: &Surroundings<'_>, now: Wall) -> Option<Found> {
        let source = Source::Keychain(service.to_owned());
        let trouble =
            |error| Some(Found { source: source.clone(), reading: Err(Trouble::System(error)), open_to_others: None });
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
            let reading = Reading { entries, ..Reading::default() };
            return Some(Found { source, reading: Ok((Format::ClaudeCode, reading)), open_to_others: None });
        }
        let beside = beside_keychain(service, of).and_then(|path| take(&path).ok());
        let beside = beside.as_ref().map(|taken| taken.bytes.as_slice());
        let content = Content { bytes: &plain, beside, written: None, now };
        let reading = followed(read(&content).map_err(Trouble::from), &source);
        Some(Found { source, reading, open_to_others: None })
    }

    /// What holds more than plain ASCII is printed as hexadecimal digits.
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

        use super::super::super::places::{KEYCHAIN_LOGIN, System};
        use super::*;
        use crate::pool::CredentialKind;

        #[test]
        fn items_are_read_as_they_are_printed() {
            let home = tempfile::tempdir().unwrap();
            let program = home.path().join("security");
            // answers by the name of the item, as the system's own program does
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
            let of = Surroundings { system: System::MacOs, home: home.path().into(), variable: &variable };
            let look = |service: &str| look(&program, service, &of, Wall(1));

            let (_, reading) = look(KEYCHAIN_LOGIN).unwrap().reading.unwrap();
            let login = &reading.entries[0];
            assert_eq!((login.email.as_deref(), login.rotates), (Some("a@b.c"), true));
            assert_eq!(login.file.as_deref(), Some("keychain:Claude Code-credentials"));
            let (format, _) = look("Claude Code-credentials-hex").unwrap().reading.unwrap();
            assert_eq!(format, Format::ClaudeCode);
            let (_, reading) = look(KEYCHAIN_KEY).unwrap().reading.unwrap();
            assert_eq!(reading.entries[0].credential.kind, CredentialKind::ApiKey);
            assert!(look("nothing").is_none());
            assert!(look("locked").unwrap().reading.unwrap_err().to_string().contains("refused"));
        }
    }
}
