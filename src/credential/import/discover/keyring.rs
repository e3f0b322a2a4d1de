//! A login in the system's keyring: read only, without a prompt, and for a short time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::{FileContent, read};
use super::file::{DiscoveredFile, DiscoveryError, DiscoverySource};
use super::paths::KeyringItem;
use crate::pool::Wall;

/// What the keyring says about an item.
pub(super) enum KeyringAnswer {
    /// There is no such item, or no keyring.
    Nothing,
    Secret(Zeroizing<Vec<u8>>),
    /// Why it cannot be read.
    Trouble(String),
}

pub(super) fn look(item: KeyringItem, now: Wall) -> Option<DiscoveredFile> {
    let source = DiscoverySource::Keyring(item);
    let secret = match system::read(item) {
        KeyringAnswer::Nothing => return None,
        KeyringAnswer::Secret(secret) => secret,
        KeyringAnswer::Trouble(why) => {
            let trouble = DiscoveryError::System(std::io::Error::other(why));
            return Some(DiscoveredFile::new(source, Err(trouble)));
        }
    };
    let content = FileContent { bytes: &plain(&secret), beside: None, written: None, now };
    // there is no file that could be followed
    Some(DiscoveredFile::new(source, read(&content).map_err(DiscoveryError::from)))
}

/// What a program of Go has stored: on macOS its library encodes the text, and says so in front of it.
fn plain(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let secret = secret.trim_ascii();
    let encoded = secret.strip_prefix(b"go-keyring-base64:");
    let decoded = encoded.and_then(|text| STANDARD.decode(text).ok());
    Zeroizing::new(decoded.unwrap_or_else(|| secret.to_vec()))
}

/// The Secret Service of the desktop, over D-Bus.
#[cfg(all(unix, not(target_os = "macos")))]
mod system {
    use std::collections::HashMap;
    use std::time::Duration;

    use secret_service::{EncryptionType, Error, SecretService};
    use zeroize::Zeroizing;

    use super::{KeyringAnswer, KeyringItem};

    /// How long the keyring may take in all.
    const PATIENCE: Duration = Duration::from_secs(3);

    pub(super) fn read(item: KeyringItem) -> KeyringAnswer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return KeyringAnswer::Nothing };
        let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, find(item)).await });
        // a connection that does not end is left behind
        runtime.shutdown_background();
        match answer {
            Ok(Ok(answer)) => answer,
            // most machines without a desktop have none
            Ok(Err(Error::Unavailable | Error::Zbus(_) | Error::ZbusFdo(_))) => KeyringAnswer::Nothing,
            Ok(Err(error)) => KeyringAnswer::Trouble(format!("the keyring: {error}")),
            Err(_) => KeyringAnswer::Trouble(format!("the keyring did not answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn find(item: KeyringItem) -> Result<KeyringAnswer, Error> {
        let service = SecretService::connect(EncryptionType::Dh).await?;
        let attributes = HashMap::from([("service", item.service), ("username", item.user)]);
        let found = service.search_items(attributes).await?;
        // a locked one is not unlocked: that would ask the user
        Ok(match (found.unlocked.first(), found.locked.is_empty()) {
            (Some(item), _) => KeyringAnswer::Secret(Zeroizing::new(item.get_secret().await?)),
            (None, true) => KeyringAnswer::Nothing,
            (None, false) => KeyringAnswer::Trouble("the keyring is locked; unlock it, then import again".to_owned()),
        })
    }
}

/// The keychain of macOS, with the system's own program, which may ask the user for permission.
#[cfg(target_os = "macos")]
mod system {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use zeroize::Zeroizing;

    use super::{KeyringAnswer, KeyringItem};

    /// How long the user may take to answer.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// The program's exit code when the item does not exist.
    const NO_SUCH_ITEM: i32 = 44;

    pub(super) fn read(item: KeyringItem) -> KeyringAnswer {
        let mut command = Command::new("/usr/bin/security");
        command.args(["find-generic-password", "-w", "-s", item.service, "-a", item.user]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let trouble = |error: std::io::Error| KeyringAnswer::Trouble(format!("the keychain: {error}"));
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return trouble(error),
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match child.try_wait() {
                Ok(Some(_)) => break,
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return trouble(error),
            }
        }
        let _already_ended = child.kill();
        match child.wait_with_output() {
            Ok(output) if output.status.success() => KeyringAnswer::Secret(Zeroizing::new(output.stdout)),
            Ok(output) if output.status.code() == Some(NO_SUCH_ITEM) => KeyringAnswer::Nothing,
            Ok(output) => KeyringAnswer::Trouble(format!("the keychain refused ({})", output.status)),
            Err(error) => trouble(error),
        }
    }
}

/// The Windows Credential Manager, which is unlocked while its user is logged on.
#[cfg(windows)]
mod system {
    use std::collections::HashMap;

    use keyring_core::Error;
    use keyring_core::api::CredentialStoreApi as _;
    use windows_native_keyring_store::Store;
    use zeroize::Zeroizing;

    use super::{KeyringAnswer, KeyringItem};

    pub(super) fn read(item: KeyringItem) -> KeyringAnswer {
        // as the library of Go names it
        let target = format!("{}:{}", item.service, item.user);
        let secret = Store::new().and_then(|store| {
            let modifiers = HashMap::from([("target", target.as_str())]);
            store.build(item.service, item.user, Some(&modifiers))?.get_secret()
        });
        match secret {
            Ok(secret) => KeyringAnswer::Secret(Zeroizing::new(secret)),
            Err(Error::NoEntry) => KeyringAnswer::Nothing,
            Err(error) => KeyringAnswer::Trouble(format!("the Credential Manager: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_a_go_program_is_decoded() {
        let document = br#"{"auth_method":"consumer","token":{"access_token":"at","refresh_token":"rt"}}"#;
        let encoded = format!("go-keyring-base64:{}\n", STANDARD.encode(document));
        for stored in [document.as_slice(), encoded.as_bytes()] {
            let content = FileContent { bytes: &plain(stored), beside: None, written: None, now: Wall(1) };
            let (_, reading) = read(&content).unwrap();
            assert_eq!(reading.entries[0].credential.access.expose(), "at");
            assert_eq!(reading.entries[0].file, None, "a keyring is not followed");
        }
        assert_eq!(plain(b"go-keyring-base64:!").as_slice(), b"go-keyring-base64:!");
    }
}
